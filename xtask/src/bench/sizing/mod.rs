//! Recommendations from the first runs of a history, compared with the next run: made-up histories, and real runs that the
//! shipped collector measured and whose next run is repeated under each recommendation.

mod recorded;

use anyhow::{Result, bail};
use tests::replay::{History, Outcome, Rule, replay, synthetic};

use crate::build;

pub(crate) fn run() -> Result<()> {
    let synthetic = synthetic();
    println!("Made-up histories: 60 runs each, six per day.\n");
    let of_synthetic = table(&synthetic);
    let no_floor: Vec<_> =
        synthetic.into_iter().filter(|history| !history.name.starts_with("small")).collect();
    total("without \"small\"", |rule| sum(&no_floor, rule));
    if rustix::process::geteuid().is_root() {
        let programs = build::programs(false, build::Object::IfPossible)?;
        recorded::run(&programs)?;
    } else {
        eprintln!("no real runs: cgroups with limits need root");
    }
    println!(
        "\nkilled: the next run needs more than was recommended. foretold: the last 20 runs foretold it: one of them needed\n\
         as much; or one was OOM-killed at a limit that the need exceeds by at most a fifth or 100 MiB; or each of\n\
         the last three steps went up, and the need exceeds the last run by at most the largest of them. over-request:\n\
         recommended over needed, of runs that were not killed; with retries: of all runs, where a killed run is paid for and\n\
         run again with exactly its need. CPU: recommended over the 95th percentile of the run itself; above: share of the\n\
         time in which it used more. Each history weighs the same per run."
    );
    let [ours, krr, vpa] = of_synthetic;
    if ours.told > 0 {
        bail!("{} kills could have been foretold", ours.told);
    }
    if ours.over_request() >= krr.over_request() || ours.over_request() >= vpa.over_request() {
        bail!("the receiver requests no less memory than krr or VPA");
    }
    Ok(())
}

/// Prints a line per history and rule, and returns the sums per rule.
pub(super) fn table(histories: &[History]) -> [Outcome; 3] {
    println!(
        "{:<32} {:<5} {:>6} {:>9} {:>13} {:>13} {:>6} {:>7}",
        "history", "rule", "killed", "foretold", "over-request", "with retries", "CPU", "above"
    );
    for history in histories {
        for rule in Rule::ALL {
            line(&history.name, rule, &replay(history, rule));
        }
    }
    total("all", |rule| sum(histories, rule))
}

fn total(name: &str, of: impl Fn(Rule) -> Outcome) -> [Outcome; 3] {
    Rule::ALL.map(|rule| {
        let outcome = of(rule);
        line(name, rule, &outcome);
        outcome
    })
}

fn sum(histories: &[History], rule: Rule) -> Outcome {
    histories.iter().fold(Outcome::default(), |mut sum, history| {
        sum.add(&replay(history, rule));
        sum
    })
}

fn line(name: &str, rule: Rule, outcome: &Outcome) {
    let name = if rule == Rule::Ours { name } else { "" };
    println!(
        "{name:<32} {:<5} {:>3}/{:<3} {:>8} {:>12.2}x {:>12.2}x {:>5.2}x {:>5.1} %",
        rule.name(),
        outcome.killed,
        outcome.checked,
        outcome.told,
        outcome.over_request(),
        outcome.with_retries(),
        outcome.cpu_over_request(),
        100.0 * outcome.above_request()
    );
}
