use super::*;

const TICK_NS: u64 = 10_000_000;
const A: ContainerIndex = ContainerIndex(0);

fn present(pid: u32, comm: &str, rss_bytes: u64) -> Present {
    Present {
        key: ProcessKey { pid, start_ticks: 1 },
        parent_pid: 1,
        comm: Comm::new(comm.as_bytes()),
        container: Some(A),
        nested: None,
        rss_bytes,
        age_seconds: 100.0,
    }
}

fn charge(process: &Present, ticks: u64) -> Charge {
    Charge { container: process.container, process: process.key, ns: ticks * TICK_NS, source: Source::Living }
}

fn pass<'a>(at: f64, elapsed: f64, present: &'a [Present], charges: &'a [Charge]) -> PassFacts<'a> {
    PassFacts {
        at_seconds: at,
        elapsed_seconds: elapsed,
        present,
        exited: None,
        charges,
        used: None,
        host_cpu_percent: None,
        host_memory_bytes: None,
    }
}

#[test]
fn memory_peaks_as_a_sum_and_not_as_a_sum_of_peaks() {
    let mut run = Accumulator::new(1.0, 10);
    for (at, one, two) in [(0.0, 100, 0), (1.0, 700, 100), (2.0, 100, 600)] {
        let present = [present(1, "a", one * 4096), present(2, "b", two * 4096)];
        run.add(&pass(at, if at > 0.0 { 1.0 } else { 0.0 }, &present, &[]));
    }
    let (_, container) = run.containers().next().unwrap();
    let stats = container.memory.stats();
    assert_eq!(stats.peak, 800.0 * 4096.0);
    assert_eq!(stats.avg, 750.0 * 4096.0);
}

#[test]
fn several_containers_peak_together_and_not_each_at_its_time() {
    let mut run = Accumulator::new(1.0, 10);
    let beside = |kib: u64| Present { container: Some(ContainerIndex(1)), ..present(2, "b", kib * 4096) };
    let first = present(1, "a", 700 * 4096);
    run.add(&pass(1.0, 1.0, &[first], &[charge(&first, 100)]));
    assert!(run.together().is_none());
    for (at, one, two) in [(2.0, 600, 200), (3.0, 100, 650)] {
        let (one, two) = (present(1, "a", one * 4096), beside(two));
        run.add(&pass(at, 1.0, &[one, two], &[charge(&one, 50), charge(&two, 25)]));
    }
    let together = run.together().unwrap();
    let (cpu, memory) = (together.cpu.stats(), together.memory.stats());
    assert_eq!((cpu.peak, cpu.p50), (1.0, Some(0.75)));
    assert!((cpu.avg - 2.5 / 3.0).abs() < 1e-9, "{cpu:?}");
    assert_eq!((memory.peak, memory.p50), (800.0 * 4096.0, Some(750.0 * 4096.0)));
}

#[test]
fn a_process_counts_by_its_last_name_and_its_peak_by_interval() {
    let mut run = Accumulator::new(1.0, 10);
    let shell = present(7, "sh", 4096);
    run.add(&pass(0.0, 0.0, &[shell], &[]));
    run.add(&pass(1.0, 1.0, &[shell], &[charge(&shell, 50)]));
    let compiler = present(7, "cc1", 8192);
    run.add(&pass(3.0, 2.0, &[compiler], &[charge(&compiler, 300)]));
    run.add(&pass(4.0, 1.0, &[], &[]));
    let report = run.processes().report();
    assert_eq!(report.commands.len(), 1);
    let ((container, comm), command) = report.commands[0];
    assert_eq!((container, comm.to_string(), command.processes), (Some(A), "cc1".to_owned(), 1));
    assert_eq!(command.cpu_ns, 3_500_000_000);
    let process = report.by_cpu[0];
    assert_eq!((process.peak_cores, process.seen_seconds, process.peak_rss_bytes), (1.5, 3.0, 8192));
}

