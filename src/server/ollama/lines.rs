//! Answers in Ollama's shape: a line of JSON for each piece, or one for the whole.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::messages;
use crate::server::answer::{Delta, FinishReason, Finished, TokenLogProb, Usage, WholeToolCall};

/// Which of the two interfaces is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/api/chat`: a message.
    Chat,
    /// `/api/generate`: a response.
    Generate,
}

/// Writes an answer.
pub(super) struct Lines {
    kind: Kind,
    /// The model as the request named it.
    model: String,
    started: Instant,
    /// How long the request waited for its model.
    load: Duration,
    /// The call that is being written.
    call: Option<(usize, WholeToolCall)>,
    /// The tokens of the conversation so far, where the last line tells them.
    context: Option<Vec<u32>>,
}

impl Lines {
    /// For a request that came at `started`, whose model was ready after `load`.
    pub(super) fn new(kind: Kind, model: &str, started: Instant, load: Duration) -> Lines {
        Lines { kind, model: model.to_owned(), started, load, call: None, context: None }
    }

    /// Lets the last line tell the tokens of the conversation, of which these are the prompt.
    pub(super) fn remember(&mut self, prompt: &[u32]) {
        self.context = Some(prompt.to_vec());
    }

    /// Which interface is answered.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The lines that a part of the answer makes. The last one has `done`.
    pub(super) fn push(&mut self, delta: Delta) -> Vec<Value> {
        let mut lines = Vec::new();
        match delta {
            Delta::Started { .. } | Delta::Progress(_) | Delta::Prompt(_) => {}
            Delta::Content { text, tokens, log_probs } => {
                lines.extend(self.ended_call());
                if let Some(context) = &mut self.context {
                    context.extend(tokens);
                }
                let mut line = self.line(&text, None, None, false);
                if !log_probs.is_empty() {
                    line["logprobs"] = log_probs.iter().map(log_prob).collect();
                }
                lines.push(line);
            }
            Delta::Reasoning(text) => {
                lines.extend(self.ended_call());
                lines.push(self.line("", Some(&text), None, false));
            }
            Delta::ToolCall { index, id, name } => {
                lines.extend(self.ended_call());
                self.call = Some((index, WholeToolCall { id, name, arguments: String::new() }));
            }
            Delta::ToolArguments { text, .. } => {
                if let Some((_, call)) = &mut self.call {
                    call.arguments += &text;
                }
            }
            Delta::Finished(Finished { reason, usage, timings, .. }) => {
                let is_cut = matches!(reason, FinishReason::Length | FinishReason::StopText(_));
                let is_complete =
                    |(i, call): &(usize, WholeToolCall)| messages::tool_call(*i, call).is_some();
                // Nobody can do anything with the half of a call.
                self.call = self.call.take().filter(|call| !is_cut || is_complete(call));
                lines.extend(self.ended_call());
                let milliseconds = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
                let mut last = self.done(done_reason(&reason));
                set(&mut last, "context", self.context.take().map(Value::from));
                self.count(
                    &mut last,
                    usage,
                    milliseconds(timings.prompt_ms),
                    milliseconds(timings.predicted_ms),
                );
                lines.push(last);
            }
            Delta::Failed(error) => lines.push(json!({ "error": error.message })),
        }
        lines
    }

    /// The line that ends a request for which nothing is generated: `load` or `unload`.
    pub(super) fn done(&self, reason: &str) -> Value {
        let mut line = self.line("", None, None, true);
        line["done_reason"] = reason.into();
        line
    }

    fn count(&self, line: &mut Value, usage: Usage, prompt: Duration, eval: Duration) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        line["total_duration"] = nanoseconds(self.started.elapsed()).into();
        line["load_duration"] = nanoseconds(self.load).into();
        line["prompt_eval_count"] = usage.n_prompt.into();
        line["prompt_eval_duration"] = nanoseconds(prompt).into();
        line["eval_count"] = usage.n_generated.into();
        line["eval_duration"] = nanoseconds(eval).into();
    }

    /// The call that was being written, which is complete once something else comes.
    fn ended_call(&mut self) -> Option<Value> {
        let (index, call) = self.call.take()?;
        Some(match messages::tool_call(index, &call) {
            Some(json) => self.line("", None, Some(json), false),
            None => self.line(&messages::broken_call(&call), None, None, false),
        })
    }

    fn line(&self, text: &str, thinking: Option<&str>, call: Option<Value>, done: bool) -> Value {
        let mut line = json!({ "model": self.model, "created_at": jiff::Timestamp::now().to_string() });
        match self.kind {
            Kind::Chat => {
                let mut message = json!({ "role": "assistant", "content": text });
                set(&mut message, "thinking", thinking.map(Value::from));
                set(&mut message, "tool_calls", call.map(|call| vec![call].into()));
                line["message"] = message;
            }
            Kind::Generate => {
                line["response"] = text.into();
                set(&mut line, "thinking", thinking.map(Value::from));
                set(&mut line, "tool_calls", call.map(|call| vec![call].into()));
            }
        }
        line["done"] = done.into();
        line
    }
}

