//! The reference against the definition: `Σ w·x` in f64 over dequantized weights. Bounds follow from the arithmetic: what rounding f32
//! can lose, and half a step of the activations' quantizer.

mod common;

use bise_kernels::dequantize::dequantize_row;
use bise_kernels::{Activations, Format, Isa, KernelTable, OutStrip, QuantMatrix, StripScratch};
use common::{Quantized, Random, map_halves};

/// Half the distance between neighbouring f32 below 2, as a fraction.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

fn scalar() -> &'static KernelTable {
    KernelTable::for_isa(Isa::Scalar).expect("every machine runs plain Rust")
}

fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.block_len() > 1)
}

/// A row of random weights whose scales are about 2⁻⁸, as bytes and as dequantized.
fn row(random: &mut Random, format: Format, k: usize) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = random.bytes(format.row_bytes(k).unwrap());
    map_halves(format, &mut bytes, |h| h & 0x83ff | 0x1c00);
    let mut weights = vec![0.0; k];
    dequantize_row(format, &bytes, &mut weights);
    (bytes, weights)
}

fn dot(format: Format, bytes: &[u8], x: Activations<'_>) -> f64 {
    let w = QuantMatrix::new(bytes, format, 1, x.k()).unwrap();
    let mut y = [f32::NAN];
    scalar().dot(w, x, OutStrip::whole(&mut y, 1, 1), &mut StripScratch::new(0));
    y[0] as f64
}

fn quantize(format: Format, x: &[f32]) -> Quantized {
    let kind = format.activation_kind();
    let mut q = Quantized::zeros(kind, 1, x.len(), 0);
    assert!(scalar().quantize(kind, x, &mut q.qs, &mut q.scales, &mut q.sums));
    q
}

#[test]
fn a_product_of_quantized_activations_is_off_by_rounding_alone() {
    let mut random = Random(1);
    for format in formats() {
        for blocks in [1, 2, 7, 16] {
            let k = 256 * blocks;
            let (bytes, weights) = row(&mut random, format, k);
            let x: Vec<f32> = (0..k).map(|_| random.unit()).collect();
            let q = quantize(format, &x);
            let b = q.kind.block_len();
            let x = |i: usize| q.qs[i] as f64 * q.scales[i / b] as f64;
            let exact: f64 = weights.iter().enumerate().map(|(i, w)| *w as f64 * x(i)).sum();
            // The sum of |terms| bounds each partial sum; where a format has a min, w = a − b with |a|, |b| ≤ 2·max|w| or so, so
            // cancellation inside a weight is covered by the largest weight's magnitude.
            let wmax = weights.iter().fold(0.0, |m: f64, w| m.max(w.abs() as f64));
            let magnitude: f64 = 2.0 * (0..k).map(|i| wmax * x(i).abs()).sum::<f64>();
            // A block's two products round three times each (scale, integer, sum), a dequantized weight three times.
            let bound = magnitude * ROUNDING * (6.0 + 2.0 * (k / b) as f64);
            let found = dot(format, &bytes, q.view());
            assert!((found - exact).abs() <= bound, "{format} k={k}: {found} for {exact}, bound {bound:e}");
            // The bound is of use: it notices one activation of hundreds that is off by a step, of thousands by a quarter of the range.
            let steps = if blocks <= 2 { 1 } else { 32 };
            let largest = (0..k).max_by(|i, j| weights[*i].abs().total_cmp(&weights[*j].abs())).unwrap();
            let mut off = q;
            off.qs[largest] += if off.qs[largest] > 0 { -steps } else { steps };
            off.add_up();
            let found = dot(format, &bytes, off.view());
            assert!((found - exact).abs() > bound, "{format} k={k}: {found} for {exact} is within {bound:e}");
        }
    }
}

#[test]
fn a_product_is_off_by_half_a_step_of_each_activation_at_most() {
    let mut random = Random(2);
    for format in formats() {
        let k = 4096;
        let (bytes, weights) = row(&mut random, format, k);
        let x: Vec<f32> = (0..k).map(|_| random.unit() * random.pick(&[1.0, 0.1])).collect();
        let q = quantize(format, &x);
        let b = q.kind.block_len();
        let exact: f64 = weights.iter().zip(&x).map(|(w, x)| *w as f64 * *x as f64).sum();
        let half_steps: f64 =
            weights.iter().enumerate().map(|(i, w)| w.abs() as f64 * q.scales[i / b] as f64 / 2.0).sum();
        let found = dot(format, &bytes, q.view());
        assert!(
            (found - exact).abs() <= 1.001 * half_steps,
            "{format}: {found} for {exact}, bound {half_steps}"
        );
        // Errors of random signs add up like their root mean square: were they all of one sign, something would be biased.
        let rms =
            weights.iter().enumerate().map(|(i, w)| (*w as f64 * q.scales[i / b] as f64).powi(2) / 12.0);
        let rms = rms.sum::<f64>().sqrt();
        assert!((found - exact).abs() <= 6.0 * rms, "{format}: {found} for {exact}, expected within {rms}");
    }
}

#[test]
fn quantized_activations_are_within_half_a_step_and_sums_are_exact() {
    let mut random = Random(3);
    for format in [Format::Q8_0, Format::Q4_K] {
        let x: Vec<f32> = (0..1024).map(|_| random.unit() * 40.0).collect();
        let q = quantize(format, &x);
        let (b, s) = (q.kind.block_len(), q.kind.sum_len());
        for (i, x) in x.iter().enumerate() {
            let scale = q.scales[i / b] as f64;
            assert!((*x as f64 - scale * q.qs[i] as f64).abs() <= scale * 0.5001, "{:?} value {i}", q.kind);
        }
        for (j, sum) in q.sums.iter().enumerate() {
            assert_eq!(*sum as i32, q.qs[j * s..][..s].iter().map(|q| *q as i32).sum::<i32>());
        }
    }
}

#[test]
fn ties_go_to_even_and_the_largest_magnitude_becomes_127() {
    let mut x = [0f32; 32];
    x[..6].copy_from_slice(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]);
    let q = quantize(Format::Q8_0, &x);
    assert_eq!(q.qs[..6], [127, 0, 2, 2, 0, -2]);
    assert_eq!((q.scales[0], q.sums[0]), (1.0, 129));
    x[7] = -254.0;
    let q = quantize(Format::Q8_0, &x);
    assert_eq!((q.qs[7], q.qs[0], q.scales[0]), (-127, 64, 2.0));
}

#[test]
fn blocks_too_small_for_a_scale_become_zeros() {
    for tiny in [0.0, -0.0, 1e-45, 3e-37] {
        let q = quantize(Format::Q4_K, &[tiny; 256]);
        assert!(q.qs.iter().all(|q| *q == 0) && q.sums.iter().all(|s| *s == 0), "{tiny:e}");
        assert_eq!(q.scales, [0.0]);
    }
    assert!(quantize(Format::Q4_K, &[4e-37; 256]).qs.iter().all(|q| *q == 127));
}
