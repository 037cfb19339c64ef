//! Adapters in the files of PEFT and of llama.cpp.

#![cfg(feature = "convert")]

use std::path::Path;

use bise::adapter::peft::{PeftAdapter, PeftConfig, PeftWriteOptions};
use bise::adapter::{self, Adapter, AdapterFileError, GgufAdapter, LowRank, Target};
use bise::gguf::{GgufFile, TensorType};
use bise::{MistralConfig, Projection, Site};
use bise_kernels::KernelTable;
use bise_models::Mistral;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

fn oracle(name: &str) -> GgufFile {
    GgufFile::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/tests/oracles/{name}.gguf")))
        .unwrap()
}

fn config(name: &str) -> MistralConfig {
    MistralConfig::from_metadata(oracle(name).metadata()).unwrap()
}

/// A part for every matrix that `wanted` accepts, with numbers that halves can hold.
fn parts(
    config: &MistralConfig,
    rank: usize,
    scale: f32,
    wanted: impl Fn(Site) -> bool,
) -> Vec<(Target, LowRank)> {
    use Projection::*;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut numbers =
        |n: usize| -> Vec<f32> { (0..n).map(|_| (rng.next_u32() >> 22) as f32 / 512.0 - 1.0).collect() };
    let mut parts = Vec::new();
    let experts: Vec<Option<usize>> = match config.experts {
        None => vec![None],
        Some(experts) => std::iter::once(None).chain((0..experts.n_experts).map(Some)).collect(),
    };
    for layer in 0..=config.n_layers {
        for projection in [AttnQ, AttnK, AttnV, AttnOutput, FfnGateInp, FfnGate, FfnUp, FfnDown, Output] {
            for &expert in &experts {
                let site = Site { layer, projection, expert };
                let Some([n_rows, k]) = site.shape(config) else { continue };
                if wanted(site) {
                    let (a, b) = (numbers(rank * k), numbers(n_rows * rank));
                    parts.push((Target::Matrix(site), LowRank { rank, scale, a, b }));
                }
            }
        }
    }
    parts
}

fn by_reference(parts: &[(Target, LowRank)]) -> impl Iterator<Item = (Target, &LowRank)> {
    parts.iter().map(|(target, part)| (*target, part))
}

#[test]
fn what_is_written_is_read_again() {
    for (name, rank) in [("plain_f32", 4), ("mqa_wide", 3), ("ministral_3", 1), ("mixtral_stacked", 2)] {
        let (file, folder) = (oracle(name), tempfile::tempdir().unwrap());
        let base = config(name);
        let model = Mistral::load(&file, base.clone(), KernelTable::detect()).unwrap();
        let parts = parts(&base, rank, 2.5, |_| true);
        let config = PeftConfig::of_parts(by_reference(&parts));
        assert_eq!((config.rank, config.alpha), (rank, 2.5 * rank as f64));
        assert!(config.rank_pattern.is_empty() && config.alpha_pattern.is_empty());
        let sites: Vec<(Site, LowRank)> = parts
            .iter()
            .map(|(target, part)| match target {
                Target::Matrix(site) => (*site, part.clone()),
                Target::Embedding => unreachable!(),
            })
            .collect();
        for dtype in [bise::convert::Dtype::F32, bise::convert::Dtype::F16] {
            let mut options = PeftWriteOptions::default();
            (options.dtype, options.force) = (dtype, true);
            config.write(folder.path(), &base, by_reference(&parts), &options).unwrap();
            let read = PeftAdapter::open(folder.path(), &base).unwrap();
            assert_eq!(read.notes, Vec::<String>::new());
            assert_eq!(read.config, config);
            assert!(read.parts == parts, "{name}");
            let paths = ["", "adapter_config.json", "adapter_model.safetensors"];
            for path in paths.map(|path| folder.path().join(path)) {
                let loaded = adapter::load(&path, &model).unwrap();
                assert!(loaded.parts().eq(sites.iter().cloned()), "{name}");
            }
        }
        let path = folder.path().join("adapter.gguf");
        for tensor_type in [TensorType::F32, TensorType::F16] {
            let mut options = adapter::gguf::GgufWriteOptions::default();
            (options.tensor_type, options.force) = (tensor_type, true);
            let written = adapter::gguf::write(&path, &base, by_reference(&parts), &options).unwrap();
            assert_eq!((written.alpha, written.n_folded), (2.5 * rank as f32, 0));
            let loaded = adapter::load(&path, &model).unwrap();
            assert!(loaded.parts().eq(sites.iter().cloned()), "{name}");
        }
    }
}

