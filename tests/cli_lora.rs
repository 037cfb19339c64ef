//! `bise lora` against PEFT and llama.cpp's converter.

#![cfg(all(feature = "cli", feature = "convert"))]

mod adapter_support;
mod cli_support;

use std::collections::BTreeMap;
use std::path::Path;

use adapter_support::{Fixture, names, oracle, write_tensors};
use bise::gguf::GgufFile;
use cli_support::Folder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The first 24 logits at each position.
fn logits(folder: &Folder, model: &Path, tokens: &[u32]) -> Vec<Vec<f32>> {
    let tokens: Vec<String> = tokens.iter().map(ToString::to_string).collect();
    let out = folder.path("logits.npy");
    let tokens = tokens.join(",");
    let line = ["logits", "-m", text(model), "--tokens", &tokens, "-o", text(&out), "-t", "1"];
    folder.bise(line.into_iter().chain(["-ctk", "f32", "-ctv", "f32"])).ok();
    let bytes = std::fs::read(&out).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values = bytes[header..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let values: Vec<f32> = values.collect();
    assert_eq!(values.len() % 272, 0);
    values.chunks(272).map(|row| row[..24].to_vec()).collect()
}

#[track_caller]
fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>], name: &str) {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let error = pairs.map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    assert!(error < 1e-3, "{name}: {error}");
}

#[test]
fn merged_models_have_the_logits_of_peft() {
    let names = names(false);
    assert_eq!(names.len(), 13);
    for name in names {
        let (fixture, folder) = (Fixture::load(&name), Folder::new());
        let (peft, gguf) = (folder.path("peft"), folder.path("adapter.gguf"));
        fixture.write(&peft);
        let base = fixture.base();
        folder.bise(["lora", "convert", text(&peft), "-m", text(&base), "-o", text(&gguf)]).ok();
        let expected = fixture.logits();
        for adapter in [&peft, &gguf] {
            let merged = folder.path("merged.gguf");
            let line =
                ["lora", "merge", "-m", text(&base), "--lora", text(adapter), "-o", text(&merged), "--force"];
            folder.bise(line).ok();
            assert_near(&logits(&folder, &merged, &fixture.tokens()), &expected, &name);
        }
    }
}

/// Alphas that are not PEFT's `lora_alpha`, which llama.cpp's converter writes and `bise` does not; and how many parts have B multiplied.
const OTHER_ALPHAS: [(&str, f32, usize); 4] = [
    // 16 · √8.
    ("rslora", 45.254_834, 0),
    // 8 · √4 for half of the parts, 8 · √9 for the others.
    ("rslora-patterns", 16.0, 2),
    ("patterns", 8.0, 7),
    // llama.cpp takes 0 for the rank, where PEFT adds nothing.
    ("alpha-0", 2.0, 2),
];

