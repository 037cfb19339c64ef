//! Parameters of Modelfiles, and the flags of the command line that are stronger than they.

/// Ollama's names, and the long flags.
pub const FLAGS: &[(&str, &str)] = &[
    ("temperature", "temp"),
    ("top_k", "top-k"),
    ("top_p", "top-p"),
    ("min_p", "min-p"),
    ("typical_p", "typical"),
    ("seed", "seed"),
    ("repeat_penalty", "repeat-penalty"),
    ("repeat_last_n", "repeat-last-n"),
    ("presence_penalty", "presence-penalty"),
    ("frequency_penalty", "frequency-penalty"),
    ("mirostat", "mirostat"),
    ("mirostat_tau", "mirostat-ent"),
    ("mirostat_eta", "mirostat-lr"),
    ("num_ctx", "ctx-size"),
    ("num_predict", "n-predict"),
    ("num_keep", "keep"),
    ("num_batch", "batch-size"),
    ("num_thread", "threads"),
    ("stop", "reverse-prompt"),
];

/// Whether a flag that was given says otherwise. `typed` has the long names of those.
pub fn is_overridden(parameter: &str, typed: &[String]) -> bool {
    FLAGS.iter().any(|(name, flag)| *name == parameter && typed.iter().any(|long| long == flag))
}

/// Ollama's names of what a Modelfile's `params` or a flag that was given sets.
pub fn set(params: &serde_json::Map<String, serde_json::Value>, typed: &[String]) -> Vec<String> {
    let flags = FLAGS.iter().map(|(name, _)| *name).filter(|name| is_overridden(name, typed));
    params.keys().map(String::as_str).chain(flags).map(str::to_owned).collect()
}
