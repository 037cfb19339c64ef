//! One page, one head of keys and values, some queries.

use super::partials::{PageHead, Partials};
use crate::attention::layout::{BLOCK, CacheType, PAGE_LEN};
use crate::simd::exp::exp;
use crate::simd::lanes::{LANES, Lanes};

/// Queries that are multiplied with a key at a time.
const GROUP: usize = 4;

/// Vectors of keys in a page.
const KEY_VECTORS: usize = PAGE_LEN / LANES;

/// Bytes that are fetched at a time.
const CACHE_LINE: usize = 64;

/// How numbers lie in a page; offsets as [`kv_page`](crate::attention::layout) says.
trait CacheFormat {
    const TYPE: CacheType;
    /// What a scale is.
    type Scale<S: Lanes>: Copy;

    /// The scales of the 16 keys from `key` on, in a block of keys.
    fn key_scales<S: Lanes>(s: S, block: &[u8], key: usize) -> Self::Scale<S>;
    /// Two dimensions of these keys; `pair` holds them for all keys of the page.
    fn keys<S: Lanes>(s: S, pair: &[u8], key: usize, scale: Self::Scale<S>) -> [S::F; 2];
    /// Block `b` of a value's row, which has `n_blocks`.
    fn values<S: Lanes>(s: S, row: &[u8], n_blocks: usize, b: usize) -> [S::F; 2];
}

struct F32;
struct F16;
struct Q8;
struct Q4;

/// `N` bytes from `at` on.
#[inline(always)]
fn bytes<const N: usize>(x: &[u8], at: usize) -> &[u8; N] {
    x[at..].first_chunk().expect("inside a page")
}

impl CacheFormat for F32 {
    const TYPE: CacheType = CacheType::F32;
    type Scale<S: Lanes> = ();

    #[inline(always)]
    fn key_scales<S: Lanes>(_: S, _: &[u8], _: usize) {}

    #[inline(always)]
    fn keys<S: Lanes>(s: S, pair: &[u8], key: usize, _: ()) -> [S::F; 2] {
        [s.f32_le(bytes(pair, 4 * key)), s.f32_le(bytes(pair, 4 * (PAGE_LEN + key)))]
    }

    #[inline(always)]
    fn values<S: Lanes>(s: S, row: &[u8], _: usize, b: usize) -> [S::F; 2] {
        [s.f32_le(bytes(row, 4 * BLOCK * b)), s.f32_le(bytes(row, 4 * BLOCK * b + 64))]
    }
}

impl CacheFormat for F16 {
    const TYPE: CacheType = CacheType::F16;
    type Scale<S: Lanes> = ();

    #[inline(always)]
    fn key_scales<S: Lanes>(_: S, _: &[u8], _: usize) {}

    #[inline(always)]
    fn keys<S: Lanes>(s: S, pair: &[u8], key: usize, _: ()) -> [S::F; 2] {
        [s.f16_le(bytes(pair, 2 * key)), s.f16_le(bytes(pair, 2 * (PAGE_LEN + key)))]
    }

    #[inline(always)]
    fn values<S: Lanes>(s: S, row: &[u8], _: usize, b: usize) -> [S::F; 2] {
        [s.f16_le(bytes(row, 2 * BLOCK * b)), s.f16_le(bytes(row, 2 * BLOCK * b + 32))]
    }
}

/// The scale of block `b` of a value's row, in every lane.
#[inline(always)]
fn value_scale<S: Lanes>(s: S, row: &[u8], b: usize) -> S::F {
    s.splat_f16(*bytes(row, 2 * b))
}

impl CacheFormat for Q8 {
    const TYPE: CacheType = CacheType::Q8_0;
    type Scale<S: Lanes> = S::F;

    #[inline(always)]
    fn key_scales<S: Lanes>(s: S, block: &[u8], key: usize) -> S::F {
        s.f16_le(bytes(block, 2 * key))
    }

    #[inline(always)]
    fn keys<S: Lanes>(s: S, pair: &[u8], key: usize, scale: S::F) -> [S::F; 2] {
        [s.mul(s.i8(bytes(pair, key)), scale), s.mul(s.i8(bytes(pair, PAGE_LEN + key)), scale)]
    }

    #[inline(always)]
    fn values<S: Lanes>(s: S, row: &[u8], n_blocks: usize, b: usize) -> [S::F; 2] {
        let (scale, at) = (value_scale(s, row, b), 2 * n_blocks + BLOCK * b);
        [s.mul(s.i8(bytes(row, at)), scale), s.mul(s.i8(bytes(row, at + 16)), scale)]
    }
}

impl CacheFormat for Q4 {
    const TYPE: CacheType = CacheType::Q4_0;
    type Scale<S: Lanes> = S::F;

