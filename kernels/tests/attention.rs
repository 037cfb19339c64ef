//! Attention: against the definition in f64, and the same bits whatever the instruction set, the threads and the cut of the positions.

mod common;
#[path = "common/fenced.rs"]
mod fenced;

use std::sync::atomic::AtomicBool;

use bise_kernels::{
    Attention, AttentionScratch, CacheType, CancelFlags, Isa, KernelTable, PAGE_LEN, PageHead, PageLayout,
    Partials, QuerySpan, Team, attention,
};
use common::{Random, quick};
use fenced::Fenced;
use half::f16;

/// Nothing is cancelled.
static NEVER: AtomicBool = AtomicBool::new(false);

/// A sequence's cache, and what went into it.
struct Cache {
    layout: PageLayout,
    n_heads: usize,
    pages: Vec<Vec<u8>>,
    /// As stored: `[n][n_kv_heads][head_dim]`.
    k: Vec<f32>,
    v: Vec<f32>,
    q: Vec<f32>,
    scales: Vec<f32>,
}

/// What `x` (a head's dimensions) is once stored and read, by the rule of `kv_page` written out once more.
fn stored(t: CacheType, x: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    for block in x.chunks(32) {
        let largest = block.iter().fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
        match t {
            CacheType::F32 => out.extend(block),
            CacheType::F16 => out.extend(block.iter().map(|x| f16::from_f32(*x).to_f32())),
            CacheType::Q8_0 => {
                let d = f16::from_f32(largest.abs() / 127.0).to_f32();
                out.extend(block.iter().map(|x| d * (x / d).round_ties_even().clamp(-127.0, 127.0)));
            }
            CacheType::Q4_0 => {
                let d = f16::from_f32(largest / -8.0).to_f32();
                out.extend(block.iter().map(|x| d * (x / d).round_ties_even().clamp(-8.0, 7.0)));
            }
        }
    }
    out
}

impl Cache {
    fn new(seed: u64, n: usize, n_heads: usize, layout: PageLayout) -> Cache {
        let mut random = Random(seed);
        let (width, d) = (layout.n_kv_heads() * layout.head_dim(), layout.head_dim());
        let mut rows = |n: usize| -> Vec<f32> { (0..n).map(|_| random.unit() * 3.0).collect() };
        let (k, v, q) = (rows(n * width), rows(n * width), rows(n * n_heads * d));
        // What a page held before must not matter: all ones is NaN in every float type.
        let page = |_| Fenced::new(&vec![0xff; layout.page_bytes()]);
        let mut pages: Vec<_> = (0..n.div_ceil(PAGE_LEN)).map(page).collect();
        for i in 0..n {
            let (k, v) = (&k[i * width..][..width], &v[i * width..][..width]);
            assert!(layout.store(pages[i / PAGE_LEN].inner(), i % PAGE_LEN, k, v));
        }
        let pages = pages.into_iter().map(Fenced::check).collect();
        let read = |t, x: &[f32]| x.chunks(d).flat_map(|x| stored(t, x)).collect();
        let scales = (0..n).map(|i| (1.0 + i as f32 / 1000.0) / (d as f32).sqrt()).collect();
        Cache {
            layout,
            n_heads,
            pages,
            k: read(layout.k_type(), &k),
            v: read(layout.v_type(), &v),
            q,
            scales,
        }
    }

    fn n(&self) -> usize {
        self.scales.len()
    }

    /// The outputs of all positions, in calls of `chunk`; pages before the window are not there to be read.
    fn run(&self, kernels: &KernelTable, threads: usize, chunk: usize, window: Option<usize>) -> Vec<f32> {
        let team = Team::new(threads).unwrap();
        let mut scratch = AttentionScratch::new(&self.layout, self.n_heads, threads);
        let width = self.n_heads * self.layout.head_dim();
        let mut out = Fenced::new(&vec![f32::NAN; self.n() * width]);
        team.together(|| {
            for (i, out) in out.inner().chunks_mut(chunk * width).enumerate() {
                let (start, m) = (i * chunk, out.len() / width);
                let first = window.map_or(0, |w| (start + 1).saturating_sub(w)) / PAGE_LEN;
                let pages = |_: usize, page: usize| {
                    assert!((first..=(start + m - 1) / PAGE_LEN).contains(&page), "page {page} at {start}");
                    self.pages[page].as_slice()
                };
                let task = Attention {
                    n_heads: self.n_heads,
                    q: &self.q[start * width..][..m * width],
                    scales: &self.scales[start..][..m],
                    cancel: CancelFlags::One(&NEVER),
                    pages: &pages,
                };
                let span = QuerySpan { layout: self.layout, start, n: m, window };
                attention(&team, kernels, &mut scratch, &task, [span], out);
            }
        });
        out.check()
    }

