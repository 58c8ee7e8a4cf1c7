//! `receiver backup` and `receiver check`.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::schema;

/// Copies a consistent snapshot of a database while others write to it, and checks the copy.
pub fn backup(database: &Path, file: &Path) -> Result<String> {
    if file.exists() {
        bail!("{} exists; name a file that does not", file.display());
    }
    let partial = file.with_added_extension("partial");
    let copied = copy(database, &partial).and_then(|runs| {
        std::fs::File::open(&partial)?.sync_all()?;
        std::fs::rename(&partial, file)?;
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        std::fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(runs)
    });
    match copied {
        Ok(runs) => Ok(format!("{}: a copy of {}, {runs} runs", file.display(), database.display())),
        Err(error) => {
            let _ = std::fs::remove_file(&partial);
            Err(error.context(format!("cannot copy {} to {}", database.display(), file.display())))
        }
    }
}

fn copy(database: &Path, partial: &Path) -> Result<i64> {
    let source = schema::open_for_reading(database)?;
    schema::check(&source)?;
    // Left over from an earlier attempt.
    let _ = std::fs::remove_file(partial);
    let mut target = Connection::open(partial)?;
    schema::nothing_in_temporary_files(&target)?;
    // All pages in one step: with several steps, each write to the source would restart the copy.
    match Backup::new(&source, &mut target)?.step(-1)? {
        StepResult::Done => {}
        other => bail!("the copy ended with {other:?}"),
    }
    // One file, without a log beside it.
    target.execute_batch("PRAGMA journal_mode = DELETE")?;
    sound(&target)
}

/// Reads a whole database and checks its pages, its indexes and its foreign keys.
pub fn check(file: &Path) -> Result<String> {
    let open = || -> Result<i64> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        // The checks below keep a row per job in temporary storage, and the file's directory may not be writable.
        schema::nothing_in_temporary_files(&connection)?;
        super::integrity::check_log(file)?;
        schema::check(&connection)?;
        sound(&connection)
    };
    let runs = open().with_context(|| file.display().to_string())?;
    Ok(format!("{}: sound, {runs} runs", file.display()))
}

/// Jobs whose cached run count or last run disagrees with `runs`.
const WRONG_JOBS: &str = "
    SELECT count(*) FROM jobs
    LEFT JOIN (SELECT job_id, count(*) AS runs, max(id) AS last FROM runs GROUP BY job_id) ON job_id = jobs.id
    WHERE runs IS NOT run_count OR last IS NOT last_run";

fn sound(connection: &Connection) -> Result<i64> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        bail!("the database is corrupt: {found}");
    }
    let mut dangling = connection.prepare("PRAGMA foreign_key_check")?;
    if dangling.exists([])? {
        return Err(anyhow!("the database is corrupt: some rows refer to a missing row"));
    }
    let wrong: i64 = connection.query_row(WRONG_JOBS, [], |row| row.get(0))?;
    if wrong > 0 {
        bail!("the database is corrupt: {wrong} jobs do not match their runs");
    }
    Ok(connection.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?)
}
