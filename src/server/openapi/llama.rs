//! llama-server's interface.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::common::{adapters, model, options, prompt, sampling};
use super::operation::{Operation, TEXT};
use super::schema::{
    about, any_object, any_of, boolean, count, default, fields, list, number, object, one_of, or_null,
    reference, request, text, together, whole, whole_object,
};

const TAG: &str = "llama-server";

const OF_MODEL: &str = "Of a server without `--model`: the model that they are for.";

/// What there is.
pub fn operations() -> Vec<Operation> {
    let continued = || any_of([reference("CompletionResult"), list(reference("CompletionResult"))]);
    let parts = "With `stream`: the data of each event is a part of an answer; the last part of each answer has `stop`. An error in a stream is \
                 an event whose data is an `Error`.";
    vec![
        Operation::get(&["/health", "/v1/health"], TAG, "Whether requests are taken.")
            .answers(whole_object([("status", one_of(&["ok"]))]))
            .fails(StatusCode::SERVICE_UNAVAILABLE),
        Operation::post(&["/completion", "/completions"], TAG, "Continues texts.")
            .takes("NativeCompletionRequest")
            .answers(continued())
            .streams_events("CompletionPart", parts),
        Operation::post(&["/infill"], TAG, "Fills the gap between two texts.")
            .about("For models with tokens for it, such as Codestral.")
            .only(|offered| offered.infill)
            .takes("InfillRequest")
            .answers(continued())
            .streams_events("CompletionPart", parts),
        Operation::post(&["/tokenize"], TAG, "Turns a text into tokens.").takes("TokenizeRequest").answers(
            whole_object([(
                "tokens",
                list(any_of([
                    count(),
                    whole_object([("id", count()), ("piece", any_of([text(), list(whole(0, 255))]))]),
                ])),
            )]),
        ),
        Operation::post(&["/detokenize"], TAG, "Turns tokens into a text.")
            .takes("DetokenizeRequest")
            .answers(whole_object([("content", text())])),
        Operation::post(
            &["/apply-template"],
            TAG,
            "Writes a conversation as the prompt that the model reads.",
        )
        .takes("ConversationRequest")
        .answers(whole_object([("prompt", text())])),
        Operation::post(&["/embedding", "/embeddings"], TAG, "Turns texts into vectors.")
            .about("With `--pooling none`, a vector for each token.")
            .takes("NativeEmbeddingRequest")
            .answers(list(whole_object([("index", count()), ("embedding", list(list(number())))]))),
        Operation::get(&["/props"], TAG, "Tells how the server was started, and which model it has.")
            .query("model", text(), "Of a server without `--model`: the model to tell about.")
            .answers(any_of([reference("Props"), reference("RouterProps")]))
            .fails(StatusCode::NOT_FOUND)
            .fails(StatusCode::SERVICE_UNAVAILABLE),
        Operation::get(&["/props"], TAG, "Changes nothing yet; with `--props`.")
            .method("post")
            .only(|offered| offered.props)
            .takes_anything()
            .answers(whole_object([("success", boolean())])),
        Operation::post(&["/models/load"], TAG, "Has a model loaded, and does not wait for that.")
            .about("For a server without `--model`, as are the next two.")
            .takes("NamedModel")
            .answers(whole_object([("success", boolean())]))
            .only(|offered| offered.router),
        Operation::post(
            &["/models/unload"],
            TAG,
            "Takes a model out of memory, once its answers under way are over.",
        )
        .takes("NamedModel")
        .answers(whole_object([("success", boolean())]))
        .only(|offered| offered.router),
        Operation::get(&["/models/sse"], TAG, "Tells what becomes of models from now on.")
            .streams_events("ModelEvent", "The data of each event is a `ModelEvent`.")
            .only(|offered| offered.router),
        Operation::get(&["/slots"], TAG, "Tells what each slot is doing.")
            .query(
                "model",
                text(),
                "Of a server without `--model`: the model; without one, all that are loaded.",
            )
            .fails(StatusCode::NOT_FOUND)
            .only(|offered| offered.slots)
            .query("fail_on_no_slot", text(), "Anything but `0`: 503 if no slot is free.")
            .answers(list(reference("Slot")))
            .fails(StatusCode::SERVICE_UNAVAILABLE),
        Operation::get(&["/metrics"], TAG, "Counts and times in Prometheus' text format.")
            .only(|offered| offered.metrics)
            .answers_as(prometheus_client::encoding::prometheus_text::CONTENT_TYPE, text()),
        Operation::get(&["/lora-adapters"], TAG, "Lists the adapters (LoRA).")
            .query("model", text(), OF_MODEL)
            .answers(list(reference("Adapter")))
            .fails(StatusCode::BAD_REQUEST)
            .fails(StatusCode::NOT_FOUND)
            .fails(StatusCode::SERVICE_UNAVAILABLE),
        Operation::post(
            &["/lora-adapters"],
            TAG,
            "Sets the scales of adapters, for requests from now on that say nothing about them.",
        )
        .about("Those that are not in the list get 0.")
        .query("model", text(), OF_MODEL)
        .takes("AdapterScales")
        .answers(whole_object([("success", boolean())])),
        Operation::post(&["/lora-adapters/load"], TAG, "Reads an adapter from the folder of `--lora-dir`.")
            .takes("AdapterLoadRequest")
            .answers(reference("Adapter"))
            .fails(StatusCode::NOT_IMPLEMENTED),
        Operation::post(
            &["/lora-adapters/unload"],
            TAG,
            "Forgets an adapter. Answers under way go on with it.",
        )
        .takes("AdapterUnloadRequest")
        .answers(whole_object([("success", boolean())])),
    ]
}

