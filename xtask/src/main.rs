//! The commands for contributors: `cargo xtask demo`, `cargo xtask test`, `cargo xtask bench …`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod api;
mod bench;
mod btf;
mod build;
mod cluster;
mod command;
mod daemon;
mod debian;
mod demo;
mod dist;
mod docker;
mod ebpf;
mod failures;
mod fuzz;
mod kernels;
mod lint;
mod modules;
mod programs;
mod schemathesis;
mod setup;
mod test;

#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build both programs and measure a real build with them: receiver, token, collector, push, query, report.
    Demo {
        /// Leave the receiver running and print its address and tokens.
        #[arg(long)]
        keep: bool,
        /// The command to measure instead of a clean build of the receiver.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Install what the tests need and run all of them.
    Test {
        /// Only these groups: lint, unit (no privileges, the shipped programs over sockets), kernel (root, cgroups), bpf
        /// (root, the eBPF program), api (schemathesis and promtool check a live receiver), node (root, the jobs of a node),
        /// faults (root; faults injected around the programs), browser (the page in Chromium), deploy (the files in deploy/
        /// and docs/), docker (root; the images in Docker Engines that are started for it), fuzz.
        #[arg(long, value_enum)]
        group: Vec<test::Group>,
        /// Inject each fault 200 times instead of 20, overload for a minute, send the API five times as many requests.
        #[arg(long)]
        long: bool,
    },
    /// Install the tools that the eBPF program and the tests need.
    Setup {
        /// Only report; fail if something is missing.
        #[arg(long)]
        check: bool,
    },
    /// Build only the BPF object; print its toolchain, size, programs and path.
    BuildEbpf,
    /// Record the types of another kernel for the tests of the eBPF program.
    RecordBtf {
        /// A copy of its /sys/kernel/btf/vmlinux, or its vmlinux.
        from: std::path::PathBuf,
        /// The file to write.
        to: std::path::PathBuf,
    },
    /// Boot kernels in an emulator, run the collector with eBPF there and compare it with the kernel's own count.
    Kernels {
        /// Kernel images; without any, Debian's own for virtual machines is downloaded and not installed.
        #[arg(value_name = "VMLINUZ")]
        images: Vec<std::path::PathBuf>,
        /// Use `collector` and `workload` from this directory instead of building them.
        #[arg(long, value_name = "DIR")]
        programs: Option<std::path::PathBuf>,
    },
    /// Run a real Kubernetes cluster on this machine, with the shipped programs deployed in it.
    #[command(subcommand)]
    Cluster(cluster::Action),
    /// Build both programs, the collector with the BPF object in it.
    Build {
        /// With optimisations.
        #[arg(long)]
        release: bool,
    },
    /// Build the static programs that images are made of, for `docker compose … up --build`.
    Images {
        /// Without optimisations: larger and slower, but built in half the time.
        #[arg(long)]
        debug: bool,
    },
    /// Build the release files into target/dist: static programs, archives, images, bills of materials, checksums.
    Dist {
        /// Only for these processors; without any, for all that this machine can build for.
        #[arg(long, value_enum)]
        arch: Vec<dist::arch::Arch>,
        /// Without images, which need a Docker Engine.
        #[arg(long)]
        no_images: bool,
        /// Without optimisations, to see whether it works.
        #[arg(long)]
        debug: bool,
    },
    /// Feed nonsense to every parser, starting from this machine's own files.
    Fuzz {
        /// Seconds per target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Only these targets.
        #[arg(long)]
        target: Vec<String>,
    },
    /// Measure what this project promises.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { keep, command } => demo::run(keep, &command),
        Command::Test { group, long } => test::run(&group, long),
        Command::Setup { check } => setup::run(check),
        Command::RecordBtf { from, to } => btf::record(&from, &to),
        Command::Kernels { images, programs } => kernels::run(&images, programs.as_deref()),
        Command::Cluster(action) => cluster::run(&action),
        Command::BuildEbpf => ebpf::build().map(|object| println!("{}", object.display())),
        Command::Build { release } => build::programs(release, build::Object::Required).map(|programs| {
            println!("{}\n{}", programs.collector.display(), programs.receiver.display());
        }),
        Command::Dist { arch, no_images, debug } => dist::run(&arch, !no_images, !debug),
        Command::Images { debug } => dist::images::prepare(!debug),
        Command::Fuzz { seconds, target } => fuzz::run(seconds, &target),
        Command::Bench(bench) => bench::run(&bench),
    }
}
