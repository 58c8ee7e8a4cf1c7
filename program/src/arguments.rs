//! Parses arguments and variables with clap. An empty variable counts as unset, and an error names the variable that is
//! invalid.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Parser};

use crate::stream;

/// The result of parsing.
#[derive(Debug, Clone)]
pub struct Parsed<T> {
    /// The arguments.
    pub args: T,
    /// Where the value of each came from.
    pub sources: Sources,
    /// Invalid variables that were ignored, each with what is wrong; only if that is allowed.
    pub left_out: Vec<String>,
}

/// Where the values of arguments came from.
#[derive(Debug, Clone, Default)]
pub struct Sources(BTreeMap<String, Source>);

/// Where the value of an argument came from, and its names.
#[derive(Debug, Clone)]
struct Source {
    flag: String,
    variable: Option<String>,
    from: Option<ValueSource>,
}

impl Sources {
    /// Whether the argument is from the command line, and not from a variable or a default.
    pub fn is_typed(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|source| source.from == Some(ValueSource::CommandLine))
    }

    /// The argument's name in messages: the variable if the value came from it, else the flag.
    pub fn name(&self, id: &str) -> String {
        match self.0.get(id) {
            Some(Source { variable: Some(name), from: Some(ValueSource::EnvVariable), .. }) => name.clone(),
            Some(source) => source.flag.clone(),
            None => format!("--{}", id.replace('_', "-")),
        }
    }

    fn of(command: &Command, matches: &ArgMatches, into: &mut BTreeMap<String, Source>) {
        for arg in command.get_arguments() {
            let id = arg.get_id().as_str();
            let flag = arg.get_long().map_or_else(|| id.to_owned(), |long| format!("--{long}"));
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
            let from = matches.ids().any(|known| known == id).then(|| matches.value_source(id)).flatten();
            into.insert(id.to_owned(), Source { flag, variable, from });
        }
        if let Some((name, matches)) = matches.subcommand()
            && let Some(command) = command.find_subcommand(name)
        {
            Self::of(command, matches, into);
        }
    }
}

/// Parses the arguments of this process. Exits with 2 if they are invalid. If only variables are invalid, they are ignored if
/// `tolerates` returns true for the arguments without any variable.
pub fn parse<T: Parser>(tolerates: impl Fn(&T) -> bool) -> Parsed<T> {
    parse_from(&std::env::args_os().collect::<Vec<_>>(), tolerates).unwrap_or_else(|error| end(&error))
}

/// Prints help or what is wrong, and exits. The status is 1 if help could not be written.
fn end(error: &clap::Error) -> ! {
    let told = error.print();
    let code = match told {
        Err(failed) if !error.use_stderr() => {
            stream::tell(&format!("the output could not be written to standard output: {failed}"));
            1
        }
        _ => error.exit_code(),
    };
    std::process::exit(code)
}

fn parse_from<T: Parser>(
    typed: &[OsString],
    tolerates: impl Fn(&T) -> bool,
) -> Result<Parsed<T>, clap::Error> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let refused = match read(only(T::command(), &is_set), typed) {
        Ok((args, sources)) => return Ok(Parsed { args, sources, left_out: Vec::new() }),
        // Help also names the variables that are not set.
        Err(error) if !error.use_stderr() => {
            return Err(read::<T>(T::command(), typed).err().unwrap_or(error));
        }
        Err(error) => error,
    };
    let command = only(T::command(), &is_set);
    // If it fails without any variable, the command line itself is invalid.
    let Ok((without, _)) = read::<T>(only(command.clone(), &|_| false), typed) else { return Err(refused) };
    let mut wrong = BTreeMap::new();
    for name in variables(&command) {
        let alone = only(command.clone(), &|other| other == name.as_str());
        if let Err(error) = read::<T>(alone, typed)
            && matches!(
                error.kind(),
                ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::InvalidUtf8
            )
        {
            wrong.insert(name.clone(), said(&name, &error));
        }
    }
    let is_tolerated = tolerates(&without);
    if is_tolerated {
        let good = only(command.clone(), &|name| !wrong.contains_key(name));
        if let Ok((args, sources)) = read(good, typed) {
            return Ok(Parsed { args, sources, left_out: wrong.into_values().collect() });
        }
        // They do not go together, and it is unknown which of them is meant.
        let (args, sources) = read(only(command, &|_| false), typed)?;
        return Ok(Parsed { args, sources, left_out: vec![format!("all variables are ignored: {refused}")] });
    }
    if wrong.is_empty() {
        return Err(refused);
    }
    let all: Vec<_> = wrong.into_values().collect();
    Err(command.clone().error(ErrorKind::ValueValidation, all.join("\n")))
}

fn read<T: Parser>(mut command: Command, typed: &[OsString]) -> Result<(T, Sources), clap::Error> {
    let matches = command.try_get_matches_from_mut(typed)?;
    let mut sources = BTreeMap::new();
    Sources::of(&command, &matches, &mut sources);
    Ok((T::from_arg_matches(&matches)?, Sources(sources)))
}

/// The command, with only the variables for which `counts` returns true.
fn only(command: Command, counts: &dyn Fn(&str) -> bool) -> Command {
    let command =
        command.mut_args(|arg| match arg.get_env().map(|name| name.to_string_lossy().into_owned()) {
            Some(name) if !counts(&name) => arg.env(None),
            _ => arg,
        });
    command.mut_subcommands(|subcommand| only(subcommand, counts))
}

/// The names of all variables that count.
fn variables(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// clap's message about a value, with the name of the variable that it came from.
fn said(name: &str, error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // After the first paragraph, clap prints usage and help.
    let first = text.split("\n\n").next().unwrap_or_default();
    format!("{name}: {}", first.lines().map(str::trim).collect::<Vec<_>>().join(" "))
}
