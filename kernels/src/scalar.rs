//! The reference: every kernel in plain Rust.

use crate::dispatch::{KernelTable, OutStrip, StripScratch};
use crate::{Activations, Format, Isa, QuantMatrix};

pub(crate) static TABLE: KernelTable = KernelTable {
    isa: Isa::Scalar,
    dot: [dot_f32; Format::ALL.len()],
    tile: [dot_f32; Format::ALL.len()],
    tuned: [false; Format::ALL.len()],
};

unsafe fn dot_f32(w: QuantMatrix<'_>, x: Activations<'_>, mut y: OutStrip<'_>, _: &mut StripScratch) {
    let Activations::F32 { m, k, x } = x else { unreachable!("checked by the table") };
    for t in 0..m {
        for (r, y) in y.row(t).iter_mut().enumerate() {
            let mut lanes = [0f32; 16];
            for (i, (x, w)) in x[t * k..][..k].iter().zip(w.row(r).chunks_exact(4)).enumerate() {
                let w = f32::from_le_bytes(w.try_into().expect("chunks of 4"));
                lanes[i % 16] = w.mul_add(*x, lanes[i % 16]);
            }
            let mut n = 8;
            while n > 0 {
                for i in 0..n {
                    lanes[i] += lanes[i + n];
                }
                n /= 2;
            }
            *y = lanes[0];
        }
    }
}
