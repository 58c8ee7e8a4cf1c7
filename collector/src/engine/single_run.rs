//! The measurement of one run, shared by the sidecar and run modes.

use std::io;
use std::rc::Rc;

use anyhow::Context;
use tracing::{debug, info};

use super::cgroup_stats::{CgroupAccess, CgroupStats};
use super::environments::ProcessEnvironments;
use super::locator::RunLocator;
use super::pass::Cost;
use super::reading::Reading;
use super::recorder::{RunContext, RunRecorder, RunSnapshot};
use super::sampler::Sampler;
use crate::accumulate::steps::StepNames;
use crate::attribute::ContainerIndex;
use crate::attribute::ci_job::step;
use crate::config::Config;
use crate::deliver::checkpoint::Checkpoint;
use crate::sample::cgroupfs::Hierarchies;

/// A sampler and the recorder of its one run.
#[derive(Debug)]
pub(crate) struct SingleRun<L> {
    pub(crate) sampler: Sampler,
    locator: L,
    recorder: RunRecorder,
    context: RunContext,
    /// The steps that the environments of processes name.
    steps: ProcessEnvironments<Option<Rc<str>>>,
}

impl<L: RunLocator> SingleRun<L> {
    /// Starts with the baseline pass, also for a run that continues from a checkpoint.
    pub(crate) fn start(
        config: &Config,
        mut locator: L,
        open_files: u64,
        recovered: Option<Checkpoint>,
    ) -> anyhow::Result<Self> {
        let hierarchies = Hierarchies::find(&config.proc_path, config.cgroup_path.as_deref());
        let (mut sampler, info) = Sampler::start(config, L::MODE, locator.root(), open_files, &hierarchies)?;
        let (proc_path, endings) = (config.proc_path.clone(), sampler.endings());
        let mut cgroups = CgroupStats::new(Rc::new(CgroupAccess { hierarchies, proc_path, endings }));
        if locator.root().is_some() {
            cgroups.share_own(&config.proc_path);
        }
        let clock = sampler.clock();
        let now = clock.started.boot;
        let is_new = recovered.is_none();
        let mut recorder = match recovered {
            None => RunRecorder::begin(config, cgroups, clock, clock.began_ticks, now),
            Some(checkpoint) => {
                let is_sound = locator.containers_mut().restore(checkpoint.head.containers.clone());
                anyhow::ensure!(is_sound, "the containers of the checkpoint contradict each other");
                sampler.count_since(checkpoint.head.began_ticks);
                RunRecorder::resume(checkpoint, cgroups, config.interval, now)
            }
        };
        sampler.follow_memory(true);
        recorder.add_cost(Cost { collector_cpu: sampler.own_cpu(), ..Cost::default() });
        let mut run = Self {
            sampler,
            locator,
            recorder,
            context: RunContext::new(config, info),
            steps: ProcessEnvironments::new(),
        };
        run.first_pass(is_new).with_context(|| format!("cannot list {}", config.proc_path.display()))?;
        Ok(run)
    }

    fn first_pass(&mut self, is_new: bool) -> io::Result<()> {
        let mut reading = self.read()?;
        let tick_seconds = self.sampler.clock().tick_seconds();
        // A run from a checkpoint has its beginning already. Processes from the time without a collector may belong to
        // another run.
        let earlier = is_new.then(|| self.locator.earlier_beginning(&reading, tick_seconds)).flatten();
        let Some(earlier) = earlier else {
            self.record(&reading, false);
            return Ok(());
        };
        let before = self.sampler.count_from_nothing(&mut reading, &earlier);
        self.recorder.begin_earlier(before, earlier.first_ticks);
        info!(
            seconds = before.as_secs_f64(),
            "all visible processes belong to this pod: their earlier usage counts"
        );
        let mut pass = self.sampler.account(&reading, &mut self.locator, false);
        pass.ages = earlier.ages;
        self.add(pass, &reading);
        Ok(())
    }

    /// Makes a pass.
    pub(crate) fn pass(&mut self, last: bool) -> io::Result<()> {
        let reading = self.read()?;
        self.record(&reading, last);
        Ok(())
    }

    /// The first half of a pass: reads the process table.
    pub(crate) fn read(&mut self) -> io::Result<Reading> {
        self.sampler.read(&mut self.locator)
    }

    /// The second half of a pass: accounts for the CPU time used and records it. `last`: no pass follows.
    pub(crate) fn record(&mut self, reading: &Reading, last: bool) {
        let pass = self.sampler.account(reading, &mut self.locator, last);
        self.add(pass, reading);
    }

    /// Adds the peak RSS of a command's largest process, as the kernel reports it. Passes may have missed it.
    pub(crate) fn add_memory_peak(&mut self, bytes: u64) {
        self.recorder.add_memory_peak(ContainerIndex(0), bytes);
    }

    fn add(&mut self, mut pass: super::pass::Pass, reading: &Reading) {
        let steps = self.named_steps(reading);
        let own = self.locator.own_container();
        let containers = self.locator.containers_mut();
        pass.apply_pod_rules(containers, own);
        pass.steps = Rc::new(steps);
        let (exits, elapsed_seconds) = (pass.exited.as_ref().map(Vec::len), pass.elapsed_seconds);
        let charged_ns = pass.charges.iter().map(|charge| charge.ns).sum::<u64>();
        self.recorder.add(pass, containers);
        let lacks_memory = self.recorder.lacks_memory(containers);
        self.sampler.follow_memory(lacks_memory);
        debug!(
            pass = self.snapshot().accumulator().passes(),
            processes = reading.processes.len(),
            exits,
            charged_ns,
            elapsed_seconds,
            "pass"
        );
    }

    /// The steps that the environments of processes name, as far as they can be read.
    fn named_steps(&mut self, reading: &Reading) -> StepNames {
        let Self { steps, sampler, .. } = self;
        let table = sampler.table();
        let named = reading.located().filter_map(|(process, _)| {
            let named = steps.of(process, table, None, |environment| step(environment).map(Rc::from));
            Some((process.key, named?))
        });
        let named = named.collect();
        steps.end_pass();
        named
    }

    /// The run up to the last pass.
    pub(crate) fn snapshot(&self) -> RunSnapshot<'_> {
        RunSnapshot {
            recorder: &self.recorder,
            containers: self.locator.containers(),
            context: &self.context,
        }
    }
}
