//! Flags of llama.cpp that have nothing to act on here: accepted, with one line that says so, so that command lines made
//! for other machines go on working.

use clap::{Arg, ArgAction, ArgMatches, Args, Command};

/// A flag accepted without effect.
struct Ignored {
    /// The long name, and the other ways to write it.
    names: &'static [&'static str],
    takes_value: bool,
    why: Why,
}

#[derive(Clone, Copy)]
enum Why {
    /// There is no accelerator.
    Device,
    /// Weights are used where they lie in the file.
    Layout,
    /// The engine decides for itself.
    Own,
    /// Asking for what is always so: nothing needs to be said.
    Always,
}

use Why::{Always, Device, Layout, Own};

const IGNORED: &[Ignored] = &[
    Ignored { names: &["gpu-layers", "n-gpu-layers", "ngl"], takes_value: true, why: Device },
    Ignored { names: &["split-mode", "sm"], takes_value: true, why: Device },
    Ignored { names: &["tensor-split", "ts"], takes_value: true, why: Device },
    Ignored { names: &["main-gpu", "mg"], takes_value: true, why: Device },
    Ignored { names: &["device", "dev"], takes_value: true, why: Device },
    Ignored { names: &["no-kv-offload", "nkvo"], takes_value: false, why: Device },
    Ignored { names: &["kv-offload", "kvo"], takes_value: false, why: Device },
    Ignored { names: &["op-offload"], takes_value: false, why: Device },
    Ignored { names: &["no-op-offload", "nopo"], takes_value: false, why: Device },
    Ignored { names: &["no-host"], takes_value: false, why: Device },
    Ignored { names: &["override-tensor", "ot"], takes_value: true, why: Device },
    Ignored { names: &["cpu-moe", "cmoe"], takes_value: false, why: Device },
    Ignored { names: &["n-cpu-moe", "ncmoe"], takes_value: true, why: Device },
    Ignored { names: &["n-cpu-ffn", "ncffn"], takes_value: true, why: Device },
    Ignored { names: &["fit"], takes_value: true, why: Device },
    Ignored { names: &["fit-target", "fitt"], takes_value: true, why: Device },
    Ignored { names: &["fit-ctx", "fitc"], takes_value: true, why: Device },
    Ignored { names: &["repack"], takes_value: false, why: Layout },
    Ignored { names: &["no-repack", "nr"], takes_value: false, why: Layout },
    Ignored { names: &["lazy-mode", "lzm"], takes_value: true, why: Layout },
    Ignored { names: &["numa"], takes_value: true, why: Own },
    Ignored { names: &["prio"], takes_value: true, why: Own },
    Ignored { names: &["prio-batch"], takes_value: true, why: Own },
    Ignored { names: &["poll"], takes_value: true, why: Own },
    Ignored { names: &["poll-batch"], takes_value: true, why: Own },
    Ignored { names: &["cpu-mask-batch", "Cb"], takes_value: true, why: Own },
    Ignored { names: &["cpu-range", "Cr"], takes_value: true, why: Own },
    Ignored { names: &["cpu-range-batch", "Crb"], takes_value: true, why: Own },
    Ignored { names: &["cpu-mask"], takes_value: true, why: Own },
    Ignored { names: &["cpu-strict"], takes_value: true, why: Own },
    Ignored { names: &["swa-full"], takes_value: false, why: Own },
    Ignored { names: &["parallel", "np"], takes_value: true, why: Own },
    Ignored { names: &["defrag-thold", "dt"], takes_value: true, why: Own },
    Ignored { names: &["print-token-count", "ptc"], takes_value: true, why: Own },
    Ignored { names: &["draft-min", "draft-n-min", "spec-draft-n-min"], takes_value: true, why: Own },
    Ignored { names: &["spec-ngram-mod-n-min"], takes_value: true, why: Own },
    Ignored { names: &["spec-ngram-mod-n-match"], takes_value: true, why: Own },
    Ignored { names: &["spec-ngram-simple-size-n"], takes_value: true, why: Own },
    Ignored { names: &["spec-ngram-simple-min-hits"], takes_value: true, why: Own },
    Ignored { names: &["warmup"], takes_value: false, why: Always },
    Ignored { names: &["no-warmup"], takes_value: false, why: Always },
    Ignored { names: &["jinja"], takes_value: false, why: Always },
    Ignored { names: &["no-jinja"], takes_value: false, why: Own },
    Ignored { names: &["flash-attn", "fa"], takes_value: true, why: Always },
    Ignored { names: &["offline"], takes_value: false, why: Always },
    Ignored { names: &["log-colors"], takes_value: true, why: Always },
    Ignored { names: &["log-prefix"], takes_value: false, why: Always },
    Ignored { names: &["log-timestamps"], takes_value: false, why: Always },
    Ignored { names: &["verbose", "log-verbose", "v"], takes_value: false, why: Always },
    Ignored { names: &["verbosity", "lv", "log-verbosity"], takes_value: true, why: Always },
];

/// The flags of [`IGNORED`] that were given, as lines for the user.
#[derive(Clone, Debug, Default)]
pub struct IgnoredArgs {
    pub warnings: Vec<String>,
}

/// Adds the flags to a command that does not define them itself.
impl Args for IgnoredArgs {
    fn augment_args(command: Command) -> Command {
        IGNORED.iter().fold(command, |command, ignored| {
            let (name, aliases) = ignored.names.split_first().expect("a flag has a name");
            let defined = |c: &Command| c.get_arguments().any(|a| a.get_long() == Some(name));
            if defined(&command) {
                return command;
            }
            let mut arg = Arg::new(*name).long(*name).aliases(aliases.iter().copied()).hide(true);
            arg = if *name == "flash-attn" {
                // The value came later than the flag did.
                arg.num_args(0..=1).action(ArgAction::Set)
            } else if ignored.takes_value {
                arg.action(ArgAction::Set).allow_hyphen_values(true)
            } else {
                arg.action(ArgAction::SetTrue)
            };
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for IgnoredArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut warnings = Vec::new();
        for ignored in IGNORED {
            let name = ignored.names[0];
            let given = matches.try_contains_id(name).unwrap_or(false)
                && matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
            if !given {
                continue;
            }
            let value = match ignored.takes_value {
                true => matches.try_get_one::<String>(name).ok().flatten().map(|v| format!(" {v}")),
                false => None,
            };
            let why = match ignored.why {
                Device => "bise computes on the CPU alone",
                Layout => "weights are used as they lie in the file",
                Own => "bise decides that itself",
                Always => continue,
            };
            warnings.push(format!("--{name}{} has no effect: {why}", value.unwrap_or_default()));
        }
        Ok(Self { warnings })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
