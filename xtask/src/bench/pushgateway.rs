//! Debian's prometheus-pushgateway, for comparison.

use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::build::checked;

/// Groups that the pushgateway holds.
pub(crate) const GROUPS: u32 = 1000;

/// A pushgateway that listens on loopback.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: String,
}

impl Gateway {
    /// Starts the program of Debian's package, unpacked below this directory.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        // Only unpacked: installing the package would start a service.
        let at = directory.join("gateway");
        std::fs::create_dir(&at)?;
        let mut download = Command::new("apt-get");
        download.args(["download", "--quiet", "prometheus-pushgateway"]).stdout(std::io::stderr());
        checked(download.current_dir(&at))?;
        let package = std::fs::read_dir(&at)?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().ends_with(".deb"))
            .context("apt-get downloaded no pushgateway package")?;
        checked(Command::new("dpkg").arg("-x").arg(package.path()).arg(&at))?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        drop(listener);
        let mut command = Command::new(at.join("usr/bin/prometheus-pushgateway"));
        command.arg(format!("--web.listen-address={address}"));
        command.arg(format!("--persistence.file={}", at.join("data").display()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let gateway = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(30);
        while ureq::get(format!("http://{}/-/ready", gateway.address)).call().is_err() {
            if Instant::now() > deadline {
                bail!("the pushgateway did not answer in 30 s");
            }
            sleep(Duration::from_millis(50));
        }
        eprintln!("pushing {GROUPS} groups to the pushgateway");
        for group in 0..GROUPS {
            ureq::put(format!("http://{}/metrics/job/ci/run/{group}", gateway.address)).send(metrics())?;
        }
        Ok(gateway)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A summary's figures in the pushgateway's format, of the same size.
pub(crate) fn metrics() -> String {
    let mut text = String::new();
    for metric in
        ["cpu_cores_peak", "cpu_cores_p95", "cpu_cores_p50", "cpu_seconds", "memory_peak", "memory_p95"]
    {
        let _ = writeln!(text, "# TYPE ci_{metric} gauge");
        for container in 0..7 {
            let _ = writeln!(text, "ci_{metric}{{container=\"container-{container}\"}} 1234567.25");
        }
    }
    text
}
