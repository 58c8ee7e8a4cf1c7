//! One summary, pushed with retries.
