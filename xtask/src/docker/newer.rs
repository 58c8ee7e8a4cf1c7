//! Debian 13's packages on a machine that has another release: downloaded by apt, unpacked, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::checked;
use crate::setup;

const CODENAME: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// `runc` is the machine's own: Debian 13's wants a newer libc than Debian 12 has.
const DOCKER: [&str; 5] = ["docker.io", "docker-cli", "containerd", "docker-buildx", "docker-compose"];

/// The engine, its client, Compose.
pub(crate) fn unpacked() -> Result<PathBuf> {
    unpack("docker-newer", &DOCKER)
}

/// Unpacks packages below the tools, unless they are there.
pub(crate) fn unpack(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let root = setup::tools().join(name);
    if root.exists() {
        return Ok(root);
    }
    let directory = tempfile::tempdir()?;
    let apt = Apt::new(directory.path())?;
    eprintln!("unpacking {} of Debian's {CODENAME} into {}", packages.join(", "), root.display());
    checked(apt.get().args(["update", "--quiet", "--quiet"]))?;
    checked(apt.get().args(["download", "--quiet", "--quiet"]).args(packages).current_dir(directory.path()))?;
    let unpacking = root.with_extension("unpacking");
    for entry in fs::read_dir(directory.path())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            checked(Command::new("dpkg").arg("-x").arg(&path).arg(&unpacking))?;
        }
    }
    fs::rename(&unpacking, &root).with_context(|| root.display().to_string())?;
    Ok(root)
}

/// apt with sources, lists and cache of its own.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    fn new(directory: &Path) -> Result<Self> {
        let mirror = mirror()?;
        let at = |name: &str| directory.join(name);
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(at(name))?;
        }
        fs::write(at("sources"), format!("deb [signed-by={KEYRING}] {mirror} {CODENAME} main\n"))?;
        let configuration = at("configuration");
        let show = |name: &str| at(name).display().to_string();
        let text = format!(
            "Dir::Etc::SourceList \"{}\";\nDir::Etc::SourceParts \"-\";\nDir::State::Lists \"{}\";\nDir::Cache \"{}\";\n\
             APT::Sandbox::User \"root\";\n",
            show("sources"),
            show("lists"),
            show("cache")
        );
        fs::write(&configuration, text)?;
        Ok(Self { configuration })
    }

    fn get(&self) -> Command {
        let mut apt_get = Command::new("apt-get");
        apt_get.env("APT_CONFIG", &self.configuration).stdout(std::io::stderr());
        apt_get
    }
}

/// The mirror of Debian that this machine uses.
fn mirror() -> Result<String> {
    let format = "$(REPO_URI) $(LABEL) $(COMPONENT)";
    let output = Command::new("apt-get").args(["indextargets", "--format", format]).output();
    let output = output.context("apt-get is needed, to unpack Debian's packages")?;
    let text = String::from_utf8(output.stdout)?;
    let mirror = text.lines().find_map(|line| line.strip_suffix(" Debian main"));
    let Some(mirror) = mirror else { bail!("apt-get knows no mirror of Debian") };
    Ok(mirror.to_owned())
}
