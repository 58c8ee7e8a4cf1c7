//! The processors that programs are built for.

use anyhow::{Result, bail};
use clap::ValueEnum;

/// A processor that programs are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
}

impl Arch {
    /// This machine's processor.
    pub(crate) fn native() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("nothing is built for {other}; only for x86_64 and aarch64"),
        }
    }

    /// The name that images and Debian use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name that Rust uses.
    pub(crate) fn rust_name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    pub(crate) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.rust_name())
    }

    /// The C compiler for it on another machine.
    pub(crate) fn cross_compiler(self) -> String {
        format!("{}-linux-gnu-gcc", self.rust_name())
    }
}
