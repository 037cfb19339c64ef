//! The built-in model from end to end: the same tokens and the same bits on every machine.

use bise::sampling::SamplingParams;
use bise::{CacheType, Engine, EngineOptions, Isa, SessionOptions};

const STORY: &str = "Once upon a time";

/// FNV-1a over the bits of every logit of a reading.
struct Fingerprint(u64);

impl Fingerprint {
    fn add(&mut self, logits: &[f32]) {
        for byte in logits.iter().flat_map(|l| l.to_bits().to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

fn fingerprint(engine: &Engine, tokens: &[u32], chunk: usize, cache: CacheType) -> u64 {
    let options =
        SessionOptions { n_ubatch: chunk, k_type: cache, v_type: cache, ..SessionOptions::default() };
    let mut session = engine.session(&options).unwrap();
    let mut fingerprint = Fingerprint(0xcbf2_9ce4_8422_2325);
    session.score(tokens, &mut |_, logits| fingerprint.add(logits)).unwrap();
    fingerprint.0
}

/// A text of 96 tokens that the model has opinions on.
fn tokens() -> Vec<u32> {
    let n_vocab = 4096;
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        260 + (state >> 8) % (n_vocab - 260)
    };
    std::iter::once(1).chain((0..95).map(|_| random())).collect()
}

#[test]
fn logits_are_the_same_bits_for_any_instruction_set_threads_and_chunk_on_every_machine() {
    let tokens = tokens();
    let fingerprint_of = |isa, threads, chunk, cache| {
        let options = EngineOptions { isa: Some(isa), threads: Some(threads), ..EngineOptions::default() };
        fingerprint(&Engine::builtin_with(&options).unwrap(), &tokens, chunk, cache)
    };
    // Emulated machines are a hundred times slower: they read once for each instruction set.
    let emulated = std::env::var_os("BISE_EMULATED").is_some();
    let readings: &[(usize, usize)] = if emulated { &[(2, 7)] } else { &[(1, 512), (2, 7), (3, 64), (2, 1)] };
    let mut wrong = Vec::new();
    for (cache, golden) in GOLDEN {
        for isa in Isa::available() {
            for &(threads, chunk) in readings {
                let found = fingerprint_of(isa, threads, chunk, cache);
                if found != golden {
                    wrong.push(format!("{cache} on {isa}, {threads} threads, chunks of {chunk}: {found:#x}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What every machine gets for [`tokens`].
const GOLDEN: [(CacheType, u64); 3] = [
    (CacheType::F16, 0xd24a_86a7_4c21_2b0d),
    (CacheType::Q8_0, 0x93b3_1cdc_87f2_9baf),
    (CacheType::Q4_0, 0xde66_a1b0_3121_d2c2),
];

#[test]
fn a_story_goes_on_as_it_always_did() {
    let mut session = Engine::builtin().unwrap().session(&SessionOptions::default()).unwrap();
    let pieces = session.generate(STORY, &SamplingParams::greedy(), 32).unwrap();
    let text: String = pieces.map(Result::unwrap).collect();
    assert_eq!(
        text,
        ", a kind boy named Hugo lived in a cottage with a red roof. He never walked past someone who was sad. One day, \
         Hugo got a small brown"
    );
}
