//! Finds or installs what a machine needs besides Rust and a C compiler.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

pub(crate) use crate::command::find; // `bench` imports it from here
use crate::command::{cargo, checked, root, tools};
use crate::debian::{self, From};
use crate::{ebpf, schemathesis};

/// The LLVM of Debian's `rustc-web`, which produced its `core`. The linker must use the same version.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// A tool that is needed.
struct Need {
    name: &'static str,
    what_for: &'static str,
    /// Debian's packages that contain it or are needed to build it.
    packages: &'static [&'static str],
    /// The arguments of `cargo install`, if those packages do not contain it.
    cargo: &'static [&'static str],
    present: fn() -> bool,
    /// Another way to install it.
    install: Option<fn() -> Result<()>>,
}

/// A tool from Debian's packages.
const fn packaged(
    name: &'static str,
    what_for: &'static str,
    packages: &'static [&'static str],
    present: fn() -> bool,
) -> Need {
    Need { name, what_for, packages, cargo: &[], present, install: None }
}

/// Programs that the tests run.
const TESTS: &[Need] = &[
    packaged("cc", "tests compile with it", &["gcc"], || has("cc")),
    packaged("setpriv", "tests drop privileges with it", &["util-linux"], || has("setpriv")),
    packaged("python3", "tests talk to the receiver with it", &["python3"], || has("python3")),
    packaged("openssl", "tests make certificates with it", &["openssl"], || has("openssl")),
];

/// For the tests of the page.
const BROWSER: &[Need] = &[
    packaged(
        "Chromium",
        "renders the page in tests",
        &["chromium", "chromium-driver", "fonts-dejavu-core"],
        || has("chromium"),
    ),
    packaged("Node.js", "drives Chromium", &["nodejs"], || has("node")),
    packaged("npm", "installs the tools that drive Chromium and check pages", &["npm"], || has("npm")),
];

/// For building the BPF object.
const OBJECT: &[Need] = &[
    packaged(
        "a Rust toolchain for BPF",
        "compiles the eBPF program",
        &["rustc-web", "libstd-rust-web-dev-bpf"],
        || ebpf::toolchain().is_ok(),
    ),
    Need {
        name: "bpf-linker",
        what_for: "links the eBPF program",
        packages: &["llvm-22-dev", "libpolly-22-dev"],
        cargo: &["--no-default-features", "--features=llvm-22", "bpf-linker@0.13.0"],
        present: || ebpf::linker().is_some(),
        install: None,
    },
];

/// For checking metrics.
const METRICS: &[Need] = &[Need {
    name: "promtool",
    what_for: "checks the form of metrics",
    packages: &["prometheus"],
    cargo: &[],
    present: || has("promtool"),
    install: None,
}];

/// For the lints.
const LINT: &[Need] = &[
    packaged("clippy for BPF", "lints the eBPF program", &["rust-web-clippy"], ebpf::can_lint),
    Need {
        name: "cargo-deny",
        what_for: "checks licences and sources",
        packages: &[],
        cargo: &["cargo-deny@0.20.2"],
        present: || has("cargo-deny"),
        install: None,
    },
];

/// For trying other kernels.
const KERNELS: &[Need] = &[
    packaged("qemu-system-x86_64", "boots other kernels", &["qemu-system-x86"], || has("qemu-system-x86_64")),
    packaged("a static busybox", "is the userland of those kernels", &["busybox-static"], || {
        is_installed("busybox-static")
    }),
    packaged("cpio", "packs the initramfs of those kernels", &["cpio"], || has("cpio")),
];

/// For testing the API.
const API: &[Need] = &[
    packaged("Python's venv", "holds schemathesis", &["python3-venv"], || {
        runs(&["python3", "-c", "import ensurepip, venv"])
    }),
    Need {
        name: "schemathesis",
        what_for: "tests the API against its description",
        packages: &[],
        cargo: &[],
        present: schemathesis::is_installed,
        install: Some(schemathesis::install),
    },
];

