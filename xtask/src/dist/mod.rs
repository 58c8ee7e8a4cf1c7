//! `cargo xtask dist` and `cargo xtask images`: everything that is shipped.

pub(crate) mod arch;
mod cross;
pub(crate) mod images;
mod manual;
mod sbom;
pub(crate) mod statics;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::arch::Arch;
use self::statics::Statics;
use anyhow::{Context, Result};

use crate::command::{checked, root};
use crate::docker::{Engine, Release};
use crate::setup::{self, For};

const PROGRAMS: [&str; 2] = ["collector", "receiver"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds everything that is shipped into `target/dist`.
pub(crate) fn run(archs: &[Arch], with_images: bool, release: bool) -> Result<()> {
    setup::ensure(For::Dist)?;
    let native = Arch::native()?;
    let wanted = if archs.is_empty() { &[Arch::Amd64, Arch::Arm64][..] } else { archs };
    let directory = root().join("target/dist");
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(&directory)?;
    let mut built = Vec::new();
    for &arch in wanted {
        match statics::build(arch, release) {
            Ok(programs) => built.push((arch, programs)),
            // Fails only if the user asked for this processor by name, or if it is this machine's.
            Err(error) if archs.is_empty() && arch != native => {
                println!("Left out: {}, which cannot be built here: {error:#}", arch.name());
            }
            Err(error) => return Err(error),
        }
    }
    for (arch, programs) in &built {
        images::lay_out(programs, *arch)?;
        for name in PROGRAMS {
            archive(name, *arch, programs, &directory)?;
        }
    }
    if with_images {
        save_images(&built, &directory)?;
    }
    sums(&directory)?;
    report(&built, &directory)
}

/// One program with its documents. The same commit makes the same bytes.
fn archive(name: &str, arch: Arch, programs: &Statics, directory: &Path) -> Result<()> {
    let stem = format!("{name}-{VERSION}-linux-{}", arch.name());
    let parent = tempfile::tempdir()?;
    let content = parent.path().join(&stem);
    fs::create_dir(&content)?;
    let program = if name == "collector" { &programs.collector } else { &programs.receiver };
    statics::stripped(program, arch, &content.join(name))?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(root().join(licence), content.join(licence)).context(licence)?;
    }
    manual::write(name, &content)?;
    let bill = directory.join(format!("{stem}.cdx.json"));
    sbom::write(name, arch, &bill)?;
    fs::copy(&bill, content.join(format!("{name}.cdx.json")))?;
    let mut tar = Command::new("tar");
    // gzip, without the current time in it.
    tar.args([
        "--create",
        "--use-compress-program=gzip -n",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    tar.arg(format!("--mtime=@{}", commit_time()))
        .arg("--file")
        .arg(directory.join(format!("{stem}.tar.gz")));
    checked(tar.arg("--directory").arg(parent.path()).arg(stem))
}

/// Saves the images in the format of `docker load`.
fn save_images(built: &[(Arch, Statics)], directory: &Path) -> Result<()> {
    // The newer builder can make an image for another processor.
    let engine = Engine::start(Release::Newer)?;
    let revision = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    for (arch, _) in built {
        for name in PROGRAMS {
            let tag = format!("runner-resource-collector/{name}:{VERSION}-{}", arch.name());
            let mut build = engine.docker()?;
            build.args(["build", "--quiet", "--target", name, "--tag", &tag]);
            build.args(["--platform", &format!("linux/{}", arch.name())]);
            build.args(["--build-arg", &format!("ARCH={}", arch.name())]);
            build.args(["--build-arg", &format!("VERSION={VERSION}")]);
            build.args(["--build-arg", &format!("REVISION={revision}")]).arg(images::context());
            checked(&mut build)?;
            let file = directory.join(format!("{name}-{VERSION}-linux-{}.image.tar", arch.name()));
            checked(engine.docker()?.args(["save", "--output"]).arg(file).arg(tag))?;
        }
    }
    Ok(())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The commit's Unix time in seconds; 0 outside a repository.
fn commit_time() -> String {
    git(&["log", "-1", "--format=%ct"]).unwrap_or_else(|| "0".to_owned())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

/// `SHA256SUMS`, in the format of `sha256sum --check`.
fn sums(directory: &Path) -> Result<()> {
    let names: Vec<_> =
        files(directory)?.iter().filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
    let output =
        Command::new("sha256sum").args(&names).current_dir(directory).output().context("sha256sum")?;
    fs::write(directory.join("SHA256SUMS"), output.stdout)?;
    checked(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(directory))
}

fn report(built: &[(Arch, Statics)], directory: &Path) -> Result<()> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for (arch, _) in built {
        for name in PROGRAMS {
            let size = fs::metadata(images::program(*arch, name))?.len();
            println!("{:>7.2} MiB  {name}, static, {}", mib(size), arch.name());
        }
    }
    for file in files(directory)? {
        println!("{:>7.2} MiB  {}", mib(fs::metadata(&file)?.len()), file.display());
    }
    Ok(())
}
