//! Presets: flags of single models, in an INI file as llama-server reads it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use bise::hub::Reference;
use bise::hub::hugging_face::Selection;
use bise::server::Preset;

use super::{FlagReader, ServeArgs};
use crate::cli::text;
use crate::cli::usage::wrong;

/// The section for all models.
const ALL: &str = "*";

/// A section of the file.
#[derive(Clone, Debug)]
pub struct Section {
    pub preset: Preset,
    /// The flags of the command line over those of the section over those for all models.
    pub args: Box<ServeArgs>,
    /// Long names of all flags that were given somewhere.
    pub typed: Vec<String>,
}

/// A key and its value, and where they stand.
struct Pair {
    line: usize,
    key: String,
    value: String,
}

/// Reads a file of presets.
///
/// # Errors
/// The file, or a line that makes no sense.
pub fn read(path: &Path, flags: FlagReader) -> Result<Vec<Section>> {
    let source = text::from_file(path)?;
    // The command comes first: `bise serve …`.
    let typed: Vec<OsString> = std::env::args_os().skip(2).collect();
    let given = Given { typed: &typed, variables: &std::env::vars_os().collect::<Vec<_>>() };
    sections(&source, given, flags).with_context(|| path.display().to_string())
}

/// What the server was started with.
#[derive(Clone, Copy)]
struct Given<'a> {
    typed: &'a [OsString],
    variables: &'a [(OsString, OsString)],
}

fn sections(source: &str, given: Given<'_>, flags: FlagReader) -> Result<Vec<Section>> {
    let mut named = parse(source)?;
    let all: Vec<Pair> = match named.iter().position(|(name, _)| name == ALL) {
        Some(i) => named.remove(i).1,
        None => Vec::new(),
    };
    // Flags for all models are of no use where no section names one; what is wrong with them is told all the same.
    section("", &all, &[], given, flags)?;
    named.iter().map(|(name, pairs)| section(name, &all, pairs, given, flags)).collect()
}

fn section(name: &str, all: &[Pair], own: &[Pair], server: Given<'_>, flags: FlagReader) -> Result<Section> {
    let mut preset =
        Preset { name: name.to_owned(), reference: None, aliases: Vec::new(), load_on_startup: false };
    // Each by the name of its flag, so that a later one takes the place of an earlier one.
    let mut given: Vec<(String, OsString)> = Vec::new();
    let mut variables: HashMap<OsString, OsString> = server.variables.iter().cloned().collect();
    let is_on = |pair: &Pair| match pair.value.as_str() {
        "1" | "true" | "on" | "yes" | "enabled" => Ok(true),
        "0" | "false" | "off" | "no" | "disabled" => Ok(false),
        other => Err(wrong(format_args!(
            "line {}: {}: found '{other}', expected true or false",
            pair.line, pair.key
        ))),
    };
    for pair in all.iter().chain(own) {
        let key = pair.key.trim_start_matches('-').replace('_', "-");
        match key.as_str() {
            _ if pair.key.starts_with("LLAMA_ARG_") => {
                variables.insert(pair.key.clone().into(), pair.value.clone().into());
            }
            // Those are the server's, whatever a section says.
            "host" | "port" | "api-key" | "api-key-file" | "api-prefix" | "stop-timeout"
            | "dedup-cache-models" | "version" => {}
            "load-on-startup" => preset.load_on_startup = is_on(pair)?,
            "a" | "alias" => {
                let names = pair.value.split(',').map(|name| name.trim().to_owned());
                preset.aliases.extend(names.filter(|name| !name.is_empty()));
            }
            "m" | "model" => preset.reference = Some(Reference::File(pair.value.clone().into())),
            "hf" | "hfr" | "hf-repo" => {
                let selection =
                    Selection::parse(&pair.value).with_context(|| format!("line {}", pair.line))?;
                preset.reference = Some(Reference::HuggingFace(selection));
            }
            "hff" | "hf-file" => match &mut preset.reference {
                Some(Reference::HuggingFace(selection)) => selection.file = Some(pair.value.clone()),
                _ => {
                    return Err(wrong(format_args!(
                        "line {}: hf-file: expected hf-repo before it",
                        pair.line
                    )));
                }
            },
            _ => {
                let (flag, has_value) = flag(&key, flags);
                given.retain(|(earlier, _)| *earlier != flag);
                let negated = format!("--no-{}", flag.trim_start_matches('-'));
                if has_value {
                    given.push((flag.clone(), format!("{flag}={}", pair.value).into()));
                } else if is_on(pair)? {
                    given.push((flag.clone(), flag.into()));
                } else if (flags.has_value)(&negated).is_some() {
                    given.push((flag, negated.into()));
                }
            }
        }
    }
    let mut line: Vec<OsString> = vec!["bise".into(), "serve".into()];
    line.extend(given.into_iter().map(|(_, word)| word));
    line.extend(server.typed.iter().cloned());
    let place = own.first().or(all.first()).map_or(1, |pair| pair.line);
    let (args, typed) = (flags.read)(line, variables.into_iter().collect()).map_err(|error| {
        let first = error.lines().next().unwrap_or_default().trim_start_matches("error: ");
        wrong(format_args!("section [{name}], from line {place}: {first}"))
    })?;
    Ok(Section { preset, args, typed })
}

