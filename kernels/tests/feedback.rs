//! Error feedback and the linear algebra under it: against plain loops in doubles, and the same bits on every instruction set and any number
//! of threads.

#![cfg(feature = "quantize")]

mod common;

use std::sync::atomic::AtomicBool;

use bise_kernels::linalg::{Factor, FactorizeError, Gram, Workspace};
use bise_kernels::quantize::{FeedbackScratch, QuantizeError};
use bise_kernels::{Format, Isa, KernelTable, Team, dequantize_row};
use common::Random;

static NEVER: AtomicBool = AtomicBool::new(false);

const QUANTIZED: [Format; 12] = [
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q2_K,
    Format::Q3_K,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
    Format::IQ4_NL,
    Format::IQ4_XS,
];

/// Inputs whose columns have to do with each other, `[n, k]`, some of them large.
fn inputs(random: &mut Random, n: usize, k: usize) -> Vec<f32> {
    let mut x = Vec::with_capacity(n * k);
    for _ in 0..n {
        let mut last = 0.0;
        for i in 0..k {
            last = 0.8 * last + random.unit();
            x.push(if i % 37 == 5 { 8.0 * last } else { last });
        }
    }
    x
}

fn weights(random: &mut Random, n: usize, k: usize) -> Vec<f32> {
    (0..n * k).map(|_| 0.1 * (random.unit() + random.unit())).collect()
}

fn gram(kernels: &KernelTable, team: &Team, k: usize, x: &[f32]) -> Gram {
    let mut gram = Gram::try_new(k).unwrap();
    gram.add(team, kernels, &Workspace::new(team), x);
    gram
}

fn factor(kernels: &KernelTable, team: &Team, k: usize, x: &[f32]) -> Factor {
    gram(kernels, team, k, x).factorize(team, kernels, &Workspace::new(team), 0.01, &NEVER).unwrap()
}

fn bits(factor: &Factor) -> Vec<u32> {
    let k = factor.k();
    (0..k).flat_map(|i| (i..k).map(move |j| factor.at(i, j).to_bits())).collect()
}

fn quantize(kernels: &KernelTable, format: Format, factor: &Factor, w: &[f32]) -> Vec<u8> {
    let mut out = vec![0xaa; w.len() / factor.k() * format.row_bytes(factor.k()).unwrap()];
    kernels.quantize_with_feedback(format, factor, w, &mut out, &mut FeedbackScratch::default()).unwrap();
    out
}

fn dequantized(format: Format, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut x = vec![f32::NAN; n];
    dequantize_row(format, bytes, &mut x);
    x
}

#[test]
fn squared_errors_are_those_of_the_outputs() {
    let (mut random, team, kernels) = (Random(1), Team::new(2).unwrap(), KernelTable::detect());
    for (n, k) in [(1, 1), (3, 16), (70, 33), (300, 197), (520, 400)] {
        let x = inputs(&mut random, n, k);
        let gram = gram(kernels, &team, k, &x);
        assert_eq!((gram.k(), gram.n_rows()), (k, n as u64));
        for (i, found) in gram.diagonal().into_iter().enumerate() {
            let sum: f64 = x.chunks(k).map(|row| f64::from(row[i]).powi(2)).sum();
            assert!((f64::from(found) - sum).abs() < 1e-5 * sum, "{n} x {k}, column {i}: {found}, {sum}");
        }
        let e = weights(&mut random, 2, k);
        let dot = |(x, e): (&[f32], &[f32])| {
            x.iter().zip(e).map(|(x, e)| f64::from(*x) * f64::from(*e)).sum::<f64>()
        };
        let outputs = e.chunks(k).flat_map(|e| x.chunks(k).map(move |x| dot((x, e))));
        let expected: f64 = outputs.map(|y| y * y).sum();
        let found = gram.squared_error(kernels, &e);
        assert!((found - expected).abs() < 1e-4 * expected, "{n} x {k}: {found}, {expected}");
    }
}

#[test]
fn factors_multiply_to_the_damped_matrix() {
    let (mut random, team, kernels) = (Random(2), Team::new(2).unwrap(), KernelTable::detect());
    // Fewer inputs than columns as well: damping makes up for the rank.
    for (n, k) in [(5, 8), (100, 256), (400, 300), (700, 600)] {
        let x = inputs(&mut random, n, k);
        let u = factor(kernels, &team, k, &x);
        let column = |i: usize| x.iter().skip(i).step_by(k).map(|x| f64::from(*x));
        let product = |i, j| column(i).zip(column(j)).map(|(a, b)| a * b).sum::<f64>();
        let mean = (0..k).map(|i| product(i, i)).sum::<f64>() / k as f64;
        for i in (0..k).step_by(7) {
            for j in (i..k).step_by(5) {
                let damped = product(i, j) + if i == j { 0.01 * mean } else { 0.0 };
                let found: f64 = (0..=i).map(|l| f64::from(u.at(l, i)) * f64::from(u.at(l, j))).sum();
                assert!((found - damped).abs() < 1e-4 * mean, "{n} x {k}, ({i}, {j}): {found}, {damped}");
            }
        }
    }
}

