//! The kernels of training, beside the most that the cores can do.
//!
//! ```text
//! cargo bench --bench backward                    all of it, some minutes
//! cargo bench --bench backward -- back/Q4_K       what has this in its name
//! BENCH_THREADS=8 cargo bench --bench backward    with that many threads
//! BENCH_ISA=avx2 cargo bench --bench backward     on another instruction set than the best
//! ```
//!
//! A line a measurement: billions of f32 multiplications and additions a second on all threads, and their share of the peak, measured in turn with
//! them: twelve independent chains of fused multiply-adds in registers, on every thread. Matrices have the shapes of Mistral 7B.
//!
//! - `forward/FORMAT/ROWSxK`: `y = x·Wᵀ` of 512 rows. `back/FORMAT/ROWSxK`: `dx = dy·W`.
//! - `lora/…`: thin products of rank 16 and their gradients.
//! - `attention/N`, `attention-back/N`: 32 heads on 8, one sequence of N. Operations are those of the definition: recomputed scores are not
//!   counted.
//! - `dropout`, `loss`: billions of elements a second, two operations each.

#[path = "limits/fma.rs"]
mod fma;
#[allow(dead_code)]
mod limits;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bise_kernels::backward::{
    AttentionGradients, AttentionInputs, AttentionShape, Dropout, Executor, dropout_key,
};
use bise_kernels::{Format, Isa, KernelTable, QuantMatrix, Team};

/// Rows of activations.
const M: usize = 512;

fn main() {
    let n_threads = match std::env::var("BENCH_THREADS") {
        Ok(n) => n.parse().expect("BENCH_THREADS is a number"),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let isa = match std::env::var("BENCH_ISA") {
        Ok(name) => name.parse().expect("BENCH_ISA is an instruction set"),
        Err(_) => Isa::detect(),
    };
    let kernels = KernelTable::for_isa(isa).expect("this machine has the instruction set");
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    let team = Arc::new(Team::new(n_threads).expect("threads can be started"));
    println!("{}; {isa}; {n_threads} threads; commit {}", limits::cpu_name(), limits::commit());
    let mut bench = Bench { executor: Executor::new(team, kernels), filter };
    println!("peak: {:.1} GFLOP/s", median((0..9).map(|_| bench.peak()).collect()));

    for format in [Format::Q4_K, Format::Q6_K, Format::Q8_0, Format::F16] {
        for (n_rows, k) in [(4096, 4096), (14336, 4096), (4096, 14336)] {
            bench.product(format, n_rows, k);
        }
    }
    bench.low_rank();
    for n in [512, 4096] {
        bench.attention(n);
    }
    bench.elementwise();
}

struct Bench {
    executor: Executor,
    filter: String,
}

/// Small numbers of both signs.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 251) as f32 / 125.0 - 1.0).collect()
}

impl Bench {
    /// Operations a nanosecond that all threads do when they wait for nothing.
    fn peak(&self) -> f64 {
        const ROUNDS: u64 = 5_000_000;
        let (isa, team) = (self.executor.kernels().isa(), self.executor.team());
        let begin = Instant::now();
        team.together(|| {
            team.run(team.n_threads(), |_, _| {
                fma::fma(isa, ROUNDS);
            })
        });
        let ops = fma::fma(isa, 1).map_or(f64::NAN, |ops| (ops * ROUNDS * team.n_threads() as u64) as f64);
        ops / begin.elapsed().as_nanos() as f64
    }

