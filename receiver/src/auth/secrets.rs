//! The secrets in force: several of each kind, so that one can be replaced while the other is still in use.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use wire::Scope;

use super::session::{self, SessionKey};
use super::{Denied, PushToken, ReadToken, TokenKey, verify};

/// What requests are checked against.
#[derive(Debug, Clone)]
pub struct Secrets {
    read_tokens: Vec<ReadToken>,
    first_key: TokenKey,
    other_keys: Vec<TokenKey>,
    /// For each read token in turn, with each key in turn.
    session_keys: Vec<SessionKey>,
}

impl Secrets {
    /// From read tokens, all of which are accepted, and keys, of which the first makes tokens and all verify them.
    /// `None` if there is no key or no read token.
    pub fn new<'a>(
        read_tokens: impl IntoIterator<Item = &'a str>,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let read_tokens: Vec<_> = read_tokens.into_iter().map(ReadToken::new).collect();
        let mut keys = keys.into_iter().map(TokenKey::new);
        let first_key = keys.next().filter(|_| !read_tokens.is_empty())?;
        let other_keys: Vec<_> = keys.collect();
        let of_token = |token| {
            let keys = std::iter::once(&first_key).chain(&other_keys);
            keys.map(move |key| SessionKey::new(key, token))
        };
        let session_keys = read_tokens.iter().flat_map(of_token).collect();
        Some(Self { read_tokens, first_key, other_keys, session_keys })
    }

    /// Whether this is one of the read tokens; all are compared.
    pub fn may_read(&self, token: &str) -> bool {
        self.read_tokens.iter().fold(false, |any, one| any | one.verify(token))
    }

    /// A session for who typed this read token; `None` if it is none.
    pub fn begin_session(&self, token: &str, expires_at: Timestamp) -> Option<String> {
        let matches = |at: usize, one: &ReadToken| one.verify(token).then_some(at);
        // All are compared here, too.
        let tokens = self.read_tokens.iter().enumerate();
        let found = tokens.fold(None, |found, (at, one)| matches(at, one).or(found))?;
        Some(self.session_keys[found * self.key_count()].sign(expires_at))
    }

    /// Whether this is a session that one of the read tokens began and that has not ended at `now`.
    pub fn in_session(&self, session: &str, now: Timestamp) -> bool {
        session::verify(&self.session_keys, session, now)
    }

    /// The key that makes tokens.
    pub fn minting(&self) -> &TokenKey {
        &self.first_key
    }

    /// How many keys verify tokens.
    pub fn key_count(&self) -> usize {
        1 + self.other_keys.len()
    }

    /// Whether `token` was made for `scope` or one that holds it, and is still valid at `now`.
    pub fn verify(&self, token: &PushToken, scope: &Scope, now: Timestamp) -> Result<(), Denied> {
        verify(std::iter::once(&self.first_key).chain(&self.other_keys), token, scope, now)
    }
}

/// The secrets in force, replaced as a whole: a request sees the old ones or the new ones.
#[derive(Debug)]
pub struct Access(RwLock<Arc<Secrets>>);

impl Access {
    /// Begins with these.
    pub fn new(secrets: Secrets) -> Self {
        Self(RwLock::new(Arc::new(secrets)))
    }

    /// Those in force now.
    pub fn current(&self) -> Arc<Secrets> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force.
    pub fn replace(&self, secrets: Secrets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
    }
}