#[test]
fn what_is_not_positive_comes_back_as_it_was() {
    let (mut random, team, kernels) = (Random(3), Team::new(2).unwrap(), KernelTable::detect());
    let k = 300;
    let x = inputs(&mut random, 3, k);
    let (before, workspace) = (gram(kernels, &team, k, &x), Workspace::new(&team));
    let e = weights(&mut random, 1, k);
    let expected = before.squared_error(kernels, &e);
    let (error, after) = before.factorize(&team, kernels, &workspace, -0.5, &NEVER).unwrap_err();
    let is_pivot =
        matches!(error, FactorizeError::NotPositive { column, pivot } if column < k && pivot <= 0.0);
    assert!(is_pivot, "{error}");
    assert_eq!(after.squared_error(kernels, &e), expected);
    let (error, after) =
        after.factorize(&team, kernels, &workspace, 0.1, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(error, FactorizeError::Cancelled);
    assert_eq!(after.squared_error(kernels, &e), expected);
    assert!(after.factorize(&team, kernels, &workspace, 0.1, &NEVER).is_ok());
}

#[test]
fn instruction_sets_and_threads_agree_on_every_bit() {
    let (mut random, alone, team) = (Random(4), Team::new(1).unwrap(), Team::new(3).unwrap());
    let (k, n) = (512, 19);
    let (x, w) = (inputs(&mut random, 300, k), weights(&mut random, n, k));
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    let expected = factor(scalar, &alone, k, &x);
    for isa in Isa::available() {
        let kernels = KernelTable::for_isa(isa).unwrap();
        let found = factor(kernels, &team, k, &x);
        assert!(bits(&found) == bits(&expected), "{isa}");
        for format in QUANTIZED {
            let whole = quantize(kernels, format, &found, &w);
            assert!(whole == quantize(scalar, format, &expected, &w), "{isa} {format}");
            // Rows do not depend on their neighbours.
            let part = quantize(kernels, format, &found, &w[k..4 * k]);
            let row_bytes = format.row_bytes(k).unwrap();
            assert!(part == whole[row_bytes..4 * row_bytes], "{isa} {format}");
        }
    }
}

/// The error of the output, without feedback (and the importance of the columns instead) and with it.
fn both_errors(format: Format, k: usize) -> (f64, f64) {
    let (mut random, team, kernels) = (Random(5), Team::new(2).unwrap(), KernelTable::detect());
    let (x, w) = (inputs(&mut random, 4 * k, k), weights(&mut random, 24, k));
    let gram = gram(kernels, &team, k, &x);
    let error = |bytes: &[u8]| {
        let e: Vec<f32> = w.iter().zip(dequantized(format, bytes, w.len())).map(|(w, q)| w - q).collect();
        gram.squared_error(kernels, &e)
    };
    let mut plain = vec![0; w.len() / k * format.row_bytes(k).unwrap()];
    kernels.quantize_weights(format, k, &w, Some(&gram.diagonal()), &mut plain).unwrap();
    let with = quantize(kernels, format, &factor(kernels, &team, k, &x), &w);
    (error(&plain), error(&with))
}

#[test]
fn every_format_loses_less_of_the_output() {
    for format in QUANTIZED {
        // Of blocks of 32, an odd number too.
        for k in if format.block_len() == 32 { vec![512, 416] } else { vec![512] } {
            let (plain, with) = both_errors(format, k);
            assert!(with < 0.75 * plain, "{format}, {k} columns: {with:e}, {plain:e} without feedback");
        }
    }
}

#[test]
fn columns_are_rounded_to_the_nearest_level_of_what_the_others_leave() {
    let (mut random, team, kernels) = (Random(6), Team::new(1).unwrap(), KernelTable::detect());
    let (k, n) = (416, 5);
    let (x, w) = (inputs(&mut random, 500, k), weights(&mut random, n, k));
    let u = factor(kernels, &team, k, &x);
    let bytes = quantize(kernels, Format::Q8_0, &u, &w);
    let q = dequantized(Format::Q8_0, &bytes, w.len());
    for (row, (w, q)) in w.chunks(k).zip(q.chunks(k)).enumerate() {
        for i in 0..k {
            let fed: f64 = (i + 1..k).map(|j| f64::from(w[j] - q[j]) * f64::from(u.at(i, j))).sum();
            let target = f64::from(w[i]) + fed / f64::from(u.at(i, i));
            let block = &bytes[(row * k + i) / 32 * 34..][..34];
            let step = f64::from(half::f16::from_le_bytes([block[0], block[1]]).to_f32());
            let level = block[2 + i % 32] as i8;
            // Scales are for the targets when the block came up; feedback inside of it may lead past the end.
            let is_at_end = level.unsigned_abs() == 127;
            let off = (target - f64::from(q[i])).abs();
            assert!(off <= 0.501 * step || is_at_end, "row {row}, column {i}: {target}, {}, {step}", q[i]);
        }
    }
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let (kernels, u) = (KernelTable::detect(), Factor::try_unit(256).unwrap());
    let mut w = vec![0.25; 512];
    w[300] = f32::NAN;
    let mut out = vec![0; 2 * 144];
    let mut quantize = |w: &[f32]| {
        kernels.quantize_with_feedback(Format::Q4_K, &u, w, &mut out, &mut FeedbackScratch::default())
    };
    assert!(matches!(quantize(&w), Err(QuantizeError::NotFinite { index: 300, .. })));
    w[300] = 1e12;
    assert!(matches!(quantize(&w), Err(QuantizeError::TooLarge { index: 256, .. })));
    w[300] = 0.0;
    assert_eq!(quantize(&w), Ok(()));
}
