//! What each step of a job used.
//!
//! A process belongs to the step that its environment names, otherwise to its parent's. What belongs to no step, such as the
//! runner itself, is not in any.

use std::rc::Rc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{Exited, Present};
use crate::attribute::cpu::Charge;
use crate::sample::process_table::ProcessKey;

/// At most this many steps of a run are told apart. Use in later ones belongs to no step.
const MAX_STEPS: usize = 256;
/// How many ancestors of a process are searched for its step.
const MAX_ANCESTORS: usize = 256;

/// The steps that processes name by themselves.
pub type StepNames = FxHashMap<ProcessKey, Rc<str>>;

/// One step over the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRun {
    /// Its name.
    pub name: String,
    /// When the first process of it began, in seconds since the start of the run.
    pub began_seconds: f64,
    /// When a process of it was last seen.
    pub ended_seconds: f64,
    /// CPU time of its processes.
    pub cpu_ns: u64,
    /// Highest sum of their resident set sizes.
    pub peak_rss_bytes: u64,
    /// Number of its processes.
    pub processes: u64,
}

/// All steps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Steps {
    all: Vec<StepRun>,
    /// The steps of processes that are there, or were at the last look.
    of: FxHashMap<ProcessKey, u16>,
}

/// What a look at the processes says about steps.
#[derive(Debug, Clone, Copy)]
pub struct StepLook<'a> {
    /// Seconds from the start of the run to this look.
    pub at_seconds: f64,
    /// The steps that processes name.
    pub names: &'a StepNames,
    /// The processes seen.
    pub present: &'a [Present],
    /// Records of processes that ended since the last look.
    pub exited: &'a [Exited],
    /// CPU time used since the last look.
    pub charges: &'a [Charge],
}

impl Steps {
    /// Adds a look.
    pub fn look(&mut self, look: &StepLook<'_>) {
        if look.names.is_empty() && self.of.is_empty() {
            return;
        }
        let before = std::mem::take(&mut self.of);
        self.assign(look, &before);
        let ended = self.ended(look, &before);
        let step_of = |key: &ProcessKey| {
            self.of.get(key).or_else(|| before.get(key)).or_else(|| ended.get(key)).copied()
        };
        for charge in look.charges {
            if let Some(step) = step_of(&charge.process) {
                self.all[usize::from(step)].cpu_ns += charge.ns;
            }
        }
        let mut rss: FxHashMap<u16, u64> = FxHashMap::default();
        for process in look.present {
            let Some(step) = self.of.get(&process.key) else { continue };
            *rss.entry(*step).or_default() += process.rss_bytes;
            let run = &mut self.all[usize::from(*step)];
            run.ended_seconds = run.ended_seconds.max(look.at_seconds);
            if !before.contains_key(&process.key) {
                run.processes += 1;
                run.began_seconds = run.began_seconds.min((look.at_seconds - process.age_seconds).max(0.0));
            }
        }
        for (step, bytes) in rss {
            let run = &mut self.all[usize::from(step)];
            run.peak_rss_bytes = run.peak_rss_bytes.max(bytes);
        }
        for (key, step) in &ended {
            // The others were counted when they were seen.
            self.all[usize::from(*step)].processes += u64::from(!before.contains_key(key));
        }
        // The final record of such a process comes later. It is the same process.
        for process in look.exited.iter().filter(|process| !process.last) {
            self.of.extend(ended.get(&process.key).map(|step| (process.key, *step)));
        }
    }

    /// Finds the step of each process that is there.
    fn assign(&mut self, look: &StepLook<'_>, before: &FxHashMap<ProcessKey, u16>) {
        let at_pid: FxHashMap<u32, usize> =
            look.present.iter().enumerate().map(|(at, process)| (process.key.pid, at)).collect();
        // `None`: not known yet.
        let mut found: Vec<Option<Option<u16>>> = vec![None; look.present.len()];
        let mut path = Vec::new();
        for at in 0..look.present.len() {
            let mut next = Some(at);
            let mut above = None;
            while let Some(at) = next {
                let process = &look.present[at];
                if let Some(known) = found[at] {
                    above = known;
                    break;
                }
                if path.len() >= MAX_ANCESTORS || path.contains(&at) {
                    break;
                }
                path.push(at);
                let own = look.names.get(&process.key).and_then(|name| self.step(name, look.at_seconds));
                above = own.or_else(|| before.get(&process.key).copied());
                if above.is_some() {
                    break;
                }
                next = at_pid.get(&process.parent_pid).copied();
            }
            for at in path.drain(..) {
                found[at] = Some(above);
            }
        }
        for (process, step) in look.present.iter().zip(found) {
            if let Some(step) = step.flatten() {
                self.of.insert(process.key, step);
            }
        }
    }

