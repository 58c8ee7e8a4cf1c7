//! Kubernetes on the node, in its smallest working configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::go::KubernetesPrograms;
use super::node::{Node, log_of};
use super::{PAUSE, TAG};
use crate::command::checked;
use crate::daemon::{last_lines, wait};
use crate::programs::random;

/// The name of the node.
pub(crate) const NODE: &str = "node";

/// The control plane and the node's own daemons.
pub(crate) struct Plane<'a> {
    node: &'a mut Node,
    programs: &'a KubernetesPrograms,
    /// The unpacked Debian packages.
    packages: &'a Path,
}

impl<'a> Plane<'a> {
    pub(crate) fn new(node: &'a mut Node, programs: &'a KubernetesPrograms, packages: &'a Path) -> Self {
        Self { node, programs, packages }
    }

    /// Starts the daemons that all others talk to.
    pub(crate) fn start_control(&mut self) -> Result<()> {
        self.configure()?;
        self.etcd()?;
        self.apiserver()?;
        self.wait_for("apiserver", &["get", "--raw=/readyz"])?;
        let kubeconfig = |name: &str| format!("--kubeconfig={}", kubeconfig(name).display());
        let mut manager = self.kubernetes("kube-controller-manager");
        manager
            .arg(kubeconfig("controller-manager"))
            .args(["--leader-elect=false", "--use-service-account-credentials"]);
        manager.arg(format!("--service-account-private-key-file={}", file("service-account.key").display()));
        manager.arg(format!("--root-ca-file={}", certificate().display()));
        self.node.start("controller-manager", &manager)?;
        let mut scheduler = self.kubernetes("kube-scheduler");
        scheduler.arg(kubeconfig("scheduler")).arg("--leader-elect=false");
        self.node.start("scheduler", &scheduler)
    }

