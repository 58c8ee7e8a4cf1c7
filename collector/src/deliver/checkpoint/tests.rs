use super::*;
use crate::accumulate::{PassFacts, Present};
use crate::attribute::cpu::{Charge, Source};
use crate::config::limits::Requests;
use crate::sample::cgroupfs::{Bounds, CgroupReading, Periods};
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::ProcessKey;

fn containers() -> Containers {
    Containers::single("run")
}

fn pass(accumulator: &mut Accumulator, at: u32) {
    let key = ProcessKey { pid: 7 + at % 3, start_ticks: u64::from(at / 50) };
    let container = Some(ContainerIndex(0));
    let comm = Comm::new(format!("cc{}", at % 5).as_bytes());
    let rss_bytes = u64::from(at % 17) << 20;
    accumulator.add(&PassFacts {
        at_seconds: f64::from(at),
        elapsed_seconds: if at > 0 { 1.0 } else { 0.0 },
        present: &[Present {
            key,
            parent_pid: 1,
            comm,
            container,
            nested: None,
            rss_bytes,
            age_seconds: 1.0,
        }],
        exited: None,
        charges: &[Charge {
            container,
            process: key,
            ns: u64::from(at % 11) * 10_000_000 + 1,
            source: Source::Living,
        }],
        used: None,
        host_cpu_percent: Some(f64::from(at % 100)),
        host_memory_bytes: Some(u64::from(at) << 12),
    });
    accumulator.add_working_set(ContainerIndex(0), u64::from(at) << 10, 1.0);
}

fn head(passes: u32) -> Head {
    let collector = CollectorInfo {
        version: "1".to_owned(),
        mode: "sidecar".to_owned(),
        source: "proc".to_owned(),
        source_reason: None,
        account_reason: None,
        hidden: None,
        interval_seconds: 1.0,
        cpu_count: 2,
        memory_total_bytes: None,
        kernel: None,
        node_name: None,
        instance_type: None,
        warnings: Vec::new(),
    };
    let reading = |seconds| CgroupReading {
        cpu_ns: Some(seconds * 1_000_000_000),
        periods: Some(Periods { all: seconds * 10, throttled: seconds }),
        bounds: Bounds { cpu_cores: Some(3.5), memory_bytes: Some(8 << 30) },
        ..CgroupReading::default()
    };
    let requests = Requests { cpu_cores: Some(0.5), memory_bytes: Some(1 << 20) };
    let limits = Limits { cpu_cores: Some(1.5), memory_bytes: None, requests };
    Head {
        run: RunIdentity {
            organization: "o".to_owned(),
            repository: "o/r".to_owned(),
            workflow: "w".to_owned(),
            job: "j".to_owned(),
            run_id: "1".to_owned(),
            run_attempt: Some(2),
            ci: wire::CiContext { git_ref: Some("main".to_owned()), ..wire::CiContext::default() },
        },
        mode: "sidecar".to_owned(),
        boot_id: Some("b".to_owned()),
        summary_id: uuid::Uuid::nil().to_string(),
        next_seq: 4,
        recovered: false,
        written: Duration::from_secs(1_000),
        start_time: "2026-01-01T00:00:00Z".parse().unwrap(),
        started: Duration::from_secs(10),
        began_ticks: 1_000,
        duration: Duration::from_secs(u64::from(passes)),
        top: 10,
        missed_samples: 3,
        lost_records: 0,
        collector_cpu: Duration::from_millis(70),
        limits: BTreeMap::from([("run".to_owned(), limits)]),
        collector: serde_json::to_string(&collector).unwrap(),
        containers: containers().save(),
        cgroups: BTreeMap::from([(
            ContainerIndex(0),
            SavedReadings { first: reading(1), last: reading(4), ..SavedReadings::default() },
        )]),
    }
}

