//! Boots other kernels in an emulator: does the eBPF program load there, and are its reports right?

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wire::{ContainerUsage, Payload};

use crate::build::{self, Object};
use crate::command::checked;
use crate::setup::{self, For};

/// The first process in the emulator.
const INIT: &str = include_str!("kernels.sh");
const BUSYBOX: &str = "/bin/busybox";
/// Debian's kernel for virtual machines, of the release that this project is written for.
const DEBIAN_KERNEL: &str = r"^linux-image-6\.1\.[0-9]+-[0-9]+-cloud-amd64-unsigned$";
const CONSOLE: &str = "console=ttyS0 quiet panic=-1 rdinit=/init";
/// In this mode no program may read the kernel's memory.
const LOCKED_DOWN: &str = "lockdown=confidentiality";
/// The collector's reason in that mode: as the kernel reports it, and with securityfs, which shows the cause.
const REFUSALS: [(&str, &str); 2] = [
    ("unseen", "the kernel refuses the eBPF program: process_"),
    ("seen", "the kernel is locked down (confidentiality)"),
];
/// For a boot and all workloads, which take about 15 s in the emulator.
const TIME_LIMIT: Duration = Duration::from_secs(150);
/// The required share, in percent: clocks in an emulator are worse than those of a machine.
const SHARE: RangeInclusive<f64> = 98.5..=101.0;
/// Workloads of the script, and the number of processes of each in its container. This includes the shell if the shell does
/// not become the last command.
const WORKLOADS: [(&str, &str, u64); 3] = [
    ("loop", "500 x /bin/true", 501),
    ("orphans", "orphans; SIGCHLD ignored", 62),
    ("moved", "moved between two; threads", 2),
];
/// The containers' short ids.
const CONTAINERS: [&str; 2] = ["aaaaaaaaaaaa", "bbbbbbbbbbbb"];

/// The results from one kernel.
#[derive(Debug, Default)]
struct Trial {
    release: Option<String>,
    measured: Vec<Measured>,
    refused: Option<String>,
    /// Workloads that failed on their own, which the emulator causes at times.
    failed: Vec<String>,
    done: bool,
}

#[derive(Debug, Default)]
struct Measured {
    workload: String,
    /// What the kernel charged to each container's cgroup, in microseconds.
    usage: Vec<u64>,
    /// Capabilities that the collector dropped after the program was loaded.
    dropped: String,
    /// How often the collector logged the verifier's log.
    verifier: u64,
    payload: Option<Payload>,
}

/// Boots each of these kernels, or Debian's, and compares the collector's figures with the kernel's own count.
pub(crate) fn run(images: &[PathBuf], programs: Option<&Path>) -> Result<()> {
    setup::ensure(For::Kernels)?;
    let (collector, workload) = if let Some(directory) = programs {
        (directory.join("collector"), directory.join("workload"))
    } else {
        let built = build::programs(true, Object::Required)?;
        (built.collector, built.workload)
    };
    let directory = tempfile::tempdir()?;
    let debians;
    let images = if images.is_empty() {
        debians = [debians_kernel(directory.path())?];
        &debians
    } else {
        images
    };
    let initramfs = initramfs(directory.path(), &[collector, workload])?;
    println!(
        "{:<26} {:<27} {:<12} {:>8} {:>10} {:>9} {:>9}  given up",
        "kernel", "workload", "container", "cpu.stat", "attributed", "share", "processes"
    );
    let mut wrong = 0;
    for image in images {
        let (trial, console) = boot(image, &initramfs, directory.path(), "")?;
        wrong += report(image, &trial, &console);
        let (trial, console) = boot(image, &initramfs, directory.path(), LOCKED_DOWN)?;
        wrong += report_locked_down(image, &trial, &console);
    }
    if wrong > 0 {
        bail!("{wrong} of these break the promise");
    }
    Ok(())
}

