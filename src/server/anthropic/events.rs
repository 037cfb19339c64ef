//! Answers in Anthropic's shape: events of a stream, or a message as a whole.

use serde_json::{Map, Value, json};

use super::cut_json::complete_members;
use crate::server::answer::{Delta, FinishReason, Finished, Usage, Whole, WholeToolCall};
use crate::server::envelope::Dialect;

/// What is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    ToolUse,
}

/// Writes an answer as events.
pub(super) struct Events {
    id: String,
    model: String,
    begun: bool,
    block: Option<Block>,
    n_blocks: usize,
}

impl Events {
    /// For an answer with this id and model.
    pub(super) fn new(id: &str, model: &str) -> Events {
        Events { id: id.to_owned(), model: model.to_owned(), begun: false, block: None, n_blocks: 0 }
    }

    /// The events that a part of the answer makes, each with its `type`. `usage` is what was read and written so far.
    pub(super) fn push(&mut self, delta: Delta, usage: Usage) -> Vec<Value> {
        let mut events = Vec::new();
        match delta {
            Delta::Started { .. } | Delta::Prompt(_) => {}
            // The first one says how much of the prompt was found in the cache.
            Delta::Progress(_) => self.begin(usage, &mut events),
            Delta::Content { text, .. } => {
                if !text.is_empty() {
                    self.begin(usage, &mut events);
                    self.open(Block::Text, || json!({"type": "text", "text": ""}), &mut events);
                    self.delta(json!({"type": "text_delta", "text": text}), &mut events);
                }
            }
            Delta::Reasoning(text) => {
                self.begin(usage, &mut events);
                self.open(
                    Block::Thinking,
                    || json!({"type": "thinking", "thinking": "", "signature": ""}),
                    &mut events,
                );
                self.delta(json!({"type": "thinking_delta", "thinking": text}), &mut events);
            }
            Delta::ToolCall { id, name, .. } => {
                self.begin(usage, &mut events);
                self.close(&mut events);
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.open(Block::ToolUse, || block, &mut events);
            }
            Delta::ToolArguments { text, .. } => {
                self.delta(json!({"type": "input_json_delta", "partial_json": text}), &mut events);
            }
            Delta::Finished(Finished { reason, usage, context_full, .. }) => {
                self.begin(usage, &mut events);
                if self.n_blocks == 0 {
                    // Clients expect a block, though nothing was said.
                    self.open(Block::Text, || json!({"type": "text", "text": ""}), &mut events);
                }
                self.close(&mut events);
                let (stop_reason, stop_sequence) = stop(&reason, context_full);
                events.push(json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": stop_reason, "stop_sequence": stop_sequence},
                    "usage": usage_json(usage),
                }));
                events.push(json!({"type": "message_stop"}));
            }
            Delta::Failed(error) => events.push(Dialect::Anthropic.error(&error)),
        }
        events
    }

    fn begin(&mut self, usage: Usage, events: &mut Vec<Value>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let mut message = message(&self.id, &self.model, Vec::new());
        message.insert("usage".to_owned(), usage_json(Usage { n_generated: 0, ..usage }));
        events.push(json!({"type": "message_start", "message": message}));
    }

    fn open(&mut self, block: Block, start: impl FnOnce() -> Value, events: &mut Vec<Value>) {
        if self.block == Some(block) && block != Block::ToolUse {
            return;
        }
        self.close(events);
        events.push(json!({"type": "content_block_start", "index": self.n_blocks, "content_block": start()}));
        self.block = Some(block);
        self.n_blocks += 1;
    }

    fn delta(&self, delta: Value, events: &mut Vec<Value>) {
        events.push(
            json!({"type": "content_block_delta", "index": self.n_blocks.saturating_sub(1), "delta": delta}),
        );
    }

    fn close(&mut self, events: &mut Vec<Value>) {
        let Some(block) = self.block.take() else { return };
        if block == Block::Thinking {
            // Clients keep it, and send it back; there is nothing to sign here.
            self.delta(json!({"type": "signature_delta", "signature": ""}), events);
        }
        events.push(json!({"type": "content_block_stop", "index": self.n_blocks - 1}));
    }
}

