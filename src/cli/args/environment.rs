//! `LLAMA_ARG_…` and `BISE_…`: environment variables in place of flags.
//!
//! The name of a flag's variable stands beside the flag. A variable whose flag was typed is not looked at; every other
//! `LLAMA_ARG_…` is obeyed or named.

use std::ffi::{OsStr, OsString};

use super::llama_cpp::{self, Fate};
use super::words::{Words, find_long};

const PREFIX: &str = "LLAMA_ARG_";

/// Variables of flags that are one here, and the one they stand for.
const SAME: [(&str, &str); 2] =
    [("LLAMA_ARG_DRAFT_MAX", "LLAMA_ARG_SPEC_DRAFT_N_MAX"), ("_SHOW_TIMINGS", "_PERF")];

/// Adds what the variables say to a command line, where the command line itself says nothing. `command` is the definition of
/// the command that is to run, `root` that of them all.
///
/// # Errors
/// A switch that is set to something which is neither on nor off.
pub fn read(
    words: &mut Words,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    command: &clap::Command,
    root: &clap::Command,
) -> Result<(), String> {
    let mut variables: Vec<(String, OsString)> =
        variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    // Set to nothing is not set.
    variables.retain(|(_, value)| !value.is_empty());
    variables.sort();
    let (mut args, mut typed, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for (given, value) in variables {
        let name = SAME.iter().fold(given.clone(), |name, (from, to)| name.replace(from, to));
        match find(&name, command) {
            Some(arg) => {
                let long = arg.get_long().unwrap_or_default();
                let file = words.args.iter().any(|word| !word.as_encoded_bytes().starts_with(b"-"));
                let beside = |other: &&clap::Arg| file && other.is_positional();
                if words.typed.iter().any(|(given, _)| given == long)
                    || command.get_arg_conflicts_with(arg).iter().any(beside)
                {
                    continue;
                }
                let flag = match arg.get_action().takes_values() {
                    true => {
                        let mut flag = OsString::from(format!("--{long}="));
                        flag.push(&value);
                        Some((long.to_string(), flag))
                    }
                    false => {
                        let long = if switch(&name, &value)? {
                            Some(long.to_string())
                        } else {
                            opposite(long, command)
                        };
                        long.map(|long| (long.clone(), format!("--{long}").into()))
                    }
                };
                if let Some((long, flag)) = flag {
                    typed.push((long, given));
                    args.push(flag);
                }
            }
            None => match negated(&name, command) {
                // As in llama.cpp, whatever its value.
                Some(long) => args.push(format!("--{long}").into()),
                None if name.starts_with(PREFIX) => {
                    // By the name that was given.
                    let warning = warning(&name, &value, command, root);
                    warnings.extend(warning.map(|warning| warning.replacen(&name, &given, 1)));
                }
                None => {}
            },
        }
    }
    // In front, so that what is typed has the last word.
    args.append(&mut words.args);
    words.args = args;
    words.typed.append(&mut typed);
    warnings.append(&mut words.warnings);
    words.warnings = warnings;
    Ok(())
}

fn find<'a>(variable: &str, command: &'a clap::Command) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|arg| arg.get_env() == Some(OsStr::new(variable)))
}

/// The flag `--no-x` for `LLAMA_ARG_NO_X`.
fn negated(variable: &str, command: &clap::Command) -> Option<String> {
    let positive = format!("{PREFIX}{}", variable.strip_prefix(PREFIX)?.strip_prefix("NO_")?);
    let arg = find(&positive, command).filter(|arg| !arg.get_action().takes_values())?;
    opposite(arg.get_long()?, command)
}

/// The switch that takes back what another says.
fn opposite(long: &str, command: &clap::Command) -> Option<String> {
    let opposite = long.strip_prefix("no-").map_or_else(|| format!("no-{long}"), str::to_string);
    find_long(&opposite, command).map(|_| opposite)
}

fn switch(name: &str, value: &OsStr) -> Result<bool, String> {
    match value.to_str() {
        Some("1" | "on" | "true" | "enabled" | "yes") => Ok(true),
        Some("0" | "off" | "false" | "disabled" | "no") => Ok(false),
        _ => Err(format!("invalid value '{}' for '{name}': expected on or off", value.display())),
    }
}

