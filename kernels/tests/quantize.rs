//! Weights from f32 to every format: what llama-quantize makes of the same weights, the same bits on every instruction set, errors within
//! the formats' steps. `fixtures/quantize.py` made what is compared with.

#![cfg(feature = "quantize")]

mod common;

use bise_kernels::quantize::QuantizeError;
use bise_kernels::{Format, Isa, KernelTable, dequantize_row};
use common::Random;
use proptest::prelude::*;

/// Weights in a row of the fixtures.
const K: usize = 512;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/quantize/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn singles(name: &str) -> Vec<f32> {
    fixture(name).as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

fn quantize(table: &KernelTable, format: Format, k: usize, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut out = vec![0xaa; x.len() / k * format.row_bytes(k).unwrap()];
    table.quantize_weights(format, k, x, importance, &mut out).unwrap();
    out
}

fn weights(format: Format, k: usize, bytes: &[u8]) -> Vec<f32> {
    let mut x = vec![f32::NAN; bytes.len() / format.row_bytes(k).unwrap() * k];
    dequantize_row(format, bytes, &mut x);
    x
}

/// The squared error of each row, with an error's weight for each column.
fn errors(x: &[f32], found: &[f32], importance: &[f32]) -> Vec<f64> {
    let row = |(x, found): (&[f32], &[f32])| {
        let terms = x.iter().zip(found).zip(importance);
        terms.map(|((x, f), w)| f64::from(*w) * (f64::from(*x) - f64::from(*f)).powi(2)).sum()
    };
    x.chunks(K).zip(found.chunks(K)).map(row).collect()
}

/// With importance, levels of the types of 32 weights are chosen under the rounded scales.
fn is_equal_to_llama_quantize(format: Format, has_importance: bool) -> bool {
    match format {
        Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 | Format::IQ4_NL | Format::IQ4_XS => {
            !has_importance
        }
        _ => true,
    }
}

#[test]
fn weights_are_those_of_llama_quantize_or_nearer() {
    let (x, importance) = (singles("x.f32"), singles("importance.f32"));
    let uniform = vec![1.0; K];
    let mut compared = 0;
    for isa in Isa::available() {
        let table = KernelTable::for_isa(isa).unwrap();
        for format in Format::ALL.into_iter().filter(|format| *format != Format::F32) {
            let has_choice = !matches!(format, Format::Q8_0 | Format::F16 | Format::BF16);
            for (kind, columns) in [("plain", None), ("weighted", Some(&importance[..]))] {
                if columns.is_some() && !has_choice {
                    continue;
                }
                let theirs = weights(format, K, &fixture(&format!("{format}.{kind}")));
                let ours = weights(format, K, &quantize(table, format, K, &x, columns));
                let cost = columns.unwrap_or(&uniform);
                let rows = errors(&x, &ours, cost).into_iter().zip(errors(&x, &theirs, cost));
                for (row, (ours, theirs)) in rows.enumerate() {
                    assert!(
                        ours <= theirs * 1.001,
                        "{isa} {format} {kind}, row {row}: {ours:e}, theirs {theirs:e}"
                    );
                }
                if is_equal_to_llama_quantize(format, columns.is_some()) {
                    assert_eq!(ours, theirs, "{isa} {format} {kind}");
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, Isa::available().count() * (14 + 11));
}

#[test]
fn what_has_nothing_to_choose_has_the_bytes_of_llama_quantize() {
    let x = singles("x.f32");
    for format in
        [Format::Q8_0, Format::F16, Format::BF16, Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1]
    {
        let found = quantize(KernelTable::detect(), format, K, &x, None);
        assert!(found == fixture(&format!("{format}.plain")), "{format}");
    }
    let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(quantize(KernelTable::detect(), Format::F32, K, &x, None), bytes);
}

/// Rows of several kinds: of one sign, with outliers, with zeros, tiny, on a grid.
fn rows(random: &mut Random, n: usize, k: usize) -> Vec<f32> {
    let mut x = Vec::with_capacity(n * k);
    for _ in 0..n {
        let kind = random.below(8);
        let size = f32::powi(10.0, random.below(9) as i32 - 6);
        for _ in 0..k {
            let u = random.unit();
            x.push(match kind {
                0 => u.abs() * size,
                1 => -u.abs() * size,
                2 => u.powi(9) * size,
                3 if random.below(3) > 0 => 0.0,
                4 => (u * 8.0).round() * size,
                5 => size,
                6 if random.below(64) == 0 => 40.0 * u * size,
                _ => u * size,
            });
        }
    }
    x
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_instruction_set_gives_the_same_bits(seed: u64, n in 1_usize..5, blocks in 1_usize..10, weighted: bool) {
        let mut random = Random(seed);
        for format in Format::ALL {
            let k = blocks * format.block_len().max(32);
            let x = rows(&mut random, n, k);
            let importance: Vec<f32> = (0..k).map(|_| random.unit().abs().powi(4) * 10.0).collect();
            let columns = weighted.then_some(&importance[..]);
            let expected = quantize(KernelTable::for_isa(Isa::Scalar).unwrap(), format, k, &x, columns);
            for isa in Isa::available() {
                let found = quantize(KernelTable::for_isa(isa).unwrap(), format, k, &x, columns);
                prop_assert!(found == expected, "{} {}", isa, format);
            }
        }
    }

    #[test]
    fn rows_are_quantized_alike_together_and_alone(seed: u64, n in 2_usize..6, blocks in 1_usize..8, weighted: bool) {
        let mut random = Random(seed);
        for format in Format::ALL {
            let k = blocks * format.block_len().max(32);
            let x = rows(&mut random, n, k);
            let importance: Vec<f32> = (0..k).map(|_| random.unit().abs() + 0.01).collect();
            let columns = weighted.then_some(&importance[..]);
            let together = quantize(KernelTable::detect(), format, k, &x, columns);
            let alone: Vec<u8> =
                x.chunks(k).flat_map(|row| quantize(KernelTable::detect(), format, k, row, columns)).collect();
            prop_assert!(together == alone, "{}", format);
        }
    }

    #[test]
    fn errors_are_within_the_steps_of_the_format(seed: u64) {
        let mut random = Random(seed);
        for format in Format::ALL {
            let len = format.block_len().max(32);
            let x: Vec<f32> = (0..len).map(|_| random.unit()).collect();
            let found = weights(format, len, &quantize(KernelTable::detect(), format, len, &x, None));
            let largest = x.iter().fold(0_f32, |max, x| max.max(x.abs()));
            let worst = x.iter().zip(&found).fold(0_f32, |max, (x, f)| max.max((x - f).abs()));
            // A half has 11 bits. What has levels from −8 to 7 cuts off at 7.
            let half = 1.0 / 2048.0;
            let bound = match format {
                Format::F32 => 0.0,
                Format::F16 => half,
                Format::BF16 => 1.0 / 256.0,
                Format::Q8_0 => 0.5 / 127.0 + half,
                Format::Q4_0 => 1.0 / 8.0 + half,
                Format::Q5_0 => 1.0 / 16.0 + half,
                Format::Q4_1 => 1.0 / 15.0 + 2.0 * half,
                Format::Q5_1 => 1.0 / 31.0 + 2.0 * half,
                // A step and a half, of a range of twice the largest weight: scales are rounded too.
                Format::Q2_K => 1.5 * 2.0 / 3.0,
                Format::Q3_K => 1.5 * 2.0 / 8.0,
                Format::Q4_K => 1.5 * 2.0 / 15.0,
                Format::Q5_K => 1.5 * 2.0 / 31.0,
                Format::Q6_K => 1.5 * 2.0 / 64.0,
                // The widest gap of the table is 24 of 240.
                Format::IQ4_NL | Format::IQ4_XS => 1.5 * 2.0 * 24.0 / 240.0,
            };
            prop_assert!(worst <= bound * largest, "{}: {} of {}, bound {}", format, worst, largest, bound);
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in Format::ALL {
        for columns in [None, Some(&[0.0; 512][..])] {
            let found =
                weights(format, K, &quantize(KernelTable::detect(), format, K, &[0.0; 2 * K], columns));
            assert!(found.iter().all(|x| *x == 0.0), "{format}");
        }
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused_with_their_place() {
    for format in Format::ALL {
        for (index, value) in [(0, f32::NAN), (700, f32::INFINITY), (1023, f32::NEG_INFINITY)] {
            let mut x = vec![0.01; 2 * K];
            x[index] = value;
            let mut out = vec![0; 2 * format.row_bytes(K).unwrap()];
            let error = KernelTable::detect().quantize_weights(format, K, &x, None, &mut out).unwrap_err();
            let QuantizeError::NotFinite { index: found, value: what } = error else { panic!("{error}") };
            assert_eq!((found, what.to_bits()), (index, value.to_bits()), "{format}");
        }
    }
}

#[test]
fn weights_beyond_a_half_are_refused_with_their_block() {
    for format in Format::ALL {
        let mut x = vec![0.01; 2 * K];
        x[K + 3] = 3e38;
        let mut out = vec![0; 2 * format.row_bytes(K).unwrap()];
        let done = KernelTable::detect().quantize_weights(format, K, &x, None, &mut out);
        if matches!(format, Format::F32 | Format::BF16) {
            assert_eq!(done, Ok(()), "{format}");
            continue;
        }
        let index = (K + 3) / format.block_len() * format.block_len();
        let block_len = format.block_len();
        assert_eq!(done, Err(QuantizeError::TooLarge { index, block_len, largest: 3e38, format }));
    }
}

#[test]
#[should_panic(expected = "importance of 512 columns")]
fn importance_of_other_columns_is_refused() {
    let mut out = vec![0; Format::Q4_K.row_bytes(K).unwrap()];
    let _ = KernelTable::detect().quantize_weights(Format::Q4_K, K, &[0.0; K], Some(&[1.0; 256]), &mut out);
}
