//! The shipped images and the image that jobs run in. Docker builds them, and containerd imports them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::engine::{client, import};
use super::node::Node;
use super::{BUILD, PAUSE, TAG, cache};
use crate::command::{checked, root};
use crate::debian;
use crate::dist::images;

/// The Debian release of the jobs' image.
const SUITE: &str = "bookworm";
/// Packages of the jobs' image: compilers, a Docker Engine, and no CA certificates.
const PACKAGES: &str = "gcc,libc6-dev,make,procps,python3-minimal,docker.io,iptables,iproute2";

/// Makes all images and gives them to both engines.
pub(crate) fn provide(node: &Node) -> Result<()> {
    let shipped = Node::run().join("shipped.tar");
    let names = images::build(|| client().docker(), TAG)?;
    pause()?;
    let pause = format!("{PAUSE}:{TAG}");
    checked(client().docker()?.arg("save").arg("--output").arg(&shipped).args(&names).arg(pause))?;
    give(node, &shipped)?;
    let archive = build_image()?;
    checked(
        client().docker()?.arg("load").arg("--quiet").arg("--input").arg(&archive).stdout(Stdio::null()),
    )?;
    give(node, &archive)
}

/// Imports an archive of images into the kubelet's containerd.
fn give(node: &Node, archive: &Path) -> Result<()> {
    let mut ctr = node.inside("ctr");
    ctr.args(["--namespace=k8s.io", "images", "import"]).arg(archive).stdout(Stdio::null());
    checked(&mut ctr)
}

/// Makes the image of the process that holds a pod's namespaces.
fn pause() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O2", "-Wall", "-Werror", "-o"]).arg(directory.path().join("pause"));
    checked(cc.arg(root().join("tests/cluster/pause.c")))?;
    import(directory.path(), &format!("{PAUSE}:{TAG}"), &["ENTRYPOINT [\"/pause\"]", "USER 65535:65535"])
}

/// An archive with the image that jobs run in: a Debian with compilers.
pub(super) fn build_image() -> Result<PathBuf> {
    let key = cache::key(None, format!("{SUITE} {PACKAGES} {TAG}").as_bytes())?;
    let archive = cache::directory()?.join(format!("build-image-{key}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    eprintln!("making the image of jobs, a Debian {SUITE} with {PACKAGES}, once");
    let directory = tempfile::Builder::new().prefix("build-image-").tempdir_in(Node::run())?;
    let system = directory.path().join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]).arg(&system);
    checked(debootstrap.arg(debian::mirror()?).stdout(Stdio::null()))?;
    for cached in
        ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"]
    {
        let cached = system.join(cached);
        fs::remove_dir_all(&cached).with_context(|| cached.display().to_string())?;
    }
    let image = format!("{BUILD}:{TAG}");
    import(&system, &image, &["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])?;
    let new = archive.with_extension("new");
    checked(client().docker()?.arg("save").arg("--output").arg(&new).arg(&image))?;
    fs::rename(&new, &archive)?;
    Ok(archive)
}
