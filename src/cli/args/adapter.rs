//! Which adapters act beside the model.

use std::path::PathBuf;

/// Adapters (LoRA) beside a model that stays as it is.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Model")]
pub struct AdapterArgs {
    /// Use adapters (LoRA) beside the model: GGUF files of llama.cpp or folders of PEFT
    #[arg(long, value_name = "FILE,…", value_parser = parse_files)]
    pub lora: Vec<Files>,

    /// Use adapters with a factor on the scale of each
    #[arg(long, value_name = "FILE:SCALE,…", value_parser = parse_scaled)]
    pub lora_scaled: Vec<Scaled>,
}

/// The value of `--lora`.
#[derive(Clone, Debug)]
pub struct Files(Vec<PathBuf>);

/// The value of `--lora-scaled`.
#[derive(Clone, Debug)]
pub struct Scaled(Vec<(PathBuf, f32)>);

impl AdapterArgs {
    /// All of them, with the factors on their scales.
    pub fn all(&self) -> Vec<(PathBuf, f32)> {
        let plain = self.lora.iter().flat_map(|files| files.0.iter().map(|path| (path.clone(), 1.0)));
        plain.chain(self.lora_scaled.iter().flat_map(|scaled| scaled.0.clone())).collect()
    }
}

fn parse_files(value: &str) -> Result<Files, String> {
    Ok(Files(items(value)?.into_iter().map(PathBuf::from).collect()))
}

fn parse_scaled(value: &str) -> Result<Scaled, String> {
    let one = |item: String| {
        let parts = item.rsplit_once(':').filter(|(path, _)| !path.is_empty());
        let scale = parts.and_then(|(path, scale)| Some((path, scale.trim().parse::<f32>().ok()?)));
        match scale.filter(|(_, scale)| scale.is_finite()) {
            Some((path, scale)) => Ok((PathBuf::from(path), scale)),
            None => Err(format!("found '{item}', expected FILE:SCALE, as in adapter.gguf:0.5")),
        }
    };
    Ok(Scaled(items(value)?.into_iter().map(one).collect::<Result<_, _>>()?))
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
        let files = |value: &str| parse_files(value).map(|files| files.0);
        let paths = |names: &[&str]| Ok(names.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(files("a.gguf"), paths(&["a.gguf"]));
        assert_eq!(files("a.gguf,b c.gguf"), paths(&["a.gguf", "b c.gguf"]));
        assert_eq!(files("\"a,b.gguf\",c"), paths(&["a,b.gguf", "c"]));
        assert_eq!(files("\"a\"\"b\",c\"d"), paths(&["a\"b", "c\"d"]));
        for list in ["", "a,", ",a", "a,,b", "\"\""] {
            assert!(files(list).unwrap_err().contains("empty name"), "{list}");
        }
        let scaled = |value: &str| parse_scaled(value).map(|scaled| scaled.0);
        assert_eq!(scaled("a.gguf:0.5"), Ok(vec![("a.gguf".into(), 0.5)]));
        assert_eq!(scaled("C:\\a.gguf:-1,b:2"), Ok(vec![("C:\\a.gguf".into(), -1.0), ("b".into(), 2.0)]));
        for list in ["a.gguf", "a.gguf:", "a.gguf:x", ":1", "a:nan", "a:inf", "a:0.5,b"] {
            assert!(scaled(list).unwrap_err().contains("FILE:SCALE"), "{list}");
        }
    }
}
