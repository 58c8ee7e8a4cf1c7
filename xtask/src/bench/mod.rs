//! Measures what this project promises.

use anyhow::Result;
use clap::Subcommand;

mod accuracy;
mod clock;
mod disk;
mod faults;
mod flush;
mod ingest;
mod memory;
mod node;
mod overhead;
mod page;
mod pushgateway;
mod sampling;
mod sizing;
mod startup;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// How much of the CPU time that the kernel charged to a container does the summary attribute to it?
    Accuracy {
        /// Print the table as JSON.
        #[arg(long)]
        json: bool,
    },
    /// How long does it take from SIGTERM to the receiver's answer, with a day of a hundred containers to sum up?
    Flush {
        /// Rounds of each kind.
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// How much memory is recommended after three runs, compared with the least that the job ends well with?
    Memory(memory::Options),
    /// What does it cost to follow every job of a node, and does the cost grow at most linearly with the processes?
    Node {
        /// Length of each measurement, in seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Pods with 50 processes each.
        #[arg(long, default_value_t = 200)]
        pods: usize,
    },
    /// What does the eBPF program cost the job that it follows?
    Overhead {
        /// Pairs of runs with and without the program, per workload.
        #[arg(long, default_value_t = 15)]
        rounds: usize,
    },
    /// How much CPU time does one process cost per pass, compared with other tools?
    Sampling {
        /// Passes of each.
        #[arg(long, default_value_t = 10)]
        passes: u32,
    },
    /// How much longer does a command take under `collector run`, from start to end?
    Startup {
        /// Rounds; every form of the command runs once in each.
        #[arg(long, default_value_t = 40)]
        rounds: usize,
        /// Use this collector instead of building one.
        #[arg(long, value_name = "PROGRAM")]
        collector: Option<std::path::PathBuf>,
    },
    /// How many pushes per second does the receiver accept, and how long does one take, compared with the disk and a pushgateway?
    Ingest {
        /// Length of each run, in seconds.
        #[arg(long, default_value_t = 4)]
        seconds: u64,
    },
    /// Would the recommendation have killed the next run, and how much of it is too much, compared with krr and VPA?
    Sizing,
    /// How long does the receiver take for each of its pages, with many jobs and runs stored?
    Page {
        /// Number of jobs.
        #[arg(long, default_value_t = 10_000)]
        jobs: u64,
        /// Number of runs of all jobs.
        #[arg(long, default_value_t = 1_000_000)]
        runs: u64,
        /// Requests per page.
        #[arg(long, default_value_t = 200)]
        requests: usize,
        /// Use this receiver instead of building one.
        #[arg(long, value_name = "PROGRAM")]
        receiver: Option<std::path::PathBuf>,
    },
    /// What is lost when processes are killed, power fails and disks fail?
    Faults {
        /// Rounds of each fault.
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Accuracy { json } => accuracy::run(*json),
        Bench::Flush { rounds } => flush::run(*rounds),
        Bench::Memory(options) => memory::run(options),
        Bench::Node { seconds, pods } => node::run(*seconds, *pods),
        Bench::Overhead { rounds } => overhead::run(*rounds),
        Bench::Sampling { passes } => sampling::run(*passes),
        Bench::Startup { rounds, collector } => startup::run(*rounds, collector.as_deref()),
        Bench::Ingest { seconds } => ingest::run(*seconds),
        Bench::Sizing => sizing::run(),
        Bench::Page { jobs, runs, requests, receiver } => {
            page::run(*jobs, *runs, *requests, receiver.as_deref())
        }
        Bench::Faults { rounds } => faults::run(*rounds),
    }
}
