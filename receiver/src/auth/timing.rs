//! F34: the time that a comparison takes reveals nothing about the secret (a t-test in the manner of dudect).

use std::hint::black_box;
use std::time::Instant;

use super::*;

/// Comparisons of each kind in one try.
const SAMPLES: usize = 20_000;
/// If |t| is larger than this, the two means differ by more than chance.
const BOUND: f64 = 4.5;
/// Other work on the machine can make one try fail, but not all.
const TRIES: usize = 6;

/// Welch's t of the times that `operation` takes on two inputs, which alternate at random.
fn t(mut operation: impl FnMut(&str) -> bool, inputs: [&str; 2]) -> f64 {
    let mut times = [const { Vec::new() }; 2];
    // xorshift: the order must not correlate with any timer.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    while times[0].len() < SAMPLES || times[1].len() < SAMPLES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let kind = usize::from(random >> 40 & 1 == 1);
        let begin = Instant::now();
        black_box(operation(black_box(inputs[kind])));
        times[kind].push(begin.elapsed().as_nanos() as f64);
    }
    let mut all: Vec<f64> = times.concat();
    all.sort_by(f64::total_cmp);
    // Drop the slowest tenth: interrupts and other noise, which have nothing to do with the inputs.
    let crop = all[all.len() * 9 / 10];
    let [(mean_a, error_a), (mean_b, error_b)] = times.map(|times| {
        let times: Vec<_> = times.into_iter().filter(|time| *time <= crop).collect();
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        (mean, times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0) / count)
    });
    (mean_a - mean_b) / (error_a + error_b).sqrt().max(f64::EPSILON)
}

/// The smallest |t| of several tries: a real difference shows in all of them.
fn smallest_t(mut operation: impl FnMut(&str) -> bool, inputs: [&str; 2]) -> f64 {
    let mut smallest = f64::INFINITY;
    for _ in 0..TRIES {
        smallest = smallest.min(t(&mut operation, inputs).abs());
        if smallest < BOUND {
            break;
        }
    }
    smallest
}

#[test]
fn f34_the_time_of_a_comparison_tells_nothing() {
    let scope = Scope::new("o", Some("r"), Some("w"), Some("j")).unwrap();
    let secrets = Secrets::new(["my-secret-token"], ["my-hmac-key"]).unwrap();
    let right = secrets.minting().mint(&scope, None);
    let wrong = format!("{}{}", if right.starts_with('0') { "1" } else { "0" }, &right[1..]);
    let verify = |token: &str| {
        PushToken::parse(token)
            .is_some_and(|token| secrets.verify(&token, &scope, Timestamp::UNIX_EPOCH).is_ok())
    };
    assert!(verify(&right) && !verify(&wrong));
    let push = smallest_t(verify, [&right, &wrong]);
    assert!(push < BOUND, "a push token: |t| = {push}");
    let read = smallest_t(|token| secrets.may_read(token), ["my-secret-tokex", "xy-secret-token"]);
    assert!(read < BOUND, "a read token: |t| = {read}");
}

#[test]
fn f34_a_comparison_that_stops_early_would_be_found() {
    let secret = "0123456789abcdef".repeat(16);
    let early = |token: &str| secret.bytes().zip(token.bytes()).all(|(one, other)| black_box(one) == other);
    let wrong_at_once = format!("x{}", &secret[1..]);
    let late = smallest_t(early, [&secret, &wrong_at_once]);
    assert!(late > BOUND, "|t| = {late}");
}