/// The whole answer: the lines of a stream as one.
pub(super) fn join(kind: Kind, lines: Vec<Value>) -> Option<Value> {
    let (mut content, mut thinking) = (String::new(), String::new());
    let (mut calls, mut log_probs) = (Vec::new(), Vec::new());
    let mut last = None;
    for mut line in lines {
        let part = match kind {
            Kind::Chat => &mut line["message"],
            Kind::Generate => &mut line,
        };
        content += part[text_field(kind)].as_str().unwrap_or_default();
        thinking += part["thinking"].as_str().unwrap_or_default();
        calls.extend(list(part, "tool_calls"));
        log_probs.extend(list(&mut line, "logprobs"));
        last = Some(line);
    }
    let mut whole = last?;
    let part = match kind {
        Kind::Chat => &mut whole["message"],
        Kind::Generate => &mut whole,
    };
    part[text_field(kind)] = content.into();
    set(part, "thinking", Some(thinking).filter(|text| !text.is_empty()).map(Value::from));
    set(part, "tool_calls", Some(calls).filter(|calls| !calls.is_empty()).map(Value::from));
    set(&mut whole, "logprobs", Some(log_probs).filter(|list| !list.is_empty()).map(Value::from));
    Some(whole)
}

fn text_field(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat => "content",
        Kind::Generate => "response",
    }
}

fn set(object: &mut Value, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[name] = value;
    }
}

fn list(object: &mut Value, name: &str) -> Vec<Value> {
    match object.as_object_mut().map(|fields: &mut Map<String, Value>| fields.remove(name)) {
        Some(Some(Value::Array(items))) => items,
        _ => Vec::new(),
    }
}

fn done_reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopText(_) | FinishReason::ToolCalls => "stop",
        FinishReason::Length => "length",
    }
}