#[test]
fn only_the_heaviest_are_kept_and_all_are_counted() {
    let mut run = Accumulator::new(1.0, 3);
    for pid in 1..=500 {
        let process = present(pid, "cc1", u64::from(pid) * 4096);
        let charge = charge(&process, u64::from(501 - pid));
        run.add(&pass(f64::from(pid), 1.0, &[process], &[charge]));
    }
    let report = run.processes().report();
    assert_eq!(report.by_cpu.iter().map(|run| run.key.pid).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(report.by_memory.iter().map(|run| run.key.pid).collect::<Vec<_>>(), [500, 499, 498]);
    assert_eq!(report.commands[0].1.processes, 500);
}

#[test]
fn names_without_end_share_one_entry() {
    let mut run = Accumulator::new(1.0, 3);
    let names: Vec<_> = (0..5_000).map(|pid| present(pid, &format!("n{pid}"), 4096)).collect();
    run.add(&pass(0.0, 0.0, &names, &[]));
    run.add(&pass(1.0, 1.0, &[], &[]));
    let commands = run.processes().report().commands;
    assert_eq!(commands.len(), 4_097);
    assert_eq!(commands.iter().map(|(_, command)| command.processes).sum::<u64>(), 5_000);
}

#[test]
fn what_the_kernel_tells_of_an_exit_counts_once_however_late_it_comes() {
    let mut run = Accumulator::new(1.0, 10);
    let shell = present(7, "sh", 4096);
    let exit = |pid, peak_rss_bytes| Exited {
        key: ProcessKey { pid, start_ticks: 1 },
        parent_pid: 1,
        comm: Comm::new(b"cc1"),
        container: Some(A),
        nested: None,
        peak_rss_bytes,
        lived_seconds: 0.5,
        from_ns: 0,
        until_ns: 0,
        disk_read_bytes: 0,
        disk_written_bytes: 0,
        last: true,
    };
    let last = |pid, ticks| Charge {
        container: Some(A),
        process: ProcessKey { pid, start_ticks: 1 },
        ns: ticks * TICK_NS,
        source: Source::Exit,
    };
    let mut traced = |at: f64, present: &[Present], exited: &[Exited], charges: &[Charge]| {
        run.add(&PassFacts { exited: Some(exited), ..pass(at, 1.0, present, charges) });
    };
    traced(0.0, &[shell], &[], &[]);
    traced(1.0, &[shell], &[], &[charge(&shell, 20)]);
    // This one is gone, but its record has not come yet. Another one was never seen.
    traced(2.0, &[], &[exit(8, 1 << 20)], &[last(8, 40)]);
    traced(3.0, &[], &[exit(7, 1 << 22)], &[last(7, 30)]);
    traced(4.0, &[], &[], &[]);
    let report = run.processes().report();
    let [(key, command)] = report.commands[..] else { panic!("{:?}", report.commands) };
    assert_eq!(key, (Some(A), Comm::new(b"cc1")), "the name at the end");
    assert_eq!((command.processes, command.cpu_ns), (2, 90 * TICK_NS));
    assert_eq!(command.peak_rss_bytes, 1 << 22);
    assert_eq!(run.exited_ns(), 70 * TICK_NS);
    let short = report.by_cpu.iter().find(|run| run.key.pid == 8).unwrap();
    assert_eq!((short.peak_cores, short.seen_seconds), (0.4, 0.5));
}

#[test]
fn processes_at_the_same_time_are_counted_and_their_disk_bytes_added() {
    let mut run = Accumulator::new(1.0, 10);
    let exit = |pid, from_ns, until_ns, last| Exited {
        key: ProcessKey { pid, start_ticks: 1 },
        parent_pid: 1,
        comm: Comm::new(b"cc1"),
        container: Some(A),
        nested: None,
        peak_rss_bytes: 4096,
        lived_seconds: 0.1,
        from_ns,
        until_ns,
        disk_read_bytes: 512,
        disk_written_bytes: 1024,
        last,
    };
    // One after the other, and two at once.
    let exits =
        [exit(8, 0, 10, true), exit(9, 10, 20, true), exit(10, 12, 19, true), exit(11, 20, 25, false)];
    run.add(&PassFacts { exited: Some(&exits), ..pass(1.0, 1.0, &[], &[]) });
    let command = |run: &Accumulator| run.processes().report().commands[0].1;
    assert_eq!((command(&run).processes, command(&run).at_once), (4, 2));
    // Its final record is not another process.
    let late = [exit(11, 20, 25, true), exit(12, 22, 26, true), exit(13, 22, 26, true)];
    run.add(&PassFacts { exited: Some(&late), ..pass(2.0, 1.0, &[], &[]) });
    assert_eq!((command(&run).processes, command(&run).at_once), (6, 2));
    assert_eq!(command(&run).disk_bytes, [6 * 512, 6 * 1024]);
    let three = [14, 15, 16].map(|pid| present(pid, "cc1", 4096));
    run.count_at_once(&three);
    run.add(&pass(3.0, 1.0, &three, &[]));
    assert_eq!((command(&run).processes, command(&run).at_once), (9, 3));
}
