//! Attention by cache type and instruction set, in the shape of Mistral 7B.
//!
//! ```text
//! cargo bench --bench attention                     all of it, some minutes
//! cargo bench --bench attention -- decode/f16       one cache type, one query
//! BENCH_THREADS=8 cargo bench --bench attention     with that many threads
//! ```
//!
//! - `decode/TYPE/ISA/{cache,memory}`: one query on positions that stay in a core's cache, one thread; and on 4096 positions of layers
//!   that together do not, all threads. Bytes of keys and values a second, beside `limits/read` of the `kernels` bench.
//! - `prefill/TYPE/ISA`: 256 queries on 4096 positions, all threads. An element is one multiplication or addition.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bise_kernels::kv_page::{CacheType, PAGE_LEN, PageLayout};
use bise_kernels::{
    Attention, AttentionScratch, CacheLine, CancelFlags, Isa, KernelTable, QuerySpan, Team, attention,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};

/// Nothing is cancelled.
static NEVER: AtomicBool = AtomicBool::new(false);

const N_HEADS: usize = 32;
const N_KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;
/// Positions that stay in a second-level cache, and a long text's.
const FEW_POSITIONS: usize = 256;
const MANY_POSITIONS: usize = 4096;
/// Layers whose keys and values few caches hold.
const MANY_LAYERS: usize = 32;
const PREFILL: usize = 256;

fn main() {
    let n_threads = match std::env::var("BENCH_THREADS") {
        Ok(n) => n.parse().expect("BENCH_THREADS is a number"),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for cache_type in CacheType::ALL {
        let few = Keys::new(cache_type, FEW_POSITIONS, 1);
        let many = Keys::new(cache_type, MANY_POSITIONS, MANY_LAYERS);
        let mut group = criterion.benchmark_group(format!("decode/{cache_type}"));
        few.measure(&mut group, "cache", 1, 1);
        many.measure(&mut group, "memory", 1, n_threads);
        group.finish();
        let mut group = criterion.benchmark_group(format!("prefill/{cache_type}"));
        many.measure(&mut group, "n", PREFILL, n_threads);
        group.finish();
    }
    criterion.final_summary();
}

/// Keys and values of some layers.
struct Keys {
    layout: PageLayout,
    n_positions: usize,
    n_layers: usize,
    /// `[pages][layers]`
    pages: Vec<Vec<CacheLine>>,
}

impl Keys {
    fn new(cache_type: CacheType, n_positions: usize, n_layers: usize) -> Keys {
        let layout = PageLayout::new(N_KV_HEADS, HEAD_DIM, cache_type, cache_type);
        let mut page: Vec<CacheLine> = bytemuck::zeroed_vec(n_layers * layout.page_bytes() / 64);
        // A half of 0x2c2c is about 0.07: scores stay small, whatever the type.
        bytemuck::cast_slice_mut(&mut page).fill(0x2c_u8);
        Keys { layout, n_positions, n_layers, pages: vec![page; n_positions / PAGE_LEN] }
    }

    /// The last `m` positions as queries, layer after layer.
    fn measure(&self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str, m: usize, n_threads: usize) {
        let team = Team::new(n_threads).expect("threads can be started");
        let q: Vec<f32> = (0..m * N_HEADS * HEAD_DIM).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
        let scales = vec![(HEAD_DIM as f32).sqrt().recip(); m];
        let mut out = vec![0.0; q.len()];
        let n_layers = if m == 1 { self.n_layers } else { 1 };
        group.throughput(if m == 1 {
            Throughput::Bytes((n_layers * self.n_positions / PAGE_LEN * self.layout.page_bytes()) as u64)
        } else {
            let seen: usize = (self.n_positions - m..self.n_positions).map(|t| t + 1).sum();
            Throughput::Elements((4 * seen * N_HEADS * HEAD_DIM) as u64)
        });
        let mut scratch = AttentionScratch::new(&self.layout, N_HEADS, n_threads);
        for kernels in Isa::ALL.into_iter().filter_map(KernelTable::for_isa) {
            group.bench_function(BenchmarkId::new(kernels.isa().name(), name), |b| {
                b.iter(|| {
                    team.together(|| {
                        for layer in 0..n_layers {
                            let pages = |_: usize, page: usize| {
                                &bytemuck::cast_slice(&self.pages[page])[layer * self.layout.page_bytes()..]
                                    [..self.layout.page_bytes()]
                            };
                            let task = Attention {
                                n_heads: N_HEADS,
                                q: &q,
                                scales: &scales,
                                cancel: CancelFlags::One(&NEVER),
                                pages: &pages,
                            };
                            let span = QuerySpan {
                                layout: self.layout,
                                start: self.n_positions - m,
                                n: m,
                                window: None,
                            };
                            attention(&team, kernels, &mut scratch, &task, [span], &mut out);
                        }
                    })
                })
            });
        }
    }
}
