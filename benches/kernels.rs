//! Products by instruction set and format, beside what the machine can do.
//!
//! ```text
//! cargo bench --bench kernels                    all of it, some minutes
//! cargo bench --bench kernels -- dot/Q4_K        one format's products with one row of activations
//! BENCH_THREADS=8 cargo bench --bench kernels    that many threads where threads matter
//! BENCH_FILE=model.gguf cargo bench --bench kernels -- limits    also how fast all threads read this file where it is mapped
//! ```
//!
//! - `dot/FORMAT/ISA/{cache,memory}`: one row of activations. Bytes of weights a second: on one thread with a matrix that stays in
//!   its cache, and on all threads with one that does not. `limits/read` are the same bytes merely read.
//! - `few/FORMAT/ISA/{cache,memory}`: eight rows of activations, as of eight sequences.
//! - `panel/FORMAT/ISA/{1,n}`: 64 rows of activations on one thread and on all. An element is one multiplication or addition, so
//!   Gelem/s are GOPS. `limits/ops` is what the instruction at the heart of the kernels reaches when it waits for nothing.
//! - `shapes/FORMAT/ISA/{1,n}/SHAPE`: one row of activations against more weights than caches hold, on one thread and on all, by how many
//!   rows a step takes and how far ahead they are prefetched. The shape that this machine takes is printed first.
//! - `quantize/KIND/ISA`: bytes of f32 activations a second.

mod limits;

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bise_kernels::matmul::DotShape;
use bise_kernels::{
    ActivationBuffer, ActivationKind, Format, Isa, KernelTable, Product, QuantMatrix, StripScratch, Team,
    matmul,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};

/// Nothing is cancelled.
static NEVER: AtomicBool = AtomicBool::new(false);

/// Weights in a row.
const K: usize = 4096;
/// A matrix that stays in a core's second-level cache, and one that few caches hold.
const CACHE_BYTES: usize = 512 << 10;
const MEMORY_BYTES: usize = 1 << 30;
/// A matrix that no cache holds, for each of many measurements.
const SHAPES_BYTES: usize = 256 << 20;
/// A few activation rows.
const FEW_ROWS: usize = 8;
/// Activation rows, and weight rows, of a panel product.
const PANEL_ROWS: usize = 64;
const PANEL_WEIGHT_ROWS: usize = 2048;

fn main() {
    let n_threads = match std::env::var("BENCH_THREADS") {
        Ok(n) => n.parse().expect("BENCH_THREADS is a number"),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    };
    eprintln!("{}; {n_threads} threads; commit {}", limits::cpu_name(), limits::commit());
    eprintln!("shape of dot products here: {}", DotShape::detect());
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let (one, all) = (Bench::new(1), Bench::new(n_threads));

    let mut group = criterion.benchmark_group("limits");
    for (bench, bytes) in [(&one, CACHE_BYTES), (&all, MEMORY_BYTES)] {
        let data = vec![1u64; bytes / 8];
        group.throughput(Throughput::Bytes(bytes as u64));
        let name = if bytes == CACHE_BYTES { "cache" } else { "memory" };
        group.bench_function(BenchmarkId::new("read", name), |b| {
            b.iter(|| bench.team.together(|| limits::read(&bench.team, bytemuck::cast_slice(&data))))
        });
    }
    if let Some(path) = std::env::var_os("BENCH_FILE") {
        let file = std::fs::File::open(path).expect("BENCH_FILE can be read");
        // SAFETY: nobody changes the file while it is measured.
        let data = unsafe { memmap2::Mmap::map(&file) }.expect("BENCH_FILE can be mapped");
        group.throughput(Throughput::Bytes(data.len() as u64));
        group
            .bench_function("read/file", |b| b.iter(|| all.team.together(|| limits::read(&all.team, &data))));
    }
    for isa in Isa::available() {
        if let Some(ops) = limits::ops(isa, 1) {
            group.throughput(Throughput::Elements(ops * limits::ROUNDS));
            group.bench_function(BenchmarkId::new("ops", isa), |b| {
                b.iter(|| limits::ops(isa, limits::ROUNDS))
            });
        }
    }
    group.finish();

    for format in Format::ALL {
        let mut group = criterion.benchmark_group(format!("dot/{format}"));
        one.read(&mut group, format, CACHE_BYTES, 1, "cache");
        all.read(&mut group, format, MEMORY_BYTES, 1, "memory");
        group.finish();
        let mut group = criterion.benchmark_group(format!("few/{format}"));
        one.read(&mut group, format, CACHE_BYTES, FEW_ROWS, "cache");
        all.read(&mut group, format, MEMORY_BYTES, FEW_ROWS, "memory");
        group.finish();
        let mut group = criterion.benchmark_group(format!("panel/{format}"));
        one.panel(&mut group, format, "1");
        if n_threads > 1 {
            all.panel(&mut group, format, "n");
        }
        group.finish();
    }
    for format in [Format::Q4_K, Format::Q6_K, Format::Q8_0, Format::Q4_0] {
        let mut group = criterion.benchmark_group(format!("shapes/{format}"));
        one.shapes(&mut group, format, "1");
        if n_threads > 1 {
            all.shapes(&mut group, format, "n");
        }
        group.finish();
    }
    quantize(&mut criterion);
    criterion.final_summary();
}

