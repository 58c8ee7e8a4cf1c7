//! Beside the job.
