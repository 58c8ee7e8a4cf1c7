//! Splits a pass of a pod by job. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::membership::{JobId, Membership};
use crate::accumulate::{Exited, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::cpu::{Charge, Source};
use crate::engine::pass::{Cost, Pass};
use crate::sample::process_table::ProcessKey;

/// How a pass is split.
#[derive(Debug)]
pub(super) struct Sharing<'a> {
    pub(super) membership: &'a Membership,
    /// Every job of the pod.
    pub(super) jobs: &'a [JobId],
    /// The running jobs. They share the usage of processes without a job, and of processes left by jobs that do not run.
    pub(super) running: &'a [JobId],
    /// Where the use of what belongs to no job is reported, if jobs have shared this pod.
    pub(super) overhead: Option<ContainerIndex>,
    /// The jobs that ran before another began in this pass, and the start of that one's first process. They get the usage
    /// of processes that started earlier.
    pub(super) before: (&'a [JobId], u64),
}

/// A job's share of a pass.
#[derive(Debug, Default)]
pub(super) struct JobShare {
    pub(super) pass: Pass,
    /// Containers whose figures are not only this job's.
    pub(super) not_its_own: BTreeSet<ContainerIndex>,
}

impl Sharing<'_> {
    /// Returns the share of each job that has one. `containers`: how many the pod has. Nothing is counted twice, and
    /// nothing is lost while a job runs.
    pub(super) fn share_out(&self, pass: Pass, containers: usize) -> BTreeMap<JobId, JobShare> {
        let cost = Cost {
            collector_cpu: pass.cost.collector_cpu / u32::try_from(self.running.len().max(1)).unwrap_or(1),
            ..pass.cost
        };
        let mut shares =
            Shares { empty: pass.without_processes(cost), of: BTreeMap::new(), users: BTreeMap::new() };
        for job in self.running {
            shares.of(*job);
        }
        let ended = self
            .membership
            .jobs_of_ended(pass.exited.iter().flatten().map(|process| (process.key, process.parent_pid)));
        for process in pass.present {
            let own = self
                .membership
                .job_of(process.key)
                .or_else(|| self.by_nested(process.container, process.nested));
            if let Some(job) = own.filter(|job| self.running.contains(job)) {
                shares.present(job, process);
                continue;
            }
            let all = self.sharers(process.key);
            let rss_bytes = process.rss_bytes / all.len().max(1) as u64;
            for job in all {
                shares.uses(*job, process.container);
                let container = self.overhead.or(process.container);
                shares.present(*job, Present { container, rss_bytes, ..process });
            }
        }
        for process in pass.exited.into_iter().flatten() {
            let own = ended.get(&process.key).copied();
            let own = own.or_else(|| self.by_nested(process.container, process.nested));
            if let Some(job) = own.filter(|job| self.jobs.contains(job)) {
                shares.exited(job, process);
                continue;
            }
            // A process cannot be split.
            let all = self.sharers(process.key);
            if let Some(job) = all.get(process.key.pid as usize % all.len().max(1)) {
                shares.uses(*job, process.container);
                shares.exited(*job, Exited { container: self.overhead.or(process.container), ..process });
            }
        }
        for charge in pass.charges {
            let own = ended.get(&charge.process).copied().or_else(|| self.membership.job_of(charge.process));
            // The other jobs share the usage of processes that a job left behind when it ended.
            let counts = |job: &JobId| match charge.source {
                Source::Living => self.running.contains(job),
                Source::Exit | Source::Reaped => self.jobs.contains(job),
            };
            match own.filter(counts) {
                Some(job) => shares.charge(job, charge),
                None => shares.divide(self.sharers(charge.process), charge, self.overhead),
            }
        }
        let Shares { mut of, users, .. } = shares;
        if self.running.len() > 1 || self.overhead.is_some() {
            for (job, share) in &mut of {
                let is_its_own = |index: &ContainerIndex| {
                    users.get(index).is_some_and(|users| users.len() == 1 && users.contains(job))
                };
                let all = (0..containers as u32).map(ContainerIndex);
                share.not_its_own = all.filter(|index| !is_its_own(index)).collect();
            }
        }
        of
    }
    /// The jobs that share the usage of a process without a job.
    fn sharers(&self, process: ProcessKey) -> &[JobId] {
        let (before, since_ticks) = self.before;
        if process.start_ticks < since_ticks { before } else { self.running }
    }

    fn by_nested(&self, container: Option<ContainerIndex>, nested: Option<u32>) -> Option<JobId> {
        self.membership.job_of_nested(container?, nested?)
    }
}

/// The shares so far.
struct Shares {
    empty: Pass,
    of: BTreeMap<JobId, JobShare>,
    /// The jobs that used each container.
    users: BTreeMap<ContainerIndex, BTreeSet<JobId>>,
}

impl Shares {
    fn of(&mut self, job: JobId) -> &mut Pass {
        let empty = &self.empty;
        let share = self.of.entry(job).or_insert_with(|| JobShare {
            pass: empty.without_processes(empty.cost),
            not_its_own: BTreeSet::new(),
        });
        &mut share.pass
    }

    fn uses(&mut self, job: JobId, container: Option<ContainerIndex>) {
        if let Some(container) = container {
            self.users.entry(container).or_default().insert(job);
        }
    }

    fn present(&mut self, job: JobId, process: Present) {
        self.uses(job, process.container);
        self.of(job).present.push(process);
    }

    fn exited(&mut self, job: JobId, process: Exited) {
        self.uses(job, process.container);
        self.of(job).exited.get_or_insert_default().push(process);
    }

