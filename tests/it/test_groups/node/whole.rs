//! A pod with everything that a kubelet and containerd make for it: a sandbox, mounts, logs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::cgroup::{Cgroup, Driver, pod_uid};
use tests::program::workload;

use super::environment;

/// How its containers are distinguished from its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// By the mounts of both.
    Mounts,
    /// By the mounts of the sandbox only.
    Sandbox,
    /// Only by the sandbox's program.
    Program,
}

pub(super) struct WholePod {
    pub(super) uid: String,
    driver: Driver,
    told: Told,
    /// The node's directory: mounts come from below it, logs are in it.
    directory: PathBuf,
    pub(super) sandbox: Cgroup,
    pub(super) pause: Child,
}

/// A started container.
pub(super) struct Started {
    pub(super) cgroup: Cgroup,
    pub(super) child: Child,
}

impl Started {
    /// Waits for its end; returns its id and the CPU time that the kernel charged to it.
    pub(super) fn end(mut self) -> (String, f64) {
        assert!(self.child.wait().unwrap().success());
        self.cgroup.wait_until_empty().unwrap();
        (self.cgroup.id().to_owned(), self.cgroup.cpu_seconds().unwrap())
    }
}

impl WholePod {
    pub(super) fn new(directory: &Path, driver: Driver, told: Told) -> Self {
        Self::with(directory, driver, told, &[])
    }

    /// A pod whose sandbox this command starts. It gets the pause program as its arguments.
    pub(super) fn with(directory: &Path, driver: Driver, told: Told, wrapper: &[&str]) -> Self {
        let uid = pod_uid().unwrap();
        let sandbox = Cgroup::in_pod(driver, &uid).unwrap();
        let mut mounts = vec![];
        if told != Told::Program {
            mounts.push(sandbox_file(directory, sandbox.id()));
        }
        let mut command = within(&sandbox, &mounts);
        // The name of the link becomes the name of the process.
        let program = directory.join("pause");
        if !program.exists() {
            symlink(workload(), &program).unwrap();
        }
        command.args(wrapper).arg(program).args(["as", "pause", "pause"]).stdin(Stdio::null());
        let pause = command.spawn().unwrap();
        Self { uid, driver, told, directory: directory.to_owned(), sandbox, pause }
    }

    /// The directory of the pod's logs.
    fn logs(&self) -> PathBuf {
        self.directory.join(format!("log/pods/ci_runner-{}_{}", &self.uid[..8], self.uid))
    }

    /// Makes a container in a kubelet's order: its log, then its cgroup, then its processes; `linked`: with a link to the log.
    pub(super) fn cgroup(&self, name: &str, restart: u32, linked: bool) -> Cgroup {
        let logs = self.logs().join(name);
        std::fs::create_dir_all(&logs).unwrap();
        let log = logs.join(format!("{restart}.log"));
        std::fs::write(&log, "").unwrap();
        let cgroup = Cgroup::in_pod(self.driver, &self.uid).unwrap();
        if linked {
            let links = self.directory.join("log/containers");
            std::fs::create_dir_all(&links).unwrap();
            let link = format!("runner-{}_ci_{name}-{}.log", &self.uid[..8], cgroup.id());
            symlink(log, links.join(link)).unwrap();
        }
        cgroup
    }

    /// Runs a script as a job in a new container of this name; `$1` is the program with the workloads.
    pub(super) fn start(&self, name: &str, restart: u32, linked: bool, job: &str, script: &str) -> Started {
        let cgroup = self.cgroup(name, restart, linked);
        let mut command = within(&cgroup, &self.mounts(name));
        command.args(["sh", "-c", script, "sh"]).arg(workload()).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).envs(environment(job, "1"));
        Started { child: command.spawn().unwrap(), cgroup }
    }

    /// The files mounted in a container of this name.
    pub(super) fn mounts(&self, name: &str) -> Vec<PathBuf> {
        if self.told != Told::Mounts {
            return vec![];
        }
        let directory = self.directory.join(format!("kubelet/pods/{}/containers/{name}", self.uid));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("0a1b2c3d");
        std::fs::write(&file, "").unwrap();
        vec![sandbox_file(&self.directory, self.sandbox.id()), file]
    }

    /// Ends the pod as the kubelet does; returns the CPU time that the kernel charged to the sandbox.
    pub(super) fn end(mut self) -> f64 {
        // A pass or two see that the containers have ended.
        std::thread::sleep(Duration::from_millis(500));
        self.kill();
        self.sandbox.wait_until_empty().unwrap();
        self.sandbox.cpu_seconds().unwrap()
    }

    fn kill(&mut self) {
        let _ = self.pause.kill();
        let _ = self.pause.wait();
    }
}

impl Drop for WholePod {
    fn drop(&mut self) {
        self.kill();
        // Its cgroup can only be removed when it is empty.
        let _ = self.sandbox.wait_until_empty();
    }
}

/// The file that containerd mounts as `/etc/resolv.conf`.
fn sandbox_file(directory: &Path, id: &str) -> PathBuf {
    let directory = directory.join("io.containerd.grpc.v1.cri/sandboxes").join(id);
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("resolv.conf");
    std::fs::write(&file, "").unwrap();
    file
}

/// A command that runs its arguments in this cgroup, with each of these files mounted onto itself.
pub(super) fn within(cgroup: &Cgroup, mounts: &[PathBuf]) -> Command {
    let mut command = Command::new("unshare");
    // Until it executes the program it is called like a runtime's process, however long that takes on a busy machine.
    let script = "echo 'runc:[2:INIT]' > /proc/$$/comm; echo 0 > \"$0/cgroup.procs\"; while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$1\"; shift; done; shift; exec \"$@\"";
    command.args(["--mount", "sh", "-ec", script]).arg(cgroup.path()).args(mounts).arg("--");
    command
}
