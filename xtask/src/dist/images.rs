//! The files of the images, put where the Dockerfile copies them from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use super::statics::{self, Statics};
use crate::command::{checked, root};

/// The CA certificates of Debian and its derivatives, of Fedora and its derivatives, and of SUSE.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// The directory that the Dockerfile copies from. Docker's error names it if it is missing, so the name says what makes it.
const MADE: &str = "made-by-cargo-xtask-images";

/// The directory of the Dockerfile.
pub(crate) fn context() -> PathBuf {
    root().join("deploy/images")
}

/// The path of a program as it is in the image.
pub(crate) fn program(arch: Arch, name: &str) -> PathBuf {
    context().join(MADE).join(arch.name()).join(name)
}

/// Builds the programs for this machine and puts them there.
pub(crate) fn prepare(release: bool) -> Result<()> {
    let arch = Arch::native()?;
    let programs = statics::build(arch, release)?;
    lay_out(&programs, arch)?;
    let made = context().join(MADE);
    println!("The images can be built now, from {}:", made.display());
    for name in ["collector", "receiver", "workload"] {
        let size = fs::metadata(made.join("native").join(name))?.len();
        println!("{name:<10} {:>6.1} MiB", size as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// Builds the images in an engine, under a tag; returns their names.
pub(crate) fn build(docker: impl Fn() -> Result<Command>, tag: &str) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for name in ["receiver", "collector", "workload"] {
        let image = format!("runner-resource-collector/{name}:{tag}");
        checked(docker()?.args(["build", "--quiet", "--target", name, "--tag", &image]).arg(context()))?;
        images.push(image);
    }
    Ok(images)
}

/// Puts the programs for one processor there.
pub(crate) fn lay_out(programs: &Statics, arch: Arch) -> Result<()> {
    let made = context().join(MADE);
    let directory = made.join(arch.name());
    for directory in [&directory, &made.join("data")] {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    for program in [&programs.collector, &programs.receiver, &programs.workload] {
        let name = program.file_name().context("a program without a name")?;
        let to = directory.join(name);
        statics::stripped(program, arch, &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    if Arch::native()? == arch {
        let native = made.join("native");
        if native.symlink_metadata().is_ok() {
            fs::remove_dir_all(&native).with_context(|| native.display().to_string())?;
        }
        copy_all(&directory, &native)?;
    }
    let Some(certificates) = CERTIFICATES.iter().find(|path| Path::new(path).is_file()) else {
        bail!("no certificates to trust are installed here: none of {} is there", CERTIFICATES.join(", "));
    };
    fs::copy(certificates, made.join("ca-certificates.crt")).context(*certificates)?;
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
