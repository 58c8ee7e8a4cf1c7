//! Results of long builds, kept in the user's cache under a hash of their inputs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Digits of a checksum that are enough to tell builds apart.
const KEY_DIGITS: usize = 16;

/// This project's directory in `$XDG_CACHE_HOME`, or else in `~/.cache`.
pub(super) fn directory() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let directory =
        cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("runner-resource-collector");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    Ok(directory)
}

/// Names a build after the files directly in `sources`, if there are any, and its other inputs.
pub(super) fn key(sources: Option<&Path>, more: &[u8]) -> Result<String> {
    let mut files = Vec::new();
    if let Some(sources) = sources {
        for entry in fs::read_dir(sources).with_context(|| sources.display().to_string())? {
            files.push(entry?.path());
        }
    }
    files.retain(|path| path.is_file());
    files.sort();
    let mut hash = Sha256::new();
    for file in &files {
        let content = fs::read(file).with_context(|| file.display().to_string())?;
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    hash.update(more);
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(KEY_DIGITS);
    Ok(digits)
}

/// SHA-256 of a file, in hexadecimal.
pub(super) fn checksum(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut HashWriter(&mut hash))?;
    Ok(hex::encode(hash.finalize()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
