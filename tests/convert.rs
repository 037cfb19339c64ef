//! `bise convert` against llama.cpp's converter and against transformers, on small checkpoints of every family.

#![cfg(all(feature = "cli", feature = "convert", feature = "hub"))]

mod cli_support;
mod convert_support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise::convert::{Checkpoint, Conversion, ConvertOptions, OutType, convert};
use bise::gguf::{GgufFile, Value};
use bise::{Cancel, Threads};
use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{KernelTable, Team};
use bise_models::{KvCache, Mistral, MistralConfig, Output, PagePool, PassContext, Span};
use cli_support::Folder;
use convert_support::Family;
use sha2::{Digest, Sha256};

/// The family as a file of the type.
fn converted(family: &Family, folder: &Folder, out_type: &str, threads: usize) -> GgufFile {
    let source = folder.path("source");
    if !source.exists() {
        std::fs::create_dir(&source).unwrap();
        family.write(&source);
    }
    let path = folder.path(&format!("{out_type}-{threads}.gguf"));
    let mut options = ConvertOptions::default();
    options.out_type = OutType::from_name(out_type).unwrap();
    let threads = Threads::new(threads).unwrap();
    convert(&source, &path, &options, &threads, &Cancel::new(), &mut |_, _| {}).unwrap();
    GgufFile::open(&path).unwrap()
}

/// Keys that llama.cpp's converter does not write, for each family.
fn added(name: &str) -> Vec<(&'static str, Value)> {
    match name {
        "mistral-v0.1" => vec![("llama.attention.sliding_window", Value::U32(16))],
        "native-v0.1" => vec![
            ("llama.context_length", Value::U32(32768)),
            ("llama.rope.freq_base", Value::F32(10_000.0)),
            ("llama.attention.sliding_window", Value::U32(16)),
        ],
        "yarn-factor" => vec![("llama.rope.scaling.attn_factor", Value::F32(1.317_373_3))],
        "yarn-mscale" => vec![("llama.rope.scaling.attn_factor", Value::F32(0.901_020_65))],
        "ministral-3-mscale" => {
            vec![("mistral3.rope.scaling.attn_factor", Value::F32(1.207_944_2))]
        }
        _ => Vec::new(),
    }
}

/// Keys that it writes and we do not: llama.cpp does not read this one.
const LEFT_OUT: [&str; 1] = ["llama.rope.scaling.yarn_attn_factor"];

