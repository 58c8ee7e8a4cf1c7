//! Debian packages of another release or for another processor: apt downloads them; they are unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{checked, tools};

/// Debian 13.
const NEWER: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The source of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// Debian 13, from the mirror that this machine uses.
    Newer,
    /// This machine's sources, for this processor (Debian's name of it).
    Processor(&'static str),
}

/// Unpacks packages below the tools, unless they are there already.
pub(crate) fn unpack(name: &str, from: From, packages: &[&str]) -> Result<PathBuf> {
    let root = tools().join(name);
    if root.exists() {
        return Ok(root);
    }
    let directory = tempfile::tempdir()?;
    let configuration = configure(from, directory.path())?;
    let apt_get = || {
        let mut apt_get = Command::new("apt-get");
        apt_get.env("APT_CONFIG", &configuration).stdout(std::io::stderr());
        apt_get
    };
    eprintln!("unpacking {} into {}", packages.join(", "), root.display());
    checked(apt_get().args(["update", "--quiet", "--quiet"]))?;
    checked(apt_get().args(["download", "--quiet", "--quiet"]).args(packages).current_dir(directory.path()))?;
    let unpacking = root.with_extension("unpacking");
    // dpkg makes the last directory of a path only.
    fs::create_dir_all(&unpacking).with_context(|| unpacking.display().to_string())?;
    for entry in fs::read_dir(directory.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            checked(Command::new("dpkg").arg("-x").arg(&path).arg(&unpacking))?;
        }
    }
    fs::rename(&unpacking, &root).with_context(|| root.display().to_string())?;
    Ok(root)
}

/// Gives apt separate lists and a separate cache, so that the machine's own do not change.
fn configure(from: From, directory: &Path) -> Result<PathBuf> {
    for name in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(directory.join(name))?;
    }
    let own = directory.display();
    let (sources, more) = match from {
        From::Newer => (format!("deb [signed-by={KEYRING}] {} {NEWER} main\n", mirror()?), String::new()),
        From::Processor(name) => (
            lines_of_debian()?,
            format!("APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\n"),
        ),
    };
    fs::write(directory.join("sources"), sources)?;
    let text = format!(
        "Dir::State::Lists \"{own}/lists\";\nDir::Cache \"{own}/cache\";\nAPT::Sandbox::User \"root\";\n\
         Dir::Etc::SourceList \"{own}/sources\";\nDir::Etc::SourceParts \"-\";\n{more}"
    );
    let path = directory.join("configuration");
    fs::write(&path, text)?;
    Ok(path)
}

/// The package lists that apt fetches: address, release, label and component.
fn targets() -> Result<Vec<[String; 4]>> {
    let format = "$(REPO_URI) $(CODENAME) $(LABEL) $(COMPONENT)";
    let output = Command::new("apt-get").args(["indextargets", "--format", format]).output();
    let output = output.context("apt-get is needed to unpack Debian's packages")?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().map(|line| line.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>());
    Ok(lines.filter_map(|fields| fields.try_into().ok()).collect())
}

/// The Debian mirror that this machine uses.
pub(crate) fn mirror() -> Result<String> {
    let found =
        targets()?.into_iter().find(|[_, _, label, component]| label == "Debian" && component == "main");
    let Some([address, ..]) = found else { bail!("apt-get has no Debian mirror configured") };
    Ok(address)
}

/// This machine's Debian sources, without their processor options.
fn lines_of_debian() -> Result<String> {
    let mut lines: Vec<_> = targets()?
        .into_iter()
        .filter(|[_, _, label, component]| label.starts_with("Debian") && component == "main")
        .map(|[address, codename, ..]| format!("deb [signed-by={KEYRING}] {address} {codename} main\n"))
        .collect();
    lines.sort();
    lines.dedup();
    Ok(lines.concat())
}
