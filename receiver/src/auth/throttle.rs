//! Delays the answers to wrong tokens, longer and longer for each address. Right tokens are never delayed.
//!
//! CI pods share addresses, so no request is refused because of what a neighbour did. The delay slows down a client
//! that guesses one token after another and limits the cost of failures. It does not protect a secret that is too
//! short.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// This many wrong tokens from an address are answered without delay.
const FREE: u32 = 5;
/// The first delay; each further wrong token doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// No answer is held longer than this.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// An address that sent no wrong token for this long starts over.
const FORGET: Duration = Duration::from_mins(1);
/// At most this many addresses are remembered. The one that has been quiet the longest is forgotten first.
const MAX_ADDRESSES: usize = 4096;

/// Addresses that recently sent wrong tokens.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, Record>>);

#[derive(Debug, Clone, Copy)]
struct Record {
    failures: u32,
    last: Instant,
}

impl Guesses {
    /// Counts a wrong token. Returns how long to delay the answer.
    pub fn failed(&self, address: IpAddr, now: Instant) -> Duration {
        let address = network(address);
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= MAX_ADDRESSES && !records.contains_key(&address) {
            records.retain(|_, record| now.saturating_duration_since(record.last) < FORGET);
            if records.len() >= MAX_ADDRESSES {
                let quietest =
                    records.iter().min_by_key(|(_, record)| record.last).map(|(address, _)| *address);
                quietest.map(|address| records.remove(&address));
            }
        }
        let record = records.entry(address).or_insert(Record { failures: 0, last: now });
        if now.saturating_duration_since(record.last) >= FORGET {
            record.failures = 0;
        }
        record.failures = record.failures.saturating_add(1);
        record.last = now;
        let doublings = match record.failures.checked_sub(FREE + 1) {
            None => return Duration::ZERO,
            Some(doublings) => doublings.min(16),
        };
        FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY)
    }
}

/// Masks an IPv6 address to its /64 network: a client that has one address can use all 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_end_and_are_forgotten() {
        let guesses = Guesses::default();
        let begin = Instant::now();
        let address = IpAddr::from([127, 0, 0, 1]);
        let delays: Vec<_> = (0..20).map(|_| guesses.failed(address, begin).as_millis()).collect();
        assert_eq!(delays[..9], [0, 0, 0, 0, 0, 50, 100, 200, 400]);
        assert_eq!(delays[19], LONGEST_DELAY.as_millis());
        assert_eq!(guesses.failed([127, 0, 0, 2].into(), begin), Duration::ZERO, "another address");
        assert_eq!(guesses.failed(address, begin + FORGET), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded_and_a_network_is_one() {
        let guesses = Guesses::default();
        let begin = Instant::now();
        for address in 0..3 * MAX_ADDRESSES as u32 {
            let now = begin + Duration::from_micros(u64::from(address));
            guesses.failed(IpAddr::from(address.to_be_bytes()), now);
        }
        assert_eq!(guesses.0.lock().unwrap().len(), MAX_ADDRESSES);
        let delays: Vec<_> = (0..=u128::from(FREE))
            .map(|host| guesses.failed(Ipv6Addr::from_bits((0x2001_0db8 << 96) + host).into(), begin))
            .collect();
        assert_eq!(delays[FREE as usize], FIRST_DELAY);
    }
}
