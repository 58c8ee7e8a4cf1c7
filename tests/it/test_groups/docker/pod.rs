//! Containers that the engine runs in the cgroups of a kubelet.

use std::path::{Path, PathBuf};

use tests::cgroup::{Driver, pod_uid};

use super::{docker, told};

/// A pod: containers with one PID namespace, below one cgroup.
pub(super) struct Pod {
    pub(super) uid: String,
    parent: String,
    /// The container with PID 1.
    pub(super) pause: String,
}

impl Pod {
    pub(super) fn new(driver: Driver, options: &[&str]) -> Self {
        let uid = pod_uid().unwrap();
        let parent = match driver {
            Driver::Cgroupfs => format!("kubepods/burstable/pod{uid}"),
            Driver::Systemd => format!(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
                uid.replace('-', "_")
            ),
        };
        let mut pod = Self { uid, parent, pause: String::new() };
        pod.pause = pod.container(options, &["as", "pause", "pause"]);
        pod
    }

    pub(super) fn container(&self, options: &[&str], what: &[&str]) -> String {
        let parent = format!("--cgroup-parent=/{}", self.parent);
        let run = ["run", "--detach", "--network=none", &parent];
        told(&[&run, options, &["runner-resource-collector/workload"], what].concat())
    }

    /// Starts a container as a step of a CI job.
    pub(super) fn start(&self, job: &str, run_id: &str, what: &[&str]) -> String {
        let pid = format!("--pid=container:{}", self.pause);
        let variables = [
            "--env=GITHUB_REPOSITORY_OWNER=my-org".to_owned(),
            "--env=GITHUB_REPOSITORY=my-org/my-repo".to_owned(),
            "--env=GITHUB_WORKFLOW=ci.yml".to_owned(),
            format!("--env=GITHUB_JOB={job}"),
            format!("--env=GITHUB_RUN_ID={run_id}"),
        ];
        let options: Vec<_> = std::iter::once(&pid).chain(&variables).map(String::as_str).collect();
        self.container(&options, what)
    }

    /// The pod's cgroup, in every hierarchy that has it.
    fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
        let found = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(&self.parent));
        found.filter(|cgroup| cgroup.is_dir()).collect()
    }

    /// The kernel's CPU time of the whole pod. Then removes its cgroups, as a kubelet does.
    pub(super) fn end(self) -> f64 {
        docker(&["rm", "--force", &self.pause]);
        let cgroups = self.cgroups();
        let read =
            |file: &str| cgroups.iter().find_map(|cgroup| std::fs::read_to_string(cgroup.join(file)).ok());
        let seconds = if let Some(text) = read("cpuacct.usage") {
            text.trim().parse::<f64>().unwrap() / 1e9
        } else {
            let stat = read("cpu.stat").unwrap();
            let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
            usage.parse::<f64>().unwrap() / 1e6
        };
        for cgroup in cgroups {
            let above = cgroup.ancestors().take(3);
            // Cgroups that are still in use stay.
            let _ = above.map(std::fs::remove_dir).take_while(Result::is_ok).count();
        }
        seconds
    }
}
