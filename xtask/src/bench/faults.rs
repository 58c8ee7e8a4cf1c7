//! Acknowledged pushes that are lost, fault by fault.

use anyhow::{Result, bail};
use tests::disk::{Failing, Syncs};
use tests::faults::{self, Books};

use crate::build::{self, Object};

/// A fault and a function that injects it the given number of times.
type Fault = (&'static str, fn(u32) -> Books);

const FAULTS: [Fault; 7] = [
    ("F1 receiver killed in a burst", faults::kill),
    ("F2 power lost in a burst", |rounds| faults::power_loss(rounds, Syncs::AsAsked)),
    ("F3 disk full, then not", |rounds| faults::full_disk(rounds.min(20))),
    ("F4 syncs fail, then power lost", |rounds| faults::failing_disk(rounds, Failing::Sync)),
    ("F4 writes fail, then power lost", |rounds| faults::failing_disk(rounds, Failing::Write)),
    ("F9 each summary 100 times", faults::repeats),
    ("F37 SIGTERM, 100 in flight", |rounds| faults::stop(rounds, 100)),
];

pub(crate) fn run(rounds: u32) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("mounting a small file system needs root");
    }
    let programs = build::programs(false, Object::IfPossible)?;
    // SAFETY: no other thread is running yet.
    unsafe { std::env::set_var("RECEIVER_BIN", &programs.receiver) };
    println!(
        "{:<36} {:>7} {:>13} {:>6} {:>8} {:>14}",
        "fault", "rounds", "acknowledged", "lost", "doubled", "recovered in"
    );
    let mut broken = false;
    for (name, inject) in FAULTS {
        let books = inject(rounds);
        print(name, &books);
        broken |= books.lost > 0 || books.doubled > 0;
    }
    let control = faults::power_loss(rounds.min(5), Syncs::Lazy);
    print("control: power lost, log not synced", &control);
    if control.lost == 0 {
        bail!("the control lost nothing: the simulated power loss has no effect");
    }
    if broken {
        bail!("acknowledged runs were lost or doubled");
    }
    Ok(())
}

fn print(name: &str, books: &Books) {
    println!(
        "{name:<36} {:>7} {:>13} {:>6} {:>8} {:>11.0} ms",
        books.rounds,
        books.acknowledged,
        books.lost,
        books.doubled,
        books.recovered_in.as_secs_f64() * 1e3
    );
}