#[test]
fn keys_and_tensors_are_those_of_llama_cpp() {
    let names = Family::names();
    assert_eq!(names.len(), 22);
    for name in names {
        let (family, folder) = (Family::load(&name), Folder::new());
        let out_types = family.json["outtypes"].as_object().unwrap();
        for (i, (out_type, id)) in out_types.iter().enumerate() {
            let file = converted(&family, &folder, out_type, 2);
            let mut keys = Vec::new();
            for (key, expected) in family.json["keys"].as_object().unwrap() {
                if LEFT_OUT.contains(&key.as_str()) {
                    continue;
                }
                let expected = match (expected[0].as_str().unwrap(), &expected[1]) {
                    ("uint32", n) => Value::U32(n.as_u64().unwrap() as u32),
                    ("float32", x) => Value::F32(x.as_f64().unwrap() as f32),
                    ("string", text) => Value::from(text.as_str().unwrap()),
                    (other, _) => panic!("{other}"),
                };
                assert_eq!(file.metadata().get(key), Some(&expected), "{name}, {out_type}: {key}");
                keys.push(key.as_str());
            }
            for (key, value) in added(&name) {
                assert_eq!(file.metadata().get(key), Some(&value), "{name}: {key}");
                keys.push(key);
            }
            let more = file.metadata().iter().find(|(key, _)| {
                !keys.contains(key) && !key.starts_with("general.") && !key.starts_with("tokenizer.")
            });
            assert_eq!(more, None, "{name}, {out_type}");
            assert_eq!(file.metadata().u32("general.file_type").unwrap(), Some(id.as_u64().unwrap() as u32));

            let expected = family.json["tensors"].as_object().unwrap();
            assert_eq!(file.tensors().len(), expected.len(), "{name}");
            for tensor in file.tensors() {
                let sizes: Vec<_> = tensor.shape.iter().map(ToString::to_string).collect();
                let digest: String =
                    Sha256::digest(&*file.bytes(tensor)).iter().take(4).map(|b| format!("{b:02x}")).collect();
                let mut words = expected[&tensor.name].as_str().unwrap().split(' ');
                assert_eq!(words.next(), Some(&*sizes.join("x")), "{name}: {}", tensor.name);
                let found = format!("{}:{digest}", tensor.tensor_type);
                assert_eq!(words.nth(i), Some(&*found), "{name}, {out_type}: {}", tensor.name);
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for name in ["mixtral", "fp8-blocks"] {
        let (family, folder) = (Family::load(name), Folder::new());
        for out_type in ["f16", "q4_k_m"] {
            for threads in [1, 3] {
                converted(&family, &folder, out_type, threads);
            }
            let bytes = |threads| std::fs::read(folder.path(&format!("{out_type}-{threads}.gguf"))).unwrap();
            assert!(bytes(1) == bytes(3), "{name}, {out_type}");
        }
    }
}

/// Logits at all positions.
fn logits(file: &GgufFile, tokens: &[u32]) -> Vec<Vec<f32>> {
    let config = MistralConfig::from_metadata(file.metadata()).unwrap();
    let model = Mistral::load(file, config, KernelTable::detect()).unwrap();
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, CacheType::F32, CacheType::F32);
    let pool = PagePool::new(layout, config.n_layers, usize::MAX);
    let mut cache = KvCache::new(&pool, tokens.len(), config.sliding_window);
    let mut context = PassContext::new(Arc::new(Team::new(1).unwrap()));
    let mut batch = [Span { cache: &mut cache, tokens, output: Output::All }];
    let never = AtomicBool::new(false);
    let mut outputs = model.forward(&mut context, &mut batch, &never).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = outputs.next_row().unwrap() {
        rows.push(row.values.to_vec());
    }
    rows
}

#[test]
fn logits_are_those_of_transformers() {
    let mut n_families = 0;
    for name in Family::names() {
        let (family, folder) = (Family::load(&name), Folder::new());
        let Some(expected) = family.json.get("logits") else { continue };
        n_families += 1;
        let number = |n: &serde_json::Value| n.as_u64().unwrap();
        let tokens: Vec<u32> =
            expected["tokens"].as_array().unwrap().iter().map(|n| number(n) as u32).collect();
        for (out_type, tolerance) in [("f32", 1e-3), ("f16", 0.02)] {
            let rows = logits(&converted(&family, &folder, out_type, 1), &tokens);
            let positions = expected["positions"].as_array().unwrap().iter().map(|n| number(n) as usize);
            let mut worst = 0.0_f64;
            for (position, row) in positions.zip(expected["logits"].as_array().unwrap()) {
                for (x, y) in rows[position].iter().zip(row.as_array().unwrap()) {
                    worst = worst.max((f64::from(*x) - y.as_f64().unwrap()).abs());
                }
            }
            println!("{name}, {out_type}: off by {worst:.1e}");
            assert!(worst < tolerance, "{name}, {out_type}: off by {worst}");
        }
    }
    assert_eq!(n_families, 9);
}

/// What `bise convert` says about a checkpoint that `change` has changed, which cannot be converted. Nothing may be left behind.
fn refused(
    name: &str,
    flags: &[&str],
    change: impl FnOnce(&mut Family),
    after: impl FnOnce(&Path),
) -> String {
    let (mut family, folder) = (Family::load(name), Folder::new());
    change(&mut family);
    std::fs::create_dir(folder.path("source")).unwrap();
    family.write(&folder.path("source"));
    after(&folder.path("source"));
    let ran = folder.bise([&["convert", "source", "-o", "out.gguf"], flags].concat());
    let left: Vec<_> = std::fs::read_dir(folder.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["source"], "{ran:?}");
    ran.error().to_owned()
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message}\nlacks: {part}");
    }
}

fn nothing(_: &Path) {}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Replaces a part of the header by one of the same length.
fn in_header(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    rewrite(path, |bytes| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    });
}

