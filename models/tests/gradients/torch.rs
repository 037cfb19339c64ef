//! Against torch, with LoRA by peft.

use std::path::Path;

use bise_kernels::Isa;
use bise_models::gguf::GgufFile;
use bise_models::tokenizer::{EncodeOptions, Tokenizer};
use bise_models::train::{Example, TrainOptions};

use super::cases::{CASES, EXACT, Gradient, case, collect, gradients, norm, trainer};

/// The float32 payload of a `.npy` file.
fn npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn every_gradient_is_that_of_torch() {
    for case in CASES {
        let model = case.model(Isa::detect());
        let theirs = npy(&case.reference());
        let (loss, ours) = gradients(case, &model, &EXACT, 2);
        let off = (loss / f64::from(theirs[0]) - 1.0).abs();
        assert!(off < 1e-5, "{}: loss {loss}, not {}", case.name, theirs[0]);
        let mut theirs = &theirs[1..];
        let mut worst = 0f64;
        for (name, ours) in &ours {
            let ours: Vec<f32> = ours.iter().copied().step_by(case.stride).collect();
            let (expected, rest) = theirs.split_at(ours.len());
            theirs = rest;
            assert!(norm(expected) > 0.0, "{}, {name}: a gradient of 0", case.name);
            let differences: Vec<f32> = ours.iter().zip(expected).map(|(a, b)| a - b).collect();
            let off = norm(&differences) / norm(expected);
            assert!(off < 1e-3, "{}, {name}: off by {off:.1e}", case.name);
            worst = worst.max(off);
        }
        assert!(theirs.is_empty(), "{}: {} values more", case.name, theirs.len());
        println!("{}: off by {worst:.1e}", case.name);
    }
}

/// 8-bit activations change the gradient, but not where it points.
#[test]
fn the_gradient_of_the_served_model_points_where_the_exact_one_does() {
    let case = case("tiny");
    let file = GgufFile::open(case.path()).unwrap();
    let model = case.model(Isa::detect());
    let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
    let tokens = tokenizer.encode(STORY, EncodeOptions { add_special: true, parse_special: false });
    let example = Example { tokens: &tokens, is_label: &vec![true; tokens.len()], seed: 0 };
    let [exact, served] = [true, false].map(|exact| {
        let mut trainer = trainer(case, &model, &TrainOptions { exact, ..EXACT }, 2);
        let loss = trainer.backward(&[example]).unwrap();
        (loss.mean(), collect(&mut trainer))
    });
    assert!((served.0 / exact.0 - 1.0).abs() < 0.01, "losses {} and {}", served.0, exact.0);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (norm(a) * norm(b));
    let whole = |gradients: &[Gradient]| gradients.iter().flat_map(|(_, g)| g.clone()).collect::<Vec<f32>>();
    let all = cosine(&whole(&exact.1), &whole(&served.1));
    assert!(all > 0.99, "{all}");
    for ((name, exact), (_, served)) in exact.1.iter().zip(&served.1) {
        let cosine = cosine(exact, served);
        assert!(cosine > 0.95, "{name}: {cosine}");
    }
    println!("the served model's gradient: a cosine of {all}");
}

const STORY: &str = "Once upon a time, there was an old goat named Martin who lived in a quiet forest. He remembered the names of all \
     the flowers. But Martin was lonely, because there was nobody to play with. Then, one day, someone new came.";