#[test]
fn gguf_files_are_those_of_llama_cpp() {
    let mut n_compared = 0;
    for name in names(false) {
        let (fixture, folder) = (Fixture::load(&name), Folder::new());
        let Some(expected) = fixture.json["gguf"].as_object() else { continue };
        let peft = folder.path("my-adapter");
        fixture.write(&peft);
        let base = fixture.base();
        let lora_alpha = expected["alpha"].as_f64().unwrap() as f32;
        let other = OTHER_ALPHAS.into_iter().find(|(other, ..)| *other == name);
        let (alpha, n_folded) = other.map_or((lora_alpha, 0), |(_, alpha, n_folded)| (alpha, n_folded));
        for (i, out_type) in ["f32", "f16", "bf16", "q8_0"].into_iter().enumerate() {
            let ran =
                folder.bise(["lora", "convert", "my-adapter", "-m", text(&base), "--outtype", out_type]).ok();
            assert_eq!(ran.stderr.contains("their B is multiplied"), n_folded > 0, "{name}: {}", ran.stderr);
            let file = GgufFile::open(folder.path(&format!("my-adapter-{out_type}.gguf"))).unwrap();
            let meta = file.metadata();
            assert_eq!(meta.f32("adapter.lora.alpha").unwrap(), Some(alpha), "{name}");
            assert_eq!(meta.str("general.type").unwrap(), Some("adapter"));
            assert_eq!(meta.str("adapter.type").unwrap(), Some("lora"));
            assert_eq!(meta.u32("general.quantization_version").unwrap(), Some(2));
            assert_eq!(meta.str("general.name").unwrap(), Some("my adapter"));
            let tensors = expected["tensors"].as_object().unwrap();
            assert_eq!(file.tensors().len(), tensors.len(), "{name}");
            let mut others = Vec::new();
            for tensor in file.tensors() {
                let sizes: Vec<_> = tensor.shape.iter().map(ToString::to_string).collect();
                let digest = Sha256::digest(&*file.bytes(tensor));
                let digest: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
                let mut words = tensors[&tensor.name].as_str().unwrap().split(' ');
                assert_eq!(words.next(), Some(&*sizes.join("x")), "{name}: {}", tensor.name);
                if words.nth(i) != Some(&*format!("{}:{digest}", tensor.tensor_type)) {
                    others.push(tensor.name.clone());
                }
            }
            assert_eq!(others.len(), n_folded, "{name}, {out_type}: {others:?}");
            assert!(others.iter().all(|tensor| tensor.ends_with(".lora_b")), "{name}: {others:?}");
            n_compared += 1;
        }
    }
    assert!(n_compared >= 40, "{n_compared}");
}

/// The tensors of a folder, by name.
fn tensors_of(folder: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(tensor).collect()
}

