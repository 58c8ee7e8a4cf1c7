use proptest::prelude::*;
use serde_json::{Value, json};
use wire::ContainerUsage;

use super::*;

const POD: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";

fn time(second: u32) -> String {
    format!("2026-02-06T14:{:02}:{:02}Z", second / 60, second % 60)
}

/// A container as reported by a collector that watched it for this many seconds.
fn container(name: &str, id: Option<&str>, cpu_seconds: f64, watched: f64) -> Value {
    json!({
        "name": name, "id": id, "pod_uid": POD, "cpu_seconds": cpu_seconds, "process_count": 3,
        "cpu_cores": {"peak": 2.0, "p95": 1.5, "avg": 1.0}, "memory_bytes": {"peak": 1e6, "p95": 9e5, "avg": 8e5},
        "cpu_cores_histogram": [[20, watched]]
    })
}

/// A summary of a job's run.
fn part(mode: &str, source: &str, from: u32, to: u32, containers: &[Value]) -> Part {
    let cpu: f64 = containers.iter().filter_map(|container| container["cpu_seconds"].as_f64()).sum();
    let payload = json!({
        "start_time": time(from), "end_time": time(to), "duration_seconds": to - from, "sample_count": 10,
        "containers": containers, "complete": true,
        "collector": {"version": "1", "mode": mode, "source": source, "interval_seconds": 2.0, "cpu_count": 2},
        "attribution": {
            "cpu_seconds": cpu + 0.5, "exited_cpu_seconds": 0.25, "unattributed_cpu_seconds": 0.5, "process_count": 6,
            "missed_samples": 0, "lost_records": 0, "collector_cpu_seconds": 0.1
        }
    });
    Part {
        run_id: "7".to_owned(),
        run_attempt: None,
        summary_id: mode.to_owned(),
        seq: 1,
        is_final: true,
        payload: serde_json::from_value(payload).unwrap(),
    }
}

fn node(from: u32, to: u32) -> Part {
    let containers = [
        container("build", Some("b1b1b1b1b1b1b1b1"), 20.0, 20.0),
        container("collector", Some("c1c1c1c1c1c1c1c1"), 0.2, 20.0),
    ];
    part("node", "ebpf", from, to, &containers)
}

fn sidecar(from: u32, to: u32) -> Part {
    let containers =
        [container("build", Some("b1b1b1b1b1b1b1b1"), 15.0, 19.0), container("collector", None, 0.3, 19.0)];
    part("sidecar", "proc", from, to, &containers)
}

fn join(parts: &[Part]) -> Joined {
    super::join(parts).unwrap()
}

fn named<'a>(joined: &'a Joined, name: &str) -> &'a ContainerUsage {
    let mut found = joined.payload.containers.iter().filter(|container| container.name == name);
    let container = found.next().unwrap();
    assert!(found.next().is_none(), "{name} is there twice");
    container
}

#[test]
fn a_pod_that_two_measured_is_one_run_of_the_better_figures() {
    let parts = [sidecar(1, 20), node(0, 20)];
    assert_eq!(groups(&parts), [vec![0, 1]]);
    let joined = join(&parts);
    assert_eq!(joined.payload.containers.len(), 2);
    assert_eq!(named(&joined, "build").cpu_seconds, Some(20.0));
    // A sidecar does not know its own id. Its container is recognised nevertheless.
    let own = named(&joined, "collector");
    assert_eq!((own.cpu_seconds, own.id.as_deref()), (Some(0.2), Some("c1c1c1c1c1c1c1c1")));
    let who: Vec<_> = joined.sources.iter().map(|source| (&*source.mode, &*source.source)).collect();
    assert_eq!(who, [("node", "ebpf"), ("sidecar", "proc")]);
    assert_eq!(joined.payload.attribution, parts[1].payload.attribution);
    assert_eq!((joined.is_final, joined.payload.complete), (true, Some(true)));
}

