//! Products of training and their derivatives, norms, activations, loss and dropout: by their definitions, written out in plain loops; by finite
//! differences in f64; and the same bits on every instruction set and any number of threads.

#![cfg(feature = "train")]

mod common;
#[path = "common/fenced.rs"]
mod fenced;

use std::sync::Arc;

use bise_kernels::backward::{Dropout, Executor, dropout_key};
use bise_kernels::{Format, Isa, KernelTable, LeF32, QuantMatrix, Team, dequantize_row, fill_rope};
use common::{Random, map_halves, quick};
use fenced::Fenced;
use proptest::prelude::*;

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let usual = if cfg!(miri) {
        1
    } else if quick() {
        4
    } else {
        6
    };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { usual };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

/// Lengths with and without whole registers.
const LENGTHS: &[usize] =
    if cfg!(miri) { &[1, 17, 33] } else { &[1, 2, 15, 16, 17, 33, 100, 256, 1000, 2500] };

fn numbers(random: &mut Random, n: usize, size: f32) -> Vec<f32> {
    (0..n).map(|_| random.unit() * size).collect()
}

/// Every instruction set of this machine, with teams of several sizes.
fn executors() -> Vec<Executor> {
    let tables = Isa::ALL.into_iter().filter_map(KernelTable::for_isa);
    let executor = |(i, table)| Executor::new(Arc::new(Team::new(1 + i % 3).unwrap()), table);
    let more = if cfg!(miri) { &[2][..] } else { &[2, 3] };
    let more = more.iter().map(|n| Executor::new(Arc::new(Team::new(*n).unwrap()), KernelTable::detect()));
    tables.enumerate().map(executor).chain(more).collect()
}

#[track_caller]
fn assert_same_bits(found: &[f32], expected: &[f32], what: impl FnOnce() -> String) {
    assert_eq!(found.len(), expected.len());
    let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    if let Some(i) = found.iter().zip(expected).position(differ) {
        panic!("{}: element {i} is {:e}, expected {:e}", what(), found[i], expected[i]);
    }
}

/// What `f` makes of `x` on every instruction set and team; all must agree, and write nothing beside it.
#[track_caller]
fn on_all(x: &[f32], mut f: impl FnMut(&mut Executor, &mut [f32])) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for mut executor in executors() {
        let mut out = Fenced::new(x);
        f(&mut executor, out.inner());
        let out = out.check();
        let isa = executor.kernels().isa();
        match &first {
            Some(first) => {
                assert_same_bits(&out, first, || format!("{isa}, {} threads", executor.team().n_threads()))
            }
            None => first = Some(out),
        }
    }
    first.expect("plain Rust is there")
}

/// `out[i][j]` plus the chain of `left(i, d) · right(d, j)`, from what it is.
fn chain(
    out: &mut [f32],
    (m, n, depth): (usize, usize, usize),
    left: impl Fn(usize, usize) -> f32,
    right: impl Fn(usize, usize) -> f32,
) {
    for i in 0..m {
        for j in 0..n {
            for d in 0..depth {
                out[i * n + j] = left(i, d).mul_add(right(d, j), out[i * n + j]);
            }
        }
    }
}

