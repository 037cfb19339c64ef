//! What Ollama tells about a model.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::hub::{Extras, modelfile};
use crate::server::models::{Entry, Facts};

/// `details`, as lists and descriptions have it.
pub(super) fn details(facts: Option<&Facts>) -> Value {
    let Some(facts) = facts else {
        let (unknown, none): (&str, [&str; 0]) = ("", []);
        return json!({
            "parent_model": "", "format": "gguf", "family": unknown, "families": none,
            "parameter_size": unknown, "quantization_level": unknown,
        });
    };
    let about = &facts.about;
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": about.arch,
        "families": [about.arch],
        "parameter_size": human_number(about.n_params),
        "quantization_level": about.quantization(),
        "context_length": facts.n_ctx_train,
        "embedding_length": facts.n_embd,
    })
}

/// What the model can do.
pub(super) fn capabilities(facts: &Facts) -> Vec<&'static str> {
    let template = facts.template.as_deref().unwrap_or_default();
    let mut capabilities = Vec::new();
    if facts.pooled {
        return vec!["embedding"];
    }
    capabilities.push("completion");
    if takes_tools(template) {
        capabilities.push("tools");
    }
    if facts.infills {
        capabilities.push("insert");
    }
    if thinks(template) {
        capabilities.push("thinking");
    }
    capabilities
}

/// Whether a template looks at the tools of a request.
fn takes_tools(template: &str) -> bool {
    template.contains("tools")
}

/// Whether a template knows thoughts.
fn thinks(template: &str) -> bool {
    ["[THINK]", "<think>", "enable_thinking", "reasoning_effort"].iter().any(|word| template.contains(word))
}

/// The name in lists: with a tag.
pub(super) fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

/// The models of an entry in `/api/tags`: one for each of its names.
pub(super) fn tags(entry: &Entry) -> impl Iterator<Item = Value> {
    let facts = entry.facts();
    entry.options().aliases.iter().map(move |name| {
        let name = tagged(name);
        let mut model = json!({
            "name": name,
            "model": name,
            "modified_at": time(modified(entry)),
            "size": bytes(entry),
            "digest": digest(entry),
            "details": details(facts),
        });
        if let Some(facts) = facts {
            model["capabilities"] = capabilities(facts).into();
        }
        model
    })
}

/// Bytes of its files.
fn bytes(entry: &Entry) -> u64 {
    let of_facts = entry.facts().map_or(0, |facts| facts.file_bytes);
    entry.offer().map_or(of_facts, |offer| offer.model.bytes.max(of_facts))
}

/// What tells it from others: as the hub has it, where that knows it.
fn digest(entry: &Entry) -> String {
    let of_hub = entry.offer().and_then(|offer| offer.model.digest).map(|digest| digest.to_string());
    of_hub.or_else(|| entry.facts().map(|facts| facts.digest.clone())).unwrap_or_default()
}

/// A model in `/api/ps`; `expires` is when it leaves memory.
pub(super) fn loaded(entry: &Entry, facts: &Facts, bytes: u64, expires: Option<SystemTime>) -> Value {
    let name = tagged(entry.options().name());
    json!({
        "name": name,
        "model": name,
        "size": bytes,
        "digest": digest(entry),
        "details": details(Some(facts)),
        "expires_at": expires.map_or_else(never, time),
        "size_vram": 0,
        "context_length": facts.n_ctx,
    })
}

