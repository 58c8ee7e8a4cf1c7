//! Recommendations compared with the next run; `cargo xtask bench sizing` prints the table and adds real runs.

use tests::replay::{Outcome, Rule, replay, synthetic};

#[test]
fn no_run_is_killed_that_could_have_been_foretold_and_others_request_more() {
    let histories = synthetic();
    let sum = |rule: Rule| {
        histories.iter().fold(Outcome::default(), |mut sum, history| {
            let outcome = replay(history, rule);
            assert!(outcome.over_request() >= 1.0, "{}: {outcome:?}", history.name);
            if rule == Rule::Ours {
                assert_eq!(outcome.told, 0, "{}: {outcome:?}", history.name);
            }
            sum.add(&outcome);
            sum
        })
    };
    let [ours, krr, vpa] = Rule::ALL.map(sum);
    assert!(vpa.told > 0, "there is something to be told");
    for other in [krr, vpa] {
        assert!(ours.checked == other.checked && ours.killed < other.killed, "{ours:?} {other:?}");
        assert!(ours.over_request() < other.over_request(), "{ours:?} {other:?}");
        assert!(ours.with_retries() < other.with_retries(), "{ours:?} {other:?}");
    }
    // CPU is a trade-off: more than VPA's 90th percentile, less than krr's highest 95th.
    assert!(ours.cpu_over_request() < krr.cpu_over_request());
    assert!(ours.above_request() < vpa.above_request() && ours.above_request() < 0.05, "{ours:?}");
}