#[test]
fn other_runs_stay_rows_of_their_own() {
    let together = |change: fn(&mut Part)| {
        let mut other = sidecar(1, 20);
        change(&mut other);
        groups(&[node(0, 20), other]).len() == 1
    };
    assert!(together(|_| ()));
    assert!(!together(|other| other.run_id = "8".to_owned()), "another run");
    assert!(!together(|other| *other = sidecar(21, 40)), "one after the other");
    assert!(!together(|other| *other = node(1, 19)), "two of the same kind are of two runs");
    assert!(!together(|other| other.payload.collector.as_mut().unwrap().mode = "run".to_owned()));
    assert!(!together(|other| other.payload.collector = None), "who measured is not known");
    assert!(
        !together(|other| {
            for container in &mut other.payload.containers {
                container.pod_uid = Some("another pod".to_owned());
            }
        }),
        "two pods of one run"
    );
    let attempts = |one: Option<u32>, other: Option<u32>| {
        let (one, other) =
            (Part { run_attempt: one, ..node(0, 20) }, Part { run_attempt: other, ..sidecar(0, 20) });
        groups(&[one, other]).len()
    };
    assert_eq!(attempts(Some(1), Some(2)), 2);
    assert_eq!(attempts(Some(2), Some(2)), 1);
    assert_eq!(attempts(Some(2), None), 1, "where only one says it, it is the same");
}

#[test]
fn a_run_called_by_its_pod_is_the_one_that_the_job_names() {
    let unnamed = |part: Part| Part { run_id: POD.to_owned(), ..part };
    let joined = join(&[unnamed(sidecar(1, 20)), Part { run_attempt: Some(2), ..node(0, 20) }]);
    assert_eq!((joined.run_id.as_str(), joined.run_attempt), ("7", Some(2)));
    // The node's collector used the sidecar's name of the run until the job began.
    let first = Part { summary_id: "first".to_owned(), ..unnamed(node(0, 3)) };
    let parts = [first, unnamed(sidecar(1, 20)), node(3, 20)];
    assert_eq!(groups(&parts), [vec![0, 1, 2]]);
    assert_eq!(join(&parts).run_id, "7");
    // A pod that runs one job after another: the two runs are never joined.
    let second = Part { run_id: "8".to_owned(), summary_id: "second".to_owned(), ..node(9, 20) };
    let parts = [unnamed(sidecar(1, 20)), node(0, 8), second];
    assert_eq!(groups(&parts), [vec![0, 2], vec![1]]);
}

#[test]
fn what_sees_a_whole_machine_is_joined_to_nothing() {
    let docker = |name: &str, id: &str| {
        let mut container = container(name, Some(id), 1.0, 20.0);
        container["pod_uid"] = Value::Null;
        container
    };
    let of_node =
        |id: &str| Part { summary_id: id.to_owned(), ..part("node", "ebpf", 0, 20, &[docker(id, id)]) };
    let both = part("sidecar", "proc", 0, 20, &[docker("a", "aaaa"), docker("own", "cccc")]);
    assert_eq!(groups(&[of_node("aaaa"), both]), [vec![0, 1]]);
    let machine = part("sidecar", "proc", 0, 20, &[docker("a", "aaaa"), docker("b", "bbbb")]);
    assert_eq!(groups(&[of_node("aaaa"), of_node("bbbb"), machine]).len(), 3);
    let mut pods = sidecar(0, 20);
    pods.payload.containers[0].pod_uid = Some("another pod".to_owned());
    assert!(places(&pods.payload).is_empty());
}

#[test]
fn who_saw_much_less_is_no_better_for_ebpf() {
    let mut late = node(15, 20);
    late.payload.complete = Some(false);
    for container in &mut late.payload.containers {
        container.cpu_cores_histogram = serde_json::from_value(json!([[20, 5.0]])).unwrap();
    }
    let joined = join(&[late, sidecar(0, 20)]);
    assert_eq!(named(&joined, "build").cpu_seconds, Some(15.0));
    assert_eq!(joined.payload.complete, Some(true), "the sidecar saw all of it");
    assert_eq!(joined.sources[0].mode, "sidecar");
}

