//! Fifty steps of `bise train --exact` beside those of transformers' Trainer with PEFT, as tests/train/make_curve.py wrote them down.
#![cfg(all(feature = "cli", feature = "train", feature = "builtin-model"))]

mod cli_support;
mod train_support;

use std::path::{Path, PathBuf};

use bise::adapter::LowRank;
use bise::adapter::gguf::{self, GgufWriteOptions};
use bise::train::{initial_adapter, load_adapter};
use bise::{Engine, Projection, Site};
use bise_models::train::Targets;
use cli_support::Folder;
use serde_json::Value;
use train_support::records;

const RANK: usize = 4;
const SCALE: f32 = 2.0;
/// Every 16th number of the adapter was kept.
const SAMPLE: usize = 16;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train").join(name)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The numbers of `formula` in make_curve.py.
fn formula(n: usize, seed: u64, bound: f32) -> Vec<f32> {
    let number = |i: u64| {
        let z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ z >> 31;
        ((z >> 40) as f64 / (1 << 23) as f64 - 1.0) as f32 * bound
    };
    (1..=n as u64).map(number).collect()
}

/// Writes the first adapter.
fn write_initial(engine: &Engine, path: &Path) {
    let projections = vec![Projection::AttnQ, Projection::AttnK, Projection::AttnV, Projection::AttnOutput];
    let targets = Targets { projections, n_layers: engine.config().n_layers };
    let zero = initial_adapter(engine, &targets, RANK, SCALE, 0).unwrap();
    let part = |(i, (site, part)): (usize, (Site, LowRank))| {
        let a = formula(part.a.len(), 2 * i as u64, 1.0 / 16.0);
        let b = formula(part.b.len(), 2 * i as u64 + 1, 1.0 / 256.0);
        (site, LowRank { a, b, ..part })
    };
    let parts: Vec<_> = zero.parts().enumerate().map(part).collect();
    let parts = parts.iter().map(|(site, part)| (*site, part));
    gguf::write(path, engine.config(), parts, &GgufWriteOptions::default()).unwrap();
}

/// The numbers of a .npy file of float32, one dimension.
fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let both = found.iter().zip(expected);
    norm(&mut both.map(|(a, b)| f64::from(a - b))) / norm(&mut expected.iter().map(|b| f64::from(*b)))
}

#[test]
fn fifty_steps_are_those_of_transformers_and_peft() {
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture("curve.json")).unwrap()).unwrap();
    let folder = Folder::new();
    let engine = Engine::builtin().unwrap();
    write_initial(&engine, &folder.path("first.gguf"));
    let line = "train --exact --init first.gguf --mask-prompt --batch-size 2 --grad-accum 2 --iters 50 --lr 2e-3 --warmup 5 \
                --weight-decay 0.01 --dropout 0 --no-shuffle --report-every 1 --log log.jsonl -o out";
    let data = fixture("curve.jsonl");
    let data = ["--data", data.to_str().unwrap()];
    folder.bise(line.split_whitespace().chain(data)).ok();
    let records = records(&folder.path("log.jsonl"));
    let of = |key: &str| -> Vec<f64> { records.iter().map(|r| r[key].as_f64().unwrap()).collect() };
    let close = |found: Vec<f64>, expected: Vec<f64>, tolerance: &dyn Fn(f64) -> f64| {
        assert_eq!(found.len(), 50);
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() <= tolerance(b), "step {}: found {a}, expected {b}", i + 1);
        }
    };
    close(of("learning_rate"), numbers(&expected["learning_rates"]), &|_| 1e-9);
    close(of("train_loss"), numbers(&expected["losses"]), &|_| 1e-3);
    close(of("gradient_norm"), numbers(&expected["gradient_norms"]), &|norm| 5e-3 * norm);

    let adapter = load_adapter(&folder.path("out/adapter.gguf"), &engine).unwrap();
    let matrices: Vec<Vec<f32>> = adapter.parts().flat_map(|(_, part)| [part.a, part.b]).collect();
    for (i, (matrix, norm)) in matrices.iter().zip(numbers(&expected["norms"])).enumerate() {
        let found = matrix.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!((found - norm).abs() < 0.01 * norm, "matrix {i}: found {found}, expected {norm}");
    }
    let sampled = |matrices: &[Vec<f32>]| -> Vec<f32> {
        matrices.iter().flat_map(|matrix| matrix.iter().step_by(SAMPLE).copied()).collect()
    };
    let (found, expected) = (sampled(&matrices), read_npy(&fixture("curve_adapter.npy")));
    assert!(relative_error(&found, &expected) < 0.01, "{}", relative_error(&found, &expected));
    // And what was learned alone, without what the adapter was before.
    let first = load_adapter(&folder.path("first.gguf"), &engine).unwrap();
    let first = sampled(&first.parts().flat_map(|(_, part)| [part.a, part.b]).collect::<Vec<_>>());
    let learned = |adapter: &[f32]| adapter.iter().zip(&first).map(|(a, b)| a - b).collect::<Vec<_>>();
    let error = relative_error(&learned(&found), &learned(&expected));
    assert!(error < 0.05, "{error}");
}
