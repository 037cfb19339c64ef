//! The whole product on emulated tile registers, on any CPU with AVX-512: what is packed, unpacked and added up around them is tested
//! where there is no AMX.

use std::cell::RefCell;

use super::registers::{Shapes, TILE_BYTES, TILE_ROWS, TileRegisters};
use super::{tile_32, tile_k};
use crate::activation::buffer::ActivationBuffer;
use crate::activation::rows::{Activations, QuantizedRows};
use crate::matmul::formats::*;
use crate::matmul::strip::{OutStrip, StripScratch};
use crate::simd::isa::Isa;
use crate::table::KernelTable;
use crate::team::Team;
use crate::weights::format::Format;
use crate::weights::matrix::QuantMatrix;

/// Eight registers, as the architecture's manual describes them.
struct Emulated {
    shapes: &'static Shapes,
    tiles: RefCell<[[[u8; TILE_BYTES]; TILE_ROWS]; 8]>,
}

impl Emulated {
    fn new(shapes: &'static Shapes) -> Emulated {
        Emulated { shapes, tiles: RefCell::new([[[0; TILE_BYTES]; TILE_ROWS]; 8]) }
    }

    fn shape(&self, t: u8) -> (usize, usize) {
        (self.shapes.rows[t as usize].into(), self.shapes.row_bytes[t as usize].into())
    }

    /// `C += A·B` with `value` of bytes of `B`.
    fn dot(&self, c: u8, a: u8, b: u8, value: impl Fn(u8) -> i32) {
        let (c_shape, a_shape, b_shape) = (self.shape(c), self.shape(a), self.shape(b));
        // Other shapes raise an exception.
        assert!(a_shape.0 == c_shape.0 && b_shape.1 == c_shape.1 && a_shape.1 == 4 * b_shape.0);
        let mut tiles = self.tiles.borrow_mut();
        let (weights, activations) = (tiles[b as usize], tiles[a as usize]);
        for row in 0..c_shape.0 {
            let sums: &mut [[u8; 4]; TILE_BYTES / 4] = bytemuck::cast_mut(&mut tiles[c as usize][row]);
            for (n, sum) in sums.iter_mut().enumerate().take(c_shape.1 / 4) {
                let mut total = i32::from_le_bytes(*sum);
                for i in 0..a_shape.1 {
                    let weight = value(weights[i / 4][4 * n + i % 4]);
                    total = total.wrapping_add(activations[row][i] as i8 as i32 * weight);
                }
                *sum = total.to_le_bytes();
            }
        }
    }
}

impl TileRegisters for Emulated {
    fn zero<const T: u8>(&self) {
        self.tiles.borrow_mut()[T as usize] = [[0; TILE_BYTES]; TILE_ROWS];
    }

    fn load_after<const T: u8>(&self, rows: &[[u8; TILE_BYTES]], at: usize) {
        let (n_rows, row_bytes) = self.shape(T);
        let tile = &mut self.tiles.borrow_mut()[T as usize];
        *tile = [[0; TILE_BYTES]; TILE_ROWS];
        for (tile, row) in tile[..n_rows].iter_mut().zip(&rows[..n_rows]) {
            tile[..row_bytes].copy_from_slice(&row[at..][..row_bytes]);
        }
    }

    fn store<const T: u8>(&self, out: &mut [[i32; 16]; TILE_ROWS]) {
        assert_eq!(self.shape(T), (TILE_ROWS, TILE_BYTES));
        *out = bytemuck::cast(self.tiles.borrow()[T as usize]);
    }

    fn dot_unsigned<const C: u8, const A: u8, const B: u8>(&self) {
        self.dot(C, A, B, |byte| byte as i32);
    }

    fn dot_signed<const C: u8, const A: u8, const B: u8>(&self) {
        self.dot(C, A, B, |byte| byte as i8 as i32);
    }
}

