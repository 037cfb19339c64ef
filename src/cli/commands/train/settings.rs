//! What a run that goes on must have been asked for before.

use bise::Engine;
use bise::gguf::Value;
use bise::train::{ScheduleKind, Settings, identities};
use bise_models::RopeScaling;

use super::Run;

/// What the result of a run depends on.
pub fn of(run: &Run<'_>) -> Settings {
    let (args, steps) = (run.args, &run.args.steps);
    let mut settings = Settings::default();
    let [model, initial] = identities(run.engine, &run.adapter.adapter);
    settings.set_of("the model", format_args!("{model:032x}"), parts(run.engine));
    settings.set("--mask-prompt", args.mask_prompt);
    settings.set("--max-seq-length", args.max_seq_length);
    settings.set("the rows of --data", format_args!("{:032x}", run.data.train.hash()));
    settings.set("--lr", run.schedule.lr);
    settings.set("--schedule", run.schedule.kind.name());
    settings.set("--warmup", run.schedule.n_warmup);
    // A constant rate does not depend on how long the run is: it may go on.
    if run.schedule.kind != ScheduleKind::Constant {
        settings.set("--iters (or --epochs)", run.schedule.n_steps);
    }
    settings.set("--batch-size times --grad-accum", run.order.rows_per_step);
    settings.set("--weight-decay", steps.weight_decay);
    settings.set("--clip", steps.clip);
    settings.set("--seed", steps.seed);
    settings.set("--no-shuffle", steps.no_shuffle);
    settings.set("--exact", steps.exact);
    settings.set("--dropout", args.adapter.dropout);
    let config = &run.adapter.config;
    settings.set("--rank", config.rank);
    settings.set("--alpha", config.alpha);
    settings.set("--rslora", config.use_rslora);
    settings.set("--targets and --num-layers", run.adapter.shown_targets());
    settings.set("the first adapter (--init)", format_args!("{initial:032x}"));
    settings
}

/// The longest text in the metadata that is shown.
const MAX_TEXT: usize = 100;

/// What is known of the model: what flags change, by their names, and then the metadata, but for lists and long texts.
fn parts(engine: &Engine) -> Vec<(String, String)> {
    let config = engine.config();
    let rope = &config.rope;
    let kind = match rope.scaling {
        RopeScaling::None => "none",
        RopeScaling::Linear { .. } => "linear",
        RopeScaling::Yarn { .. } => "yarn",
    };
    let factor = match rope.scaling {
        RopeScaling::None => 1.0,
        RopeScaling::Linear { factor } | RopeScaling::Yarn { factor, .. } => factor,
    };
    let mut parts = vec![
        ("--sliding-window".to_owned(), config.sliding_window.unwrap_or(0).to_string()),
        ("--rope-freq-base".to_owned(), rope.base.to_string()),
        ("--rope-scaling".to_owned(), kind.to_owned()),
        ("--rope-scale".to_owned(), factor.to_string()),
    ];
    if let RopeScaling::Yarn { original_ctx, beta_fast, beta_slow, .. } = rope.scaling {
        parts.push(("--yarn-orig-ctx".to_owned(), original_ctx.to_string()));
        parts.push(("--yarn-beta-fast".to_owned(), beta_fast.to_string()));
        parts.push(("--yarn-beta-slow".to_owned(), beta_slow.to_string()));
    }
    let shown = |value: &Value| match value {
        Value::U8(x) => Some(x.to_string()),
        Value::I8(x) => Some(x.to_string()),
        Value::U16(x) => Some(x.to_string()),
        Value::I16(x) => Some(x.to_string()),
        Value::U32(x) => Some(x.to_string()),
        Value::I32(x) => Some(x.to_string()),
        Value::U64(x) => Some(x.to_string()),
        Value::I64(x) => Some(x.to_string()),
        Value::F32(x) => Some(x.to_string()),
        // As it is used.
        Value::F64(x) => Some((*x as f32).to_string()),
        Value::Bool(x) => Some(x.to_string()),
        Value::Str(text) => {
            std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_TEXT).map(str::to_owned)
        }
        Value::Array(_) => None,
    };
    let metadata = engine.file().metadata().iter();
    let metadata = metadata.filter_map(|(key, value)| Some((format!("the model's {key}"), shown(value)?)));
    parts.extend(metadata);
    parts
}
