//! The words of a command line before clap sees them: llama.cpp's spellings (`-ngl 99`, `--ctx_size 512`), flags of
//! llama.cpp that are none of ours, and words that belong to no flag.
//!
//! [`read`] walks the words with clap's own definitions at hand, so that the value of a flag is never taken for a flag: the
//! prompt of `-p -st` is `-st`. A word with one dash is known as a whole or refused as a whole; it is never taken apart into
//! other flags.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;

use super::llama_cpp::{self, Fate};
use super::stray;

/// The long flags that llama.cpp writes with one dash. In the definitions they are long flags or aliases of one.
const SINGLE_DASH: [&str; 32] = [
    "Cr", "bf", "cnv", "co", "ctk", "ctv", "hf", "hff", "hfr", "hft", "if", "jf", "kvu", "lm", "lv", "mli",
    "mmp", "mu", "no-cnv", "no-kvu", "np", "oe", "ofreq", "pg", "rea", "sp", "st", "sys", "sysf", "tb", "to",
    "ub",
];

/// A command line as clap wants it: long flags, each with its value in the same word.
#[derive(Debug, Default)]
pub struct Words {
    /// The program's name and the command's.
    pub command: Vec<OsString>,
    /// What follows them.
    pub args: Vec<OsString>,
    /// The flags that were given: their long names, and as they were typed.
    pub typed: Vec<(String, String)>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
}

/// Why a command line is refused before clap sees it.
#[derive(Debug)]
pub struct Refusal {
    /// The command it was meant for, and those that it is in; nothing for the program itself.
    pub command: Vec<String>,
    pub message: String,
}

/// Reads the words of a command line, the program's name first. `root` is the whole definition, built.
///
/// # Errors
/// A word that is neither a flag, nor the value of one, nor a command.
pub fn read(words: impl IntoIterator<Item = OsString>, root: &clap::Command) -> Result<Words, Refusal> {
    let mut rest = words.into_iter().collect::<Vec<_>>().into_iter().peekable();
    let mut words = Words { command: rest.next().into_iter().collect(), ..Words::default() };
    let mut command = root;
    let asks_for_help = rest.next_if(|word| word == "help").is_some();
    while let Some(sub) =
        rest.peek().and_then(|word| word.to_str()).and_then(|name| command.find_subcommand(name))
    {
        command = sub;
        words.command.extend(rest.next());
    }
    let names: Vec<String> =
        words.command[1..].iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if asks_for_help {
        words.args.push("--help".into());
    }
    let mut reader = Reader { root, command, words };
    let refuse = |message| Refusal { command: names, message };
    reader.read(rest).map_err(refuse)?;
    Ok(reader.words)
}

struct Reader<'a> {
    root: &'a clap::Command,
    command: &'a clap::Command,
    words: Words,
}

/// What a word with dashes is.
enum Word<'a> {
    /// A flag of this command, and its value if that is in the same word.
    Ours(&'a clap::Arg, Option<String>),
    /// One that only llama.cpp has.
    Foreign(llama_cpp::Flag, Option<String>),
}

impl<'a> Reader<'a> {
    fn read(&mut self, mut rest: Peekable<std::vec::IntoIter<OsString>>) -> Result<(), String> {
        let all: Vec<OsString> = rest.clone().collect();
        let mut free: usize = self.command.get_positionals().map(most_values).sum();
        while let Some(word) = rest.next() {
            let is_flag = word.as_encoded_bytes().starts_with(b"-") && word.len() > 1 && word != "--";
            if is_flag {
                let word = word
                    .into_string()
                    .map_err(|word| format!("unexpected argument '{}' found", word.display()))?;
                match self.recognize(&word) {
                    Some(Word::Ours(arg, value)) => self.take_ours(&word, arg, value, &mut rest),
                    Some(Word::Foreign(flag, value)) => self.take_foreign(&word, flag, value, &mut rest)?,
                    None => return Err(self.unknown(&word)),
                }
            } else if word == "--" {
                continue;
            } else if free > 0 {
                free -= 1;
                self.words.args.push(word);
            } else {
                let after: Vec<OsString> = rest.collect();
                let before = &all[..all.len() - 1 - after.len()];
                return Err(stray::advice(&word, before, &after, self.command, self.root));
            }
        }
        Ok(())
    }