/// What its requests and responses look like.
pub fn schemas() -> Vec<(&'static str, Value)> {
    let streaming = || {
        fields([
            ("stream", default(boolean(), false)),
            ("n", about(default(whole(1, 128), 1), "Answers to each prompt; 128 in all.")),
            ("return_tokens", boolean()),
            (
                "return_progress",
                about(boolean(), "Tells how far the prompt was read, under `prompt_progress`."),
            ),
            ("timings_per_token", boolean()),
            ("response_fields", about(list(text()), "Paths of the fields that the last part is to have.")),
        ])
    };
    let probabilities = || list(reference("LogProb"));
    let mut part = whole_object([
        ("index", count()),
        ("content", text()),
        ("tokens", list(count())),
        ("stop", boolean()),
        ("id_slot", whole(-1, i64::MAX)),
        ("tokens_predicted", count()),
        ("tokens_evaluated", count()),
    ]);
    let more = fields([
        ("completion_probabilities", probabilities()),
        ("timings", reference("Timings")),
        ("prompt_progress", reference("PromptProgress")),
    ]);
    part["properties"].as_object_mut().expect("an object").extend(more);
    // With `response_fields` there is only what they name.
    let result = object(
        &[],
        fields([
            ("index", count()),
            ("content", text()),
            ("tokens", list(count())),
            ("id_slot", count()),
            ("stop", json!({"const": true})),
            ("model", text()),
            ("tokens_predicted", count()),
            ("tokens_evaluated", count()),
            ("generation_settings", any_object()),
            ("prompt", text()),
            ("has_new_line", boolean()),
            ("truncated", about(boolean(), "The context is full. Nothing of a prompt is ever left out.")),
            ("stop_type", one_of(&["eos", "word", "limit"])),
            ("stopping_word", text()),
            ("tokens_cached", count()),
            ("timings", reference("Timings")),
            ("completion_probabilities", probabilities()),
        ]),
    );
    let native = || together([model(), fields([("prompt", prompt())]), streaming(), options(), sampling()]);
    vec![
        ("NativeCompletionRequest", request(&["prompt"], native())),
        ("InfillRequest", {
            let extra = request(&["text"], fields([("filename", text()), ("text", text())]));
            let own = fields([
                ("input_prefix", text()),
                ("input_suffix", text()),
                ("input_extra", list(extra)),
                ("prompt", about(text(), "Follows the prefix.")),
            ]);
            request(
                &["input_prefix", "input_suffix"],
                together([model(), own, streaming(), options(), sampling()]),
            )
        }),
        ("AdapterScales", list(reference("AdapterScale"))),
        (
            "Adapter",
            whole_object([
                ("id", count()),
                ("name", about(text(), "What `model` of a request may be, to have it act.")),
                ("path", text()),
                ("scale", number()),
                ("task_name", about(text(), "What its file says that it is for.")),
                ("prompt_prefix", about(text(), "What its file says that prompts begin with.")),
            ]),
        ),
        ("AdapterLoadRequest", {
            let path = about(text(), "A GGUF file, or a folder of PEFT, in the folder of `--lora-dir`.");
            let name = about(text(), "What it is called; by default, as its file.");
            let own = fields([("path", path), ("name", name), ("scale", default(number(), 1))]);
            request(&["path"], together([model(), own]))
        }),
        ("AdapterUnloadRequest", request(&["id"], together([model(), fields([("id", count())])]))),
        ("CompletionPart", any_of([part, reference("CompletionResult")])),
        ("CompletionResult", result),
        (
            "TokenizeRequest",
            request(
                &[],
                together([
                    model(),
                    fields([
                        ("content", any_of([text(), list(any_of([whole(0, u32::MAX.into()), text()]))])),
                        ("add_special", default(boolean(), false)),
                        ("parse_special", default(boolean(), true)),
                        ("with_pieces", default(boolean(), false)),
                    ]),
                ]),
            ),
        ),
        (
            "DetokenizeRequest",
            request(&[], together([model(), fields([("tokens", list(whole(0, u32::MAX.into())))])])),
        ),
        ("NativeEmbeddingRequest", {
            let texts = fields([("content", prompt()), ("input", about(prompt(), "In place of `content`."))]);
            let mut native = request(&[], together([model(), texts, fields([adapters()])]));
            native["anyOf"] = json!([
                {"required": ["content"], "properties": {"content": reference("Prompt")}},
                {"required": ["input"], "properties": {"input": reference("Prompt")}},
            ]);
            native
        }),
        (
            "NamedModel",
            request(&["model"], fields([("model", about(text(), "Its name, as `/v1/models` has it."))])),
        ),
        (
            "ModelEvent",
            whole_object([
                ("model", text()),
                ("event", one_of(&["model_status", "models_reload"])),
                ("data", or_null(any_object())),
            ]),
        ),
        (
            "RouterProps",
            object(
                &["role", "max_instances", "models_autoload"],
                fields([
                    ("role", one_of(&["router"])),
                    ("max_instances", about(count(), "Models in memory at a time; 0: any number.")),
                    ("models_autoload", boolean()),
                ]),
            ),
        ),
        (
            "Props",
            whole_object([
                ("default_generation_settings", whole_object([("n_ctx", count()), ("params", any_object())])),
                ("total_slots", count()),
                ("model_alias", text()),
                ("model_path", text()),
                ("modalities", whole_object([("vision", boolean()), ("audio", boolean())])),
                ("endpoint_slots", boolean()),
                ("endpoint_props", boolean()),
                ("endpoint_metrics", boolean()),
                ("chat_template", text()),
                ("bos_token", text()),
                ("eos_token", text()),
                ("build_info", text()),
                ("is_sleeping", boolean()),
            ]),
        ),
        (
            "Slot",
            whole_object([
                ("id", count()),
                ("id_task", whole(-1, i64::MAX)),
                ("n_ctx", count()),
                ("speculative", boolean()),
                ("is_processing", boolean()),
                ("n_prompt_tokens", count()),
                ("n_prompt_tokens_processed", count()),
                ("n_prompt_tokens_cache", count()),
                (
                    "next_token",
                    list(whole_object([
                        ("has_next_token", boolean()),
                        ("n_remain", or_null(whole(-1, i64::MAX))),
                        ("n_decoded", count()),
                    ])),
                ),
            ]),
        ),
    ]
}

/// The page, and what stands at the root.
pub fn root() -> Vec<Operation> {
    let tag = "Server";
    vec![
        Operation::get(
            &["/"],
            tag,
            "The chat page, for those who ask for HTML; for others, that the server runs.",
        )
        .answers_as("text/html; charset=utf-8", text())
        .answers_as(TEXT, text()),
        Operation::get(&["/ui/{name}"], tag, "Files of the chat page.")
            .only(|offered| offered.page)
            .part("name", json!({"type": "string", "minLength": 1}), "The path of a file.")
            .answers_as("*/*", text())
            .fails(StatusCode::BAD_REQUEST)
            .fails(StatusCode::NOT_FOUND),
        Operation::get(&["/openapi.json"], tag, "This description.").answers(any_object()),
    ]
}
