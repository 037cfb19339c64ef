//! Log-probabilities as OpenAI's interface has them.

use serde_json::{Map, Value, json};

use crate::server::answer::TokenLogProb;

/// A token, its bytes and its log-probability.
fn token(log_prob: &TokenLogProb) -> Map<String, Value> {
    let object = json!({
        "id": log_prob.id,
        "token": String::from_utf8_lossy(&log_prob.bytes),
        "bytes": log_prob.bytes,
        "logprob": finite(log_prob.log_prob),
    });
    match object {
        Value::Object(fields) => fields,
        _ => unreachable!("an object"),
    }
}

/// JSON has no infinity: what is impossible is very unlikely.
pub fn finite(log_prob: f32) -> f32 {
    log_prob.max(-9999.0)
}

/// Tokens of the content, as in `logprobs.content` of chats and in llama-server's `completion_probabilities`.
pub fn content(log_probs: &[TokenLogProb]) -> Value {
    let tokens = log_probs.iter().map(|log_prob| {
        let mut fields = token(log_prob);
        let top: Vec<Value> = log_prob.top.iter().map(|top| Value::Object(token(top))).collect();
        fields.insert("top_logprobs".to_owned(), top.into());
        Value::Object(fields)
    });
    tokens.collect()
}

/// Tokens with their probabilities after sampling, as llama-server's `post_sampling_probs` asks for. Those that are zero are left out.
pub fn after_sampling(log_probs: &[TokenLogProb]) -> Value {
    let token = |log_prob: &TokenLogProb| {
        let mut fields = token(log_prob);
        fields.remove("logprob");
        fields.insert("prob".to_owned(), log_prob.log_prob.exp().into());
        fields
    };
    let tokens = log_probs.iter().map(|log_prob| {
        let mut fields = token(log_prob);
        let top = log_prob.top.iter().filter(|top| top.log_prob.exp() > 0.0);
        let top: Vec<Value> = top.map(|top| Value::Object(token(top))).collect();
        fields.insert("top_probs".to_owned(), top.into());
        Value::Object(fields)
    });
    tokens.collect()
}

/// As `/v1/completions` has them: lists side by side. `content` is there too, as with llama-server. Where they begin with a prompt, nothing is
/// known of the first token.
pub fn lists(log_probs: &[TokenLogProb], mut offset: usize, begins_prompt: bool) -> Value {
    let text = |log_prob: &TokenLogProb| String::from_utf8_lossy(&log_prob.bytes).into_owned();
    let mut offsets = Vec::new();
    for log_prob in log_probs {
        offsets.push(offset);
        offset += text(log_prob).chars().count();
    }
    let n_unknown = usize::from(begins_prompt).min(log_probs.len());
    let known = &log_probs[n_unknown..];
    let unknown = || std::iter::repeat_n(Value::Null, n_unknown);
    let top = known.iter().map(|log_prob| {
        let top = log_prob.top.iter().map(|top| (text(top), Value::from(finite(top.log_prob))));
        Value::Object(top.collect())
    });
    json!({
        "tokens": log_probs.iter().map(text).collect::<Vec<_>>(),
        "token_logprobs": unknown().chain(known.iter().map(|log_prob| finite(log_prob.log_prob).into())).collect::<Vec<Value>>(),
        "top_logprobs": unknown().chain(top).collect::<Vec<_>>(),
        "text_offset": offsets,
        "content": content(known),
    })
}
