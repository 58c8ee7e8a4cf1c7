//! A day of a hundred containers, as the checkpoint of a collector that was just killed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use collector::accumulate::{Accumulator, PassFacts, Present};
use collector::attribute::ContainerIndex;
use collector::attribute::containers::{Containers, Place};
use collector::attribute::cpu::{Charge, Source};
use collector::config::limits::{Limits, Requests};
use collector::config::process_map::ProcessMap;
use collector::deliver::checkpoint::{Encoder, Head};
use collector::host::Moment;
use collector::run_identity::RunIdentity;
use collector::sample::boot_id;
use collector::sample::bpf::CgroupIds;
use collector::sample::cgroupfs::{CgroupReading, Periods, SavedReadings};
use collector::sample::pid_stat::Comm;
use collector::sample::process_table::ProcessKey;
use wire::CollectorInfo;

/// The number of containers.
pub const CONTAINERS: u32 = 100;
/// The largest number of samples with exact percentiles, which takes longest to sort.
pub const LARGEST_EXACT: u32 = 16_384;
/// The passes of a day, one per second.
pub const WHOLE: u32 = 86_400;

/// The identity of a run, from the variables of a CI system.
///
/// # Panics
/// If a variable is missing.
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
        ci: wire::CiContext::default(),
    }
}

/// The state of a run of 24 hours.
#[derive(Debug)]
pub struct Day {
    containers: Containers,
    accumulator: Accumulator,
    step: f64,
    limits: BTreeMap<String, Limits>,
    cgroups: BTreeMap<ContainerIndex, SavedReadings>,
}

impl Day {
    /// A day with this many passes.
    pub fn of(passes: u32) -> Self {
        let mut containers = Containers::new(ProcessMap::default(), false);
        let places: Vec<Place> = (0..CONTAINERS).map(|at| container(&mut containers, at)).collect();
        let step = f64::from(WHOLE) / f64::from(passes);
        let mut accumulator = Accumulator::new(step, 10);
        for pass in 0..passes {
            add(&mut accumulator, pass, step, &places);
        }
        Self { containers, accumulator, step, limits: BTreeMap::new(), cgroups: BTreeMap::new() }
    }

    /// A day with a pass every 2 s, the default, and this many containers of a pod. They use between a hundredth of a core and
    /// all cores, and all their figures are known.
    pub fn in_full(count: u32) -> Self {
        let step = 2.0;
        let mut containers = Containers::new(ProcessMap::default(), false);
        let places: Vec<Place> = (0..count).map(|at| pod_container(&mut containers, at)).collect();
        let mut accumulator = Accumulator::new(step, 10);
        for pass in 0..WHOLE / 2 {
            add_varied(&mut accumulator, pass, step, &places);
        }
        let limits = places.iter().map(|place| {
            let requests = Requests { cpu_cores: Some(0.125), memory_bytes: Some(987_654_321) };
            let limits = Limits { cpu_cores: Some(17.25), memory_bytes: Some(9_876_543_210), requests };
            (containers[place.container].name().to_owned(), limits)
        });
        let limits = limits.collect();
        let cgroups = places.iter().map(|place| (place.container, readings())).collect();
        Self { containers, accumulator, step, limits, cgroups }
    }

    /// Writes its checkpoint into this spool directory, under a new summary id.
    pub fn checkpoint(&self, spool: &Path, run: &RunIdentity) -> io::Result<()> {
        write(self, spool, run)
    }
}

/// Writes the checkpoint of a run of 24 hours with this many passes into this spool directory, under a new summary id.
pub fn checkpoint(spool: &Path, run: &RunIdentity, passes: u32) -> io::Result<()> {
    Day::of(passes).checkpoint(spool, run)
}