#[test]
fn shards_that_are_missing_doubled_or_of_another_version_are_named() {
    let second = "model-00002-of-00002.safetensors";
    let remove = |path: &Path| std::fs::remove_file(path.join(second)).unwrap();
    says(&refused("mistral-v0.1", &[], |_| {}, remove), &["index.json", second, "download the rest"]);
    let without_index = |path: &Path| {
        remove(path);
        std::fs::remove_file(path.join("model.safetensors.index.json")).unwrap();
    };
    says(&refused("mistral-v0.1", &[], |_| {}, without_index), &[second, "expected all 2"]);
    let absent = |family: &mut Family| drop(family.files[1].1.pop());
    let stale = |path: &Path| {
        let index = path.join("model.safetensors.index.json");
        let text = std::fs::read_to_string(&index).unwrap();
        std::fs::write(
            index,
            text.replace("{\"lm_head", "{\"x.weight\":\"model-00001-of-00002.safetensors\",\"lm_head"),
        )
        .unwrap();
    };
    says(
        &refused("mistral-v0.1", &[], |_| {}, stale),
        &["tensor 'x.weight'", "no such tensor", "download that again"],
    );
    says(&refused("mistral-v0.1", &[], absent, nothing), &["tensor 'model.norm.weight'", "no such tensor"]);
    let doubled = |path: &Path| {
        std::fs::copy(path.join("model.safetensors"), path.join("model-old.safetensors")).map(drop).unwrap();
    };
    says(
        &refused("nemo-f16", &[], |_| {}, doubled),
        &["tensor 'lm_head.weight'", "model-old.safetensors", "model.safetensors"],
    );
    let elsewhere = |path: &Path| {
        std::fs::write(
            path.join("model.safetensors.index.json"),
            r#"{"weight_map": {"a": "../other.safetensors"}}"#,
        )
        .unwrap();
    };
    says(&refused("nemo-f16", &[], |_| {}, elsewhere), &["tensor 'a'", "../other.safetensors"]);
}

