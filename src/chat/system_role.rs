//! Templates without a system role: what the system message says goes before the first user message.

use serde_json::{Value, json};

use super::{ChatError, ChatInput, Message, RenderedPrompt, SpecialTokens};

/// A text that no template writes by itself.
const PROBE: &str = "bise-system-probe";

/// Whether the template takes a system message and writes what it says.
pub(super) fn is_supported(
    render: impl FnOnce(&ChatInput<'_>, &SpecialTokens) -> Result<RenderedPrompt, ChatError>,
) -> bool {
    let probe = [Message::new("system", PROBE), Message::new("user", "Hello")];
    match render(&ChatInput::new(&probe), &SpecialTokens::new("<s>", "</s>")) {
        Ok(prompt) => prompt.text.contains(PROBE),
        Err(ChatError::Refused(_) | ChatError::Failed { .. }) => false,
        // Says nothing about roles, and comes up again when the conversation itself is rendered.
        Err(_) => true,
    }
}

/// The conversation with a leading system message put before the first user message, on a line of its own as in
/// llama.cpp. `None` if it does not start with a system message or has no user message.
pub(super) fn merge(messages: &[Message]) -> Option<Vec<Message>> {
    let (system, rest) = messages.split_first()?;
    if system.role() != "system" {
        return None;
    }
    let system = match system.fields().get("content")? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => return None,
    };
    let mut merged = rest.to_vec();
    let first_user = merged.iter_mut().find(|message| message.role() == "user")?;
    match first_user.fields_mut().get_mut("content")? {
        Value::String(text) => *text = format!("{system}\n{text}"),
        Value::Array(parts) => parts.insert(0, json!({"type": "text", "text": system + "\n"})),
        _ => return None,
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::super::{ChatNote, ChatTemplate};
    use super::*;

    const NO_SYSTEM: &str = "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}";
    const DROPS_SYSTEM: &str =
        "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}";

    fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
        turns.iter().map(|&(role, content)| Message::new(role, content)).collect()
    }

    fn render(source: &str, turns: &[(&str, &str)]) -> Result<(String, Vec<ChatNote>), ChatError> {
        let template = ChatTemplate::from_source(source).unwrap();
        let prompt = template.render(&ChatInput::new(&chat(turns)), &SpecialTokens::new("<s>", "</s>"))?;
        Ok((prompt.text, prompt.notes))
    }

    #[test]
    fn the_system_message_goes_before_the_first_user_message() {
        let talk = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Ho"), ("user", "Bye")];
        let (text, notes) = render(NO_SYSTEM, &talk).unwrap();
        assert_eq!(text, "<s>[INST] Be brief.\nHi [/INST] Ho</s>[INST] Bye [/INST]");
        assert_eq!(notes, [ChatNote::SystemMerged]);
        // A template that leaves it out without a word counts as one that refuses it.
        let (text, notes) = render(DROPS_SYSTEM, &talk).unwrap();
        assert_eq!(text, "<user>Be brief.\nHi<assistant>Ho<user>Bye");
        assert_eq!(notes, [ChatNote::SystemMerged]);
    }

    #[test]
    fn parts_are_merged_as_parts() {
        let parts = |role: &str, text: &str| {
            let content = json!([{"type": "text", "text": text}]);
            Message::from_json(json!({"role": role, "content": content})).unwrap()
        };
        let merged = merge(&[parts("system", "Be brief."), parts("user", "Hi")]).unwrap();
        let want = json!([{"type": "text", "text": "Be brief.\n"}, {"type": "text", "text": "Hi"}]);
        assert_eq!(merged[0].fields()["content"], want);
        assert_eq!(
            merge(&[parts("system", "a"), Message::new("user", "b")]).unwrap(),
            [Message::new("user", "a\nb")]
        );
    }

    #[test]
    fn templates_with_a_system_role_are_left_alone() {
        let talk = [("system", "Be brief."), ("user", "Hi")];
        let (text, notes) =
            render("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", &talk).unwrap();
        assert_eq!(text, "system:Be brief.;user:Hi;");
        assert_eq!(notes, []);
        let (_, notes) = render(NO_SYSTEM, &[("user", "Hi")]).unwrap();
        assert_eq!(notes, []);
    }

    #[test]
    fn a_refusal_for_another_reason_stays() {
        let talk = [("system", "Be brief."), ("user", "a"), ("user", "b")];
        assert_eq!(render(NO_SYSTEM, &talk), Err(ChatError::Refused("roles must alternate".to_owned())));
        assert!(render(NO_SYSTEM, &[("system", "alone")]).is_err());
    }
}