/// `/api/show`; `metadata` in place of the shortened one.
pub(super) fn show(entry: &Entry, facts: &Facts, asked: &str, metadata: Option<Map<String, Value>>) -> Value {
    let mut model_info = metadata.unwrap_or_else(|| facts.metadata.clone());
    model_info.entry("general.parameter_count").or_insert_with(|| facts.about.n_params.into());
    // Some clients show it as the model's name.
    model_info.entry("general.basename").or_insert_with(|| asked.into());
    let extras = entry.extras();
    let mut params = extras.params.clone();
    params.entry("num_ctx").or_insert_with(|| facts.n_ctx.into());
    let mut template = extras.jinja().or(facts.template.as_deref()).unwrap_or_default().to_owned();
    if facts.infills && !template.contains(".Suffix") {
        // Continue takes a model for one that fills in the middle if its template, which it expects in Go's language, has this word.
        template += "{#- {{ .Suffix }}: prompts with a suffix are filled in the middle -#}";
    }
    // Without a template: the one that is used is in the file.
    let made =
        Extras { params: params.clone(), template: extras.jinja().map(str::to_owned), ..extras.clone() };
    let mut shown = json!({
        "modelfile": format!(
            "# The chat template is the one in the file, unless there is another here.\n{}",
            modelfile::write(entry.options().name(), &made)
        ),
        "parameters": parameters(&params),
        "template": template,
        "system": extras.system.as_deref().unwrap_or_default(),
        "details": details(Some(facts)),
        "model_info": model_info,
        "capabilities": capabilities(facts),
        "modified_at": time(modified(entry)),
    });
    if !extras.messages.is_empty() {
        let message = |(role, content): &(String, String)| json!({"role": role, "content": content});
        shown["messages"] = extras.messages.iter().map(message).collect();
    }
    if !extras.licenses.is_empty() {
        shown["license"] = extras.licenses.join("\n").into();
        return shown;
    }
    if let Some(license) = facts.metadata.get("general.license").and_then(Value::as_str) {
        let link = facts.metadata.get("general.license.link").and_then(Value::as_str);
        shown["license"] =
            link.map_or_else(|| license.to_owned(), |link| format!("{license}\n{link}")).into();
    }
    shown
}

/// Parameters as Ollama shows them: names in a column, values behind it.
fn parameters(params: &Map<String, Value>) -> String {
    let lines = modelfile::parameters(params, "");
    let line = |line: &str| match line.split_once(' ') {
        Some((name, value)) => format!("{name:<30} {value}"),
        None => line.to_owned(),
    };
    lines.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// When the file was last changed, or when the server was started, for what is no file.
fn modified(entry: &Entry) -> SystemTime {
    let of_hub = entry.offer().and_then(|offer| offer.model.modified);
    let of_file = || std::fs::metadata(&entry.options().path).and_then(|file| file.modified()).ok();
    of_hub.or_else(of_file).unwrap_or_else(|| entry.created())
}

/// As RFC 3339 writes it.
fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// As far away as Ollama says it of a model that stays: 2⁶³ nanoseconds.
fn never() -> String {
    let span = jiff::SignedDuration::from_nanos(i64::MAX);
    jiff::Timestamp::now().checked_add(span).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A number of weights as Ollama writes it: `7.2B`, `494.03M`.
fn human_number(n: u64) -> String {
    let short = |n: f64, decimals: usize, unit: &str| {
        if n.fract() == 0.0 { format!("{n:.0}{unit}") } else { format!("{n:.decimals$}{unit}") }
    };
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.0}K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => short(n as f64 / 1e6, 2, "M"),
        _ => short(n as f64 / 1e9, 1, "B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_weights() {
        for (n, want) in [
            (7_241_732_096, "7.2B"),
            (8_000_000_000, "8B"),
            (8_130_816, "8.13M"),
            (3_000_000, "3M"),
            (4_352, "4K"),
            (7, "7"),
        ] {
            assert_eq!(human_number(n), want);
        }
    }

    #[test]
    fn names_have_tags() {
        assert_eq!(tagged("mistral"), "mistral:latest");
        assert_eq!(tagged("mistral:7b"), "mistral:7b");
        assert_eq!(tagged("localhost:5000/me/mistral"), "localhost:5000/me/mistral:latest");
    }

    #[test]
    fn templates_say_what_a_model_can_do() {
        assert!(takes_tools("{% if tools %}[AVAILABLE_TOOLS]{% endif %}") && !takes_tools("{{ messages }}"));
        assert!(thinks("[THINK]") && thinks("{% if enable_thinking %}") && !thinks("[INST]"));
    }

    #[test]
    fn a_model_that_stays_expires_in_three_centuries() {
        let never: jiff::Timestamp = never().parse().unwrap();
        assert!(never > jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 365 * 290));
    }
}
