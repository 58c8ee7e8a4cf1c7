//! Summaries of one run by different collectors: a row of `runs` holds the joined result, `parts` each summary as
//! received.
//!
//! Most runs are reported by only one collector; they have a row of `runs` and no parts. Which summaries belong
//! together depends on the set of summaries and not on their order: whenever one arrives, its neighbours are grouped
//! again.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params, params};
use wire::Payload;

use super::catalog::time;
use super::received::{Place, Received, places};
use super::rows::{self, StoredSummary};
use super::{NewRun, Outcome, SummaryKey};
use crate::join::{self, Part};

/// At most this many summaries are grouped together. A pod has two collectors, or a few more if some were killed and
/// could not resume. Further summaries are not joined: otherwise a client with a push token could keep the writer busy.
const MAX_PARTS: usize = 16;

/// Runs of a job in which one kind of collector reported the same containers, and that overlap an interval.
pub(super) const BESIDE: &str = "
    SELECT run FROM seen JOIN runs ON id = run
    WHERE key = :key AND seen.end_time_ms >= :start AND start_time_ms <= :end AND job_id = :job LIMIT :limit";

/// The summaries of a run: its own, or those that it was joined from.
pub(super) const PARTS: &str = "
    SELECT run_id, run_attempt, summary_id, seq, is_final, received_at_ms, digest, payload FROM runs
    WHERE id = ?1 AND summary_id IS NOT NULL
    UNION ALL
    SELECT run_id, run_attempt, summary_id, seq, is_final, received_at_ms, digest, payload FROM parts WHERE run = ?1";

/// A summary, and the row that it is in.
struct LoadedSummary {
    row: Option<i64>,
    received: Received,
}

/// Stores a summary joined with other summaries of the same run. Returns `None` if there are no others: then it is a
/// run of its own.
pub(super) fn join(
    connection: &Connection,
    job: i64,
    run: &NewRun,
    stored: Option<&StoredSummary>,
) -> rusqlite::Result<Option<Outcome>> {
    let is_alone = stored.is_none_or(|stored| !stored.is_part);
    let Some(key) = &run.summary else { return Ok(None) };
    // The summary that this one replaces may have overlapped others, too.
    let start = stored.map_or(i64::MAX, |stored| stored.start_time_ms).min(run.start_time.as_millisecond());
    let end = stored.map_or(i64::MIN, |stored| stored.end_time_ms).max(run.end_time.as_millisecond());
    let own = stored.map(|stored| stored.id);
    let mut rows: BTreeSet<i64> = beside(connection, job, &run.places, start, end)?.into_iter().collect();
    if is_alone && rows.iter().all(|row| Some(*row) == own) {
        return Ok(None);
    }
    rows.extend(own);
    let new = Received {
        run_id: run.run_id.clone(),
        run_attempt: run.run_attempt,
        summary: run.summary.clone(),
        is_final: run.is_final,
        received_at: run.received_at,
        digest: run.digest,
        payload: run.payload.clone(),
    };
    let mut near = Near::new(connection, job, key, LoadedSummary { row: own, received: new })?;
    if !near.add_all(rows)? {
        // Too many: it stays in the group that it is in.
        let new = near.loaded.swap_remove(0);
        near = Near::new(connection, job, key, new)?;
        near.add_all(own.into_iter().collect())?;
    }
    near.store(run, is_alone)
}

/// The neighbourhood of a summary: everything that it may be joined with, and everything that decides about it.
struct Near<'a> {
    connection: &'a Connection,
    job: i64,
    key: &'a SummaryKey,
    /// The new summary comes first.
    loaded: Vec<LoadedSummary>,
    parts: Vec<Part>,
    rows: BTreeMap<i64, BTreeSet<usize>>,
}

impl<'a> Near<'a> {
    fn new(
        connection: &'a Connection,
        job: i64,
        key: &'a SummaryKey,
        new: LoadedSummary,
    ) -> rusqlite::Result<Self> {
        let rows = new.row.map(|row| (row, BTreeSet::from([0]))).into_iter().collect();
        let part = part(&new.received)?;
        Ok(Self { connection, job, key, loaded: vec![new], parts: vec![part], rows })
    }

    /// Adds the summaries of these rows and of all rows beside them. Returns false if there are too many.
    fn add_all(&mut self, mut rows: BTreeSet<i64>) -> rusqlite::Result<bool> {
        let mut added = BTreeSet::new();
        while let Some(row) = rows.pop_first() {
            if !added.insert(row) {
                continue;
            }
            for received in received(self.connection, row)? {
                // Skip the summary that the new one replaces.
                if received.summary.as_ref().is_some_and(|key| key.summary_id == self.key.summary_id) {
                    continue;
                }
                if self.loaded.len() >= MAX_PARTS {
                    return Ok(false);
                }
                let part = part(&received)?;
                let (start, end) = (part.payload.start_time, part.payload.end_time);
                let places = places(&part.payload);
                let (start, end) = (start.as_millisecond(), end.as_millisecond());
                rows.extend(beside(self.connection, self.job, &places, start, end)?);
                self.rows.entry(row).or_default().insert(self.loaded.len());
                self.loaded.push(LoadedSummary { row: Some(row), received });
                self.parts.push(part);
            }
        }
        Ok(true)
    }

