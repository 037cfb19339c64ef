//! Low-rank addends: against their definition, and the same bits on every instruction set, for any threads and however rows and columns are
//! cut.

mod common;
#[path = "common/fenced.rs"]
mod fenced;

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bise_kernels::low_rank::{Addend, Addends};
use bise_kernels::{
    Activations, Format, Isa, KernelTable, LowRankPair, Product, QuantMatrix, StripScratch, Team, matmul_with,
};
use common::Random;
use fenced::Fenced;

static NEVER: AtomicBool = AtomicBool::new(false);

/// `[m, rank, k, n_rows]`
const SHAPES: &[[usize; 4]] = if cfg!(miri) {
    &[[1, 1, 1, 1], [2, 3, 17, 18], [5, 16, 16, 33]]
} else {
    &[
        [1, 1, 1, 1],
        [1, 16, 320, 80],
        [2, 3, 17, 18],
        [5, 16, 16, 33],
        [4, 5, 100, 64],
        [9, 64, 64, 100],
        [70, 9, 48, 130],
        [33, 130, 32, 16],
    ]
};

/// Numbers that F32 holds and nothing shorter, or F16, or BF16 alone.
fn numbers(random: &mut Random, n: usize, format: usize) -> Vec<f32> {
    let shorten = |x: f32| match format {
        0 => x,
        1 => half::f16::from_f32(x).to_f32(),
        _ => half::bf16::from_f32(x * 2f32.powi(18)).to_f32(),
    };
    (0..n).map(|_| shorten(random.unit())).collect()
}

