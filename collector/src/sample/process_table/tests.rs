use super::*;

#[test]
fn a_process_whose_children_have_all_ended_is_read_with_them_alone() {
    // Tests run at once, and each may have children: this process is read for a child of its own that has none.
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "true & read line; sleep 60 & read line; kill $!"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (pid, mut stdin) = (shell.id(), shell.stdin.take().unwrap());
    let open = || {
        let mut table = ProcessTable::open(Path::new("/proc"), 1024).unwrap().without_cgroups();
        table.pass_of(pid, Duration::ZERO);
        table
    };
    let read = |mut table: ProcessTable| table.pass_of_ended_children(pid, Duration::from_secs(1));
    let until = |is_so: &dyn Fn(&Option<TablePass>) -> bool| {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            is_so(&read(open()))
        })
    };
    let ended = |pass: &Option<TablePass>| {
        let observed = pass.as_ref().map(|pass| &pass.observations[..]);
        matches!(observed, Some([shell, child]) if !shell.zombie && child.zombie && child.ppid == shell.key.pid)
    };
    assert!(until(&ended));
    assert!(read(ProcessTable::open(Path::new("/proc"), 1024).unwrap()).is_none(), "it is not known");
    io::Write::write_all(&mut stdin, b"\n").unwrap();
    assert!(until(&|pass| pass.is_none()), "a child lives");
    drop(stdin);
    shell.wait().unwrap();
}

#[test]
fn a_file_that_a_job_made_large_is_read_in_part() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("7")).unwrap();
    let large = vec![b'x'; 3 * MAX_FILE_BYTES as usize];
    std::fs::write(tree.path().join("7/mountinfo"), &large).unwrap();
    let table = ProcessTable::open(tree.path(), 1024).unwrap();
    let key = ProcessKey { pid: 7, start_ticks: 0 };
    assert_eq!(table.read_file(key, "mountinfo").unwrap(), large[..MAX_FILE_BYTES as usize]);
}

#[test]
fn cgroups_are_read_unless_nobody_asks_for_them() {
    let cgroup = |table: ProcessTable| {
        let mut table = table;
        let pass = table.pass(Duration::from_secs(1)).unwrap();
        let own = pass.observations.iter().find(|one| one.key.pid == std::process::id()).unwrap();
        own.cgroup.map(|id| table.cgroup_content(id).to_owned())
    };
    let open = || ProcessTable::open(Path::new("/proc"), 1024).unwrap();
    assert_eq!(cgroup(open()), Some(std::fs::read("/proc/self/cgroup").unwrap()));
    assert_eq!(cgroup(open().without_cgroups()), None);
}