#[test]
fn figures_that_belong_together_are_of_one_and_the_rest_of_who_knows_it() {
    let (mut node, mut sidecar) = (node(0, 20), sidecar(0, 20));
    let (known, other) = (&mut node.payload.containers[0], &mut sidecar.payload.containers[0]);
    known.cpu_periods = Some(100);
    known.cpu_throttled_periods = Some(50);
    known.cgroup_cpu_seconds = Some(20.1);
    known.memory_peak_bytes = Some(5_000_000);
    known.oom_kills = Some(0);
    known.cpu_limit_cores = Some(1.0);
    other.cpu_throttled_seconds = Some(99.0);
    other.memory_bytes.peak = 4e6;
    other.memory_peak_bytes = Some(6_000_000);
    other.oom_kills = Some(2);
    other.cpu_limit_cores = Some(8.0);
    other.memory_limit_bytes = Some(1 << 30);
    other.cpu_request_cores = Some(0.5);
    let joined = join(&[node, sidecar]);
    let build = named(&joined, "build");
    assert_eq!((build.cpu_seconds, build.cgroup_cpu_seconds), (Some(20.0), Some(20.1)));
    assert_eq!(
        (build.cpu_periods, build.cpu_throttled_periods, build.cpu_throttled_seconds),
        (Some(100), Some(50), None),
        "throttling is of who read the periods"
    );
    assert_eq!((build.memory_bytes.peak, build.memory_bytes.p95), (4e6, Some(9e5)));
    assert_eq!((build.memory_peak_bytes, build.oom_kills), (Some(6_000_000), Some(2)));
    assert_eq!((build.cpu_limit_cores, build.memory_limit_bytes), (Some(1.0), Some(1 << 30)));
    assert_eq!(build.cpu_request_cores, Some(0.5));
}

#[test]
fn containers_of_one_alone_are_there_and_the_sum_is_the_total() {
    let (mut node, mut sidecar) = (node(0, 20), sidecar(10, 20));
    sidecar
        .payload
        .containers
        .push(serde_json::from_value(container("e1e1e1e1", Some("e1e1e1e1e1e1e1e1"), 3.0, 10.0)).unwrap());
    sidecar.payload.containers[2].series =
        Some(wire::Series { step_seconds: 2.0, cpu_cores: vec![1.0; 5], memory_bytes: vec![9; 5] });
    let command = |name: &str, container: &str, seconds: f64| {
        let command = json!({"name": name, "container": container, "cpu_seconds": seconds, "process_count": 1, "peak_mem_bytes": 1});
        serde_json::from_value(command).unwrap()
    };
    node.payload.top_commands = vec![command("cc1", "build", 12.0), command("sh", "build", 1.0)];
    sidecar.payload.top_commands = vec![command("cc1", "build", 6.0), command("init", "e1e1e1e1", 3.0)];
    let joined = join(&[node, sidecar]);
    let names: Vec<_> = joined.payload.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["build", "e1e1e1e1", "collector"]);
    let attribution = joined.payload.attribution.clone().unwrap();
    assert!((attribution.cpu_seconds - (20.0 + 3.0 + 0.2 + 0.5)).abs() < 1e-9);
    let commands: Vec<_> =
        joined.payload.top_commands.iter().map(|one| (one.name.as_str(), one.cpu_seconds)).collect();
    assert_eq!(commands, [("cc1", 12.0), ("init", 3.0)]);
    // Its series begins ten seconds after the run.
    let series = named(&joined, "e1e1e1e1").series.clone().unwrap();
    assert_eq!((series.cpu_cores.len(), series.cpu_cores[4], series.cpu_cores[5]), (10, 0.0, 1.0));
}

#[test]
fn a_container_has_the_name_that_somebody_knows() {
    let mut node = node(0, 20);
    node.payload.containers[0].name = "b1b1b1b1".to_owned();
    node.payload.top_commands = vec![
        serde_json::from_value(
            json!({"name": "cc1", "container": "b1b1b1b1", "cpu_seconds": 1.0, "process_count": 1, "peak_mem_bytes": 1}),
        )
        .unwrap(),
    ];
    let joined = join(&[node, sidecar(0, 20)]);
    assert_eq!(named(&joined, "build").cpu_seconds, Some(20.0));
    assert_eq!(joined.payload.top_commands[0].container.as_deref(), Some("build"));
}