/// Random bytes of weights, with finite scales of moderate size.
fn weights(random: &mut Random, format: Format, n_rows: usize, k: usize) -> Vec<u8> {
    let mut bytes = random.bytes(n_rows * format.row_bytes(k).expect("whole blocks"));
    if matches!(format, Format::F32 | Format::BF16) {
        for number in bytes.chunks_exact_mut(format.block_bytes()) {
            *number.last_mut().unwrap() = random.pick(&[0x3c, 0x3f, 0xbc, 0xbf]);
        }
    }
    map_halves(format, &mut bytes, |h| h & 0x8fff | 0x2000);
    bytes
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn products_are_chains_of_multiply_adds(seed in any::<u64>(), blocks in 1..=3usize, n_rows in 1..=100usize, m in 1..=30usize) {
        let mut random = Random(seed);
        let (blocks, n_rows, m) = if cfg!(miri) { (1, n_rows % 5 + 1, m % 3 + 1) } else { (blocks, n_rows, m) };
        let few = [random.pick(&Format::ALL), random.pick(&[Format::Q4_K, Format::Q6_K, Format::F16])];
        for format in if quick() || cfg!(miri) { &few[..] } else { &Format::ALL } {
            let format = *format;
            let rest = if format.block_len() == 1 { random.below(32) } else { 0 };
            let k = blocks * format.block_len().max(32) + rest;
            let bytes = weights(&mut random, format, n_rows, k);
            let w = QuantMatrix::new(&bytes, format, n_rows, k).unwrap();
            let mut plain = vec![0.0; n_rows * k];
            for (r, out) in plain.chunks_mut(k).enumerate() {
                dequantize_row(format, w.row(r), out);
            }
            let x = numbers(&mut random, m * k, 2.0);
            let y = on_all(&vec![f32::NAN; m * n_rows], |executor, y| executor.product(w, &x, y));
            let mut expected = vec![0.0; m * n_rows];
            chain(&mut expected, (m, n_rows, k), |t, d| x[t * k + d], |d, r| plain[r * k + d]);
            assert_same_bits(&y, &expected, || format!("{format} {m} x {n_rows} x {k}"));

            let dy = numbers(&mut random, m * n_rows, 2.0);
            for add in [false, true] {
                let before = numbers(&mut random, m * k, if add { 3.0 } else { f32::NAN });
                let dx = on_all(&before, |executor, dx| executor.product_backward(w, &dy, dx, add));
                let mut expected = if add { before } else { vec![0.0; m * k] };
                chain(&mut expected, (m, k, n_rows), |t, r| dy[t * n_rows + r], |r, j| plain[r * k + j]);
                assert_same_bits(&dx, &expected, || format!("back through {format} {m} x {n_rows} x {k}"));
            }
        }
    }

    #[test]
    fn thin_products_and_their_gradients_are_chains(seed in any::<u64>(), m in 1..=70usize, k in 1..=300usize, n in 1..=300usize, rank in 1..=40usize) {
        let mut random = Random(seed);
        let (m, k, n, rank) = if cfg!(miri) { (m % 4 + 1, k % 20 + 1, n % 20 + 1, rank % 5 + 1) } else { (m, k, n, rank) };
        let scale = random.unit() * 4.0;
        let [x, a, b, dy] = [m * k, rank * k, n * rank, m * n].map(|len| numbers(&mut random, len, 1.0));

        let u = on_all(&vec![f32::NAN; m * rank], |executor, u| executor.low_rank_down(k, &a, &x, u));
        let mut expected = vec![0.0; m * rank];
        chain(&mut expected, (m, rank, k), |t, d| x[t * k + d], |d, j| a[j * k + d]);
        assert_same_bits(&u, &expected, || "x·Aᵀ".to_owned());

        let y = on_all(&dy, |executor, y| executor.low_rank_up(rank, &b, scale, &u, y));
        let mut expected = dy.clone();
        chain(&mut expected, (m, n, rank), |t, d| scale * u[t * rank + d], |d, j| b[j * rank + d]);
        assert_same_bits(&y, &expected, || "y + s·u·Bᵀ".to_owned());

        let (db_before, da_before, dx_before) = (numbers(&mut random, n * rank, 1.0), numbers(&mut random, rank * k, 1.0), &x);
        let mut db = Vec::new();
        let du = on_all(&vec![f32::NAN; m * rank], |executor, du| {
            db = db_before.clone();
            executor.low_rank_up_backward(rank, &b, scale, &u, &dy, du, &mut db);
            let mut expected = db_before.clone();
            chain(&mut expected, (n, rank, m), |i, t| scale * dy[t * n + i], |t, j| u[t * rank + j]);
            assert_same_bits(&db, &expected, || format!("dB on {}", executor.kernels().isa()));
        });
        let mut expected = vec![0.0; m * rank];
        chain(&mut expected, (m, rank, n), |t, d| scale * dy[t * n + d], |d, j| b[d * rank + j]);
        assert_same_bits(&du, &expected, || "s·dy·B".to_owned());

        let da = on_all(&da_before, |executor, da| executor.low_rank_down_backward(k, &x, &du, da));
        let mut expected = da_before.clone();
        chain(&mut expected, (rank, k, m), |i, t| du[t * rank + i], |t, j| x[t * k + j]);
        assert_same_bits(&da, &expected, || "dA".to_owned());

        let dx = on_all(dx_before, |executor, dx| executor.low_rank_inputs_backward(k, &a, &du, dx, true));
        let mut expected = dx_before.clone();
        chain(&mut expected, (m, k, rank), |t, d| du[t * rank + d], |d, j| a[d * k + j]);
        assert_same_bits(&dx, &expected, || "dx + du·A".to_owned());

        // However the rows are cut into smaller batches.
        let cut = random.below(m + 1);
        let (mut da_cut, mut db_cut) = (da_before, db_before);
        for mut executor in executors().into_iter().take(1) {
            for rows in [0..cut, cut..m] {
                let of = |x: &[f32], width: usize| x[rows.start * width..rows.end * width].to_vec();
                let mut du = vec![0.0; rows.len() * rank];
                executor.low_rank_up_backward(rank, &b, scale, &of(&u, rank), &of(&dy, n), &mut du, &mut db_cut);
                assert_same_bits(&du, &of(&expected_du(&dy, &b, scale, (m, n, rank)), rank), || "du of a part".to_owned());
                executor.low_rank_down_backward(k, &of(&x, k), &du, &mut da_cut);
            }
        }
        assert_same_bits(&da_cut, &da, || "dA of parts".to_owned());
        assert_same_bits(&db_cut, &db, || "dB of parts".to_owned());
    }
}

