//! Which adapters act beside the model.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

/// An adapter's file or folder, and the factor on its scale.
type Scaled = (PathBuf, f32);

/// Adapters (LoRA) beside a model that stays as it is: `--lora` and `--lora-scaled`, in the order in which they were given. A server numbers them
/// by it.
#[derive(Clone, Debug, Default)]
pub struct AdapterArgs(Vec<Scaled>);

impl AdapterArgs {
    /// All of them, with the factors on their scales.
    pub fn all(&self) -> Vec<(PathBuf, f32)> {
        self.0.clone()
    }

    /// Their files and folders.
    #[cfg(feature = "eval")]
    pub fn paths(&self) -> impl Iterator<Item = &std::path::Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }

    /// Adds those that a model of Ollama's comes with, before the others.
    #[cfg(feature = "hub")]
    pub fn add_first(&mut self, files: &[PathBuf]) {
        self.0.splice(0..0, files.iter().map(|path| (path.clone(), 1.0)));
    }
}

impl clap::Args for AdapterArgs {
    fn augment_args(command: Command) -> Command {
        command.next_help_heading("Model").args([
            Arg::new("lora")
                .long("lora")
                .value_name("FILE,…")
                .action(ArgAction::Append)
                .value_parser(parse_files)
                .help("Use adapters (LoRA) beside the model: GGUF files of llama.cpp or folders of PEFT"),
            Arg::new("lora_scaled")
                .long("lora-scaled")
                .value_name("FILE:SCALE,…")
                .action(ArgAction::Append)
                .value_parser(parse_scaled)
                .help("Use adapters with a factor on the scale of each"),
        ])
    }

    fn augment_args_for_update(command: Command) -> Command {
        AdapterArgs::augment_args(command)
    }
}

impl clap::FromArgMatches for AdapterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<AdapterArgs, clap::Error> {
        let given = |flag: &str| {
            let lists = matches.get_many::<Vec<Scaled>>(flag).into_iter().flatten();
            lists.zip(matches.indices_of(flag).into_iter().flatten()).collect::<Vec<_>>()
        };
        let mut lists = [given("lora"), given("lora_scaled")].concat();
        lists.sort_by_key(|(_, index)| *index);
        Ok(AdapterArgs(lists.into_iter().flat_map(|(list, _)| list.clone()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = AdapterArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

fn parse_files(value: &str) -> Result<Vec<Scaled>, String> {
    Ok(items(value)?.into_iter().map(|path| (path.into(), 1.0)).collect())
}

fn parse_scaled(value: &str) -> Result<Vec<Scaled>, String> {
    let one = |item: String| {
        let parts = item.rsplit_once(':').filter(|(path, _)| !path.is_empty());
        let scale = parts.and_then(|(path, scale)| Some((path, scale.trim().parse::<f32>().ok()?)));
        match scale.filter(|(_, scale)| scale.is_finite()) {
            Some((path, scale)) => Ok((PathBuf::from(path), scale)),
            None => Err(format!("found '{item}', expected FILE:SCALE, as in adapter.gguf:0.5")),
        }
    };
    items(value)?.into_iter().map(one).collect()
}

/// The items of a list with commas, as llama.cpp reads it: an item in double quotes may have commas, and `""` in it stands for a quote.
fn items(list: &str) -> Result<Vec<String>, String> {
    let (mut items, mut is_quoted) = (vec![String::new()], false);
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let item = items.last_mut().expect("there is one");
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                item.push('"');
            }
            '"' if is_quoted || item.is_empty() => is_quoted = !is_quoted,
            ',' if !is_quoted => items.push(String::new()),
            c => item.push(c),
        }
    }
    match items.iter().any(String::is_empty) {
        true => {
            Err(format!("found an empty name in '{list}', expected names of files with commas between them"))
        }
        false => Ok(items),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_llama_cpp_reads_them() {
        let files = |value: &str| -> Result<Vec<PathBuf>, String> {
            Ok(parse_files(value)?.into_iter().map(|(path, _)| path).collect())
        };
        let paths = |names: &[&str]| Ok(names.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(files("a.gguf"), paths(&["a.gguf"]));
        assert_eq!(files("a.gguf,b c.gguf"), paths(&["a.gguf", "b c.gguf"]));
        assert_eq!(files("\"a,b.gguf\",c"), paths(&["a,b.gguf", "c"]));
        assert_eq!(files("\"a\"\"b\",c\"d"), paths(&["a\"b", "c\"d"]));
        for list in ["", "a,", ",a", "a,,b", "\"\""] {
            assert!(files(list).unwrap_err().contains("empty name"), "{list}");
        }
        let scaled = parse_scaled;
        assert_eq!(scaled("a.gguf:0.5"), Ok(vec![("a.gguf".into(), 0.5)]));
        assert_eq!(scaled("C:\\a.gguf:-1,b:2"), Ok(vec![("C:\\a.gguf".into(), -1.0), ("b".into(), 2.0)]));
        for list in ["a.gguf", "a.gguf:", "a.gguf:x", ":1", "a:nan", "a:inf", "a:0.5,b"] {
            assert!(scaled(list).unwrap_err().contains("FILE:SCALE"), "{list}");
        }
    }

    #[derive(clap::Parser, Debug)]
    struct Line {
        #[command(flatten)]
        adapters: AdapterArgs,
    }

    #[test]
    fn they_come_in_the_order_of_the_line() {
        let line = ["bise", "--lora-scaled", "b:0.5,c:-2", "--lora", "a", "--lora-scaled=d:1e-1"];
        let line = <Line as clap::Parser>::try_parse_from(line).unwrap();
        let all = [("b", 0.5), ("c", -2.0), ("a", 1.0), ("d", 0.1)];
        assert_eq!(line.adapters.all(), all.map(|(path, scale)| (path.into(), scale)));
    }
}
