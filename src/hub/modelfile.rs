//! Modelfiles: `FROM`, `PARAMETER`, `TEMPLATE`, `SYSTEM`, `ADAPTER`, `MESSAGE` and `LICENSE`.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::error::HubError;
use super::model::Extras;

/// What a Modelfile says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modelfile {
    /// The model or file it begins with.
    pub from: String,
    /// LoRA adapters.
    pub adapters: Vec<String>,
    /// Everything else. A text that is `None` or empty is that of the model it begins with.
    pub extras: Extras,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Integer,
    Float,
    Switch,
    Texts,
}

/// The parameters that Ollama knows.
const PARAMETERS: &[(&str, Type)] = &[
    ("num_ctx", Type::Integer),
    ("num_predict", Type::Integer),
    ("num_keep", Type::Integer),
    ("num_batch", Type::Integer),
    ("num_gpu", Type::Integer),
    ("main_gpu", Type::Integer),
    ("num_thread", Type::Integer),
    ("seed", Type::Integer),
    ("top_k", Type::Integer),
    ("repeat_last_n", Type::Integer),
    ("mirostat", Type::Integer),
    ("temperature", Type::Float),
    ("top_p", Type::Float),
    ("min_p", Type::Float),
    ("typical_p", Type::Float),
    ("tfs_z", Type::Float),
    ("repeat_penalty", Type::Float),
    ("presence_penalty", Type::Float),
    ("frequency_penalty", Type::Float),
    ("mirostat_tau", Type::Float),
    ("mirostat_eta", Type::Float),
    ("penalize_newline", Type::Switch),
    ("use_mmap", Type::Switch),
    ("use_mlock", Type::Switch),
    ("numa", Type::Switch),
    ("low_vram", Type::Switch),
    ("stop", Type::Texts),
];

/// Adds a parameter, as text, to those there are.
///
/// # Errors
/// A parameter that is not known, or a value that is none of its type.
pub fn set_parameter(params: &mut Map<String, Value>, name: &str, value: &str) -> Result<(), String> {
    let name = name.to_ascii_lowercase();
    let Some((_, kind)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
        return Err(format!(
            "found the parameter {name:?}, expected one of {}",
            PARAMETERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        ));
    };
    let wrong = |expected| format!("{name}: found {value:?}, expected {expected}");
    let value = match kind {
        Type::Integer => Value::from(value.parse::<i64>().map_err(|_| wrong("a whole number"))?),
        Type::Float => {
            let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
            Value::from(number.ok_or_else(|| wrong("a number"))?)
        }
        Type::Switch => Value::from(value.parse::<bool>().map_err(|_| wrong("true or false"))?),
        Type::Texts => {
            let list = params.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(Value::from(value));
            }
            return Ok(());
        }
    };
    params.insert(name, value);
    Ok(())
}

impl Modelfile {
    /// Reads a Modelfile.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let mut file = Modelfile::default();
        for Instruction { line, word, value } in instructions(text)? {
            let wrong = |why: String| HubError::Modelfile { line, why };
            let extras = &mut file.extras;
            match word.to_ascii_uppercase().as_str() {
                "FROM" if value.is_empty() => {
                    return Err(wrong("found nothing after FROM, expected a model or a file".into()));
                }
                "FROM" if !file.from.is_empty() => {
                    return Err(wrong(
                        "found a second FROM, expected one: a model has one file of weights".into(),
                    ));
                }
                "FROM" => file.from = value,
                "ADAPTER" => file.adapters.push(value),
                "TEMPLATE" => extras.template = Some(value),
                "SYSTEM" => extras.system = Some(value),
                "LICENSE" => extras.licenses.push(value),
                "PARAMETER" => {
                    let (name, value) = value.split_once(char::is_whitespace).unwrap_or((&value, ""));
                    let value = unquote(value.trim()).map_err(wrong)?;
                    set_parameter(&mut extras.params, name, &value)
                        .map_err(|why| HubError::Modelfile { line, why })?;
                }
                "MESSAGE" => {
                    let (role, content) = value.split_once(char::is_whitespace).unwrap_or((&value, ""));
                    if !matches!(role, "system" | "user" | "assistant") {
                        return Err(wrong(format!(
                            "found the role {role:?}, expected system, user or assistant"
                        )));
                    }
                    let content = unquote(content.trim()).map_err(wrong)?;
                    extras.messages.push((role.to_string(), content));
                }
                "REQUIRES" => {}
                _ => {
                    return Err(wrong(format!(
                        "found {word:?}, expected FROM, PARAMETER, TEMPLATE, SYSTEM, ADAPTER, MESSAGE or LICENSE"
                    )));
                }
            }
        }
        if file.from.is_empty() {
            let why = "found no FROM, expected the model or file it begins with".into();
            return Err(HubError::Modelfile { line: text.lines().count().max(1), why });
        }
        Ok(file)
    }
}

/// An instruction with its value, which may have several lines.
struct Instruction {
    line: usize,
    word: String,
    value: String,
}

