//! Push tokens: one for all, or one for each organization; their files may change while the collector runs.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use program::given_file;
use serde::Deserialize;
use tracing::{info, warn};

use crate::config::tokens::{TokenTable, check_token};
use crate::config::{PushTarget, Secret};

/// The owner of a summary's run, which selects the token and which a token is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub(super) struct Whose {
    /// Organization.
    pub(super) organization: String,
    /// Repository, with or without its organization.
    pub(super) repository: String,
    /// Workflow.
    pub(super) workflow: String,
    /// Job.
    pub(super) job: String,
}

impl Whose {
    /// From the body of a push; empty if the body does not name it.
    pub(super) fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// The tokens of a receiver.
#[derive(Debug)]
pub(super) struct Tokens(Mutex<State>);

#[derive(Debug)]
struct State {
    /// For organizations that are not in the table.
    fallback: Option<Secret>,
    table: TokenTable,
    fallback_file: Option<Watched>,
    table_file: Option<Watched>,
    /// Counts the changes of a file's content.
    generation: u64,
}

/// A file as last read. Kubernetes changes a mounted secret by pointing the link `..data` at another directory; the stamp
/// is of the file behind the link.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    stamp: Option<Stamp>,
}

/// Device, inode, size, mtime and ctime, in nanoseconds.
type Stamp = (u64, u64, u64, i128, i128);

impl Tokens {
    pub(super) fn new(target: &PushTarget) -> Self {
        // Without a stamp, so that a change since the configuration was read is not missed.
        let watched = |path: &Option<PathBuf>| path.clone().map(|path| Watched { path, stamp: None });
        let state = State {
            fallback: target.token.clone(),
            table: target.tokens.clone(),
            fallback_file: watched(&target.token_file),
            table_file: watched(&target.tokens_file),
            generation: 0,
        };
        Self(Mutex::new(state))
    }

    /// The token for this run's summaries; `None` if there is none for its organization.
    pub(super) fn of(&self, whose: &Whose) -> Option<Secret> {
        let state = self.refreshed();
        state.table.get(&whose.organization).or(state.fallback.as_ref()).cloned()
    }

    /// Changes whenever a token changes.
    pub(super) fn generation(&self) -> u64 {
        self.refreshed().generation
    }

    /// Reads changed files again; an unusable one changes nothing.
    fn refreshed(&self) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { fallback, table, fallback_file, table_file, generation } = &mut *state;
        if let Some(token) = fallback_file.as_mut().and_then(|file| file.changed(token_in))
            && fallback.as_ref() != Some(&token)
        {
            info!("the push token was read again");
            *fallback = Some(token);
            *generation += 1;
        }
        if let Some(tokens) = table_file.as_mut().and_then(|file| file.changed(TokenTable::parse))
            && *table != tokens
        {
            info!(organizations = tokens.len(), "the push tokens were read again");
            *table = tokens;
            *generation += 1;
        }
        state
    }
}