/// The answer as a message.
pub(super) fn whole(id: &str, model: &str, whole: Whole) -> Value {
    let mut content = Vec::new();
    if !whole.reasoning.is_empty() {
        content.push(json!({"type": "thinking", "thinking": whole.reasoning, "signature": ""}));
    }
    let is_cut = matches!(whole.reason, FinishReason::Length | FinishReason::StopText(_));
    let calls = whole.tool_calls.iter().map(|call| tool_use(call, is_cut));
    let (calls, broken): (Vec<_>, Vec<_>) = calls.partition(Result::is_ok);
    // A call that is none is shown as text: nothing that was generated is lost.
    let text = whole.content + &broken.into_iter().filter_map(Result::err).collect::<String>();
    if !text.is_empty() || calls.is_empty() {
        content.push(json!({"type": "text", "text": text}));
    }
    content.extend(calls.into_iter().filter_map(Result::ok));
    let (stop_reason, stop_sequence) = stop(&whole.reason, whole.context_full);
    let mut message = message(id, model, content);
    message["stop_reason"] = stop_reason.into();
    message["stop_sequence"] = stop_sequence.into();
    message.insert("usage".to_owned(), usage_json(whole.usage));
    Value::Object(message)
}

/// A call as a block; that of an answer that was cut has what is complete of its input, as the service sends it.
fn tool_use(call: &WholeToolCall, is_cut: bool) -> Result<Value, String> {
    let input = match call.arguments.trim() {
        "" => Value::Object(Map::new()),
        text => match serde_json::from_str(text) {
            Ok(input @ Value::Object(_)) => input,
            _ if is_cut => complete_members(text).unwrap_or_else(|| Value::Object(Map::new())),
            _ => return Err(format!("{}{}", call.name, call.arguments)),
        },
    };
    Ok(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}))
}

fn message(id: &str, model: &str, content: Vec<Value>) -> Map<String, Value> {
    let message = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": null,
        "stop_sequence": null,
    });
    match message {
        Value::Object(message) => message,
        _ => unreachable!("it was made an object"),
    }
}

/// What was read from the cache is counted apart, as in the original.
fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.n_prompt.saturating_sub(usage.n_cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.n_cached,
        "output_tokens": usage.n_generated,
    })
}

