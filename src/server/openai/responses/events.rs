//! A response as it grows: its events, and what it is in the end.

use serde_json::{Map, Value, json};

use crate::server::answer::{Delta, FinishReason, Finished, TokenLogProb, Usage};
use crate::server::envelope::Dialect;

/// An item of the output that is being written.
enum Open {
    /// A text, with the log-probabilities of its tokens.
    Message {
        text: String,
        log_probs: Vec<Value>,
    },
    Reasoning {
        text: String,
    },
    Call {
        call_id: String,
        name: String,
        arguments: String,
    },
}

/// Writes a response.
pub(super) struct Events {
    id: String,
    created: u64,
    /// What is repeated of the request.
    echo: Map<String, Value>,
    n_events: u64,
    /// The items that are complete.
    output: Vec<Value>,
    open: Option<(String, Open)>,
    status: &'static str,
    incomplete: Option<&'static str>,
    error: Value,
    usage: Option<Usage>,
    n_reasoning: usize,
}

impl Events {
    /// For a response with this id, made at `created` seconds since 1970.
    pub(super) fn new(id: String, created: u64, echo: Map<String, Value>) -> Events {
        Events {
            id,
            created,
            echo,
            n_events: 0,
            output: Vec::new(),
            open: None,
            status: "in_progress",
            incomplete: None,
            error: Value::Null,
            usage: None,
            n_reasoning: 0,
        }
    }