    fn charge(&mut self, job: JobId, charge: Charge) {
        self.uses(job, charge.container);
        self.of(job).charges.push(charge);
    }

    /// Charges the same time to each job, and the remainder to the first ones.
    fn divide(&mut self, jobs: &[JobId], charge: Charge, overhead: Option<ContainerIndex>) {
        let count = jobs.len().max(1) as u64;
        for (at, job) in (0..).zip(jobs) {
            let ns = charge.ns / count + u64::from(at < charge.ns % count);
            if ns > 0 {
                self.uses(*job, charge.container);
                self.charge(*job, Charge { ns, container: overhead.or(charge.container), ..charge });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::membership::{KnownJobs, Member};
    use super::*;
    use crate::run_identity::RunIdentity;
    use crate::sample::pid_stat::Comm;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: u64::from(pid) }
    }

    fn member(pid: u32, parent_pid: u32, names: Option<&str>) -> Member {
        let run = names.map(|id| Rc::new(RunIdentity::new(Some("o"), "r", "w", "j", id, None).unwrap()));
        Member {
            key: key(pid),
            parent_pid,
            is_zombie: false,
            container: ContainerIndex(0),
            nested: None,
            run,
        }
    }

    fn present(pid: u32, container: u32) -> Present {
        let container = Some(ContainerIndex(container));
        Present {
            key: key(pid),
            parent_pid: 1,
            comm: Comm::new(b"x"),
            container,
            nested: None,
            rss_bytes: 100,
            age_seconds: 1.0,
        }
    }

    fn charge(pid: u32, container: u32, ns: u64, source: Source) -> Charge {
        Charge { container: Some(ContainerIndex(container)), process: key(pid), ns, source }
    }

    fn exited(pid: u32, parent_pid: u32) -> Exited {
        Exited {
            key: key(pid),
            parent_pid,
            comm: Comm::new(b"x"),
            container: Some(ContainerIndex(0)),
            nested: None,
            peak_rss_bytes: 1,
            lived_seconds: 0.1,
            from_ns: 0,
            until_ns: 0,
            disk_read_bytes: 0,
            disk_written_bytes: 0,
            last: true,
        }
    }

    /// Two jobs, 10 and 20, of a runner, 1.
    fn two() -> (Membership, [JobId; 2]) {
        let mut membership = Membership::default();
        let members = [member(1, 0, None), member(10, 1, Some("1")), member(20, 1, Some("2"))];
        let signs = membership.assign(&members, &KnownJobs::default());
        (membership, [signs.begun[0].id, signs.begun[1].id])
    }

    fn pass() -> Pass {
        Pass {
            present: vec![present(1, 0), present(10, 0), present(20, 1)],
            exited: Some(vec![exited(11, 10), exited(30, 1)]),
            charges: vec![
                charge(1, 0, 101, Source::Living),
                charge(10, 0, 1_000, Source::Living),
                charge(11, 0, 50, Source::Exit),
                charge(20, 1, 3_000, Source::Living),
            ],
            ..Pass::default()
        }
    }

    fn sum(share: &JobShare) -> u64 {
        share.pass.charges.iter().map(|charge| charge.ns).sum()
    }

    #[test]
    fn each_has_its_own_and_a_part_of_what_is_shared() {
        let (membership, jobs) = two();
        let sharing = Sharing {
            membership: &membership,
            jobs: &jobs,
            running: &jobs,
            overhead: None,
            before: (&[], 0),
        };
        let shares = sharing.share_out(pass(), 3);
        let [one, two] = jobs.map(|job| &shares[&job]);
        assert_eq!((sum(one), sum(two)), (1_000 + 50 + 51, 3_000 + 50));
        let rss = |share: &JobShare| share.pass.present.iter().map(|one| one.rss_bytes).sum::<u64>();
        assert_eq!((rss(one), rss(two)), (150, 150));
        let exits = |share: &JobShare| share.pass.exited.as_ref().unwrap().len();
        assert_eq!(exits(one) + exits(two), 2, "no process counts twice");
        // The second job shares container 0 with the runner and the first job; nothing shows whose container 2 is.
        assert_eq!(one.not_its_own, [0, 1, 2].map(ContainerIndex).into());
        assert_eq!(two.not_its_own, [0, 2].map(ContainerIndex).into());
    }

    #[test]
    fn what_does_not_run_gets_only_what_it_used_before() {
        let (membership, jobs) = two();
        let sharing = Sharing {
            membership: &membership,
            jobs: &jobs,
            running: &jobs[1..],
            overhead: None,
            before: (&[], 0),
        };
        let shares = sharing.share_out(pass(), 3);
        let [one, two] = jobs.map(|job| &shares[&job]);
        assert_eq!((sum(one), sum(two)), (50, 101 + 1_000 + 3_000));
        assert!(two.not_its_own.is_empty(), "it runs alone");
    }

    #[test]
    fn until_a_job_begins_what_is_shared_is_the_others() {
        let (membership, jobs) = two();
        let sharing = Sharing {
            membership: &membership,
            jobs: &jobs,
            running: &jobs,
            overhead: None,
            before: (&jobs[..1], 20),
        };
        let shares = sharing.share_out(pass(), 3);
        let [one, two] = jobs.map(|job| &shares[&job]);
        assert_eq!((sum(one), sum(two)), (1_000 + 50 + 101, 3_000));
        let first = Sharing { running: &jobs[1..], overhead: None, before: (&[], 20), ..sharing };
        assert_eq!(first.share_out(pass(), 3).values().map(sum).sum::<u64>(), 50 + 3_000, "nobody's yet");
    }
}
