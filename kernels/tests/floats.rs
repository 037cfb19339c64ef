//! Norms, activations, softmax, rope and float products: against their definitions, and the same bits on every instruction set.

mod common;
#[path = "common/fenced.rs"]
mod fenced;

use bise_kernels::{
    Activations, Format, Isa, KernelTable, LeF32, OutStrip, QuantMatrix, StripScratch, fill_rope,
};
use common::Random;
use fenced::Fenced;

/// An interpreter takes a second for some ten thousand products: it gets the shapes with ends and corners, and no long ones.
const LENGTHS: &[usize] =
    if cfg!(miri) { &[1, 2, 15, 17, 33] } else { &[1, 2, 15, 16, 17, 33, 100, 256, 1000] };

/// `[m, n_rows, k]` of float products.
const SHAPES: &[(usize, usize, usize)] = if cfg!(miri) {
    &[(1, 1, 1), (1, 9, 16), (3, 5, 31), (9, 17, 17)]
} else {
    &[(1, 1, 1), (1, 9, 16), (3, 5, 31), (6, 7, 100), (9, 17, 320), (4, 4, 48)]
};

/// Positions to turn to.
const POSITIONS: &[usize] = if cfg!(miri) { &[0, 32767] } else { &[0, 1, 77, 32767, 1_000_000] };

fn numbers(random: &mut Random, n: usize, size: f32) -> Vec<f32> {
    (0..n).map(|_| random.unit() * size).collect()
}

fn scalar() -> &'static KernelTable {
    KernelTable::for_isa(Isa::Scalar).unwrap()
}

/// What `f` makes of `x` on every table, compared with the reference, which is returned; writing beside `x` is noticed.
#[track_caller]
fn on_all(x: &[f32], f: impl Fn(&KernelTable, &mut [f32])) -> Vec<f32> {
    let run = |kernels| {
        let mut x = Fenced::new(x);
        f(kernels, x.inner());
        x.check()
    };
    let expected = run(scalar());
    for kernels in Isa::ALL.into_iter().filter_map(KernelTable::for_isa) {
        for (i, (a, b)) in run(kernels).iter().zip(&expected).enumerate() {
            let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(same, "{}: {i} is {a:e}, the reference says {b:e}", kernels.isa());
        }
    }
    expected
}

#[track_caller]
fn assert_close(found: f32, expected: f64, relative: f64) {
    let error = (found as f64 - expected).abs();
    assert!(error <= relative * expected.abs() + 1e-37, "{found:e} for {expected:e}");
}

#[test]
fn rms_norm_is_its_definition() {
    let mut random = Random(1);
    for &n in LENGTHS {
        let x = numbers(&mut random, n, 10.0);
        let w = numbers(&mut random, n, 2.0);
        // At an odd address.
        let mut bytes = vec![0; 4 * n + 1];
        for (bytes, w) in bytes[1..].chunks_exact_mut(4).zip(&w) {
            bytes.copy_from_slice(&w.to_le_bytes());
        }
        let out = on_all(&vec![f32::NAN; n], |kernels, out| {
            assert!(kernels.rms_norm(&x, LeF32::new(&bytes[1..]).unwrap(), 1e-5, out));
        });
        let mean = x.iter().map(|x| (*x as f64).powi(2)).sum::<f64>() / n as f64;
        for i in 0..n {
            let expected = x[i] as f64 / (mean + 1e-5).sqrt() * w[i] as f64;
            // Squares add up over n/16 + 4 roundings, and the root halves them; then five more.
            assert_close(out[i], expected, (n as f64 / 32.0 + 8.0) * 2f64.powi(-24));
        }
    }
}

#[test]
fn rms_norm_says_what_is_not_finite() {
    for kernels in Isa::ALL.into_iter().filter_map(KernelTable::for_isa) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2e19] {
            for at in [0, 15, 16, 19] {
                let mut x = [1.0; 20];
                x[at] = bad;
                let w = [0; 80];
                assert!(
                    !kernels.rms_norm(&x, LeF32::new(&w).unwrap(), 1e-5, &mut [0.0; 20]),
                    "{bad} at {at}"
                );
            }
        }
    }
    assert!(LeF32::new(&[0; 7]).is_none());
}

#[test]
fn swiglu_is_its_definition() {
    let mut random = Random(2);
    for &n in LENGTHS {
        let mut gate = numbers(&mut random, n, 30.0);
        let up = numbers(&mut random, n, 5.0);
        let extremes = [0.0, -0.0, 87.5, -87.5, 88.5, -88.5, 1e30, -1e30, 1e-30];
        for (gate, x) in gate.iter_mut().skip(n / 2).zip(extremes) {
            *gate = x;
        }
        let out = on_all(&gate, |kernels, gate| kernels.swiglu(gate, &up));
        for i in 0..n {
            // Above 88, e^−g is taken for infinite.
            let g = if gate[i] < -88.0 { f64::NEG_INFINITY } else { gate[i] as f64 };
            let silu = if g.is_finite() { g / (1.0 + (-g).exp()) } else { 0.0 };
            assert_close(out[i], silu * up[i] as f64, 8.0 * 2f64.powi(-24));
        }
    }
}

