//! llama.cpp's spellings, which clap has no notion of: long flags behind one dash (`-ngl 99`), and underscores for dashes
//! (`--ctx_size 512`).
//!
//! [`respell`] goes over the command line before clap does and rewrites both. It walks the flags with clap's own definitions
//! at hand, so that the value of a flag is never touched: the prompt of `-p -st` is `-st`.

use std::ffi::{OsStr, OsString};

/// The long flags that llama.cpp writes with one dash. In the definitions they are long flags or aliases of one.
const SINGLE_DASH: [&str; 45] = [
    "bf", "cmoe", "cnv", "co", "ctk", "ctv", "dev", "dt", "embd", "fa", "fit", "fitc", "fitt", "if", "kvo",
    "lm", "lv", "mg", "mli", "mmp", "ncmoe", "ngl", "nkvo", "no-cnv", "nopo", "np", "nr", "oe", "ot", "pg",
    "ptc", "sm", "sp", "st", "sys", "sysf", "tb", "ts", "ub", "Cb", "Cr", "Crb", "ncffn", "lzm", "v",
];

/// Rewrites the arguments (the program's name first) into clap's spelling.
pub fn respell(args: impl IntoIterator<Item = OsString>, root: &clap::Command) -> Vec<OsString> {
    let mut args = args.into_iter().peekable();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    let mut command = root;
    if let Some(sub) = args.peek().and_then(|a| a.to_str()).and_then(|name| root.find_subcommand(name)) {
        command = sub;
        out.extend(args.next());
    }
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            out.extend(args);
            break;
        }
        let arg = spell(&arg, command).unwrap_or(arg);
        let takes_value = flag(&arg, command).is_some_and(|a| {
            a.get_num_args().is_none_or(|n| n.min_values() > 0) && a.get_action().takes_values()
        });
        let complete = arg.to_str().is_some_and(|a| a.starts_with("--") && a.contains('='));
        out.push(arg);
        if takes_value && !complete {
            out.extend(args.next());
        }
    }
    out
}

/// `-ngl` → `--ngl` and `--ctx_size` → `--ctx-size`, where the command has such a flag.
fn spell(arg: &OsStr, command: &clap::Command) -> Option<OsString> {
    let arg = arg.to_str()?;
    if let Some(rest) = arg.strip_prefix("--") {
        let (name, value) = rest.split_once('=').map_or((rest, None), |(n, v)| (n, Some(v)));
        if !name.contains('_') {
            return None;
        }
        let name = name.replace('_', "-");
        return Some(match value {
            Some(value) => format!("--{name}={value}").into(),
            None => format!("--{name}").into(),
        });
    }
    let name = arg.strip_prefix('-')?;
    (SINGLE_DASH.contains(&name) && find_long(name, command).is_some()).then(|| format!("--{name}").into())
}

/// The definition of a flag that is spelled as clap wants it, if it is one.
fn flag<'a>(arg: &OsStr, command: &'a clap::Command) -> Option<&'a clap::Arg> {
    let arg = arg.to_str()?;
    if let Some(name) = arg.strip_prefix("--") {
        return find_long(name.split_once('=').map_or(name, |(n, _)| n), command);
    }
    // `-c512` holds its value; only `-c` alone takes the next argument.
    let mut letters = arg.strip_prefix('-')?.chars();
    let (letter, None) = (letters.next()?, letters.next()) else { return None };
    command.get_arguments().find(|a| a.get_short_and_visible_aliases().unwrap_or_default().contains(&letter))
}

fn find_long<'a>(name: &str, command: &'a clap::Command) -> Option<&'a clap::Arg> {
    command
        .get_arguments()
        .find(|a| a.get_long() == Some(name) || a.get_all_aliases().unwrap_or_default().contains(&name))
}

/// Says in the help of each flag how else llama.cpp spells it.
pub fn describe_spellings(command: clap::Command) -> clap::Command {
    let describe = |arg: clap::Arg| {
        // What the variables are set to is the user's own business, not part of the help.
        let arg = arg.hide_env_values(true);
        let names: Vec<String> = arg
            .get_all_aliases()
            .unwrap_or_default()
            .iter()
            .map(|name| if SINGLE_DASH.contains(name) { format!("-{name}") } else { format!("--{name}") })
            .collect();
        match arg.get_help().map(ToString::to_string) {
            Some(help) if !names.is_empty() => arg.help(format!("{help} [also {}]", names.join(", "))),
            _ => arg,
        }
    };
    command.mut_args(describe).mut_subcommands(move |sub| sub.mut_args(describe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn respelled(line: &[&str]) -> Vec<String> {
        let root = crate::cli::command_line::Cli::command();
        let args = line.iter().map(OsString::from);
        respell(args, &root).into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    #[test]
    fn one_dash_becomes_two() {
        let line = ["bise", "-ngl", "99", "-cnv", "-no-cnv", "-st", "-ub", "64", "-c", "512"];
        let want = ["bise", "--ngl", "99", "--cnv", "--no-cnv", "--st", "--ub", "64", "-c", "512"];
        assert_eq!(respelled(&line), want);
    }

    #[test]
    fn values_are_left_alone() {
        assert_eq!(respelled(&["bise", "-p", "-st", "-st"]), ["bise", "-p", "-st", "--st"]);
        assert_eq!(
            respelled(&["bise", "--prompt=a_b", "-sys", "-cnv"]),
            ["bise", "--prompt=a_b", "--sys", "-cnv"]
        );
        assert_eq!(respelled(&["bise", "-p", "chat"]), ["bise", "-p", "chat"]);
    }

    #[test]
    fn underscores_become_dashes_in_names_only() {
        assert_eq!(respelled(&["bise", "--top_k", "5"]), ["bise", "--top-k", "5"]);
        assert_eq!(respelled(&["bise", "--in_prefix=a_b"]), ["bise", "--in-prefix=a_b"]);
    }

    #[test]
    fn the_flags_of_a_subcommand_are_its_own() {
        assert_eq!(
            respelled(&["bise", "bench", "-ub", "64", "-pg", "1,2"]),
            ["bise", "bench", "--ub", "64", "--pg", "1,2"]
        );
        assert_eq!(respelled(&["bise", "bench", "-cnv"]), ["bise", "bench", "-cnv"]);
    }

    #[test]
    fn every_spelling_with_one_dash_belongs_to_a_flag() {
        let mut root = crate::cli::command_line::Cli::command();
        root.build();
        for name in SINGLE_DASH {
            let known = find_long(name, &root).is_some()
                || root.get_subcommands().any(|c| find_long(name, c).is_some());
            assert!(known, "-{name}");
        }
    }
}