    /// Measures `f` and the peak in turn, as the clock changes, and prints the medians.
    fn measure(&mut self, name: &str, ops: usize, mut f: impl FnMut(&mut Executor)) {
        f(&mut self.executor);
        let (mut times, mut shares, begin) = (Vec::new(), Vec::new(), Instant::now());
        while times.len() < 5 || begin.elapsed() < Duration::from_millis(500) {
            let before = self.peak();
            let begin = Instant::now();
            f(&mut self.executor);
            let nanoseconds = begin.elapsed().as_nanos() as f64;
            let peak = (before + self.peak()) / 2.0;
            times.push(nanoseconds);
            shares.push(100.0 * ops as f64 / nanoseconds / peak);
        }
        let nanoseconds = median(times);
        let (rate, share) = (ops as f64 / nanoseconds, median(shares));
        println!("{name:<28} {rate:>8.1} GFLOP/s {share:>6.1} %  {:>9.3} ms", nanoseconds / 1e6);
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    fn product(&mut self, format: Format, n_rows: usize, k: usize) {
        let names = ["forward", "back"].map(|what| format!("{what}/{format}/{n_rows}x{k}"));
        if !names.iter().any(|name| self.wants(name)) {
            return;
        }
        // Halves of 0x2c2c are about 0.07.
        let bytes = vec![0x2c; n_rows * format.row_bytes(k).expect("whole blocks")];
        let w = QuantMatrix::new(&bytes, format, n_rows, k).expect("bytes of the shape");
        let (mut x, mut y) = (numbers(M * k), numbers(M * n_rows));
        if self.wants(&names[0]) {
            self.measure(&names[0], 2 * M * n_rows * k, |e| e.product(w, &x, &mut y));
        }
        if self.wants(&names[1]) {
            self.measure(&names[1], 2 * M * n_rows * k, |e| e.product_backward(w, &y, &mut x, false));
        }
    }

    fn low_rank(&mut self) {
        if !self.wants("lora/") {
            return;
        }
        let (rank, n) = (16, 4096);
        let ops = 2 * M * n * rank;
        let [mut a, mut b, x, mut dy] = [rank * n, n * rank, M * n, M * n].map(numbers);
        let (mut u, mut du) = (numbers(M * rank), numbers(M * rank));
        let mut db = b.clone();
        self.measure("lora/x·Aᵀ", ops, |e| e.low_rank_down(n, &a, &x, &mut u));
        self.measure("lora/y + s·u·Bᵀ", ops, |e| e.low_rank_up(rank, &b, 2.0, &u, &mut dy));
        self.measure("lora/du, dB", 2 * ops, |e| {
            e.low_rank_up_backward(rank, &b, 2.0, &u, &dy, &mut du, &mut db)
        });
        self.measure("lora/dA", ops, |e| e.low_rank_down_backward(n, &x, &du, &mut a));
        b.copy_from_slice(&db);
        self.measure("lora/dx + du·A", ops, |e| e.low_rank_inputs_backward(n, &a, &du, &mut dy, true));
    }

    fn attention(&mut self, n: usize) {
        let names = ["attention", "attention-back"].map(|what| format!("{what}/{n}"));
        if !names.iter().any(|name| self.wants(name)) {
            return;
        }
        let (n_heads, n_kv_heads, head_dim) = (32, 8, 128);
        let scales = vec![(head_dim as f32).sqrt().recip(); n];
        let sequences = [n];
        let shape = AttentionShape {
            n_heads,
            n_kv_heads,
            head_dim,
            window: None,
            scales: &scales,
            sequences: &sequences,
        };
        let [q, mut out, mut dq, d_out] = [n * n_heads * head_dim; 4].map(numbers);
        let [k, v, mut dk, mut dv] = [n * n_kv_heads * head_dim; 4].map(numbers);
        let mut log_sums = vec![0.0; n * n_heads];
        // Two products of each query with each key it sees, and five in the derivative.
        let ops = 2 * n * (n + 1) / 2 * head_dim * n_heads;
        // The derivative needs the sums.
        self.executor.attention(&shape, &q, &k, &v, &mut out, &mut log_sums);
        if self.wants(&names[0]) {
            self.measure(&names[0], 2 * ops, |e| e.attention(&shape, &q, &k, &v, &mut out, &mut log_sums));
        }
        if !self.wants(&names[1]) {
            return;
        }
        self.measure(&names[1], 5 * ops, |e| {
            let inputs =
                AttentionInputs { q: &q, k: &k, v: &v, out: &out, log_sums: &log_sums, d_out: &d_out };
            e.attention_backward(&shape, &inputs, AttentionGradients { q: &mut dq, k: &mut dk, v: &mut dv })
        });
    }

    fn elementwise(&mut self) {
        if self.wants("dropout") {
            let keys: Vec<u64> = (0..M as u64).map(|t| dropout_key(1, 2, t)).collect();
            let (x, mut out) = (numbers(M * 4096), numbers(M * 4096));
            let dropout = Dropout::new(0.05).expect("a share");
            self.measure("dropout", 2 * x.len(), |e| e.dropout(dropout, &keys, &x, &mut out));
        }
        if self.wants("loss") {
            let mut logits = numbers(64 * 32000);
            let (labels, mut losses) = ([5; 64], [0.0; 64]);
            self.measure("loss", 2 * logits.len(), |e| e.cross_entropy(&mut logits, &labels, &mut losses));
        }
    }
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}
