use serde::{Deserialize, Serialize};

use crate::names::{MAX_NAME_CHARS, normal_name, spaced};

/// The scope of a run: organization / repository / workflow / job, in canonical form.
///
/// A token may be for a prefix (later parts absent). The scope of a run has all four parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    organization: String,
    repository: Option<String>,
    workflow: Option<String>,
    job: Option<String>,
}

/// Why four strings are not a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeError {
    /// Which part: `organization`, `repository`, `workflow` or `job`.
    pub field: &'static str,
    /// What is wrong with it and what would be accepted.
    pub reason: String,
}

impl std::fmt::Display for ScopeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for ScopeError {}

impl Scope {
    /// Makes a canonical scope from its parts. A part may be left out only if all later parts are.
    ///
    /// CI systems write the repository both as `my-repo` and as `my-org/my-repo`: a leading `organization/` is dropped, so that
    /// both name the same scope.
    pub fn new(
        organization: &str,
        repository: Option<&str>,
        workflow: Option<&str>,
        job: Option<&str>,
    ) -> Result<Self, ScopeError> {
        Self::of_parts(
            organization,
            repository.map(|full| bare(organization, full).unwrap_or(full)),
            workflow,
            job,
        )
    }

    /// The same for names from a CI system or a user: each is [normalised](normal_name) first.
    pub fn named(
        organization: &str,
        repository: Option<&str>,
        workflow: Option<&str>,
        job: Option<&str>,
    ) -> Result<Self, ScopeError> {
        let (whole, organization) = (spaced(organization), normal_name(organization));
        // Each part is cut separately. The organization, cut or not, is removed from the repository first.
        let repository = repository.map(|full| {
            let full = spaced(full);
            let bare = bare(&whole, &full).or_else(|| bare(&organization, &full));
            normal_name(bare.unwrap_or(&full))
        });
        let [workflow, job] = [workflow, job].map(|name| name.map(normal_name));
        Self::of_parts(&organization, repository.as_deref(), workflow.as_deref(), job.as_deref())
    }

    /// Makes a scope from the four [names](Self::names) of another one.
    pub fn of_names([organization, repository, workflow, job]: [&str; 4]) -> Result<Self, ScopeError> {
        Self::of_parts(organization, Some(repository), Some(workflow), Some(job))
    }

    /// Makes a scope from its parts, with no organization in front of the repository.
    fn of_parts(
        organization: &str,
        repository: Option<&str>,
        workflow: Option<&str>,
        job: Option<&str>,
    ) -> Result<Self, ScopeError> {
        let scope = Self {
            organization: part("organization", organization)?,
            repository: repository.map(|text| part("repository", text)).transpose()?,
            workflow: workflow.map(|text| part("workflow", text)).transpose()?,
            job: job.map(|text| part("job", text)).transpose()?,
        };
        let parts = scope.parts();
        for (at, (field, value)) in parts.iter().enumerate() {
            if value.is_none()
                && let Some((later, _)) = parts[at..].iter().find(|(_, later)| later.is_some())
            {
                let reason = format!("is missing, but {later} is given; only trailing parts may be left out");
                return Err(ScopeError { field, reason });
            }
        }
        Ok(scope)
    }

    /// The four parts with their names, outermost first; a prefix scope ends with `None`s.
    pub fn parts(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("organization", Some(self.organization.as_str())),
            ("repository", self.repository.as_deref()),
            ("workflow", self.workflow.as_deref()),
            ("job", self.job.as_deref()),
        ]
    }

    /// The names of the four parts, outermost first; empty for one that is left out.
    pub fn names(&self) -> [&str; 4] {
        self.parts().map(|(_, name)| name.unwrap_or_default())
    }

    /// Checks that a text can be a part of a scope.
    pub fn check_part(field: &'static str, text: &str) -> Result<(), ScopeError> {
        part(field, text).map(|_| ())
    }

    /// This scope without its last part; `None` for one that is only an organization.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let mut parent = self.clone();
        if parent.job.take().is_some()
            || parent.workflow.take().is_some()
            || parent.repository.take().is_some()
        {
            Some(parent)
        } else {
            None
        }
    }

    /// Organization.
    pub fn organization(&self) -> &str {
        &self.organization
    }

    /// Repository without its organization.
    pub fn repository(&self) -> Option<&str> {
        self.repository.as_deref()
    }

    /// Workflow.
    pub fn workflow(&self) -> Option<&str> {
        self.workflow.as_deref()
    }

    /// Job.
    pub fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// `organization/repository`, as output shows it.
    pub fn full_repository(&self) -> Option<String> {
        self.repository.as_ref().map(|repository| format!("{}/{repository}", self.organization))
    }
}

