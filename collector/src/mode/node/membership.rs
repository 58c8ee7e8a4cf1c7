//! Finds the job of its pod that each process belongs to. Pure.
//!
//! A process belongs to its parent's job, otherwise to the job that its environment names. A job's process cannot leave the
//! job by naming another one. A process without either is shared by the jobs of the pod, such as the runner or its
//! container engine.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::attribute::ContainerIndex;
use crate::run_identity::RunIdentity;
use crate::sample::process_table::ProcessKey;

/// How many ancestors of a process are searched for its job.
const MAX_ANCESTORS: usize = 256;

/// Number of a job in its pod. Numbers are not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct JobId(pub(super) u32);

/// A process of a pod that was seen in a pass, or that named its job and has ended since the last one.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: ProcessKey,
    pub(super) parent_pid: u32,
    /// Whether it has ended and its parent has not waited for it yet.
    pub(super) is_zombie: bool,
    pub(super) container: ContainerIndex,
    /// The container inside that one, if there is one.
    pub(super) nested: Option<u32>,
    /// The run that its environment names.
    pub(super) run: Option<Rc<RunIdentity>>,
}

/// The jobs of a pod so far.
#[derive(Debug, Default)]
pub(super) struct KnownJobs<'a> {
    pub(super) running: Vec<(JobId, &'a RunIdentity)>,
    /// Jobs that are over although some of their processes live on.
    pub(super) over: &'a [Rc<RunIdentity>],
}

/// A job that began since the last pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewJob {
    pub(super) id: JobId,
    pub(super) run: Rc<RunIdentity>,
    /// The start of its first process, in clock ticks since boot.
    pub(super) since_ticks: u64,
}

/// The job of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Belongs {
    job: JobId,
    /// Whether its own environment says so.
    by_itself: bool,
    /// Whether its only link to the job is that the job once started it.
    is_orphan: bool,
}

/// The processes of a pod, from pass to pass.
#[derive(Debug, Default)]
pub(super) struct Membership {
    now: FxHashMap<ProcessKey, Belongs>,
    /// Of the previous pass: some of these have ended since.
    before: FxHashMap<ProcessKey, Belongs>,
    by_pid: FxHashMap<u32, JobId>,
    /// Containers inside a container in which a single job has named itself.
    by_nested: FxHashMap<(ContainerIndex, u32), Option<JobId>>,
    last: u32,
}

/// The result of a pass for the jobs of a pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    pub(super) begun: Vec<NewJob>,
    /// For each job with a living process: whether one of them is still connected with the job's start.
    pub(super) alive: BTreeMap<JobId, bool>,
    /// Containers in which a job named itself, with the job.
    pub(super) at_home: Vec<(JobId, ContainerIndex)>,
}

impl Membership {
    /// A number for a job that was found in another way.
    pub(super) fn next_id(&mut self) -> JobId {
        self.last += 1;
        JobId(self.last)
    }

    /// Takes the processes of a pass.
    pub(super) fn assign(&mut self, members: &[Member], jobs: &KnownJobs<'_>) -> Signs {
        self.before = std::mem::take(&mut self.now);
        let at_pid: FxHashMap<u32, usize> =
            members.iter().enumerate().map(|(at, member)| (member.key.pid, at)).collect();
        let mut signs = Signs::default();
        // `None`: not known yet.
        let mut found: Vec<Option<Option<Belongs>>> = vec![None; members.len()];
        let mut path = Vec::new();
        for at in 0..members.len() {
            path.clear();
            let mut next = Some(at);
            let mut above = None;
            while let Some(at) = next {
                if let Some(known) = found[at] {
                    above = known;
                    break;
                }
                // A process cannot be its own ancestor, but it can look so because processes are read one after another.
                if path.len() >= MAX_ANCESTORS || path.contains(&at) {
                    break;
                }
                path.push(at);
                next = at_pid.get(&members[at].parent_pid).copied();
            }
            for at in path.drain(..).rev() {
                let member = &members[at];
                let own = match above {
                    Some(above) => Some(Belongs { by_itself: false, ..above }),
                    None => self.by_itself(member, jobs, &mut signs.begun),
                };
                found[at] = Some(own);
                above = own;
            }
        }
        self.by_pid.clear();
        self.by_pid.extend(self.before.iter().map(|(key, belongs)| (key.pid, belongs.job)));
        for (member, belongs) in members.iter().zip(found) {
            let Some(belongs) = belongs.flatten() else {
                self.by_pid.remove(&member.key.pid);
                continue;
            };
            self.now.insert(member.key, belongs);
            self.by_pid.insert(member.key.pid, belongs.job);
            if !member.is_zombie {
                *signs.alive.entry(belongs.job).or_default() |= !belongs.is_orphan;
            }
            if !belongs.by_itself {
                continue;
            }
            match member.nested {
                None => signs.at_home.push((belongs.job, member.container)),
                Some(nested) => {
                    let only = self.by_nested.entry((member.container, nested)).or_insert(Some(belongs.job));
                    *only = only.filter(|only| *only == belongs.job);
                }
            }
        }
        signs
    }

