//! Acknowledged pushes survive every failure of the process and its disk.

use tests::disk::{Failing, Syncs};
use tests::faults::{self, Books};

use super::rounds;

/// Checks that nothing is lost or doubled, and that the fault did hit pushes.
fn kept(books: &Books) {
    println!("{books:?}");
    assert_eq!((books.lost, books.doubled), (0, 0), "{books:?}");
    assert!(books.acknowledged > u64::from(books.rounds), "{books:?}");
}

#[test]
fn f1_nothing_is_lost_by_kills_in_a_burst() {
    kept(&faults::kill(rounds(20)));
}

#[test]
fn f2_nothing_is_lost_by_a_power_loss() {
    kept(&faults::power_loss(rounds(20), Syncs::AsAsked));
}

#[test]
fn f2_control_a_log_that_is_not_synced_does_lose() {
    let books = faults::power_loss(5, Syncs::Lazy);
    assert!(books.lost > 0, "{books:?}");
}

#[test]
fn f3_a_full_disk_is_told_and_recovered_from() {
    kept(&faults::full_disk(rounds(20).min(20) / 4));
}

#[test]
fn f4_a_failed_sync_acknowledges_nothing() {
    kept(&faults::failing_disk(rounds(20).min(50) / 2, Failing::Sync));
}

#[test]
fn f4_a_failed_write_acknowledges_nothing() {
    kept(&faults::failing_disk(rounds(20).min(50) / 4, Failing::Write));
}

#[test]
fn f9_a_repeated_summary_is_one_row() {
    let books = faults::repeats(5);
    assert_eq!((books.acknowledged, books.lost, books.doubled), (5, 0, 0), "{books:?}");
}

#[test]
fn f37_a_stop_finishes_what_is_in_flight() {
    kept(&faults::stop(3, 100));
}
