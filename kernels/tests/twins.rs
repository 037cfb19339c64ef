//! Every instruction set of this machine equals the scalar reference, bit for bit: products of every format, few rows and many, and the
//! activation quantizers. A table that is added to `KernelTable::for_isa` is tested here without further ado.
#![cfg(unix)]

mod common;
#[path = "common/fenced.rs"]
mod fenced;
#[path = "common/guarded.rs"]
mod guarded;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use bise_kernels::matmul::{FEW_ROWS, STRIP_ROWS};
use bise_kernels::{
    ActivationBuffer, ActivationKind, Activations, Format, Isa, KernelTable, OutStrip, Product, QuantMatrix,
    StripScratch, Team, matmul,
};
use common::{Quantized, Random, map_halves, quick, with_packed};
use fenced::{Fenced, fenced_columns};
use guarded::Guarded;
use proptest::prelude::*;

/// Nothing is cancelled.
static NEVER: AtomicBool = AtomicBool::new(false);

fn scalar() -> &'static KernelTable {
    KernelTable::for_isa(Isa::Scalar).expect("every machine runs plain Rust")
}

/// The tables to compare with the reference.
fn twins() -> Vec<&'static KernelTable> {
    Isa::ALL.into_iter().skip(1).filter_map(KernelTable::for_isa).collect()
}

/// Rows of a product that is cut into tasks, and blocks in each; a strip has 64 rows.
const MOST_ROWS: usize = if cfg!(miri) { 80 } else { 200 };
const MOST_BLOCKS: usize = if cfg!(miri) { 1 } else { 3 };

/// What a product is tried with.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    blocks: usize,
    n_rows: usize,
    m: usize,
    /// Readable bytes after the weights.
    slack: usize,
    extreme: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    // Under an interpreter the shapes are those that come first.
    let (all, first) = (u32::from(!cfg!(miri)), u32::from(cfg!(miri)));
    let blocks = prop_oneof![1 => Just(1), first => Just(2), all => 1..=5usize, all => 1..=20usize];
    let n_rows = prop_oneof![1 => 1..=20usize, all => 1..=STRIP_ROWS];
    let m = prop_oneof![1 => Just(1), 1 => 1..=5usize, all => 1..=FEW_ROWS, all => FEW_ROWS..=40];
    (any::<u64>(), blocks, n_rows, m, 0..=3usize, any::<bool>()).prop_map(
        |(seed, blocks, n_rows, m, slack, extreme)| Case { seed, blocks, n_rows, m, slack, extreme },
    )
}

impl Case {
    fn k(&self, format: Format) -> usize {
        self.blocks * format.block_len().max(32)
            + if format.block_len() == 1 { self.seed as usize % 32 } else { 0 }
    }

    /// Random bytes with finite scales; the extremes are bytes of all ones, signs alone and the like, under the scales where a
    /// product overflows an i16 or rounds, if it ever does.
    fn weights(&self, format: Format) -> Vec<u8> {
        let mut random = Random(self.seed);
        let n = self.n_rows * format.row_bytes(self.k(format)).expect("whole blocks");
        let mut bytes = random.bytes(n);
        if format.activation_kind() == ActivationKind::F32 && format != Format::F16 {
            let sign_and_exponent = if format == Format::F32 { 4 } else { 2 };
            for number in bytes.chunks_exact_mut(sign_and_exponent) {
                // Magnitudes from 2⁻¹⁵ to 2: neither infinity nor NaN, whose bits no rule fixes.
                number[sign_and_exponent - 1] = random.pick(&[0x38, 0x3c, 0x3f, 0xb8, 0xbc, 0xbf]);
            }
        }
        if self.extreme {
            if format.activation_kind() != ActivationKind::F32 {
                for block in bytes.chunks_exact_mut(format.block_bytes()) {
                    block.fill(random.pick(&[0x00, 0xff, 0x80, 0x7f, 0x81, 0x0f, 0xf0]));
                }
            }
            let scales = [0x7bff, 0xfbff, 0x0000, 0x8000, 0x0001, 0x83ff, 0x3c00, 0xbc00];
            map_halves(format, &mut bytes, |_| random.pick(&scales));
        } else {
            map_halves(format, &mut bytes, |h| if h & 0x7c00 == 0x7c00 { h & 0xbfff } else { h });
        }
        bytes
    }

