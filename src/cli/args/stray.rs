//! Words that belong to no flag: what to type instead.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// What to say of `word`, which belongs to no flag and stands between other words.
pub fn advice(
    word: &OsStr,
    before: &[OsString],
    after: &[OsString],
    command: &clap::Command,
    root: &clap::Command,
) -> String {
    let word = word.to_string_lossy();
    let quoted = quote(&word);
    let first = before.is_empty();
    if !std::ptr::eq(command, root) {
        let name = command.get_name();
        if command.has_subcommands() {
            let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            return format!("`bise {name}` has no command '{word}': expected one of {}", names.join(", "));
        }
        let typed = command.get_bin_name().map_or_else(|| format!("bise {name}"), str::to_owned);
        let flag = match (is_model(&word), name) {
            (true, _) => "-m",
            (false, "perplexity" | "logits") => "-f",
            (false, "bench") => return format!("unexpected argument '{word}' found"),
            (false, _) => "-p",
        };
        return match find_flag(flag, command) {
            true => format!("found '{word}' without a flag: type `{typed} {flag} {quoted}`"),
            false => format!("unexpected argument '{word}' found"),
        };
    }
    if root.find_subcommand(word.as_ref()).is_some() {
        let others: String =
            before.iter().chain(after).map(|word| format!(" {}", quote(&word.to_string_lossy()))).collect();
        return format!("'{word}' is a command and comes first: type `bise {word}{others}`");
    }
    if is_model(&word) {
        return format!("found '{word}' without a flag: type `bise -m {quoted}`");
    }
    if first && let Some(advice) = other_programs_command(&word) {
        return format!("bise has no command '{word}': {advice}");
    }
    let near = root
        .get_subcommands()
        .map(|sub| (strsim::jaro_winkler(&word, sub.get_name()), sub.get_name()))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, name)) if first && likeness > 0.85 => {
            format!("bise has no command '{word}': did you mean `bise {name}`?")
        }
        _ => format!(
            "found '{word}' without a flag: for a prompt type `bise -p {quoted}`, for a model `bise -m FILE.gguf`"
        ),
    }
}

/// Commands of ollama, llama.cpp and the like.
fn other_programs_command(word: &str) -> Option<String> {
    let advice = match word {
        "generate" | "complete" | "completion" | "cli" | "main" | "prompt" => {
            "`bise -m FILE.gguf -p TEXT` goes on from a text"
        }
        "serve" => "this program was built without the feature `server`",
        "server" | "start" => "`bise serve -m FILE.gguf` serves a model over HTTP",
        "run" | "pull" | "list" | "rm" | "cp" | "create" | "ps" | "stop" => {
            "this program was built without downloads; models are files, and `bise -m FILE.gguf` runs one"
        }
        "download" | "get" | "fetch" => "`bise pull NAME` downloads a model",
        "push" => "models are published by other programs (hf upload, ollama push)",
        "show" | "info" => "`bise inspect FILE.gguf` shows what is in a model",
        "version" => "type `bise --version`",
        "compare" => "this program was built without the feature `compare`",
        "convert" | "lora" => "this program was built without the feature `convert`",
        "eval" => "this program was built without the feature `eval`",
        "quantize" | "imatrix" | "split" | "merge" => "this program was built without the feature `quantize`",
        "finetune" if cfg!(feature = "train") => {
            "`bise train -m FILE.gguf --data FOLDER -o FOLDER` trains an adapter (LoRA)"
        }
        "train" | "finetune" => "this program was built without the feature `train`",
        "export-lora" | "merge-lora" if cfg!(feature = "convert") => {
            "`bise lora merge -m FILE.gguf --lora ADAPTER -o OUT.gguf` does that"
        }
        "export-lora" | "merge-lora" => "this program was built without the feature `convert`",
        "embed" => "`bise embedding -m FILE.gguf -p TEXT` prints a text as a vector",
        _ => return None,
    };
    Some(advice.to_string())
}

/// Whether a word is the name of a model: a file, or what ends like one.
fn is_model(word: &str) -> bool {
    let path = Path::new(word);
    let endings = ["gguf", "ggml", "bin", "safetensors", "onnx", "pt", "pth"];
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    match extension {
        Some(extension) if endings.contains(&extension.as_str()) => true,
        Some(extension) if ["txt", "md", "npy", "json"].contains(&extension.as_str()) => false,
        _ => path.is_file(),
    }
}

fn find_flag(flag: &str, command: &clap::Command) -> bool {
    command.get_arguments().any(|arg| arg.get_short() == flag.chars().nth(1))
}

/// A word as a shell wants it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commands that builds may lack are looked up here only where they do.
    #[test]
    fn a_command_that_was_left_out_names_its_feature() {
        for (feature, commands) in [
            ("compare", &["compare"][..]),
            ("convert", &["convert", "lora"]),
            ("eval", &["eval"]),
            ("quantize", &["quantize", "imatrix", "split", "merge"]),
            ("server", &["serve"]),
            ("train", &["train"]),
        ] {
            for command in commands {
                let expected = format!("this program was built without the feature `{feature}`");
                assert_eq!(other_programs_command(command), Some(expected), "{command}");
            }
        }
    }

    #[test]
    fn commands_that_are_told_are_there() {
        let root = crate::cli::command_line::define();
        for word in ["finetune", "export-lora", "embed", "completion", "server", "download", "info"] {
            let advice = other_programs_command(word).unwrap();
            let told = advice.split('`').nth(1).unwrap_or_default().split(' ').nth(1).unwrap_or_default();
            let is_there = told.starts_with('-') || root.find_subcommand(told).is_some();
            assert!(is_there || advice.contains("built without"), "{word}: {advice}");
        }
    }
}
