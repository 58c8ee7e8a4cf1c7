//! The shipped programs, started and used as a user does.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A running program; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Running {
    /// Starts a program that logs JSON on standard error.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child =
            command.stderr(Stdio::piped()).spawn().with_context(|| format!("cannot run {command:?}"))?;
        let stderr = child.stderr.take().context("no standard error")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(value) => {
                        // The receiving end may be gone, because the wait for a line is over.
                        let _ = sender.send(value);
                    }
                    Err(_) => eprintln!("{line}"),
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Waits for a line of the log with this message.
    pub(crate) fn wait_for(&self, message: &str) -> Result<Value> {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30));
            let line = line.map_err(|_| anyhow!("the program ended or did not log {message:?} in 30 s"))?;
            if line["message"] == message {
                return Ok(line);
            }
            if line["level"] == "ERROR" {
                eprintln!("{line}");
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot stop it")?;
        Ok(self.child.wait()?)
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Keeps it running after this process.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A receiver on a loopback port, with random secrets.
#[derive(Debug)]
pub(crate) struct Receiver {
    running: Running,
    pub(crate) base: String,
    pub(crate) read_token: String,
}

impl Receiver {
    pub(crate) fn start(program: &Path, database: &Path) -> Result<Self> {
        let read_token = random()?;
        let mut command = Command::new(program);
        command.args(["--addr=127.0.0.1:0", "--log-format=json"]).arg("--db").arg(database);
        command.env("RECEIVER_READ_TOKEN", &read_token).env("RECEIVER_HMAC_KEY", random()?);
        let running = Running::start(&mut command)?;
        let address = running.wait_for("listening")?["address"].as_str().unwrap_or_default().to_owned();
        Ok(Self { running, base: format!("http://{address}"), read_token })
    }

    /// A push token, made over HTTP.
    pub(crate) fn push_token(&self, scope: &Value) -> Result<String> {
        let answer: Value = ureq::post(format!("{}/api/v1/token", self.base))
            .header("Authorization", format!("Bearer {}", self.read_token))
            .send_json(scope)?
            .body_mut()
            .read_json()?;
        answer["token"].as_str().map(ToOwned::to_owned).context("the receiver answered without a token")
    }

    /// The runs of a job, newest first.
    pub(crate) fn runs(&self, path: &str) -> Result<Vec<wire::StoredRun>> {
        let url = format!("{}/api/v1/metrics/repo/{path}", self.base);
        let request = ureq::get(url).header("Authorization", format!("Bearer {}", self.read_token));
        Ok(request.call()?.body_mut().read_json()?)
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.running.stop().map(|_| ())
    }

    pub(crate) fn leave(self) -> u32 {
        let pid = self.running.pid();
        self.running.leave();
        pid
    }
}

/// 128 random bits, in hexadecimal.
pub(crate) fn random() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
