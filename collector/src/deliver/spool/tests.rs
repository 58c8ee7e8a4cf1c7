use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

const A: &str = "0192f0c4-0000-7000-8000-00000000000a";
const B: &str = "0192f0c4-0000-7000-8000-00000000000b";
const C: &str = "0192f0c4-0000-7000-8000-00000000000c";

fn spool(directory: &Path, max_bytes: u64) -> Spool {
    let directory = directory.join("spool");
    Spool::open(&SpoolConfig { directory, max_bytes, max_age: Duration::from_hours(1), is_default: false })
        .unwrap()
}

fn names(spool: &Spool) -> Vec<(String, Kind)> {
    let mut names: Vec<_> =
        spool.entries().unwrap().into_iter().map(|entry| (entry.id, entry.kind)).collect();
    names.sort();
    names
}

fn age(path: &Path, by: Duration) {
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

#[test]
fn a_later_summary_of_a_run_takes_the_place_of_the_earlier_one() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(directory.path(), 1 << 20);
    spool.put(A, Kind::Interim, b"{\"seq\":1}").unwrap();
    spool.put(A, Kind::Interim, b"{\"seq\":2}").unwrap();
    let path = spool.put(A, Kind::Final, b"{\"seq\":3}").unwrap();
    assert_eq!(names(&spool), [(A.to_owned(), Kind::Final)]);
    assert_eq!(fs::read(&path).unwrap(), b"{\"seq\":3}");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.uid(), rustix::process::getuid().as_raw());
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    spool.remove(A);
    assert!(names(&spool).is_empty());
}

#[test]
fn the_oldest_interim_ones_go_first_and_final_ones_last() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(directory.path(), 100);
    let old = spool.put(A, Kind::Final, &[b'a'; 40]).unwrap();
    age(&old, Duration::from_secs(1000));
    spool.put(B, Kind::Interim, &[b'b'; 40]).unwrap();
    spool.put(C, Kind::Final, &[b'c'; 40]).unwrap();
    assert_eq!(names(&spool), [(A.to_owned(), Kind::Final), (C.to_owned(), Kind::Final)]);
    spool.put(B, Kind::Interim, &[b'b'; 60]).unwrap();
    assert_eq!(
        names(&spool),
        [(B.to_owned(), Kind::Interim), (C.to_owned(), Kind::Final)],
        "the older final one"
    );
    let error = spool.put(A, Kind::Final, &[b'a'; 101]).unwrap_err();
    assert!(error.to_string().contains("--spool-max-bytes is 100"), "{error}");
    assert_eq!(names(&spool).len(), 2, "what does not fit drops nothing");
}

#[test]
fn what_is_too_old_goes() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(directory.path(), 1 << 20);
    let old = spool.put(A, Kind::Final, b"{}").unwrap();
    age(&old, Duration::from_secs(3601));
    spool.put(B, Kind::Final, b"{}").unwrap();
    spool.tidy();
    assert_eq!(names(&spool), [(B.to_owned(), Kind::Final)]);
}

#[test]
fn what_is_refused_lies_aside_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(directory.path(), 1 << 20);
    spool.put(A, Kind::Final, b"{\"seq\": 3}").unwrap();
    let entry = spool.entries().unwrap().remove(0);
    let path = spool.refuse(&entry, "413: too large").unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!((&kept["reason"], &kept["summary"]["seq"]), (&"413: too large".into(), &3.into()));
    assert_eq!(names(&spool), [(A.to_owned(), Kind::Refused)]);
    spool.put(B, Kind::Interim, b"not JSON").unwrap();
    let entry = spool.entries().unwrap().into_iter().find(|entry| entry.id == B).unwrap();
    spool.refuse(&entry, "400").unwrap();
    assert_eq!(names(&spool).len(), 2);
}

#[test]
fn a_run_has_one_owner_and_what_the_dead_began_goes() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(directory.path(), 1 << 20);
    let lock = spool.lock(A).unwrap().unwrap();
    assert!(spool.lock(A).unwrap().is_none());
    let begun = |id| spool.directory.join(format!(".{id}.checkpoint.77.tmp"));
    fs::write(begun(A), b"half").unwrap();
    fs::write(begun(B), b"half").unwrap();
    fs::write(spool.directory.join("notes.txt"), b"mine").unwrap();
    spool.tidy();
    assert!(begun(A).exists() && !begun(B).exists(), "only the dead one's");
    assert!(spool.directory.join("notes.txt").exists());
    drop(lock);
    spool.lock(A).unwrap().unwrap().remove();
    assert!(!spool.directory.join(format!("{A}.lock")).exists());
}

#[test]
fn names_that_are_no_ids_are_none_of_ours() {
    for name in
        ["../x.final.json", "x.final.json", ".final.json", "0192F0C4-0000-7000-8000-00000000000A.final.json"]
    {
        assert_eq!(id(name, ".final.json"), None, "{name}");
    }
    assert_eq!(id(&format!("{A}.final.json"), ".final.json").as_deref(), Some(A));
}

#[test]
fn an_unfinished_file_leaves_the_one_in_its_place_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    AtomicFile::write(&path, b"whole").unwrap();
    let mut file = AtomicFile::create(&path).unwrap();
    file.append(b"ha").unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