    /// Compares with `softmax(q·Kᵀ)·V` in f64. With `u = 2⁻²⁴`, a score is off by at most `(head_dim + 2)·u·Σ|q·k|`, which moves a
    /// weight by twice that at most, relatively; exponentials, sums over 64 keys and the folding of pages add units of `u`.
    fn check(&self, out: &[f32], window: Option<usize>) {
        let (d, n_kv) = (self.layout.head_dim(), self.layout.n_kv_heads());
        let u = 2f64.powi(-24);
        for (i, out) in out.chunks(self.n_heads * d).enumerate() {
            for (h, out) in out.chunks(d).enumerate() {
                let kv = h / (self.n_heads / n_kv);
                let q = &self.q[(i * self.n_heads + h) * d..][..d];
                let first = window.map_or(0, |w| (i + 1).saturating_sub(w));
                let (mut scores, mut magnitude) = (Vec::new(), 0f64);
                for j in first..=i {
                    let k = &self.k[(j * n_kv + kv) * d..][..d];
                    let terms = q.iter().zip(k).map(|(q, k)| *q as f64 * *k as f64 * self.scales[i] as f64);
                    magnitude = magnitude.max(terms.clone().map(f64::abs).sum());
                    scores.push(terms.sum::<f64>());
                }
                let m = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
                let p: Vec<f64> = scores.iter().map(|s| (s - m).exp()).collect();
                let l: f64 = p.iter().sum();
                let n_pages = i / PAGE_LEN - first / PAGE_LEN + 1;
                let relative = 2.0 * (d + 2) as f64 * u * magnitude + (2 * 64 + 8 * n_pages + 16) as f64 * u;
                for (dim, out) in out.iter().enumerate() {
                    let v = |j: usize| self.v[((first + j) * n_kv + kv) * d + dim] as f64;
                    let expected = p.iter().enumerate().map(|(j, p)| p * v(j)).sum::<f64>() / l;
                    let size = (0..p.len()).fold(0f64, |max, j| max.max(v(j).abs()));
                    let error = (*out as f64 - expected).abs();
                    assert!(error <= relative * size, "query {i}, head {h}, dim {dim}: {out} for {expected}");
                }
            }
        }
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

fn tables() -> impl Iterator<Item = &'static KernelTable> {
    Isa::ALL.into_iter().filter_map(KernelTable::for_isa)
}

fn scalar() -> &'static KernelTable {
    KernelTable::for_isa(Isa::Scalar).unwrap()
}

#[test]
fn every_cache_type_equals_the_definition_on_every_instruction_set() {
    for k_type in CacheType::ALL {
        for v_type in CacheType::ALL {
            let cache = Cache::new(1, 150, 4, PageLayout::new(2, 96, k_type, v_type));
            let expected = cache.run(scalar(), 1, 150, None);
            cache.check(&expected, None);
            for kernels in tables() {
                let found = cache.run(kernels, 1, 150, None);
                assert_eq!(bits(&found), bits(&expected), "{k_type} {v_type} on {}", kernels.isa());
            }
        }
    }
}

#[test]
fn heads_of_any_size_in_groups_of_any_size() {
    for (head_dim, n_heads, n_kv_heads) in
        [(2, 1, 1), (30, 6, 2), (32, 2, 2), (40, 5, 1), (80, 3, 3), (128, 8, 1), (256, 4, 2), (34, 7, 1)]
    {
        for t in CacheType::ALL {
            let cache = Cache::new(2, 70, n_heads, PageLayout::new(n_kv_heads, head_dim, t, t));
            let expected = cache.run(scalar(), 1, 70, None);
            cache.check(&expected, None);
            for kernels in tables() {
                let found = cache.run(kernels, 1, 70, None);
                assert_eq!(bits(&found), bits(&expected), "{head_dim} of {t} on {}", kernels.isa());
            }
        }
    }
}