fn write(day: &Day, spool: &Path, run: &RunIdentity) -> io::Result<()> {
    let Day { containers, accumulator, step, limits, cgroups } = day;
    let now = Moment::now().boot;
    let id = format!("{:08x}-0000-7000-8000-{:012x}", std::process::id(), now.as_nanos() & 0xffff_ffff_ffff);
    let collector = CollectorInfo {
        version: "1".to_owned(),
        mode: "sidecar".to_owned(),
        source: "proc".to_owned(),
        source_reason: None,
        account_reason: None,
        hidden: None,
        interval_seconds: *step,
        cpu_count: 2,
        memory_total_bytes: None,
        kernel: None,
        node_name: None,
        instance_type: None,
        warnings: Vec::new(),
    };
    // A machine that has been up for less than a day has no earlier boot time.
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
        duration: Duration::from_secs(u64::from(WHOLE)),
        top: 10,
        missed_samples: 0,
        lost_records: 0,
        collector_cpu: Duration::ZERO,
        limits: limits.clone(),
        collector: serde_json::to_string(&collector)?,
        containers: containers.save(),
        cgroups: cgroups.clone(),
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
            parent_pid: 1,
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
        used: None,
        host_cpu_percent: Some(f64::from(pass % 100)),
        host_memory_bytes: Some(u64::from(pass) << 12),
    });
    for place in places {
        let ContainerIndex(index) = place.container;
        accumulator.add_working_set(place.container, u64::from(pass % 1_000 + index) << 20, step);
    }
}

fn pod_container(containers: &mut Containers, at: u32) -> Place {
    let ids = CgroupIds { unified: u64::from(at) + 1, v1: 0 };
    let id = (0..8).map(|word| format!("{:08x}", noise(word, at) as u32)).collect::<String>();
    let pod = "kubepods-burstable-pode50f2933_b36b_4e3b_89b1_280707f7bc53.slice";
    let content = format!("0::/kubepods.slice/{pod}/cri-containerd-{id}.scope\n").into_bytes();
    containers.place_of(ids, Comm::new(b"x"), None, |_| Some(content)).expect("a place")
}

/// 64 bits that look random and are the same each time.
fn noise(pass: u32, at: u32) -> u64 {
    let mut bits = (u64::from(pass) << 32 | u64::from(at)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The same as a number between 0 and 1.
fn share(noise: u64) -> f64 {
    (noise >> 11) as f64 / (1u64 << 53) as f64
}

fn add_varied(accumulator: &mut Accumulator, pass: u32, step: f64, places: &[Place]) {
    let processes = (0u32..).zip(places).map(|(at, place)| {
        let key = ProcessKey { pid: 3_999_000 + at, start_ticks: u64::from(pass / 100) };
        let present = Present {
            key,
            parent_pid: 1,
            comm: Comm::new(format!("compiler-{:06}", noise(pass / 100, at) % 300_000).as_bytes()),
            container: Some(place.container),
            nested: None,
            rss_bytes: ((5e9 * share(noise(pass, at))) as u64) & !4095,
            age_seconds: step,
        };
        // Logarithmic: as often between 0.01 and 0.02 cores as between 8 and 16. In nanoseconds, as from the eBPF program.
        let cores = 0.01 * 1_600f64.powf(share(noise(pass, at + 1_000_000)));
        let ns = (cores * step * 1e9) as u64;
        (present, Charge { container: Some(place.container), process: key, ns, source: Source::Living })
    });
    let (present, charges): (Vec<_>, Vec<_>) = processes.unzip();
    // Some passes are late.
    let late = if pass.is_multiple_of(977) { 0.037 * share(noise(pass, 7)) } else { 0.0 };
    accumulator.add(&PassFacts {
        at_seconds: f64::from(pass) * step,
        elapsed_seconds: if pass > 0 { step + late } else { 0.0 },
        present: &present,
        exited: None,
        charges: &charges,
        used: None,
        host_cpu_percent: Some(100.0 * share(noise(pass, 8))),
        host_memory_bytes: Some(noise(pass, 9) >> 29 & !4095),
    });
    for (process, place) in present.iter().zip(places) {
        accumulator.add_working_set(place.container, process.rss_bytes + 8_192, step);
    }
}

fn readings() -> SavedReadings {
    let first = CgroupReading {
        cpu_ns: Some(1),
        throttled_ns: Some(1),
        oom_kills: Some(0),
        periods: Some(Periods { all: 0, throttled: 0 }),
        ..CgroupReading::default()
    };
    let last = CgroupReading {
        cpu_ns: Some(98_765_432_109_876),
        throttled_ns: Some(1_234_567_890_123),
        oom_kills: Some(12),
        memory_peak_bytes: Some(9_876_543_210),
        periods: Some(Periods { all: 864_000, throttled: 123_456 }),
        ..CgroupReading::default()
    };
    SavedReadings { first, last, ..SavedReadings::default() }
}