#[test]
fn several_scales_go_into_one_file() {
    let (base, folder) = (config("plain_f32"), tempfile::tempdir().unwrap());
    let mut parts = parts(&base, 4, 2.0, |site| site.layer < base.n_layers);
    parts[0].1.scale = 1.0;
    parts[1].1.scale = 0.0;
    let config = PeftConfig::of_parts(by_reference(&parts));
    assert_eq!(
        config.alpha_pattern,
        [
            ("model.layers.0.self_attn.q_proj".to_owned(), 4.0),
            ("model.layers.0.self_attn.k_proj".to_owned(), 0.0)
        ]
    );
    config.write(folder.path(), &base, by_reference(&parts), &PeftWriteOptions::default()).unwrap();
    assert!(PeftAdapter::open(folder.path(), &base).unwrap().parts == parts);
    // llama.cpp has one alpha for all: B makes up for it.
    let path = folder.path().join("adapter.gguf");
    let written = adapter::gguf::write(&path, &base, by_reference(&parts), &Default::default()).unwrap();
    assert_eq!((written.alpha, written.n_folded), (8.0, 2));
    let read = GgufAdapter::read(&GgufFile::open(&path).unwrap(), &base).unwrap();
    for ((target, part), (site, read)) in parts.iter().zip(&read.parts) {
        assert!((*target, read.scale) == (Target::Matrix(*site), 2.0) && part.a == read.a, "{target}");
        let scaled = part.b.iter().map(|b| b * (part.scale / 2.0));
        assert!(read.b.iter().copied().eq(scaled), "{target}");
    }
}

#[test]
fn nothing_is_overwritten_unasked() {
    let (base, folder) = (config("plain_f32"), tempfile::tempdir().unwrap());
    let parts = parts(&base, 1, 1.0, |site| site.projection == Projection::AttnV);
    let config = PeftConfig::of_parts(by_reference(&parts));
    let write =
        |options: &PeftWriteOptions| config.write(folder.path(), &base, by_reference(&parts), options);
    let mut force = PeftWriteOptions::default();
    force.force = true;
    for name in
        ["adapter_config.json", "adapter_model.safetensors", "adapter_model-00001-of-00002.safetensors"]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, "mine").unwrap();
        let error = write(&PeftWriteOptions::default()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        // A shard would be read beside the new file.
        assert_eq!(write(&force).is_ok(), !name.contains("-of-"));
        std::fs::remove_file(&path).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            let _ = std::fs::remove_file(folder.path().join(name));
        }
    }
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, "mine").unwrap();
    let error = adapter::gguf::write(&path, &base, by_reference(&parts), &Default::default()).unwrap_err();
    assert!(matches!(error, AdapterFileError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn parts_that_do_not_fit_are_not_written() {
    let (base, folder) = (config("plain_f32"), tempfile::tempdir().unwrap());
    let good = parts(&base, 2, 1.0, |site| site.projection == Projection::AttnQ);
    let peft = folder.path().join("peft");
    let gguf = folder.path().join("a.gguf");
    let refused = |parts: &[(Target, LowRank)], words: &str| {
        let config = PeftConfig::of_parts(by_reference(&good));
        let of_peft = config.write(&peft, &base, by_reference(parts), &Default::default()).unwrap_err();
        let of_gguf =
            adapter::gguf::write(&gguf, &base, by_reference(parts), &Default::default()).unwrap_err();
        for error in [of_peft.to_string(), of_gguf.to_string()] {
            assert!(error.contains(words), "{error}");
        }
        let left = std::fs::read_dir(&peft).into_iter().flatten().count();
        assert!(left == 0 && !gguf.exists(), "nothing is left behind");
    };
    refused(&[], "found none");
    refused(&[good[0].clone(), good[0].clone()], "twice");
    let with = |change: &dyn Fn(&mut (Target, LowRank))| {
        let mut parts = good.clone();
        change(&mut parts[1]);
        parts
    };
    refused(&with(&|part| part.1.a.truncate(7)), "blk.1.attn_q.weight");
    refused(&with(&|part| part.1.b[3] = f32::NAN), "NaN at");
    let elsewhere = Site { layer: 2, projection: Projection::AttnQ, expert: None };
    refused(&with(&|part| part.0 = Target::Matrix(elsewhere)), "a matrix that the model has");
    let mut halves = adapter::gguf::GgufWriteOptions::default();
    halves.tensor_type = TensorType::F16;
    let large = with(&|part| part.1.a[5] = 1e6);
    let error = adapter::gguf::write(&gguf, &base, by_reference(&large), &halves).unwrap_err().to_string();
    assert!(error.contains("1e6 at") && error.contains("F16"), "{error}");
    let model = oracle("plain_f32");
    let model = Mistral::load(&model, base.clone(), KernelTable::detect()).unwrap();
    assert!(Adapter::new("a".into(), &model, []).is_err());
}
