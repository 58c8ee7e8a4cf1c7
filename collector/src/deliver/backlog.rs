//! Pushes the summaries in the spool. Failures are retried less and less often, and logged once an hour.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::holds::Hold;
use super::jitter::jittered;
use super::push::{PushError, Pusher};
use super::spool::{Kind, Spool, SpoolEntry};
use super::tokens::Whose;

/// How long one summary is tried before the receiver counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two checks of the spool.
const PAUSE: Duration = Duration::from_mins(1);
/// Pause between two checks of the token files.
const TOKENS_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause before a retry of a summary that cannot be read, or that the receiver fails at.
const LONGEST_FILE_PAUSE: Duration = Duration::from_hours(1);
/// Longest pause for an unreachable receiver, which may be back any time.
const LONGEST_RECEIVER_PAUSE: Duration = Duration::from_mins(5);
/// If the receiver fails at this many summaries in a row, the summaries are not the cause.
const MOST_BROKEN: u32 = 3;
/// The subject of the message that is logged once an hour.
const RECEIVER: &str = "the receiver, of the spool";

/// What became of the summaries in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The receiver has them now.
    pub delivered: u64,
    /// The receiver already had a later one of the same run.
    pub superseded: u64,
    /// The receiver will never accept them: they are set aside.
    pub refused: u64,
    /// They are still in the spool.
    pub kept: u64,
}

/// Delivers a spool.
#[derive(Debug)]
pub struct Backlog {
    spool: Spool,
    pusher: Pusher,
    /// Known files by path; only those that still exist.
    files: HashMap<PathBuf, KnownFile>,
    /// Set while the receiver cannot be reached.
    receiver: Option<Hold>,
}

/// A file that need not be read each time.
#[derive(Debug)]
struct KnownFile {
    entry: SpoolEntry,
    whose: Whose,
    hold: Option<Hold>,
}

/// By organization: the number of summaries that stay, and why.
type Waiting = BTreeMap<String, (u64, String)>;

/// How one try ended.
enum Tried {
    /// Continue with the next one.
    On,
    /// The receiver failed at it, but may accept the next one.
    Broken(String),
    /// It is pointless to try another one.
    OutOfReach(String),
}

impl Backlog {
    /// The backlog of this spool, for this receiver.
    pub fn new(spool: Spool, pusher: Pusher) -> Self {
        Self { spool, pusher, files: HashMap::new(), receiver: None }
    }

    /// Pushes everything that is due, oldest first, except for runs that `except` names. A refusal because of a token holds
    /// back only summaries with the same token or of the same job. An unreachable receiver is not tried again for each
    /// summary.
    pub async fn deliver(&mut self, except: impl Fn(&str) -> bool) -> io::Result<Tally> {
        let mut entries = self.spool.entries()?;
        entries.retain(|entry| entry.kind.is_due() && !except(&entry.id));
        let there: HashSet<_> = entries.iter().map(|entry| entry.path.clone()).collect();
        self.files.retain(|path, _| there.contains(path));
        let mut tally = Tally::default();
        let mut waiting = Waiting::new();
        let mut broken = 0;
        let mut reachable = self.receiver.as_ref().is_none_or(|hold| hold.is_due(Instant::now()));
        for entry in entries {
            if !reachable {
                tally.kept += 1;
                continue;
            }
            let failure = match self.try_one(&entry, &mut tally, &mut waiting).await {
                Tried::On => continue,
                Tried::Broken(failure) => {
                    broken += 1;
                    failure
                }
                Tried::OutOfReach(failure) => {
                    broken = MOST_BROKEN;
                    failure
                }
            };
            if broken >= MOST_BROKEN {
                reachable = false;
                let before = self.receiver.as_ref();
                self.receiver = Some(Hold::again(before, failure, LONGEST_RECEIVER_PAUSE, Instant::now()));
            }
        }
        if reachable && self.receiver.take().is_some() && self.pusher.is_over(RECEIVER) {
            info!("summaries from the spool are delivered again");
        }
        self.tell(&tally, waiting);
        Ok(tally)
    }

    /// Repeats [`deliver`](Self::deliver) forever, or until nothing is left if `until_empty`.
    pub async fn deliver_repeatedly(mut self, except: impl Fn(&str) -> bool, until_empty: bool) {
        loop {
            match self.deliver(&except).await {
                Ok(Tally { kept: 0, .. }) if until_empty => return,
                Ok(_) => {}
                Err(error) => warn!(%error, "the spool directory cannot be read"),
            }
            self.wait().await;
        }
    }

    /// Waits until there is work: for a while, or until a token file's content changes.
    pub async fn wait(&self) {
        let generation = self.pusher.generation();
        let due = self.receiver.as_ref().map_or_else(|| Instant::now() + jittered(PAUSE), Hold::due);
        // At least a short pause.
        let end = due.max(Instant::now() + TOKENS_PAUSE);
        while Instant::now() < end && self.pusher.generation() == generation {
            sleep_until(end.min(Instant::now() + TOKENS_PAUSE)).await;
        }
    }

