//! Compares two runs: what the second used more of than the first.

use std::collections::HashMap;
use std::hash::Hash;

use wire::{
    Change, CommandUsage, ComparedCommand, ComparedContainer, ComparedRun, Comparison, ContainerUsage,
    Presence, StoredRun,
};

/// What changed from `a` to `b`.
pub fn compare(a: &StoredRun, b: &StoredRun) -> Comparison {
    let mut containers: Vec<_> =
        pair(&a.payload.containers, &b.payload.containers, |container| container.name.as_str())
            .into_iter()
            .map(|(a, b)| compare_containers(a, b))
            .collect();
    containers.sort_by(|one, other| by_growth(&one.cpu_seconds, &other.cpu_seconds));
    let key = |command: &CommandUsage| (command.container.clone(), command.name.clone());
    let mut commands: Vec<_> = pair(&a.payload.top_commands, &b.payload.top_commands, key)
        .into_iter()
        .map(|(a, b)| compare_commands(a, b))
        .collect();
    commands.sort_by(|one, other| by_growth(&one.cpu_seconds, &other.cpu_seconds));
    Comparison {
        a: compared(a),
        b: compared(b),
        duration_seconds: Change::new(Some(a.payload.duration_seconds), Some(b.payload.duration_seconds)),
        containers,
        commands,
    }
}

fn compared(run: &StoredRun) -> ComparedRun {
    ComparedRun {
        id: run.id,
        organization: run.organization.clone(),
        repository: run.repository.clone(),
        workflow: run.workflow.clone(),
        job: run.job.clone(),
        run_id: run.run_id.clone(),
        start_time: run.payload.start_time,
    }
}

/// Pairs the elements that have the same key, in the order of `a`, followed by those only in `b`. If several elements
/// share a key, the first is paired with the first, and so on.
fn pair<'a, T, K: Eq + Hash>(
    a: &'a [T],
    b: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> Vec<(Option<&'a T>, Option<&'a T>)> {
    let mut others: HashMap<(K, usize), &T> = HashMap::new();
    let mut seen: HashMap<K, usize> = HashMap::new();
    let numbered = |seen: &mut HashMap<K, usize>, element: &'a T| {
        let count = seen.entry(key(element)).or_default();
        *count += 1;
        (key(element), *count)
    };
    for element in b {
        others.insert(numbered(&mut seen, element), element);
    }
    seen.clear();
    let mut pairs = Vec::with_capacity(a.len());
    for element in a {
        pairs.push((Some(element), others.remove(&numbered(&mut seen, element))));
    }
    seen.clear();
    let left = b.iter().filter(|element| others.contains_key(&numbered(&mut seen, element)));
    pairs.extend(left.map(|element| (None, Some(element))));
    pairs
}

/// Orders by growth, the largest first. What only one run has grew from 0 or to 0.
fn by_growth(one: &Change, other: &Change) -> std::cmp::Ordering {
    let growth = |change: &Change| change.b.unwrap_or_default() - change.a.unwrap_or_default();
    growth(other).total_cmp(&growth(one))
}

fn presence<T>(a: Option<&T>, b: Option<&T>) -> Presence {
    match (a, b) {
        (Some(_), None) => Presence::A,
        (None, Some(_)) => Presence::B,
        _ => Presence::Both,
    }
}

fn compare_containers(a: Option<&ContainerUsage>, b: Option<&ContainerUsage>) -> ComparedContainer {
    let change =
        |figure: fn(&ContainerUsage) -> Option<f64>| Change::new(a.and_then(figure), b.and_then(figure));
    let name = a.or(b).map(|container| container.name.clone());
    ComparedContainer {
        name: name.unwrap_or_default(),
        presence: presence(a, b),
        cpu_seconds: change(|container| container.cpu_seconds),
        cpu_avg_cores: change(|container| Some(container.cpu_cores.avg)),
        cpu_p95_cores: change(|container| container.cpu_cores.p95),
        cpu_peak_cores: change(|container| Some(container.cpu_cores.peak)),
        cpu_throttled_seconds: change(|container| container.cpu_throttled_seconds),
        memory_avg_bytes: change(|container| Some(container.memory_bytes.avg)),
        memory_peak_bytes: change(|container| Some(container.memory_bytes.peak)),
        working_set_peak_bytes: change(|container| container.working_set_bytes.map(|stats| stats.peak)),
        oom_kills: change(|container| container.oom_kills.map(|count| count as f64)),
        process_count: change(|container| container.process_count.map(|count| count as f64)),
    }
}