    /// The job of a process whose parent has none.
    fn by_itself(
        &mut self,
        member: &Member,
        jobs: &KnownJobs<'_>,
        begun: &mut Vec<NewJob>,
    ) -> Option<Belongs> {
        let is_running = |job: JobId| jobs.running.iter().any(|(id, _)| *id == job);
        let before = self.before.get(&member.key).copied().filter(|before| is_running(before.job));
        if let Some(before) = before.filter(|before| !before.by_itself) {
            return Some(Belongs { is_orphan: true, ..before });
        }
        let Some(run) = &member.run else {
            return before;
        };
        let known = jobs.running.iter().find(|(_, known)| run.may_be(known)).map(|(id, _)| *id);
        if let Some(job) = known {
            return Some(Belongs { job, by_itself: true, is_orphan: false });
        }
        if jobs.over.iter().any(|over| run.may_be(over)) {
            return None;
        }
        let since_ticks = member.key.start_ticks;
        let job = if let Some(new) = begun.iter_mut().find(|new| run.may_be(&new.run)) {
            new.since_ticks = new.since_ticks.min(since_ticks);
            new.id
        } else {
            let id = self.next_id();
            begun.push(NewJob { id, run: Rc::clone(run), since_ticks });
            id
        };
        Some(Belongs { job, by_itself: true, is_orphan: false })
    }

    /// The job of a process that was seen in this pass or the previous one.
    pub(super) fn job_of(&self, key: ProcessKey) -> Option<JobId> {
        self.now.get(&key).or_else(|| self.before.get(&key)).map(|belongs| belongs.job)
    }

    /// The job of a container inside another one.
    pub(super) fn job_of_nested(&self, container: ContainerIndex, nested: u32) -> Option<JobId> {
        self.by_nested.get(&(container, nested)).copied().flatten()
    }

    /// The jobs of processes that ended, each with the PID of its parent, which may have ended, too.
    pub(super) fn jobs_of_ended(
        &self,
        ended: impl Iterator<Item = (ProcessKey, u32)>,
    ) -> FxHashMap<ProcessKey, JobId> {
        let ended: Vec<(ProcessKey, u32)> = ended.collect();
        let parents: FxHashMap<u32, u32> = ended.iter().map(|(key, parent)| (key.pid, *parent)).collect();
        let mut found = FxHashMap::default();
        for (key, parent) in ended {
            let mut job = self.job_of(key);
            let mut above = parent;
            for _ in 0..MAX_ANCESTORS {
                if job.is_some() {
                    break;
                }
                job = self.by_pid.get(&above).copied();
                match parents.get(&above) {
                    Some(next) => above = *next,
                    None => break,
                }
            }
            if let Some(job) = job {
                found.insert(key, job);
            }
        }
        found
    }

    /// Gives all processes of a job to another one.
    pub(super) fn rename(&mut self, before: JobId, after: JobId) {
        for belongs in self.before.values_mut().filter(|belongs| belongs.job == before) {
            belongs.job = after;
        }
    }

    /// Forgets jobs that are over.
    pub(super) fn forget(&mut self, jobs: &FxHashSet<JobId>) {
        self.now.retain(|_, belongs| !jobs.contains(&belongs.job));
        self.before.retain(|_, belongs| !jobs.contains(&belongs.job));
        self.by_nested.retain(|_, job| job.is_none_or(|job| !jobs.contains(&job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str) -> Rc<RunIdentity> {
        Rc::new(RunIdentity::new(Some("o"), "r", "w", "j", id, None).unwrap())
    }

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: u64::from(pid) * 10 }
    }

    fn member(pid: u32, parent_pid: u32, names: Option<&str>) -> Member {
        let (container, nested) = (ContainerIndex(0), None);
        Member { key: key(pid), parent_pid, is_zombie: false, container, nested, run: names.map(run) }
    }

    fn known(running: &[(JobId, Rc<RunIdentity>)]) -> KnownJobs<'_> {
        KnownJobs { running: running.iter().map(|(id, run)| (*id, &**run)).collect(), over: &[] }
    }