#[test]
fn damaged_safetensors_are_named_with_the_damage() {
    let file = |folder: &Path| folder.join("model.safetensors");
    let damaged = |damage: &dyn Fn(&Path)| refused("nemo-f16", &[], |_| {}, |folder| damage(&file(folder)));
    says(
        &damaged(&|path| rewrite(path, |bytes| bytes.truncate(bytes.len() - 10))),
        &["bytes of data, where this tensor ends at byte", "download it again"],
    );
    says(
        &damaged(&|path| rewrite(path, |bytes| bytes.truncate(100))),
        &["header", "100 bytes", "download it again"],
    );
    says(&damaged(&|path| rewrite(path, |bytes| bytes.push(0))), &["1 bytes behind the last tensor"]);
    says(
        &damaged(&|path| in_header(path, "\"F16\"", "\"F4 \"")),
        &["tensor 'lm_head.weight'", "dtype 'F4 '"],
    );
    says(
        &damaged(&|path| in_header(path, "\"F16\"", "\"F32\"")),
        &["tensor 'lm_head.weight'", "offsets 0 to 38400", "76800 bytes"],
    );
    says(
        &damaged(&|path| in_header(path, "[300,64]", "[64,300]")),
        &["tensor 'lm_head.weight'", "shape [64, 300]", "[300, 64], as config.json says"],
    );
    let overlap = |path: &Path| in_header(path, "[38400,76800]", "[38300,76700]");
    says(&damaged(&overlap), &["overlap", "lm_head.weight"]);
    says(
        &damaged(&|path| in_header(path, "\"model.embed_tokens.weight\"", "\"lm_head.weight\"           ")),
        &["'lm_head.weight' comes twice"],
    );
    says(
        &damaged(&|path| in_header(path, "[300,64]", "[-00,64]")),
        &["header: found JSON with a fault in line 1, column"],
    );
    let cases = [
        ("\"F16\"", "12345", "tensor 'lm_head.weight': \"dtype\": found 12345, expected the name of a type"),
        (
            "[300,64]",
            "[30,-64]",
            "tensor 'lm_head.weight': \"shape\": found [30,-64], expected an array of sizes",
        ),
        ("[0,38400]", "\"0,38400\"", "tensor 'lm_head.weight': \"data_offsets\": found \"0,38400\""),
    ];
    for (from, to, expected) in cases {
        says(&damaged(&|path| in_header(path, from, to)), &[expected]);
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4368439584\n";
    says(&damaged(&|path| std::fs::write(path, pointer).unwrap()), &["git-lfs pointer", "git lfs pull"]);
    says(&damaged(&|path| std::fs::write(path, "").unwrap()), &["model.safetensors", "an empty file"]);
}

#[test]
fn weights_that_do_not_fit_the_type_are_named_with_their_place() {
    let weight = "model.layers.1.mlp.up_proj.weight";
    let set = |family: &mut Family, bits: u16| {
        let at = 2 * (3 * 64 + 5);
        family.tensor(weight).bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    };
    // 65536 + 512 in BF16.
    let message = refused("mistral-v0.1", &["--outtype", "f16"], |family| set(family, 0x4781), nothing);
    says(&message, &["tensor 'blk.1.ffn_up.weight'", "6.6048e4 in row 3, column 5", "F16", "BF16"]);
    for (bits, what) in [(0x7fc0, "NaN"), (0x7f80, "inf"), (0xff80, "-inf")] {
        for out_type in ["auto", "f32", "q8_0", "q4_k_m"] {
            let message =
                refused("mistral-v0.1", &["--outtype", out_type], |family| set(family, bits), nothing);
            let place = format!(".safetensors: tensor '{weight}'");
            says(&message, &["tensor 'blk.1.ffn_up.weight'", what, "in row 3, column 5", &place, "download"]);
        }
    }
    let nan = |family: &mut Family| family.tensor("model.layers.0.self_attn.q_proj.weight").bytes[70] = 0x7f;
    says(&refused("fp8-blocks", &[], nan, nothing), &["tensor 'blk.0.attn_q.weight'", "NaN", "column 70"]);
    let scale = "model.layers.0.self_attn.q_proj.weight_scale_inv";
    let inf = |family: &mut Family| {
        family.tensor(scale).bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    };
    says(&refused("fp8-blocks", &[], inf, nothing), &[scale, "inf at 0", "finite scales"]);
    let expert = "model.layers.0.block_sparse_moe.experts.2.w1.weight";
    let nan = |family: &mut Family| family.tensor(expert).bytes[..2].copy_from_slice(&[0xc0, 0x7f]);
    says(&refused("mixtral", &[], nan, nothing), &[expert, "tensor 'blk.0.ffn_gate_exps.weight'", "NaN"]);
    // What is too large for F16 makes an automatic choice BF16.
    let (mut family, folder) = (Family::load("singles"), Folder::new());
    family.tensor(weight).bytes[..4].copy_from_slice(&1e6_f32.to_le_bytes());
    let file = converted(&family, &folder, "auto", 1);
    assert_eq!(file.require_tensor("blk.1.ffn_up.weight").unwrap().tensor_type.name(), "BF16");
}

#[test]
fn a_broken_generation_config_is_named() {
    let with = |text: &'static str| {
        refused(
            "nemo-f16",
            &[],
            |_| {},
            |folder| {
                std::fs::write(folder.join("generation_config.json"), text).unwrap();
            },
        )
    };
    says(&with("{"), &["generation_config.json", "valid JSON"]);
    says(&with("{\"temperature\": 1e300}"), &["\"temperature\": found 1e", "that single precision holds"]);
    says(&with("{\"top_k\": \"40\"}"), &["\"top_k\": found \"40\"", "whole number"]);
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let with = |name: &str, key: &str, value: serde_json::Value| {
        refused(name, &[], |family| drop(family.config().insert(key.to_owned(), value)), nothing)
    };
    let number = |n: u64| serde_json::Value::from(n);
    says(
        &with("nemo-f16", "hidden_size", number(128)),
        &["tensor 'model.embed_tokens.weight'", "[300, 64]", "[300, 128], as config.json says"],
    );
    says(
        &with("nemo-f16", "num_key_value_heads", number(3)),
        &["config.json", "'num_key_value_heads'", "a divisor of 4 heads"],
    );
    says(&with("nemo-f16", "num_hidden_layers", number(0)), &["'num_hidden_layers'", "found 0", "from 1"]);
    says(
        &with("nemo-f16", "num_hidden_layers", number(3)),
        &["tensor 'model.layers.2.input_layernorm.weight'", "no such tensor"],
    );
    says(
        &with("nemo-f16", "num_hidden_layers", number(1)),
        &["model.layers.1.", "no such tensor", "nothing is known about it"],
    );
    says(&with("nemo-f16", "hidden_size", "64".into()), &["'hidden_size'", "found \"64\""]);
    says(&with("nemo-f16", "hidden_act", "gelu".into()), &["'hidden_act': 'gelu'", "silu"]);
    says(
        &with("native-small-3", "n_heads", serde_json::Value::Null),
        &["params.json", "'n_heads'", "no such key"],
    );
    let untied = |family: &mut Family| family.files[0].1.retain(|t| t.name != "lm_head.weight");
    says(
        &refused("nemo-f16", &[], untied, nothing),
        &["tensor 'lm_head.weight'", "no such tensor", "does not serve as the output"],
    );
    let scale = |family: &mut Family| {
        let scale = family.tensor("model.layers.0.self_attn.k_proj.weight_scale_inv");
        (scale.shape, scale.bytes) = (vec![3], vec![0; 12]);
    };
    says(&refused("fp8-blocks", &[], scale, nothing), &["k_proj.weight_scale_inv", "shape [3]", "[1, 2]"]);
    let config =
        |text: &'static str| move |path: &Path| std::fs::write(path.join("config.json"), text).unwrap();
    says(&refused("nemo-f16", &[], |_| {}, config("{")), &["config.json", "JSON"]);
    says(&refused("nemo-f16", &[], |_| {}, config("[]")), &["config.json", "a JSON object"]);
    says(&refused("nemo-f16", &[], |_| {}, config("{}")), &["'architectures'", "no such key"]);
    // What `bise` would not run.
    says(&with("nemo-f16", "rms_norm_eps", 1.5.into()), &["config.json: 'rms_norm_eps'", "found 1.5"]);
    let linear = serde_json::json!({"rope_type": "linear", "factor": 1e-30, "rope_theta": 1e6});
    says(&with("nemo-f16", "rope_parameters", linear), &["config.json: 'factor'", "a factor of"]);
    let yarn =
        serde_json::json!({"rope_type": "yarn", "factor": 4.0, "attention_factor": 1e5, "rope_theta": 1e6});
    says(&with("nemo-f16", "rope_parameters", yarn), &["config.json: 'attention_factor'", "rotations"]);
    let without = |family: &mut Family| drop(family.config().remove("vocab_size"));
    says(
        &refused("nemo-f16", &[], without, nothing),
        &["[32000, 64], as config.json says, which lacks 'vocab_size'", "defaults"],
    );
    // An output matrix that is lost is not one that never was.
    for (name, key, output) in
        [("nemo-f16", "tie_word_embeddings", "lm_head"), ("native-v0.1", "tied_embeddings", "output")]
    {
        let lost = |family: &mut Family| {
            family.config().remove(key);
            for (_, tensors) in &mut family.files {
                tensors.retain(|t| t.name != format!("{output}.weight"));
            }
        };
        says(
            &refused(name, &[], lost, nothing),
            &[&format!("tensor '{output}.weight'"), "no such tensor", key],
        );
    }
    // Scales that are lost, and blocks that are none.
    for (name, part) in [
        ("fp8-blocks", "model.layers.0.self_attn.k_proj.weight_scale_inv"),
        ("compressed-fp8", "model.layers.1.self_attn.v_proj.weight_scale"),
        ("native-ministral-3", "layers.1.feed_forward.w3.qscale_weight"),
    ] {
        let lost = |family: &mut Family| family.files[0].1.retain(|t| t.name != part);
        says(&refused(name, &[], lost, nothing), &[part, "no such tensor", "of F8_E4M3", "scale"]);
    }
    let structure = |family: &mut Family| {
        family.config()["quantization_config"]["config_groups"]["group_0"]["weights"]["block_structure"] =
            "128".into();
    };
    says(
        &refused("compressed-fp8", &[], structure, nothing),
        &["'quantization_config.config_groups.group_0.weights.block_structure'", "two numbers"],
    );
}