/// A repository without the organization in front of it; `None` if it is not there.
fn bare<'a>(organization: &str, full: &'a str) -> Option<&'a str> {
    full.strip_prefix(organization)?.strip_prefix('/')
}

/// What is wrong with a name, and what would be accepted; `None` if the name is valid.
pub fn name_fault(text: &str) -> Option<String> {
    let chars = text.chars().count();
    if text.trim().is_empty() {
        Some("is empty".to_owned())
    } else if chars > MAX_NAME_CHARS {
        Some(format!("is {chars} characters long; at most {MAX_NAME_CHARS} are accepted"))
    } else {
        let control = text.chars().find(|c| c.is_control())?;
        Some(format!("contains the control character {control:?}"))
    }
}

fn part(field: &'static str, text: &str) -> Result<String, ScopeError> {
    match name_fault(text) {
        None => Ok(text.to_owned()),
        Some(reason) => Err(ScopeError { field, reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_repository_are_one_scope() {
        let short = Scope::new("my-org", Some("my-repo"), Some("ci.yml"), Some("build")).unwrap();
        let full = Scope::new("my-org", Some("my-org/my-repo"), Some("ci.yml"), Some("build")).unwrap();
        assert_eq!(short, full);
        assert_eq!(full.full_repository().as_deref(), Some("my-org/my-repo"));
    }

    #[test]
    fn a_prefix_that_only_looks_like_the_organization_stays() {
        let scope = Scope::new("my", Some("my-org/repo"), None, None).unwrap();
        assert_eq!(scope.repository(), Some("my-org/repo"));
    }

    #[test]
    fn parts_are_checked() {
        let cases: [(&str, Option<&str>, Option<&str>, &str); 5] = [
            ("", None, None, "organization: is empty"),
            ("o", Some("o/"), None, "repository: is empty"),
            ("o", Some("a\nb"), None, "repository: contains the control character '\\n'"),
            ("o", Some("  "), None, "repository: is empty"),
            (
                "o",
                None,
                Some("w"),
                "repository: is missing, but workflow is given; only trailing parts may be left out",
            ),
        ];
        for (organization, repository, workflow, expected) in cases {
            let error = Scope::new(organization, repository, workflow, None).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert!(Scope::new(&"x".repeat(513), None, None, None).is_err());
        assert!(Scope::new(&"☃".repeat(512), None, None, None).is_ok());
    }

    #[test]
    fn names_of_people_are_made_normal() {
        let scope = Scope::named(" my-org", Some("my-org/tool\n"), Some("Docker:\tBuild"), None).unwrap();
        assert_eq!(scope, Scope::new("my-org", Some("tool"), Some("Docker: Build"), None).unwrap());
        assert_eq!(Scope::named("\n", None, None, None).unwrap_err().field, "organization");
        assert!(Scope::named("o", Some(&"x".repeat(1000)), None, None).is_ok());
    }

    /// A normalised name is normalised again: in a token's scope, in a checkpoint, by the next receiver.
    #[test]
    fn normal_names_are_those_of_their_own_scope() {
        let long = "x".repeat(MAX_NAME_CHARS);
        let longer = "y".repeat(MAX_NAME_CHARS + 9);
        let (full, of_long, of_longer) =
            (format!("{long}/{long}"), format!("{long}/r"), format!("{longer}/{longer}"));
        for (organization, repository) in [
            ("o", "o/r"),
            ("o", "o/o/r"),
            ("o", "o/ r"),
            (" o ", "o /r"),
            (&long, &long),
            (&long, &full),
            (&long, &of_long),
            (&longer, &longer),
            (&longer, &of_longer),
            (&longer, &full),
        ] {
            let scope = Scope::named(organization, Some(repository), Some("w"), None).unwrap();
            let [organization, repository] =
                [scope.organization().to_owned(), scope.full_repository().unwrap()];
            assert_eq!(Scope::named(&organization, Some(&repository), Some("w"), None).unwrap(), scope);
            assert_eq!(Scope::new(&organization, Some(&repository), Some("w"), None).unwrap(), scope);
            let run = Scope::new(&organization, Some(&repository), Some("w"), Some("j")).unwrap();
            assert_eq!(Scope::of_names(run.names()).unwrap(), run);
        }
        // Both spellings are one scope at any length.
        let [short, full] =
            [&longer, &of_longer].map(|name| Scope::named(&longer, Some(name), None, None).unwrap());
        assert_eq!(short, full);
    }

    #[test]
    fn parents_drop_one_part_at_a_time() {
        let mut scope = Scope::new("o", Some("r"), Some("w"), Some("j")).unwrap();
        let mut lengths = vec![];
        while let Some(parent) = scope.parent() {
            lengths.push(parent.parts().iter().filter(|(_, value)| value.is_some()).count());
            scope = parent;
        }
        assert_eq!(lengths, [3, 2, 1]);
    }
}