/// The product by AMX's path.
fn product(w: QuantMatrix<'_>, x: QuantizedRows<'_>, y: OutStrip<'_>, scratch: &mut StripScratch) {
    let k = &Emulated::new(&tile_k::SHAPES);
    let of_32 = &Emulated::new(&tile_32::SHAPES);
    // SAFETY: the test has seen that the CPU has AVX-512.
    unsafe {
        match w.format() {
            Format::Q8_0 => tile_32::tile_32::<_, Q8_0>(of_32, w, x, y, scratch),
            Format::Q4_0 => tile_32::tile_32::<_, Q4_0>(of_32, w, x, y, scratch),
            Format::Q4_1 => tile_32::tile_32::<_, Q4_1>(of_32, w, x, y, scratch),
            Format::Q5_0 => tile_32::tile_32::<_, Q5_0>(of_32, w, x, y, scratch),
            Format::Q5_1 => tile_32::tile_32::<_, Q5_1>(of_32, w, x, y, scratch),
            Format::IQ4_NL => tile_32::tile_32::<_, Iq4Nl>(of_32, w, x, y, scratch),
            Format::Q2_K => tile_k::tile_k::<_, Q2K>(k, w, x, y, scratch),
            Format::Q3_K => tile_k::tile_k::<_, Q3K>(k, w, x, y, scratch),
            Format::Q4_K => tile_k::tile_k::<_, Q4K>(k, w, x, y, scratch),
            Format::Q5_K => tile_k::tile_k::<_, Q5K>(k, w, x, y, scratch),
            Format::Q6_K => tile_k::tile_k::<_, Q6K>(k, w, x, y, scratch),
            Format::IQ4_XS => tile_k::tile_k::<_, Iq4Xs>(k, w, x, y, scratch),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("not quantized"),
        }
    }
}

/// Random blocks whose scales are finite.
fn weights(format: Format, n_blocks: usize, random: &mut impl FnMut() -> u64) -> Vec<u8> {
    let halves: &[usize] = match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        _ => &[0],
    };
    let mut bytes: Vec<u8> = (0..n_blocks * format.block_bytes()).map(|_| random() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for at in halves {
            // The exponent: from 2⁻¹⁵, subnormal numbers among them, to 1.
            block[at + 1] = (block[at + 1] & 0x83) | ((random() % 16) as u8 * 4);
        }
    }
    bytes
}

#[test]
fn products_on_emulated_registers_equal_the_reference() {
    if !Isa::Avx512Vnni.is_available() {
        eprintln!("skipped: this CPU has no AVX-512 with VNNI");
        return;
    }
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 8
    };
    let team = Team::new(1).expect("one thread is no pool");
    let packing = KernelTable::for_isa(Isa::Avx512Vnni).expect("it is available");
    let scalar = KernelTable::for_isa(Isa::Scalar).expect("it is everywhere");
    // Odd numbers of blocks, groups of rows that are not full, more tokens than a pass has, and rows longer than a chunk.
    for (n_rows, m, k) in [(1, 17, 256), (19, 33, 768), (64, 67, 256), (40, 18, 4096 + 768)] {
        for format in Format::ALL.into_iter().skip(3) {
            let k = if format.block_len() == 32 { k - 32 } else { k };
            let bytes = weights(format, n_rows * k / format.block_len(), &mut random);
            let w = QuantMatrix::new(&bytes, format, n_rows, k).expect("whole blocks");
            let x: Vec<f32> = (0..m * k).map(|_| (random() % 2001) as f32 / 1000.0 - 1.0).collect();
            let mut buffer = ActivationBuffer::new(&[(m, k)]);
            let x =
                buffer.prepare(&team, packing, format.activation_kind(), &x, m, k).expect("finite values");
            let Activations::Quantized(rows) = x else { unreachable!("quantized weights") };
            let (mut found, mut expected) = (vec![f32::NAN; m * n_rows], vec![f32::NAN; m * n_rows]);
            let mut scratch = StripScratch::new(crate::matmul::scratch_bytes(k));
            // What is left of another product must not matter.
            scratch.bytes().fill(0x7f);
            product(w, rows, OutStrip::whole(&mut found, m, n_rows), &mut scratch);
            scalar.dot(w, x, OutStrip::whole(&mut expected, m, n_rows), &mut scratch);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let at = (i / n_rows, i % n_rows);
                assert_eq!(
                    found.to_bits(),
                    expected.to_bits(),
                    "{format} {m} x {n_rows} x {k}, {at:?}: {found} {expected}"
                );
            }
        }
    }
}
