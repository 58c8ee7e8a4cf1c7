//! What is known to fail in a cluster, by name: whatever else fails is an error, and so is one of these that does not.

use std::collections::BTreeMap;

/// How surely it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Always,
    /// By chance, as when a sampler looks.
    Sometimes,
}

/// Cases and why they fail.
const KNOWN: &[(&str, Fails, &str)] = &[
    ("node-ebpf-brief", Fails::Sometimes, SHORT_LIVED),
    ("node-ebpf-oom-first", Fails::Sometimes, SHORT_LIVED),
    ("node-proc-brief", Fails::Sometimes, SHORT_LIVED),
    ("node-proc-oom-first", Fails::Sometimes, SHORT_LIVED),
    ("node-proc-init", Fails::Sometimes, SHARED_REAPER),
    ("node-proc-pair", Fails::Sometimes, SHARED_REAPER),
    ("node-proc-restarted", Fails::Sometimes, SHARED_REAPER),
];
/// The parent of the first processes of all containers of a pod is one: the runtime's shim.
const SHARED_REAPER: &str =
    "without eBPF what several containers used in one interval is shared out among them";
/// A pod that no pass sees is nobody's: its environment is not read.
const SHORT_LIVED: &str = "jobs that live for less than a pass or two are not followed";

/// What was found wrong, case by case.
#[derive(Debug, Default)]
pub(super) struct Cases {
    wrong: BTreeMap<String, Vec<String>>,
}

impl Cases {
    /// Takes what is wrong with a case: nothing, if it is as it should be.
    pub(super) fn take(&mut self, case: &str, wrong: Vec<String>) {
        assert!(self.wrong.insert(case.to_owned(), wrong).is_none(), "two cases are called {case}");
    }

    /// Fails if a case fails that is not known to, or does not fail that is.
    #[track_caller]
    pub(super) fn finish(self) {
        let mut unexpected = Vec::new();
        for (case, wrong) in &self.wrong {
            let known = KNOWN.iter().find(|(name, ..)| name == case);
            match (known, wrong.is_empty()) {
                (None, true) => println!("right: {case}"),
                (None, false) => unexpected.push(format!("{case}: {}", wrong.join("; "))),
                (Some((.., why)), false) => println!("known to fail: {case}: {} ({why})", wrong.join("; ")),
                (Some((_, Fails::Always, why)), true) => {
                    unexpected.push(format!("{case}: right now; it is no longer true that {why}"));
                }
                (Some((.., why)), true) => println!("right this time: {case} ({why})"),
            }
        }
        assert!(unexpected.is_empty(), "{unexpected:#?}");
    }
}
