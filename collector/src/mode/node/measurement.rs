//! The measurement of a node: one pass after another, split by pod.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tracing::debug;

use super::evidence::members;
use super::job_env::JobEnvironments;
use super::job_run::{JobEnd, JobRun};
use super::pod::{PodContext, PodKey};
use super::pods::{PodNumber, Pods};
use crate::config::{Config, NodeConfig};
use crate::deliver::push::Pusher;
use crate::deliver::recover::Recovered;
use crate::deliver::spool::Spool;
use crate::engine::cgroup_stats::CgroupAccess;
use crate::engine::recorder::RunContext;
use crate::engine::sampler::Sampler;
use crate::host::Moment;
use crate::sample::cgroupfs::Hierarchies;
use crate::sample::pod_logs::PodLogs;

/// How many descriptors cgroup files may use; processes have the others.
const CGROUP_DESCRIPTORS: u64 = 16_384;

/// The sampler of a node and its pods.
#[derive(Debug)]
pub(super) struct NodeMeasurement {
    config: Rc<Config>,
    node: NodeConfig,
    pusher: Option<Pusher>,
    spool: Option<Spool>,
    access: Rc<CgroupAccess>,
    environments: JobEnvironments,
    pub(super) sampler: Sampler,
    pub(super) pods: Pods,
    pub(super) context: RunContext,
    pub(super) totals: Totals,
}

/// What the node's metrics count.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) passes: u64,
    pub(super) missed_passes: u64,
    pub(super) lost_records: u64,
    pub(super) unattributed_ns: u64,
    pub(super) processes: usize,
    pub(super) last_pass: Duration,
    pub(super) forbidden: u64,
    pub(super) ended: BTreeMap<JobEnd, u64>,
}

impl NodeMeasurement {
    /// Starts with the pass that the others are compared with. `recovered` are runs to continue if their pods still exist;
    /// returns the others.
    pub(super) fn start(
        config: &Rc<Config>,
        node: &NodeConfig,
        pusher: Option<Pusher>,
        spool: Option<Spool>,
        open_files_limit: u64,
        recovered: HashMap<PodKey, Vec<Recovered>>,
    ) -> anyhow::Result<(Self, Vec<Recovered>)> {
        let for_processes = open_files_limit - (open_files_limit / 2).min(CGROUP_DESCRIPTORS);
        let hierarchies = Hierarchies::find(&config.proc_path, config.cgroup_path.as_deref());
        let (sampler, info) = Sampler::start(config, "node", None, for_processes, &hierarchies)?;
        let (proc_path, endings) = (config.proc_path.clone(), sampler.endings());
        let access = Rc::new(CgroupAccess { hierarchies, proc_path, endings });
        let logs = PodLogs::at(&node.pod_logs_path);
        let mut measurement = Self {
            config: Rc::clone(config),
            node: node.clone(),
            pusher,
            spool,
            access,
            environments: JobEnvironments::new(node.variables.clone()),
            sampler,
            pods: Pods::new(config.process_map.clone(), logs, recovered),
            context: RunContext::new(config, info),
            totals: Totals::default(),
        };
        let ended = measurement.pass(false);
        let ended = ended.with_context(|| format!("cannot list {}", config.proc_path.display()))?;
        debug_assert!(ended.is_empty(), "nothing ends in the first pass");
        let left = measurement.pods.end_beginning();
        Ok((measurement, left))
    }

    /// Makes a pass. Returns the jobs that are over, with the numbers of their pods.
    pub(super) fn pass(&mut self, last: bool) -> std::io::Result<Vec<(PodNumber, JobRun, JobEnd)>> {
        let Self { sampler, pods, totals, environments, .. } = self;
        let reading = sampler.read(pods)?;
        let mut pass = sampler.account(&reading, pods, last);
        environments.hear(std::mem::take(&mut pass.begun));
        let (members, steps) = members(&reading, pods, environments, sampler.table());
        pass.steps = Rc::new(steps);
        totals.missed_passes += pass.cost.missed_samples;
        totals.lost_records += pass.cost.lost_records;
        let (shares, unattributed_ns) = pods.share_out(pass);
        totals.unattributed_ns += unattributed_ns;
        let context = PodContext {
            config: &self.config,
            node: &self.node,
            pusher: self.pusher.as_ref(),
            spool: self.spool.as_ref(),
            access: &self.access,
            clock: sampler.clock(),
            now: reading.at.boot,
        };
        let mut ended = Vec::new();
        for (number, share) in shares {
            let Some(pod) = pods.get_mut(number) else { continue };
            let seen = members.get(&number).map_or(&[][..], Vec::as_slice);
            ended.extend(pod.advance(share, seen, &context).into_iter().map(|(job, end)| (number, job, end)));
        }
        totals.passes += 1;
        totals.processes = reading.processes.len();
        totals.last_pass = Moment::now().monotonic.saturating_sub(reading.at.monotonic);
        totals.forbidden = environments.forbidden();
        for (_, _, end) in &ended {
            *totals.ended.entry(*end).or_default() += 1;
        }
        debug!(
            pass = totals.passes,
            processes = totals.processes,
            pods = pods.iter().count(),
            ended = ended.len(),
            took = ?totals.last_pass,
            "pass"
        );
        Ok(ended)
    }
}
