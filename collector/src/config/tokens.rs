//! `--push-tokens-file`: a push token for each organization.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::limits::Entries;
use super::secret::Secret;

/// Push tokens by organization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenTable(BTreeMap<String, Secret>);

impl TokenTable {
    /// Parses a JSON object (`{"my-org": "token"}`) or lines `my-org=token`; lines may be empty or begin with `#`.
    ///
    /// An error names the place but not its content, which may be a token.
    pub fn parse(text: &str) -> Result<Self> {
        let mut table = BTreeMap::new();
        let mut add = |organization: &str, token: &str, place: &dyn std::fmt::Display| {
            if organization.is_empty() {
                bail!("{place}: the organization is empty");
            }
            check_token(token).with_context(|| format!("{place}: {organization:?}"))?;
            if table.insert(organization.to_owned(), Secret::new(token.to_owned())).is_some() {
                bail!("{place}: {organization:?} is given twice");
            }
            Ok(())
        };
        if text.trim_start().starts_with('{') {
            // serde_json's own message can quote the content.
            let entries: Entries<String> = serde_json::from_str(text).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                anyhow::anyhow!(
                    "line {line} column {column}: not a JSON object of strings such as {{\"my-org\": \"token\"}}"
                )
            })?;
            for (organization, token) in entries.0 {
                add(organization.trim(), token.trim(), &"the object")?;
            }
        } else {
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let place = format!("line {number}");
                let Some((organization, token)) = line.split_once('=') else {
                    bail!("{place} has no \"=\"; lines such as my-org=token are accepted");
                };
                add(organization.trim(), token.trim(), &place)?;
            }
        }
        Ok(Self(table))
    }

    /// The token for an organization.
    pub fn get(&self, organization: &str) -> Option<&Secret> {
        self.0.get(organization)
    }

    /// Number of organizations with a token.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Checks that a text can be a token.
pub(crate) fn check_token(token: &str) -> Result<()> {
    if token.is_empty() {
        bail!("the push token is empty");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("the push token has characters that are not allowed (spaces, line breaks or non-ASCII)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let lines = TokenTable::parse("# ours\nmy-org = abc\n\nother=d=f\n").unwrap();
        let json = TokenTable::parse(r#" {"my-org": "abc", "other": "d=f"}"#).unwrap();
        assert_eq!(lines, json);
        assert_eq!(lines.get("other").unwrap().reveal(), "d=f");
        assert_eq!((lines.get("nobody"), lines.len()), (None, 2));
        assert!(TokenTable::parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_without_a_token() {
        for (text, expected) in [
            ("my-org=\n", "line 1: \"my-org\": the push token is empty"),
            ("\nmy-orgs3cret\n", "line 2 has no \"=\""),
            ("a=s3cret\na=s3cret2\n", "line 2: \"a\" is given twice"),
            ("=s3cret", "the organization is empty"),
            ("a=s3cret x", "characters that are not allowed"),
            (r#"{"a": ["s3cret"]}"#, "line 1 column"),
            (r#"{"a": "s3cret""#, "line 1 column"),
        ] {
            let message = format!("{:#}", TokenTable::parse(text).unwrap_err());
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