/// What to say of a variable that no flag of the command has.
fn warning(name: &str, value: &OsStr, command: &clap::Command, root: &clap::Command) -> Option<String> {
    let value = value.to_string_lossy();
    let positive = name.replacen("LLAMA_ARG_NO_", PREFIX, 1);
    let find_flag = |name: &str| llama_cpp::find_variable(name, command.get_name());
    if let Some(flag) = find_flag(name).or_else(|| find_flag(&positive)) {
        let why = match flag.fate {
            Fate::AlwaysSo if switch(name, OsStr::new(value.as_ref())) == Ok(true) => return None,
            Fate::AlwaysSo => "bise has it no other way".into(),
            Fate::Values { so, .. } if so.contains(&value.as_ref()) => return None,
            Fate::NoEffect(why) | Fate::Values { why, .. } | Fate::Refused(why) => why.to_string(),
        };
        return Some(format!("{name}={value} has no effect: {why}"));
    }
    let others = std::iter::once(root).chain(root.get_subcommands());
    if others.into_iter().any(|other| find(name, other).is_some() || negated(name, other).is_some()) {
        let this =
            if std::ptr::eq(command, root) { "bise".into() } else { format!("bise {}", command.get_name()) };
        return Some(format!("{name}={value} has no effect on `{this}`"));
    }
    let known: Vec<String> = root
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_str()?.to_string()))
        .chain(llama_cpp::all().map(|flag| flag.env.to_string()))
        .collect();
    let near = known
        .iter()
        .map(|known| {
            (strsim::jaro_winkler(&name[PREFIX.len()..], known.strip_prefix(PREFIX).unwrap_or(known)), known)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.8);
    Some(match near {
        Some((_, near)) => format!("{name}={value} is not understood: did you mean {near}?"),
        None => format!("{name}={value} is not understood"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)], line: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut root = crate::cli::command_line::define();
        root.build();
        let mut words = super::super::words::read(line.iter().map(OsString::from), &root).unwrap();
        let command = line.get(1).and_then(|name| root.find_subcommand(name)).unwrap_or(&root);
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        read(&mut words, variables, command, &root).unwrap();
        (words.args.into_iter().map(|a| a.into_string().unwrap()).collect(), words.warnings)
    }

    #[test]
    fn variables_come_before_what_is_typed() {
        let (args, warnings) =
            with(&[("LLAMA_ARG_TOP_K", "7"), ("LLAMA_ARG_CTX_SIZE", "64")], &["bise", "-c", "32"]);
        assert_eq!(args, ["--top-k=7", "--ctx-size=32"]);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn switches_are_on_off_or_negated() {
        let args = |name, value| with(&[(name, value)], &["bise"]).0;
        assert_eq!(args("LLAMA_ARG_MLOCK", "1"), ["--mlock"]);
        assert_eq!(args("LLAMA_ARG_MLOCK", "off"), [""; 0]);
        assert_eq!(args("LLAMA_ARG_MMAP", "0"), ["--no-mmap"]);
        assert_eq!(args("LLAMA_ARG_NO_MMAP", "whatever"), ["--no-mmap"]);
        assert_eq!(args("LLAMA_ARG_PERF", "enabled"), ["--perf"]);
        assert_eq!(args("LLAMA_ARG_NO_PERF", "1"), ["--no-perf"]);
        assert_eq!(args("LLAMA_ARG_CONTEXT_SHIFT", "true"), ["--context-shift"]);
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let warnings = |name, value, line: &[&str]| with(&[(name, value)], line).1.join("\n");
        assert_eq!(
            warnings("LLAMA_ARG_N_GPU_LAYERS", "99", &["bise"]),
            "LLAMA_ARG_N_GPU_LAYERS=99 has no effect: bise computes on the CPU alone"
        );
        assert_eq!(
            warnings("LLAMA_ARG_TEMP", "0", &["bise"]),
            "LLAMA_ARG_TEMP=0 is not understood: did you mean LLAMA_ARG_TEMPERATURE?"
        );
        assert_eq!(
            warnings("LLAMA_ARG_TEMPERATURE", "0", &["bise", "bench"]),
            "LLAMA_ARG_TEMPERATURE=0 has no effect on `bise bench`"
        );
        assert!(warnings("LLAMA_ARG_DOCKER_REPO", "a/b", &["bise"]).contains("Docker"));
        assert_eq!(warnings("LLAMA_ARG_FLASH_ATTN", "on", &["bise"]), "");
        assert!(warnings("LLAMA_ARG_FLASH_ATTN", "off", &["bise"]).contains("has no effect"));
        assert_eq!(warnings("LLAMA_ARG_JINJA", "1", &["bise"]), "");
        assert!(warnings("LLAMA_ARG_JINJA", "0", &["bise"]).contains("LLAMA_ARG_JINJA=0"));
        assert_eq!(warnings("PATH", "/bin", &["bise"]), "");
    }
}