#[test]
fn fields_of_a_newer_collector_are_kept() {
    let parts = [node(0, 20), sidecar(0, 20)];
    let texts: Vec<String> = parts
        .iter()
        .map(|part| {
            let mut payload = serde_json::to_value(&part.payload).unwrap();
            payload["weather"] = json!(part.mode());
            payload["containers"][0]["colour"] = json!(part.mode());
            payload.to_string()
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let joined = join(&parts);
    let text: Value = serde_json::from_str(&joined.text(&texts).unwrap()).unwrap();
    assert_eq!((&text["weather"], &text["containers"][0]["colour"]), (&json!("node"), &json!("node")));
    assert_eq!(serde_json::from_value::<Payload>(text).unwrap(), joined.payload);
}

/// Any summary of two pods' containers.
fn any_part() -> impl Strategy<Value = Part> {
    let containers = prop::collection::vec(
        (0..4usize, any::<bool>(), 0..40u32, 0..40u32, prop::option::of(0..9u64), any::<bool>()),
        1..4,
    );
    let who =
        prop::sample::select(vec![("sidecar", "proc"), ("node", "ebpf"), ("node", "proc"), ("run", "proc")]);
    let named = prop::sample::select(vec!["7", "8", POD]);
    let attempt = prop::option::of(1..3u32);
    (who, named, attempt, 0..40u32, 0..40u32, containers, any::<[bool; 2]>()).prop_map(
        |((mode, source), named, attempt, from, length, containers, [is_final, in_pod])| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, has_id, cpu, watched, kills, is_limited)| {
                    let id = format!("{name}{name}{name}{name}");
                    let name = ["build", "db", "collector", "e"][name];
                    let mut one = container(name, has_id.then_some(&id), f64::from(cpu), f64::from(watched));
                    one["oom_kills"] = json!(kills);
                    one["memory_limit_bytes"] = json!(is_limited.then_some(u64::from(cpu) + 1));
                    one["pod_uid"] = json!(in_pod.then_some(POD));
                    one
                })
                .collect();
            let part = part(mode, source, from, from + length, &containers);
            Part { run_id: named.to_owned(), run_attempt: attempt, is_final, ..part }
        },
    )
}

/// Some summaries, and the same ones in another order.
fn any_parts() -> impl Strategy<Value = (Vec<Part>, Vec<Part>)> {
    prop::collection::vec(any_part(), 1..7).prop_flat_map(|mut parts| {
        for (at, part) in parts.iter_mut().enumerate() {
            part.summary_id = format!("s{at}");
        }
        (Just(parts.clone()), Just(parts).prop_shuffle())
    })
}

/// The result for all parts, independent of their order.
fn outcome(parts: &[Part]) -> Vec<(Vec<&str>, Joined)> {
    let mut outcome: Vec<_> = groups(parts)
        .into_iter()
        .map(|group| {
            let members: Vec<Part> = group.iter().map(|at| parts[*at].clone()).collect();
            let mut names: Vec<&str> = group.iter().map(|at| &*parts[*at].summary_id).collect();
            names.sort_unstable();
            (names, Joined { base: 0, taken: vec![], ..join(&members) })
        })
        .collect();
    outcome.sort_by(|one, other| one.0.cmp(&other.0));
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn order_makes_no_difference((parts, shuffled) in any_parts()) {
        prop_assert_eq!(outcome(&parts), outcome(&shuffled));
    }

    #[test]
    fn nothing_is_lost_and_nothing_counted_twice((parts, _) in any_parts()) {
        let all = outcome(&parts);
        prop_assert_eq!(all.iter().map(|(names, _)| names.len()).sum::<usize>(), parts.len());
        for (names, joined) in all {
            let members: Vec<&Part> = parts.iter().filter(|part| names.contains(&&*part.summary_id)).collect();
            let told = || members.iter().flat_map(|part| &part.payload.containers);
            let payload = &joined.payload;
            for id in told().filter_map(|container| container.id.as_ref()) {
                let mut same = payload.containers.iter().filter(|container| container.id.as_ref() == Some(id));
                let one = same.next().unwrap();
                prop_assert!(same.next().is_none());
                let kills = told().filter(|other| other.id.as_ref() == Some(id)).filter_map(|other| other.oom_kills);
                prop_assert!(one.oom_kills >= kills.max());
            }
            let sum: f64 = payload.containers.iter().filter_map(|container| container.cpu_seconds).sum();
            let attribution = payload.attribution.clone().unwrap();
            if members.len() > 1 {
                let total = sum + attribution.unattributed_cpu_seconds;
                prop_assert!((attribution.cpu_seconds - total).abs() < 1e-9);
            }
            prop_assert!(members.iter().all(|part| payload.start_time <= part.payload.start_time));
            let named: std::collections::BTreeSet<_> =
                members.iter().filter(|part| !part.is_unnamed()).map(|part| &part.run_id).collect();
            prop_assert!(named.len() <= 1);
        }
    }
}