    /// The response as it is now.
    pub(super) fn response(&self) -> Value {
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status,
            "error": self.error,
            "incomplete_details": self.incomplete.map(|reason| json!({ "reason": reason })),
            "output": self.output,
            "usage": self.usage.map(|usage| self.usage_json(usage)),
        });
        response.as_object_mut().expect("an object").extend(self.echo.clone());
        if self.status == "completed" {
            response["completed_at"] = super::now().into();
        }
        response
    }

    /// The events before anything is written.
    pub(super) fn begin(&mut self) -> Vec<Value> {
        let response = self.response();
        vec![self.event("response.created", json!({ "response": response })), self.in_progress()]
    }

    /// Says that the response is still coming.
    pub(super) fn in_progress(&mut self) -> Value {
        let response = self.response();
        self.event("response.in_progress", json!({ "response": response }))
    }

    /// The events that a part of the answer makes.
    pub(super) fn push(&mut self, delta: Delta) -> Vec<Value> {
        let mut events = Vec::new();
        match delta {
            Delta::Started { .. } | Delta::Progress(_) | Delta::Prompt(_) => {}
            Delta::Content { text, log_probs, .. } => self.push_text(&text, &log_probs, &mut events),
            Delta::Reasoning(text) => self.push_reasoning(&text, &mut events),
            Delta::ToolCall { id, name, .. } => {
                let open = Open::Call { call_id: id, name, arguments: String::new() };
                self.open_item("fc_", open, &mut events);
            }
            Delta::ToolArguments { text, .. } => {
                if let Some((id, Open::Call { arguments, .. })) = &mut self.open {
                    *arguments += &text;
                    let fields = json!({"item_id": id, "output_index": self.output.len(), "delta": text});
                    events.push(self.event("response.function_call_arguments.delta", fields));
                }
            }
            Delta::Finished(finished) => self.finish(&finished, &mut events),
            Delta::Failed(error) => {
                self.status = "failed";
                self.error = json!({"code": "server_error", "message": error.message});
                let mut fields = Dialect::OpenAi.error(&error)["error"].clone();
                fields["param"] = Value::Null;
                let event = self.event("error", fields);
                // The name of the event, not the kind of the error.
                events.push(event);
                let response = self.response();
                events.push(self.event("response.failed", json!({ "response": response })));
            }
        }
        events
    }

    fn push_text(&mut self, text: &str, log_probs: &[TokenLogProb], events: &mut Vec<Value>) {
        if text.is_empty() && log_probs.is_empty() {
            return;
        }
        if !matches!(self.open, Some((_, Open::Message { .. }))) {
            let open = Open::Message { text: String::new(), log_probs: Vec::new() };
            self.open_item("msg_", open, events);
        }
        let new: Vec<Value> = log_probs.iter().map(log_prob).collect();
        if let Some((id, Open::Message { text: all, log_probs })) = &mut self.open {
            all.push_str(text);
            log_probs.extend(new.clone());
            let fields = json!({
                "item_id": id, "output_index": self.output.len(), "content_index": 0, "delta": text, "logprobs": new,
            });
            events.push(self.event("response.output_text.delta", fields));
        }
    }

    fn push_reasoning(&mut self, text: &str, events: &mut Vec<Value>) {
        self.n_reasoning += 1;
        if !matches!(self.open, Some((_, Open::Reasoning { .. }))) {
            self.open_item("rs_", Open::Reasoning { text: String::new() }, events);
        }
        if let Some((id, Open::Reasoning { text: all })) = &mut self.open {
            all.push_str(text);
            let fields =
                json!({"item_id": id, "output_index": self.output.len(), "content_index": 0, "delta": text});
            events.push(self.event("response.reasoning_text.delta", fields));
        }
    }

    fn open_item(&mut self, prefix: &str, open: Open, events: &mut Vec<Value>) {
        self.close_item("completed", events);
        let id = super::new_id(prefix);
        let item = item(&id, &open, "in_progress", false);
        let output_index = self.output.len();
        events.push(
            self.event("response.output_item.added", json!({"output_index": output_index, "item": item})),
        );
        if let Some(part) = part(&open) {
            let fields =
                json!({"item_id": id, "output_index": output_index, "content_index": 0, "part": part});
            events.push(self.event("response.content_part.added", fields));
        }
        self.open = Some((id, open));
    }

    fn close_item(&mut self, status: &str, events: &mut Vec<Value>) {
        let Some((id, open)) = self.open.take() else { return };
        let at = json!({"item_id": id, "output_index": self.output.len()});
        let with = |fields: Value| {
            let mut all = at.clone();
            all.as_object_mut().expect("an object").extend(fields.as_object().cloned().unwrap_or_default());
            all
        };
        match &open {
            Open::Message { text, log_probs } => {
                let fields = with(json!({"content_index": 0, "text": text, "logprobs": log_probs}));
                events.push(self.event("response.output_text.done", fields));
            }
            Open::Reasoning { text } => {
                let fields = with(json!({"content_index": 0, "text": text}));
                events.push(self.event("response.reasoning_text.done", fields));
            }
            Open::Call { name, arguments, .. } => {
                let fields = with(json!({"name": name, "arguments": arguments}));
                events.push(self.event("response.function_call_arguments.done", fields));
            }
        }
        if let Some(part) = part(&open) {
            events.push(
                self.event("response.content_part.done", with(json!({"content_index": 0, "part": part}))),
            );
        }
        let item = item(&id, &open, status, true);
        let fields = json!({"output_index": self.output.len(), "item": item});
        events.push(self.event("response.output_item.done", fields));
        self.output.push(item);
    }

    fn finish(&mut self, finished: &Finished, events: &mut Vec<Value>) {
        let is_cut = finished.reason == FinishReason::Length;
        let status = if is_cut { "incomplete" } else { "completed" };
        if self.output.is_empty() && self.open.is_none() {
            // Clients look for a message, though nothing was said.
            self.open_item("msg_", Open::Message { text: String::new(), log_probs: Vec::new() }, events);
        }
        self.close_item(status, events);
        self.status = status;
        self.incomplete = is_cut.then_some("max_output_tokens");
        self.usage = Some(finished.usage);
        let response = self.response();
        // llama-server calls it completed in either case, and its clients wait for that.
        events.push(self.event("response.completed", json!({ "response": response })));
    }

    fn event(&mut self, kind: &str, fields: Value) -> Value {
        let mut event = json!({"type": kind, "sequence_number": self.n_events});
        self.n_events += 1;
        let fields = fields.as_object().cloned().unwrap_or_default();
        let event_fields = event.as_object_mut().expect("an object");
        event_fields.extend(fields.into_iter().filter(|(name, _)| name != "type"));
        event
    }

    fn usage_json(&self, usage: Usage) -> Value {
        json!({
            "input_tokens": usage.n_prompt,
            "input_tokens_details": {"cached_tokens": usage.n_cached},
            "output_tokens": usage.n_generated,
            "output_tokens_details": {"reasoning_tokens": self.n_reasoning.min(usage.n_generated)},
            "total_tokens": usage.n_prompt + usage.n_generated,
        })
    }
}

/// An item of the output, with what was written of it if that is complete.
fn item(id: &str, open: &Open, status: &str, with_content: bool) -> Value {
    let content: Vec<Value> = part(open).filter(|_| with_content).into_iter().collect();
    match open {
        Open::Message { .. } => {
            json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
        }
        Open::Reasoning { .. } => {
            json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content, "encrypted_content": null})
        }
        Open::Call { call_id, name, arguments } => json!({
            "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments,
        }),
    }
}