    /// Tries one summary, unless it is held.
    async fn try_one(&mut self, entry: &SpoolEntry, tally: &mut Tally, waiting: &mut Waiting) -> Tried {
        let known = self.files.get(&entry.path).filter(|known| known.entry == *entry);
        if known.and_then(|known| known.hold.as_ref()).is_some_and(|hold| !hold.is_due(Instant::now())) {
            tally.kept += 1;
            return Tried::On;
        }
        if let Some(known) = known
            && let Some(held) = self.pusher.held(&known.whose)
        {
            return keep(&known.whose, &held, tally, waiting);
        }
        let path = entry.path.clone();
        let body = match beside(move || std::fs::read(path)).await {
            Ok(body) => Bytes::from(body),
            // Another collector delivered it, or a later summary took its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Tried::On,
            Err(error) => {
                tally.kept += 1;
                self.hold(entry, &error, "a summary in the spool cannot be read");
                return Tried::On;
            }
        };
        let whose = Whose::of(&body);
        let hold = known.and_then(|known| known.hold.clone());
        self.files.insert(entry.path.clone(), KnownFile { entry: entry.clone(), whose: whose.clone(), hold });
        let result = match self.pusher.held(&whose) {
            Some(held) => Err(held),
            None => self.pusher.push(body, Instant::now() + PATIENCE).await,
        };
        match result {
            Err(error) if error.is_of_token() => keep(&whose, &error, tally, waiting),
            Err(PushError::OutOfTime { last, status: Some(status), .. }) if is_about_one(status) => {
                tally.kept += 1;
                self.hold(entry, &last, "the receiver fails on a summary, which stays in the spool");
                Tried::Broken(last)
            }
            // The cause is neither the summary nor the token, but the address, a proxy, or the receiver as a whole.
            Err(error) if !error.is_final() => {
                tally.kept += 1;
                Tried::OutOfReach(error.to_string())
            }
            result => {
                self.settle(entry, result, tally).await;
                Tried::On
            }
        }
    }

    /// Finishes a summary that the receiver has, or will never accept.
    async fn settle(&self, entry: &SpoolEntry, result: Result<wire::Stored, PushError>, tally: &mut Tally) {
        let file = entry.path.display();
        let (spool, done) = (self.spool.clone(), entry.clone());
        match result {
            Ok(stored) => {
                info!(%file, id = stored.id, superseded = stored.superseded, "a summary from the spool was delivered");
                *if stored.superseded { &mut tally.superseded } else { &mut tally.delivered } += 1;
            }
            Err(error) if error.is_conflict() && entry.kind != Kind::Final => {
                info!(%file, "the receiver already has a summary of this run that is as late as the one in the spool");
                tally.superseded += 1;
            }
            Err(error) => {
                let reason = error.to_string();
                match beside(move || spool.refuse(&done, &reason)).await {
                    Ok(aside) => {
                        error!(%file, %error, aside = %aside.display(), "a summary from the spool is set aside");
                    }
                    Err(cause) => {
                        error!(%file, %error, %cause, "a summary from the spool cannot be set aside");
                    }
                }
                tally.refused += 1;
                return;
            }
        }
        let removed = beside(move || {
            spool.remove_entry(&done);
            Ok(())
        });
        if let Err(error) = removed.await {
            warn!(%file, %error, "a delivered summary stays in the spool");
        }
    }

    /// Leaves one file alone for a while, longer each time.
    fn hold(&mut self, entry: &SpoolEntry, failure: &dyn std::fmt::Display, what: &str) {
        let file = entry.path.display();
        let known = self.files.entry(entry.path.clone()).or_insert_with(|| KnownFile {
            entry: entry.clone(),
            whose: Whose::default(),
            hold: None,
        });
        let (before, reason) = (known.hold.as_ref(), failure.to_string());
        known.hold = Some(Hold::again(before, reason, LONGEST_FILE_PAUSE, Instant::now()));
        if self.pusher.tells(&entry.path.to_string_lossy()) {
            warn!(%file, error = %failure, "{what}");
        } else {
            debug!(%file, error = %failure, "{what}");
        }
    }

    /// Logs one line for each organization and one for the receiver, each at most once an hour.
    fn tell(&self, tally: &Tally, waiting: Waiting) {
        for (organization, (files, reason)) in waiting {
            if self.pusher.tells(&format!("the spool of {organization}")) {
                warn!(
                    organization,
                    files,
                    reason,
                    "summaries stay in the spool, because the push token is refused or missing; they are retried less and less often, and at once when the token file changes"
                );
            }
        }
        if let Some(hold) = &self.receiver
            && self.pusher.tells(RECEIVER)
        {
            warn!(
                files = tally.kept,
                error = hold.reason,
                "summaries stay in the spool, because the receiver does not accept them; they are retried"
            );
        }
        let Tally { delivered, superseded, refused, kept } = *tally;
        if delivered + superseded + refused > 0 {
            info!(delivered, superseded, refused, kept, "the spool was processed");
        } else if kept > 0 {
            debug!(kept, "the spool was processed");
        }
    }
}

/// Counts a summary that stays because of its token.
fn keep(whose: &Whose, error: &PushError, tally: &mut Tally, waiting: &mut Waiting) -> Tried {
    tally.kept += 1;
    let reason = match error {
        PushError::Held { reason } | PushError::Refused { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    waiting.entry(whose.organization.clone()).or_insert((0, reason)).0 += 1;
    Tried::On
}

/// Whether this answer may be about one summary rather than the receiver (502 to 504, 429).
fn is_about_one(status: StatusCode) -> bool {
    let of_receiver = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    status.is_server_error() && !of_receiver.contains(&status)
}

/// Runs file operations on another thread: a disk may be slow, and a pass must not wait for it.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