#[test]
fn what_cannot_be_converted_is_refused_by_name() {
    let with = |key: &str, value: serde_json::Value| {
        refused("nemo-f16", &[], |family| drop(family.config().insert(key.to_owned(), value)), nothing)
    };
    says(&with("model_type", "mistral4".into()), &["'mistral4' is not supported", "DeepSeek"]);
    says(&with("kv_lora_rank", 512.into()), &["'kv_lora_rank' is not supported", "DeepSeek"]);
    says(
        &with("architectures", serde_json::json!(["Qwen3ForCausalLM"])),
        &["'Qwen3ForCausalLM' is not supported", "llama.cpp's converter"],
    );
    says(
        &with("architectures", serde_json::json!(["MinistralForCausalLM"])),
        &["'MinistralForCausalLM' is not supported"],
    );
    says(
        &with("quantization_config", serde_json::json!({"quant_method": "bitsandbytes"})),
        &["'bitsandbytes' is not supported", "bise quantize"],
    );
    says(
        &with("rope_parameters", serde_json::json!({"rope_type": "longrope", "rope_theta": 1e6})),
        &["rope type 'longrope' is not supported"],
    );
    let experts = |family: &mut Family| {
        family.config().insert("moe".into(), serde_json::json!({"num_experts": 8, "num_experts_per_tok": 2}));
    };
    says(&refused("native-v0.1", &[], experts, nothing), &["'moe'", "not supported", "Hugging Face"]);
    let native = |key: &str, value: serde_json::Value| {
        refused(
            "native-ministral-3",
            &[],
            |family| drop(family.config().insert(key.to_owned(), value)),
            nothing,
        )
    };
    says(&native("activation", "gelu".into()), &["'activation': 'gelu' is not supported", "silu"]);
    says(&native("causal", false.into()), &["'causal': false is not supported"]);
    says(&native("quantization", "fp8".into()), &["'quantization' with weights in '\"fp8\"'"]);
    says(
        &native("llama_4_scaling", serde_json::json!({"original_max_position_embeddings": 32, "beta": 0.1})),
        &["'llama_4_scaling.original_max_position_embeddings'", "found 32", "expected 16, as 'yarn' says"],
    );
    let pickles = |path: &Path| {
        std::fs::rename(path.join("model.safetensors"), path.join("pytorch_model.bin")).unwrap();
    };
    says(&refused("nemo-f16", &[], |_| {}, pickles), &["pytorch_model.bin", "runs code", "save_pretrained"]);
    let adapter = |path: &Path| {
        std::fs::remove_file(path.join("config.json")).unwrap();
        std::fs::write(path.join("adapter_config.json"), "{}").unwrap();
    };
    says(
        &refused("nemo-f16", &[], |_| {}, adapter),
        &["an adapter (LoRA) without its model is not supported"],
    );
    let empty = |path: &Path| std::fs::remove_file(path.join("config.json")).unwrap();
    says(&refused("nemo-f16", &[], |_| {}, empty), &["neither config.json nor params.json"]);
    says(
        &refused("nemo-f16", &["--mistral-format"], |_| {}, nothing),
        &["no params.json", "--mistral-format"],
    );
    let bias = |family: &mut Family| {
        let bias = convert_support::Stored::new(
            "model.layers.0.self_attn.q_proj.bias",
            safetensors::Dtype::F16,
            vec![128],
        );
        family.files[0].1.push(bias);
    };
    says(
        &refused("nemo-f16", &[], bias, nothing),
        &["q_proj.bias", "no such tensor: it is a bias, which would change the arithmetic"],
    );
}

