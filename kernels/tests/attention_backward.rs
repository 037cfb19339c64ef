//! Attention of training and its gradients: against the definition and its finite differences in f64, the same bits on every instruction set
//! and any number of threads, and for a sequence alone or in a batch.

#![cfg(feature = "train")]

mod common;
#[path = "common/fenced.rs"]
mod fenced;

use std::sync::Arc;

use bise_kernels::backward::{AttentionGradients, AttentionInputs, AttentionShape, Executor};
use bise_kernels::{Isa, KernelTable, Team};
use common::{Random, quick};
use fenced::Fenced;

/// A batch.
struct Case {
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    scales: Vec<f32>,
    sequences: Vec<usize>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d_out: Vec<f32>,
}

/// Outputs, sums, and the gradients of queries, keys and values.
type Results = [Vec<f32>; 5];

impl Case {
    fn new(seed: u64, heads: (usize, usize, usize), window: Option<usize>, sequences: &[usize]) -> Case {
        let mut random = Random(seed);
        let (n_heads, n_kv_heads, head_dim) = heads;
        let m: usize = sequences.iter().sum();
        let mut rows =
            |width: usize, size: f32| -> Vec<f32> { (0..m * width).map(|_| random.unit() * size).collect() };
        let (q, k) = (rows(n_heads * head_dim, 3.0), rows(n_kv_heads * head_dim, 3.0));
        let (v, d_out) = (rows(n_kv_heads * head_dim, 2.0), rows(n_heads * head_dim, 1.0));
        let scales = (0..m).map(|t| (1.0 + (t % 13) as f32 / 20.0) / (head_dim as f32).sqrt()).collect();
        Case { n_heads, n_kv_heads, head_dim, window, scales, sequences: sequences.to_vec(), q, k, v, d_out }
    }

    fn shape(&self) -> AttentionShape<'_> {
        AttentionShape {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            window: self.window,
            scales: &self.scales,
            sequences: &self.sequences,
        }
    }

    fn run(&self, executor: &mut Executor) -> Results {
        let fenced = |len: usize| Fenced::new(&vec![f32::NAN; len]);
        let (mut out, mut log_sums) = (fenced(self.q.len()), fenced(self.scales.len() * self.n_heads));
        executor.attention(&self.shape(), &self.q, &self.k, &self.v, out.inner(), log_sums.inner());
        let (out, log_sums) = (out.check(), log_sums.check());
        let (mut dq, mut dk, mut dv) = (fenced(self.q.len()), fenced(self.k.len()), fenced(self.v.len()));
        let Case { q, k, v, d_out, .. } = self;
        let inputs = AttentionInputs { q, k, v, out: &out, log_sums: &log_sums, d_out };
        let gradients = AttentionGradients { q: dq.inner(), k: dk.inner(), v: dv.inner() };
        executor.attention_backward(&self.shape(), &inputs, gradients);
        [out, log_sums, dq.check(), dk.check(), dv.check()]
    }

    /// The output in f64, with the sums.
    fn output(&self, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (d, n_rep) = (self.head_dim, self.n_heads / self.n_kv_heads);
        let (mut out, mut log_sums) = (vec![0.0; q.len()], Vec::new());
        let mut first = 0;
        for n in &self.sequences {
            for i in 0..*n {
                let t = first + i;
                for h in 0..self.n_heads {
                    let at = (t * self.n_heads + h) * d;
                    let key = |j: usize| ((first + j) * self.n_kv_heads + h / n_rep) * d;
                    let seen = || (0..*n).filter(|j| *j <= i && self.window.is_none_or(|w| *j + w > i));
                    let score = |j: usize| {
                        let dot: f64 = (0..d).map(|e| q[at + e] * k[key(j) + e]).sum();
                        dot * f64::from(self.scales[t])
                    };
                    let largest = seen().map(score).fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = seen().map(|j| (score(j) - largest).exp()).sum();
                    for j in seen() {
                        let p = (score(j) - largest).exp() / sum;
                        for e in 0..d {
                            out[at + e] += p * v[key(j) + e];
                        }
                    }
                    log_sums.push(largest + sum.ln());
                }
            }
            first += n;
        }
        (out, log_sums)
    }
}

fn doubles(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*a) - b).abs();
        assert!(error <= tolerance * largest, "{what} {i} is {a:e}, expected {b:e} beside {largest:e}");
    }
}

fn executors() -> Vec<Executor> {
    let tables = Isa::ALL.into_iter().filter_map(KernelTable::for_isa);
    let executor = |(i, table)| Executor::new(Arc::new(Team::new(1 + i % 3).unwrap()), table);
    tables.enumerate().map(executor).collect()
}

#[track_caller]
fn assert_same_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: element {i} is {a:e}, expected {b:e}");
    }
}

