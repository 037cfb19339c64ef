//! A conversation as a file: `{"messages": [{"role": …, "content": …}, …]}`, the form of OpenAI's requests.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bise::chat::Message;
use bise_models::atomic_file::AtomicFile;
use serde_json::{Value, json};

use crate::cli::text;

/// Writes a conversation to a file, which is replaced only once the new one is whole.
///
/// # Errors
/// If it cannot be written.
pub fn save(path: &Path, messages: &[Message]) -> Result<()> {
    let messages: Vec<Value> =
        messages.iter().map(|message| Value::Object(message.fields().clone())).collect();
    let text = format!("{:#}\n", json!({ "messages": messages }));
    AtomicFile::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.commit()))
        .with_context(|| path.display().to_string())
}

/// Reads a conversation from a file: an object with `messages`, or the bare list.
///
/// # Errors
/// A file that cannot be read, or holds something else; the message says what and where.
pub fn load(path: &Path) -> Result<Vec<Message>> {
    parse(&text::from_file(path)?).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Message>> {
    let value: Value = serde_json::from_str(text).context("this is not JSON")?;
    let list = if value.is_object() { &value["messages"] } else { &value };
    let Some(list) = list.as_array() else { bail!("found no \"messages\", expected a list of them") };
    let message = |(i, value): (usize, &Value)| {
        let field = |name: &str| match value[name].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => bail!("message {i}: found no text in {name:?}, expected a role and a content"),
        };
        let (role, content) = (field("role")?, field("content")?);
        match role.as_str() {
            "system" if i > 0 => {
                bail!("message {i}: found the role \"system\", expected it only in message 0")
            }
            "system" | "user" | "assistant" => Ok(Message::new(role, content)),
            other => bail!("message {i}: found the role {other:?}, expected system, user or assistant"),
        }
    };
    list.iter().enumerate().map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        let messages = vec![
            Message::new("system", "Be brief."),
            Message::new("user", "\"Hé\"\n</s>\u{0}"),
            Message::new("assistant", ""),
        ];
        for _ in 0..2 {
            save(&path, &messages).unwrap();
            assert_eq!(load(&path).unwrap(), messages);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(save(folder.path(), &messages).is_err());
    }

    #[test]
    fn a_bare_list_is_a_conversation() {
        let messages = parse(r#"[{"role": "user", "content": "Hi", "name": "x"}]"#).unwrap();
        assert_eq!(messages, [Message::new("user", "Hi")]);
    }

    #[test]
    fn other_files_are_refused_by_what_is_wrong_with_them() {
        for (text, want) in [
            ("{", "not JSON"),
            ("{}", "no \"messages\""),
            ("7", "no \"messages\""),
            (r#"[{"role": "user"}]"#, "message 0"),
            (r#"[{"role": "user", "content": "a"}, 7]"#, "message 1"),
            (r#"[{"role": "user", "content": ["a"]}]"#, "\"content\""),
            (r#"[{"role": "tool", "content": "a"}]"#, "\"tool\""),
            (r#"[{"role": "user", "content": "a"}, {"role": "system", "content": "a"}]"#, "message 1"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