#[test]
fn the_source_and_files_that_are_there_stay() {
    let (family, folder) = (Family::load("nemo-f16"), Folder::new());
    std::fs::create_dir(folder.path("source")).unwrap();
    family.write(&folder.path("source"));
    let before = std::fs::read(folder.path("source/model.safetensors")).unwrap();
    for target in ["source/model.safetensors", "source/config.json", "source/tokenizer.model"] {
        let ran = folder.bise(["convert", "source", "-o", target, "--force"]);
        says(ran.error(), &[target, "found the source"]);
    }
    assert!(std::fs::read(folder.path("source/model.safetensors")).unwrap() == before);
    folder.write("out.gguf", "mine");
    says(folder.bise(["convert", "source", "-o", "out.gguf"]).error(), &["out.gguf", "--force"]);
    assert_eq!(std::fs::read(folder.path("out.gguf")).unwrap(), b"mine");
    folder.bise(["convert", "source", "-o", "out.gguf", "--force"]).ok();
    GgufFile::open(folder.path("out.gguf")).unwrap();
    // The type in the name, and beside the folder without one.
    folder.bise(["convert", "source", "--outfile", "m-{ftype}-{FTYPE}.gguf", "--outtype", "q8_0"]).ok();
    GgufFile::open(folder.path("m-q8_0-Q8_0.gguf")).unwrap();
    folder.bise(["convert", "source"]).ok();
    GgufFile::open(folder.path("source-f16.gguf")).unwrap();
    let ran = folder.bise(["convert", "--dry-run", "source", "--outtype", "q4_k_m"]).ok();
    says(ran.text(), &["token_embd.weight", "F16 → ", "bits a weight"]);
    // A folder for it, exceptions from the mix, other metadata.
    std::fs::create_dir(folder.path("models")).unwrap();
    let mix = ["--outtype", "q8_0", "--tensor-type", "attn_q=bf16", "--output-tensor-type", "f32"];
    let keys = ["--override-kv", "general.name=str:mine"];
    folder.bise([&["convert", "source", "-o", "models"], &mix[..], &keys].concat()).ok();
    let file = GgufFile::open(folder.path("models/source-q8_0.gguf")).unwrap();
    let type_of = |name: &str| file.require_tensor(name).unwrap().tensor_type.name();
    let types = [type_of("blk.1.attn_q.weight"), type_of("output.weight"), type_of("blk.1.attn_k.weight")];
    assert_eq!(types, ["BF16", "F32", "Q8_0"]);
    assert_eq!(file.metadata().str("general.name").unwrap(), Some("mine"));
    folder.bise(["convert", "source", "-o", "vocab.gguf", "--vocab-only"]).ok();
    let file = GgufFile::open(folder.path("vocab.gguf")).unwrap();
    assert_eq!((file.tensors().len(), file.metadata().u32("llama.vocab_size").unwrap()), (0, Some(300)));
    let tokenized = folder.bise(["tokenize", "-m", "vocab.gguf", "-p", "the", "--ids"]).ok();
    assert_eq!(tokenized.text().trim(), "[1, 261]");
    let ran = folder.bise(["convert", "source", "--outtype", "q4"]);
    assert_eq!(ran.code, 2);
    says(&ran.stderr, &["'q4'", "auto, f32, f16", "q4_k_m"]);
}

