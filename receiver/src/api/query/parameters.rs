//! The part of a URL behind the question mark.

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use wire::Scope;

use super::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::api::error::AppError;

/// Parameters by name, in their order; each is known and given once.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads them; those of other names are refused.
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, AppError> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let mut parameters: Vec<(String, String)> = vec![];
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                return Err(AppError::invalid(name, format!("is unknown; {}", accepted(known))));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(AppError::invalid(name, "is given twice"));
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// All of them, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A name such as that of a workflow.
    pub(crate) fn name(&self, name: &'static str) -> Result<Option<String>, AppError> {
        let text = self.text(name);
        text.map_or(Ok(()), |text| Scope::check_part(name, text))?;
        Ok(text.map(ToOwned::to_owned))
    }

    /// What `read` makes of it; if that is nothing, the error tells what would be `accepted`.
    pub(crate) fn get<T>(
        &self,
        name: &str,
        accepted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, AppError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = || AppError::invalid(name, format!("is {text:?}; {accepted} is accepted"));
        read(text).map(Some).ok_or_else(wrong)
    }

    /// How long a page is to be.
    pub(crate) fn limit(&self) -> Result<u32, AppError> {
        let limit = self.get("limit", "a number from 1 to 1000", |text| {
            number(text).and_then(|limit| u32::try_from(limit).ok()).filter(|limit| *limit <= MAX_LIMIT)
        })?;
        Ok(limit.unwrap_or(DEFAULT_LIMIT))
    }

    /// The id of a run.
    pub(crate) fn run(&self, name: &str) -> Result<Option<i64>, AppError> {
        self.get(name, "the id of a run", number)
    }

    /// A time.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, AppError> {
        self.get(name, "a time such as 2026-02-06T14:30:00Z", |text| text.parse().ok())
    }

    /// The URL of the page that begins behind `last`, which `name` tells.
    pub(crate) fn next(&self, path: &str, name: &str, last: &str) -> String {
        let kept = self.0.iter().filter(|(other, _)| other != name);
        let kept = kept.map(|(name, value)| format!("{name}={}&", encode(value)));
        format!("{path}?{}{name}={}", kept.collect::<String>(), encode(last))
    }
}

/// Digits alone, from 1.
fn number(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number > 0)
}

/// Text as a part of a URL.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// What such a part says.
pub(crate) fn decode(text: &str) -> Result<String, AppError> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| AppError::Malformed("the query is not UTF-8".to_owned()))
}

fn accepted(known: &[&str]) -> String {
    match known {
        [] => "there are no parameters here".to_owned(),
        [one] => format!("{one} is accepted"),
        [first @ .., last] => format!("{} and {last} are accepted", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(query: &str) -> String {
        let parameters = Parameters::parse(Some(query), &["limit", "before"]);
        let result = parameters.and_then(|parameters| {
            parameters.limit()?;
            parameters.run("before")
        });
        format!("{:?}", result.unwrap_err())
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(error("x=1").contains("field: \"x\", detail: \"is unknown; limit and before are accepted\""));
        assert!(error("limit=1&limit=1").contains("is given twice"));
        assert!(error("before=%ff").contains("UTF-8"));
        for query in ["limit=0", "limit=1001", "limit=", "limit", "limit=+5", "limit=-1", "limit=99999999999"]
        {
            assert!(error(query).contains("a number from 1 to 1000"), "{query}");
        }
        for query in ["before=0", "before=x", "before=9223372036854775808", "before=%2B1"] {
            assert!(error(query).contains("the id of a run"), "{query}");
        }
    }

    #[test]
    fn the_next_page_keeps_the_other_parameters() {
        let parameters =
            Parameters::parse(Some("search=a+b%2F&before=7&limit=3"), &["search", "before", "limit"])
                .unwrap();
        assert_eq!(parameters.next("/x", "before", "ü/9"), "/x?search=a%20b%2F&limit=3&before=%C3%BC%2F9");
        assert_eq!(parameters.text("search"), Some("a b/"));
    }
}
