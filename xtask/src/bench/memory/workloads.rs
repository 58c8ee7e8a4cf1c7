//! Jobs whose memory is hard to measure: because of where it is, how long it exists, and which processes share it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// One job.
pub(super) struct Workload {
    /// Its name, which is also the job's name at the receiver.
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// A shell script. `$SCRATCH` is an empty directory, `$SHM` one in shared memory, `$WORKLOAD` the workload program,
    /// `$PYTHON` a Python.
    pub(super) script: &'static str,
    /// A program that not every machine has.
    pub(super) needs: Option<&'static str>,
}

const fn python(name: &'static str, what: &'static str, script: &'static str) -> Workload {
    Workload { name, what, script, needs: Some("python3") }
}

const fn plain(name: &'static str, what: &'static str, script: &'static str) -> Workload {
    Workload { name, what, script, needs: None }
}

pub(super) const WORKLOADS: [Workload; 13] = [
    python("at-once", "300 MiB, ends at once", r#""$PYTHON" -c 'x = b"x" * (300 << 20)'"#),
    python(
        "spike",
        "300 MiB for 0.3 s of 2.7 s",
        r#""$PYTHON" -c 'import time
time.sleep(1.2); x = b"x" * (300 << 20); time.sleep(0.3); del x; time.sleep(1.2)'"#,
    ),
    plain("shm", "200 MiB in /dev/shm", r#"head -c 209715200 /dev/zero > "$SHM/x"; sleep 1; rm "$SHM/x""#),
    python(
        "forks",
        "250 MiB, six children share it",
        r#""$PYTHON" -c 'import os, time
x = b"x" * (250 << 20)
for _ in range(6):
    if os.fork() == 0:
        time.sleep(1.5)
        os._exit(0)
for _ in range(6):
    os.wait()'"#,
    ),
    Workload {
        name: "compile",
        what: "g++ -j2, heavy headers",
        script: r#"cd "$SCRATCH"
for i in 1 2 3; do printf '#include <bits/stdc++.h>\nint f%d(std::map<int, std::string>& m) { return m.size(); }\n' $i > f$i.cpp; done
printf 'all: $(patsubst %%.cpp,%%.o,$(wildcard *.cpp))\n%%.o: %%.cpp\n\tg++ -c -o $@ $<\n' > Makefile
make -s -j2 all"#,
        needs: Some("g++"),
    },
    plain(
        "reads",
        "a file of 500 MiB, read twice",
        r#"truncate --size=500M "$SCRATCH/x"; cat "$SCRATCH/x" > /dev/null; cat "$SCRATCH/x" > /dev/null; sleep 0.5"#,
    ),
    python(
        "writes",
        "writes 200 MiB, holds 80 MiB",
        r#"head -c 209715200 /dev/zero > "$SCRATCH/x"; "$PYTHON" -c 'import time
x = b"x" * (80 << 20); time.sleep(0.5)'"#,
    ),
    plain(
        "short",
        "60 x 20 MiB, one after the other",
        r#"i=0; while [ $i -lt 60 ]; do "$WORKLOAD" touch 20971520; i=$((i+1)); done"#,
    ),
    python(
        "two",
        "2 x 100 MiB at once, for 0.2 s",
        r#"hold() { "$PYTHON" -c 'import time
time.sleep(0.6); x = b"x" * (100 << 20); time.sleep(0.2)'; }
hold & one=$!; hold & other=$!; wait $one; wait $other; sleep 0.5"#,
    ),
    python(
        "mapped",
        "150 MiB of a file, mapped and written",
        r#""$PYTHON" -c 'import mmap, os, time
with open(os.environ["SCRATCH"] + "/x", "wb+") as file:
    file.truncate(150 << 20)
    x = mmap.mmap(file.fileno(), 150 << 20)
    for at in range(0, 150 << 20, 4096):
        x[at] = 1
    time.sleep(0.5)'"#,
    ),
    python(
        "grows",
        "grows to 200 MiB in 2 s",
        r#""$PYTHON" -c 'import time
x = []
for _ in range(20):
    x.append(b"x" * (10 << 20)); time.sleep(0.1)'"#,
    ),
    Workload {
        name: "collected",
        what: "Node.js, garbage and 60 MiB",
        script: r"node -e 'const kept = []; const end = Date.now() + 1500;
while (Date.now() < end) { const some = new Array(1 << 17).fill(Math.random()); if (kept.length < 60) kept.push(some); }'",
        needs: Some("node"),
    },
    plain("little", "next to nothing", "sleep 1"),
];

/// The paths of the programs that the workloads run.
pub(super) struct Workshop {
    python: Option<PathBuf>,
    workload: PathBuf,
}

impl Workshop {
    pub(super) fn find(workload: &Path) -> Self {
        // The `python3` on the path may be a script that starts the real one.
        let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let python = python.ok().filter(|output| output.status.success());
        let python = python.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
        Self { python, workload: workload.to_owned() }
    }

    /// Why a workload cannot be run here.
    pub(super) fn lack(&self, workload: &Workload) -> Option<String> {
        let needs = workload.needs?;
        let is_there = match needs {
            "python3" => self.python.is_some(),
            name => std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|directory| directory.join(name).exists())
            }),
        };
        (!is_there).then(|| format!("{needs} is not installed"))
    }
}

/// The directories of one run, removed on drop, so that a killed run leaves nothing for the next one.
pub(super) struct Scratch {
    scratch: tempfile::TempDir,
    shm: tempfile::TempDir,
}

impl Scratch {
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let shm = tempfile::tempdir_in("/dev/shm").context("no directory in /dev/shm")?;
        Ok(Self { scratch: tempfile::tempdir_in(directory)?, shm })
    }

    /// Sets the environment of a command: the directories, the programs and PATH, and nothing else.
    pub(super) fn give(&self, programs: &Workshop, command: &mut Command) {
        command.env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("SCRATCH", self.scratch.path())
            .env("SHM", self.shm.path())
            .env("TMPDIR", self.scratch.path());
        command.env("WORKLOAD", &programs.workload);
        if let Some(python) = &programs.python {
            command.env("PYTHON", python);
        }
    }
}