impl Watched {
    /// The file's content if it has changed.
    fn changed<T>(&mut self, parse: impl FnOnce(&str) -> Result<T>) -> Option<T> {
        let metadata = fs::metadata(&self.path);
        // A pipe (`<(...)`, /dev/stdin) can be read only once, and has been.
        if metadata.as_ref().is_ok_and(|metadata| !metadata.is_file()) {
            return None;
        }
        let now = metadata.as_ref().ok().map(stamp);
        if now.is_some() && now == self.stamp {
            return None;
        }
        let was_there = self.stamp.is_some();
        self.stamp = now;
        let read = given_file::read_text(&self.path).map_err(anyhow::Error::from);
        match read.and_then(|content| parse(&content)) {
            Ok(content) => Some(content),
            Err(error) => {
                // A file that stays missing is reported once.
                if was_there || now.is_some() {
                    let (file, error) = (self.path.display(), format!("{error:#}"));
                    warn!(%file, error, "the push tokens cannot be read again: the previous ones stay in force");
                }
                None
            }
        }
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let modified = time(metadata.mtime(), metadata.mtime_nsec());
    let changed = time(metadata.ctime(), metadata.ctime_nsec());
    (metadata.dev(), metadata.ino(), metadata.len(), modified, changed)
}

fn token_in(content: &str) -> Result<Secret> {
    let token = content.trim();
    if token.is_empty() {
        bail!("it is empty");
    }
    check_token(token)?;
    Ok(Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn target(token: Option<&str>, token_file: Option<&Path>, tokens_file: Option<&Path>) -> PushTarget {
        PushTarget {
            endpoint: "http://receiver/".parse().unwrap(),
            token: token.map(|token| Secret::new(token.to_owned())),
            token_file: token_file.map(ToOwned::to_owned),
            tokens: TokenTable::default(),
            tokens_file: tokens_file.map(ToOwned::to_owned),
            ca_certificates: None,
            token_is_argument: false,
        }
    }

    /// The token of an organization, "" if there is none.
    fn of(tokens: &Tokens, organization: &str) -> String {
        let body = format!(
            "{{\"payload\": {{\"organization\": 1}}, \"job\": \"j\", \"organization\": \"{organization}\"}}"
        );
        tokens.of(&Whose::of(body.as_bytes())).map(|token| token.reveal().to_owned()).unwrap_or_default()
    }

    #[test]
    fn the_organization_chooses_and_the_file_may_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, "a=one\n").unwrap();
        let tokens = Tokens::new(&target(None, None, Some(&path)));
        assert_eq!((of(&tokens, "a"), of(&tokens, "b")), ("one".to_owned(), String::new()));
        let generation = tokens.generation();
        fs::write(&path, "a=three\nb=two\n").unwrap();
        assert_eq!((of(&tokens, "a"), of(&tokens, "b")), ("three".to_owned(), "two".to_owned()));
        assert!(tokens.generation() > generation);
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(of(&tokens, "b"), "two", "what cannot be used changes nothing");
        fs::remove_file(&path).unwrap();
        assert_eq!(of(&tokens, "b"), "two");
        fs::write(&path, "b=four\n").unwrap();
        assert_eq!(
            (of(&tokens, "a"), of(&tokens, "b")),
            (String::new(), "four".to_owned()),
            "it is there again"
        );
        let with_fallback = Tokens::new(&target(Some("all"), None, Some(&path)));
        assert_eq!((of(&with_fallback, "a"), of(&with_fallback, "b")), ("all".to_owned(), "four".to_owned()));
    }

    #[test]
    fn one_token_is_read_again_too_as_kubernetes_changes_it() {
        let directory = tempfile::tempdir().unwrap();
        let secret = |version: &str, token: &str| {
            let data = directory.path().join(version);
            fs::create_dir(&data).unwrap();
            fs::write(data.join("token"), token).unwrap();
            let link = directory.path().join("..data_tmp");
            symlink(version, &link).unwrap();
            fs::rename(link, directory.path().join("..data")).unwrap();
        };
        secret("..1", "one\n");
        let path = directory.path().join("token");
        symlink("..data/token", &path).unwrap();
        let tokens = Tokens::new(&target(Some("one"), Some(&path), None));
        let generation = tokens.generation();
        assert_eq!(of(&tokens, "a"), "one");
        secret("..2", "two\n");
        assert_eq!(of(&tokens, "a"), "two");
        assert_eq!(tokens.generation(), generation + 1);
        secret("..3", "two\n");
        assert_eq!(tokens.generation(), generation + 1, "it is the same token");
        secret("..4", "\n");
        assert_eq!(of(&tokens, "a"), "two", "an empty one changes nothing");
        secret("..5", "no token");
        assert_eq!(of(&tokens, "a"), "two");
    }

    #[test]
    fn a_pipe_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        // Opening it would wait for a writer.
        let tokens = Tokens::new(&target(Some("one"), Some(&path), Some(&path)));
        assert_eq!(of(&tokens, "a"), "one");
    }
}
