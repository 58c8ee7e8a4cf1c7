//! Builds Kubernetes, `CoreDNS` and act from the modules that `tests/cluster` pins, once for each state of their locks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::cache;
use crate::command::{find, root};

/// The oldest Go that can build them, according to their go.mod files.
const OLDEST: (u32, u32) = (1, 25);
/// The programs of a build directory and the checksum of each. Written last.
const MANIFEST: &str = "manifest.json";

/// The directories of the built programs.
#[derive(Debug, Clone)]
pub(crate) struct KubernetesPrograms {
    kubernetes: PathBuf,
    coredns: PathBuf,
    act: PathBuf,
}

impl KubernetesPrograms {
    pub(crate) fn kubernetes(&self, program: &str) -> PathBuf {
        self.kubernetes.join(program)
    }

    pub(crate) fn coredns(&self) -> PathBuf {
        self.coredns.join("coredns")
    }

    pub(crate) fn act(&self) -> PathBuf {
        self.act.join("act")
    }
}

/// Fails, and says what to install, if there is no Go that is new enough.
pub(crate) fn check() -> Result<()> {
    let wanted = format!("Go {}.{} or later, for Kubernetes, CoreDNS and act", OLDEST.0, OLDEST.1);
    let Some(go) = find("go") else { bail!("there is no `go`: install {wanted}") };
    let output = Command::new(go).args(["env", "GOVERSION"]).output()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers = version.trim_start_matches("go").split('.').map(|part| part.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    ensure!(found >= OLDEST, "{version} is too old: install {wanted}");
    Ok(())
}

/// Builds the programs that are not built yet.
pub(crate) fn programs() -> Result<KubernetesPrograms> {
    check()?;
    let version = kubernetes_version()?;
    let package = "k8s.io/component-base/version";
    let numbers: Vec<_> = version.trim_start_matches('v').split('.').collect();
    let [major, minor, ..] = numbers[..] else { bail!("{version} is not a version of Kubernetes") };
    let flags = format!(
        "-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor} \
         -X {package}.gitTreeState=clean"
    );
    Ok(KubernetesPrograms {
        kubernetes: build("kubernetes", "tool", &flags)?,
        coredns: build("coredns", ".", "")?,
        act: build("act", "tool", "")?,
    })
}

/// The pinned release of Kubernetes.
pub(crate) fn kubernetes_version() -> Result<String> {
    let text = fs::read_to_string(module("kubernetes").join("go.mod"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "k8s.io/kubernetes");
    words
        .nth(1)
        .map(ToOwned::to_owned)
        .context("tests/cluster/kubernetes/go.mod requires no k8s.io/kubernetes")
}

fn module(name: &str) -> PathBuf {
    root().join("tests/cluster").join(name)
}

/// Installs the packages of a module into a directory that is named after their inputs.
fn build(name: &str, packages: &str, linker_flags: &str) -> Result<PathBuf> {
    let module = module(name);
    let key = cache::key(Some(&module), linker_flags.as_bytes())?;
    let directory = cache::directory()?.join(format!("{name}-{key}"));
    if is_whole(&directory) {
        return Ok(directory);
    }
    if directory.exists() {
        eprintln!("{} has changed since it was built: building it again", directory.display());
        fs::remove_dir_all(&directory)?;
    }
    eprintln!(
        "building {name} into {} (Kubernetes takes about 10 minutes the first time)",
        directory.display()
    );
    let mut install = Command::new("go");
    install.args(["install", "-v", "-trimpath", "-mod=readonly", "-ldflags"]);
    install.arg(format!("-s -w {linker_flags}")).arg(packages).current_dir(&module);
    // No toolchain is downloaded, and cgo would need headers that may not be installed.
    install.env("GOBIN", &directory).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0").env("GOFLAGS", "");
    progress(&mut install, name)?;
    let mut manifest = Map::new();
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        let sum = cache::checksum(&entry.path())?;
        manifest.insert(entry.file_name().to_string_lossy().into_owned(), json!(sum));
    }
    fs::write(directory.join(MANIFEST), serde_json::to_vec_pretty(&Value::Object(manifest))?)?;
    Ok(directory)
}

/// Runs a build that prints each package it compiles, and reports every hundredth.
fn progress(install: &mut Command, name: &str) -> Result<()> {
    use std::io::{BufRead, BufReader};
    let mut child = install.stderr(std::process::Stdio::piped()).spawn().context("cannot run go")?;
    let stderr = child.stderr.take().context("no standard error")?;
    let mut last = Vec::new();
    for (number, line) in BufReader::new(stderr).lines().map_while(Result::ok).enumerate() {
        if number % 100 == 99 {
            eprintln!("{name}: {} packages compiled", number + 1);
        }
        last.push(line);
        if last.len() > 20 {
            last.remove(0);
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "building {name}: {status}\n{}", last.join("\n"));
    Ok(())
}

/// Whether all built programs are there and unchanged.
fn is_whole(directory: &Path) -> bool {
    let manifest = fs::read(directory.join(MANIFEST)).ok();
    let manifest = manifest.and_then(|text| serde_json::from_slice::<Map<String, Value>>(&text).ok());
    manifest.is_some_and(|manifest| {
        manifest
            .iter()
            .all(|(name, sum)| cache::checksum(&directory.join(name)).is_ok_and(|found| *sum == json!(found)))
    })
}