    fn input(&self, format: Format) -> Input {
        let (kind, k) = (format.activation_kind(), self.k(format));
        let mut random = Random(!self.seed);
        if kind == ActivationKind::F32 {
            let x = (0..self.m * k + self.slack).map(|_| random.unit()).collect();
            return Input::F32 { m: self.m, k, shift: self.slack, x };
        }
        let mut x = Quantized::zeros(kind, self.m, k, self.slack);
        for scale in &mut x.scales {
            *scale = random.unit() * random.pick(&[1.0, 1.0, 1e-4, 300.0, 0.0]);
        }
        for qs in x.qs[self.slack..].chunks_exact_mut(kind.block_len()) {
            let all = random.pick(&[127, -127, 0]);
            for q in qs {
                *q = if self.extreme { all } else { (random.below(255) as i32 - 127) as i8 };
            }
        }
        x.add_up();
        Input::Quantized(x)
    }
}

/// Activations that own their parts.
enum Input {
    F32 { m: usize, k: usize, shift: usize, x: Vec<f32> },
    Quantized(Quantized),
}

impl Input {
    fn view(&self) -> Activations<'_> {
        match self {
            Input::F32 { m, k, shift, x } => Activations::F32 { m: *m, k: *k, x: &x[*shift..] },
            Input::Quantized(q) => q.view(),
        }
    }
}

/// A product by a table's `dot` or `panel`, in columns of a wider matrix; what it does not write stays NaN.
fn product(kernels: &KernelTable, panel: bool, w: QuantMatrix<'_>, x: Activations<'_>) -> Vec<f32> {
    let (m, n_rows) = (x.m(), w.n_rows());
    fenced_columns(m, n_rows, f32::NAN, |y, width, first| {
        let mut whole = OutStrip::whole(y, m, width);
        let out = whole.columns(first, n_rows);
        let mut scratch = StripScratch::new(0);
        if panel {
            with_packed(kernels, x, |x| kernels.panel(w, x, out, &mut scratch))
        } else {
            kernels.dot(w, x, out, &mut scratch)
        }
    })
}

#[track_caller]
fn assert_same_bits(found: &[f32], expected: &[f32], what: impl FnOnce() -> String) {
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
    if let Some(i) = found.iter().zip(expected).position(|pair| !same(pair)) {
        panic!("{}: output {i} is {:e}, the reference says {:e}", what(), found[i], expected[i]);
    }
    assert_eq!(found.len(), expected.len());
}

/// `BISE_TEST_ISAS=avx2,avxvnni` makes it a failure if one of these is missing, as CI does where it knows the machine.
#[test]
fn says_which_instruction_sets_are_skipped() {
    let names = |available: bool| {
        let isas = Isa::ALL.into_iter().filter(|isa| KernelTable::for_isa(*isa).is_some() == available);
        isas.map(Isa::name).collect::<Vec<_>>().join(", ")
    };
    // Past the harness, which would keep it to itself.
    let line = format!("twins: tested {}; skipped on this machine: {}\n", names(true), names(false));
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    let expected = std::env::var("BISE_TEST_ISAS").unwrap_or_default();
    for isa in expected.split(',').filter(|name| !name.is_empty()) {
        let isa: Isa = isa.parse().expect("BISE_TEST_ISAS lists instruction sets");
        assert!(
            KernelTable::for_isa(isa).is_some(),
            "{isa} is to be tested (BISE_TEST_ISAS) and is not available"
        );
    }
    assert!(KernelTable::for_isa(Isa::Scalar).is_some());
}