/// Downloads and unpacks Debian's newest kernel of this release, without installing it.
fn debians_kernel(directory: &Path) -> Result<PathBuf> {
    let found = output(Command::new("apt-cache").args(["search", "--names-only", DEBIAN_KERNEL]))?;
    let names = found.lines().filter_map(|line| line.split_whitespace().next());
    let numbers = |name: &str| -> Vec<u32> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let newest = names
        .max_by_key(|name| numbers(name))
        .context("apt knows no such kernel: run apt-get update, or name a kernel image")?;
    checked(Command::new("apt-get").args(["download", "--quiet", newest]).current_dir(directory))?;
    let only = |directory: &Path, prefix: &str| -> Result<PathBuf> {
        let entries = fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
        let found = entries.iter().find(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        Ok(found.with_context(|| format!("no {prefix}… in {}", directory.display()))?.path())
    };
    let unpacked = directory.join("unpacked");
    checked(Command::new("dpkg").arg("-x").arg(only(directory, newest)?).arg(&unpacked))?;
    only(&unpacked.join("boot"), "vmlinuz-")
}

/// Makes an initramfs with busybox, these programs, and their libraries at the paths where they look for them.
fn initramfs(directory: &Path, programs: &[PathBuf]) -> Result<PathBuf> {
    let root = directory.join("root");
    for name in ["bin", "cgroup", "dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    let put = |from: &Path, to: &Path| -> Result<()> {
        let to = root.join(to.strip_prefix("/").unwrap_or(to));
        fs::create_dir_all(to.parent().unwrap_or(&root))?;
        fs::copy(from, to).with_context(|| from.display().to_string()).map(drop)
    };
    put(Path::new(BUSYBOX), Path::new(BUSYBOX))?;
    symlink("busybox", root.join("bin/sh"))?;
    for program in programs {
        put(program, &Path::new("bin").join(program.file_name().context("a program without a name")?))?;
        for library in output(Command::new("ldd").arg(program))?.split_whitespace() {
            if library.starts_with('/') {
                put(Path::new(library), Path::new(library))?;
            }
        }
    }
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let image = directory.join("initramfs");
    let pack = "find . | cpio --quiet --create --format=newc";
    let mut packing = Command::new("sh");
    packing.args(["-c", pack]).current_dir(&root).stdout(File::create(&image)?);
    let status = packing.status().context("cannot run cpio")?;
    if !status.success() {
        bail!("{pack}: {status}");
    }
    Ok(image)
}

/// Boots a kernel; returns its output on the second serial port, and on its console.
fn boot(image: &Path, initramfs: &Path, directory: &Path, options: &str) -> Result<(Trial, String)> {
    let results = directory.join("results");
    let console = directory.join("console");
    // Remove the results of the previous kernel.
    File::create(&results)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-no-reboot"]);
    qemu.args(["-display", "none", "-monitor", "none", "-nic", "none", "-serial", "stdio", "-serial"]);
    qemu.arg(format!("file:{}", results.display()));
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initramfs).arg("-append");
    qemu.arg(format!("{CONSOLE} {options}"));
    let written = File::create(&console)?;
    qemu.stdin(Stdio::null()).stderr(written.try_clone()?).stdout(written);
    let mut machine = qemu.spawn().context("cannot run qemu-system-x86_64")?;
    let until = Instant::now() + TIME_LIMIT;
    while machine.try_wait()?.is_none() {
        if Instant::now() > until {
            machine.kill()?;
            machine.wait()?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((parse(&text(&results)?), text(&console)?))
}

fn parse(results: &str) -> Trial {
    let mut trial = Trial::default();
    for line in results.lines() {
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        let measured = trial.measured.last_mut();
        match (word, measured) {
            ("release", _) => trial.release = Some(rest.to_owned()),
            ("refused", _) => trial.refused = Some(rest.to_owned()),
            ("failed", _) => trial.failed.push(rest.to_owned()),
            ("done", _) => trial.done = true,
            ("workload", _) => {
                trial.measured.push(Measured { workload: rest.to_owned(), ..Measured::default() });
            }
            ("usage", Some(last)) => last.usage = rest.split(' ').filter_map(|n| n.parse().ok()).collect(),
            ("dropped", Some(last)) => rest.clone_into(&mut last.dropped),
            ("verifier", Some(last)) => last.verifier = rest.parse().unwrap_or(0),
            ("summary", Some(last)) => last.payload = serde_json::from_str(rest).ok(),
            _ => {}
        }
    }
    trial
}

/// Prints the results from a kernel, and returns the number of wrong ones.
fn report(image: &Path, trial: &Trial, console: &str) -> usize {
    let image = image.display().to_string();
    let kernel = trial.release.as_deref().unwrap_or(&image);
    if let Some(reason) = &trial.refused {
        println!("{kernel:<26} refused: {reason}");
        return 1;
    }
    for failed in &trial.failed {
        println!("{kernel:<26} a workload failed by itself: {failed}");
    }
    let mut wrong = trial.failed.len();
    for (name, workload, expected) in WORKLOADS {
        let Some(measured) = trial.measured.iter().find(|measured| measured.workload == name) else {
            continue;
        };
        let containers = measured.payload.iter().flat_map(|payload| &payload.containers);
        let containers: Vec<&ContainerUsage> = containers.collect();
        // Only one workload uses the second container.
        let used = |(name, usage): &(&&str, &u64)| **usage > 0 || **name == CONTAINERS[0];
        for (container, &usage) in CONTAINERS.iter().zip(&measured.usage).filter(used) {
            let found = containers.iter().find(|one| one.name == *container);
            let cpu_stat = usage as f64 / 1e6;
            let attributed = found.and_then(|one| one.cpu_seconds).unwrap_or(0.0);
            let share = 100.0 * attributed / cpu_stat;
            let count = found.and_then(|one| one.process_count).unwrap_or(0);
            // A process that moves counts in its first container.
            let expected = if *container == CONTAINERS[0] { expected } else { 0 };
            let right = SHARE.contains(&share) && count == expected;
            wrong += usize::from(!right);
            println!(
                "{kernel:<26} {workload:<27} {container:<12} {cpu_stat:>6.2} s {attributed:>8.2} s {share:>7.2} % \
                 {:>9}  {}{}",
                format!("{count}/{expected}"),
                measured.dropped.trim_start_matches("CapabilitySet(").trim_end_matches(')'),
                if right { "" } else { "  WRONG" }
            );
        }
    }
    wrong + report_end(kernel, trial, WORKLOADS.len(), console)
}

/// Prints the collector's reason on a locked-down kernel, and returns the number of wrong results.
fn report_locked_down(image: &Path, trial: &Trial, console: &str) -> usize {
    let image = image.display().to_string();
    let kernel = trial.release.as_deref().unwrap_or(&image);
    let mut wrong = 0;
    for (name, expected) in REFUSALS {
        let measured = trial.measured.iter().find(|measured| measured.workload == name);
        let collector = measured.and_then(|measured| measured.payload.as_ref()?.collector.as_ref());
        let reason = collector.and_then(|collector| collector.source_reason.as_deref()).unwrap_or("nothing");
        let logged = measured.is_some_and(|measured| measured.verifier > 0);
        let right = reason.starts_with(expected) && logged;
        wrong += usize::from(!right);
        println!("{kernel:<26} {LOCKED_DOWN}: {reason}{}", if right { "" } else { "  WRONG" });
    }
    wrong + report_end(kernel, trial, REFUSALS.len(), console)
}

/// Returns 1 and reports how the kernel ended if it did not power off after the last workload; otherwise returns 0.
fn report_end(kernel: &str, trial: &Trial, all: usize, console: &str) -> usize {
    if !trial.done {
        let mut lines = console.lines().filter(|line| !line.trim().is_empty());
        let panic = lines.clone().find(|line| line.contains("Kernel panic"));
        let cause = panic.or(lines.next_back()).unwrap_or("its console is empty");
        println!("{kernel:<26} ended or hung after {} of {all}: {}", trial.measured.len(), cause.trim());
    }
    usize::from(!trial.done)
}

fn output(command: &mut Command) -> Result<String> {
    let done =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}", done.status);
    }
    Ok(String::from_utf8(done.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: &str =
        "release 6.1.0\r\nworkload loop\r\nusage 1500000 0\r\ndropped CapabilitySet(PERFMON)\r\n";

    #[test]
    fn what_a_kernel_wrote_is_read() {
        let trial = parse(&format!("{LOOP}summary nonsense\r\ndone\r\n"));
        assert_eq!((trial.release.as_deref(), trial.done), (Some("6.1.0"), true));
        let [measured] = &trial.measured[..] else { panic!("{trial:?}") };
        assert_eq!(
            (measured.usage.as_slice(), measured.dropped.as_str()),
            (&[1_500_000, 0][..], "CapabilitySet(PERFMON)")
        );
        assert!(measured.payload.is_none());
    }

    #[test]
    fn what_is_missing_or_refused_or_failed_is_wrong() {
        let wrong = |results: &str| report(Path::new("vmlinuz"), &parse(results), "");
        // The summary is missing; below, the end is missing as well.
        assert_eq!(wrong(&format!("{LOOP}done")), 1);
        assert_eq!(wrong(LOOP), 2);
        assert_eq!(wrong(""), 1);
        assert_eq!(wrong("release 5.4.0\nrefused collector: --ebpf=require: no CAP_BPF\ndone"), 1);
        assert_eq!(wrong("release 6.1.0\nfailed loop: exit code 139\ndone"), 1);
        // Both refusals and the end are missing.
        assert_eq!(report_locked_down(Path::new("vmlinuz"), &parse("release 6.1.0"), ""), 3);
    }
}