    #[inline(always)]
    fn key_scales<S: Lanes>(s: S, block: &[u8], key: usize) -> S::F {
        s.f16_le(bytes(block, 2 * key))
    }

    #[inline(always)]
    fn keys<S: Lanes>(s: S, pair: &[u8], key: usize, scale: S::F) -> [S::F; 2] {
        let [even, odd] = s.nibbles(bytes(pair, key));
        [s.mul(even, scale), s.mul(odd, scale)]
    }

    #[inline(always)]
    fn values<S: Lanes>(s: S, row: &[u8], n_blocks: usize, b: usize) -> [S::F; 2] {
        let scale = value_scale(s, row, b);
        let [low, high] = s.nibbles(bytes(row, 2 * n_blocks + BLOCK / 2 * b));
        [s.mul(low, scale), s.mul(high, scale)]
    }
}

/// Prefetches bytes that are read soon, a few at a time while something else is computed. In four streams, as a hardware prefetcher works
/// within one page of memory and starts slowly.
struct Ahead<'a> {
    bytes: &'a [u8],
    /// Bytes of a stream, and how many of them have been prefetched.
    stream: usize,
    at: usize,
    /// Bytes of each stream that a step prefetches.
    step: usize,
}

impl<'a> Ahead<'a> {
    const STREAMS: usize = 4;

    /// All of `bytes` in `n_steps` steps.
    #[inline(always)]
    fn new(bytes: &'a [u8], n_steps: usize) -> Self {
        let stream = bytes.len() / Self::STREAMS;
        Ahead { bytes, stream, at: 0, step: stream.div_ceil(n_steps).next_multiple_of(CACHE_LINE) }
    }

    #[inline(always)]
    fn step<S: Lanes>(&mut self, s: S) {
        if self.at >= self.stream {
            return;
        }
        for line in (0..self.step).step_by(CACHE_LINE) {
            for i in 0..Self::STREAMS {
                if let Some(x) = self.bytes.get(i * self.stream + self.at + line) {
                    s.prefetch(x);
                }
            }
        }
        self.at += self.step;
    }
}

/// A head's values, and what comes after them.
struct Values<'a> {
    /// `[64][n_blocks]` blocks.
    rows: &'a [u8],
    n_blocks: usize,
    ahead: Ahead<'a>,
}

/// Scores, then weights, of a group of queries for the keys of a page.
type Weights = [[f32; PAGE_LEN]; GROUP];

/// The page's part of the rule in [`attention`](super), for queries in groups of four; `V` vectors of keys are multiplied with a group at
/// a time, and `P` of its queries with a value.
#[inline(always)]
pub(crate) fn attend_page<S: Lanes, const V: usize, const P: usize>(
    s: S,
    head: PageHead<'_>,
    q: &[f32],
    ranges: &[(u8, u8)],
    out: &mut Partials,
) {
    let layout = head.layout;
    let (keys, values) = (layout.keys(head.page, head.kv_head), layout.values(head.page, head.kv_head));
    // While keys pass, values are asked for, and then the next page's keys.
    let n_steps = layout.head_dim() / 2;
    let n_queries = ranges.len();
    let mut weights: Weights = [[0.0; PAGE_LEN]; GROUP];
    for first in (0..ranges.len()).step_by(GROUP) {
        let n = GROUP.min(ranges.len() - first);
        let mut ahead = Ahead::new(if first == 0 { values } else { &[] }, n_steps);
        // A short group repeats its last query, whose results are then written more than once.
        let rows: [usize; GROUP] = std::array::from_fn(|i| first + i.min(n - 1));
        let ranges = rows.map(|r| (ranges[r].0 as usize, ranges[r].1 as usize));
        for r in rows {
            (out.m[r], out.l[r]) = (f32::NEG_INFINITY, 0.0);
            out.acc[r * out.stride..][..out.stride].fill(0.0);
        }
        let seen = ranges.iter().filter(|range| range.0 < range.1);
        let Some(start) = seen.clone().map(|range| range.0).min() else { continue };
        let end = seen.map(|range| range.1).max().unwrap_or(start);
        let vectors = (start / LANES, end.div_ceil(LANES));
        let d = layout.head_dim();
        let q = rows.map(|r| &q[r * d..][..d]);
        match (layout.k_type(), n) {
            (CacheType::F32, 1) => scores::<S, F32, V, 1>(s, keys, q, vectors, &mut weights, &mut ahead),
            (CacheType::F32, _) => scores::<S, F32, V, GROUP>(s, keys, q, vectors, &mut weights, &mut ahead),
            (CacheType::F16, 1) => scores::<S, F16, V, 1>(s, keys, q, vectors, &mut weights, &mut ahead),
            (CacheType::F16, _) => scores::<S, F16, V, GROUP>(s, keys, q, vectors, &mut weights, &mut ahead),
            (CacheType::Q8_0, 1) => scores::<S, Q8, V, 1>(s, keys, q, vectors, &mut weights, &mut ahead),
            (CacheType::Q8_0, _) => scores::<S, Q8, V, GROUP>(s, keys, q, vectors, &mut weights, &mut ahead),
            (CacheType::Q4_0, 1) => scores::<S, Q4, V, 1>(s, keys, q, vectors, &mut weights, &mut ahead),
            (CacheType::Q4_0, _) => scores::<S, Q4, V, GROUP>(s, keys, q, vectors, &mut weights, &mut ahead),
        }
        for i in 0..n {
            if ranges[i].0 < ranges[i].1 {
                (out.m[rows[i]], out.l[rows[i]]) = exponentials(s, &mut weights[i], ranges[i]);
            }
        }
        for i in n..GROUP {
            weights[i] = weights[n - 1];
        }
        let ahead = Ahead::new(if first + n == n_queries { head.next } else { &[] }, n_steps);
        let mut values = Values { rows: values, n_blocks: layout.n_blocks(), ahead };
        let (values, acc) = (&mut values, &mut out.acc);
        match layout.v_type() {
            CacheType::F32 => weigh::<S, F32, P>(s, values, &weights, ranges, rows, n, acc),
            CacheType::F16 => weigh::<S, F16, P>(s, values, &weights, ranges, rows, n, acc),
            CacheType::Q8_0 => weigh::<S, Q8, P>(s, values, &weights, ranges, rows, n, acc),
            CacheType::Q4_0 => weigh::<S, Q4, P>(s, values, &weights, ranges, rows, n, acc),
        }
    }
}

