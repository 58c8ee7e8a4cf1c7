use std::collections::BTreeMap;

use proptest::prelude::*;

use super::exits::ProcessExit;
use super::*;

const A: Option<ContainerIndex> = Some(ContainerIndex(0));
const B: Option<ContainerIndex> = Some(ContainerIndex(1));
const BEGAN: u64 = 1_000;

fn seen(
    pid: u32,
    ppid: u32,
    own_ns: u64,
    children_ns: u64,
    container: Option<ContainerIndex>,
) -> ProcessTimes {
    started(pid, 500 + u64::from(pid), ppid, own_ns, children_ns, container)
}

fn started(
    pid: u32,
    start_ticks: u64,
    ppid: u32,
    own_ns: u64,
    children_ns: u64,
    container: Option<ContainerIndex>,
) -> ProcessTimes {
    ProcessTimes { key: ProcessKey { pid, start_ticks }, ppid, zombie: false, own_ns, children_ns, container }
}

/// Ticks by container and by whether children used them, pass by pass.
fn run(passes: &[&[ProcessTimes]]) -> Vec<BTreeMap<(Option<u32>, bool), u64>> {
    let mut sum = CpuLedger::new(BEGAN, 1);
    let pass = |seen: &&[ProcessTimes]| {
        let mut by_container = BTreeMap::new();
        for charge in sum.advance(seen, None) {
            assert!(charge.ns > 0);
            *by_container
                .entry((charge.container.map(|index| index.0), charge.source == Source::Reaped))
                .or_default() += charge.ns;
        }
        by_container
    };
    passes.iter().map(pass).collect()
}

/// Ticks by container over all passes.
fn total(passes: &[&[ProcessTimes]]) -> BTreeMap<Option<u32>, u64> {
    let mut total = BTreeMap::new();
    for ((container, _), ticks) in run(passes).into_iter().flatten() {
        *total.entry(container).or_default() += ticks;
    }
    total
}

#[test]
fn what_was_there_before_is_a_baseline() {
    let charged = total(&[&[seen(10, 0, 700, 300, A)], &[seen(10, 0, 750, 320, A)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 70)]));
}

#[test]
fn one_that_began_since_counts_from_zero() {
    let shell = seen(10, 0, 0, 0, A);
    let charged = run(&[&[shell], &[shell, started(11, 1_100, 10, 40, 5, A)]]);
    assert_eq!(charged[1], BTreeMap::from([((Some(0), false), 40), ((Some(0), true), 5)]));
}

#[test]
fn children_that_nobody_saw_are_charged_to_who_reaped_them() {
    let charged = run(&[&[seen(10, 0, 1, 0, A)], &[seen(10, 0, 2, 300, A)]]);
    assert_eq!(charged[1], BTreeMap::from([((Some(0), false), 1), ((Some(0), true), 300)]));
}

#[test]
fn what_was_seen_of_a_child_does_not_count_again_when_it_is_reaped() {
    let shell = |reaped| seen(10, 0, 0, reaped, A);
    let child = |own, reaped| started(11, 1_100, 10, own, reaped, A);
    let passes = run(&[&[shell(0)], &[shell(0), child(100, 30)], &[shell(0), child(150, 30)], &[shell(190)]]);
    assert_eq!(passes[1], BTreeMap::from([((Some(0), false), 100), ((Some(0), true), 30)]));
    assert_eq!(passes[2], BTreeMap::from([((Some(0), false), 50)]));
    assert_eq!(passes[3], BTreeMap::from([((Some(0), true), 10)]), "190 reaped, of which 180 were seen");
}

#[test]
fn a_grandchild_that_ended_with_its_parent_is_taken_off_once() {
    let make = |reaped| seen(10, 0, 0, reaped, A);
    let shell = started(11, 1_100, 10, 5, 0, A);
    let compiler = started(12, 1_101, 11, 60, 0, A);
    let charged = total(&[&[make(0)], &[make(0), shell, compiler], &[make(75)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 75)]));
}

#[test]
fn an_orphan_reaped_in_another_container_does_not_count_again_there() {
    let pause = |reaped| seen(1, 0, 0, reaped, B);
    let parent = started(11, 1_100, 10, 2, 0, A);
    let shell = |reaped| seen(10, 0, 0, reaped, A);
    let orphan = |ppid, own| started(12, 1_101, ppid, own, 0, A);
    let charged = total(&[
        &[pause(0), shell(0)],
        &[pause(0), shell(0), parent, orphan(11, 50)],
        &[pause(0), shell(2), orphan(1, 80)],
        &[pause(85), shell(2)],
    ]);
    // Its last 5 ticks are charged to its own container, too: `pause` runs no work of its own.
    assert_eq!(charged, BTreeMap::from([(Some(0), 87)]));
}

