//! What this project promises, measured.

use anyhow::Result;
use clap::Subcommand;

mod accuracy;
mod clock;
mod disk;
mod faults;
mod flush;
mod ingest;
mod overhead;
mod pushgateway;
mod sampling;
mod sizing;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// How much of the CPU time that the kernel charged to a container does the summary attribute to it?
    Accuracy {
        /// The table as JSON.
        #[arg(long)]
        json: bool,
    },
    /// How long is it from SIGTERM to the receiver's answer, with a day of a hundred containers to sum up?
    Flush {
        /// Rounds of each kind.
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// What does the eBPF program cost the job that it follows?
    Overhead {
        /// Pairs with and without it of each workload.
        #[arg(long, default_value_t = 15)]
        rounds: usize,
    },
    /// What does one process cost in one pass, next to what others take?
    Sampling {
        /// Passes of each.
        #[arg(long, default_value_t = 10)]
        passes: u32,
    },
    /// How many pushes a second does the receiver take, how long does one take, next to the disk and a pushgateway?
    Ingest {
        /// Length of each run, in seconds.
        #[arg(long, default_value_t = 4)]
        seconds: u64,
    },
    /// Would the next run have been killed with what is recommended, and how much is too much, next to krr and VPA?
    Sizing,
    /// What is lost when processes are killed, power goes and disks fail?
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
        Bench::Overhead { rounds } => overhead::run(*rounds),
        Bench::Sampling { passes } => sampling::run(*passes),
        Bench::Ingest { seconds } => ingest::run(*seconds),
        Bench::Sizing => sizing::run(),
        Bench::Faults { rounds } => faults::run(*rounds),
    }
}