    fn recognize(&self, word: &str) -> Option<Word<'a>> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (word, None),
        };
        if let Some(long) = name.strip_prefix("--") {
            let long = if long == "usage" { "help".into() } else { long.replace('_', "-") };
            return match find_long(&long, self.command) {
                Some(arg) => Some(Word::Ours(arg, value)),
                None => self.foreign(&format!("--{long}"), value),
            };
        }
        let short = name.strip_prefix('-')?;
        if SINGLE_DASH.contains(&short)
            && let Some(arg) = find_long(short, self.command)
        {
            return Some(Word::Ours(arg, value));
        }
        let mut letters = short.chars();
        let arg = letters.next().and_then(|letter| find_short(letter, self.command));
        match (arg, letters.as_str()) {
            (Some(arg), "") => return Some(Word::Ours(arg, value)),
            // `-n128`: nothing else is spelled like that.
            (Some(arg), number) if value.is_none() && takes_value(arg) && number.parse::<f64>().is_ok() => {
                return Some(Word::Ours(arg, Some(number.to_string())));
            }
            _ => {}
        }
        self.foreign(name, value)
    }

    fn foreign(&self, spelling: &str, value: Option<String>) -> Option<Word<'a>> {
        llama_cpp::find(spelling, self.command.get_name()).map(|flag| Word::Foreign(flag, value))
    }

    fn take_ours(
        &mut self,
        word: &str,
        arg: &clap::Arg,
        value: Option<String>,
        rest: &mut Peekable<std::vec::IntoIter<OsString>>,
    ) {
        let long = arg.get_long().unwrap_or_default().to_string();
        let mut out = OsString::from(format!("--{long}"));
        let value = value.map(OsString::from).or_else(|| {
            let next = rest.peek()?;
            let wanted = match (takes_value(arg), optional_value(arg)) {
                (false, _) => false,
                // Where words without a flag mean something, only a known value is one.
                (true, true) if self.command.get_positionals().next().is_some() => is_possible(arg, next),
                (true, true) => !next.as_encoded_bytes().starts_with(b"-"),
                (true, false) => arg.is_allow_hyphen_values_set() || !self.is_known(next),
            };
            rest.next_if(|_| wanted)
        });
        if let Some(value) = value {
            out.push("=");
            out.push(value);
        }
        let typed = word.split_once('=').map_or(word, |(name, _)| name);
        self.words.typed.push((long, typed.to_string()));
        self.words.args.push(out);
    }

    fn take_foreign(
        &mut self,
        word: &str,
        flag: llama_cpp::Flag,
        value: Option<String>,
        rest: &mut Peekable<std::vec::IntoIter<OsString>>,
    ) -> Result<(), String> {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let shown = |value: &Option<String>| value.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
        let is_value = |word: &OsStr| match flag.fate {
            Fate::Values { so, not_so, .. } => so.iter().chain(not_so).any(|value| word == *value),
            _ => false,
        };
        let mut next = |optional: bool| {
            let take = rest.peek().is_some_and(|next| {
                let is_word = !next.as_encoded_bytes().starts_with(b"-") || is_value(next);
                if optional { is_word } else { !self.is_known(next) }
            });
            if take { rest.next().map(|v| v.to_string_lossy().into_owned()) } else { None }
        };
        match flag.fate {
            Fate::AlwaysSo => {}
            Fate::NoEffect(why) => {
                let value = value.or_else(|| if flag.takes_value() { next(false) } else { None });
                if flag.takes_value() && value.is_none() {
                    return Err(format!("a value is required for '{name}' but none was supplied"));
                }
                self.words.warnings.push(format!("{name}{} has no effect: {why}", shown(&value)));
            }
            Fate::Values { so, not_so, why } => {
                // The value of -fa came later than the flag did.
                let value = value.or_else(|| next(true));
                let given = value.as_deref().unwrap_or(so[0]);
                if not_so.contains(&given) {
                    self.words.warnings.push(format!("{name}{} has no effect: {why}", shown(&value)));
                } else if !so.contains(&given) {
                    let expected: Vec<&str> = so.first().into_iter().chain(not_so.first()).copied().collect();
                    let expected = expected.join(" or ");
                    return Err(format!("invalid value '{given}' for '{name}': expected {expected}"));
                }
            }
            Fate::Refused(why) => return Err(format!("'{name}' is not supported: {why}")),
        }
        Ok(())
    }

    /// Whether a word is a flag, ours or llama.cpp's.
    fn is_known(&self, word: &OsStr) -> bool {
        word.to_str().is_some_and(|word| word.starts_with('-') && self.recognize(word).is_some())
    }

    /// What to say of a word with dashes that is no flag.
    fn unknown(&self, word: &str) -> String {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let elsewhere = std::iter::once(self.root)
            .chain(self.root.get_subcommands())
            .filter(|other| !std::ptr::eq(*other, self.command))
            .find(|other| Reader { root: self.root, command: other, words: Words::default() }.has(name));
        if let Some(other) = elsewhere {
            let other = if std::ptr::eq(other, self.root) {
                "`bise` without a command".into()
            } else {
                format!("`bise {}`", other.get_name())
            };
            return format!("unexpected argument '{name}' found: it is a flag of {other}");
        }
        let mut letters = name.chars();
        letters.next();
        let short = letters.next().and_then(|letter| find_short(letter, self.command));
        let stuck_together = short.is_some_and(takes_value) && !name.starts_with("--");
        match self.nearest(name) {
            Some((likeness, near)) if likeness > if stuck_together { 0.92 } else { 0.82 } => {
                format!("unexpected argument '{name}' found: did you mean '{near}'?")
            }
            _ if stuck_together => format!(
                "unexpected argument '{name}' found: a value stands apart from its flag, as in '{} {}'",
                &name[..2],
                letters.as_str()
            ),
            _ => format!("unexpected argument '{name}' found"),
        }
    }

    fn has(&self, name: &str) -> bool {
        matches!(self.recognize(name), Some(Word::Ours(arg, _)) if !matches!(arg.get_id().as_str(), "help" | "version"))
    }

    /// The flag of this command whose name is most like `word`, and how much: 1 is the same.
    fn nearest(&self, word: &str) -> Option<(f64, String)> {
        let wanted = word.trim_start_matches('-').replace('_', "-");
        let names = self
            .command
            .get_arguments()
            .flat_map(|arg| arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default()));
        names
            .map(|name| (strsim::jaro_winkler(&wanted, name), dashed(name)))
            .max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