    /// The steps of processes that ended, by themselves or by their ancestors, which may have ended, too.
    fn ended(&self, look: &StepLook<'_>, before: &FxHashMap<ProcessKey, u16>) -> FxHashMap<ProcessKey, u16> {
        let mut by_pid: FxHashMap<u32, u16> = before.iter().map(|(key, step)| (key.pid, *step)).collect();
        by_pid.extend(self.of.iter().map(|(key, step)| (key.pid, *step)));
        let parents: FxHashMap<u32, u32> =
            look.exited.iter().map(|process| (process.key.pid, process.parent_pid)).collect();
        let mut steps = FxHashMap::default();
        for process in look.exited {
            let known = self.of.get(&process.key).or_else(|| before.get(&process.key)).copied();
            let mut step = known;
            let mut above = process.parent_pid;
            for _ in 0..MAX_ANCESTORS {
                if step.is_some() {
                    break;
                }
                step = by_pid.get(&above).copied();
                match parents.get(&above) {
                    Some(next) => above = *next,
                    None => break,
                }
            }
            if let Some(step) = step {
                steps.insert(process.key, step);
            }
        }
        steps
    }

    /// The number of a step; `None` if there are too many.
    fn step(&mut self, name: &str, at_seconds: f64) -> Option<u16> {
        let known = self.all.iter().position(|step| step.name == name);
        let at = known.or_else(|| {
            (self.all.len() < MAX_STEPS).then(|| {
                self.all.push(StepRun {
                    name: name.to_owned(),
                    began_seconds: at_seconds,
                    ended_seconds: at_seconds,
                    cpu_ns: 0,
                    peak_rss_bytes: 0,
                    processes: 0,
                });
                self.all.len() - 1
            })
        })?;
        u16::try_from(at).ok()
    }

    /// The steps so far, in the order of their beginnings.
    pub fn all(&self) -> Vec<&StepRun> {
        let mut all: Vec<&StepRun> = self.all.iter().collect();
        all.sort_by(|one, other| one.began_seconds.total_cmp(&other.began_seconds));
        all
    }