/// Some seconds' worth, also under an emulator; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let usual = if cfg!(miri) {
        2
    } else if quick() {
        12
    } else {
        48
    };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { usual };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn products_equal_the_reference(case in cases()) {
        for format in Format::ALL {
            let k = case.k(format);
            let bytes = Guarded::new(&case.weights(format), case.slack);
            let w = QuantMatrix::new(bytes.bytes(), format, case.n_rows, k).unwrap();
            let input = case.input(format);
            let x = input.view();
            let expected = product(scalar(), false, w, x);
            assert!(expected.iter().all(|y| y.is_finite()), "{format}: finite scales give finite products");
            assert_same_bits(&product(scalar(), true, w, x), &expected, || format!("scalar panel of {format}"));
            for kernels in twins() {
                for panel in [false, true] {
                    let found = product(kernels, panel, w, x);
                    let kernel = if panel { "panel" } else { "dot" };
                    assert_same_bits(&found, &expected, || format!("{} {kernel} of {format}", kernels.isa()));
                }
            }
        }
    }

    #[test]
    fn quantizers_equal_the_reference(seed in any::<u64>(), blocks in 1..=6usize, shift in 0..=3usize) {
        let mut random = Random(seed);
        for kind in [ActivationKind::Q8_0, ActivationKind::Q8K] {
            let n = blocks * kind.block_len();
            let mut x = vec![0f32; n + shift];
            for block in x[shift..].chunks_exact_mut(kind.block_len()) {
                fill_block(&mut random, block);
            }
            let spoiled = random.below(4) == 0;
            if spoiled {
                let i = shift + random.below(n);
                x[i] = random.pick(&[f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
            }
            let quantize = |kernels: &KernelTable| {
                let mut q = Quantized::zeros(kind, 1, n, shift);
                let (mut qs, mut scales, mut sums) =
                    (Fenced::new(&q.qs), Fenced::new(&q.scales), Fenced::new(&q.sums));
                let (qs_out, scales_out) = (&mut qs.inner()[shift..], &mut scales.inner()[shift..]);
                let finite = kernels.quantize(kind, &x[shift..], qs_out, scales_out, &mut sums.inner()[shift..]);
                (q.qs, q.scales, q.sums) = (qs.check(), scales.check(), sums.check());
                (finite, q)
            };
            let (finite, expected) = quantize(scalar());
            assert_eq!(finite, !spoiled);
            for kernels in twins() {
                let (found_finite, found) = quantize(kernels);
                let isa = kernels.isa();
                assert_eq!(found_finite, finite, "{isa} {kind:?}");
                if finite {
                    assert_same_bits(&found.scales, &expected.scales, || format!("{isa} {kind:?} scales"));
                    assert_eq!(&found.qs, &expected.qs, "{isa} {kind:?}");
                    assert_eq!(&found.sums, &expected.sums, "{isa} {kind:?} sums");
                }
            }
        }
    }

    #[test]
    fn a_product_is_the_same_however_it_is_cut(case in cases(), n_rows in 1..MOST_ROWS, n_threads in 1..=3usize) {
        let team = Team::new(n_threads).unwrap();
        let scratch: Vec<_> = (0..n_threads).map(|_| Mutex::new(StripScratch::new(0))).collect();
        let format = Random(case.seed).pick(&Format::ALL);
        let case = Case { n_rows, blocks: case.blocks.min(MOST_BLOCKS), ..case };
        let k = case.k(format);
        let bytes = case.weights(format);
        let w = QuantMatrix::new(&bytes, format, n_rows, k).unwrap();
        let input = case.input(format);
        let x = input.view();
        let expected = product(scalar(), false, w, x);
        let alone = w.rows(n_rows / 2, 1);
        for kernels in Isa::ALL.into_iter().filter_map(KernelTable::for_isa) {
            let mut y = vec![f32::NAN; expected.len()];
            let mut one = vec![f32::NAN; case.m];
            let mut products = [Product { w, y: &mut y }, Product { w: alone, y: &mut one }];
            team.together(|| with_packed(kernels, x, |x| matmul(&team, kernels, &mut products, x, &scratch, (&NEVER).into())));
            let isa = kernels.isa();
            assert_same_bits(&y, &expected, || format!("{isa} {format} on {n_threads} threads"));
            let column: Vec<f32> = expected.iter().skip(n_rows / 2).step_by(n_rows).copied().collect();
            assert_same_bits(&one, &column, || format!("{isa} {format}, one row alone"));
        }
    }
}

/// Rows longer than a strip unpacks at a time, and more tokens than a panel has.
#[test]
#[cfg_attr(miri, ignore = "too long for an interpreter")]
fn long_rows_and_many_tokens_equal_the_reference() {
    for format in Format::ALL {
        let blocks = 4096 / format.block_len().max(32) + 3;
        let case = Case { seed: 7, blocks, n_rows: 19, m: 67, slack: 1, extreme: false };
        let k = case.k(format);
        let bytes = case.weights(format);
        let w = QuantMatrix::new(&bytes, format, case.n_rows, k).unwrap();
        let input = case.input(format);
        let x = input.view();
        let expected = product(scalar(), false, w, x);
        for kernels in twins() {
            for panel in [false, true] {
                let found = product(kernels, panel, w, x);
                assert_same_bits(&found, &expected, || {
                    format!("{} of {format}, panel {panel}", kernels.isa())
                });
            }
        }
    }
}

/// Large enough for tasks of every size, and two products a step.
#[test]
#[cfg_attr(miri, ignore = "too long for an interpreter")]
fn large_products_equal_the_reference_on_any_team() {
    for m in [1, FEW_ROWS, FEW_ROWS + 4] {
        let case = Case { seed: 5, blocks: 64, n_rows: 1500, m, slack: 0, extreme: false };
        let (format, k) = (Format::Q8_0, case.k(Format::Q8_0));
        let bytes = case.weights(format);
        let w = QuantMatrix::new(&bytes, format, case.n_rows, k).unwrap();
        let input = case.input(format);
        let x = input.view();
        let expected = product(scalar(), false, w, x);
        for n_threads in [1, 2, 3] {
            let team = Team::new(n_threads).unwrap();
            let scratch: Vec<_> = (0..n_threads).map(|_| Mutex::new(StripScratch::new(0))).collect();
            let (mut a, mut b) = (vec![f32::NAN; expected.len()], vec![f32::NAN; expected.len()]);
            let mut products = [Product { w, y: &mut a }, Product { w, y: &mut b }];
            team.together(|| {
                with_packed(KernelTable::detect(), x, |x| {
                    matmul(&team, KernelTable::detect(), &mut products, x, &scratch, (&NEVER).into())
                })
            });
            assert_same_bits(&a, &expected, || format!("{m} tokens on {n_threads} threads"));
            assert_same_bits(&b, &expected, || format!("{m} tokens on {n_threads} threads, second"));
        }
    }
}

#[test]
fn a_product_that_panics_leaves_the_scratch_usable() {
    let team = Team::new(2).unwrap();
    let scratch: Vec<_> = (0..2).map(|_| Mutex::new(StripScratch::new(0))).collect();
    let case = Case { seed: 3, blocks: 1, n_rows: MOST_ROWS, m: 2, slack: 0, extreme: false };
    let bytes = case.weights(Format::Q4_K);
    let w = QuantMatrix::new(&bytes, Format::Q4_K, case.n_rows, 256).unwrap();
    let multiply = |input: &Input| {
        let mut y = vec![f32::NAN; case.m * case.n_rows];
        let mut products = [Product { w, y: &mut y }];
        team.together(|| {
            matmul(&team, KernelTable::detect(), &mut products, input.view(), &scratch, (&NEVER).into())
        });
        y
    };
    let expected = multiply(&case.input(Format::Q4_K));
    for _ in 0..3 {
        let of_another_kind = case.input(Format::F32);
        assert!(catch_unwind(AssertUnwindSafe(|| multiply(&of_another_kind))).is_err());
        assert_same_bits(&multiply(&case.input(Format::Q4_K)), &expected, || "after a panic".to_owned());
    }
}

/// Finite values of some shape: smooth, of one magnitude, on rounding ties, tiny, huge or zero.
fn fill_block(random: &mut Random, block: &mut [f32]) {
    let shape = random.below(7);
    let scale = random.pick(&[1.0, 1e-3, 1e4, 1e30]);
    for x in block.iter_mut() {
        *x = match shape {
            0 | 1 => random.unit() * scale,
            2 => random.unit().signum() * scale,
            3 => (random.below(255) as f32 - 127.0) + 0.5,
            4 => random.pick(&[f32::MIN_POSITIVE, -1e-40, 1e-45, 0.0, -0.0, 3e-37]),
            5 => random.pick(&[f32::MAX, f32::MIN, 1.0, f32::MAX / 2.0]),
            _ => random.pick(&[0.0, -0.0]),
        };
    }
    if shape == 3 {
        block[0] = 127.0; // `127 / amax` is 1, and every other value lies on a tie
        block[1..].iter_mut().for_each(|x| *x = x.clamp(-126.5, 126.5));
    }
}

#[test]
fn a_cancelled_product_computes_nothing() {
    let bytes = vec![0; 64 * 34];
    let w = QuantMatrix::new(&bytes, Format::Q8_0, 64, 32).unwrap();
    for threads in [1, 2] {
        let team = Team::new(threads).unwrap();
        let scratch: Vec<_> = (0..threads).map(|_| Mutex::new(StripScratch::new(0))).collect();
        let mut buffer = ActivationBuffer::new(&[(3, 32)]);
        let kernels = KernelTable::detect();
        let x = buffer.prepare(&team, kernels, ActivationKind::Q8_0, &[1.0; 96], 3, 32).unwrap();
        let mut y = vec![7.0; 3 * 64];
        let cancelled = AtomicBool::new(true);
        team.together(|| {
            matmul(&team, kernels, &mut [Product { w, y: &mut y }], x, &scratch, (&cancelled).into())
        });
        assert!(y.iter().all(|y| *y == 7.0), "{threads} threads");
    }
}
