//! Manual pages and shell completions, from the definitions that the programs parse their arguments with.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use clap::{Command, CommandFactory};
use clap_complete::Shell;

/// The command line of one of the programs.
pub(super) fn definition(name: &str) -> Result<Command> {
    match name {
        "collector" => Ok(collector::args::Args::command().name("collector")),
        "receiver" => Ok(receiver::args::Args::command().name("receiver")),
        other => bail!("{other} is not a shipped program"),
    }
}

/// Writes them below a directory, laid out as in `share`.
pub(super) fn write(name: &str, directory: &Path) -> Result<()> {
    let manual = directory.join("share/man/man1");
    fs::create_dir_all(&manual)?;
    let mut command = definition(name)?;
    command.build();
    // One page for the program and one for each of its commands.
    clap_mangen::generate_to(command.clone(), &manual)?;
    for (shell, place, file) in [
        (Shell::Bash, "share/bash-completion/completions", name.to_owned()),
        (Shell::Zsh, "share/zsh/site-functions", format!("_{name}")),
        (Shell::Fish, "share/fish/vendor_completions.d", format!("{name}.fish")),
    ] {
        let place = directory.join(place);
        fs::create_dir_all(&place)?;
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut script);
        fs::write(place.join(file), script)?;
    }
    Ok(())
}