/// A team and its room.
struct Bench {
    team: Team,
    scratch: Vec<Mutex<StripScratch>>,
}

impl Bench {
    fn new(n_threads: usize) -> Bench {
        let team = Team::new(n_threads).expect("threads can be started");
        let scratch = (0..n_threads).map(|_| StripScratch::new(matmul::scratch_bytes(K)).into()).collect();
        Bench { team, scratch }
    }

    /// `m` rows of activations, by bytes of weights.
    fn read(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        format: Format,
        n_bytes: usize,
        m: usize,
        name: &str,
    ) {
        let n_rows = n_bytes / row_bytes(format) / 16 * 16;
        group.throughput(Throughput::Bytes((n_rows * row_bytes(format)) as u64));
        self.product(group, format, n_rows, m, name);
    }

    fn panel(&self, group: &mut BenchmarkGroup<'_, WallTime>, format: Format, name: &str) {
        group.throughput(Throughput::Elements((2 * PANEL_ROWS * PANEL_WEIGHT_ROWS * K) as u64));
        self.product(group, format, PANEL_WEIGHT_ROWS, PANEL_ROWS, name);
    }

    /// One row of activations, by bytes of weights, for every shape and distance.
    fn shapes(&self, group: &mut BenchmarkGroup<'_, WallTime>, format: Format, name: &str) {
        let n_rows = SHAPES_BYTES / row_bytes(format) / 16 * 16;
        group.throughput(Throughput::Bytes((n_rows * row_bytes(format)) as u64));
        for rows in [DotShape::A_ROW_A_LANE, DotShape::FOUR_ROWS] {
            for prefetch_bytes in [0, 256, 512, 1024, 2048] {
                let shape = DotShape { prefetch_bytes, ..rows };
                self.set_shape(shape);
                self.product(group, format, n_rows, 1, &format!("{name}/{shape}"));
            }
        }
        self.set_shape(DotShape::detect());
    }

    fn set_shape(&self, shape: DotShape) {
        for scratch in &self.scratch {
            scratch.lock().expect("no benchmark panics").shape = shape;
        }
    }

    fn product(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        format: Format,
        n_rows: usize,
        m: usize,
        name: &str,
    ) {
        // Scales are 0x3c3c, which is about one, and so is every other byte: no format has a NaN among its weights.
        let bytes = vec![0x3c; n_rows * row_bytes(format)];
        let w = QuantMatrix::new(&bytes, format, n_rows, K).expect("whole rows");
        let x: Vec<f32> = (0..m * K).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
        let mut y = vec![0.0; m * n_rows];
        for kernels in Isa::ALL.into_iter().filter_map(KernelTable::for_isa) {
            let mut buffer = ActivationBuffer::new(&[(m, K)]);
            let x = buffer
                .prepare(&self.team, kernels, format.activation_kind(), &x, m, K)
                .expect("activations are finite");
            group.bench_function(BenchmarkId::new(kernels.isa().name(), name), |b| {
                b.iter(|| {
                    let mut products = [Product { w, y: &mut y }];
                    self.team.together(|| {
                        matmul(&self.team, kernels, &mut products, x, &self.scratch, (&NEVER).into())
                    });
                    black_box(&mut y);
                })
            });
        }
    }
}

fn row_bytes(format: Format) -> usize {
    format.row_bytes(K).expect("K is whole blocks of every format")
}

fn quantize(criterion: &mut Criterion) {
    let x: Vec<f32> = (0..K).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    for kind in [ActivationKind::Q8_0, ActivationKind::Q8K] {
        let mut qs = vec![0; K];
        let mut scales = vec![0.0; K / kind.block_len()];
        let mut sums = vec![0; K / kind.sum_len()];
        let mut group = criterion.benchmark_group(format!("quantize/{kind:?}"));
        group.throughput(Throughput::Bytes(4 * K as u64));
        for kernels in Isa::ALL.into_iter().filter_map(KernelTable::for_isa) {
            group.bench_function(kernels.isa().name(), |b| {
                b.iter(|| assert!(kernels.quantize(kind, black_box(&x), &mut qs, &mut scales, &mut sums)))
            });
        }
        group.finish();
    }
}