/// `q·k` of `G` queries and the key vectors `vectors.0..vectors.1`.
#[inline(always)]
fn scores<S: Lanes, K: CacheFormat, const V: usize, const G: usize>(
    s: S,
    keys: &[u8],
    q: [&[f32]; GROUP],
    vectors: (usize, usize),
    out: &mut Weights,
    ahead: &mut Ahead<'_>,
) {
    let (mut v, end) = vectors;
    while v + V <= end {
        tile_of_scores::<S, K, V, G>(s, keys, q, v, out, ahead);
        v += V;
    }
    if V > 1 {
        while v < end {
            tile_of_scores::<S, K, 1, G>(s, keys, q, v, out, ahead);
            v += 1;
        }
    }
}

/// `q·k` of `G` queries and key vectors `first..first + V`.
#[inline(always)]
fn tile_of_scores<S: Lanes, K: CacheFormat, const V: usize, const G: usize>(
    s: S,
    keys: &[u8],
    q: [&[f32]; GROUP],
    first: usize,
    out: &mut Weights,
    ahead: &mut Ahead<'_>,
) {
    debug_assert!(first + V <= KEY_VECTORS);
    let head_dim = q[0].len();
    let scale_bytes = PAGE_LEN * K::TYPE.scale_bytes();
    let pair_bytes = PAGE_LEN * K::TYPE.pair_bytes();
    let block_bytes = scale_bytes + BLOCK / 2 * pair_bytes;
    let mut acc = [[s.splat(0.0); V]; G];
    for (b, block) in keys.chunks(block_bytes).enumerate() {
        let mut scales = [K::key_scales(s, block, first * LANES); V];
        for v in 1..V {
            scales[v] = K::key_scales(s, block, (first + v) * LANES);
        }
        let n_pairs = (head_dim - b * BLOCK).min(BLOCK) / 2;
        let mut queries: [&[[f32; 2]]; G] = [&[]; G];
        for g in 0..G {
            queries[g] = &q[g][b * BLOCK..].as_chunks().0[..n_pairs];
        }
        for (i, pair) in block[scale_bytes..].chunks_exact(pair_bytes).enumerate().take(n_pairs) {
            if i.is_multiple_of(KEY_VECTORS / V) {
                ahead.step(s);
            }
            for v in 0..V {
                let [even, odd] = K::keys(s, pair, (first + v) * LANES, scales[v]);
                for g in 0..G {
                    acc[g][v] = s.fma(s.splat(queries[g][i][0]), even, acc[g][v]);
                    acc[g][v] = s.fma(s.splat(queries[g][i][1]), odd, acc[g][v]);
                }
            }
        }
    }
    for g in 0..G {
        let out = out[g].as_chunks_mut().0;
        for v in 0..V {
            s.store(acc[g][v], &mut out[first + v]);
        }
    }
}

