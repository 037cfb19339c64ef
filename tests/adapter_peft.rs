//! Adapters that PEFT trained and wrote, beside the models they were made for: PEFT's logits (`adapter/make.py`).

#![cfg(feature = "convert")]

use std::path::{Path, PathBuf};

use bise::adapter::Adapters;
use bise::{CacheType, Engine, SessionOptions};

const N_IDS: usize = 24;
/// Tokens after which there are logits.
const ROWS: [usize; 4] = [0, 7, 15, 23];

/// Folders of adapters, each with a factor on its scale.
type Scaled = &'static [(&'static str, f32)];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapter").join(name)
}

/// The float32 payload of a `.npy` file.
fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// The logits of a case's rows, in chunks of `n_ubatch`.
fn logits(engine: &Engine, adapters: Adapters, n_ubatch: usize) -> Vec<f32> {
    let f32s = CacheType::F32;
    let options = SessionOptions { k_type: f32s, v_type: f32s, n_ubatch, ..SessionOptions::default() };
    let mut session = engine.session(&options).unwrap();
    session.set_adapters(adapters).unwrap();
    let n_vocab = engine.config().n_vocab;
    let ids: Vec<u32> = (0..N_IDS).map(|i| ((7 * i * i + 3 * i + 1) % n_vocab) as u32).collect();
    let mut rows = Vec::new();
    session
        .score(&ids, &mut |i, logits| {
            if ROWS.contains(&i) {
                rows.extend_from_slice(logits)
            }
        })
        .unwrap();
    rows
}

#[test]
fn logits_are_those_of_peft() {
    // Every projection and the output; rslora; ranks and alphas by pattern; all of these at once with factors; a window; one head of keys,
    // wider than its share; tied embeddings.
    let cases: [(&str, &str, Scaled); 7] = [
        ("plain_every", "plain_f32", &[("every", 1.0)]),
        ("plain_rslora", "plain_f32", &[("rslora", 1.0)]),
        ("plain_patterns", "plain_f32", &[("patterns", 1.0)]),
        ("plain_together", "plain_f32", &[("every", 0.75), ("rslora", -0.5), ("patterns", 1.0)]),
        ("window_every", "window_5", &[("every", 1.0)]),
        ("mqa_wide_mqa", "mqa_wide", &[("mqa", 1.0)]),
        ("narrow_tied_narrow", "mha_narrow_tied", &[("narrow", 1.0)]),
    ];
    for (name, model, adapters) in cases {
        let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/oracles");
        let engine = Engine::builder().threads(2).open(oracles.join(model).with_extension("gguf")).unwrap();
        let load = |(folder, scale): &(&str, f32)| (engine.load_adapter(fixture(folder)).unwrap(), *scale);
        let adapters = Adapters::new(adapters.iter().map(load));
        let expected = npy(&fixture(name).with_extension("npy"));
        assert_eq!(expected.len(), ROWS.len() * engine.config().n_vocab);
        let distance =
            |found: &[f32]| found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let found = logits(&engine, adapters.clone(), 512);
        assert_eq!(found.len(), expected.len());
        assert!(distance(&found) < 1e-3, "{name}: off by {}", distance(&found));
        println!("{name}: off by {:.1e}", distance(&found));
        assert!(logits(&engine, adapters, 5) == found, "{name}, in parts");
        assert!(distance(&logits(&engine, Adapters::none(), 512)) > 0.1, "{name}: the adapters do nothing");
    }
}

/// A copy of the adapter `every`, whose configuration `change` changes.
fn changed(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let config = std::fs::read_to_string(fixture("every").join("adapter_config.json")).unwrap();
    let mut config = serde_json::from_str(&config).unwrap();
    change(&mut config);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let name = "adapter_model.safetensors";
    std::fs::copy(fixture("every").join(name), folder.join(name)).unwrap();
}

fn plain() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/oracles/plain_f32.gguf")
}

#[test]
fn what_a_user_should_know_of_an_adapter_comes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("mistyped");
    changed(&at, |config| {
        config["rank_pattern"] = serde_json::json!({ "q_prj": 8 });
        config["alpha_pattern"] = serde_json::json!({ "layers.7.*": 2 });
        config["target_modules"].as_array_mut().unwrap().push("gone_proj".into());
    });
    let shown = at.display();
    let expected = [
        format!("{shown}: no tensor belongs to 'gone_proj' of target_modules"),
        format!("{shown}: no tensor belongs to 'q_prj' of rank_pattern"),
        format!("{shown}: no tensor belongs to 'layers.7.*' of alpha_pattern"),
    ];
    let engine = Engine::builder().threads(1).open(plain()).unwrap();
    for path in [at.clone(), at.join("adapter_config.json"), at.join("adapter_model.safetensors")] {
        assert_eq!(engine.load_adapter(path).unwrap().warnings(), expected);
    }
    assert_eq!(engine.load_adapter(fixture("every")).unwrap().warnings(), [""; 0]);
    // An engine tells those of all that it is opened with, behind its own.
    let builder = Engine::builder().threads(1).adapter(fixture("every"), 1.0).adapter(&at, 0.5);
    assert_eq!(builder.open(plain()).unwrap().warnings(), [engine.warnings(), &expected].concat());
}