    /// Starts containerd, once. Images are imported before pods start.
    pub(crate) fn start_containerd(&mut self) -> Result<()> {
        let config = file("containerd.toml");
        let mut containerd = self.node.inside("containerd");
        containerd.arg("--config").arg(&config);
        self.node.start("containerd", &containerd)?;
        wait("containerd", || {
            self.check("containerd")?;
            let mut ctr = self.node.inside("ctr");
            Ok(ctr.arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
        })
    }

    /// Starts the daemons that run pods.
    pub(crate) fn start_node(&mut self) -> Result<()> {
        self.start_kubelet()?;
        let mut proxy = self.kubernetes("kube-proxy");
        proxy.arg(format!("--kubeconfig={}", kubeconfig("proxy").display()));
        proxy.args(["--proxy-mode=iptables", "--conntrack-max-per-core=0"]);
        // These settings cannot be changed from within a network namespace.
        proxy.args(["--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"]);
        proxy.arg(format!("--cluster-cidr={}", self.node.network.pods()));
        proxy.arg(format!("--hostname-override={NODE}"));
        self.node.start("kube-proxy", &proxy)?;
        let mut coredns = self.node.inside(self.programs.coredns());
        coredns.arg("-conf").arg(file("Corefile"));
        self.node.start("coredns", &coredns)?;
        self.wait_for("kubelet", &["wait", "--for=condition=Ready", "node", NODE, "--timeout=1s"])
    }

    pub(crate) fn start_kubelet(&mut self) -> Result<()> {
        let mut kubelet = self.kubernetes("kubelet");
        kubelet.arg(format!("--config={}", file("kubelet.yaml").display()));
        kubelet.arg(format!("--kubeconfig={}", kubeconfig("kubelet").display()));
        kubelet
            .arg(format!("--hostname-override={NODE}"))
            .arg(format!("--node-ip={}", self.node.network.node()));
        self.node.start("kubelet", &kubelet)
    }

    fn etcd(&mut self) -> Result<()> {
        let mut etcd = self.node.inside(self.packages.join("usr/bin/etcd"));
        // Its data need not survive a crash of the machine.
        etcd.args(["--data-dir=/var/lib/etcd/data", "--unsafe-no-fsync", "--log-level=error"]);
        etcd.args([
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
        ]);
        self.node.start("etcd", &etcd)
    }

    fn apiserver(&mut self) -> Result<()> {
        let key = file("service-account.key");
        let mut apiserver = self.kubernetes("kube-apiserver");
        apiserver.args(["--etcd-servers=http://127.0.0.1:2379", "--authorization-mode=Node,RBAC"]);
        apiserver.args(["--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP"]);
        apiserver.args(["--service-account-issuer=https://kubernetes.default.svc", "--bind-address=0.0.0.0"]);
        apiserver.arg(format!("--service-account-key-file={}", key.display()));
        apiserver.arg(format!("--service-account-signing-key-file={}", key.display()));
        apiserver.arg(format!("--service-cluster-ip-range={}", self.node.network.services()));
        apiserver.arg(format!("--advertise-address={}", self.node.network.node()));
        apiserver.arg(format!("--token-auth-file={}", file("tokens.csv").display()));
        apiserver.arg(format!("--cert-dir={}", file("apiserver").display()));
        self.node.start("apiserver", &apiserver)
    }

    fn kubernetes(&self, program: &str) -> Command {
        self.node.inside(self.programs.kubernetes(program))
    }

    /// Waits until kubectl succeeds; fails at once if the daemon has ended.
    fn wait_for(&self, daemon: &str, question: &[&str]) -> Result<()> {
        wait(daemon, || {
            self.check(daemon)?;
            let mut kubectl = kubectl(self.programs);
            Ok(kubectl.args(question).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
        })
    }

    fn check(&self, daemon: &str) -> Result<()> {
        match self.node.state.daemons.get(daemon) {
            Some(pid) if self.node.has(*pid) => Ok(()),
            _ => bail!("{daemon} has ended: {}", last_lines(&log_of(daemon))),
        }
    }

    fn configure(&mut self) -> Result<()> {
        fs::create_dir_all(file("apiserver"))?;
        checked(
            Command::new("openssl")
                .args(["genrsa", "-out"])
                .arg(file("service-account.key"))
                .stderr(Stdio::null()),
        )?;
        let mut tokens = String::new();
        for (name, user, groups) in [
            ("admin", "admin".to_owned(), "system:masters"),
            ("controller-manager", "system:kube-controller-manager".to_owned(), ""),
            ("scheduler", "system:kube-scheduler".to_owned(), ""),
            ("kubelet", format!("system:node:{NODE}"), "system:nodes"),
            ("proxy", "system:kube-proxy".to_owned(), ""),
            ("coredns", "system:kube-dns".to_owned(), "system:masters"),
        ] {
            let token = random()?;
            writeln!(tokens, "{token},{user},{user},\"{groups}\"")?;
            fs::write(kubeconfig(name), self.kubeconfig(&token).to_string())?;
        }
        fs::write(file("tokens.csv"), tokens)?;
        fs::write(file("resolv.conf"), "")?;
        fs::write(file("kubelet.yaml"), self.kubelet().to_string())?;
        fs::write(file("containerd.toml"), self.containerd())?;
        let corefile = format!(
            "cluster.local {{\n    errors\n    cache 5\n    kubernetes cluster.local {{\n        kubeconfig {}\n    }}\n}}\n",
            kubeconfig("coredns").display()
        );
        fs::write(file("Corefile"), corefile)?;
        let cni = file("cni");
        fs::create_dir_all(&cni)?;
        fs::write(cni.join("10-node.conflist"), self.cni().to_string()).context("cannot configure CNI")
    }

    fn kubeconfig(&self, token: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
            "clusters": [{"name": "cluster", "cluster": {
                "server": format!("https://{}:6443", self.node.network.node()),
                "certificate-authority": certificate(),
            }}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
        })
    }

    fn kubelet(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", self.node.state.cgroup()),
            // From 1.35 on the kubelet refuses cgroup v1 by default.
            "failCgroupV1": false, "failSwapOn": false,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "clusterDomain": "cluster.local", "clusterDNS": [self.node.network.node()],
            "resolvConf": file("resolv.conf"),
            // Only the machine itself can reach the kubelet.
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
            // The disk is shared with the machine, which may be nearly full.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "2s",
            // Changed secrets reach pods sooner than the default of a minute.
            "syncFrequency": "10s",
        })
    }

    fn containerd(&self) -> String {
        // Without CAP_SYS_RESOURCE a process cannot lower its own oom_score_adj. With it this setting changes nothing.
        format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"docker.io/{PAUSE}:{TAG}\"\n\
             restrict_oom_score_adj = true\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{}\"\nconf_dir = \"{}\"\n",
            self.packages.join("usr/lib/cni").display(),
            file("cni").display(),
        )
    }

    /// Each pod has a cable of its own. On a bridge, answers would bypass the address translation of services.
    fn cni(&self) -> Value {
        let ranges = json!([[{"subnet": self.node.network.pods()}]]);
        let ipam = json!({"type": "host-local", "dataDir": "/run/cni", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]});
        json!({
            "cniVersion": "0.4.0", "name": "node",
            "plugins": [{"type": "ptp", "ipMasq": false, "ipam": ipam}, {"type": "portmap", "capabilities": {"portMappings": true}}],
        })
    }
}

/// kubectl, as an administrator of the cluster.
pub(crate) fn kubectl(programs: &KubernetesPrograms) -> Command {
    let mut kubectl = Command::new(programs.kubernetes("kubectl"));
    kubectl.env("KUBECONFIG", kubeconfig("admin"));
    kubectl
}

/// The kubeconfig of a user; `admin` may do everything.
pub(crate) fn kubeconfig(name: &str) -> PathBuf {
    file(&format!("{name}.kubeconfig"))
}

fn certificate() -> PathBuf {
    file("apiserver/apiserver.crt")
}

fn file(name: &str) -> PathBuf {
    Node::run().join(name)
}
