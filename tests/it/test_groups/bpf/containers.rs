//! Containers that no pass sees, and containers of v1 hierarchies.

use super::{BETWEEN_PASSES, assert_attributed, measure};

#[test]
fn a_container_that_no_pass_saw_is_named_by_its_id() {
    let measured = measure(BETWEEN_PASSES, "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done");
    assert_attributed(&measured, 0);
    assert_eq!(measured.usage(0).name, measured.cgroups[0].id()[..12]);
}

#[test]
fn containers_that_begin_and_end_between_two_passes_are_all_there() {
    let script = "cd \"$(dirname \"$1\")\"; n=10; while [ $n -lt 30 ]; do
            id=$(printf %064x $n); mkdir $id
            sh -c 'echo 0 > $0/cgroup.procs; i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i+1)); done' $id
            # Whoever ran there has been waited for, and what the kernel charged is final once it can be removed.
            until cp $id/cpu.stat \"$3/$id\" && rmdir $id 2>/dev/null; do sleep 0.01; done; n=$((n+1)); done";
    let measured = measure(BETWEEN_PASSES, script);
    let lost = measured.payload.attribution.as_ref().unwrap().lost_records as f64;
    let mut found = 0;
    for file in std::fs::read_dir(measured.directory.path()).unwrap().flatten() {
        let id = file.file_name().into_string().unwrap();
        if id.len() != 64 {
            continue;
        }
        let stat = std::fs::read_to_string(file.path()).unwrap();
        let truth = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
        let truth = truth.parse::<f64>().unwrap() / 1e6;
        let usage = measured.payload.containers.iter().find(|one| one.id.as_ref() == Some(&id));
        let usage = usage.unwrap_or_else(|| panic!("{id} is missing"));
        assert_eq!(usage.process_count, Some(21), "{id}");
        let found_seconds = usage.cpu_seconds.unwrap();
        // About 15 ms each, including the first process's time to move there and to end. A process whose end the kernel did
        // not report lives for less than a millisecond here.
        let off = (found_seconds - truth).abs();
        assert!(
            off <= 0.03 * truth + 0.001 * lost,
            "{id}: {found_seconds} s of {truth} s, {lost} records lost"
        );
        found += 1;
    }
    assert_eq!(found, 20);
}

#[cfg(feature = "cgroup-v1")]
#[test]
fn a_container_in_a_v1_hierarchy_is_found() {
    use tests::cgroup::Cgroup;
    use tests::privileges::Capabilities;

    use crate::beside::measure_in;

    for interval in ["--interval=300ms", BETWEEN_PASSES] {
        let cgroups = [Cgroup::new_v1().unwrap(), Cgroup::new_v1().unwrap()];
        let script = "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done; \"$4\" mover \"$1\" \"$2\" 4 100; true";
        let measured =
            measure_in(cgroups, Capabilities::Ebpf, &["--ebpf=require", "--top=100", interval], script);
        assert_attributed(&measured, 0);
        assert_attributed(&measured, 1);
        assert_eq!(measured.command("true").process_count, 500);
    }
}