#[test]
fn windows_that_differ_limit_the_context_to_what_they_do_not_change() {
    for (key, pattern, window, n_ctx) in [
        ("_sliding_window", serde_json::json!([null, 32, 32, 32]), 32, 32),
        ("sliding_window", serde_json::json!([64, 32]), 32, 32),
        ("sliding_window", serde_json::json!([32, 32]), 32, 128),
        ("_sliding_window", serde_json::json!(32), 32, 128),
    ] {
        let (mut family, folder) = (Family::load("native-small-3"), Folder::new());
        family.config().insert(key.to_owned(), pattern);
        let file = converted(&family, &folder, "auto", 1);
        let config = MistralConfig::from_metadata(file.metadata()).unwrap();
        assert_eq!((config.sliding_window, config.n_ctx_train), (Some(window), n_ctx), "{key}");
    }
}

#[test]
fn a_mistral_whose_configuration_is_silent_has_the_window_of_transformers() {
    for (n_ctx, stated, window) in
        [(8192, None, Some(4096)), (8192, Some(serde_json::Value::Null), None), (4096, None, None)]
    {
        let (mut family, folder) = (Family::load("nemo-f16"), Folder::new());
        let config = family.config();
        config.insert("max_position_embeddings".to_owned(), n_ctx.into());
        config.remove("sliding_window");
        config.extend(stated.map(|stated| ("sliding_window".to_owned(), stated)));
        let file = converted(&family, &folder, "auto", 1);
        let config = MistralConfig::from_metadata(file.metadata()).unwrap();
        assert_eq!(config.sliding_window, window, "{n_ctx}");
    }
}

#[test]
fn scales_of_a_kv_cache_are_left_out() {
    let (mut family, folder) = (Family::load("fp8-blocks"), Folder::new());
    for part in ["kv_scale", "k_proj.output_scale", "q_proj.act_scale"] {
        let name = format!("model.layers.0.self_attn.{part}");
        family.files[0].1.push(convert_support::Stored::new(&name, safetensors::Dtype::F32, vec![1]));
    }
    let config = family.config().remove("quantization_config").unwrap();
    family.config().insert("compression_config".to_owned(), config);
    converted(&family, &folder, "auto", 1);
}