#[test]
fn a_folder_becomes_a_file_and_a_folder_again() {
    for (name, out_type) in
        [("rslora", "f16"), ("patterns", "bf16"), ("one-layer", "f32"), ("mixtral", "f32")]
    {
        let (mut fixture, folder) = (Fixture::load(name), Folder::new());
        // What makes up for other alphas is rounded.
        fixture.config().insert("alpha_pattern".into(), json!({}));
        let (peft, gguf, again) = (folder.path("a"), folder.path("a.gguf"), folder.path("b"));
        fixture.write(&peft);
        let base = fixture.base();
        folder.bise(["lora", "convert", "a", "-m", text(&base), "-o", "a.gguf", "--outtype", out_type]).ok();
        let line = ["lora", "convert", "a.gguf", "-m", text(&base), "-o", "b", "--outtype", out_type];
        folder.bise(line.into_iter().chain(["--base-model-id", "owner/name"])).ok();
        assert!(tensors_of(&peft) == tensors_of(&again), "{name}");
        let config: Value =
            serde_json::from_slice(&std::fs::read(again.join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!(config["base_model_name_or_path"], "owner/name");
        assert_eq!(config["r"], fixture.json["config"]["r"], "{name}");
        // And once more.
        folder.bise(["lora", "convert", "b", "-m", text(&base), "-o", "b.gguf", "--outtype", out_type]).ok();
        let tensors = |path: &Path| -> BTreeMap<String, Vec<u8>> {
            let file = GgufFile::open(path).unwrap();
            file.tensors().map(|tensor| (tensor.name.clone(), file.bytes(tensor).to_vec())).collect()
        };
        assert!(tensors(&gguf) == tensors(&folder.path("b.gguf")), "{name}");
    }
}

#[test]
fn what_peft_cannot_do_with_lora_alone_is_refused_by_name() {
    let names = names(true);
    assert_eq!(names.len(), 15);
    for name in names {
        let (fixture, folder) = (Fixture::load(&name), Folder::new());
        fixture.write(&folder.path("a"));
        let word = fixture.json["refused"].as_str().unwrap();
        let base = fixture.base();
        let line = ["lora", "convert", "a", "-m", text(&base), "-o", "a.gguf"];
        let error = folder.bise(line);
        let error = error.error();
        assert!(error.contains(word) && error.contains("is not supported: "), "{name}: {error}");
        assert_eq!(folder.names(), ["a"]);
    }
}

#[test]
fn names_come_in_many_forms() {
    let plain = Fixture::load("one-layer");
    let base = plain.base();
    let merged = |change: &dyn Fn(&mut Fixture)| {
        let (mut fixture, folder) = (Fixture::load("one-layer"), Folder::new());
        change(&mut fixture);
        fixture.write(&folder.path("a"));
        folder.bise(["lora", "merge", "-m", text(&base), "--lora", "a", "-o", "m.gguf"]).ok();
        std::fs::read(folder.path("m.gguf")).unwrap()
    };
    // The values stay those of the first names.
    let expected = merged(&|_| {});
    for (from, to) in [
        (".weight", ".default.weight"),
        (".weight", ".my-adapter.weight"),
        ("base_model.model.", ""),
        ("model.layers", "language_model.layers"),
        ("model.model.layers", "model.model.language_model.layers"),
        ("model.model.layers", "model.language_model.model.layers"),
    ] {
        assert!(
            merged(&|fixture| fixture.rename(|name| name.replace(from, to))) == expected,
            "{from} → {to}"
        );
    }
    for key in ["fan_in_fan_out", "inference_mode"] {
        let changed = merged(&|fixture| drop(fixture.config().insert(key.into(), true.into())));
        assert!(changed == expected, "{key}");
    }
    // Several files with an index.
    let folder = Folder::new();
    plain.write_config(&folder.path("a"));
    let mut index = serde_json::Map::new();
    for (i, tensors) in plain.tensors.chunks(2).enumerate() {
        let name = format!("adapter_model-{:05}-of-00002.safetensors", i + 1);
        write_tensors(&folder.path("a").join(&name), tensors);
        index.extend(tensors.iter().map(|tensor| (tensor.0.clone(), name.clone().into())));
    }
    let index = json!({ "metadata": {}, "weight_map": index }).to_string();
    std::fs::write(folder.path("a/adapter_model.safetensors.index.json"), index).unwrap();
    let merge = |force: &[&'static str]| {
        let line = ["lora", "merge", "-m", text(&base), "--lora", "a", "-o", "m.gguf"];
        folder.bise(line.into_iter().chain(force.iter().copied()))
    };
    merge(&[]).ok();
    assert!(std::fs::read(folder.path("m.gguf")).unwrap() == expected);
    // One of them is missing.
    std::fs::remove_file(folder.path("a/adapter_model-00002-of-00002.safetensors")).unwrap();
    let ran = merge(&["--force"]);
    assert!(ran.error().contains("adapter_model-00002-of-00002.safetensors"), "{}", ran.stderr);
    assert!(std::fs::read(folder.path("m.gguf")).unwrap() == expected, "what was there stays");
}

#[test]
fn what_does_not_fit_is_told() {
    let base = oracle("plain_f32");
    let refused = |change: &dyn Fn(&mut Fixture), words: &[&str]| {
        let (mut fixture, folder) = (Fixture::load("alpha-0"), Folder::new());
        change(&mut fixture);
        fixture.write(&folder.path("a"));
        let ran = folder.bise(["lora", "merge", "-m", text(&base), "--lora", "a", "-o", "m.gguf"]);
        let error = ran.error();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(folder.names(), ["a"]);
    };
    let set = |key: &'static str, value: Value| {
        move |fixture: &mut Fixture| drop(fixture.config().insert(key.into(), value.clone()))
    };
    refused(&set("r", json!(3)), &["found a rank of 2, expected 3", "adapter_config.json"]);
    refused(&set("r", json!(0)), &["\"r\": found 0, expected a rank of 1 or more"]);
    refused(&set("r", json!("two")), &["\"r\""]);
    refused(&set("lora_alpha", Value::Null), &["\"lora_alpha\": found null"]);
    refused(&set("rank_pattern", json!({ "v_proj": 4 })), &["found a rank of 2, expected 4"]);
    refused(&set("rank_pattern", json!({ "v_proj": -1 })), &["\"rank_pattern\", 'v_proj': found -1"]);
    refused(
        &set("alpha_pattern", json!({ "(v_proj": 4 })),
        &["\"alpha_pattern\": found '(v_proj'", "expression"],
    );
    refused(&set("peft_type", json!("IA3")), &["IA3", "not supported"]);
    refused(&set("peft_type", Value::Null), &["\"peft_type\""]);
    refused(&set("fine_tune_type", json!("lora")), &["fine_tune_type", "mlx_lm"]);
    refused(&set("use_new_trick", json!(true)), &["\"use_new_trick\": true", "nothing is known"]);
    refused(&set("layer_replication", json!([[0, 1]])), &["layer_replication"]);
    let first = |fixture: &mut Fixture, name: &str| fixture.tensors[0].0 = name.into();
    refused(
        &|fixture| first(fixture, "base_model.model.model.layers.2.self_attn.v_proj.lora_A.weight"),
        &["it alone"],
    );
    refused(
        &|fixture| first(fixture, "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight"),
        &["it alone"],
    );
    refused(
        &|fixture| fixture.rename(|name| name.replace("layers.1", "layers.2")),
        &["layers.2", "another model"],
    );
    refused(
        &|fixture| fixture.rename(|name| name.replace("v_proj", "qkv_proj")),
        &["qkv_proj", "another model"],
    );
    refused(
        &|fixture| fixture.rename(|name| name.replace("v_proj", "o_proj")),
        &["shape [32, 2]", "[64, 2]"],
    );
    refused(&|fixture| first(fixture, "base_model.model.model.norm.weight"), &["a norm that was trained"]);
    refused(&|fixture| first(fixture, "other"), &["no part of a LoRA"]);
    refused(&|fixture| drop(fixture.tensors.remove(1)), &["it alone"]);
    refused(&|fixture| fixture.tensors.clear(), &["none of an adapter"]);
    refused(
        &|fixture| {
            fixture.tensors[0].0 = fixture.tensors[0].0.replace(".weight", ".one.weight");
            fixture.tensors[1].0 = fixture.tensors[1].0.replace(".weight", ".two.weight");
        },
        &["'two'", "'one' alone"],
    );
    refused(
        &|fixture| {
            fixture.tensors[0].3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        },
        &["lora_A.weight", "NaN at 1"],
    );
    // An adapter for another model.
    let folder = Folder::new();
    Fixture::load("rslora").write(&folder.path("a"));
    let ran = folder.bise(["lora", "inspect", "a", "-m", text(&base)]);
    assert!(ran.error().contains("since the base model's"), "{}", ran.stderr);
    folder.bise(["lora", "inspect", "a", "-m", text(&oracle("mqa_wide"))]).ok();
}

#[test]
fn files_that_are_no_adapters_are_told() {
    let (folder, base) = (Folder::new(), oracle("plain_f32"));
    let refused = |path: &str, words: &[&str]| {
        let ran = folder.bise(["lora", "inspect", path]);
        assert!(words.iter().all(|word| ran.error().contains(word)), "{}", ran.stderr);
    };
    std::fs::create_dir(folder.path("a")).unwrap();
    refused("a", &["adapter_config.json"]);
    folder.write("a/adapter_config.json", r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4}"#);
    refused("a", &["no adapter_model.safetensors"]);
    folder.write("a/adapter_model.bin", "PK");
    refused("a", &["adapter_model.bin", "pickle", "runs code"]);
    refused("a/adapter_model.bin", &["adapter_model.bin", "pickle"]);
    refused("nowhere", &["nowhere"]);
    refused(text(&base), &["general.type", "adapter"]);
    folder.write("a/adapter_config.json", "{");
    refused("a", &["adapter_config.json", "valid JSON"]);
    // The base model is needed for the order of rows.
    Fixture::load("alpha-0").write(&folder.path("b"));
    let ran = folder.bise(["lora", "convert", "b"]);
    assert!(ran.misuse().contains("-m BASE.gguf"), "{}", ran.stderr);
    let mut named = Fixture::load("alpha-0");
    named.config().insert("base_model_name_or_path".into(), "mistralai/Mistral-7B-v0.1".into());
    named.write(&folder.path("c"));
    let ran = folder.bise(["lora", "convert", "c"]);
    assert!(ran.misuse().contains("'mistralai/Mistral-7B-v0.1'"), "{}", ran.stderr);
    // A folder with the configuration is enough, and so is its name in the adapter.
    let config = json!({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 272, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "sliding_window": null, "tie_word_embeddings": false
    });
    std::fs::create_dir(folder.path("base")).unwrap();
    folder.write("base/config.json", config.to_string());
    folder.bise(["lora", "convert", "b", "--base", "base", "-o", "b.gguf"]).ok();
    folder.bise(["lora", "convert", "b", "--base", "base/config.json", "-o", "b2.gguf"]).ok();
    folder.bise(["lora", "convert", "b", "-m", text(&base), "-o", "b3.gguf"]).ok();
    let bytes = |name: &str| std::fs::read(folder.path(name)).unwrap();
    assert!(bytes("b.gguf") == bytes("b2.gguf") && bytes("b.gguf") == bytes("b3.gguf"));
    named.config().insert("base_model_name_or_path".into(), "base".into());
    named.write(&folder.path("d"));
    folder.bise(["lora", "convert", "d", "-o", "d.gguf"]).ok();
}

#[test]
fn nothing_is_lost() {
    let (folder, base) = (Folder::new(), oracle("plain_f32"));
    let fixture = Fixture::load("embedding-and-output");
    fixture.write(&folder.path("a"));
    std::fs::copy(&base, folder.path("base.gguf")).unwrap();
    let before = std::fs::read(folder.path("base.gguf")).unwrap();
    let merge = |rest: &[&'static str]| {
        let line = ["lora", "merge", "-m", "base.gguf", "--lora", "a", "-o"];
        folder.bise(line.into_iter().chain(rest.iter().copied()))
    };
    assert!(merge(&["base.gguf", "--force"]).error().contains("found the source"));
    assert!(merge(&["a/adapter_model.safetensors", "--force"]).error().contains("found the source"));
    folder.write("m.gguf", "mine");
    assert!(merge(&["m.gguf"]).error().contains("--force"));
    assert_eq!(std::fs::read(folder.path("m.gguf")).unwrap(), b"mine");
    merge(&["m.gguf", "--force"]).ok();
    merge(&["n.gguf", "--dry-run"]).ok();
    let line = ["lora", "convert", "a", "-m", "base.gguf", "-o"];
    let convert = |rest: &[&'static str]| folder.bise(line.into_iter().chain(rest.iter().copied()));
    convert(&["a.gguf"]).ok();
    assert!(convert(&["a.gguf"]).error().contains("--force"));
    convert(&["a.gguf", "--force"]).ok();
    assert!(convert(&["base.gguf", "--force"]).error().contains("a file that is read here"));
    let line = ["lora", "convert", "a.gguf", "-m", "base.gguf", "-o", "a"];
    assert!(folder.bise(line).error().contains("--force"));
    let mut names = folder.names();
    names.sort();
    assert_eq!(names, ["a", "a.gguf", "base.gguf", "m.gguf"]);
    assert!(std::fs::read(folder.path("base.gguf")).unwrap() == before);
    assert_eq!(tensors_of(&folder.path("a")).len(), fixture.tensors.len());
}

#[test]
fn merging_keeps_types_scales_and_sums() {
    let (folder, base) = (Folder::new(), oracle("plain_f16"));
    let fixture = Fixture::load("every-projection");
    fixture.write(&folder.path("a"));
    let merge = |flags: &[&str], out: &str, rest: &[&str]| {
        let line = ["lora", "merge", "-m", text(&base)].into_iter().chain(flags.iter().copied());
        folder.bise(line.chain(["-o", out]).chain(rest.iter().copied())).ok()
    };
    merge(&["--lora", "a"], "one.gguf", &[]);
    let types = |path: &Path| -> Vec<(String, String)> {
        let file = GgufFile::open(path).unwrap();
        let mut types: Vec<_> = file
            .tensors()
            .map(|tensor| (tensor.name.clone(), tensor.tensor_type.name().to_owned()))
            .collect();
        types.sort();
        types
    };
    assert_eq!(types(&folder.path("one.gguf")), types(&base));
    // A scale of 1 is none; half of it twice is the whole, but for rounding; nothing of it leaves the weights as they are.
    merge(&["--lora-scaled", "a:1"], "two.gguf", &["-t", "3"]);
    let bytes = |name: &str| std::fs::read(folder.path(name)).unwrap();
    assert!(bytes("one.gguf") == bytes("two.gguf"));
    merge(&["--lora-scaled", "a:0.5,a:0.5"], "halves.gguf", &["F32"]);
    merge(&["--lora", "a"], "whole.gguf", &["F32"]);
    let tokens = fixture.tokens();
    let whole = logits(&folder, &folder.path("whole.gguf"), &tokens);
    assert_near(&logits(&folder, &folder.path("halves.gguf"), &tokens), &whole, "halves");
    merge(&["--lora-scaled", "a:0"], "none.gguf", &[]);
    let tensors = |path: &Path| -> BTreeMap<String, Vec<u8>> {
        let file = GgufFile::open(path).unwrap();
        file.tensors().map(|tensor| (tensor.name.clone(), file.bytes(tensor).to_vec())).collect()
    };
    assert!(tensors(&folder.path("none.gguf")) == tensors(&base));
    // A quantized model keeps its types, and is told to lose.
    folder.bise(["quantize", text(&base), "q.gguf", "Q8_0"]).ok();
    let line = ["lora", "merge", "-m", "q.gguf", "--lora", "a", "-o", "q-merged.gguf"];
    let ran = folder.bise(line).ok();
    assert!(ran.stderr.contains("15 tensors are quantized already"), "{}", ran.stderr);
    assert_eq!(types(&folder.path("q-merged.gguf")), types(&folder.path("q.gguf")));
    // Quantized at once is as quantized afterwards.
    merge(&["--lora", "a"], "at-once.gguf", &["Q8_0"]);
    folder.bise(["quantize", "whole.gguf", "after.gguf", "Q8_0"]).ok();
    assert!(tensors(&folder.path("at-once.gguf")) == tensors(&folder.path("after.gguf")));
    let ran = folder.bise(["lora", "merge", "-m", "q.gguf", "--lora-scaled", "a", "-o", "x.gguf"]);
    assert!(ran.code == 2 && ran.stderr.contains("FILE:SCALE"), "{}", ran.stderr);
    let ran = folder.bise(["lora", "merge", "-m", "q.gguf", "-o", "x.gguf"]);
    assert!(ran.misuse().contains("--lora"), "{}", ran.stderr);
}

#[test]
fn an_adapter_is_described() {
    let folder = Folder::new();
    let fixture = Fixture::load("patterns");
    fixture.write(&folder.path("a"));
    let base = fixture.base();
    let printed = folder.bise(["lora", "inspect", "a", "-m", text(&base)]).ok();
    let printed = printed.text();
    assert!(
        printed.contains("LoRA adapter, PEFT folder") && printed.contains("rank         4\n"),
        "{printed}"
    );
    assert!(printed.contains(&format!("fits         {}", text(&base))), "{printed}");
    let line = |module: &str| -> Vec<String> {
        let lines: Vec<&str> = printed.lines().filter(|line| line.contains(module)).collect();
        lines.iter().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect()
    };
    // "proj" is the end of a name, but none of its words.
    let ran = folder.bise(["lora", "inspect", "a"]).ok();
    assert!(ran.stderr.contains("no tensor belongs to 'proj' of rank_pattern"), "{}", ran.stderr);
    assert_eq!(line("q_proj"), ["8 8 1 64 × 64 BF16 0-1"]);
    assert_eq!(line("k_proj"), ["4 32 8 32 × 64 BF16 0-1"]);
    assert_eq!(line("v_proj"), ["4 8 2 32 × 64 BF16 1", "6 8 1.3333334 32 × 64 BF16 0"]);
    let json = |path: &str| -> Value {
        serde_json::from_str(folder.bise(["lora", "inspect", "--json", path]).ok().text()).unwrap()
    };
    let described = json("a");
    assert_eq!(
        (&described["format"], &described["rank"], &described["alpha"]),
        (&json!("peft"), &json!(4), &json!(8.0))
    );
    assert_eq!(described["parts"].as_array().unwrap().len(), 14);
    assert_eq!(described["notes"], json!(["a: no tensor belongs to 'proj' of rank_pattern"]));
    folder.bise(["lora", "convert", "a", "-m", text(&base), "-o", "a.gguf", "--outtype", "f16"]).ok();
    let of_gguf = json("a.gguf");
    assert_eq!(
        (&of_gguf["format"], &of_gguf["alpha"], &of_gguf["architecture"]),
        (&json!("gguf"), &json!(8.0), &json!("llama"))
    );
    assert_eq!(of_gguf["n_parameters"], described["n_parameters"]);
    assert_eq!(of_gguf["name"], "a");
}

/// What is not used of an adapter is told by every command that it is used with.
#[test]
fn mistyped_patterns_are_told_wherever_the_adapter_is_used() {
    let folder = Folder::new();
    for name in ["a", "b"] {
        Fixture::load("patterns").write(&folder.path(name));
    }
    let base = oracle("plain_f32");
    let told = |line: &[&str]| {
        let ran = folder.bise(line).ok();
        let lines =
            ran.stderr.lines().filter(|line| line.contains("no tensor belongs to 'proj' of rank_pattern"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let line = |name: &str| format!("bise: warning: {name}: no tensor belongs to 'proj' of rank_pattern");
    let logits = ["logits", "-m", text(&base), "--tokens", "1,2", "-o", "x.npy"];
    assert_eq!(told(&[&logits[..], &["--lora", "a"]].concat()), [line("a")]);
    assert_eq!(told(&[&logits[..], &["--lora-scaled", "b:0.5,a:2"]].concat()), [line("b"), line("a")]);
    assert_eq!(told(&logits), [""; 0]);
    let bench = ["bench", "-m", text(&base), "-p", "8", "-n", "0", "-r", "1", "--lora", "a"];
    assert_eq!(told(&bench), [line("a")]);
    let merge = ["lora", "merge", "-m", text(&base), "--lora", "a,b", "-o", "x.gguf"];
    assert_eq!(told(&merge), [line("a"), line("b")]);
    assert_eq!(told(&["lora", "convert", "a", "-m", text(&base), "-o", "y.gguf"]), [line("a")]);
}

#[test]
fn help_is_there_for_each_command() {
    let folder = Folder::new();
    for command in [vec!["lora"], vec!["lora", "convert"], vec!["lora", "merge"], vec!["lora", "inspect"]] {
        let line = command.iter().copied().chain(["--help"]);
        let help = folder.finish(folder.command(line).env("COLUMNS", "80"), b"").ok();
        assert!(help.text().contains("Examples:\n  bise lora "), "{command:?}: {}", help.text());
        assert!(!help.text().contains('\u{a0}'));
        let page = folder.bise(["man", &command.join("-")]).ok();
        assert!(page.text().contains("bise"), "{command:?}");
    }
    let ran = folder.bise(["lora", "mrge"]);
    assert!(
        ran.code == 2 && ran.stderr.contains("expected one of convert, merge, inspect"),
        "{}",
        ran.stderr
    );
    assert_eq!(folder.bise(["lora"]).code, 2);
    let ran = folder.bise(["lora", "merge", "--lroa", "x"]);
    assert!(ran.code == 2 && ran.stderr.contains("did you mean '--lora'"), "{}", ran.stderr);
}