/// A long name as llama.cpp writes it.
fn dashed(name: &str) -> String {
    if SINGLE_DASH.contains(&name) { format!("-{name}") } else { format!("--{name}") }
}

fn takes_value(arg: &clap::Arg) -> bool {
    arg.get_action().takes_values()
}

/// Whether a word, or each part of a list, is among the values that a flag may have.
fn is_possible(arg: &clap::Arg, word: &OsStr) -> bool {
    let values = arg.get_possible_values();
    let is_value = |part: &str| values.iter().any(|value| value.matches(part, false));
    word.to_str().is_some_and(|word| word.split(',').all(is_value))
}

/// How many words a positional argument may take.
fn most_values(arg: &clap::Arg) -> usize {
    // So many that there is always room for another, and that a sum of two does not overflow.
    arg.get_num_args().map_or(1, |n| n.max_values().min(usize::MAX / 4))
}

fn optional_value(arg: &clap::Arg) -> bool {
    arg.get_num_args().is_some_and(|n| n.min_values() == 0)
}

fn find_short(letter: char, command: &clap::Command) -> Option<&clap::Arg> {
    command.get_arguments().find(|a| a.get_short() == Some(letter))
}

/// The flag with a long name or an alias.
pub fn find_long<'a>(name: &str, command: &'a clap::Command) -> Option<&'a clap::Arg> {
    command
        .get_arguments()
        .find(|a| a.get_long() == Some(name) || a.get_all_aliases().unwrap_or_default().contains(&name))
}

/// Whether a value follows a flag of `command`, as it is spelled on the command line; `None` where there is no such flag.
#[cfg(feature = "server")]
pub fn has_value(spelling: &str, command: &str, root: &clap::Command) -> Option<bool> {
    let command = root.find_subcommand(command)?;
    let reader = Reader { root, command, words: Words::default() };
    Some(match reader.recognize(spelling)? {
        Word::Ours(arg, _) => takes_value(arg),
        Word::Foreign(flag, _) => flag.takes_value(),
    })
}