#[test]
fn an_orphan_that_ends_in_the_same_interval_as_its_parent_is_found_at_init() {
    let pause = |reaped| seen(1, 0, 0, reaped, B);
    let shell = |reaped| seen(10, 1, 0, reaped, A);
    let parent = started(11, 1_100, 10, 2, 0, A);
    let orphan = started(12, 1_101, 11, 50, 0, A);
    let charged =
        total(&[&[pause(0), shell(0)], &[pause(0), shell(0), parent, orphan], &[pause(50), shell(2)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 52)]));
}

#[test]
fn a_child_that_ends_between_two_reads_of_one_pass_does_not_count_twice() {
    let shell = |reaped| seen(10, 0, 0, reaped, A);
    let child = started(11, 1_100, 10, 100, 0, A);
    // The parent was read before it reaped the child; the child was gone when its turn came.
    let charged = total(&[&[shell(0)], &[shell(0), child], &[shell(0)], &[shell(103)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 103)]));
}

#[test]
fn a_process_that_moves_leaves_behind_what_it_used_before() {
    let at = |own, container| seen(10, 0, own, 0, container);
    let charged = total(&[&[at(0, A)], &[at(100, A)], &[at(100, B)], &[at(130, B)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 100), (Some(1), 30)]));
}

#[test]
fn what_was_used_in_the_interval_of_a_move_is_shared_but_for_that_of_a_runtime() {
    let at = |own, container| seen(10, 0, own, 0, container);
    let later = total(&[&[at(0, A)], &[at(0, A)], &[at(100, B)]]);
    assert_eq!(later, BTreeMap::from([(Some(0), 50), (Some(1), 50)]));
    let at_once = total(&[&[at(0, A)], &[at(100, B)]]);
    assert_eq!(at_once, BTreeMap::from([(Some(1), 100)]));
}

#[test]
fn a_parent_that_ignores_sigchld_takes_nothing_from_others() {
    // The kernel drops the child's time, so no `reaped` ever shows it. The time already seen stays counted, and the
    // parent's later children count in full.
    let shell = |reaped| seen(10, 0, 0, reaped, A);
    let child = started(11, 1_100, 10, 100, 0, A);
    let charged = total(&[&[shell(0)], &[shell(0), child], &[shell(0)], &[shell(0)], &[shell(400)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 500)]));
}

#[test]
fn one_that_entered_from_outside_has_no_parent_in_sight() {
    let main = |reaped| seen(1, 0, 0, reaped, A);
    let entered = started(50, 1_200, 0, 70, 10, A);
    let charged = total(&[&[main(0)], &[main(0), entered], &[main(0)], &[main(25)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 105)]));
}

#[test]
fn a_reused_pid_is_a_new_process() {
    let shell = |reaped| seen(10, 0, 0, reaped, A);
    let first = started(11, 1_100, 10, 90, 0, A);
    let second = started(11, 1_200, 10, 30, 0, A);
    let charged = total(&[&[shell(0)], &[shell(0), first], &[shell(90), second], &[shell(120)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 120)]));
}

#[test]
fn a_counter_that_falls_gives_no_reading() {
    let at = |own, reaped| seen(10, 0, own, reaped, A);
    let charged = total(&[&[at(100, 50)], &[at(90, 40)], &[at(100, 50)], &[at(110, 55)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 15)]));
}

#[test]
fn rounding_down_does_not_make_a_reaped_child_count_twice() {
    let shell = |reaped| seen(10, 0, 0, reaped, A);
    let child = started(11, 1_100, 10, 100, 0, A);
    let charged = total(&[&[shell(0)], &[shell(0), child], &[shell(98)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 100)]));
}

#[test]
fn what_was_rounded_off_two_that_end_together_is_shared_whichever_ticked_last() {
    // A shim reaps one process of each of two containers. The kernel printed two ticks too few for each.
    let shim = |reaped| seen(10, 0, 0, reaped, None);
    let (of_a, of_b) = (started(11, 1_100, 10, 50, 20, A), |own| started(12, 1_100, 10, own, 20, B));
    let charged =
        total(&[&[shim(0)], &[shim(0), of_a, of_b(48)], &[shim(0), of_a, of_b(49)], &[shim(139 + 5)]]);
    assert_eq!(charged, BTreeMap::from([(Some(0), 72), (Some(1), 72)]));
}

