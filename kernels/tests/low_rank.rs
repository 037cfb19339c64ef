//! Low-rank addends: against their definition, and the same bits on every instruction set, for any threads and however rows and columns are
//! cut.

mod common;
#[path = "common/fenced.rs"]
mod fenced;

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bise_kernels::low_rank::{ShrinkJob, shrink};
use bise_kernels::{Isa, KernelTable, LowRankPair, OutStrip, StripScratch, Team};
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

fn scratch(n: usize) -> Vec<Mutex<StripScratch>> {
    (0..n).map(|_| Mutex::new(StripScratch::new(0))).collect()
}

#[test]
fn sums_are_those_of_the_definition_on_every_instruction_set() {
    let mut random = Random(1);
    for format in 0..3 {
        for &[m, rank, k, n_rows] in SHAPES {
            let (a, b) =
                (numbers(&mut random, rank * k, format), numbers(&mut random, n_rows * rank, format));
            let pair = LowRankPair::try_new(rank, &a, &b).unwrap();
            let (x, y) = (numbers(&mut random, m * k, 0), numbers(&mut random, m * n_rows, 0));
            let scale = 0.75 + random.unit() / 8.0;
            let run = |kernels: &KernelTable, team: &Team| {
                let mut u = Fenced::new(&vec![f32::NAN; m * rank]);
                let job = |_| ShrinkJob { pair: &pair, x: &x };
                let scratch = scratch(team.n_threads());
                team.together(|| shrink(team, kernels, 1, job, u.inner(), &scratch, (&NEVER).into()));
                let mut sums = Fenced::new(&y);
                kernels.expand(&pair, 0, u.inner(), scale, OutStrip::whole(sums.inner(), m, n_rows));
                (u.check(), sums.check())
            };
            let alone = Team::new(1).unwrap();
            let expected = run(KernelTable::for_isa(Isa::Scalar).unwrap(), &alone);
            for isa in Isa::ALL {
                let Some(kernels) = KernelTable::for_isa(isa) else { continue };
                for n_threads in [1, 3] {
                    let found = run(kernels, &Team::new(n_threads).unwrap());
                    let bits =
                        |v: &(Vec<f32>, Vec<f32>)| v.0.iter().chain(&v.1).map(|x| x.to_bits()).collect();
                    let (found, expected): (Vec<u32>, Vec<u32>) = (bits(&found), bits(&expected));
                    assert_eq!(found, expected, "{isa}, {n_threads} threads, {m} {rank} {k} {n_rows}");
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
                    let error = (expected.1[t * n_rows + r] as f64 - y - scale as f64 * sum).abs();
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
    let (m, k, n_rows) = (41, 96, 90);
    let pairs: Vec<LowRankPair> = [1, 7, 16, 40]
        .into_iter()
        .map(|rank| {
            let (a, b) = (numbers(&mut random, rank * k, 0), numbers(&mut random, n_rows * rank, 0));
            LowRankPair::try_new(rank, &a, &b).unwrap()
        })
        .collect();
    let (x, y) = (numbers(&mut random, m * k, 0), numbers(&mut random, m * n_rows, 0));
    // All pairs in one step, on all rows.
    let n_outputs = pairs.iter().map(|pair| m * pair.rank()).sum();
    let mut u = vec![f32::NAN; n_outputs];
    let job = |i: usize| ShrinkJob { pair: &pairs[i], x: &x };
    team.together(|| shrink(&team, kernels, pairs.len(), job, &mut u, &scratch(2), (&NEVER).into()));
    let mut first = 0;
    for pair in &pairs {
        let u = &u[first..][..m * pair.rank()];
        first += u.len();
        let mut whole = y.clone();
        kernels.expand(pair, 0, u, 0.5, OutStrip::whole(&mut whole, m, n_rows));
        for (t, (x, y)) in x.chunks(k).zip(y.chunks(n_rows)).enumerate() {
            let mut alone = vec![f32::NAN; pair.rank()];
            let job = |_| ShrinkJob { pair, x };
            shrink(&team, kernels, 1, job, &mut alone, &scratch(2), (&NEVER).into());
            assert_eq!(alone, u[t * pair.rank()..][..pair.rank()], "row {t} of rank {}", pair.rank());
            // In strips of 16 and 32 columns, as tasks have them.
            let mut sums = y.to_vec();
            let mut strips = OutStrip::whole(&mut sums, 1, n_rows);
            for (at, n) in [(0, 16), (16, 32), (48, 42)] {
                kernels.expand(pair, at, &alone, 0.5, strips.columns(at, n));
            }
            assert_eq!(sums, whole[t * n_rows..][..n_rows], "row {t} of rank {}", pair.rank());
        }
    }
}

#[test]
#[should_panic(expected = "rows 0..3 of 2")]
fn rows_that_are_not_there_panic() {
    let pair = LowRankPair::try_new(1, &[1.0], &[1.0, 2.0]).unwrap();
    KernelTable::detect().expand(&pair, 0, &[1.0], 1.0, OutStrip::whole(&mut [0.0; 3], 1, 3));
}
