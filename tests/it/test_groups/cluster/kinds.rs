//! The kinds of jobs that the tests run in a cluster.

use serde_json::{Value, json};

use super::asked::BUILD;

/// One kind, as the spec of its pod.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    /// The name of the pod and the job.
    pub(super) name: String,
    pub(super) spec: Value,
}

/// Real compilers: some seconds of work in about a hundred processes.
pub(super) const COMPILE: &str = r#"cd "$(mktemp -d)"
i=0
while [ $i -lt 24 ]; do
    printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint f%d(int a) { char b[64]; snprintf(b, 64, "%%d", a); return strlen(b); }\n' $i > $i.c
    i=$((i + 1))
done
printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\n%%.o: %%.c\n\tgcc -O2 -c $< -o $@\n' > Makefile
make -s -j2"#;
/// Only starts processes.
const SHORT: &str = "i=0; while [ $i -lt 1200 ]; do /bin/true; i=$((i + 1)); done";
/// Ends after a third of a second.
const BRIEF: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done";
/// Some tenths of a second of CPU time.
pub(super) const BURN: &str = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done";
/// Memory that is held for a second.
const ALLOCATE: &str = "python3 -c 'import time; x = b\"x\" * (200 << 20); time.sleep(1)'";

impl Kind {
    pub(super) fn of(name: &str, spec: Value) -> Self {
        Self { name: name.to_owned(), spec }
    }
}

/// Adds or replaces fields of an object.
pub(super) fn with(mut object: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

/// A container that runs a script.
pub(super) fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": BUILD, "command": ["sh", "-ec", script]})
}

pub(super) fn spec(containers: &[Value]) -> Value {
    json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "automountServiceAccountToken": false,
        "containers": containers,
    })
}

/// The settings that the Pod Security Standard `restricted` requires.
fn restricted(user: u32) -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn limited(container: Value, memory: &str) -> Value {
    with(container, &json!({"resources": {"limits": {"memory": memory}, "requests": {"memory": memory}}}))
}

/// All kinds that are a single pod and end by themselves.
pub(super) fn all() -> Vec<Kind> {
    let as_user = |user| with(container("build", COMPILE), &json!({"securityContext": restricted(user)}));
    let init = with(
        spec(&[container("build", BURN)]),
        &json!({"initContainers": [container("prepare", COMPILE), container("fetch", BURN)]}),
    );
    let again = format!("{BURN}; if [ ! -e /state/once ]; then touch /state/once; exit 1; fi; {BURN}");
    let again = with(
        container("build", &again),
        &json!({"volumeMounts": [{"name": "state", "mountPath": "/state"}]}),
    );
    let restarted = with(
        spec(&[again]),
        &json!({"restartPolicy": "OnFailure", "volumes": [{"name": "state", "emptyDir": {}}]}),
    );
    let child_killed = format!("{BURN}; {ALLOCATE} || true; {BURN}");
    vec![
        Kind::of("compile", spec(&[container("build", COMPILE)])),
        Kind::of("short", spec(&[container("build", SHORT)])),
        Kind::of("init", init),
        Kind::of("pair", spec(&[container("build", COMPILE), container("service", SHORT)])),
        Kind::of("restarted", restarted),
        Kind::of("oom-first", spec(&[limited(container("build", &format!("exec {ALLOCATE}")), "64Mi")])),
        Kind::of("oom-child", spec(&[limited(container("build", &child_killed), "64Mi")])),
        Kind::of("brief", spec(&[container("build", BRIEF)])),
        Kind::of("non-root", spec(&[as_user(1000)])),
        Kind::of("other-user", spec(&[as_user(12345)])),
    ]
}

/// As many pods as a busy node has at once.
pub(super) fn crowd() -> Vec<Kind> {
    let burn = format!("{BURN}; sleep 3");
    (0..30).map(|number| Kind::of(&format!("crowd-{number}"), spec(&[container("build", &burn)]))).collect()
}