fn expected_du(dy: &[f32], b: &[f32], scale: f32, (m, n, rank): (usize, usize, usize)) -> Vec<f32> {
    let mut du = vec![0.0; m * rank];
    chain(&mut du, (m, rank, n), |t, d| scale * dy[t * n + d], |d, j| b[d * rank + j]);
    du
}

/// Factors deeper than are packed at a time, more columns than a task has, and more rows than a tile.
#[test]
#[cfg_attr(miri, ignore = "too long for an interpreter")]
fn large_products_are_chains_too() {
    let mut random = Random(8);
    for (m, n_rows, k) in [(14, 2500, 512), (3, 300, 2304), (1, 2049, 256)] {
        let bytes = weights(&mut random, Format::Q6_K, n_rows, k);
        let w = QuantMatrix::new(&bytes, Format::Q6_K, n_rows, k).unwrap();
        let mut plain = vec![0.0; n_rows * k];
        for (r, out) in plain.chunks_mut(k).enumerate() {
            dequantize_row(Format::Q6_K, w.row(r), out);
        }
        let (x, dy) = (numbers(&mut random, m * k, 2.0), numbers(&mut random, m * n_rows, 2.0));
        let mut y = vec![0.0; m * n_rows];
        chain(&mut y, (m, n_rows, k), |t, d| x[t * k + d], |d, r| plain[r * k + d]);
        let mut dx = x.clone();
        chain(&mut dx, (m, k, n_rows), |t, r| dy[t * n_rows + r], |r, j| plain[r * k + j]);
        for mut executor in executors().into_iter().skip(1) {
            let isa = executor.kernels().isa();
            let mut found = vec![f32::NAN; y.len()];
            executor.product(w, &x, &mut found);
            assert_same_bits(&found, &y, || format!("{isa} {m} x {n_rows} x {k}"));
            let mut found = x.clone();
            executor.product_backward(w, &dy, &mut found, true);
            assert_same_bits(&found, &dx, || format!("{isa} back through {m} x {n_rows} x {k}"));
        }
    }
}

