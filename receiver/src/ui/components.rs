//! Parts that pages share.

use wire::{CiContext, RunResult};

use super::urls;

/// Breadcrumbs: where a page is.
#[derive(Debug, Clone)]
pub(super) struct Crumbs {
    /// Organization, repository and workflow, each with the address of its overview.
    pub(super) above: Vec<(String, String)>,
    pub(super) job: String,
    pub(super) job_href: String,
}

impl Crumbs {
    pub(super) fn new(names: [&str; 4]) -> Self {
        let [organization, repository, workflow, job] = names;
        let within = [("organization", organization), ("repository", repository), ("workflow", workflow)];
        let query = |parts: usize| {
            let pairs = within[..parts].iter().map(|(name, value)| format!("{name}={}", urls::value(value)));
            format!("/?{}", pairs.collect::<Vec<_>>().join("&"))
        };
        Self {
            above: vec![
                (organization.to_owned(), query(1)),
                (repository.to_owned(), query(2)),
                (workflow.to_owned(), query(3)),
            ],
            job: job.to_owned(),
            job_href: urls::job(names),
        }
    }
}

/// A short label for something remarkable.
#[derive(Debug, Clone)]
pub(super) struct Badge {
    pub(super) kind: &'static str,
    pub(super) text: String,
}

impl Badge {
    /// How a run ended, if not well.
    pub(super) fn of_result(ci: Option<&CiContext>) -> Option<Self> {
        let (kind, text) = match ci?.result? {
            RunResult::Success | RunResult::Unknown => return None,
            RunResult::Failure => ("bad", "failed"),
            RunResult::Cancelled => ("warn", "cancelled"),
        };
        Some(Self { kind, text: text.to_owned() })
    }

    /// For a run that was not measured to its end.
    pub(super) fn partial() -> Self {
        Self { kind: "warn", text: "not the whole run".to_owned() }
    }
}

/// A key figure at the top of a page.
#[derive(Debug, Clone)]
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) detail: String,
}