fn stop(reason: &FinishReason, context_full: bool) -> (&'static str, Option<&str>) {
    match reason {
        FinishReason::Stop => ("end_turn", None),
        FinishReason::StopText(text) => ("stop_sequence", Some(text)),
        FinishReason::ToolCalls => ("tool_use", None),
        FinishReason::Length if context_full => ("model_context_window_exceeded", None),
        FinishReason::Length => ("max_tokens", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::{ApiError, Progress, Timings};

    const USAGE: Usage = Usage { n_prompt: 12, n_cached: 4, n_generated: 3 };

    fn finished(reason: FinishReason) -> Delta {
        Delta::Finished(Finished { reason, usage: USAGE, timings: Timings::default(), context_full: false })
    }

    fn content(text: &str) -> Delta {
        Delta::Content { text: text.to_owned(), tokens: vec![7], log_probs: Vec::new() }
    }

    fn run(deltas: Vec<Delta>) -> Vec<Value> {
        let mut events = Events::new("msg_1", "mistral");
        deltas.into_iter().flat_map(|delta| events.push(delta, USAGE)).collect()
    }

    fn types(events: &[Value]) -> Vec<&str> {
        events.iter().map(|event| event["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_text() {
        let deltas = vec![
            Delta::Started { slot: 0 },
            Delta::Progress(Progress { total: 12, cached: 4, ..Progress::default() }),
            Delta::Progress(Progress { total: 12, cached: 4, processed: 12, ..Progress::default() }),
            content("Hel"),
            content(""),
            content("lo"),
            finished(FinishReason::Stop),
        ];
        let usage = |n| json!({"input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": n});
        assert_eq!(
            run(deltas),
            [
                json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                    "model": "mistral", "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(0)}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}),
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": usage(3)}),
                json!({"type": "message_stop"}),
            ]
        );
    }

    #[test]
    fn thoughts_text_and_calls_are_blocks_in_order() {
        let call = |index, name: &str| Delta::ToolCall {
            index,
            id: format!("abcdefgh{index}"),
            name: name.to_owned(),
        };
        let events = run(vec![
            Delta::Reasoning("Hm".to_owned()),
            Delta::Reasoning(".".to_owned()),
            content("Look:"),
            call(0, "add"),
            Delta::ToolArguments { index: 0, text: "{\"a\":".to_owned() },
            Delta::ToolArguments { index: 0, text: "1}".to_owned() },
            call(1, "now"),
            finished(FinishReason::ToolCalls),
        ]);
        let starts: Vec<_> = events.iter().filter(|event| event["type"] == "content_block_start").collect();
        assert_eq!(
            starts
                .iter()
                .map(|start| (
                    start["index"].as_u64().unwrap(),
                    start["content_block"]["type"].as_str().unwrap()
                ))
                .collect::<Vec<_>>(),
            [(0, "thinking"), (1, "text"), (2, "tool_use"), (3, "tool_use")]
        );
        assert_eq!(
            starts[2]["content_block"],
            json!({"type": "tool_use", "id": "abcdefgh0", "name": "add", "input": {}})
        );
        let stops: Vec<_> = events
            .iter()
            .filter(|event| event["type"] == "content_block_stop")
            .map(|stop| &stop["index"])
            .collect();
        assert_eq!(stops, [0, 1, 2, 3]);
        let signature = events.iter().position(|event| event["delta"]["type"] == "signature_delta").unwrap();
        assert_eq!(events[signature + 1], json!({"type": "content_block_stop", "index": 0}));
        let json: String =
            events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
        assert_eq!(json, "{\"a\":1}");
        let last = &events[events.len() - 2];
        assert_eq!(last["delta"]["stop_reason"], "tool_use");
    }

    #[test]
    fn an_empty_answer_has_a_block() {
        let events = run(vec![finished(FinishReason::Stop)]);
        let want =
            ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"];
        assert_eq!(types(&events), want);
    }

    #[test]
    fn reasons_to_stop() {
        let reason = |reason, context_full| {
            let (reason, text) = stop(&reason, context_full);
            (reason, text.map(str::to_owned))
        };
        assert_eq!(reason(FinishReason::Length, false), ("max_tokens", None));
        assert_eq!(reason(FinishReason::Length, true), ("model_context_window_exceeded", None));
        assert_eq!(
            reason(FinishReason::StopText("END".to_owned()), false),
            ("stop_sequence", Some("END".to_owned()))
        );
    }

    #[test]
    fn a_failure_is_an_event() {
        let event = &run(vec![Delta::Failed(ApiError::context_exceeded(9, 8))])[0];
        assert_eq!(event["type"], "error");
        assert_eq!(event["error"]["type"], "invalid_request_error");
        assert_eq!(event["error"]["n_ctx"], 8);
    }

    #[test]
    fn a_whole_message() {
        let call = |arguments: &str| WholeToolCall {
            id: "abcdefgh1".to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
        };
        let answer = |content: &str, tool_calls| Whole {
            content: content.to_owned(),
            reasoning: "Hm.".to_owned(),
            tool_calls,
            tokens: Vec::new(),
            log_probs: Vec::new(),
            prompt_log_probs: Vec::new(),
            slot: 0,
            reason: FinishReason::ToolCalls,
            usage: USAGE,
            timings: Timings::default(),
            context_full: false,
        };
        let message = whole("msg_1", "mistral", answer("", vec![call("{\"a\": 1}")]));
        assert_eq!(
            message["content"],
            json!([
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "tool_use", "id": "abcdefgh1", "name": "f", "input": {"a": 1}},
            ])
        );
        assert_eq!(
            (&message["stop_reason"], &message["usage"]["output_tokens"]),
            (&json!("tool_use"), &json!(3))
        );
        let message = whole("msg_1", "mistral", answer("So: ", vec![call("{\"a\": ")]));
        assert_eq!(message["content"][1], json!({"type": "text", "text": "So: f{\"a\": "}));
        let mut cut = answer("", vec![call("{\"a\": 1, \"b\": \"x")]);
        cut.reason = FinishReason::Length;
        let message = whole("msg_1", "mistral", cut);
        assert_eq!(
            (&message["content"][1]["input"], &message["stop_reason"]),
            (&json!({"a": 1}), &json!("max_tokens"))
        );
    }
}