/// For building and running images.
const DOCKER: &[Need] = &[
    packaged("the Docker Engine", "builds images and runs them", &["docker.io", "runc"], || {
        has("dockerd") && has("docker") && has("runc")
    }),
    packaged("ip", "sets up their networks", &["iproute2"], || has("ip")),
    packaged("docker-compose", "runs the stress demo", &["docker-compose"], || {
        is_installed("docker-compose")
    }),
    packaged("curl", "asks for the stress demo's token", &["curl"], || has("curl")),
    packaged("jq", "reads the stress demo's token", &["jq"], || has("jq")),
];

/// For running a cluster, besides the unpacked packages.
const CLUSTER: &[Need] = &[
    packaged("the Docker Engine", "runs jobs of runners", &["docker.io"], || has("dockerd") && has("docker")),
    packaged("containerd and runc", "run pods", &["containerd", "runc"], || has("containerd") && has("runc")),
    packaged("ip", "connects the node's network", &["iproute2"], || has("ip")),
    packaged("iptables", "routes to services", &["iptables"], || has("iptables")),
    packaged("mkfs.ext4", "makes the receiver's volume", &["e2fsprogs"], || has("mkfs.ext4")),
    packaged("debootstrap", "makes the image of jobs", &["debootstrap"], || has("debootstrap")),
];

/// For checking manifests and units.
const DEPLOY: &[Need] = &[
    packaged("systemd-analyze", "checks the units of systemd", &["systemd"], || has("systemd-analyze")),
    packaged("Python's venv", "holds the validator of manifests", &["python3-venv"], || {
        runs(&["python3", "-c", "import ensurepip, venv"])
    }),
];
/// Contains the schemas of Kubernetes 1.25 to 1.37.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";

/// For making releases.
const DIST: &[Need] = &[Need {
    name: "cargo-cyclonedx",
    what_for: "lists the programs' dependencies",
    packages: &[],
    cargo: &["cargo-cyclonedx@0.5.9"],
    present: || has("cargo-cyclonedx"),
    install: None,
}];

/// The needs of all tests.
const EVERYTHING: [For; 8] =
    [For::Object, For::Node, For::Lint, For::Api, For::Browser, For::Deploy, For::Docker, For::Cluster];

/// A purpose that tools are installed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Object,
    Tests,
    Node,
    Lint,
    Kernels,
    Api,
    Browser,
    Docker,
    Dist,
    Deploy,
    Cluster,
}

impl For {
    fn needs(self) -> impl Iterator<Item = &'static Need> {
        let needs: &[&'static [Need]] = match self {
            Self::Object => &[OBJECT],
            Self::Tests => &[TESTS],
            Self::Node => &[TESTS, METRICS],
            // The linter of the eBPF program has to come from the toolchain that builds it.
            Self::Lint => &[OBJECT, LINT],
            Self::Kernels => &[KERNELS],
            Self::Api => &[METRICS, API],
            Self::Browser => &[BROWSER],
            Self::Docker => &[DOCKER],
            Self::Dist => &[DIST],
            Self::Deploy => &[DEPLOY],
            Self::Cluster => &[TESTS, CLUSTER],
        };
        needs.iter().copied().flatten().collect::<Vec<_>>().into_iter()
    }
}

/// Prints all needs and installs the missing ones; with `check`, only prints.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut missing = 0;
    for need in EVERYTHING.iter().flat_map(|what| what.needs()) {
        let present = (need.present)();
        missing += usize::from(!present);
        println!("{:<8} {} ({})", if present { "found" } else { "missing" }, need.name, need.what_for);
    }
    if missing == 0 {
        println!("Nothing is missing.");
        return Ok(());
    }
    if check {
        bail!("{missing} of these are missing; cargo xtask setup installs them");
    }
    EVERYTHING.into_iter().try_for_each(ensure)
}