/// What the eBPF program reports about a child of the shell; the records of `lost` others are missing.
fn told(exits: &[ProcessExit], in_flight: &[ProcessExit], lost: u64) -> KernelEvents {
    let ended = exits.len() as u64 + lost;
    KernelEvents {
        exits: exits.to_vec(),
        in_flight: in_flight.to_vec(),
        ended,
        lost,
        ..KernelEvents::default()
    }
}

fn ended(pid: u32, own_ns: u64) -> ProcessExit {
    let key = ProcessKey { pid, start_ticks: 1_100 };
    ProcessExit { key, parent_pid: 10, container: A, own_ns, children_ns: 0 }
}

/// The total of ticks charged to a shell, with its `reaped` at each pass.
fn traced_total(passes: &[(u64, KernelEvents)]) -> u64 {
    let mut sum = CpuLedger::new(BEGAN, 1);
    let mut pass = |reaped, traced| sum.advance(&[seen(10, 0, 0, reaped, A)], traced);
    pass(0, None);
    passes.iter().flat_map(|(reaped, traced)| pass(*reaped, Some(traced))).map(|charge| charge.ns).sum()
}

#[test]
fn one_that_is_freed_after_it_was_waited_for_counts_once_whatever_is_lost_meanwhile() {
    let early = ended(11, 30);
    let last = ended(11, 100);
    // Nothing is lost: its last CPU time comes with the exit record.
    assert_eq!(traced_total(&[(100, told(&[], &[early], 0)), (100, told(&[last], &[], 0))]), 100);
    // The record of a process that used 50 is lost when this one is waited for: the shell grew by both.
    assert_eq!(traced_total(&[(150, told(&[], &[early], 1)), (150, told(&[last], &[], 0))]), 150);
    // The record of a process that used 50 is lost when this one is freed: the shell grew by that process alone.
    assert_eq!(traced_total(&[(100, told(&[], &[early], 0)), (150, told(&[last], &[], 1))]), 150);
    // Two records are lost, of 50 each, while this one stays unfreed for several passes.
    let passes = [
        (150, told(&[], &[early], 1)),
        (150, told(&[], &[early], 0)),
        (200, told(&[], &[early], 1)),
        (200, told(&[last], &[], 0)),
    ];
    assert_eq!(traced_total(&passes), 200);
}

#[test]
fn one_that_is_never_freed_counts_with_what_was_told_when_it_ended() {
    assert_eq!(traced_total(&[(100, told(&[], &[ended(11, 97)], 0)), (100, told(&[], &[], 0))]), 97);
}

/// A model of the kernel with exact accounting, to compare with.
#[derive(Debug, Default)]
struct Kernel {
    clock: u64,
    next_pid: u32,
    processes: BTreeMap<u32, Process>,
    used: u64,
}

#[derive(Debug, Clone)]
struct Process {
    start: u64,
    parent: u32,
    subreaper: bool,
    zombie: bool,
    own: u64,
    reaped: u64,
    container: u32,
}

#[derive(Debug, Clone)]
enum Step {
    Fork(usize, bool),
    Cpu(usize, u64),
    Exit(usize),
    Reap(usize),
    Move(usize, u32),
    Pass,
}

impl Kernel {
    fn new() -> Self {
        let mut kernel = Self { next_pid: 2, ..Self::default() };
        let init =
            Process { start: 0, parent: 0, subreaper: true, zombie: false, own: 7, reaped: 9, container: 2 };
        kernel.processes.insert(1, init);
        kernel
    }

    fn pick(&self, index: usize) -> u32 {
        let live: Vec<u32> =
            self.processes.iter().filter(|(_, it)| !it.zombie).map(|(pid, _)| *pid).collect();
        live[index % live.len()]
    }

    fn apply(&mut self, step: &Step) {
        self.clock += 1;
        match *step {
            Step::Fork(index, subreaper) => {
                let parent = self.pick(index);
                let container = self.processes[&parent].container;
                let child = Process {
                    start: self.clock,
                    parent,
                    subreaper,
                    zombie: false,
                    own: 0,
                    reaped: 0,
                    container,
                };
                self.processes.insert(self.next_pid, child);
                self.next_pid += 1;
            }
            Step::Cpu(index, ticks) => {
                let pid = self.pick(index);
                self.processes.get_mut(&pid).unwrap().own += ticks;
                self.used += ticks;
            }
            Step::Exit(index) => self.exit(self.pick(index)),
            Step::Reap(index) => self.reap(self.pick(index)),
            Step::Move(index, container) => {
                let pid = self.pick(index);
                self.processes.get_mut(&pid).unwrap().container = container;
            }
            Step::Pass => {}
        }
    }