/// `x·Wᵀ` of one matrix of f32, and addends of which all rows of `u` are written.
fn product(
    team: &Team,
    kernels: &KernelTable,
    w: &[f32],
    x: &[f32],
    k: usize,
    addends: &[Addend<'_>],
) -> [Vec<f32>; 2] {
    let (m, n_rows) = (x.len() / k, w.len() / k);
    let w = QuantMatrix::new(bytemuck::cast_slice(w), Format::F32, n_rows, k).unwrap();
    let n_u = addends.iter().map(|addend| addend.x.len() / k * addend.pair.rank()).sum();
    let (mut y, mut u) = (Fenced::new(&vec![f32::NAN; m * n_rows]), Fenced::new(&vec![f32::NAN; n_u]));
    let scratch: Vec<_> = (0..team.n_threads()).map(|_| Mutex::new(StripScratch::new(0))).collect();
    let x = Activations::F32 { m, k, x };
    team.together(|| {
        let products = &mut [Product { w, y: y.inner() }];
        let addend = |i: usize| addends[i];
        // SAFETY: the same addends each time.
        let addends = unsafe { Addends::new(addends.len(), &addend, u.inner()) };
        matmul_with(team, kernels, products, x, &scratch, (&NEVER).into(), Some(addends));
    });
    [y.check(), u.check()]
}

#[test]
fn sums_are_those_of_the_definition_on_every_instruction_set() {
    let mut random = Random(1);
    for format in 0..3 {
        for &[m, rank, k, n_rows] in SHAPES {
            let (a, b) =
                (numbers(&mut random, rank * k, format), numbers(&mut random, n_rows * rank, format));
            let pair = LowRankPair::try_new(rank, &a, &b).unwrap();
            let (x, w) = (numbers(&mut random, m * k, 0), numbers(&mut random, n_rows * k, 0));
            let scale = 0.75 + random.unit() / 8.0;
            let addend = Addend { pair: &pair, product: 0, first_row: 0, x: &x, scale };
            let run = |kernels: &KernelTable, team: &Team| product(team, kernels, &w, &x, k, &[addend]);
            let (alone, scalar) = (Team::new(1).unwrap(), KernelTable::for_isa(Isa::Scalar).unwrap());
            let expected = run(scalar, &alone);
            let [y, _] = product(&alone, scalar, &w, &x, k, &[]);
            for isa in Isa::ALL {
                let Some(kernels) = KernelTable::for_isa(isa) else { continue };
                for n_threads in [1, 3] {
                    let found = run(kernels, &Team::new(n_threads).unwrap());
                    let bits =
                        |of: &[Vec<f32>; 2]| of.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(
                        bits(&found),
                        bits(&expected),
                        "{isa}, {n_threads} threads, {m} {rank} {k} {n_rows}"
                    );
                }
            }
            for t in 0..m {
                // Each sum, and what bounds its error: the same with all signs taken off.
                let dot = |j: usize| (0..k).map(move |i| (t * k + i, j * k + i));
                let u = |j| dot(j).map(|(i, l)| x[i] as f64 * a[l] as f64).sum::<f64>();
                let u_abs = |j| dot(j).map(|(i, l)| (x[i] as f64 * a[l] as f64).abs()).sum::<f64>();
                let (u, u_abs): (Vec<f64>, Vec<f64>) = (0..rank).map(|j| (u(j), u_abs(j))).unzip();
                for r in 0..n_rows {
                    let (mut sum, mut size) = (0.0, 0.0);
                    for j in 0..rank {
                        sum += u[j] * b[r * rank + j] as f64;
                        size += u_abs[j] * (b[r * rank + j] as f64).abs();
                    }
                    let y = y[t * n_rows + r] as f64;
                    let error = (expected[0][t * n_rows + r] as f64 - y - scale as f64 * sum).abs();
                    let n_roundings = k as f64 / 16.0 + rank as f64 + 8.0;
                    let bound = n_roundings * 2f64.powi(-24) * (y.abs() + scale as f64 * size);
                    assert!(error <= bound, "{error:e} > {bound:e} at {t} {r}: {m} {rank} {k} {n_rows}");
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_alone_and_in_any_company() {
    let mut random = Random(2);
    let kernels = KernelTable::detect();
    let team = Team::new(2).unwrap();
    let (m, k, n_rows) = if cfg!(miri) { (4, 32, 34) } else { (41, 96, 90) };
    let pairs: Vec<LowRankPair> = [1, 7, 16, 40]
        .into_iter()
        .map(|rank| {
            let (a, b) = (numbers(&mut random, rank * k, 0), numbers(&mut random, n_rows * rank, 0));
            LowRankPair::try_new(rank, &a, &b).unwrap()
        })
        .collect();
    let (x, w) = (numbers(&mut random, m * k, 0), numbers(&mut random, n_rows * k, 0));
    // All pairs in one step: two on all rows, and two on some.
    let rows_of = [0..m, 1..m / 2, 0..m, m / 2 - 1..m];
    let addends: Vec<Addend<'_>> = pairs
        .iter()
        .zip(&rows_of)
        .map(|(pair, rows)| {
            let x = &x[rows.start * k..rows.end * k];
            Addend { pair, product: 0, first_row: rows.start, x, scale: 0.5 }
        })
        .collect();
    let [together, _] = product(&team, kernels, &w, &x, k, &addends);
    for (t, x) in x.chunks(k).enumerate() {
        let of_row: Vec<Addend<'_>> = pairs
            .iter()
            .zip(&rows_of)
            .filter(|(_, rows)| rows.contains(&t))
            .map(|(pair, _)| Addend { pair, product: 0, first_row: 0, x, scale: 0.5 })
            .collect();
        let [alone, _] = product(&team, kernels, &w, x, k, &of_row);
        assert_eq!(alone, together[t * n_rows..][..n_rows], "row {t}");
    }
}

#[test]
fn a_pass_that_is_cancelled_ends() {
    let (k, pair) = (32, LowRankPair::try_new(2, &[1.0; 64], &[1.0; 400]).unwrap());
    let (w, x) = (vec![1f32; 200 * k], vec![1.0; 4 * k]);
    let (mut y, mut u) = (vec![0.0; 4 * 200], vec![0.0; 8]);
    let w = QuantMatrix::new(bytemuck::cast_slice(&w), Format::F32, 200, k).unwrap();
    let team = Team::new(2).unwrap();
    let scratch = [0, 1].map(|_| Mutex::new(StripScratch::new(0)));
    let addend = Addend { pair: &pair, product: 0, first_row: 0, x: &x, scale: 1.0 };
    let cancelled = AtomicBool::new(true);
    team.together(|| {
        let addend = |_: usize| addend;
        // SAFETY: the same addend each time.
        let addends = unsafe { Addends::new(1, &addend, &mut u) };
        let products = &mut [Product { w, y: &mut y }];
        let x = Activations::F32 { m: 4, k, x: &x };
        matmul_with(&team, KernelTable::detect(), products, x, &scratch, (&cancelled).into(), Some(addends));
    });
}

/// An addend of too many columns panics in a task, and the threads that wait for another task of it go on.
#[test]
#[should_panic(expected = "of 16")]
fn rows_that_are_not_there_panic() {
    let pair = LowRankPair::try_new(1, &[1.0; 16], &[1.0; 16]).unwrap();
    let addend = Addend { pair: &pair, product: 0, first_row: 0, x: &[1.0; 16], scale: 1.0 };
    product(&Team::new(2).unwrap(), KernelTable::detect(), &[1.0; 16 * 40], &[1.0; 16], 16, &[addend]);
}
