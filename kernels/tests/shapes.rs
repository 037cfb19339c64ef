//! How many rows a dot product takes at a time, and how far ahead it prefetches, does not change a bit.

mod common;

use std::io::Write;

use bise_kernels::matmul::DotShape;
use bise_kernels::{
    ActivationKind, Activations, Format, Isa, KernelTable, OutStrip, QuantMatrix, StripScratch,
};
use common::{Quantized, Random, map_halves};

/// A product by a table's `dot` with rows taken as `shape` says; what it does not write stays NaN.
fn product(kernels: &KernelTable, shape: DotShape, w: QuantMatrix<'_>, x: Activations<'_>) -> Vec<u32> {
    let mut y = vec![f32::NAN; x.m() * w.n_rows()];
    let out = OutStrip::whole(&mut y, x.m(), w.n_rows());
    let mut scratch = StripScratch::new(0);
    scratch.shape = shape;
    kernels.dot(w, x, out, &mut scratch);
    y.into_iter().map(f32::to_bits).collect()
}

#[test]
fn shapes_give_the_same_bits() {
    let mut random = Random(11);
    let scalar = KernelTable::for_isa(Isa::Scalar).unwrap();
    for format in Format::ALL.into_iter().filter(|f| f.activation_kind() != ActivationKind::F32) {
        // Blocks that fill steps of four rows (4 of 256 or 16 of 32 with AVX-512, 2 or 4 with AVX2), and such as do not.
        for (n_blocks, n_rows) in [(16, 9), (32, 4), (48, 17), (4, 1), (2, 35), (7, 5)] {
            let k = n_blocks * format.block_len();
            let mut bytes = random.bytes(n_rows * format.row_bytes(k).unwrap());
            map_halves(format, &mut bytes, |h| if h & 0x7c00 == 0x7c00 { h & 0xbfff } else { h });
            let w = QuantMatrix::new(&bytes, format, n_rows, k).unwrap();
            for m in 1..=5 {
                let mut x = Quantized::zeros(format.activation_kind(), m, k, 0);
                x.qs.iter_mut().for_each(|q| *q = (random.below(255) as i32 - 127) as i8);
                x.scales.iter_mut().for_each(|scale| *scale = random.unit());
                x.add_up();
                let expected = product(scalar, DotShape::detect(), w, x.view());
                for kernels in Isa::ALL.into_iter().filter_map(KernelTable::for_isa) {
                    let far = DotShape { prefetch_bytes: 1 << 20, ..DotShape::FOUR_ROWS };
                    let none = DotShape { prefetch_bytes: 0, ..DotShape::A_ROW_A_LANE };
                    for shape in [DotShape::A_ROW_A_LANE, DotShape::FOUR_ROWS, far, none] {
                        let found = product(kernels, shape, w, x.view());
                        let isa = kernels.isa();
                        assert!(
                            found == expected,
                            "{isa} {format} {n_blocks} blocks, {n_rows} rows, {m} x, {shape}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn says_which_shape_this_machine_takes() {
    // Past the harness, which would keep it to itself.
    let line =
        format!("shapes: dot products take {} (rows at a time/bytes prefetched) here\n", DotShape::detect());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
