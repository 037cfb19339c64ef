//! What requests of several interfaces may say, and what comes back with their answers.

use serde_json::{Value, json};

use super::schema::{
    Fields, about, any_object, any_of, boolean, count, default, fields, list, number, object, one_of,
    positive, reference, request, text, whole, whole_object,
};

/// Parameters of the sampler, by llama-server's names.
pub fn sampling() -> Fields {
    let last_n = || whole(-1, i32::MAX.into());
    fields([
        ("temperature", about(number(), "0 or less always takes the likeliest token.")),
        ("dynatemp_range", number()),
        ("dynatemp_exponent", number()),
        ("top_k", about(whole(i32::MIN.into(), i32::MAX.into()), "0 or less keeps all tokens.")),
        ("top_p", number()),
        ("min_p", number()),
        ("top_n_sigma", number()),
        ("xtc_probability", number()),
        ("xtc_threshold", number()),
        ("typical_p", number()),
        ("repeat_last_n", about(last_n(), "Tokens that penalties look back on; -1 is the whole context.")),
        ("repeat_penalty", positive()),
        ("presence_penalty", number()),
        ("frequency_penalty", number()),
        ("dry_multiplier", number()),
        ("dry_base", number()),
        ("dry_allowed_length", whole(0, i32::MAX.into())),
        ("dry_penalty_last_n", last_n()),
        ("dry_sequence_breakers", list(text())),
        ("mirostat", whole(0, 2)),
        ("mirostat_tau", number()),
        ("mirostat_eta", number()),
        ("min_keep", whole(0, u32::MAX.into())),
        ("seed", about(whole(i64::MIN, i64::MAX), "-1 is a random one. The lower 32 bits of others count.")),
        ("ignore_eos", boolean()),
        ("logit_bias", logit_bias()),
        (
            "samplers",
            about(any_of([list(text()), text()]), "The order of the chain, by names or by a letter each."),
        ),
    ])
}

fn logit_bias() -> Value {
    let bias = || any_of([number(), json!({"const": false})]);
    let token = any_of([whole(0, u32::MAX.into()), text()]);
    let pair = json!({"type": "array", "prefixItems": [token, bias()], "items": false, "minItems": 2});
    let object = json!({"type": "object", "additionalProperties": bias()});
    let description =
        "What is added to the logits of tokens, which are given by number or by text; `false` rules one out.";
    about(any_of([object, list(pair)]), description)
}

/// What else OpenAI's and llama-server's requests have in common.
pub fn options() -> Fields {
    let limit = || about(whole(-2, i64::MAX), "Tokens of the answer at most; -1 is no limit.");
    fields([
        ("max_completion_tokens", limit()),
        ("max_tokens", limit()),
        ("n_predict", limit()),
        ("stop", about(any_of([text(), list(text())]), "Texts that end the answer.")),
        ("cache_prompt", default(boolean(), true)),
        ("id_slot", about(whole(-1, i32::MAX.into()), "The slot to run in; -1 is any.")),
        ("n_probs", about(whole(0, 1024), "The likeliest tokens that are told beside each one chosen.")),
        ("post_sampling_probs", boolean()),
        ("response_format", reference("ResponseFormat")),
        ("json_schema", about(any_of([any_object(), boolean()]), "A JSON schema that the answer follows.")),
        ("grammar", about(text(), "A grammar in GBNF that the answer follows.")),
        adapters(),
    ])
}

/// The adapters that act on a request.
pub fn adapters() -> (&'static str, Value) {
    let description = "Adapters and their scales; those that are not named do not act. Without it, the one that `model` names acts, or else \
                       those of `/lora-adapters` with the scales they have there.";
    ("lora", about(list(reference("AdapterScale")), description))
}

/// Whether an answer is streamed, and what a stream has besides.
pub fn streaming() -> Fields {
    fields([
        ("stream", default(boolean(), false)),
        ("stream_options", request(&[], fields([("include_usage", boolean())]))),
        ("return_progress", about(boolean(), "Tells how far the prompt was read, under `prompt_progress`.")),
        ("timings_per_token", boolean()),
    ])
}

/// Which model is asked for.
pub fn model() -> Fields {
    fields([(
        "model",
        about(
            text(),
            "Where one model is served, any name stands for it. The name of an adapter stands for its model with it.",
        ),
    )])
}

/// A prompt without a template.
pub fn prompt() -> Value {
    about(reference("Prompt"), "A text, tokens, both in one list, or a list of such prompts.")
}

/// Schemas that several interfaces refer to.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let token = || whole(0, u32::MAX.into());
    let part = || any_of([token(), text()]);
    let nonempty = |items: Value| json!({"type": "array", "items": items, "minItems": 1});
    let mut failed = whole_object([("code", whole(400, 599)), ("message", text()), ("type", text())]);
    let more = [
        ("param", about(text(), "The field that something is wrong with.")),
        ("n_prompt_tokens", about(count(), "With `exceed_context_size_error`: the tokens of the prompt.")),
        ("n_ctx", about(count(), "With `exceed_context_size_error`: the tokens that there is room for.")),
    ];
    failed["properties"].as_object_mut().expect("an object").extend(fields(more));
    vec![
        ("Error", whole_object([("error", failed)])),
        (
            "AdapterScale",
            request(
                &["id", "scale"],
                fields([("id", count()), ("scale", about(number(), "1 is as the adapter was made."))]),
            ),
        ),
        (
            "ResponseFormat",
            request(
                &["type"],
                fields([
                    ("type", one_of(&["text", "json_object", "json_schema"])),
                    ("schema", any_of([any_object(), boolean()])),
                    ("json_schema", request(&[], fields([("schema", any_of([any_object(), boolean()]))]))),
                ]),
            ),
        ),
        ("Prompt", any_of([text(), nonempty(part()), nonempty(any_of([text(), nonempty(part())]))])),
        ("Tool", {
            let function = request(
                &["name"],
                fields([
                    ("name", text()),
                    ("description", text()),
                    ("parameters", about(any_object(), "A JSON schema of the arguments.")),
                    ("strict", boolean()),
                ]),
            );
            request(&["type", "function"], fields([("type", one_of(&["function"])), ("function", function)]))
        }),
        (
            "Usage",
            whole_object([
                ("prompt_tokens", count()),
                ("completion_tokens", count()),
                ("total_tokens", count()),
                ("prompt_tokens_details", whole_object([("cached_tokens", count())])),
            ]),
        ),
        (
            "Timings",
            whole_object([
                ("cache_n", about(count(), "Tokens of the prompt that were found in the cache.")),
                ("prompt_n", about(count(), "Tokens of the prompt that were read.")),
                ("prompt_ms", number()),
                ("prompt_per_token_ms", number()),
                ("prompt_per_second", number()),
                ("predicted_n", count()),
                ("predicted_ms", number()),
                ("predicted_per_token_ms", number()),
                ("predicted_per_second", number()),
            ]),
        ),
        (
            "PromptProgress",
            whole_object([
                ("total", count()),
                ("cache", count()),
                ("processed", count()),
                ("time_ms", count()),
            ]),
        ),
        ("LogProb", {
            let token =
                [("id", count()), ("token", text()), ("bytes", list(whole(0, 255))), ("logprob", number())];
            let top = list(whole_object(token.clone()));
            let mut log_prob = object(&[], fields(token));
            log_prob["properties"]["top_logprobs"] = top;
            log_prob["properties"]["prob"] =
                about(number(), "In place of `logprob`, with `post_sampling_probs`.");
            log_prob["required"] = json!(["id", "token", "bytes"]);
            log_prob
        }),
    ]
}