/// Installs missing tools, and names them.
pub(crate) fn ensure(what: For) -> Result<()> {
    for need in what.needs() {
        if (need.present)() {
            continue;
        }
        let missing: Vec<_> =
            need.packages.iter().filter(|package| !is_installed(package)).copied().collect();
        if !missing.is_empty() && !can_install() {
            bail!(
                "{} is missing, which {}. On Debian, root can install {} (cargo xtask setup does); elsewhere, `rustup \
                 toolchain install nightly --component rust-src` and `cargo install bpf-linker` are enough for the eBPF program",
                need.name,
                need.what_for,
                missing.join(", ")
            );
        }
        if !missing.is_empty() {
            eprintln!("{} is missing: installing {}", need.name, missing.join(", "));
            apt_install(&missing)?;
        }
        if !need.cargo.is_empty() {
            eprintln!("{} is missing: building it into {}", need.name, tools().display());
            let mut install = cargo();
            // Unoptimised, because building it takes longer than it will ever run.
            install.args(["install", "--locked", "--quiet", "--debug"]).args(need.cargo);
            install.arg("--root").arg(tools()).env("LLVM_PREFIX", LLVM_PREFIX);
            checked(&mut install)?;
        }
        if let Some(install) = need.install {
            eprintln!("{} is missing: installing it", need.name);
            install()?;
        }
        if !(need.present)() {
            bail!("{} is still missing after its installation", need.name);
        }
    }
    Ok(())
}

/// Installs the browser and its driver, in the versions of the lock file; returns the directory of the modules.
pub(crate) fn browser() -> Result<PathBuf> {
    ensure(For::Browser)?;
    let (from, to) = (root().join("tests/browser"), root().join("target/browser"));
    std::fs::create_dir_all(&to)?;
    let lock = std::fs::read(from.join("package-lock.json"))?;
    // Written last, when everything is installed.
    let installed = to.join("installed.json");
    if std::fs::read(&installed).is_ok_and(|installed| installed == lock) {
        return Ok(to);
    }
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(from.join(file), to.join(file))?;
    }
    checked(
        Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&to),
    )?;
    std::fs::write(installed, lock)?;
    Ok(to)
}

/// Whether this process may install Debian's packages.
pub(crate) fn can_install() -> bool {
    rustix::process::geteuid().is_root() && has("apt-get")
}

/// Whether a Debian package is installed.
fn is_installed(package: &str) -> bool {
    let status =
        Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]).output();
    status.is_ok_and(|output| output.stdout == b"installed")
}

/// Makes the directory with the tools that validate manifests, and returns its path.
pub(crate) fn deploy_tools() -> Result<PathBuf> {
    ensure(For::Deploy)?;
    let directory = tools().join("deploy");
    let programs = directory.join("bin");
    if !programs.join("kubernetes-validate").exists() {
        checked(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
        let mut pip = Command::new(programs.join("python"));
        checked(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", VALIDATOR]))?;
    }
    let kustomize = programs.join("kustomize");
    if kustomize.symlink_metadata().is_err() {
        let found = match find("kustomize") {
            Some(found) => found,
            None => debian::unpack("kustomize", From::Newer, &["kustomize"])?.join("usr/bin/kustomize"),
        };
        std::os::unix::fs::symlink(found, kustomize)?;
    }
    Ok(programs)
}

/// Whether the page can be tested without installing anything as root.
pub(crate) fn has_browser() -> bool {
    For::Browser.needs().all(|need| (need.present)())
}

/// Whether a program exits successfully.
fn runs(command: &[&str]) -> bool {
    let [program, arguments @ ..] = command else { return false };
    let status = Command::new(program).args(arguments).stderr(std::process::Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn has(program: &str) -> bool {
    find(program).is_some()
}

/// Installs Debian packages.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let apt_get = || {
        // Standard output is for results.
        let mut apt_get = Command::new("apt-get");
        apt_get.stdout(std::io::stderr());
        apt_get
    };
    checked(apt_get().args(["update", "--quiet"]))?;
    let mut install = apt_get();
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    checked(install.env("DEBIAN_FRONTEND", "noninteractive"))
}