#[test]
fn products_of_no_rows_are_empty() {
    let bytes = [0; 34];
    let w = QuantMatrix::new(&bytes, Format::Q8_0, 1, 32).unwrap();
    for mut executor in executors() {
        executor.product(w, &[], &mut []);
        executor.product_backward(w, &[], &mut [], true);
        // Gradients without rows stay, and what has nothing to sum is zero.
        let (mut da, mut u) = ([5.0; 6], [7.0; 4]);
        executor.low_rank_down_backward(3, &[], &[], &mut da);
        assert_eq!(da, [5.0; 6]);
        executor.low_rank_down(3, &[0.0; 6], &[1.0; 6], &mut u);
        assert_eq!(u, [0.0; 4]);
    }
}

/// The gradient of `f` at `x` by central differences.
fn differences(x: &[f64], mut f: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let (at, h) = (x[i], 1e-5 * x[i].abs().max(1.0));
            x[i] = at + h;
            let above = f(&x);
            x[i] = at - h;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2.0 * h)
        })
        .collect()
}

fn doubles(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// Within `tolerance` of the largest of them.
#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-30, |max: f64, x| max.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*a) - b).abs();
        assert!(error <= tolerance * largest, "element {i} is {a:e}, expected {b:e} beside {largest:e}");
    }
}

#[test]
fn the_norms_gradient_is_that_of_finite_differences() {
    let mut random = Random(1);
    for &n in LENGTHS.iter().filter(|n| **n <= 300) {
        let m = 3;
        let [x, dy, before] = [2.0, 1.0, 0.5].map(|size| numbers(&mut random, m * n, size));
        let w = numbers(&mut random, n, 2.0);
        let bytes: Vec<u8> = w.iter().flat_map(|w| w.to_le_bytes()).collect();
        let weight = LeF32::new(&bytes).unwrap();
        let dx = on_all(&before, |executor, dx| executor.rms_norm_backward(&x, weight, 1e-5, &dy, dx));
        for t in 0..m {
            let row = t * n..(t + 1) * n;
            let expected = differences(&doubles(&x[row.clone()]), |x| {
                let mean = x.iter().map(|x| x * x).sum::<f64>() / n as f64;
                let y = x.iter().zip(&w).map(|(x, w)| x / (mean + f64::from(1e-5f32)).sqrt() * f64::from(*w));
                y.zip(&dy[row.clone()]).map(|(y, dy)| y * f64::from(*dy)).sum()
            });
            let expected: Vec<f64> =
                expected.iter().zip(&before[row.clone()]).map(|(d, before)| d + f64::from(*before)).collect();
            assert_close(&dx[row], &expected, 2e-6);
        }
    }
}

#[test]
fn swiglu_keeps_its_inputs_and_its_gradients_are_those_of_finite_differences() {
    let mut random = Random(2);
    for &n in LENGTHS {
        let mut gate = numbers(&mut random, n, 8.0);
        for (gate, extreme) in
            gate.iter_mut().skip(n / 2).zip([0.0, -0.0, 60.0, -60.0, 90.0, -90.0, 1e4, -1e4])
        {
            *gate = extreme;
        }
        let [up, dy] = [3.0, 1.0].map(|size| numbers(&mut random, n, size));
        let kept = gate.clone();
        let out = on_all(&vec![f32::NAN; n], |executor, out| executor.swiglu(&gate, &up, out));
        let mut expected = gate.clone();
        KernelTable::for_isa(Isa::Scalar).unwrap().swiglu(&mut expected, &up);
        assert_same_bits(&out, &expected, || "swiglu".to_owned());
        assert_eq!(gate, kept);

        let mut d_up = Vec::new();
        let d_gate = on_all(&gate, |executor, gate| {
            let mut up = Fenced::new(&up);
            executor.swiglu_backward(gate, up.inner(), &dy);
            let found = up.check();
            match d_up.is_empty() {
                true => d_up = found,
                false => assert_same_bits(&found, &d_up, || format!("{}", executor.kernels().isa())),
            }
        });
        let silu = |g: f64| g / (1.0 + (-g).exp());
        for i in 0..n {
            let (g, u, dy) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dy[i]));
            let by_gate = differences(&[g], |g| silu(g[0]) * u * dy)[0];
            let (d_gate, d_up) = (f64::from(d_gate[i]), f64::from(d_up[i]));
            assert!(
                (d_gate - by_gate).abs() <= 1e-6 * (u * dy).abs() + 1e-9,
                "{d_gate} for {by_gate} at {g}"
            );
            let by_up = silu(g) * dy;
            assert!((d_up - by_up).abs() <= 1e-6 * by_up.abs() + 1e-30, "{d_up} for {by_up} at {g}");
        }
    }
}