/// Turns scores into `exp(score − largest)` inside the range and 0 outside; returns the largest and the sum.
#[inline(always)]
fn exponentials<S: Lanes>(s: S, scores: &mut [f32; PAGE_LEN], range: (usize, usize)) -> (f32, f32) {
    let index = s.load(&std::array::from_fn(|i| i as f32));
    let (vectors, _) = scores.as_chunks_mut::<LANES>();
    let none = s.splat(f32::NEG_INFINITY);
    let zero = s.splat(0.0);
    // `x` where the lane's key is in the range, otherwise `y`.
    #[inline(always)]
    fn inside<S: Lanes>(s: S, index: S::F, v: usize, range: (usize, usize), x: S::F, y: S::F) -> S::F {
        let index = s.add(index, s.splat((v * LANES) as f32));
        let below_end = s.select_lt(index, s.splat(range.1 as f32), x, y);
        s.select_lt(index, s.splat(range.0 as f32), y, below_end)
    }
    let mut largest = none;
    for (v, x) in vectors.iter().enumerate() {
        largest = s.max(largest, inside(s, index, v, range, s.load(x), none));
    }
    let m = s.largest(largest);
    let mut sums = zero;
    for (v, x) in vectors.iter_mut().enumerate() {
        let p = inside(s, index, v, range, exp(s, s.sub(s.load(x), s.splat(m))), zero);
        sums = s.add(sums, p);
        s.store(p, x);
    }
    (m, s.sum(sums))
}

/// Adds to `acc` the values in each row's range by their weights, `P` rows of the group at a time where their ranges overlap.
#[inline(always)]
fn weigh<S: Lanes, T: CacheFormat, const P: usize>(
    s: S,
    values: &mut Values<'_>,
    weights: &Weights,
    ranges: [(usize, usize); GROUP],
    rows: [usize; GROUP],
    n: usize,
    acc: &mut [f32],
) {
    let mut first = 0;
    while first < n {
        let size = if n == 1 { 1 } else { P };
        let (mut start, mut end) = (0, PAGE_LEN);
        for range in &ranges[first..first + size] {
            (start, end) = (start.max(range.0), end.min(range.1));
        }
        if size == 1 || start >= end {
            // Nothing in common: each row for itself.
            (start, end) = (PAGE_LEN, PAGE_LEN);
        }
        let last = (first + size).min(n);
        for i in first..last {
            let keys = (ranges[i].0, ranges[i].1.min(start));
            values_times::<S, T, 1>(s, values, [&weights[i]], keys, [rows[i]], acc);
        }
        if start < end {
            let w: [&[f32; PAGE_LEN]; P] = std::array::from_fn(|i| &weights[first + i]);
            let r: [usize; P] = std::array::from_fn(|i| rows[first + i]);
            values_times::<S, T, P>(s, values, w, (start, end), r, acc);
            for i in first..last {
                let keys = (end, ranges[i].1);
                values_times::<S, T, 1>(s, values, [&weights[i]], keys, [rows[i]], acc);
            }
        }
        first += size;
    }
}

/// `acc += Σ p·v` over the keys `keys.0..keys.1`, for `P` rows.
#[inline(always)]
fn values_times<S: Lanes, T: CacheFormat, const P: usize>(
    s: S,
    values: &mut Values<'_>,
    weights: [&[f32; PAGE_LEN]; P],
    (start, end): (usize, usize),
    rows: [usize; P],
    acc: &mut [f32],
) {
    if start >= end {
        return;
    }
    let n_blocks = values.n_blocks;
    let stride = n_blocks * BLOCK;
    let row_bytes = n_blocks * (T::TYPE.scale_bytes() + BLOCK / 2 * T::TYPE.pair_bytes());
    let rows_of_values = &values.rows[start * row_bytes..end * row_bytes];
    let mut seen: [&[f32]; P] = [&[]; P];
    for i in 0..P {
        seen[i] = &weights[i][start..end];
    }
    for b in 0..n_blocks {
        let mut sums = [[s.splat(0.0); 2]; P];
        for i in 0..P {
            let (halves, _) = acc[rows[i] * stride + b * BLOCK..][..BLOCK].as_chunks();
            sums[i] = [s.load(&halves[0]), s.load(&halves[1])];
        }
        for (j, row) in rows_of_values.chunks_exact(row_bytes).enumerate() {
            // Blocks of 32 dimensions, and 64 rows: a step for two dimensions.
            if j.is_multiple_of(4) {
                values.ahead.step(s);
            }
            let v = T::values(s, row, n_blocks, b);
            for i in 0..P {
                let p = s.splat(seen[i][j]);
                sums[i] = [s.fma(p, v[0], sums[i][0]), s.fma(p, v[1], sums[i][1])];
            }
        }
        for i in 0..P {
            let (halves, _) = acc[rows[i] * stride + b * BLOCK..][..BLOCK].as_chunks_mut();
            s.store(sums[i][0], &mut halves[0]);
            s.store(sums[i][1], &mut halves[1]);
        }
    }
}
