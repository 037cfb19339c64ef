//! Checkpoints that `bise convert` refuses, and what it says about them.

#![cfg(all(feature = "cli", feature = "convert", feature = "hub"))]

mod cli_support;
mod convert_support;

use std::path::Path;

use cli_support::Folder;
use convert_support::{Family, converted, says};

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
    assert_eq!(folder.names(), ["source"], "{ran:?}");
    ran.error().to_owned()
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
