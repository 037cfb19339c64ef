//! Once warm, decoding allocates nothing.

#![cfg(feature = "builtin-model")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bise::sampling::{Sampler, SamplingParams};
use bise::{Engine, EngineOptions, Feed, Output, Sequence, SessionOptions};

/// The system's allocator, counted.
struct Counting;

static N_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N_ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        N_ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Allocations of 1,000 steps, each of which reads a token and chooses the next.
fn n_allocations(engine: &Engine, n_sequences: usize) -> usize {
    let options = SessionOptions { n_ctx: 2048, ..SessionOptions::default() };
    let mut runner = engine.runner();
    let pool = engine.page_pool(&options, usize::MAX);
    // A sequence of 1,020 tokens, as a server would make them at its start.
    pool.prepare(n_sequences * 17).unwrap();
    let window = engine.config().sliding_window;
    let mut sequences: Vec<Sequence> =
        (0..n_sequences).map(|_| Sequence::new(&pool, options.n_ctx, window)).collect();
    let mut samplers: Vec<Sampler> = (0..n_sequences)
        .map(|_| Sampler::new(&SamplingParams::greedy(), engine.config().n_vocab, &[]).unwrap())
        .collect();
    let mut tokens: Vec<u32> = (0..n_sequences as u32).map(|i| 300 + i).collect();
    let mut step = || {
        if let ([sequence], [token]) = (&mut sequences[..], &mut tokens[..]) {
            let mut batch = [Feed { sequence, tokens: std::slice::from_ref(token), output: Output::Last }];
            let mut outputs = runner.forward(&mut batch, &NEVER).unwrap();
            *token = samplers[0].sample(outputs.next_row().unwrap().unwrap().values).unwrap();
            samplers[0].accept(*token);
            return;
        }
        let [first, second] = &mut sequences[..] else { panic!("one or two") };
        let given = [tokens[0], tokens[1]];
        let mut batch = [
            Feed { sequence: first, tokens: &given[..1], output: Output::Last },
            Feed { sequence: second, tokens: &given[1..], output: Output::Last },
        ];
        let mut outputs = runner.forward(&mut batch, &NEVER).unwrap();
        while let Some(row) = outputs.next_row().unwrap() {
            tokens[row.span] = samplers[row.span].sample(row.values).unwrap();
            samplers[row.span].accept(tokens[row.span]);
        }
    };
    (0..20).for_each(|_| step());
    let before = N_ALLOCATIONS.load(Relaxed);
    (0..1000).for_each(|_| step());
    N_ALLOCATIONS.load(Relaxed) - before
}

// One test: the counter is the process's.
#[test]
fn a_thousand_steps_allocate_nothing() {
    for (threads, window) in [(1, None), (2, None), (2, Some(0))] {
        let options =
            EngineOptions { threads: Some(threads), sliding_window: window, ..EngineOptions::default() };
        let engine = Engine::builtin_with(&options).unwrap();
        for n_sequences in [1, 2] {
            let n = n_allocations(&engine, n_sequences);
            assert_eq!(n, 0, "{threads} threads, window {window:?}, {n_sequences} sequences");
        }
    }
}
