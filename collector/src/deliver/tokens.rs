//! Push tokens: one for all, or one for each organization from a file that may change while we run.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::Deserialize;
use tracing::{info, warn};

use crate::config::tokens::TokenTable;
use crate::config::{PushTarget, Secret};

/// The tokens of a receiver.
#[derive(Debug)]
pub(super) struct Tokens {
    /// For whoever is not in the file.
    fallback: Option<Secret>,
    file: Option<Mutex<Watched>>,
}

/// A file as it was read last. A secret that Kubernetes mounts is changed by another directory in its place, so that the
/// inode tells, too.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    stamp: Option<Stamp>,
    table: TokenTable,
}

type Stamp = (u64, u64, Option<SystemTime>);

/// The one field of a summary that chooses a token.
#[derive(Deserialize)]
struct Whose<'a> {
    #[serde(borrow)]
    organization: Cow<'a, str>,
}

impl Tokens {
    pub(super) fn new(target: &PushTarget) -> Self {
        let watched = |path: &PathBuf| {
            let mut file = Watched { path: path.clone(), stamp: None, table: TokenTable::default() };
            file.refresh();
            Mutex::new(file)
        };
        Self { fallback: target.token.clone(), file: target.tokens_file.as_ref().map(watched) }
    }

    /// The token with which this summary may be pushed; the organization for which there is none.
    pub(super) fn of(&self, body: &[u8]) -> Result<Secret, String> {
        let Some(file) = &self.file else { return self.fallback.clone().ok_or_else(String::new) };
        let organization = serde_json::from_slice::<Whose<'_>>(body).map(|whose| whose.organization);
        let organization = organization.unwrap_or_default();
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.refresh();
        let token = file.table.get(&organization).cloned();
        token.or_else(|| self.fallback.clone()).ok_or_else(|| organization.into_owned())
    }
}

impl Watched {
    /// Reads the file again if it is another one than before; one that cannot be used changes nothing.
    fn refresh(&mut self) {
        let stamp = stamp(&self.path);
        if stamp.is_some() && stamp == self.stamp {
            return;
        }
        let read = fs::read_to_string(&self.path).map_err(anyhow::Error::from);
        match read.and_then(|content| TokenTable::parse(&content)) {
            Ok(table) => {
                if self.stamp.is_some() {
                    info!(organizations = table.len(), "the push tokens were read again");
                }
                self.table = table;
            }
            Err(error) => {
                let file = self.path.display();
                warn!(%file, error = format!("{error:#}"), "the push tokens cannot be read again: those from before stay in force");
            }
        }
        self.stamp = stamp;
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_organization_chooses_and_the_file_may_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, "a=one\n").unwrap();
        let target = PushTarget {
            endpoint: "http://receiver/".parse().unwrap(),
            token: None,
            tokens_file: Some(path.clone()),
            ca_certificates: None,
            token_is_argument: false,
        };
        let tokens = Tokens::new(&target);
        let of = |tokens: &Tokens, organization: &str| {
            let body =
                format!("{{\"payload\": {{\"organization\": 1}}, \"organization\": \"{organization}\"}}");
            tokens.of(body.as_bytes()).map(|token| token.reveal().to_owned())
        };
        assert_eq!(of(&tokens, "a"), Ok("one".to_owned()));
        assert_eq!(of(&tokens, "b"), Err("b".to_owned()));
        fs::write(&path, "a=three\nb=two\n").unwrap();
        assert_eq!((of(&tokens, "a"), of(&tokens, "b")), (Ok("three".to_owned()), Ok("two".to_owned())));
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(of(&tokens, "b"), Ok("two".to_owned()), "what cannot be used changes nothing");
        fs::remove_file(&path).unwrap();
        assert_eq!(of(&tokens, "b"), Ok("two".to_owned()));
        let with_fallback = Tokens::new(&PushTarget { token: Some(Secret::new("all".to_owned())), ..target });
        assert_eq!(of(&with_fallback, "b"), Ok("all".to_owned()));
    }
}