/// A key as a flag, with two dashes or with one, as llama.cpp's short flags of several letters have it; and whether it has a value.
fn flag(key: &str, flags: FlagReader) -> (String, bool) {
    let spellings = [format!("--{key}"), format!("-{key}")];
    let known = spellings.iter().find_map(|flag| Some((flag.clone(), (flags.has_value)(flag)?)));
    // One that is not known is refused by its name.
    known.unwrap_or_else(|| (spellings[usize::from(key.len() == 1)].clone(), true))
}

/// Sections in the order of the file. Before the first one there is nothing but the file's `version`.
fn parse(source: &str) -> Result<Vec<(String, Vec<Pair>)>> {
    let mut sections: Vec<(String, Vec<Pair>)> = Vec::new();
    for (i, text) in source.lines().enumerate() {
        let (line, text) = (i + 1, text.trim_start_matches('\u{feff}').trim());
        if text.is_empty() || text.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = text.strip_prefix('[') {
            let name = name.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
            let name =
                name.ok_or_else(|| wrong(format_args!("line {line}: found '{text}', expected [NAME]")))?;
            if sections.iter().any(|(known, _)| known == name) {
                return Err(wrong(format_args!("line {line}: found a second section [{name}]")));
            }
            sections.push((name.to_owned(), Vec::new()));
            continue;
        }
        let (key, value) = text
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                wrong(format_args!("line {line}: found '{text}', expected KEY = VALUE or [NAME]"))
            })?;
        match sections.last_mut() {
            Some((_, pairs)) => pairs.push(Pair { line, key: key.to_owned(), value: value.to_owned() }),
            None if key == "version" => {}
            None => {
                return Err(wrong(format_args!(
                    "line {line}: found {key} before the first section: flags for all models stand in [{ALL}]"
                )));
            }
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
version = 1
; for all
[*]
c = 512
temp = 0.1
mlock = true

[mistral:latest]
c = 1024
jinja = true
mlock = false
LLAMA_ARG_TOP_K = 7

[mine]
model = ./tiny.gguf
alias = other, third
load-on-startup = true
np = 2
";

    fn read(source: &str, typed: &[&str]) -> Result<Vec<Section>> {
        let flags = crate::cli::command_line::SERVE_FLAGS;
        let typed: Vec<OsString> = typed.iter().map(OsString::from).collect();
        let variables = [("LLAMA_ARG_TOP_P", "0.5"), ("LLAMA_ARG_TOP_K", "3"), ("LLAMA_ARG_TEMP", "0.7")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        sections(source, Given { typed: &typed, variables: &variables }, flags)
    }

    #[test]
    fn sections_are_flags() {
        let sections = read(FILE, &[]).unwrap();
        assert_eq!(sections.len(), 2);
        let [about, own] = &sections[..] else { panic!("two sections") };
        assert_eq!((about.preset.name.as_str(), &about.preset.reference), ("mistral:latest", &None));
        assert_eq!(
            (about.args.context.ctx_size, about.args.sampling.temp, about.args.sampling.top_k),
            (1024, 0.1, 7)
        );
        assert!(!about.args.model.mlock && own.args.model.mlock && !about.preset.load_on_startup);
        assert_eq!(own.preset.reference, Some(Reference::File("./tiny.gguf".into())));
        assert_eq!(own.preset.aliases, ["other", "third"]);
        assert!(own.preset.load_on_startup);
        assert_eq!((own.args.context.ctx_size, own.args.serving.parallel), (512, 2));
        // Variables of the server count for what a section leaves open.
        assert_eq!((about.args.sampling.top_p, own.args.sampling.top_p), (0.5, 0.5));
        assert_eq!((own.args.sampling.top_k, own.args.sampling.temp), (3, 0.1));
        // What is typed has the last word.
        let typed = read(FILE, &["-c", "64"]).unwrap();
        assert!(typed.iter().all(|section| section.args.context.ctx_size == 64));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (source, want) in [
            ("[a]\nnonsense", "line 2: found 'nonsense'"),
            ("[a\n", "line 1: found '[a'"),
            ("version = 1\nc = 99\n[a]", "line 2: found c before the first section"),
            ("[a]\n[a]", "line 2: found a second section [a]"),
            ("[a]\nc = many", "section [a], from line 2: invalid value 'many'"),
            ("[a]\nmlock = perhaps", "line 2: mlock: found 'perhaps'"),
            ("[a]\nno-such-flag = 1", "section [a], from line 2: unexpected argument"),
            ("[*]\nc = many", "section [], from line 2"),
        ] {
            let error = format!("{:#}", read(source, &[]).unwrap_err());
            assert!(error.contains(want), "{source:?}: {error}");
        }
    }
}