#[test]
fn modules_that_the_configuration_leaves_out_are_refused_by_name() {
    let (engine, folder) =
        (Engine::builder().threads(1).open(plain()).unwrap(), tempfile::tempdir().unwrap());
    let refused = |change: &dyn Fn(&mut serde_json::Value), words: &[&str]| {
        changed(folder.path(), change);
        let errors = [
            engine.load_adapter(folder.path()).unwrap_err().to_string(),
            bise::adapter::AdapterSummary::of(folder.path()).unwrap_err().to_string(),
        ];
        for error in errors {
            assert!(words.iter().all(|word| error.contains(word)), "{error}: {words:?}");
            assert!(error.len() < 500, "{error}");
        }
    };
    let first = "adapter_model.safetensors: tensor 'base_model.model.model.layers.1.mlp.down_proj.lora_A.weight': found an adapter of layer 1, \
                 expected one of layer 0, as \"layers_to_transform\" of adapter_config.json says";
    refused(&|config| config["layers_to_transform"] = 0.into(), &[first]);
    let pattern = serde_json::json!(["h", "layers"]);
    refused(
        &|config| {
            config["layers_to_transform"] = serde_json::json!([0]);
            config["layers_pattern"] = pattern.clone();
        },
        &["an adapter of layer 1"],
    );
    refused(&|config| config["exclude_modules"] = "lm_head".into(), &["'lm_head'", "\"exclude_modules\""]);
    // Both layers; and the output, which is named as a whole.
    changed(folder.path(), |config| config["layers_to_transform"] = serde_json::json!([0, 1]));
    engine.load_adapter(folder.path()).unwrap();
    for (key, value, expected) in [
        ("layers_to_transform", serde_json::json!({}), "found {}, expected the number of a layer"),
        ("r", "16".into(), "found \"16\", expected a rank"),
        ("lora_dropout", "0".into(), "found \"0\", expected a number from 0 to 1"),
        ("auto_mapping", vec![7; 1000].into(), "found [7,7,7"),
        ("inference_mode", 1.into(), "found 1, expected true, false or null"),
    ] {
        let words = [&*format!("adapter_config.json: \"{key}\": "), expected];
        refused(&|config| config[key] = value.clone(), &words);
    }
}

/// Names, types, shapes and bytes go into two files with an index, as PEFT writes large adapters.
fn shard(folder: &Path) {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
    let mut weights = serde_json::Map::new();
    for (i, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let name = format!("adapter_model-0000{}-of-00002.safetensors", i + 1);
        let views = part.iter().map(|(name, view)| (name.clone(), view));
        safetensors::serialize_to_file(views, None, &folder.join(&name)).unwrap();
        weights.extend(part.iter().map(|(tensor, _)| (tensor.clone(), name.clone().into())));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": weights }).to_string();
    std::fs::write(folder.join("adapter_model.safetensors.index.json"), index).unwrap();
    std::fs::remove_file(folder.join("adapter_model.safetensors")).unwrap();
}

#[test]
fn memory_is_foretold_for_files_in_folders_and_for_shards() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, sharded] = ["whole", "sharded"].map(|name| folder.path().join(name));
    changed(&whole, |_| {});
    changed(&sharded, |_| {});
    shard(&sharded);
    let engine = Engine::builder().threads(1).open(plain()).unwrap();
    let n_bytes = engine.load_adapter(&whole).unwrap().n_bytes();
    assert_eq!(engine.load_adapter(&sharded).unwrap().n_bytes(), n_bytes);
    let foretold = |path: &Path| {
        let builder = Engine::builder().threads(1).adapter(path, 1.0);
        builder.plan(plain(), 1, &SessionOptions::default()).unwrap().adapters_bytes()
    };
    let expected = foretold(&whole);
    // B's rows may be filled up, and what 16 bits hold is kept in 16 bits.
    assert!((n_bytes / 2..3 * n_bytes).contains(&expected), "{expected}, {n_bytes}");
    for path in [
        whole.join("adapter_config.json"),
        whole.join("adapter_model.safetensors"),
        sharded.clone(),
        sharded.join("adapter_config.json"),
        sharded.join("adapter_model.safetensors.index.json"),
        sharded.join("adapter_model-00002-of-00002.safetensors"),
    ] {
        assert_eq!(foretold(&path), expected, "{}", path.display());
    }
    assert_eq!(foretold(&folder.path().join("missing")), 0);
}

#[test]
fn a_rank_out_of_proportion_is_refused_by_name() {
    let (engine, folder) =
        (Engine::builder().threads(1).open(plain()).unwrap(), tempfile::tempdir().unwrap());
    for (rank, is_fine) in [(4096_usize, true), (4097, false)] {
        changed(folder.path(), |config| config["r"] = rank.into());
        let zeros = vec![0; 2 * 64 * rank];
        let view = |shape: Vec<usize>| {
            safetensors::tensor::TensorView::new(safetensors::Dtype::F16, shape, &zeros).unwrap()
        };
        let module = "base_model.model.model.layers.0.self_attn.q_proj";
        let tensors = [("A", view(vec![rank, 64])), ("B", view(vec![64, rank]))]
            .map(|(half, view)| (format!("{module}.lora_{half}.weight"), view));
        let path = folder.path().join("adapter_model.safetensors");
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
        match engine.load_adapter(folder.path()) {
            Ok(_) => assert!(is_fine, "{rank}"),
            Err(error) => {
                let error = error.to_string();
                let expected = format!(
                    "tensor '{module}.lora_A.weight': found the rank 4097 in its shape [4097, 64], expected 4096 at most beside a matrix of 64 \
                     rows and 64 columns"
                );
                assert!(!is_fine && error.ends_with(&expected), "{error}");
            }
        }
    }
}