#[test]
fn rope_turns_gradients_back() {
    let mut random = Random(3);
    for (head_dim, rope_dims, n_heads) in [(2, 2, 1), (16, 16, 3), (80, 32, 2), (128, 128, 2), (96, 70, 1)] {
        let (m, width) = (2, n_heads * head_dim);
        let inv_freq: Vec<f32> =
            (0..rope_dims / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / rope_dims as f32)).collect();
        let mut rotations = vec![0.0; m * 2 * rope_dims];
        for (pos, rotation) in [5, 32767].into_iter().zip(rotations.chunks_mut(2 * rope_dims)) {
            fill_rope(pos, &inv_freq, 1.25, rotation);
        }
        let dy = numbers(&mut random, m * width, 2.0);
        let dx = on_all(&dy, |executor, rows| {
            executor.rope_backward(rows, width, head_dim, rope_dims, &rotations);
        });
        for i in 0..m * width {
            let (t, d) = (i / width, i % width % head_dim);
            if d >= rope_dims {
                assert_eq!(dx[i], dy[i]);
                continue;
            }
            // y0 = x0·cos − x1·sin, y1 = x1·cos + x0·sin
            let rotation = &doubles(&rotations[t * 2 * rope_dims..][..2 * rope_dims]);
            let (cos, sin) = (rotation[d & !1], rotation[rope_dims + (d | 1)]);
            let (y0, y1) = (f64::from(dy[i & !1]), f64::from(dy[i | 1]));
            let expected = if d % 2 == 0 { y0 * cos + y1 * sin } else { y1 * cos - y0 * sin };
            assert!((f64::from(dx[i]) - expected).abs() < 1e-6 * (y0.abs() + y1.abs()));
        }
    }
}

#[test]
fn cross_entropy_is_the_log_of_the_softmax_and_its_gradient() {
    let mut random = Random(4);
    for &n in LENGTHS {
        let labels = [0, n as u32 - 1, (n / 2) as u32];
        let mut logits = numbers(&mut random, 3 * n, 12.0);
        // One so likely that its loss is small, one that is out of the question.
        logits[0] += 14.0;
        logits[2 * n - 1] = -200.0;
        let mut losses: Option<[f64; 3]> = None;
        let gradients = on_all(&logits, |executor, x| {
            let mut without = [f64::NAN; 3];
            executor.log_losses(x, &labels, &mut without);
            let mut found = [f64::NAN; 3];
            executor.cross_entropy(x, &labels, &mut found);
            assert_eq!(found.map(f64::to_bits), without.map(f64::to_bits));
            assert_eq!(found.map(f64::to_bits), losses.get_or_insert(found).map(f64::to_bits));
        });
        for (t, label) in labels.into_iter().enumerate() {
            let row = doubles(&logits[t * n..][..n]);
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            let loss = sum.ln() - row[label as usize];
            let found = losses.unwrap()[t];
            // The largest term's exponential is 1 exactly; the others' errors weigh less.
            assert!((found - loss).abs() <= 1e-6 * loss.max(1.0), "{found} for {loss}");
            for (i, x) in row.iter().enumerate() {
                let expected = x.exp() / sum - f64::from(u8::from(i == label as usize));
                let found = f64::from(gradients[t * n + i]);
                // At the label, the difference to 1 is rounded too.
                let bound = if i == label as usize { 6e-8 } else { 1e-30 };
                let p = x.exp() / sum;
                assert!((found - expected).abs() <= 3e-6 * p + bound, "{found} for {expected}");
            }
        }
    }
}

