//! Room for quantized activations, and the step that fills it.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::activation::kind::ActivationKind;
use crate::activation::packed::{PANEL_MIN_ROWS, Packed, packed_bytes};
use crate::activation::rows::{Activations, QuantizedRows};
use crate::aligned::{CacheLine, try_filled, try_zeros};
use crate::table::KernelTable;
use crate::team::Team;

/// An activation was infinite or NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an activation is not finite")]
pub struct NotFinite;

/// Room for quantized activations, reused from product to product.
pub struct ActivationBuffer {
    qs: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i16>,
    packed: Vec<CacheLine>,
}

impl ActivationBuffer {
    /// Room for any of these shapes, `(m, k)`.
    pub fn new(shapes: &[(usize, usize)]) -> Self {
        let (n, packed) = ActivationBuffer::room(shapes);
        ActivationBuffer {
            qs: vec![0; n],
            scales: vec![0.0; n.div_ceil(32)],
            sums: vec![0; n.div_ceil(16)],
            packed: vec![CacheLine::ZERO; packed.div_ceil(size_of::<CacheLine>())],
        }
    }

    /// Room for any of these shapes, `(m, k)`.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn try_new(shapes: &[(usize, usize)]) -> Result<Self, TryReserveError> {
        let (n, packed) = ActivationBuffer::room(shapes);
        Ok(ActivationBuffer {
            qs: try_filled(0, n)?,
            scales: try_filled(0.0, n.div_ceil(32))?,
            sums: try_filled(0, n.div_ceil(16))?,
            packed: try_zeros(packed)?,
        })
    }

    /// Bytes of a buffer for these shapes.
    pub fn bytes(shapes: &[(usize, usize)]) -> usize {
        let (n, packed) = ActivationBuffer::room(shapes);
        n + 4 * n.div_ceil(32) + 2 * n.div_ceil(16) + packed
    }

    /// Values, and bytes of the packed ones.
    fn room(shapes: &[(usize, usize)]) -> (usize, usize) {
        let values = shapes.iter().map(|(m, k)| m * k).max();
        let packed =
            shapes.iter().filter(|(m, _)| *m >= PANEL_MIN_ROWS).map(|(m, k)| packed_bytes(*m, *k)).max();
        (values.unwrap_or(0), packed.unwrap_or(0))
    }

    /// Quantizes `x [m, k]` to `kind` on all threads of the team; [`ActivationKind::F32`] is passed through.
    ///
    /// # Errors
    /// If a value is not finite. (f32 activations are not looked at.)
    ///
    /// # Panics
    /// If `x` is not `[m, k]`, its rows are not whole blocks, or the buffer was made for smaller shapes.
    pub fn prepare<'a>(
        &'a mut self,
        team: &Team,
        kernels: &KernelTable,
        kind: ActivationKind,
        x: &'a [f32],
        m: usize,
        k: usize,
    ) -> Result<Activations<'a>, NotFinite> {
        assert_eq!(x.len(), m * k, "activations of {m} x {k}");
        if kind == ActivationKind::F32 {
            return Ok(Activations::F32 { m, k, x });
        }
        let (b, s) = (kind.block_len(), kind.sum_len());
        assert!(k.is_multiple_of(b), "rows of {k} in blocks of {b}");
        let n = m * k;
        let (qs, scales, sums) = (&mut self.qs[..n], &mut self.scales[..n / b], &mut self.sums[..n / s]);
        let finite = AtomicBool::new(true);
        let mut chunks: [Option<Chunk<'_>>; MAX_CHUNKS] = [const { None }; MAX_CHUNKS];
        let chunk_len = n.div_ceil(MAX_CHUNKS).next_multiple_of(MIN_CHUNK);
        let parts = x.chunks(chunk_len).zip(qs.chunks_mut(chunk_len));
        let parts = parts.zip(scales.chunks_mut(chunk_len / b)).zip(sums.chunks_mut(chunk_len / s));
        let mut n_chunks = 0;
        for (chunk, (((x, qs), scales), sums)) in chunks.iter_mut().zip(parts) {
            *chunk = Some(Chunk { x, qs, scales, sums });
            n_chunks += 1;
        }
        team.for_each_chunk(&mut chunks[..n_chunks], 1, |_, chunk| {
            if let Some(Chunk { x, qs, scales, sums }) = &mut chunk[0]
                && !kernels.quantize(kind, x, qs, scales, sums)
            {
                finite.store(false, Relaxed);
            }
        });
        if !finite.into_inner() {
            return Err(NotFinite);
        }
        let mut rows = QuantizedRows {
            kind,
            m,
            k,
            qs: &self.qs[..n],
            scales: &self.scales[..n / b],
            sums: &self.sums[..n / s],
            packed: Packed::None,
        };
        if m >= PANEL_MIN_ROWS {
            rows.packed = kernels.pack(team, &rows, &mut self.packed);
        }
        Ok(Activations::Quantized(rows))
    }
}

/// Tasks that a quantization is cut into at most, and values in one at least (a multiple of every block).
const MAX_CHUNKS: usize = 64;
const MIN_CHUNK: usize = 4096;

/// One task of a quantization.
struct Chunk<'a> {
    x: &'a [f32],
    qs: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i16],
}