fn compare_commands(a: Option<&CommandUsage>, b: Option<&CommandUsage>) -> ComparedCommand {
    let change = |figure: fn(&CommandUsage) -> f64| Change::new(a.map(figure), b.map(figure));
    let command = a.or(b);
    ComparedCommand {
        name: command.map(|command| command.name.clone()).unwrap_or_default(),
        container: command.and_then(|command| command.container.clone()),
        presence: presence(a, b),
        cpu_seconds: change(|command| command.cpu_seconds),
        process_count: change(|command| command.process_count as f64),
        peak_mem_bytes: change(|command| command.peak_mem_bytes as f64),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(id: i64, containers: &[Value], commands: &[Value]) -> StoredRun {
        let run = json!({
            "id": id, "organization": "o", "repository": "o/r", "workflow": "w", "job": "j", "run_id": "1",
            "received_at": "2026-01-01T00:00:00Z",
            "payload": {
                "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:00:10Z", "duration_seconds": 10.0 * id as f64,
                "sample_count": 1, "containers": containers, "top_commands": commands
            }
        });
        serde_json::from_value(run).unwrap()
    }

    fn container(name: &str, cpu_seconds: f64) -> Value {
        let stats = json!({"peak": cpu_seconds, "avg": 1.0});
        json!({"name": name, "cpu_cores": stats, "memory_bytes": stats, "cpu_seconds": cpu_seconds})
    }

    fn command(name: &str, container: Option<&str>, cpu_seconds: f64) -> Value {
        json!({"name": name, "container": container, "cpu_seconds": cpu_seconds, "process_count": 2, "peak_mem_bytes": 8})
    }

    #[test]
    fn what_grew_comes_first_and_what_is_in_one_alone_is_told() {
        let a = run(1, &[container("gone", 1.0), container("less", 5.0), container("more", 2.0)], &[]);
        let b = run(2, &[container("more", 6.0), container("new", 3.0), container("less", 1.0)], &[]);
        let comparison = compare(&a, &b);
        let told: Vec<_> = comparison
            .containers
            .iter()
            .map(|container| (container.name.as_str(), container.presence, container.cpu_seconds.difference))
            .collect();
        assert_eq!(
            told,
            [
                ("more", Presence::Both, Some(4.0)),
                ("new", Presence::B, None),
                ("gone", Presence::A, None),
                ("less", Presence::Both, Some(-4.0)),
            ]
        );
        assert_eq!(comparison.containers[0].cpu_seconds.relative, Some(2.0));
        assert_eq!(comparison.duration_seconds, Change::new(Some(10.0), Some(20.0)));
    }

    #[test]
    fn names_that_are_there_twice_are_paired_in_order() {
        let a = run(1, &[container("x", 1.0), container("x", 2.0)], &[]);
        let b = run(2, &[container("x", 1.5), container("x", 2.0), container("x", 9.0)], &[]);
        let told: Vec<_> =
            compare(&a, &b).containers.iter().map(|x| (x.cpu_seconds.a, x.cpu_seconds.b)).collect();
        assert_eq!(told, [(None, Some(9.0)), (Some(1.0), Some(1.5)), (Some(2.0), Some(2.0))]);
    }

    #[test]
    fn a_command_is_one_of_its_container() {
        let a = run(1, &[], &[command("cc1", Some("x"), 1.0), command("ld", None, 0.0)]);
        let b = run(2, &[], &[command("cc1", Some("y"), 1.0), command("ld", None, 3.0)]);
        let told: Vec<_> = compare(&a, &b)
            .commands
            .into_iter()
            .map(|command| (command.name, command.container, command.presence, command.cpu_seconds.relative))
            .collect();
        let container = |name: &str| Some(name.to_owned());
        assert_eq!(
            told,
            [
                ("ld".to_owned(), None, Presence::Both, None),
                ("cc1".to_owned(), container("y"), Presence::B, None),
                ("cc1".to_owned(), container("x"), Presence::A, None),
            ]
        );
    }
}
