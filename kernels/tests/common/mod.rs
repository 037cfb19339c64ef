//! What the tests share: random bytes, and where a format keeps its halves.

use bise_kernels::activation::packed::{Packed, packed_bytes};
use bise_kernels::{ActivationKind, Activations, CacheLine, Format, KernelTable, QuantizedRows, Team};

/// Whether `BISE_TEST_QUICK` asks for fewer repetitions of what is slow under an emulator; nothing is left out altogether.
#[allow(dead_code)] // not every test binary uses everything
pub fn quick() -> bool {
    std::env::var_os("BISE_TEST_QUICK").is_some()
}

/// SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
pub struct Random(pub u64);

#[allow(dead_code)] // not every test binary uses everything
impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// The bytes of [`Random::next`], little-endian.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(n);
        bytes
    }

    /// Uniform in `[−1, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Where the halves of a block begin.
#[allow(dead_code)]
pub fn halves(format: Format) -> &'static [usize] {
    use Format::*;
    match format {
        F32 | BF16 => &[],
        F16 | Q8_0 | Q4_0 | Q5_0 | IQ4_NL | IQ4_XS => &[0],
        Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
    }
}

/// Rewrites each half of each block.
#[allow(dead_code)]
pub fn map_halves(format: Format, bytes: &mut [u8], mut f: impl FnMut(u16) -> u16) {
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        for at in halves(format) {
            let half: &mut [u8; 2] = (&mut block[*at..at + 2]).try_into().unwrap();
            *half = f(u16::from_le_bytes(*half)).to_le_bytes();
        }
    }
}

/// Quantized activations that own their parts; `shift` elements stand before each, so that alignments differ.
#[allow(dead_code)]
pub struct Quantized {
    pub kind: ActivationKind,
    pub m: usize,
    pub k: usize,
    pub shift: usize,
    pub qs: Vec<i8>,
    pub scales: Vec<f32>,
    pub sums: Vec<i16>,
}

#[allow(dead_code)]
impl Quantized {
    /// Room for `m` rows of `k`.
    pub fn zeros(kind: ActivationKind, m: usize, k: usize, shift: usize) -> Self {
        let (n, b, s) = (m * k, kind.block_len(), kind.sum_len());
        Quantized {
            kind,
            m,
            k,
            shift,
            qs: vec![0; n + shift],
            scales: vec![0.0; n / b + shift],
            sums: vec![0; n / s + shift],
        }
    }

    /// Makes the sums those of the values.
    pub fn add_up(&mut self) {
        let s = self.kind.sum_len();
        for (sum, qs) in self.sums[self.shift..].iter_mut().zip(self.qs[self.shift..].chunks_exact(s)) {
            *sum = qs.iter().map(|q| *q as i16).sum();
        }
    }

    pub fn view(&self) -> Activations<'_> {
        Activations::Quantized(QuantizedRows {
            kind: self.kind,
            m: self.m,
            k: self.k,
            qs: &self.qs[self.shift..],
            scales: &self.scales[self.shift..],
            sums: &self.sums[self.shift..],
            packed: Packed::None,
        })
    }
}

/// Lets `f` have the activations with their tiles.
#[allow(dead_code)]
pub fn with_packed<R>(kernels: &KernelTable, x: Activations<'_>, f: impl FnOnce(Activations<'_>) -> R) -> R {
    let Activations::Quantized(mut rows) = x else { return f(x) };
    let mut room: Vec<CacheLine> =
        vec![bytemuck::Zeroable::zeroed(); packed_bytes(rows.m, rows.k).div_ceil(64)];
    // Whatever was there before must not matter.
    bytemuck::cast_slice_mut::<_, u8>(&mut room).fill(0x7f);
    rows.packed = kernels.pack(&Team::new(1).expect("one thread is no pool"), &rows, &mut room);
    f(Activations::Quantized(rows))
}