#[test]
fn a_window_sees_so_many_keys_and_no_more() {
    let cache = Cache::new(3, 300, 2, PageLayout::new(1, 32, CacheType::F16, CacheType::F16));
    for window in [1, 2, 63, 64, 65, 100, 128, 299, 300, 1000] {
        let expected = cache.run(scalar(), 1, 7, Some(window));
        cache.check(&expected, Some(window));
        for kernels in tables() {
            let found = cache.run(kernels, 1, 300, Some(window));
            assert_eq!(bits(&found), bits(&expected), "a window of {window} on {}", kernels.isa());
        }
    }
    let alone = cache.run(scalar(), 1, 300, Some(1));
    assert!(alone.chunks(64).zip(cache.v.chunks(32)).all(|(out, v)| out[..32] == *v && out[32..] == *v));
}

#[test]
fn threads_and_chunks_change_nothing() {
    let kernels = KernelTable::detect();
    let (threads, chunks): (&[usize], &[usize]) =
        if quick() { (&[2], &[7, 200]) } else { (&[1, 2, 3, 5], &[1, 7, 64, 200]) };
    for (n_heads, n_kv_heads) in [(4, 1), (4, 2), (3, 3)] {
        let layout = PageLayout::new(n_kv_heads, 40, CacheType::F16, CacheType::Q8_0);
        let cache = Cache::new(4, 600, n_heads, layout);
        for window in [None, Some(70), Some(500)] {
            let expected = bits(&cache.run(kernels, 1, 600, window));
            for &threads in threads {
                for &chunk in chunks {
                    if threads == 5 && chunk == 1 {
                        continue; // waits for cores that are not there
                    }
                    let found = bits(&cache.run(kernels, threads, chunk, window));
                    assert_eq!(found, expected, "{threads} threads, chunks of {chunk}, window {window:?}");
                }
            }
        }
    }
}

#[test]
fn more_pages_than_a_wave_holds_are_shared_out_alike() {
    let n = 65 * PAGE_LEN + 5;
    let mut cache = Cache::new(5, n, 2, PageLayout::new(1, 32, CacheType::F32, CacheType::F32));
    // One query, at the end.
    cache.q.drain(..(n - 1) * 64);
    let run = |threads| {
        let team = Team::new(threads).unwrap();
        let mut scratch = AttentionScratch::new(&cache.layout, 2, threads);
        let mut out = vec![f32::NAN; 64];
        let task = Attention {
            n_heads: 2,
            q: &cache.q,
            scales: &[0.2],
            cancel: CancelFlags::One(&NEVER),
            pages: &|_, page| &cache.pages[page],
        };
        let span = QuerySpan { layout: cache.layout, start: n - 1, n: 1, window: None };
        team.together(|| attention(&team, KernelTable::detect(), &mut scratch, &task, [span], &mut out));
        bits(&out)
    };
    let expected = run(1);
    assert_eq!(run(2), expected);
    assert_eq!(run(5), expected);
}

#[test]
fn queries_with_different_ranges_travel_together() {
    let layout = PageLayout::new(1, 96, CacheType::Q4_0, CacheType::Q4_0);
    let cache = Cache::new(6, PAGE_LEN, 16, layout);
    let mut random = Random(7);
    for kernels in tables() {
        for n in 1..=9usize {
            let ranges: Vec<(u8, u8)> =
                (0..n).map(|_| (random.below(65) as u8, random.below(65) as u8)).collect();
            let q = &cache.q[..n * 96];
            let mut together = Partials::new(n, 96);
            let head = PageHead { layout: &layout, page: &cache.pages[0], kv_head: 0, next: &cache.pages[0] };
            kernels.attend_page(head, q, &ranges, &mut together);
            for r in 0..n {
                let mut alone = Partials::new(1, 96);
                kernels.attend_page(head, &q[r * 96..][..96], &ranges[r..=r], &mut alone);
                let (mut a, mut b) = ([0.0; 96], [0.0; 96]);
                kernels.finish(&together, r, &mut a);
                kernels.finish(&alone, 0, &mut b);
                assert_eq!(bits(&a), bits(&b), "query {r} of {n}, {ranges:?}");
                assert_eq!(ranges[r].0 >= ranges[r].1, a == [0.0; 96], "{:?}", ranges[r]);
            }
        }
    }
}