#[test]
fn a_file_that_becomes_bf16_is_named_so_and_is_not_begun_twice_in_a_pipe() {
    let (mut family, folder) = (Family::load("nemo-f16"), Folder::new());
    for tensor in family.files[0].1.iter_mut().filter(|t| t.name.ends_with("1.mlp.up_proj.weight")) {
        tensor.dtype = safetensors::Dtype::F32;
        tensor.bytes = vec![0; tensor.bytes.len() * 2];
        tensor.bytes[..4].copy_from_slice(&1e6_f32.to_le_bytes());
    }
    std::fs::create_dir(folder.path("source")).unwrap();
    family.write(&folder.path("source"));
    folder.bise(["convert", "source"]).ok();
    folder.bise(["convert", "source", "-o", "m-{ftype}.gguf"]).ok();
    for name in ["source-bf16.gguf", "m-bf16.gguf"] {
        assert_eq!(
            GgufFile::open(folder.path(name)).unwrap().metadata().u32("general.file_type").unwrap(),
            Some(32)
        );
    }
    assert!(!folder.path("source-f16.gguf").exists() && !folder.path("m-f16.gguf").exists());
    #[cfg(unix)]
    says(
        folder.bise(["convert", "source", "-o", "/dev/stdout"]).error(),
        &["/dev/stdout", "1e6", "'blk.1.ffn_up.weight'", "--outtype bf16"],
    );
    // Its own output is none of the source.
    for _ in 0..2 {
        folder.bise(["convert", "source", "-o", "source/out.gguf", "--outtype", "bf16", "--force"]).ok();
    }
    // A snapshot in a cache is not written beside.
    let snapshot = folder.path("hub/models--mistralai--Nemo-1/snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).unwrap();
    family.write(&snapshot);
    folder.bise(["convert".as_ref(), snapshot.as_os_str()]).ok();
    GgufFile::open(folder.path("Nemo-1-bf16.gguf")).unwrap();
}

#[test]
fn either_layout_is_taken_where_both_are_there() {
    let (family, native, folder) = (Family::load("nemo-f16"), Family::load("native-v0.1"), Folder::new());
    std::fs::create_dir(folder.path("source")).unwrap();
    family.write(&folder.path("source"));
    native.write(&folder.path("source"));
    let n_vocab = |name: &str| {
        GgufFile::open(folder.path(name)).unwrap().require_tensor("token_embd.weight").unwrap().shape[1]
    };
    folder.bise(["convert", "source", "-o", "a.gguf"]).ok();
    folder.bise(["convert", "source", "-o", "b.gguf", "--mistral-format"]).ok();
    std::fs::remove_file(folder.path("source/model.safetensors")).unwrap();
    folder.bise(["convert", "source", "-o", "c.gguf"]).ok();
    assert_eq!([n_vocab("a.gguf"), n_vocab("b.gguf"), n_vocab("c.gguf")], [300, 276, 276]);
}

#[test]
fn damaged_files_never_make_a_panic() {
    let mut state = 7_u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut n_refused = 0;
    for name in ["mistral-v0.1", "fp8-blocks", "native-ministral-3", "ministral-3-fp8"] {
        let (family, folder) = (Family::load(name), Folder::new());
        family.write(&folder.path(""));
        let config = if family.is_native() { "params.json" } else { "config.json" };
        let weights = folder.path(&family.files[0].0);
        let header_len = {
            let bytes = std::fs::read(&weights).unwrap();
            8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
        };
        for i in 0..60 {
            // Digits become other digits, and any byte another one.
            let (path, end) = match i % 2 {
                0 => (folder.path(config), usize::MAX),
                _ => (weights.clone(), header_len),
            };
            let before = std::fs::read(&path).unwrap();
            let mut bytes = before.clone();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len().min(end));
                bytes[at] = match bytes[at] {
                    b'0'..=b'9' if random(4) > 0 => b'0' + random(10) as u8,
                    _ => random(256) as u8,
                };
            }
            std::fs::write(&path, bytes).unwrap();
            let options = ConvertOptions::default();
            let refused = Checkpoint::open(&folder.path(""), false)
                .and_then(|checkpoint| Conversion::new(&checkpoint, &options)?.plan(&options).map(drop));
            n_refused += usize::from(refused.is_err());
            std::fs::write(&path, before).unwrap();
        }
    }
    assert!((120..240).contains(&n_refused), "{n_refused}");
}
