//! Sizing of a job, a workflow or a repository: reads the runs and makes the recommendations.

use wire::Scope;

use super::parameters::SizingParameters;
use super::recommend::{is_short, recommend_at};
use super::recommendation::{JobSizing, Savings, Sizing, SizingLevel, Window};
use crate::store::CompleteRun;
use crate::store::{HistoryQuery, JobHistory, RunFilter, Store, StoreError};

/// At most this many jobs of a workflow or repository are considered, those that ran last …
const MAX_JOBS: u32 = 200;
/// … and at most this many runs of all of them together.
const MAX_RUNS: u32 = 10_000;

/// Recommends requests for the containers of a job, or of all jobs of a workflow or repository.
pub async fn sizing(store: &Store, scope: Scope, parameters: SizingParameters) -> Result<Sizing, StoreError> {
    let histories = Histories::read(store, &scope, &parameters).await?;
    // It adds up some thousand histograms, too long for an async thread.
    let sizing = tokio::task::spawn_blocking(move || size(&scope, &histories, &parameters)).await;
    sizing.map_err(|error| StoreError::Failed(error.to_string()))
}

/// The histories that an answer is made from.
struct Histories {
    asked: Vec<JobHistory>,
    /// All variants of the requested job, if a variant was requested and has too few runs.
    every_variant: Vec<JobHistory>,
    left_out: usize,
    /// The jobs of the workflow and of the repository, if the requested jobs have too few runs.
    workflow: Vec<JobHistory>,
    repository: Vec<JobHistory>,
}

impl Histories {
    async fn read(store: &Store, scope: &Scope, parameters: &SizingParameters) -> Result<Self, StoreError> {
        let filter = |variant: Option<&String>| RunFilter {
            variant: variant.cloned(),
            git_ref: parameters.git_ref.clone(),
            event: parameters.event.clone(),
            result: None,
        };
        let read_of = async |scope: Scope, jobs: u32, filter: RunFilter| {
            let SizingParameters { runs, since, .. } = *parameters;
            store.history(HistoryQuery { scope, jobs, runs, since, filter }).await
        };
        let read = async |scope: Scope, jobs: u32| read_of(scope, jobs, filter(None)).await;
        let most = MAX_JOBS.min((MAX_RUNS / parameters.runs).max(1));
        let asked = read_of(scope.clone(), most, filter(parameters.variant.as_ref())).await?;
        let left_out = (store.count_jobs(scope.clone()).await?).saturating_sub(asked.len());
        let (every_variant, workflow, repository) = (Vec::new(), Vec::new(), Vec::new());
        let mut histories = Self { asked, every_variant, left_out, workflow, repository };
        if parameters.variant.is_some() && scope.job().is_some() && histories.is_short(parameters) {
            histories.every_variant = read(scope.clone(), 1).await?;
        }
        // The newest n runs of a scope belong to the n jobs that ran last.
        let most = most.min(parameters.runs);
        let mut wider = scope.clone();
        while let Some(parent) = wider.parent().filter(|parent| parent.repository().is_some()) {
            if !histories.is_short(parameters) {
                break;
            }
            let jobs = read(parent.clone(), most).await?;
            match parent.workflow() {
                Some(_) => histories.workflow = jobs,
                None => histories.repository = jobs,
            }
            wider = parent;
        }
        Ok(histories)
    }

    fn is_short(&self, parameters: &SizingParameters) -> bool {
        self.asked.is_empty() || self.asked.iter().any(|job| is_short(&job.runs, parameters))
    }

    /// The newest of the runs that were read, of a workflow or of the whole repository.
    fn newest(&self, workflow: Option<&str>, parameters: &SizingParameters) -> Vec<CompleteRun> {
        let all = self.asked.iter().chain(&self.every_variant).chain(&self.workflow).chain(&self.repository);
        let those = all.filter(|job| workflow.is_none_or(|workflow| job.workflow == workflow));
        let mut runs: Vec<&CompleteRun> = those.flat_map(|job| &job.runs).collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.id));
        runs.dedup_by_key(|run| run.id);
        runs.into_iter().take(parameters.runs as usize).cloned().collect()
    }
}

fn size(scope: &Scope, histories: &Histories, parameters: &SizingParameters) -> Sizing {
    let repository = histories.newest(None, parameters);
    let own = if parameters.variant.is_some() { SizingLevel::Variant } else { SizingLevel::Job };
    let every_variant = histories.every_variant.first().map(|job| job.runs.as_slice()).unwrap_or_default();
    let of_job = |runs: &[CompleteRun], workflow: &str| {
        let of_workflow = if is_short(runs, parameters) {
            histories.newest(Some(workflow), parameters)
        } else {
            Vec::new()
        };
        let wider = [
            (SizingLevel::Job, every_variant),
            (SizingLevel::Workflow, &of_workflow),
            (SizingLevel::Repository, &repository),
        ];
        recommend_at(own, runs, &wider, parameters)
    };
    let mut sizing = Sizing {
        organization: scope.organization().to_owned(),
        repository: scope.full_repository().unwrap_or_default(),
        workflow: scope.workflow().map(str::to_owned),
        job: scope.job().map(str::to_owned),
        window: Window::default(),
        containers: Vec::new(),
        savings: Savings::default(),
        jobs: Vec::new(),
        jobs_left_out: histories.left_out,
        parameters: parameters.clone(),
    };
    if let (Some(workflow), Some(_)) = (scope.workflow(), scope.job()) {
        let runs = histories.asked.first().map(|job| job.runs.as_slice()).unwrap_or_default();
        sizing.window = Window::of(runs);
        sizing.containers = of_job(runs, workflow);
        sizing.savings = Savings::sum(sizing.containers.iter().map(|one| &one.savings), parameters);
        return sizing;
    }
    for JobHistory { workflow, job, runs, .. } in &histories.asked {
        let containers = of_job(runs, workflow);
        let savings = Savings::sum(containers.iter().map(|one| &one.savings), parameters);
        let (workflow, job, window) = (workflow.clone(), job.clone(), Window::of(runs));
        sizing.jobs.push(JobSizing { workflow, job, window, containers, savings });
    }
    // The recommendation for all jobs uses the runs of each job, not only the newest runs of the scope.
    let mut all: Vec<CompleteRun> = histories.asked.iter().flat_map(|job| &job.runs).cloned().collect();
    all.sort_by_key(|run| std::cmp::Reverse(run.id));
    sizing.window = Window::of(&all);
    let level = if scope.workflow().is_some() { SizingLevel::Workflow } else { SizingLevel::Repository };
    sizing.containers = recommend_at(level, &all, &[(SizingLevel::Repository, &repository)], parameters);
    sizing.savings = Savings::sum(sizing.jobs.iter().map(|job| &job.savings), parameters);
    sizing
}