/// Sequences of unlike length and window, some with several queries and one with none, in every kind of cutting: few queries share pages
/// among the threads, many are tasks of their own.
#[test]
fn sequences_of_unlike_depth_get_what_each_gets_alone() {
    for (n_kv_heads, n_heads) in [(1, 2), (4, 8)] {
        // Not all store them alike.
        let layout = |i| match i {
            0..3 => PageLayout::new(n_kv_heads, 32, CacheType::F16, CacheType::F16),
            _ => PageLayout::new(n_kv_heads, 32, CacheType::Q8_0, CacheType::F32),
        };
        let width = n_heads * 32;
        let lengths = [70 * PAGE_LEN + 3, 5, 130, 9 * PAGE_LEN, 1];
        let caches: Vec<Cache> = lengths
            .iter()
            .enumerate()
            .map(|(i, n)| Cache::new(20 + i as u64, *n, n_heads, layout(i)))
            .collect();
        for queries in [[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [1, 3, 0, 200, 1], [40, 5, 130, 1, 1]] {
            let spans: Vec<QuerySpan> = (0..5)
                .map(|i| QuerySpan {
                    layout: layout(i),
                    start: lengths[i] - queries[i],
                    n: queries[i],
                    window: [None, Some(2), None, Some(100), Some(1)][i],
                })
                .collect();
            let last = |i: usize, x: &[f32], width: usize| x[spans[i].start * width..].to_vec();
            let q: Vec<f32> = (0..5).flat_map(|i| last(i, &caches[i].q, width)).collect();
            let scales: Vec<f32> = (0..5).flat_map(|i| last(i, &caches[i].scales, 1)).collect();
            for kernels in tables() {
                for &threads in if quick() { &[2][..] } else { &[1, 2, 5] } {
                    let team = Team::new(threads).unwrap();
                    let mut scratch = AttentionScratch::new(&layout(0), n_heads, threads);
                    let mut run = |q: &[f32], scales: &[f32], first: usize, spans: &[QuerySpan]| {
                        let mut out = Fenced::new(&vec![f32::NAN; q.len()]);
                        let pages =
                            |sequence: usize, page: usize| caches[first + sequence].pages[page].as_slice();
                        let task =
                            Attention { n_heads, q, scales, cancel: CancelFlags::One(&NEVER), pages: &pages };
                        let spans = spans.iter().copied();
                        team.together(|| attention(&team, kernels, &mut scratch, &task, spans, out.inner()));
                        bits(&out.check())
                    };
                    let together = run(&q, &scales, 0, &spans);
                    let mut alone = Vec::new();
                    for i in 0..5 {
                        let (q, scales) = (last(i, &caches[i].q, width), last(i, &caches[i].scales, 1));
                        alone.extend(run(&q, &scales, i, &spans[i..=i]));
                    }
                    assert!(together == alone, "{queries:?} on {threads} threads, {n_kv_heads} heads");
                }
            }
        }
    }
}

#[test]
fn a_cancelled_attention_computes_nothing() {
    let cache = Cache::new(5, 100, 2, PageLayout::new(1, 32, CacheType::F32, CacheType::F32));
    for threads in [1, 2] {
        let team = Team::new(threads).unwrap();
        let mut scratch = AttentionScratch::new(&cache.layout, 2, threads);
        let mut out = vec![7.0; 100 * 64];
        let task = Attention {
            n_heads: 2,
            q: &cache.q,
            scales: &cache.scales,
            cancel: CancelFlags::Any(&[&NEVER, &AtomicBool::new(true)]),
            pages: &|_, page| &cache.pages[page],
        };
        let span = QuerySpan { layout: cache.layout, start: 0, n: 100, window: None };
        team.together(|| attention(&team, KernelTable::detect(), &mut scratch, &task, [span], &mut out));
        assert!(out.iter().all(|x| *x == 7.0), "{threads} threads");
    }
}