/// The part of an item that holds its text.
fn part(open: &Open) -> Option<Value> {
    match open {
        Open::Message { text, log_probs } => {
            Some(json!({"type": "output_text", "text": text, "annotations": [], "logprobs": log_probs}))
        }
        Open::Reasoning { text } => Some(json!({"type": "reasoning_text", "text": text})),
        Open::Call { .. } => None,
    }
}

fn log_prob(token: &TokenLogProb) -> Value {
    let one = |token: &TokenLogProb| json!({"token": String::from_utf8_lossy(&token.bytes), "logprob": token.log_prob, "bytes": token.bytes});
    let mut json = one(token);
    json["top_logprobs"] = token.top.iter().map(one).collect();
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::answer::{ApiError, Timings};

    fn finished(reason: FinishReason) -> Delta {
        Delta::Finished(Finished {
            reason,
            usage: Usage { n_prompt: 12, n_cached: 4, n_generated: 3 },
            timings: Timings::default(),
            context_full: false,
        })
    }

    fn content(text: &str) -> Delta {
        Delta::Content { text: text.to_owned(), tokens: vec![7], log_probs: Vec::new() }
    }

    fn run(deltas: Vec<Delta>) -> Vec<Value> {
        let mut events = Events::new("resp_1".to_owned(), 7, Map::new());
        let mut all = events.begin();
        all.extend(deltas.into_iter().flat_map(|delta| events.push(delta)));
        let numbers: Vec<_> = all.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..all.len() as u64).collect::<Vec<_>>());
        all
    }

    fn types(events: &[Value]) -> Vec<&str> {
        events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
    }

    #[test]
    fn a_text() {
        let events = run(vec![content("Hel"), content("lo"), finished(FinishReason::Stop)]);
        assert_eq!(
            types(&events),
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "completed",
            ]
        );
        let id = &events[2]["item"]["id"];
        assert!(id.as_str().unwrap().starts_with("msg_"));
        assert!(events[3..8].iter().all(|event| event["item_id"] == *id));
        assert_eq!(events[6]["text"], "Hello");
        let response = &events[9]["response"];
        assert_eq!(
            (&response["status"], &response["incomplete_details"]),
            (&json!("completed"), &Value::Null)
        );
        assert_eq!(response["output"][0]["content"][0]["text"], "Hello");
        assert_eq!(response["usage"]["input_tokens_details"]["cached_tokens"], 4);
        assert_eq!(response["usage"]["total_tokens"], 15);
    }

    #[test]
    fn thoughts_text_and_calls_are_items() {
        let events = run(vec![
            Delta::Reasoning("Hm.".to_owned()),
            content("So:"),
            Delta::ToolCall { index: 0, id: "abcdefgh0".to_owned(), name: "add".to_owned() },
            Delta::ToolArguments { index: 0, text: "{\"a\":".to_owned() },
            Delta::ToolArguments { index: 0, text: "1}".to_owned() },
            finished(FinishReason::ToolCalls),
        ]);
        let output = &events.last().unwrap()["response"]["output"];
        assert_eq!(output[0]["content"], json!([{"type": "reasoning_text", "text": "Hm."}]));
        assert_eq!(output[1]["content"][0]["text"], "So:");
        let call = &output[2];
        assert_eq!(
            (&call["type"], &call["call_id"], &call["name"], &call["arguments"]),
            (&json!("function_call"), &json!("abcdefgh0"), &json!("add"), &json!("{\"a\":1}"))
        );
        let indices: Vec<_> = events
            .iter()
            .filter(|event| event["type"] == "response.output_item.done")
            .map(|event| event["output_index"].as_u64().unwrap())
            .collect();
        assert_eq!(indices, [0, 1, 2]);
    }

    #[test]
    fn a_cut_answer_is_incomplete() {
        let events = run(vec![content("x"), finished(FinishReason::Length)]);
        let response = &events.last().unwrap()["response"];
        assert_eq!(
            (&response["status"], &response["incomplete_details"]["reason"]),
            (&json!("incomplete"), &json!("max_output_tokens"))
        );
        assert_eq!(response["output"][0]["status"], "incomplete");
    }

    #[test]
    fn nothing_said_is_an_empty_message_and_a_failure_is_told() {
        let events = run(vec![finished(FinishReason::Stop)]);
        assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], "");
        let events = run(vec![content("x"), Delta::Failed(ApiError::internal("out of luck"))]);
        assert_eq!(types(&events[events.len() - 2..]), ["error", "failed"]);
        assert_eq!(events[events.len() - 2]["message"], "out of luck");
    }
}
