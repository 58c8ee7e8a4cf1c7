//! Parses the query of a URL into types that define the valid values of each parameter.

use std::fmt::Display;

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use wire::{RunResult, Scope};

use crate::api::error::AppError;
use crate::store::RunFilter;

/// Parameters and their values, in order. Each name occurs once.
#[derive(Debug)]
pub(crate) struct QueryParameters(Vec<(String, String)>);

/// The parameters of a handler that has none.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct NoParameters {}

/// Parses a query. Its parameters are the fields of `T`; any other is an error.
pub(crate) fn parse<T: DeserializeOwned>(query: Option<&str>) -> Result<(T, QueryParameters), AppError> {
    let parameters = QueryParameters::parse(query, &fields::<T>())?;
    Ok((parameters.read()?, parameters))
}

/// The same for the fields of two types.
pub(crate) fn parse_two<T: DeserializeOwned, U: DeserializeOwned>(
    query: Option<&str>,
) -> Result<(T, U, QueryParameters), AppError> {
    let known = [fields::<T>(), fields::<U>()].concat();
    let parameters = QueryParameters::parse(query, &known)?;
    Ok((parameters.read()?, parameters.read()?, parameters))
}

/// The names of the fields of a struct, as serde sees them.
pub(crate) fn fields<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names: &[_] = &[];
    let _ = T::deserialize(FieldNames(&mut names));
    names.to_vec()
}

impl QueryParameters {
    /// Splits a query. A parameter that is not `known` is an error.
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

    /// Reads the parameters that are fields of `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, AppError> {
        let pairs = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let read = T::deserialize(QueryDeserializer(Pairs { rest: pairs, current: None }));
        read.map_err(|Wrong { name, detail }| AppError::invalid(name, detail))
    }

    /// The URL of the page after `last`, which becomes the value of the parameter `name`.
    pub(crate) fn next(&self, path: &str, name: &str, last: &str) -> String {
        let kept = self.0.iter().filter(|(other, _)| other != name);
        let kept = kept.map(|(name, value)| format!("{name}={}&", encode(value)));
        format!("{path}?{}{name}={}", kept.collect::<String>(), encode(last))
    }
}

/// Maximum number of elements on a page; 100 by default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageLimit(pub(crate) u32);

/// The largest page that a client can request.
const MAX_LIMIT: i64 = 1000;

impl Default for PageLimit {
    fn default() -> Self {
        Self(100)
    }
}

impl<'de> Deserialize<'de> for PageLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit =
            |text: &str| number(text).filter(|limit| *limit <= MAX_LIMIT).map(|limit| Self(limit as u32));
        value(deserializer, "a number from 1 to 1000", limit)
    }
}

/// The id of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunId(pub(crate) i64);

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        value(deserializer, "the id of a run", |text| number(text).map(Self))
    }
}

/// What the CI system must have said about the runs of a list.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterQuery {
    /// Only runs of this variant.
    variant: Option<String>,
    /// Only runs of this branch or tag, such as `refs/heads/main`.
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    /// Only runs that this event started, such as `push`.
    event: Option<String>,
    /// Only runs with this result.
    #[param(inline)]
    result: Option<RunResultName>,
}

impl From<FilterQuery> for RunFilter {
    fn from(query: FilterQuery) -> Self {
        let FilterQuery { variant, git_ref, event, result } = query;
        Self { variant, git_ref, event, result: result.map(|result| result.name().to_owned()) }
    }
}

/// A result that runs can be selected by.
#[derive(Debug, Clone, Copy, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunResultName {
    Success,
    Failure,
    Cancelled,
}

impl RunResultName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Success => RunResult::Success,
            Self::Failure => RunResult::Failure,
            Self::Cancelled => RunResult::Cancelled,
        }
        .name()
    }
}

/// A time in RFC 3339.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rfc3339Time(pub(crate) Timestamp);

impl<'de> Deserialize<'de> for Rfc3339Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        value(deserializer, "a time such as 2026-02-06T14:30:00Z", |text| text.parse().ok().map(Self))
    }
}

/// Parses a value with `read`. If that fails, the error says what is `accepted`.
fn value<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    accepted: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    read(&text).ok_or_else(|| de::Error::custom(format!("is {text:?}; {accepted} is accepted")))
}

/// Checks a name such as a workflow's.
pub(crate) fn check_name(name: &'static str, text: Option<&String>) -> Result<(), AppError> {
    Ok(text.map_or(Ok(()), |text| Scope::check_part(name, text))?)
}

/// Parses a number from 1, written with digits only.
fn number(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number > 0)
}

/// Encodes text for a URL.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Decodes a part of a URL.
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

/// A parameter that cannot be parsed, and why.
#[derive(Debug, Default)]
struct Wrong {
    name: String,
    detail: String,
}

impl Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.detail)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: Display>(detail: T) -> Self {
        Self { detail: detail.to_string(), ..Self::default() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { name: field.to_owned(), detail: "is missing".to_owned() }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let expected = match expected {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            one => one.concat(),
        };
        Self::custom(format!("is {variant:?}; {expected} is accepted"))
    }
}

/// Deserializes a struct from pairs of a name and a text.
struct QueryDeserializer<P>(P);

impl<'de, P: MapAccess<'de, Error = Wrong>> Deserializer<'de> for QueryDeserializer<P> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Pairs<'a, I> {
    rest: I,
    current: Option<(&'a str, &'a str)>,
}

impl<'de, 'a, I: Iterator<Item = (&'a str, &'a str)>> MapAccess<'de> for Pairs<'a, I> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.current = self.rest.next();
        let key = |(name, _): (&'a str, &str)| seed.deserialize(text(name));
        self.current.map(key).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let (name, value) = self.current.unwrap_or_default();
        seed.deserialize(Value(value)).map_err(|wrong| Wrong { name: name.to_owned(), ..wrong })
    }
}

/// The text of one parameter. A given parameter is never `None`.
struct Value<'a>(&'a str);

fn text(text: &str) -> StrDeserializer<'_, Wrong> {
    text.into_deserializer()
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        text(self.0).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Deserializes nothing. It only records the names of the fields that serde asks for.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Wrong> {
        Err(Wrong::default())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct TestQuery {
        #[serde(default)]
        limit: PageLimit,
        before: Option<RunId>,
    }

    fn error(query: &str) -> String {
        format!("{:?}", parse::<TestQuery>(Some(query)).unwrap_err())
    }

    #[test]
    fn what_is_given_is_read_and_the_rest_has_its_default() {
        let (asked, _) = parse::<TestQuery>(Some("before=7")).unwrap();
        assert_eq!((asked.limit.0, asked.before.unwrap().0), (100, 7));
        let (asked, _) = parse::<TestQuery>(Some("&limit=1000&")).unwrap();
        assert_eq!(asked.limit.0, 1000);
        assert!(asked.before.is_none());
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
            QueryParameters::parse(Some("search=a+b%2F&before=7&limit=3"), &["search", "before", "limit"])
                .unwrap();
        assert_eq!(parameters.next("/x", "before", "ü/9"), "/x?search=a%20b%2F&limit=3&before=%C3%BC%2F9");
    }
}