fn instructions(text: &str) -> Result<Vec<Instruction>, HubError> {
    let mut instructions = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((i, first)) = lines.next() {
        let first = first.trim_start_matches('\u{feff}').trim_start();
        if first.trim().is_empty() || first.starts_with('#') {
            continue;
        }
        let (word, rest) = first.split_once(char::is_whitespace).unwrap_or((first, ""));
        let mut value = rest.trim().to_string();
        // `PARAMETER stop """` and `MESSAGE user """` open a text after a word.
        while value.matches("\"\"\"").count() % 2 == 1 {
            let Some((_, next)) = lines.next() else {
                let why = "found a \"\"\" that is never closed".into();
                return Err(HubError::Modelfile { line: i + 1, why });
            };
            value.push('\n');
            value.push_str(next);
        }
        let takes_word = ["PARAMETER", "MESSAGE"].iter().any(|w| w.eq_ignore_ascii_case(word));
        if !takes_word {
            value = unquote(value.trim_end()).map_err(|why| HubError::Modelfile { line: i + 1, why })?;
        }
        instructions.push(Instruction { line: i + 1, word: word.to_string(), value });
    }
    Ok(instructions)
}

/// The text between `"""` or `"`, or as it stands.
fn unquote(text: &str) -> Result<String, String> {
    if let Some(rest) = text.strip_prefix("\"\"\"") {
        return match rest.split_once("\"\"\"") {
            Some((inner, "")) => Ok(inner.to_string()),
            _ => Err("found text after the closing \"\"\"".into()),
        };
    }
    match text.strip_prefix('"').map(|rest| rest.strip_suffix('"')) {
        Some(Some(inner)) => Ok(inner.replace("\\\"", "\"")),
        Some(None) if text.len() > 1 => Err("found a quotation mark that is never closed".into()),
        _ => Ok(text.to_string()),
    }
}

/// Writes a model as a Modelfile that makes it again.
pub fn write(from: &str, extras: &Extras) -> String {
    let mut text = format!("FROM {from}\n");
    let quoted = |value: &str| match value.contains(['\n', '"']) || value.trim() != value || value.is_empty()
    {
        true => format!("\"\"\"{value}\"\"\""),
        false => value.to_string(),
    };
    for (word, value) in [("TEMPLATE", &extras.template), ("SYSTEM", &extras.system)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{word} {}", quoted(value));
        }
    }
    text += &parameters(&extras.params, "PARAMETER ");
    for (role, content) in &extras.messages {
        let _ = writeln!(text, "MESSAGE {role} {}", quoted(content));
    }
    for license in &extras.licenses {
        let _ = writeln!(text, "LICENSE {}", quoted(license));
    }
    text
}

/// Parameters, one a line, each after `start`.
pub fn parameters(params: &Map<String, Value>, start: &str) -> String {
    let mut text = String::new();
    for (name, value) in params {
        let list = match value {
            Value::Array(list) => list.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in list {
            match value {
                Value::String(word) => {
                    let _ = writeln!(text, "{start}{name} \"{}\"", word.replace('"', "\\\""));
                }
                value => {
                    let _ = writeln!(text, "{start}{name} {value}");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILE: &str = r#"
# A pirate.
from mistral
PARAMETER temperature 0.5
parameter stop "[INST]"
PARAMETER stop </s>
PARAMETER num_ctx 4096
SYSTEM """You are a "pirate".
Be brief."""
TEMPLATE """[INST] {{ .Prompt }} [/INST]"""
MESSAGE user Who are you?
MESSAGE assistant """Arr.
Me."""
LICENSE "Apache-2.0"
"#;

    #[test]
    fn a_modelfile_is_read() {
        let file = Modelfile::parse(FILE).unwrap();
        assert_eq!(file.from, "mistral");
        assert_eq!(file.extras.system.as_deref(), Some("You are a \"pirate\".\nBe brief."));
        assert_eq!(file.extras.template.as_deref(), Some("[INST] {{ .Prompt }} [/INST]"));
        assert_eq!(
            Value::Object(file.extras.params.clone()),
            json!({"temperature": 0.5, "stop": ["[INST]", "</s>"], "num_ctx": 4096})
        );
        let messages = [("user", "Who are you?"), ("assistant", "Arr.\nMe.")];
        assert_eq!(file.extras.messages, messages.map(|(r, c)| (r.to_string(), c.to_string())));
        assert_eq!(file.extras.licenses, ["Apache-2.0"]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file = Modelfile::parse(FILE).unwrap();
        assert_eq!(Modelfile::parse(&write("mistral", &file.extras)).unwrap(), file);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, line, want) in [
            ("", 1, "no FROM"),
            ("SYSTEM x", 1, "no FROM"),
            ("FROM", 1, "nothing after FROM"),
            ("FROM a\nFROM b", 2, "second FROM"),
            ("FROM a\nFRON b", 2, "FRON"),
            ("FROM a\n\nPARAMETER temprature 1", 3, "temprature"),
            ("FROM a\nPARAMETER top_k 0.5", 2, "whole number"),
            ("FROM a\nPARAMETER temperature NaN", 2, "a number"),
            ("FROM a\nPARAMETER use_mmap yes", 2, "true or false"),
            ("FROM a\nSYSTEM \"\"\"x\n", 2, "never closed"),
            ("FROM a\nSYSTEM \"x", 2, "never closed"),
            ("FROM a\nMESSAGE tool x", 2, "role"),
        ] {
            match Modelfile::parse(text) {
                Err(HubError::Modelfile { line: found, why }) => {
                    assert_eq!(found, line, "{text:?}: {why}");
                    assert!(why.contains(want), "{text:?}: {why}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }
}
