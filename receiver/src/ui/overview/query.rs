//! The query parameters of the overview.

use percent_encoding::percent_decode_str;

use crate::store::{JobCursor, JobSort, Within};
use crate::ui::urls;

/// The query parameters of the overview. Invalid ones are ignored, since a person may have typed them.
#[derive(Debug, Clone)]
pub(super) struct OverviewQuery {
    pub(super) search: String,
    pub(super) sort: JobSort,
    pub(super) days: Option<u16>,
    pub(super) organization: String,
    pub(super) repository: String,
    pub(super) workflow: String,
    pub(super) after: Option<JobCursor>,
}

const SORTS: [(&str, JobSort, &str); 4] = [
    ("waste", JobSort::Waste, "Most wasteful"),
    ("risk", JobSort::Risk, "Most at risk"),
    ("last-run", JobSort::LastRun, "Latest run"),
    ("name", JobSort::Name, "Name"),
];

impl OverviewQuery {
    pub(super) fn parse(query: &str) -> Self {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let pairs: Vec<_> = pairs.map(|(name, value)| (name, decode(value))).collect();
        let value =
            |name: &str| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone());
        let text = |name: &str| value(name).unwrap_or_default();
        let sort = SORTS
            .iter()
            .find(|(name, ..)| *name == text("sort"))
            .map_or(JobSort::Waste, |(_, sort, _)| *sort);
        Self {
            search: text("q").trim().to_owned(),
            sort,
            days: text("days").parse().ok(),
            organization: text("organization"),
            repository: text("repository"),
            workflow: text("workflow"),
            after: value("after").and_then(|after| cursor(sort, &after)),
        }
    }

    /// A repository counts only together with its organization, and a workflow only together with its repository.
    pub(super) fn within(&self) -> Within {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let organization = given(&self.organization);
        let repository = organization.as_ref().and_then(|_| given(&self.repository));
        let workflow = repository.as_ref().and_then(|_| given(&self.workflow));
        Within { organization, repository, workflow }
    }

    fn names(&self) -> Vec<(&'static str, String)> {
        let Within { organization, repository, workflow } = self.within();
        let names = [("organization", organization), ("repository", repository), ("workflow", workflow)];
        names.into_iter().filter_map(|(field, name)| Some((field, name?))).collect()
    }

    /// The names that the list is narrowed down to, each with its own overview.
    pub(super) fn above(&self) -> Vec<(String, String)> {
        let names = self.names();
        let query = |count: usize| {
            let pairs = names[..count].iter().map(|(field, name)| format!("{field}={}", urls::value(name)));
            format!("/?{}", pairs.collect::<Vec<_>>().join("&"))
        };
        names.iter().enumerate().map(|(at, (_, name))| (name.clone(), query(at + 1))).collect()
    }

    /// The parameters that the search form keeps.
    pub(super) fn kept(&self) -> Vec<(&'static str, String)> {
        self.names()
    }

    /// Choices of the order: value, whether it is selected, label.
    pub(super) fn sorts(&self) -> Vec<(&'static str, bool, &'static str)> {
        SORTS.iter().map(|(name, sort, label)| (*name, *sort == self.sort, *label)).collect()
    }

    /// Choices of the time: value, whether it is selected, label.
    pub(super) fn times(&self) -> Vec<(&'static str, bool, &'static str)> {
        let times = [
            ("", None, "At any time"),
            ("1", Some(1), "Today"),
            ("7", Some(7), "In 7 days"),
            ("30", Some(30), "In 30 days"),
        ];
        times.iter().map(|(value, days, label)| (*value, *days == self.days, *label)).collect()
    }

    pub(super) fn first(&self) -> String {
        let mut pairs = self.names();
        pairs.push(("q", self.search.clone()));
        pairs.push(("days", self.days.map(|days| days.to_string()).unwrap_or_default()));
        let sort = SORTS.iter().find(|(_, sort, _)| *sort == self.sort).map_or("waste", |(name, ..)| *name);
        pairs.push(("sort", sort.to_owned()));
        let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
        let pairs = pairs.map(|(name, value)| format!("{name}={}", urls::value(value)));
        format!("/?{}", pairs.collect::<Vec<_>>().join("&"))
    }

    pub(super) fn behind(&self, cursor: &JobCursor) -> String {
        let text = match cursor {
            JobCursor::Number(number, id) => {
                format!("{},{id}", number.map(|number| number.to_string()).unwrap_or_default())
            }
            JobCursor::LastRun(id) => id.to_string(),
            JobCursor::Name(names) => names.each_ref().map(|name| urls::value(name)).join("/"),
        };
        format!("{}&after={}", self.first(), urls::value(&text))
    }
}

fn cursor(sort: JobSort, text: &str) -> Option<JobCursor> {
    match sort {
        JobSort::Waste | JobSort::Risk => {
            let (number, id) = text.split_once(',')?;
            let number = if number.is_empty() { None } else { Some(number.parse().ok()?) };
            Some(JobCursor::Number(number, id.parse().ok()?))
        }
        JobSort::LastRun => Some(JobCursor::LastRun(text.parse().ok()?)),
        JobSort::Name => {
            let names = text.split('/').map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
            Some(JobCursor::Name(names.collect::<Vec<_>>().try_into().ok()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_again_what_it_was_asked_for() {
        for (sort, cursor) in [
            ("waste", JobCursor::Number(Some(0.1 + 0.2), 7)),
            ("risk", JobCursor::Number(None, 7)),
            ("last-run", JobCursor::LastRun(12)),
            ("name", JobCursor::Name(["a".into(), "b/c".into(), "x&y=%2F".into(), "ü".into()])),
        ] {
            let asked = OverviewQuery::parse(&format!(
                "organization=a+b&repository=c%2Fd&q=%3Cx%3E&days=7&sort={sort}"
            ));
            let next = asked.behind(&cursor);
            let again = OverviewQuery::parse(next.strip_prefix("/?").unwrap());
            assert_eq!(again.after, Some(cursor));
            assert_eq!((again.search.as_str(), again.days, again.sort), ("<x>", Some(7), asked.sort));
            assert_eq!(again.within(), asked.within());
            assert_eq!(again.within().repository.as_deref(), Some("c/d"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let asked = OverviewQuery::parse("repository=x&days=soon&sort=best&after=1&&q");
        assert_eq!(asked.within(), Within::default());
        assert_eq!((asked.days, asked.sort, asked.after.clone()), (None, JobSort::Waste, None));
        assert_eq!(asked.first(), "/?sort=waste");
    }
}