/// How else llama.cpp spells a flag, for the help.
pub fn other_spellings(arg: &clap::Arg) -> Vec<String> {
    arg.get_all_aliases().unwrap_or_default().iter().map(|name| dashed(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> clap::Command {
        let mut root = crate::cli::command_line::define();
        root.build();
        root
    }

    fn args(line: &[&str]) -> Vec<String> {
        let words = read(line.iter().map(OsString::from), &root()).unwrap();
        words.args.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    fn refused(line: &[&str]) -> String {
        read(line.iter().map(OsString::from), &root()).unwrap_err().message
    }

    #[test]
    fn one_dash_becomes_two_and_values_join_their_flags() {
        let line = ["bise", "-cnv", "-no-cnv", "-st", "-ub", "64", "-c", "512", "-p=x", "-n5", "-t", "-1"];
        let want = [
            "--conversation",
            "--no-conversation",
            "--single-turn",
            "--ubatch-size=64",
            "--ctx-size=512",
            "--prompt=x",
            "--n-predict=5",
            "--threads=-1",
        ];
        assert_eq!(args(&line), want);
    }

    #[test]
    fn values_are_left_alone() {
        assert_eq!(args(&["bise", "-p", "-st", "-st"]), ["--prompt=-st", "--single-turn"]);
        assert_eq!(
            args(&["bise", "--prompt=a_b=c", "-sys", "-cnv"]),
            ["--prompt=a_b=c", "--system-prompt=-cnv"]
        );
        assert_eq!(args(&["bise", "-p", "chat"]), ["--prompt=chat"]);
        assert_eq!(args(&["bise", "-p", ""]), ["--prompt="]);
        assert_eq!(args(&["bise", "--color", "-p", "x"]), ["--color", "--prompt=x"]);
        assert_eq!(args(&["bise", "-co", "off"]), ["--color=off"]);
        // A value was forgotten; clap says so.
        assert_eq!(args(&["bise", "-m", "-p", "x"]), ["--model", "--prompt=x"]);
        assert_eq!(args(&["bise", "-m", "-strange.gguf"]), ["--model=-strange.gguf"]);
    }

    #[test]
    fn underscores_become_dashes_in_names_only() {
        assert_eq!(args(&["bise", "--top_k", "5"]), ["--top-k=5"]);
        assert_eq!(args(&["bise", "--in_prefix=a_b"]), ["--in-prefix=a_b"]);
    }

    #[test]
    fn the_flags_of_a_subcommand_are_its_own() {
        assert_eq!(args(&["bise", "bench", "-ub", "64", "-pg", "1,2"]), ["--ubatch-size=64", "--pg=1,2"]);
        assert_eq!(
            refused(&["bise", "bench", "-cnv"]),
            "unexpected argument '-cnv' found: it is a flag of `bise` without a command"
        );
    }

    #[test]
    fn a_word_is_refused_as_a_whole_with_the_nearest_flag() {
        for (word, near) in [
            ("-temp", "--temp"),
            ("-tempp", "--temp"),
            ("--tempature", "--temperature"),
            ("--ctxsize", "--ctx-size"),
            ("-ctx-size", "--ctx-size"),
            ("-top_k", "--top-k"),
        ] {
            let refusal = refused(&["bise", word, "1"]);
            assert_eq!(refusal, format!("unexpected argument '{word}' found: did you mean '{near}'?"));
        }
        assert!(refused(&["bise", "-mfile.gguf"]).ends_with("as in '-m file.gguf'"));
        assert!(refused(&["bise", "-ei"]).contains("'-ei'"));
    }

    #[test]
    fn every_spelling_with_one_dash_belongs_to_a_flag() {
        let root = root();
        for name in SINGLE_DASH {
            let known = find_long(name, &root).is_some()
                || root.get_subcommands().any(|c| find_long(name, c).is_some());
            assert!(known, "-{name}");
        }
    }

    #[test]
    fn every_flag_with_a_short_name_has_a_long_one() {
        let root = root();
        for command in std::iter::once(&root).chain(root.get_subcommands()) {
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                assert!(arg.get_long().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }
}