fn encode(head: &Head, accumulator: &Accumulator) -> Vec<u8> {
    let (mut encoder, mut bytes) = Encoder::begin(head, accumulator).unwrap();
    while let Some(block) = encoder.next(accumulator).unwrap() {
        bytes.extend(block);
    }
    bytes
}

fn example() -> Vec<u8> {
    let mut accumulator = Accumulator::new(1.0, 10);
    (0..300).for_each(|at| pass(&mut accumulator, at));
    encode(&head(300), &accumulator)
}

/// The same bytes with a valid checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn the_same_summary_comes_out_and_the_run_goes_on() {
    let mut accumulator = Accumulator::new(1.0, 10);
    (0..200).for_each(|at| pass(&mut accumulator, at));
    let mut restored = Checkpoint::decode(&encode(&head(200), &accumulator)).unwrap().accumulator;
    for at in 200..450 {
        pass(&mut accumulator, at);
        pass(&mut restored, at);
    }
    let of = |accumulator| {
        let head = head(450);
        let collector = serde_json::from_str(&head.collector).unwrap();
        Checkpoint { head, collector, accumulator }.payload()
    };
    let payload = of(accumulator);
    assert_eq!(payload, of(restored));
    assert_eq!(payload.complete, Some(false));
    assert_eq!(
        (payload.containers[0].name.as_str(), payload.containers[0].cgroup_cpu_seconds),
        ("run", Some(3.0))
    );
    assert_eq!(payload.containers[0].cpu_limit_cores, Some(1.5));
    assert_eq!(payload.attribution.unwrap().missed_samples, 3);
    assert!(payload.top_commands.len() == 5 && payload.top_cpu_processes.len() == 10);
}

#[test]
fn requests_periods_and_bounds_are_kept() {
    let [usage] = <[_; 1]>::try_from(Checkpoint::decode(&example()).unwrap().payload().containers).unwrap();
    assert_eq!((usage.cpu_request_cores, usage.memory_request_bytes), (Some(0.5), Some(1 << 20)));
    assert_eq!((usage.cpu_periods, usage.cpu_throttled_periods), (Some(30), Some(3)));
    assert_eq!((usage.cpu_bound_cores, usage.memory_bound_bytes), (Some(3.5), Some(8 << 30)));
}

#[test]
fn every_truncation_and_every_bit_that_is_another_is_noticed() {
    let bytes = example();
    for length in 0..bytes.len() {
        assert!(Checkpoint::decode(&bytes[..length]).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(Checkpoint::decode(&flipped).is_err(), "{at}");
    }
}

#[test]
fn another_version_is_named_as_such_and_not_guessed_at() {
    for version in [VERSION - 1, VERSION + 1] {
        let mut bytes = example();
        bytes[MAGIC.len()] = version as u8;
        let error = Checkpoint::decode(&sealed(bytes)).unwrap_err();
        assert_eq!(error, CheckpointError::Version(version));
    }
    assert_eq!(Checkpoint::decode(b"{\"a\": 1}").unwrap_err(), CheckpointError::Foreign);
}

#[test]
fn what_cannot_be_is_refused_even_with_a_good_checksum() {
    let mut accumulator = Accumulator::new(1.0, 10);
    pass(&mut accumulator, 1);
    let broken = |change: &dyn Fn(&mut Head)| {
        let mut head = head(1);
        change(&mut head);
        Checkpoint::decode(&encode(&head, &accumulator)).unwrap_err()
    };
    for error in [
        broken(&|head| head.summary_id = "../../etc/passwd".to_owned()),
        broken(&|head| head.next_seq = u64::MAX),
        broken(&|head| head.containers = Containers::new(ProcessMap::default(), false).save()),
        broken(&|head| head.duration = Duration::MAX),
        broken(&|head| head.top = usize::MAX),
        broken(&|head| head.collector = "{}".to_owned()),
    ] {
        assert!(matches!(error, CheckpointError::Unsound(_)), "{error}");
    }
}