    fn exit(&mut self, pid: u32) {
        if pid == 1 {
            return;
        }
        self.processes.get_mut(&pid).unwrap().zombie = true;
        let mut adopter = self.processes[&pid].parent;
        while self.processes[&adopter].zombie || !self.processes[&adopter].subreaper {
            adopter = self.processes[&adopter].parent;
        }
        for process in self.processes.values_mut().filter(|process| process.parent == pid) {
            process.parent = adopter;
        }
    }

    fn reap(&mut self, pid: u32) {
        let ended: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, it)| it.zombie && it.parent == pid)
            .map(|(pid, _)| *pid)
            .collect();
        for child in ended {
            let child = self.processes.remove(&child).unwrap();
            self.processes.get_mut(&pid).unwrap().reaped += child.own + child.reaped;
        }
    }

    fn seen(&self) -> Vec<ProcessTimes> {
        let seen = self.processes.iter().map(|(pid, process)| ProcessTimes {
            key: ProcessKey { pid: *pid, start_ticks: process.start },
            ppid: process.parent,
            zombie: process.zombie,
            own_ns: process.own,
            children_ns: process.reaped,
            container: Some(ContainerIndex(process.container)),
        });
        seen.collect()
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<usize>(), any::<bool>()).prop_map(|(who, subreaper)| Step::Fork(who, subreaper)),
        4 => (any::<usize>(), 1u64..200).prop_map(|(who, ticks)| Step::Cpu(who, ticks)),
        2 => any::<usize>().prop_map(Step::Exit),
        3 => any::<usize>().prop_map(Step::Reap),
        1 => (any::<usize>(), 0u32..3).prop_map(|(who, container)| Step::Move(who, container)),
        2 => Just(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The charged CPU time is exactly the CPU time used since the first pass, for any behaviour of processes.
    #[test]
    fn all_that_was_used_is_charged_once(before in proptest::collection::vec(step(), 0..30),
                                         steps in proptest::collection::vec(step(), 0..120)) {
        let mut kernel = Kernel::new();
        for step in &before {
            kernel.apply(step);
        }
        kernel.clock += 1;
        let mut sum = CpuLedger::new(kernel.clock, 1);
        kernel.clock += 1;
        prop_assert!(sum.advance(&kernel.seen(), None).is_empty());
        kernel.used = 0;
        let mut charged = 0;
        for step in steps.iter().chain([&Step::Pass]) {
            kernel.apply(step);
            if matches!(step, Step::Pass) {
                charged += sum.advance(&kernel.seen(), None).iter().map(|charge| charge.ns).sum::<u64>();
                prop_assert_eq!(charged, kernel.used);
            }
        }
    }

    /// If no process moves or reaps across containers, each container gets exactly its own CPU time.
    #[test]
    fn containers_that_keep_to_themselves_get_their_own(steps in proptest::collection::vec(step(), 0..120)) {
        let mut kernels = [Kernel::new(), Kernel::new()];
        let mut sum = CpuLedger::new(0, 1);
        let mut charged = [0u64; 2];
        for (at, step) in steps.iter().chain([&Step::Pass]).enumerate() {
            if !matches!(step, Step::Move(..)) {
                kernels[at % 2].apply(step);
            }
            if matches!(step, Step::Pass) || at == 0 {
                let seen: Vec<ProcessTimes> = (0u32..).zip(&kernels).flat_map(|(which, kernel)| {
                    kernel.seen().into_iter().map(move |mut process| {
                        process.key.pid += which * 1_000_000;
                        process.ppid += if process.ppid > 0 { which * 1_000_000 } else { 0 };
                        process.container = Some(ContainerIndex(which));
                        process
                    })
                }).collect();
                let before = [kernels[0].used, kernels[1].used];
                for charge in sum.advance(&seen, None) {
                    charged[charge.container.unwrap().0 as usize] += charge.ns;
                }
                if at == 0 {
                    charged = before;
                }
                prop_assert_eq!(charged, before);
            }
        }
    }
}
