//! `--infill` asks a model with Codestral's vocabulary in the tokens of `mistral_common`.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;

use std::fs::File;
use std::path::{Path, PathBuf};

use bise::gguf::{Array, GgufWriter, StrArray, TensorType, Value, WriteError};
use cli_support::Folder;

const WIDTH: usize = 32;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/golden").join(name)
}

/// A model of zeros with the vocabulary of Codestral (32,768 tokens, with `[PREFIX]` and `[SUFFIX]`).
fn codestral(folder: &Folder) -> PathBuf {
    let file = flate2::read::GzDecoder::new(File::open(golden("v3.json.gz")).unwrap());
    let vocabulary: serde_json::Value = serde_json::from_reader(std::io::BufReader::new(file)).unwrap();
    let list = |key: &str| vocabulary[key].as_array().unwrap();
    let tokens: Vec<&str> = list("tokens").iter().map(|token| token.as_str().unwrap()).collect();
    let n_vocab = tokens.len();

    let mut writer = GgufWriter::new();
    let mut set = |key: &str, value: Value| writer.metadata_mut().set(key, value);
    set("general.architecture", "llama".into());
    for (key, count) in [
        ("context_length", 256),
        ("embedding_length", WIDTH),
        ("block_count", 1),
        ("feed_forward_length", WIDTH),
        ("attention.head_count", 1),
    ] {
        set(&format!("llama.{key}"), (count as u32).into());
    }
    set("llama.attention.layer_norm_rms_epsilon", 1e-5_f32.into());
    set("tokenizer.ggml.model", "llama".into());
    set("tokenizer.ggml.tokens", Value::Array(Array::Str(tokens.iter().copied().collect::<StrArray>())));
    let scores = list("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect();
    set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    let types = list("types").iter().map(|kind| kind.as_i64().unwrap() as i32).collect();
    set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    for (key, id) in [("bos", 1_u32), ("eos", 2), ("unknown", 0)] {
        set(&format!("tokenizer.ggml.{key}_token_id"), id.into());
    }

    let square = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let norms =
        ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"].map(|name| (name.to_owned(), vec![WIDTH]));
    let tensors: Vec<(String, Vec<usize>)> = [("token_embd".to_owned(), vec![WIDTH, n_vocab])]
        .into_iter()
        .chain(norms)
        .chain(square.map(|name| (format!("blk.0.{name}"), vec![WIDTH, WIDTH])))
        .collect();
    for (name, shape) in &tensors {
        writer.add_tensor(&format!("{name}.weight"), shape, TensorType::F32).unwrap();
    }
    let path = folder.path("codestral.gguf");
    let fill = |out: &mut bise::gguf::GgufDataWriter<_>| {
        tensors.iter().try_for_each(|(_, shape)| out.write(&vec![0; 4 * shape.iter().product::<usize>()]))
    };
    writer.save::<WriteError>(&path, fill).unwrap();
    path
}

/// The ids that `--verbose-prompt` lists, a line each: `id -> 'piece'`.
fn listed(stderr: &str) -> Vec<u32> {
    stderr.lines().filter_map(|line| line.split_once(" -> ")?.0.trim().parse().ok()).collect()
}

#[test]
fn codestral_is_asked_in_the_tokens_of_mistral_common() {
    let folder = Folder::new();
    let model = codestral(&folder);
    let cases: Vec<serde_json::Value> =
        serde_json::from_reader(File::open(golden("infill.json")).unwrap()).unwrap();
    let mut checked = 0;
    for case in cases.iter().filter(|case| case["vocabulary"] == "v3") {
        let want: Vec<u32> =
            case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let (prefix, suffix) = (case["prefix"].as_str().unwrap(), case["suffix"].as_str().unwrap());
        folder.write("head", prefix);
        folder.write("tail", suffix);
        let common = ["-m", model.to_str().unwrap(), "--infill", "-n", "1", "-t", "1", "--verbose-prompt"];
        let from_files = ["--in-prefix", "@head", "--in-suffix", "@tail"];
        let as_typed = ["--no-escape", "--in-prefix", prefix, "--in-suffix", suffix];
        for sides in [&from_files[..], &as_typed] {
            let ran = folder.bise([&common, sides].concat()).ok();
            assert_eq!(listed(&ran.stderr), want, "{prefix:?} … {suffix:?}: {}", ran.stderr);
        }
        checked += 1;
    }
    assert!(checked >= 10, "{checked}");
}
