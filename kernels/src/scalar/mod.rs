//! The reference: every kernel in plain Rust.
//!
//! # The rule of quantized products
//!
//! With `q` the values of a weight block, `x` those of the activation block (scale `dx`), all integer sums exact in i32, every float
//! operation rounded once, `acc` starting at 0.0 and blocks taken in the order of the row:
//!
//! - 256-element blocks: `S = Σ_j scale_j · Σ_{i in 16j..16j+16} q_i·x_i`, then `acc = fma(f32(S), d·dx, acc)`. Where the format has
//!   mins, `M = Σ_j min_j · sum_j` of the activations' sums, then `acc = fma(−f32(M), dmin·dx, acc)`.
//! - 32-element blocks: `S = Σ_i q_i·x_i`, then `acc = fma(f32(S), d·dx, acc)`. Where the format has a minimum, then
//!   `acc = fma(f32(sum), m·dx, acc)`.
//!
//! `|S|` stays below 2²⁷ (Q6_K: 256 · 32 · 128 · 127). `f32(S)` rounds to nearest, ties to even.

mod dot;

pub(crate) use dot::quantized;
use dot::{dot_32, dot_k};

use crate::block::*;
use crate::dispatch::{KernelTable, StripFn};
use crate::lanes;
use crate::quantize::{quantize_row_q8_0, quantize_row_q8k};
use crate::{Format, Isa};

/// In the order of [`Format::ALL`]. A tile is as many dots.
const DOT: [StripFn; Format::ALL.len()] = [
    lanes::SCALAR.product[0],
    lanes::SCALAR.product[1],
    lanes::SCALAR.product[2],
    dot_32::<BlockQ8_0>,
    dot_32::<BlockQ4_0>,
    dot_32::<BlockQ4_1>,
    dot_32::<BlockQ5_0>,
    dot_32::<BlockQ5_1>,
    dot_k::<BlockQ2K>,
    dot_k::<BlockQ3K>,
    dot_k::<BlockQ4K>,
    dot_k::<BlockQ5K>,
    dot_k::<BlockQ6K>,
    dot_32::<BlockIQ4NL>,
    dot_k::<BlockIQ4XS>,
];

pub(crate) static TABLE: KernelTable = KernelTable {
    isa: Isa::Scalar,
    dot: DOT,
    tile: DOT,
    tuned: [false; Format::ALL.len()],
    takes_tiles: false,
    by_block: true,
    quantize_q8_0: quantize_row_q8_0,
    quantize_q8k: quantize_row_q8k,
    floats: lanes::SCALAR,
};
