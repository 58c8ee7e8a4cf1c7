//! Feeds nonsense to the parsers: the targets of `fuzz/`, with a corpus from this machine's own files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{cargo, checked, root};

const TARGETS: [&str; 8] =
    ["stat", "cgroup", "mountinfo", "environ", "quantity", "submission", "token", "checkpoint"];

/// Runs each target, or only the named ones, for this many seconds.
pub(crate) fn run(seconds: u64, only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        bail!("{unknown:?} is not a target; the targets are {}", TARGETS.join(", "));
    }
    let mut cargo = cargo();
    // Names the whole workspace so that cargo reuses the dependencies that are already built.
    cargo.args(["build", "--locked", "--workspace", "--features=fuzz/fuzzer"]);
    cargo.args(TARGETS.map(|target| format!("--bin={target}")));
    checked(cargo.env("RUSTC_WORKSPACE_WRAPPER", root().join("fuzz/rustc.sh")))?;
    let at = root().join("target/fuzz");
    seed(&at.join("corpus"))?;
    let wanted: Vec<_> =
        TARGETS.into_iter().filter(|name| only.is_empty() || only.iter().any(|one| one == name)).collect();
    // All at once: each target gets its time, no matter how many processors there are.
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            wanted.iter().map(|target| scope.spawn(|| fuzz(&at, target, seconds))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a thread failed"))).collect()
    });
    results.into_iter().collect()
}

fn fuzz(at: &Path, target: &str, seconds: u64) -> Result<()> {
    let artifacts = at.join("artifacts").join(target);
    std::fs::create_dir_all(&artifacts)?;
    let mut fuzzer = Command::new(root().join("target/debug").join(target));
    fuzzer.arg(at.join("corpus").join(target)).arg(format!("-max_total_time={seconds}"));
    fuzzer.args(["-max_len=16384", "-rss_limit_mb=1024", "-timeout=10", "-print_final_stats=1"]);
    fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let output = fuzzer.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{log}");
        bail!("{target} found a failing input: {}; turn it into a test", artifacts.display());
    }
    let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("{target:<12} {:>12} runs, nothing found", runs.unwrap_or("?").trim());
    Ok(())
}

/// Fills the corpus with real input.
fn seed(corpus: &Path) -> Result<()> {
    let put = |target: &str, name: &str, content: &[u8]| -> Result<()> {
        let directory = corpus.join(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), content).context("cannot write the corpus")
    };
    for process in std::fs::read_dir("/proc")?.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        for target in ["stat", "cgroup", "mountinfo"] {
            // The process may have ended meanwhile.
            let Ok(content) = std::fs::read(process.path().join(target)) else { continue };
            if pid.bytes().all(|byte| byte.is_ascii_digit()) {
                put(target, &pid, &content)?;
            }
        }
    }
    let data = |path: &str| -> Result<PathBuf> { Ok(root().join(path)) };
    let paths = std::fs::read_to_string(data("collector/tests/data/cgroup-paths.tsv")?)?;
    for (number, row) in paths.lines().skip(1).enumerate() {
        let path = row.split('\t').nth(1).unwrap_or_default();
        put("cgroup", &format!("path-{number}"), format!("0::{path}\n").as_bytes())?;
    }
    // Not the environments of this machine's processes, which contain secrets.
    let long = "x".repeat(1000);
    let environs = [
        "O=my-org\0R=my-org/my-repo\0W=ci.yml\0J=build\0I=4711\0A=1\0".to_owned(),
        "PATH=/bin\0R=a/b\0I=\0I=1\0".to_owned(),
        format!("O={long}\0R={long}/{long}\0W={long}\0J= {long}\0I={long}\0"),
    ];
    for (number, text) in environs.into_iter().enumerate() {
        put("environ", &number.to_string(), text.as_bytes())?;
    }
    let quantities =
        ["500m", "1.5", "128Mi", "1e3", "2h45m0.5s", r#"{"runner": {"cpu": "2", "memory": "1Gi"}}"#];
    for (number, text) in quantities.into_iter().enumerate() {
        put("quantity", &number.to_string(), text.as_bytes())?;
    }
    put("submission", "golden", &std::fs::read(data("wire/tests/submission.json")?)?)?;
    for (number, text) in
        ["0123456789abcdef".repeat(4), format!("{}.1893456000", "ab".repeat(32))].iter().enumerate()
    {
        put("token", &number.to_string(), text.as_bytes())?;
    }
    let run = tests::day::identity(&[
        ("GITHUB_REPOSITORY_OWNER", "o"),
        ("GITHUB_REPOSITORY", "o/r"),
        ("GITHUB_WORKFLOW", "w"),
        ("GITHUB_JOB", "j"),
        ("GITHUB_RUN_ID", "1"),
    ]);
    for passes in [1, 7] {
        tests::day::checkpoint(&corpus.join("checkpoint"), &run, passes)?;
    }
    Ok(())
}