    /// Whether the data of a checkpoint is possible.
    pub(super) fn is_sound(&self) -> bool {
        let count = self.all.len();
        let times = |step: &StepRun| step.began_seconds.is_finite() && step.ended_seconds.is_finite();
        count <= MAX_STEPS
            && self.all.iter().all(times)
            && self.of.values().all(|step| usize::from(*step) < count)
            && super::adds_up(self.all.iter().map(|step| step.cpu_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::cpu::Source;
    use crate::sample::pid_stat::Comm;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: 1 }
    }

    fn present(pid: u32, parent_pid: u32, rss_bytes: u64) -> Present {
        let (comm, container, nested) = (Comm::new(b"sh"), None, None);
        Present { key: key(pid), parent_pid, comm, container, nested, rss_bytes, age_seconds: 0.5 }
    }

    fn exited(pid: u32, parent_pid: u32) -> Exited {
        Exited {
            key: key(pid),
            comm: Comm::new(b"cc1"),
            container: None,
            nested: None,
            parent_pid,
            peak_rss_bytes: 0,
            lived_seconds: 0.1,
            from_ns: 0,
            until_ns: 1,
            disk_read_bytes: 0,
            disk_written_bytes: 0,
            last: true,
        }
    }

    fn charge(pid: u32, ns: u64) -> Charge {
        Charge { container: None, process: key(pid), ns, source: Source::Living }
    }

    fn names(all: &[(u32, &str)]) -> StepNames {
        all.iter().map(|(pid, name)| (key(*pid), Rc::from(*name))).collect()
    }

    fn told(steps: &Steps) -> Vec<(&str, u64, u64, u64)> {
        let told = |step: &StepRun| (step.cpu_ns, step.peak_rss_bytes, step.processes);
        steps
            .all()
            .into_iter()
            .map(|step| {
                let (cpu, rss, processes) = told(step);
                (step.name.as_str(), cpu, rss, processes)
            })
            .collect()
    }

    #[test]
    fn processes_belong_to_the_step_that_is_nearest_above_them() {
        let mut steps = Steps::default();
        // A runner without a step, a step with a child and, in it, another step.
        let later = Present { age_seconds: 0.2, ..present(4, 3, 8) };
        let there = [present(1, 0, 100), later, present(3, 2, 4), present(2, 1, 2)];
        steps.look(&StepLook {
            at_seconds: 1.0,
            names: &names(&[(2, "build"), (4, "link")]),
            present: &there,
            exited: &[],
            charges: &[charge(1, 1000), charge(2, 10), charge(3, 20), charge(4, 40)],
        });
        assert_eq!(told(&steps), [("build", 30, 6, 2), ("link", 40, 8, 1)]);
        // The step's last processes end, one of which no look saw; a process of the next step begins.
        steps.look(&StepLook {
            at_seconds: 3.0,
            names: &names(&[(9, "test")]),
            present: &[present(1, 0, 100), present(9, 1, 7)],
            exited: &[exited(5, 3), exited(3, 2), exited(2, 1), exited(6, 1)],
            charges: &[charge(5, 5), charge(2, 1), charge(9, 9), charge(6, 1000)],
        });
        assert_eq!(told(&steps), [("build", 36, 6, 3), ("link", 40, 8, 1), ("test", 9, 7, 1)]);
        let [build, _, test] = steps.all()[..] else { panic!("{steps:?}") };
        assert_eq!((build.began_seconds, build.ended_seconds), (0.5, 1.0));
        assert_eq!((test.began_seconds, test.ended_seconds), (2.5, 3.0));
    }

    fn look<'a>(names: &'a StepNames, present: &'a [Present]) -> StepLook<'a> {
        StepLook { at_seconds: 1.0, names, present, exited: &[], charges: &[] }
    }

    #[test]
    fn a_process_whose_final_record_comes_later_counts_once() {
        let mut steps = Steps::default();
        let (none, runner) = (StepNames::default(), [present(1, 0, 1)]);
        let both = [runner[0], present(2, 1, 1)];
        steps.look(&look(&names(&[(2, "build")]), &both));
        let ended = [exited(2, 1), exited(3, 2)].map(|record| Exited { last: false, ..record });
        steps.look(&StepLook { exited: &ended, ..look(&none, &runner) });
        let last = [2, 3].map(|pid| exited(pid, 1));
        steps.look(&StepLook { exited: &last, charges: &[charge(3, 7)], ..look(&none, &runner) });
        assert_eq!(told(&steps), [("build", 7, 1, 2)]);
    }

    #[test]
    fn a_process_keeps_its_step_when_its_parent_ends_and_there_are_only_so_many_steps() {
        let mut steps = Steps::default();
        let none = StepNames::default();
        steps.look(&look(&names(&[(2, "build")]), &[present(2, 1, 1), present(3, 2, 1)]));
        steps.look(&look(&none, &[present(3, 1, 5)]));
        assert_eq!(told(&steps), [("build", 0, 5, 2)]);
        let many: Vec<(u32, String)> = (10..1000).map(|pid| (pid, format!("step {pid}"))).collect();
        let many: Vec<(u32, &str)> = many.iter().map(|(pid, name)| (*pid, name.as_str())).collect();
        let there: Vec<Present> = many.iter().map(|(pid, _)| present(*pid, 1, 1)).collect();
        steps.look(&look(&names(&many), &there));
        assert_eq!(steps.all().len(), MAX_STEPS);
        assert!(steps.is_sound());
    }
}
