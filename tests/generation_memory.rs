//! Once it is warm, a generation allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bise::generation::{Generation, GenerationOptions};
use bise::sampling::SamplingParams;
use bise::speculation::SpeculationOptions;
use bise::tokenizer::{Algorithm, Tokenizer, Vocabulary};

/// Counts what the current thread asks for.
struct Counting;

thread_local! {
    static N_ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: calls go to `System` as they came; counting allocates nothing: its cell has neither a destructor nor an initializer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        N_ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the layout is the caller's, who promises that it is not of size 0.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System.alloc` or `System.realloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        N_ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the pointer came from `System` above with this layout, and the caller promises a size that is not 0.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn tokenizer() -> Tokenizer {
    let mut vocabulary = Vocabulary::with_defaults(Algorithm::SentencePiece);
    let letters =
        |n: usize| (0..3).map(|i| char::from(b'a' + (n / 26usize.pow(i) % 26) as u8)).collect::<String>();
    let pieces: Vec<String> = (0..2000).map(|n| format!("▁{}é", letters(n))).collect();
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let all = ["<unk>", "<s>", "</s>"].into_iter().chain(bytes.iter().map(String::as_str));
    vocabulary.tokens = all.chain(pieces.iter().map(String::as_str)).collect();
    vocabulary.types = [2, 3, 3].into_iter().chain([6; 256]).chain([1; 2000]).collect();
    vocabulary.scores = vec![0.0; vocabulary.types.len()];
    (vocabulary.bos, vocabulary.eos) = (Some(1), Some(2));
    Tokenizer::new(vocabulary).unwrap()
}

#[test]
fn a_warm_generation_allocates_nothing() {
    let tokenizer = tokenizer();
    let n_vocab = tokenizer.n_vocab();
    let all = SamplingParams {
        seed: 5,
        penalty_repeat: 1.1,
        penalty_freq: 0.1,
        dry_multiplier: 0.5,
        dry_penalty_last_n: 256,
        top_n_sigma: 3.0,
        typ_p: 0.9,
        xtc_probability: 0.3,
        dynatemp_range: 0.2,
        ignore_eos: true,
        ..SamplingParams::default()
    };
    let flat = SamplingParams { seed: 5, top_k: 0, temp: 5.0, ignore_eos: true, ..SamplingParams::default() };
    let mirostat = SamplingParams { mirostat: 2, ..flat.clone() };
    for (name, sampling) in [
        ("greedy", SamplingParams { ignore_eos: true, ..SamplingParams::greedy() }),
        ("all", all),
        ("flat", flat),
        ("mirostat", mirostat),
    ] {
        for n_max in [0, 15] {
            let options = GenerationOptions {
                sampling: sampling.clone(),
                stop: vec!["never said".to_owned(), "é never".to_owned()],
                speculation: SpeculationOptions { n_max, always: true },
                log_probs: Some(5),
                ..GenerationOptions::default()
            };
            let mut generation = Generation::new(&tokenizer, options).unwrap();
            generation.prime(&(300..400).collect::<Vec<u32>>());
            let mut logits = vec![0.0f32; n_vocab];
            let (mut before, mut state, mut n_bytes) = (0, 1u32, 0);
            for step in 0..1500 {
                if step == 500 {
                    before = N_ALLOCATIONS.get();
                }
                // Every logit changes from step to step, and repetitions come up.
                for (id, logit) in logits.iter_mut().enumerate() {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *logit = (state >> 16) as f32 / 32768.0 + if id % 50 == step % 25 { 4.0 } else { 0.0 };
                }
                let n_fed = generation.next_tokens(7).len().max(1);
                generation.advance((0..n_fed).map(|_| &logits[..])).unwrap();
                n_bytes += generation.events().count() + generation.text().len();
            }
            assert_eq!(N_ALLOCATIONS.get() - before, 0, "{name}, {n_max} drafts");
            assert!(n_bytes > 1500 && generation.finish().is_none());
        }
    }
}
