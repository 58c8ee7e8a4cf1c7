//! Table `containers`: what each container used in a run, one row per container.

use rusqlite::{Connection, Row, params};
use wire::{ContainerSummary, CpuHistogram};

/// Columns of a [`ContainerSummary`], in the order in which they are written and read.
macro_rules! columns {
    () => {
        "name, cpu_seconds, cpu_peak_cores, cpu_p95_cores, cpu_request_cores, cpu_limit_cores, cpu_bound_cores,
        cpu_throttled_seconds, cpu_periods, cpu_throttled_periods, cpu_stalled_seconds, memory_peak_bytes, memory_p95_bytes,
        working_set_peak_bytes, cgroup_memory_peak_bytes, memory_needed_bytes, processes_memory_bytes,
        processes_memory_at_most_bytes, memory_request_bytes, memory_limit_bytes, memory_bound_bytes, oom_kills, exit_status, machine_cpus, machine_memory_bytes"
    };
}

/// The containers of a run in their order, without their histograms, which are long.
pub(super) const OF_RUN: &str =
    concat!("SELECT ", columns!(), ", NULL FROM containers WHERE run = ?1 ORDER BY position");

/// The same with their histograms.
pub(super) const WITH_HISTOGRAMS: &str =
    concat!("SELECT ", columns!(), ", cpu_cores_histogram FROM containers WHERE run = ?1 ORDER BY position");

const INSERT: &str = concat!(
    "INSERT INTO containers (",
    columns!(),
    ", cpu_cores_histogram, run, position) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
        ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)"
);

pub(super) fn insert(
    connection: &Connection,
    run: i64,
    containers: &[ContainerSummary],
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(INSERT)?;
    for (position, container) in containers.iter().enumerate() {
        let histogram = container.cpu_cores_histogram.as_ref();
        statement.execute(params![
            container.name,
            container.cpu_seconds,
            container.cpu_peak_cores,
            container.cpu_p95_cores,
            container.cpu_request_cores,
            container.cpu_limit_cores,
            container.cpu_bound_cores,
            container.cpu_throttled_seconds,
            container.cpu_periods.map(u64::cast_signed),
            container.cpu_throttled_periods.map(u64::cast_signed),
            container.cpu_stalled_seconds,
            container.memory_peak_bytes,
            container.memory_p95_bytes,
            container.working_set_peak_bytes,
            container.cgroup_memory_peak_bytes.map(u64::cast_signed),
            container.memory_needed_bytes.map(u64::cast_signed),
            container.processes_memory_bytes.map(u64::cast_signed),
            container.processes_memory_at_most_bytes.map(u64::cast_signed),
            container.memory_request_bytes.map(u64::cast_signed),
            container.memory_limit_bytes.map(u64::cast_signed),
            container.memory_bound_bytes.map(u64::cast_signed),
            container.oom_kills.map(u64::cast_signed),
            container.exit_status,
            container.machine_cpus,
            container.machine_memory_bytes.map(u64::cast_signed),
            histogram.and_then(|histogram| serde_json::to_string(histogram).ok()),
            run,
            position as i64,
        ])?;
    }
    Ok(())
}

/// Reads the containers of a run. `sql` is [`OF_RUN`] or [`WITH_HISTOGRAMS`].
pub(super) fn select(
    connection: &Connection,
    sql: &str,
    run: i64,
) -> rusqlite::Result<Vec<ContainerSummary>> {
    connection.prepare_cached(sql)?.query_map([run], container)?.collect()
}

fn container(row: &Row<'_>) -> rusqlite::Result<ContainerSummary> {
    let count = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(i64::cast_unsigned));
    let histogram: Option<String> = row.get(25)?;
    Ok(ContainerSummary {
        name: row.get(0)?,
        cpu_seconds: row.get(1)?,
        cpu_peak_cores: row.get(2)?,
        cpu_p95_cores: row.get(3)?,
        cpu_request_cores: row.get(4)?,
        cpu_limit_cores: row.get(5)?,
        cpu_bound_cores: row.get(6)?,
        cpu_throttled_seconds: row.get(7)?,
        cpu_periods: count(8)?,
        cpu_throttled_periods: count(9)?,
        cpu_stalled_seconds: row.get(10)?,
        memory_peak_bytes: row.get(11)?,
        memory_p95_bytes: row.get(12)?,
        working_set_peak_bytes: row.get(13)?,
        cgroup_memory_peak_bytes: count(14)?,
        memory_needed_bytes: count(15)?,
        processes_memory_bytes: count(16)?,
        processes_memory_at_most_bytes: count(17)?,
        memory_request_bytes: count(18)?,
        memory_limit_bytes: count(19)?,
        memory_bound_bytes: count(20)?,
        oom_kills: count(21)?,
        exit_status: row.get(22)?,
        machine_cpus: row.get(23)?,
        machine_memory_bytes: count(24)?,
        // Only sound histograms are stored. If one is not sound, the container is treated as one without a histogram.
        cpu_cores_histogram: histogram
            .and_then(|text| serde_json::from_str::<CpuHistogram>(&text).ok())
            .filter(CpuHistogram::is_sound),
    })
}
