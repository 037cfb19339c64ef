//! Activations as the products take them: f32, or 8 bits with an f32 scale a block.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[cfg(target_arch = "x86_64")]
use crate::activation_tile::{Tile32, TileK};
use crate::activation_tile::{Tiles, tiles_bytes};
use crate::matmul::TILE_MIN_ROWS;
use crate::{CacheLine, KernelTable, Team};

/// The form in which activations enter a product; the weights' [`Format`](crate::Format) decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationKind {
    /// As they are (F32, F16 and BF16 weights).
    F32,
    /// Blocks of 32, one scale and one sum each (weights in blocks of 32).
    Q8_0,
    /// Blocks of 256, one scale, and a sum for every 16 (K-quants and IQ4_XS).
    Q8K,
}

impl ActivationKind {
    /// Values that share a scale (0 for f32).
    pub const fn block_len(self) -> usize {
        match self {
            ActivationKind::F32 => 0,
            ActivationKind::Q8_0 => 32,
            ActivationKind::Q8K => 256,
        }
    }

    /// Values that share a sum (0 for f32).
    pub const fn sum_len(self) -> usize {
        match self {
            ActivationKind::F32 => 0,
            ActivationKind::Q8_0 => 32,
            ActivationKind::Q8K => 16,
        }
    }
}

/// `m` rows of `k` activations in 8 bits: `x ≈ scale · q`, with `q` in `[−127, 127]`.
///
/// Row `t`, block `b`: `qs[t·k + b·B..]`, `scales[t·k/B + b]`, and `sums[(t·k + i)/S]` is the sum of the `S` values from `i` on,
/// where `B` is [`ActivationKind::block_len`] and `S` is [`ActivationKind::sum_len`].
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRows<'a> {
    /// `Q8_0` or `Q8K`.
    pub kind: ActivationKind,
    /// Rows.
    pub m: usize,
    /// Values in a row, a multiple of the block.
    pub k: usize,
    /// `[m, k]`
    pub qs: &'a [i8],
    /// `[m, k / B]`
    pub scales: &'a [f32],
    /// `[m, k / S]`
    pub sums: &'a [i16],
    /// The same once more as tiles, where [`KernelTable::takes_tiles`].
    pub tiles: Tiles<'a>,
}

impl<'a> QuantizedRows<'a> {
    /// The tiles of blocks of 256.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn tiles_k(&self) -> &'a [TileK] {
        match self.tiles {
            Tiles::K(tiles) => tiles,
            _ => panic!("activations are not laid out as tiles"),
        }
    }

    /// The tiles of blocks of 32.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn tiles_32(&self) -> &'a [Tile32] {
        match self.tiles {
            Tiles::Of32(tiles) => tiles,
            _ => panic!("activations are not laid out as tiles"),
        }
    }

    /// Rows `first..first + n` alone, not as tiles.
    ///
    /// # Panics
    /// Where they are not all there.
    pub fn rows(&self, first: usize, n: usize) -> QuantizedRows<'a> {
        let (kb, ks) = (self.k / self.kind.block_len(), self.k / self.kind.sum_len());
        QuantizedRows {
            m: n,
            qs: &self.qs[first * self.k..][..n * self.k],
            scales: &self.scales[first * kb..][..n * kb],
            sums: &self.sums[first * ks..][..n * ks],
            tiles: Tiles::None,
            ..*self
        }
    }
}

/// The input of a product.
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// `[m, k]` as they are.
    F32 {
        /// Rows.
        m: usize,
        /// Values in a row.
        k: usize,
        /// `[m, k]`
        x: &'a [f32],
    },
    /// In 8 bits.
    Quantized(QuantizedRows<'a>),
}

impl Activations<'_> {
    /// The form they have.
    pub fn kind(&self) -> ActivationKind {
        match self {
            Activations::F32 { .. } => ActivationKind::F32,
            Activations::Quantized(q) => q.kind,
        }
    }

    /// Rows.
    pub fn m(&self) -> usize {
        match self {
            Activations::F32 { m, .. } => *m,
            Activations::Quantized(q) => q.m,
        }
    }

    /// Values in a row.
    pub fn k(&self) -> usize {
        match self {
            Activations::F32 { k, .. } => *k,
            Activations::Quantized(q) => q.k,
        }
    }
}

/// An activation was infinite or NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an activation is not finite")]
pub struct NotFinite;

/// Room for quantized activations, reused from product to product.
pub struct ActivationBuffer {
    qs: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i16>,
    tiles: Vec<CacheLine>,
}

impl ActivationBuffer {
    /// Room for any of these shapes, `(m, k)`.
    pub fn new(shapes: &[(usize, usize)]) -> Self {
        let (n, tiles) = ActivationBuffer::room(shapes);
        ActivationBuffer {
            qs: vec![0; n],
            scales: vec![0.0; n.div_ceil(32)],
            sums: vec![0; n.div_ceil(16)],
            tiles: vec![bytemuck::Zeroable::zeroed(); tiles.div_ceil(size_of::<CacheLine>())],
        }
    }

    /// Bytes of a buffer for these shapes.
    pub fn bytes(shapes: &[(usize, usize)]) -> usize {
        let (n, tiles) = ActivationBuffer::room(shapes);
        n + 4 * n.div_ceil(32) + 2 * n.div_ceil(16) + tiles
    }

    /// Values, and bytes of their tiles.
    fn room(shapes: &[(usize, usize)]) -> (usize, usize) {
        let values = shapes.iter().map(|(m, k)| m * k).max();
        let tiles =
            shapes.iter().filter(|(m, _)| *m >= TILE_MIN_ROWS).map(|(m, k)| tiles_bytes(*m, *k)).max();
        (values.unwrap_or(0), tiles.unwrap_or(0))
    }

    /// `x [m, k]` in the form `kind`, sharing the blocks among the team.
    ///
    /// # Errors
    /// Where a value is not finite. (In the form [`ActivationKind::F32`] they pass as they are, unseen.)
    ///
    /// # Panics
    /// Where `x` is not `[m, k]`, its rows are not whole blocks, or there is no room.
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
            tiles: Tiles::None,
        };
        if kernels.takes_tiles && m >= TILE_MIN_ROWS {
            rows.tiles = Tiles::pack(team, &rows, &mut self.tiles);
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
