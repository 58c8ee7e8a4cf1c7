//! Holds: summaries that are not tried for now because the receiver refused them (by token or by job), and the messages
//! about it.
//!
//! A refused token is refused for every summary sent with it, and a token made for something else for every summary of that
//! run's job, so one attempt stands for all of them. The next attempt comes after a minute, then after two, up to an hour,
//! or at once when a token file has changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use super::jitter::jittered;
use super::tokens::Whose;
use crate::config::Secret;

/// Pause after the first refusal; each further refusal doubles it …
const FIRST_PAUSE: Duration = Duration::from_mins(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The same message is logged at most once within this time.
const TELL_PAUSE: Duration = Duration::from_hours(1);
/// At most this many holds are kept. Anything without one is tried, and logged, again.
const MOST: usize = 10_000;

/// What a hold applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum HoldKey {
    /// Everything with this token: the receiver does not know it.
    Token(Secret),
    /// Every summary of this job: the token was not made for it.
    Scope(Whose),
}

/// Pauses that grow with each failure.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    failures: u32,
    due: Instant,
    pub(super) reason: String,
}

/// What is held, and until when.
#[derive(Debug, Default)]
pub(super) struct Holds {
    held: HashMap<HoldKey, Hold>,
    told: HashMap<String, Instant>,
    /// Generation of the tokens that were refused.
    generation: u64,
}

impl Hold {
    /// The hold after a failure; its pause is longer if there was one `before`.
    pub(super) fn again(before: Option<&Self>, reason: String, longest: Duration, now: Instant) -> Self {
        let failures = before.map_or(0, |before| before.failures);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(longest);
        Self { failures: failures + 1, due: now + jittered(pause), reason }
    }

    /// Whether it is due to be tried again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// When it is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

impl Holds {
    /// Takes the current tokens' generation: holds of older tokens are released, and new failures are logged again.
    pub(super) fn with_tokens(&mut self, generation: u64) {
        if generation != self.generation {
            self.generation = generation;
            self.held.clear();
            self.told.clear();
        }
    }

    /// The hold that keeps this run's summaries from being tried now, if any.
    pub(super) fn of(&self, whose: &Whose, token: &Secret, now: Instant) -> Option<&Hold> {
        let keys = [HoldKey::Token(token.clone()), HoldKey::Scope(whose.clone())];
        keys.iter().find_map(|key| self.held.get(key).filter(|hold| !hold.is_due(now)))
    }

    /// Records a refusal.
    pub(super) fn refuse(&mut self, key: HoldKey, reason: String, now: Instant) {
        make_room(&mut self.held);
        let hold = Hold::again(self.held.get(&key), reason, LONGEST_PAUSE, now);
        self.held.insert(key, hold);
    }

    /// Records that a summary was accepted.
    pub(super) fn accept(&mut self, whose: &Whose, token: &Secret) {
        self.held.remove(&HoldKey::Token(token.clone()));
        self.held.remove(&HoldKey::Scope(whose.clone()));
    }

    /// Whether to log this message now; not again for an hour.
    pub(super) fn tells(&mut self, what: &str, now: Instant) -> bool {
        if self.told.get(what).is_some_and(|last| now.duration_since(*last) < TELL_PAUSE) {
            return false;
        }
        make_room(&mut self.told);
        self.told.insert(what.to_owned(), now);
        true
    }

    /// Forgets a message whose cause is over; returns whether it was logged.
    pub(super) fn is_over(&mut self, what: &str) -> bool {
        self.told.remove(what).is_some()
    }
}

fn make_room<K: Hash + Eq, V>(map: &mut HashMap<K, V>) {
    if map.len() >= MOST {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(organization: &str, job: &str) -> Whose {
        Whose { organization: organization.to_owned(), job: job.to_owned(), ..Whose::default() }
    }

    fn secret(token: &str) -> Secret {
        Secret::new(token.to_owned())
    }

    /// Tries for a day; returns the minutes of the tries.
    fn tries(mut holds: Holds, key: &HoldKey) -> Vec<i64> {
        let begin = Instant::now();
        let mut tries = vec![];
        for minutes in 0..24 * 60 {
            let now = begin + Duration::from_mins(minutes);
            if holds.of(&whose("a", "j"), &secret("t"), now).is_none() {
                tries.push(minutes as i64);
                holds.refuse(key.clone(), "no".to_owned(), now);
            }
        }
        tries
    }

    #[tokio::test]
    async fn what_is_refused_is_tried_less_and_less_often() {
        for key in [HoldKey::Token(secret("t")), HoldKey::Scope(whose("a", "j"))] {
            let tries = tries(Holds::default(), &key);
            assert!((25..=60).contains(&tries.len()), "{tries:?}");
            let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(pauses[0] == 1 && pauses[1] <= 2, "{pauses:?}");
            assert!(pauses[8..].iter().all(|pause| (30..=60).contains(pause)), "{pauses:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_holds_what_it_is_about_and_nothing_else() {
        let now = Instant::now();
        let mut holds = Holds::default();
        holds.refuse(HoldKey::Scope(whose("a", "j")), "not for this job".to_owned(), now);
        assert_eq!(holds.of(&whose("a", "j"), &secret("t"), now).unwrap().reason, "not for this job");
        assert!(holds.of(&whose("a", "other"), &secret("t"), now).is_none());
        holds.refuse(HoldKey::Token(secret("t")), "no such token".to_owned(), now);
        assert!(holds.of(&whose("b", "j"), &secret("t"), now).is_some());
        assert!(holds.of(&whose("b", "j"), &secret("u"), now).is_none());
        holds.accept(&whose("a", "other"), &secret("t"));
        assert!(holds.of(&whose("b", "j"), &secret("t"), now).is_none(), "the token is one after all");
        assert!(holds.of(&whose("a", "j"), &secret("t"), now).is_some());
    }

    #[tokio::test]
    async fn another_token_is_tried_at_once_and_told_of_anew() {
        let now = Instant::now();
        let mut holds = Holds::default();
        holds.refuse(HoldKey::Scope(whose("a", "j")), "no".to_owned(), now);
        assert!(holds.tells("a", now) && !holds.tells("a", now));
        holds.with_tokens(0);
        assert!(holds.of(&whose("a", "j"), &secret("t"), now).is_some(), "they are the same");
        holds.with_tokens(1);
        assert!(holds.of(&whose("a", "j"), &secret("t"), now).is_none());
        assert!(holds.tells("a", now));
    }

    #[tokio::test]
    async fn the_same_is_told_once_an_hour() {
        let begin = Instant::now();
        let mut holds = Holds::default();
        let minutes = (0..24 * 60).map(|minutes| begin + Duration::from_mins(minutes));
        let told = minutes.filter(|now| holds.tells("a", *now)).count();
        assert_eq!(told, 24);
        assert!(holds.is_over("a") && !holds.is_over("a"));
    }
}
