//! Sampling parameters as llama-server shows them (`generation_settings`).

use serde_json::{Value, json};

use crate::sampling::SamplingParams;
use crate::server::answer::{Format, RequestOptions};
use crate::tokenizer::Tokenizer;

/// All parameters that a request runs with.
pub fn settings(
    options: &RequestOptions,
    max_tokens: Option<usize>,
    stream: bool,
    tokenizer: Option<&Tokenizer>,
) -> Value {
    let params: &SamplingParams = &options.sampling;
    let n_predict = max_tokens.map_or(-1, |n| n as i64);
    let grammar = match &options.format {
        Some(Format::Grammar(grammar)) => grammar.as_str(),
        _ => "",
    };
    let mut value = json!({
        "n_predict": n_predict,
        "max_tokens": n_predict,
        "seed": params.seed,
        "temperature": params.temp,
        "dynatemp_range": params.dynatemp_range,
        "dynatemp_exponent": params.dynatemp_exponent,
        "top_k": params.top_k,
        "top_p": params.top_p,
        "min_p": params.min_p,
        "top_n_sigma": params.top_n_sigma,
        "xtc_probability": params.xtc_probability,
        "xtc_threshold": params.xtc_threshold,
        "typical_p": params.typ_p,
        "repeat_last_n": params.penalty_last_n,
        "repeat_penalty": params.penalty_repeat,
        "presence_penalty": params.penalty_present,
        "frequency_penalty": params.penalty_freq,
        "dry_multiplier": params.dry_multiplier,
        "dry_base": params.dry_base,
        "dry_allowed_length": params.dry_allowed_length,
        "dry_penalty_last_n": params.dry_penalty_last_n,
        "dry_sequence_breakers": params.dry_sequence_breakers,
        "mirostat": params.mirostat,
        "mirostat_tau": params.mirostat_tau,
        "mirostat_eta": params.mirostat_eta,
    });
    // A macro with more entries is too deep for the compiler.
    let rest = json!({
        "adaptive_target": -1.0,
        "adaptive_decay": 0.9,
        "stop": options.stop,
        "n_keep": 0,
        "n_discard": 0,
        "ignore_eos": params.ignore_eos,
        "stream": stream,
        "logit_bias": biases(params, tokenizer),
        "n_probs": options.log_probs.map_or(0, |log_probs| log_probs.n_top),
        "post_sampling_probs": options.log_probs.is_some_and(|log_probs| log_probs.after_sampling),
        "min_keep": params.min_keep,
        "grammar": grammar,
        "grammar_lazy": false,
        "samplers": params.samplers.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "cache_prompt": options.cache_prompt,
        "lora": options.adapters.to_json(),
    });
    if let (Value::Object(value), Value::Object(rest)) = (&mut value, rest) {
        value.extend(rest);
    }
    value
}

/// The biases, those of ignored end tokens included. JSON has no infinity: `null` stands for never.
fn biases(params: &SamplingParams, tokenizer: Option<&Tokenizer>) -> Vec<Value> {
    let finite = |bias: f32| if bias.is_finite() { Value::from(bias) } else { Value::Null };
    let given = params.logit_bias.iter().map(|(token, bias)| json!({"token": token, "bias": finite(*bias)}));
    let ends = tokenizer.filter(|_| params.ignore_eos).into_iter().flat_map(|tokenizer| {
        (0..tokenizer.n_vocab() as u32).filter(|&token| tokenizer.is_end_of_generation(token))
    });
    given.chain(ends.map(|token| json!({"token": token, "bias": null}))).collect()
}
