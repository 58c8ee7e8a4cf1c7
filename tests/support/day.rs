//! A day of a hundred containers, as the checkpoint of a collector that was just killed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use collector::accumulate::{Accumulator, PassFacts, Present};
use collector::attribute::ContainerIndex;
use collector::attribute::conserved::{Charge, Source};
use collector::attribute::containers::{Containers, Place};
use collector::config::RunIdentity;
use collector::config::process_map::ProcessMap;
use collector::deliver::checkpoint::{Encoder, Head};
use collector::host::Instant;
use collector::sample::boot_id;
use collector::sample::bpf::CgroupIds;
use collector::sample::pid_stat::Comm;
use collector::sample::table::ProcessKey;
use wire::CollectorInfo;

/// Containers of the day.
pub const CONTAINERS: u32 = 100;
/// The most samples of which percentiles are exact: what takes the longest to sort.
pub const LARGEST_EXACT: u32 = 16_384;
/// A pass a second.
pub const WHOLE: u32 = 86_400;

/// Whose run it is, from the variables of a CI system.
///
/// # Panics
/// If one is missing.
pub fn identity(variables: &[(&str, &str)]) -> RunIdentity {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    let of = |name: &str| variables[name].to_owned();
    RunIdentity {
        organization: of("GITHUB_REPOSITORY_OWNER"),
        repository: of("GITHUB_REPOSITORY"),
        workflow: of("GITHUB_WORKFLOW"),
        job: of("GITHUB_JOB"),
        run_id: of("GITHUB_RUN_ID"),
        run_attempt: None,
    }
}

/// What a run of 24 hours comes to.
#[derive(Debug)]
pub struct Day {
    containers: Containers,
    accumulator: Accumulator,
    step: f64,
}

impl Day {
    /// With so many passes.
    pub fn of(passes: u32) -> Self {
        let mut containers = Containers::new(ProcessMap::default(), false);
        let places: Vec<Place> = (0..CONTAINERS).map(|at| container(&mut containers, at)).collect();
        let step = f64::from(WHOLE) / f64::from(passes);
        let mut accumulator = Accumulator::new(step, 10);
        for pass in 0..passes {
            add(&mut accumulator, pass, step, &places);
        }
        Self { containers, accumulator, step }
    }

    /// Puts its checkpoint into this spool directory, under a new summary id.
    pub fn checkpoint(&self, spool: &Path, run: &RunIdentity) -> io::Result<()> {
        write(self, spool, run)
    }
}

/// Puts the checkpoint of a run of 24 hours with so many passes into this spool directory, under a new summary id.
pub fn checkpoint(spool: &Path, run: &RunIdentity, passes: u32) -> io::Result<()> {
    Day::of(passes).checkpoint(spool, run)
}

fn write(day: &Day, spool: &Path, run: &RunIdentity) -> io::Result<()> {
    let Day { containers, accumulator, step } = day;
    let now = Instant::now().boot;
    let id = format!("{:08x}-0000-7000-8000-{:012x}", std::process::id(), now.as_nanos() & 0xffff_ffff_ffff);
    let collector = CollectorInfo {
        version: "1".to_owned(),
        mode: "sidecar".to_owned(),
        source: "proc".to_owned(),
        source_reason: None,
        hidden: None,
        interval_seconds: *step,
        cpu_count: 2,
        memory_total_bytes: None,
        kernel: None,
    };
    // A machine that is up for less than a day has no boot clock from before.
    let started = now.saturating_sub(Duration::from_secs(u64::from(WHOLE)));
    let head = Head {
        run: run.clone(),
        mode: "sidecar".to_owned(),
        boot_id: boot_id::read(),
        summary_id: id.clone(),
        next_seq: 1440,
        recovered: false,
        written: now,
        start_time: jiff::Timestamp::now(),
        started,
        began_ticks: started.as_secs() * 100,
        duration: now.saturating_sub(started),
        top: 10,
        missed_samples: 0,
        lost_records: 0,
        collector_cpu: Duration::ZERO,
        limits: BTreeMap::new(),
        collector: serde_json::to_string(&collector)?,
        containers: containers.keep(),
        cgroups: BTreeMap::new(),
    };
    let (mut encoder, mut bytes) = Encoder::begin(&head, accumulator).map_err(io::Error::other)?;
    while let Some(block) = encoder.next(accumulator).map_err(io::Error::other)? {
        bytes.extend(block);
    }
    std::fs::create_dir_all(spool)?;
    std::fs::write(spool.join(format!("{id}.checkpoint")), bytes)
}

fn container(containers: &mut Containers, at: u32) -> Place {
    let ids = CgroupIds { unified: u64::from(at) + 1, v1: 0 };
    let content = format!("0::/docker/{at:064x}\n").into_bytes();
    containers.place_of(ids, Comm::new(b"x"), None, |_| Some(content)).expect("a place")
}

fn add(accumulator: &mut Accumulator, pass: u32, step: f64, places: &[Place]) {
    let processes = (0u32..).zip(places).map(|(at, place)| {
        let noise = pass.wrapping_mul(2_654_435_761).wrapping_add(at.wrapping_mul(40_503)) >> 8;
        let key = ProcessKey { pid: 1_000 + at, start_ticks: u64::from(pass / 100) };
        let present = Present {
            key,
            comm: Comm::new(format!("cmd-{}", (pass / 100 + at) % 2_000).as_bytes()),
            container: Some(place.container),
            nested: None,
            rss_bytes: u64::from(noise % 500_000) * 4096,
            age_seconds: step,
        };
        let ns = u64::from(noise % 100 + 1) * 10_000_000;
        (present, Charge { container: Some(place.container), process: key, ns, source: Source::Living })
    });
    let (present, charges): (Vec<_>, Vec<_>) = processes.unzip();
    accumulator.add(&PassFacts {
        at_seconds: f64::from(pass) * step,
        elapsed_seconds: if pass > 0 { step } else { 0.0 },
        present: &present,
        exited: None,
        charges: &charges,
        host_cpu_percent: Some(f64::from(pass % 100)),
        host_memory_bytes: Some(u64::from(pass) << 12),
    });
    for place in places {
        let ContainerIndex(index) = place.container;
        accumulator.add_working_set(place.container, u64::from(pass % 1_000 + index) << 20, step);
    }
}