    #[test]
    fn a_process_is_its_parents_else_what_it_says_else_shared() {
        let mut membership = Membership::default();
        // A runner that names no job, two jobs with their children, and a child of one that names the other.
        let members = [
            member(12, 11, None),
            member(1, 0, None),
            member(10, 1, Some("1")),
            member(11, 10, None),
            member(20, 1, Some("2")),
            member(21, 20, Some("1")),
        ];
        let signs = membership.assign(&members, &KnownJobs::default());
        let [first, second] = &signs.begun[..] else { panic!("{signs:?}") };
        assert_eq!((&first.run, first.since_ticks), (&run("1"), 100));
        assert_eq!((&second.run, second.since_ticks), (&run("2"), 200));
        let jobs = [1, 10, 11, 12, 20, 21].map(|pid| membership.job_of(key(pid)));
        let (one, two) = (Some(first.id), Some(second.id));
        assert_eq!(jobs, [None, one, one, one, two, two]);
        assert_eq!(signs.alive, BTreeMap::from([(first.id, true), (second.id, true)]));
    }

    #[test]
    fn what_ended_between_two_passes_is_its_ancestors() {
        let mut membership = Membership::default();
        let id = membership.assign(&[member(10, 1, Some("1"))], &KnownJobs::default()).begun[0].id;
        let ended = [(key(10), 1), (key(13), 12), (key(12), 10), (key(30), 1)];
        let found = membership.jobs_of_ended(ended.into_iter());
        assert_eq!(found.get(&key(13)), Some(&id));
        assert_eq!((found.get(&key(10)), found.get(&key(30))), (Some(&id), None));
        // They count for one more pass: their usage is known only after their end.
        let signs = membership.assign(&[], &known(&[(id, run("1"))]));
        assert_eq!((membership.job_of(key(10)), signs.alive.len()), (Some(id), 0));
        membership.assign(&[], &known(&[(id, run("1"))]));
        assert_eq!(membership.job_of(key(10)), None);
    }

    #[test]
    fn an_orphan_stays_its_jobs_and_keeps_no_job_alive() {
        let mut membership = Membership::default();
        let first = [member(10, 1, Some("1")), member(11, 10, None), member(12, 10, Some("1"))];
        let id = membership.assign(&first, &KnownJobs::default()).begun[0].id;
        let jobs = [(id, run("1"))];
        let orphan = |pid, names| member(pid, 1, names);
        let left = [orphan(11, None), orphan(12, Some("1"))];
        let signs = membership.assign(&left, &known(&jobs));
        assert_eq!(signs.alive, BTreeMap::from([(id, false)]));
        assert_eq!([11, 12].map(|pid| membership.job_of(key(pid))), [Some(id); 2]);
        // The job's next step.
        let signs = membership.assign(&[member(20, 1, Some("1"))], &known(&jobs));
        assert_eq!((signs.begun, signs.alive), (vec![], BTreeMap::from([(id, true)])));
        // A job that is over does not begin again with its leftover processes.
        let over = [run("1")];
        let signs = membership.assign(&left, &KnownJobs { running: vec![], over: &over });
        assert_eq!(signs, Signs::default());
    }

    #[test]
    fn a_process_that_names_another_job_later_is_that_ones() {
        let mut membership = Membership::default();
        let id = membership.assign(&[member(10, 1, Some("1"))], &KnownJobs::default()).begun[0].id;
        let jobs = [(id, run("1"))];
        let signs = membership.assign(&[member(10, 1, Some("2"))], &known(&jobs));
        assert_eq!(signs.begun[0].run, run("2"));
        assert_eq!(membership.job_of(key(10)), Some(signs.begun[0].id));
    }

    #[test]
    fn what_was_read_in_a_circle_ends() {
        let mut membership = Membership::default();
        let members = [member(10, 11, None), member(11, 10, Some("1")), member(5, 5, None)];
        let signs = membership.assign(&members, &KnownJobs::default());
        assert_eq!(signs.begun.len(), 1);
    }
}