fn log_prob(token: &TokenLogProb) -> Value {
    let one = |token: &TokenLogProb| {
        json!({
            "token": String::from_utf8_lossy(&token.bytes),
            "logprob": token.log_prob,
            "bytes": token.bytes,
        })
    };
    let mut json = one(token);
    if !token.top.is_empty() {
        json["top_logprobs"] = token.top.iter().map(one).collect();
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::{ApiError, Timings};

    fn lines(kind: Kind) -> Lines {
        Lines::new(kind, "mistral", Instant::now(), Duration::from_millis(2))
    }

    fn content(text: &str) -> Delta {
        Delta::Content { text: text.to_owned(), tokens: vec![7], log_probs: Vec::new() }
    }

    fn finished(reason: FinishReason) -> Delta {
        Delta::Finished(Finished {
            reason,
            usage: Usage { n_prompt: 12, n_cached: 4, n_generated: 3 },
            timings: Timings { prompt_ms: 1.5, predicted_ms: 0.25, ..Timings::default() },
            context_full: false,
        })
    }

    fn run(kind: Kind, deltas: Vec<Delta>) -> Vec<Value> {
        let mut lines = lines(kind);
        let mut all: Vec<Value> = deltas.into_iter().flat_map(|delta| lines.push(delta)).collect();
        // Times differ from run to run: checked, then gone.
        for line in &mut all {
            let fields = line.as_object_mut().unwrap();
            if let Some(Value::String(time)) = fields.remove("created_at") {
                assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
            }
            if let Some(total) = fields.remove("total_duration") {
                assert!(total.as_u64().unwrap() > 0);
            }
        }
        all
    }

    #[test]
    fn a_chat_is_a_line_a_piece_and_a_last_one_with_the_counts() {
        let deltas =
            vec![Delta::Started { slot: 0 }, content("Hel"), content("lo"), finished(FinishReason::Stop)];
        assert_eq!(
            run(Kind::Chat, deltas),
            [
                json!({"model": "mistral", "message": {"role": "assistant", "content": "Hel"}, "done": false}),
                json!({"model": "mistral", "message": {"role": "assistant", "content": "lo"}, "done": false}),
                json!({"model": "mistral", "message": {"role": "assistant", "content": ""}, "done": true,
                    "done_reason": "stop", "load_duration": 2_000_000, "prompt_eval_count": 12,
                    "prompt_eval_duration": 1_500_000, "eval_count": 3, "eval_duration": 250_000}),
            ]
        );
    }

    #[test]
    fn a_generated_text_has_response() {
        let all = run(
            Kind::Generate,
            vec![Delta::Reasoning("Hm.".to_owned()), content("Yes"), finished(FinishReason::Length)],
        );
        assert_eq!(all[0], json!({"model": "mistral", "response": "", "thinking": "Hm.", "done": false}));
        assert_eq!(all[1], json!({"model": "mistral", "response": "Yes", "done": false}));
        assert_eq!((&all[2]["response"], &all[2]["done_reason"]), (&json!(""), &json!("length")));
        let whole = join(Kind::Generate, all).unwrap();
        assert_eq!((&whole["response"], &whole["thinking"]), (&json!("Yes"), &json!("Hm.")));
        assert_eq!(whole["eval_count"], 3);
    }

    #[test]
    fn the_last_line_tells_the_conversation_if_it_is_to() {
        let mut lines = lines(Kind::Generate);
        lines.remember(&[1, 2]);
        let last = [content("a"), content("b"), finished(FinishReason::Stop)]
            .map(|delta| lines.push(delta))
            .concat()
            .pop();
        assert_eq!(last.unwrap()["context"], json!([1, 2, 7, 7]));
    }

    #[test]
    fn calls_come_whole_with_arguments_as_objects() {
        let call = |index, name: &str| Delta::ToolCall {
            index,
            id: format!("abcdefgh{index}"),
            name: name.to_owned(),
        };
        let arguments = |index, text: &str| Delta::ToolArguments { index, text: text.to_owned() };
        let deltas = vec![
            content("Let me see."),
            call(0, "add"),
            arguments(0, r#"{"a": 1,"#),
            arguments(0, r#" "b": 2}"#),
            call(1, "time"),
            call(2, "cut"),
            arguments(2, r#"{"x": "#),
            finished(FinishReason::ToolCalls),
        ];
        let all = run(Kind::Chat, deltas);
        assert_eq!(all.len(), 5);
        assert_eq!(
            all[1]["message"],
            json!({"role": "assistant", "content": "", "tool_calls": [
                {"id": "abcdefgh0", "function": {"index": 0, "name": "add", "arguments": {"a": 1, "b": 2}}}
            ]})
        );
        assert_eq!(all[3]["message"], json!({"role": "assistant", "content": "cut{\"x\": "}));
        let whole = join(Kind::Chat, all).unwrap();
        assert_eq!(whole["message"]["content"], "Let me see.cut{\"x\": ");
        let names: Vec<_> = whole["message"]["tool_calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| &call["function"]["name"])
            .collect();
        assert_eq!(names, ["add", "time"]);
        assert_eq!(whole["done_reason"], "stop");
    }

    #[test]
    fn a_call_that_is_cut_is_left_out() {
        let call = |index, arguments: &str| {
            let id = format!("abcdefgh{index}");
            let arguments = Delta::ToolArguments { index, text: arguments.to_owned() };
            [Delta::ToolCall { index, id, name: "f".to_owned() }, arguments]
        };
        let deltas = call(0, "{}").into_iter().chain(call(1, r#"{"a": "#));
        let all = run(Kind::Chat, deltas.chain([finished(FinishReason::Length)]).collect());
        let whole = join(Kind::Chat, all).unwrap();
        assert_eq!((&whole["message"]["content"], &whole["done_reason"]), (&json!(""), &json!("length")));
        assert_eq!(whole["message"]["tool_calls"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn log_probabilities_stand_beside_the_text() {
        let top = vec![TokenLogProb { id: 9, bytes: vec![0xC3], log_prob: -2.5, top: Vec::new() }];
        let token = TokenLogProb { id: 7, bytes: b"Hi".to_vec(), log_prob: -0.5, top };
        let deltas = vec![
            Delta::Content { text: "Hi".to_owned(), tokens: vec![7], log_probs: vec![token] },
            finished(FinishReason::Stop),
        ];
        let want = json!([{"token": "Hi", "logprob": -0.5, "bytes": [72, 105],
            "top_logprobs": [{"token": "\u{FFFD}", "logprob": -2.5, "bytes": [195]}]}]);
        let all = run(Kind::Generate, deltas);
        assert_eq!(all[0]["logprobs"], want);
        assert_eq!(join(Kind::Generate, all).unwrap()["logprobs"], want);
    }

    #[test]
    fn a_failure_is_a_line_of_its_own() {
        let all = run(Kind::Chat, vec![content("x"), Delta::Failed(ApiError::internal("out of luck"))]);
        assert_eq!(all[1], json!({"error": "out of luck"}));
    }
}