#[test]
fn sums_scales_and_softmax_are_their_definitions() {
    let mut random = Random(3);
    for &n in LENGTHS {
        let (x, y) = (numbers(&mut random, n, 9.0), numbers(&mut random, n, 9.0));
        let sum = on_all(&x, |kernels, x| kernels.add_assign(x, &y));
        let fused = on_all(&x, |kernels, x| kernels.add_scaled(x, &y, 0.3));
        let scaled = on_all(&x, |kernels, x| kernels.scale(x, 0.3));
        let softmax = on_all(&x, |kernels, x| kernels.softmax(x));
        let largest = x.iter().fold(f32::MIN, |m, x| m.max(*x));
        let total: f64 = x.iter().map(|x| ((*x - largest) as f64).exp()).sum();
        for i in 0..n {
            assert_eq!(sum[i], x[i] + y[i]);
            assert_eq!(fused[i], y[i].mul_add(0.3, x[i]));
            assert_eq!(scaled[i], x[i] * 0.3);
            let expected = ((x[i] - largest) as f64).exp() / total;
            assert_close(softmax[i], expected, (n as f64 / 16.0 + 12.0) * 2f64.powi(-24));
        }
    }
}

#[test]
fn rope_turns_adjacent_pairs() {
    let mut random = Random(4);
    for (head_dim, rope_dims, n_heads) in
        [(2, 2, 1), (16, 16, 3), (40, 40, 2), (80, 32, 2), (128, 128, 4), (96, 70, 1)]
    {
        let inv_freq: Vec<f32> =
            (0..rope_dims / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / rope_dims as f32)).collect();
        let row = numbers(&mut random, n_heads * head_dim, 4.0);
        for &pos in POSITIONS {
            let mut rotation = vec![f32::NAN; 2 * rope_dims];
            fill_rope(pos, &inv_freq, 1.5, &mut rotation);
            let out = on_all(&row, |kernels, row| kernels.apply_rope(row, head_dim, rope_dims, &rotation));
            for (i, out) in out.iter().enumerate() {
                let d = i % head_dim;
                if d >= rope_dims {
                    assert_eq!(*out, row[i]);
                    continue;
                }
                let (sin, cos) = ((pos as f32 * inv_freq[d / 2]) as f64).sin_cos();
                let (x, y) = (row[i & !1] as f64, row[i | 1] as f64);
                let expected = 1.5 * if d % 2 == 0 { x * cos - y * sin } else { y * cos + x * sin };
                // Each of sine and cosine is rounded twice, the product once, the sum once.
                let bound = 1.5 * (x.abs() + y.abs()) * 4.0 * 2f64.powi(-24);
                assert!((*out as f64 - expected).abs() <= bound, "{out} for {expected}");
            }
        }
    }
}

#[test]
fn float_products_follow_the_lanes() {
    let mut random = Random(5);
    for format in [Format::F32, Format::F16, Format::BF16] {
        for &(m, n_rows, k) in SHAPES {
            let w = numbers(&mut random, n_rows * k, 2.0);
            let x = numbers(&mut random, m * k, 2.0);
            let mut bytes = vec![0xff];
            let mut read = Vec::new();
            for w in &w {
                match format {
                    Format::F32 => {
                        bytes.extend(w.to_le_bytes());
                        read.push(*w);
                    }
                    Format::F16 => {
                        bytes.extend(half::f16::from_f32_const(*w).to_le_bytes());
                        read.push(half::f16::from_f32_const(*w).to_f32_const());
                    }
                    _ => {
                        bytes.extend(half::bf16::from_f32(*w).to_le_bytes());
                        read.push(half::bf16::from_f32(*w).to_f32());
                    }
                }
            }
            let w = QuantMatrix::new(&bytes[1..], format, n_rows, k).unwrap();
            for panel in [false, true] {
                let y = on_all(&vec![f32::NAN; m * n_rows], |kernels, y| {
                    let (x, out) = (Activations::F32 { m, k, x: &x }, OutStrip::whole(y, m, n_rows));
                    let mut scratch = StripScratch::new(0);
                    if panel {
                        kernels.panel(w, x, out, &mut scratch)
                    } else {
                        kernels.dot(w, x, out, &mut scratch)
                    }
                });
                for t in 0..m {
                    for r in 0..n_rows {
                        let mut lanes = [0f32; 16];
                        for i in 0..k {
                            lanes[i % 16] = read[r * k + i].mul_add(x[t * k + i], lanes[i % 16]);
                        }
                        for n in [8, 4, 2, 1] {
                            for i in 0..n {
                                lanes[i] += lanes[i + n];
                            }
                        }
                        assert_eq!(
                            y[t * n_rows + r].to_bits(),
                            lanes[0].to_bits(),
                            "{format} [{t}][{r}] of {k}"
                        );
                    }
                }
            }
        }
    }
}
