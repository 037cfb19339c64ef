//! `bise convert` against llama.cpp's converter and against transformers, on small checkpoints of every family.

#![cfg(all(feature = "cli", feature = "convert", feature = "hub"))]

mod cli_support;
mod convert_support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise::convert::{Checkpoint, Conversion, ConvertOptions};
use bise::gguf::{GgufFile, Value};
use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{KernelTable, Team};
use bise_models::{KvCache, Mistral, MistralConfig, Output, PagePool, PassContext, Span};
use cli_support::Folder;
use convert_support::{Family, converted, says};
use sha2::{Digest, Sha256};

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
    let mut batch = [Span { cache: &mut cache, tokens, output: Output::All, adapters: &[] }];
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
