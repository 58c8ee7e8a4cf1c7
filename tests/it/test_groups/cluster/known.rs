//! Known failures in a cluster, by name. Any other failure is an error, and so is a known failure that does not occur.

use std::collections::BTreeMap;

/// How reliably a case fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Always,
    /// Depends on timing, for example on the moment of a pass.
    Sometimes,
}

/// Cases and the reasons for their failure. A name that ends in `*` matches all cases with that prefix.
const KNOWN: &[(&str, Fails, &str)] = &[
    ("node-proc-brief", Fails::Sometimes, SHORT_LIVED),
    ("node-proc-oom-first", Fails::Sometimes, SHORT_LIVED),
    ("node-proc-oom-child", Fails::Sometimes, SHORT_LIVED),
    ("node-proc-init", Fails::Sometimes, BETWEEN_PASSES),
    ("node-proc-pair", Fails::Sometimes, BETWEEN_PASSES),
    ("node-proc-restarted", Fails::Sometimes, BETWEEN_PASSES),
    ("native-brief", Fails::Sometimes, LAST_MOMENTS),
    ("native-executed", Fails::Sometimes, LAST_MOMENTS),
    ("native-init", Fails::Sometimes, LAST_MOMENTS),
    ("native-oom-first", Fails::Sometimes, LAST_MOMENTS),
    ("native-restarted", Fails::Sometimes, LAST_MOMENTS),
    ("same-user-non-root", Fails::Sometimes, LAST_MOMENTS),
    ("same-user-other-user", Fails::Sometimes, LAST_MOMENTS),
    ("classic-brief", Fails::Sometimes, LAST_MOMENTS),
    ("classic-executed", Fails::Sometimes, LAST_MOMENTS),
    ("classic-init", Fails::Always, AFTER_INIT),
    ("classic-oom-first", Fails::Sometimes, LAST_MOMENTS),
    ("classic-pair", Fails::Sometimes, FIRST_TO_END),
    ("classic-restarted", Fails::Sometimes, FIRST_TO_END),
    ("advice-*", Fails::Sometimes, SAMPLED_MEMORY),
];
/// A pod that no pass sees belongs to no run, because its environment is not read.
const SHORT_LIVED: &str = "jobs that live for less than a pass or two are not followed";
/// Their parent process, the runtime's shim, is the same for all containers of the pod.
const BETWEEN_PASSES: &str =
    "without eBPF containers of one pod that end between two passes are not told apart";
/// The kubelet starts ordinary containers after all init containers have ended.
const AFTER_INIT: &str = "a classic sidecar is not there yet while init containers run";
const FIRST_TO_END: &str = "a classic sidecar is stopped by the first container of the job that ends";
/// The parent of a container's first process, and of a process that is executed in it, is the runtime's shim. It is invisible to
/// a sidecar, so no visible process inherits their times.
const LAST_MOMENTS: &str =
    "a sidecar of another user loses what ran since its last look when a process of the runtime ends";
const SAMPLED_MEMORY: &str =
    "memory between two passes, and kills in a container that is gone at the next, are not seen";

/// The errors found, by case.
#[derive(Debug, Default)]
pub(super) struct Cases {
    wrong: BTreeMap<String, Vec<String>>,
}

impl Cases {
    /// Records the errors of a case; none if it is right.
    pub(super) fn take(&mut self, case: &str, wrong: Vec<String>) {
        assert!(self.wrong.insert(case.to_owned(), wrong).is_none(), "two cases are called {case}");
    }

    /// Fails if an unknown case fails, or if a case that always fails does not.
    #[track_caller]
    pub(super) fn finish(self) {
        let mut unexpected = Vec::new();
        for (case, wrong) in &self.wrong {
            match (known(case), wrong.is_empty()) {
                (None, true) => println!("right: {case}"),
                (None, false) => unexpected.push(format!("{case}: {}", wrong.join("; "))),
                (Some((_, why)), false) => println!("known to fail: {case}: {} ({why})", wrong.join("; ")),
                (Some((Fails::Always, why)), true) => {
                    unexpected.push(format!("{case}: right now; it is no longer true that {why}"));
                }
                (Some((Fails::Sometimes, why)), true) => println!("right this time: {case} ({why})"),
            }
        }
        assert!(unexpected.is_empty(), "{unexpected:#?}");
    }
}

fn known(case: &str) -> Option<(Fails, &'static str)> {
    let is_meant = |name: &str| name.strip_suffix('*').map_or(name == case, |begin| case.starts_with(begin));
    KNOWN.iter().find(|(name, ..)| is_meant(name)).map(|(_, fails, why)| (*fails, *why))
}