    /// Stores the groups that differ from what is stored.
    fn store(&self, run: &NewRun, is_alone: bool) -> rusqlite::Result<Option<Outcome>> {
        let is_stored = |group: &[usize]| {
            let row = self.loaded[group[0]].row.and_then(|row| self.rows.get(&row));
            !group.contains(&0) && row.is_some_and(|row| row.iter().eq(group))
        };
        let mut groups = join::groups(&self.parts);
        groups.retain(|group| !is_stored(group));
        if is_alone && groups == [vec![0]] {
            return Ok(None);
        }
        let rows =
            |group: &[usize]| group.iter().filter_map(|at| self.loaded[*at].row).collect::<BTreeSet<_>>();
        let mut former: BTreeSet<i64> = groups.iter().flat_map(|group| rows(group)).collect();
        let (before, after) = (former.len() as i64, groups.len() as i64);
        for row in &former {
            self.connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([row])?;
        }
        groups.sort_by_key(|group| (rows(group).first().copied().unwrap_or(i64::MAX), group.clone()));
        let mut outcome = None;
        for group in groups {
            // Keep the oldest row.
            let id = rows(&group).into_iter().find(|row| former.remove(row));
            let id = self.insert(id, run, &group)?;
            if group.contains(&0) {
                let is_new = self.loaded[0].row.is_none();
                let alone = group.len() == 1;
                outcome = Some(match (is_new, alone) {
                    (false, _) => Outcome::Replaced(id),
                    (true, false) => Outcome::Joined(id),
                    (true, true) => Outcome::Created(id),
                });
            }
        }
        rows::count(self.connection, self.job, after - before, 0, run)?;
        // The newest row may have been merged into an older one.
        let newest = "UPDATE jobs SET last_run = (SELECT max(id) FROM runs WHERE job_id = ?1) WHERE id = ?1";
        self.connection.prepare_cached(newest)?.execute([self.job])?;
        Ok(outcome)
    }

    fn insert(&self, id: Option<i64>, run: &NewRun, group: &[usize]) -> rusqlite::Result<i64> {
        let scope = run.scope.clone();
        if let [one] = group {
            let received = self.loaded[*one].received.clone();
            let run = NewRun::new(scope, received, &self.parts[*one].payload);
            return rows::insert_row(self.connection, id, self.job, &run);
        }
        let parts: Vec<Part> = group.iter().map(|at| self.parts[*at].clone()).collect();
        let received: Vec<&Received> = group.iter().map(|at| &self.loaded[*at].received).collect();
        let texts: Vec<&str> = received.iter().map(|received| received.payload.as_str()).collect();
        let joined = join::join(&parts).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let text = joined.text(&texts).map_err(|error| unreadable(7, error))?;
        let last = received.iter().map(|received| received.received_at).max().unwrap_or(run.received_at);
        let places: BTreeSet<Place> = parts.iter().flat_map(|part| places(&part.payload)).collect();
        let row = NewRun::joined(scope, joined, text, last, places.into_iter().collect());
        let id = rows::insert_row(self.connection, id, self.job, &row)?;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO parts (run, job_id, run_id, run_attempt, summary_id, seq, is_final, received_at_ms, digest, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        for received in received {
            statement.execute(params![
                id,
                self.job,
                received.run_id,
                received.run_attempt,
                received.summary.as_ref().map(|key| &key.summary_id),
                received.summary.as_ref().map(|key| key.seq.cast_signed()),
                received.is_final,
                received.received_at.as_millisecond(),
                received.digest,
                received.payload,
            ])?;
        }
        Ok(id)
    }
}

fn beside(
    connection: &Connection,
    job: i64,
    places: &[Place],
    start: i64,
    end: i64,
) -> rusqlite::Result<Vec<i64>> {
    let mut rows = vec![];
    let mut statement = connection.prepare_cached(BESIDE)?;
    for place in places {
        let limit = MAX_PARTS as i64 + 1;
        let found = statement.query_map(
            named_params! { ":job": job, ":key": place.other, ":start": start, ":end": end, ":limit": limit },
            |row| row.get(0),
        )?;
        rows.extend(found.collect::<rusqlite::Result<Vec<i64>>>()?);
    }
    Ok(rows)
}

fn received(connection: &Connection, row: i64) -> rusqlite::Result<Vec<Received>> {
    let mut statement = connection.prepare_cached(PARTS)?;
    let rows = statement.query_map([row], |row: &Row<'_>| {
        let seq: i64 = row.get(3)?;
        Ok(Received {
            run_id: row.get(0)?,
            run_attempt: row.get(1)?,
            summary: Some(SummaryKey { summary_id: row.get(2)?, seq: seq.cast_unsigned() }),
            is_final: row.get(4)?,
            received_at: time(row.get(5)?),
            digest: row.get(6)?,
            payload: row.get(7)?,
        })
    })?;
    rows.collect()
}

fn part(received: &Received) -> rusqlite::Result<Part> {
    let payload: Payload = serde_json::from_str(&received.payload).map_err(|error| unreadable(7, error))?;
    let (summary_id, seq) =
        received.summary.as_ref().map_or_else(Default::default, |key| (key.summary_id.clone(), key.seq));
    Ok(Part {
        run_id: received.run_id.clone(),
        run_attempt: received.run_attempt,
        summary_id,
        seq,
        is_final: received.is_final,
        payload,
    })
}

/// The error for a stored payload that cannot be read, although only valid ones are stored.
fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests;
