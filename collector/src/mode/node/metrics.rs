//! The answer to `/metrics`: the running jobs, and the collector itself.

use std::time::Duration;

use tracing::error;

use super::job_run::{JobEnd, JobRun};
use super::measurement::NodeMeasurement;
use super::pod::Pod;
use super::publisher::NodePublisher;
use crate::accumulate::seconds;
use crate::attribute::containers::Container;
use crate::host;
use crate::output::prometheus::Scrape;

/// Labels of a job and its pod.
const JOB: [&str; 8] =
    ["organization", "repository", "workflow", "job", "run_id", "namespace", "pod", "pod_uid"];

/// The text of a scrape.
pub(super) fn render(measurement: &NodeMeasurement, publisher: &NodePublisher) -> String {
    let mut scrape = Scrape::default();
    jobs(&mut scrape, measurement);
    own(&mut scrape, measurement, publisher);
    scrape.text().unwrap_or_else(|error| {
        error!(%error, "metrics cannot be made");
        String::new()
    })
}

/// One container of one job.
struct Row<'a> {
    pod: &'a Pod,
    job: &'a JobRun,
    container: &'a Container,
    id: &'a str,
    cpu_ns: u64,
    rss_bytes: u64,
    working_set_bytes: Option<u64>,
}

impl<'a> Row<'a> {
    fn labels(&self) -> Vec<&'a str> {
        let mut labels = job_labels(self.pod, self.job);
        labels.extend([self.container.name(), self.id]);
        labels
    }
}

fn job_labels<'a>(pod: &'a Pod, job: &'a JobRun) -> Vec<&'a str> {
    let (run, facts) = (&job.run, pod.facts());
    vec![
        &run.organization,
        &run.repository,
        &run.workflow,
        &run.job,
        &run.run_id,
        facts.namespace,
        facts.pod,
        facts.uid,
    ]
}

fn jobs(scrape: &mut Scrape, measurement: &NodeMeasurement) {
    let running = || measurement.pods.iter().flat_map(|(_, pod)| pod.jobs.iter().map(move |job| (pod, job)));
    let rows: Vec<Row<'_>> = running()
        .flat_map(|(pod, job)| {
            let live = job.recorder.live().filter(|(index, ..)| !pod.containers.is_overhead(*index));
            live.map(move |(index, cpu_ns, rss_bytes, working_set_bytes)| Row {
                pod,
                job,
                container: &pod.containers[index],
                id: pod.containers.newest(index).id().unwrap_or_default(),
                cpu_ns,
                rss_bytes,
                working_set_bytes,
            })
        })
        .collect();
    let labels: Vec<&str> = JOB.into_iter().chain(["container", "container_id"]).collect();
    scrape.counters(
        "collector_job_cpu_seconds",
        "CPU time of each container of a job that runs, from the job's beginning, short-lived processes included",
        &labels,
        rows.iter().map(|row| (row.labels(), seconds(row.cpu_ns))),
    );
    let overhead = |job: &JobRun, pod: &Pod| -> u64 {
        job.recorder
            .live()
            .filter(|(index, ..)| pod.containers.is_overhead(*index))
            .map(|(_, ns, ..)| ns)
            .sum()
    };
    scrape.counters(
        "collector_job_pod_overhead_cpu_seconds",
        "CPU time in the pod of a running job that belongs to none of its containers (the sandbox), and the job's part of what the jobs of the pod share",
        &JOB,
        running().map(|(pod, job)| (job_labels(pod, job), seconds(overhead(job, pod)))),
    );
    scrape.gauges(
        "collector_job_memory_bytes",
        "Sum of the resident set sizes of each container of a job that runs",
        &labels,
        rows.iter().map(|row| (row.labels(), row.rss_bytes as f64)),
    );
    scrape.gauges(
        "collector_job_working_set_bytes",
        "Working set of each container of a job that runs, as its cgroup tells",
        &labels,
        rows.iter().filter_map(|row| Some((row.labels(), row.working_set_bytes? as f64))),
    );
    scrape.gauges(
        "collector_job_start_time_seconds",
        "When the run of a job that runs began, in seconds since 1970",
        &JOB,
        running().map(|(pod, job)| {
            (job_labels(pod, job), job.recorder.start_time().as_millisecond() as f64 / 1e3)
        }),
    );
}

fn own(scrape: &mut Scrape, measurement: &NodeMeasurement, publisher: &NodePublisher) {
    let totals = &measurement.totals;
    let one = |value: f64| [(vec![], value)];
    let info = &measurement.context.info;
    scrape.gauges(
        "collector_build_info",
        "The collector's version, and whether it measures with eBPF or from /proc alone; always 1",
        &["version", "source"],
        [(vec![info.version.as_str(), info.source.as_str()], 1.0)],
    );
    let count: usize = measurement.pods.iter().map(|(_, pod)| pod.jobs.len()).sum();
    scrape.gauges("collector_jobs", "Jobs that are followed", &[], one(count as f64));
    let pods = measurement.pods.iter().count();
    scrape.gauges("collector_pods", "Pods, and containers in no pod, jobs or not", &[], one(pods as f64));
    scrape.gauges("collector_processes", "Processes in the last pass", &[], one(totals.processes as f64));
    let ended =
        JobEnd::ALL.map(|end| (vec![end.name()], totals.ended.get(&end).copied().unwrap_or_default() as f64));
    scrape.counters(
        "collector_jobs_ended",
        "Jobs that are over, by why: their pod is gone, they were idle, or another one began in their pod",
        &["reason"],
        ended,
    );
    let counters: [(&str, &str, f64); 6] = [
        ("collector_passes", "Passes over the process table", totals.passes as f64),
        (
            "collector_missed_passes",
            "Passes that were due while one before was late",
            totals.missed_passes as f64,
        ),
        ("collector_lost_records", "Records of the eBPF program that were lost", totals.lost_records as f64),
        (
            "collector_unattributed_cpu_seconds",
            "CPU time whose container is unknown",
            seconds(totals.unattributed_ns),
        ),
        (
            "collector_unreadable_environments",
            "Environments that could not be read for lack of permission",
            totals.forbidden as f64,
        ),
        (
            "process_cpu_seconds",
            "CPU time that the collector itself used",
            host::own_cpu_time().as_secs_f64(),
        ),
    ];
    for (name, help, value) in counters {
        scrape.counters(name, help, &[], one(value));
    }
    let last: Duration = totals.last_pass;
    scrape.gauges(
        "collector_last_pass_duration_seconds",
        "How long the last pass took",
        &[],
        one(last.as_secs_f64()),
    );
    if let Some(bytes) = host::own_resident_bytes() {
        scrape.gauges(
            "process_resident_memory_bytes",
            "Resident set size of the collector itself",
            &[],
            one(bytes as f64),
        );
    }
    if let Some(counts) = publisher.counts() {
        let results = [(vec!["stored"], counts.stored as f64), (vec!["failed"], counts.failed as f64)];
        scrape.counters(
            "collector_pushes",
            "Summaries pushed, by what became of them after all attempts",
            &["result"],
            results,
        );
    }
}