/// What every instruction set and team says.
fn on_all(case: &Case) -> Results {
    let mut executors = executors().into_iter();
    let first = case.run(&mut executors.next().expect("plain Rust is there"));
    for mut executor in executors {
        let isa = executor.kernels().isa();
        for (found, expected) in case.run(&mut executor).iter().zip(&first) {
            assert_same_bits(found, expected, isa.name());
        }
    }
    first
}

#[test]
fn outputs_and_gradients_are_those_of_the_definition() {
    type Shape = ((usize, usize, usize), Option<usize>, &'static [usize]);
    let few: &[Shape] = &[((2, 1, 3), Some(2), &[2, 3])];
    let all: &[Shape] = &[
        ((1, 1, 1), None, &[1]),
        ((2, 1, 3), Some(2), &[2, 5]),
        ((2, 2, 8), None, &[7]),
        ((4, 2, 16), Some(3), &[9, 0, 4]),
        ((3, 1, 20), None, &[5, 1, 6]),
        ((2, 1, 4), Some(1), &[6]),
        ((1, 1, 2), Some(70), &[75, 3]),
        ((2, 1, 2), None, &[70]),
    ];
    // Those of more than a block of keys take long under an emulator.
    let cases = match () {
        () if cfg!(miri) => few,
        () if quick() => &all[..all.len() - 2],
        () => all,
    };
    for (i, (heads, window, sequences)) in cases.iter().enumerate() {
        let case = Case::new(i as u64, *heads, *window, sequences);
        let [out, log_sums, dq, dk, dv] = on_all(&case);
        let (q, k, v) = (doubles(&case.q), doubles(&case.k), doubles(&case.v));
        let (expected, expected_sums) = case.output(&q, &k, &v);
        assert_close("output", &out, &expected, 2e-6);
        assert_close("sum", &log_sums, &expected_sums, 1e-6);
        let objective = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
            case.output(q, k, v).0.iter().zip(&case.d_out).map(|(o, d)| o * f64::from(*d)).sum()
        };
        let differences = |x: &[f64], f: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
            let (mut x, n) = (x.to_vec(), x.len());
            let slope = |i: usize| {
                let (at, h) = (x[i], 1e-5);
                x[i] = at + h;
                let above = f(&x);
                x[i] = at - h;
                let below = f(&x);
                x[i] = at;
                (above - below) / (2.0 * h)
            };
            (0..n).map(slope).collect()
        };
        assert_close("dq", &dq, &differences(&q, &|q| objective(q, &k, &v)), 5e-6);
        assert_close("dk", &dk, &differences(&k, &|k| objective(&q, k, &v)), 5e-6);
        assert_close("dv", &dv, &differences(&v, &|v| objective(&q, &k, v)), 5e-6);
    }
}

/// Longer than blocks of keys and tasks of queries, with a window that ends within blocks; and each sequence alone.
#[test]
#[cfg_attr(miri, ignore = "too long for an interpreter")]
fn a_sequence_is_the_same_alone_and_in_a_batch() {
    let sequences: &[usize] = if quick() { &[70, 1, 130] } else { &[150, 1, 64, 300, 65] };
    for (heads, window) in [((4, 2, 32), None), ((8, 1, 24), Some(100)), ((2, 2, 80), Some(64))] {
        let case = Case::new(9, heads, window, sequences);
        let all = on_all(&case);
        let (expected, _) = case.output(&doubles(&case.q), &doubles(&case.k), &doubles(&case.v));
        assert_close("output", &all[0], &expected, 5e-6);
        let mut first = 0;
        for n in sequences {
            let part = |x: &[f32]| {
                let width = x.len() / case.scales.len();
                x[first * width..(first + n) * width].to_vec()
            };
            let alone = Case {
                scales: part(&case.scales),
                sequences: vec![*n],
                q: part(&case.q),
                k: part(&case.k),
                v: part(&case.v),
                d_out: part(&case.d_out),
                ..case
            };
            let mut executor = Executor::new(Arc::new(Team::new(2).unwrap()), KernelTable::detect());
            for (found, all) in alone.run(&mut executor).iter().zip(&all) {
                assert_same_bits(found, &part(all), "alone");
            }
            first += n;
        }
    }
}

/// Keys whose scores are far apart: nothing overflows, and what is not seen weighs nothing.
#[test]
fn large_scores_are_no_trouble() {
    let mut case = Case::new(3, (1, 1, 16), None, if cfg!(miri) { &[5] } else { &[100] });
    case.q.iter_mut().for_each(|x| *x *= 40.0);
    let [out, log_sums, dq, dk, dv] = on_all(&case);
    for x in [&out, &log_sums, &dq, &dk, &dv] {
        assert!(x.iter().all(|x| x.is_finite()));
    }
    let (q, k, v) = (doubles(&case.q), doubles(&case.k), doubles(&case.v));
    // Scores near 1000 have a unit in the last place of 6e-5, which the softmax sees as such an error.
    assert_close("output", &out, &case.output(&q, &k, &v).0, 1e-3);
}