#[test]
fn a_logit_that_is_no_number_gives_a_loss_that_is_none() {
    for mut executor in executors() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = vec![1.0; 40];
            logits[17] = bad;
            let mut losses = [0.0];
            executor.log_losses(&logits, &[3], &mut losses);
            assert!(losses[0].is_nan(), "{bad} gives {}", losses[0]);
            executor.cross_entropy(&mut logits, &[3], &mut losses);
            assert!(losses[0].is_nan(), "{bad} gives {}", losses[0]);
        }
        executor.cross_entropy(&mut [], &[], &mut []);
    }
}

#[test]
fn dropout_keeps_what_its_counter_says() {
    let mut random = Random(5);
    for p in [0.0, 0.05, 0.5, 0.9] {
        let dropout = Dropout::new(p).unwrap();
        assert_eq!(dropout.is_none(), p == 0.0);
        for &n in LENGTHS {
            let keys = [dropout_key(1, 2, 3), 0, u64::MAX];
            let x = numbers(&mut random, 3 * n, 2.0);
            let out =
                on_all(&vec![f32::NAN; 3 * n], |executor, out| executor.dropout(dropout, &keys, &x, out));
            let before = numbers(&mut random, 3 * n, 2.0);
            let dx = on_all(&before, |executor, dx| executor.add_dropout_backward(dropout, &keys, &x, dx));
            let threshold = (f64::from(p) * 2f64.powi(32)).round() as u64;
            for (t, key) in keys.into_iter().enumerate() {
                // The tests' own SplitMix64.
                let mut generator = Random(key);
                let mut halves = 0;
                for i in 0..n {
                    halves = if i % 2 == 0 { generator.next() } else { halves >> 32 };
                    let factor = if halves & 0xffff_ffff < threshold { 0.0 } else { 1.0 / (1.0 - p) };
                    assert_eq!(out[t * n + i], x[t * n + i] * factor, "column {i}");
                    assert_eq!(dx[t * n + i], before[t * n + i] + x[t * n + i] * factor, "column {i}");
                }
            }
        }
    }
    for p in [-0.1, 1.0, f32::NAN] {
        assert_eq!(Dropout::new(p), None);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long for an interpreter")]
fn dropout_drops_its_share_of_every_row_and_column() {
    let (n, width, p) = (1000, 1024, 0.05);
    let keys: Vec<u64> = (0..n).map(|t| dropout_key(42, 7, t)).collect();
    let mut out = vec![0.0; n as usize * width];
    let ones = vec![1.0; out.len()];
    let mut executor = Executor::new(Arc::new(Team::new(2).unwrap()), KernelTable::detect());
    executor.dropout(Dropout::new(p).unwrap(), &keys, &ones, &mut out);
    let dropped = |x: &[f32]| x.iter().filter(|x| **x == 0.0).count() as f64;
    let sigma = |n: f64| (n * 0.05 * 0.95).sqrt();
    let all = out.len() as f64;
    assert!((dropped(&out) - 0.05 * all).abs() < 5.0 * sigma(all));
    for row in out.chunks(width) {
        assert!((dropped(row) - 0.05 * width as f64).abs() < 6.0 * sigma(width as f64));
    }
    for j in 0..width {
        let column: Vec<f32> = out.iter().skip(j).step_by(width).copied().collect();
        assert!((dropped(&column) - 0.05 * n as f64).abs() < 6.0 * sigma(n as f64));
    }
    // Neighbours in any of the three have nothing to do with each other.
    let keys = [dropout_key(42, 7, 0), dropout_key(42, 8, 0), dropout_key(43, 7, 0), dropout_key(42, 7, 1)];
    let width = 1 << 16;
    let (mut out, ones) = (vec![0.0; 4 * width], vec![1.0; 4 * width]);
    executor.dropout(Dropout::new(0.5).unwrap(), &keys, &ones, &mut out);
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        let both = (0..width).filter(|i| out[a * width + i] == 0.0 && out[b * width + i] == 0.0).count();
        assert!(
            (both as f64 - width as f64 / 4.0).abs() < 6.0 * (width as f64 * 3.0 / 16.0).sqrt(),
            "{both}"
        );
    }
}
