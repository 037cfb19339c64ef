//! Drafts change how long a text takes, never the text.

#![cfg(feature = "builtin-model")]

mod infinite_embedding;

use bise::generation::{Generation, GenerationOptions};
use bise::sampling::{DryBreaker, Sampler, SamplingParams};
use bise::speculation::{SpeculationOptions, SpeculationStats};
use bise::tokenizer::EncodeOptions;
use bise::{CacheType, Engine, EngineOptions, Session, SessionOptions, decode_together};
use infinite_embedding::with_infinite_embedding;

const ALWAYS: SpeculationOptions = SpeculationOptions { n_max: 15, always: true };
/// A beginning that the model likes to take up again.
const PROMPT: &str = "Tom had a red ball. Tom had a red ball and a blue ball. Tom had a";

fn engine(threads: usize) -> Engine {
    Engine::builtin_with(&EngineOptions { threads: Some(threads), ..EngineOptions::default() }).unwrap()
}

fn without_window() -> Engine {
    let options = EngineOptions { sliding_window: Some(0), ..EngineOptions::default() };
    Engine::builtin_with(&options).unwrap()
}

fn session(engine: &Engine) -> Session {
    engine.session(&SessionOptions::default()).unwrap()
}

fn prompt(engine: &Engine) -> Vec<u32> {
    engine.tokenizer().encode(PROMPT, EncodeOptions { add_special: true, parse_special: false })
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Numbers below `n`, the same in every run.
fn random(seed: u32) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |n| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % n
    }
}

/// The next `n` tokens, where `decode` reads each, and the logits at the end.
fn write(
    session: &mut Session,
    params: &SamplingParams,
    n: usize,
    mut decode: impl FnMut(&mut Session, u32, usize),
) -> (Vec<u32>, Vec<u32>) {
    let n_vocab = session.engine().config().n_vocab;
    let eos = session.engine().tokenizer().eos().unwrap();
    let mut sampler = Sampler::new(params, n_vocab, &[eos]).unwrap();
    let prompt = prompt(session.engine());
    session.prefill(&prompt).unwrap();
    prompt.iter().for_each(|&token| sampler.accept(token));
    let mut tokens = Vec::new();
    for i in 1..=n {
        let token = sampler.sample(session.logits().unwrap()).unwrap();
        sampler.accept(token);
        tokens.push(token);
        decode(session, token, n - i);
        assert_eq!(session.position(), prompt.len() + i);
    }
    assert_eq!(session.tokens()[prompt.len()..], tokens);
    (tokens, bits(session.logits().unwrap()))
}

/// What [`write`] and [`plainly`] give, by a generation.
fn generate(
    session: &mut Session,
    params: &SamplingParams,
    n: usize,
    speculation: SpeculationOptions,
) -> ((Vec<u32>, Vec<u32>), SpeculationStats) {
    let options = GenerationOptions {
        sampling: params.clone(),
        max_tokens: Some(n),
        speculation,
        ..GenerationOptions::default()
    };
    let mut generation = Generation::new(session.engine().tokenizer(), options).unwrap();
    let prompt = prompt(session.engine());
    session.prefill(&prompt).unwrap();
    generation.prime(&prompt);
    while generation.finish().is_none() {
        session.step(&mut generation).unwrap();
    }
    // The last token is not read, and has no logits yet.
    let last = generation.pending().expect("the last of the tokens asked for is not read");
    session.decode(last).unwrap();
    let tokens = session.tokens()[prompt.len()..].to_vec();
    ((tokens, bits(session.logits().unwrap())), generation.stats().speculation)
}

fn plainly(session: &mut Session, token: u32, _: usize) {
    session.decode(token).unwrap();
}

/// Ways to choose tokens, by name.
fn choices() -> Vec<(String, SamplingParams)> {
    // The text does not end, so that there is enough of it.
    let greedy = SamplingParams { ignore_eos: true, ..SamplingParams::greedy() };
    let mut choices = vec![("greedy".to_owned(), greedy)];
    for seed in [1, 2, 3] {
        let params = SamplingParams { seed, temp: 0.8, ignore_eos: true, ..SamplingParams::default() };
        let mirostat = SamplingParams { mirostat: 2, mirostat_tau: 2.0, ..params.clone() };
        let penalties = SamplingParams {
            penalty_repeat: 1.05,
            penalty_freq: 0.05,
            penalty_present: 0.05,
            ..params.clone()
        };
        let dry = SamplingParams {
            dry_multiplier: 0.5,
            dry_allowed_length: 4,
            dry_penalty_last_n: 200,
            dry_breakers: vec![DryBreaker { head: 13, tail: Vec::new() }],
            ..params.clone()
        };
        let cold = SamplingParams { temp: 0.3, ..params.clone() };
        let ways = [("0.8", params), ("0.3", cold), ("mirostat", mirostat), ("penalties", penalties)];
        choices.extend(ways.map(|(name, params)| (format!("{name}, seed {seed}"), params)));
        choices.push((format!("dry, seed {seed}"), dry));
    }
    choices
}

#[test]
fn the_text_is_that_of_plain_decoding_however_tokens_are_chosen() {
    let engine = engine(2);
    let mut n_accepted = 0;
    for (name, params) in choices() {
        let plain = write(&mut session(&engine), &params, 300, plainly);
        for options in [ALWAYS, SpeculationOptions::default(), SpeculationOptions::off()] {
            let (text, stats) = generate(&mut session(&engine), &params, 300, options);
            assert!(text == plain, "{name}, {options:?}");
            assert_eq!((stats.n_tokens, stats.n_tokens - stats.n_passes), (299, stats.n_accepted), "{name}");
            n_accepted += if options.always { stats.n_accepted } else { 0 };
        }
    }
    assert!(n_accepted > 100, "{n_accepted} accepted: these texts test little");
}

#[test]
fn the_text_is_that_of_plain_decoding_with_right_and_wrong_drafts() {
    let engine = engine(2);
    let n_vocab = engine.config().n_vocab as u32;
    for (name, params) in choices() {
        let plain = write(&mut session(&engine), &params, 300, plainly);
        let mut random = random(params.seed);
        let (mut n_drafted, mut n_passes) = (0, 0);
        let text = write(&mut session(&engine), &params, 300, |session, token, n_more| {
            let n_right = random(12) as usize;
            let mut drafts: Vec<u32> = plain.0[300 - n_more..].iter().copied().take(n_right).collect();
            drafts.extend((0..random(4)).map(|_| random(n_vocab)));
            let n_ahead = session.n_ahead();
            session.decode_ahead(token, &drafts).unwrap();
            if n_ahead == 0 || session.n_ahead() != n_ahead - 1 {
                (n_passes, n_drafted) = (n_passes + 1, n_drafted + session.n_ahead());
            }
        });
        assert!(text == plain, "{name}");
        assert!(n_passes < 150 && n_drafted > 300, "{name}: {n_drafted} drafted, {n_passes} passes");
    }
}

#[test]
fn the_text_is_that_of_plain_decoding_for_any_threads_and_cache() {
    let params = SamplingParams { seed: 4, temp: 0.4, ignore_eos: true, ..SamplingParams::default() };
    for cache in [CacheType::F16, CacheType::Q8_0, CacheType::Q4_0] {
        let options = SessionOptions { k_type: cache, v_type: cache, ..SessionOptions::default() };
        let plain = write(&mut engine(1).session(&options).unwrap(), &params, 320, plainly);
        for threads in 1..=3 {
            let mut session = engine(threads).session(&options).unwrap();
            let (text, stats) = generate(&mut session, &params, 320, ALWAYS);
            assert!(text == plain, "{cache}, {threads} threads");
            assert!(stats.n_drafted > 0);
        }
    }
}

#[test]
fn wrong_drafts_past_the_window_leave_no_trace() {
    let engine = engine(2);
    let n_vocab = engine.config().n_vocab as u32;
    let window = engine.config().sliding_window.expect("the built-in model has one");
    let tokens: Vec<u32> = {
        let mut random = random(1);
        (0..4 * window + 100).map(|_| random(n_vocab)).collect()
    };
    let mut plain = session(&engine);
    let mut ahead = session(&engine);
    let mut random = random(2);
    for (i, &token) in tokens.iter().enumerate() {
        // Some right, and then wrong ones: as many as a session takes, and more.
        let n_right = random(4) as usize;
        let n_wrong = if random(8) == 0 { 400 } else { random(16) };
        let mut drafts = tokens[i + 1..].iter().take(n_right).copied().collect::<Vec<_>>();
        drafts.extend((0..n_wrong).map(|_| random(n_vocab)));
        let want = bits(plain.decode(token).unwrap());
        assert!(bits(ahead.decode_ahead(token, &drafts).unwrap()) == want, "token {i}");
        assert!(i < 2 * window || ahead.n_ahead() <= window, "token {i}: {} ahead", ahead.n_ahead());
        if random(100) == 0 {
            // A rewind finds the rows that it needs, or reads again.
            let position = ahead.position().saturating_sub(random(60) as usize);
            let rest = ahead.tokens()[position..].to_vec();
            ahead.rewind(position).unwrap();
            for &token in &rest {
                ahead.decode_ahead(token, &drafts).unwrap();
            }
            assert!(bits(ahead.logits().unwrap()) == want, "token {i}, rewound");
        }
    }
    assert_eq!(ahead.tokens(), tokens);
}

#[test]
fn drafts_that_are_chosen_take_no_pass() {
    let engine = engine(2);
    let tokens = prompt(&engine);
    let mut session = session(&engine);
    session.decode_ahead(tokens[0], &tokens[1..6]).unwrap();
    assert_eq!((session.position(), session.n_ahead()), (1, 5));
    session.decode(tokens[1]).unwrap();
    session.decode_ahead(tokens[2], &[9, 9, 9, 9]).unwrap();
    assert_eq!((session.position(), session.n_ahead()), (3, 3));
    session.decode(tokens[0]).unwrap();
    assert_eq!((session.position(), session.n_ahead()), (4, 0));
}

/// Sessions that have read `tokens`: one of them has drafts ahead as well.
fn pair(engine: &Engine, options: &SessionOptions, tokens: &[u32]) -> [Session; 2] {
    let mut sessions = [engine.session(options).unwrap(), engine.session(options).unwrap()];
    let (&last, first) = tokens.split_last().unwrap();
    sessions.iter_mut().for_each(|session| _ = session.prefill(first).unwrap());
    sessions[0].decode(last).unwrap();
    sessions[1].decode_ahead(last, &[5, 6, 7, 8]).unwrap();
    assert_eq!(sessions[1].n_ahead(), 4);
    sessions
}

#[test]
fn whatever_comes_next_drops_what_is_ahead() {
    let engine = engine(2);
    let tokens = prompt(&engine);
    let same = |what: &str, act: &dyn Fn(&mut Session)| {
        let [mut plain, mut ahead] = pair(&engine, &SessionOptions::default(), &tokens);
        assert_eq!((ahead.room(), ahead.tokens()), (plain.room(), plain.tokens()), "{what}");
        act(&mut plain);
        act(&mut ahead);
        assert_eq!(ahead.n_ahead(), 0, "{what}");
        assert_eq!(ahead.tokens(), plain.tokens(), "{what}");
        assert_eq!(bits(ahead.decode(11).unwrap()), bits(plain.decode(11).unwrap()), "{what}");
    };
    same("prefill", &|session| _ = session.prefill(&[5, 6, 300]).unwrap());
    same("prefill of one", &|session| _ = session.prefill(&[5]).unwrap());
    same("another token", &|session| _ = session.decode(300).unwrap());
    same("score", &|session| session.score(&[5, 6], &mut |_, _| {}).unwrap());
    same("rewind to here", &|session| session.rewind(session.position()).unwrap());
    same("rewind", &|session| session.rewind(3).unwrap());
    same("clear", &|session| session.clear());
    same("generate", &|session| {
        let pieces = session.generate(" cat", &SamplingParams::greedy(), 8).unwrap();
        pieces.for_each(|piece| drop(piece.unwrap()));
        session.rewind(session.position()).unwrap();
    });

    let mut sessions = pair(&engine, &SessionOptions::default(), &tokens);
    let mut logits = Vec::new();
    decode_together(&mut sessions, &[5, 5], &mut |_, row| logits.push(bits(row))).unwrap();
    assert_eq!(logits[0], logits[1]);
    assert_eq!(sessions[1].n_ahead(), 0);
}

#[test]
fn a_context_that_is_nearly_full_takes_as_many_drafts_as_fit() {
    let engine = without_window();
    let tokens = prompt(&engine);
    for room in 1..6 {
        let options = SessionOptions { n_ctx: tokens.len() + room, ..SessionOptions::default() };
        let mut plain = engine.session(&options).unwrap();
        let mut ahead = engine.session(&options).unwrap();
        plain.prefill(&tokens).unwrap();
        ahead.prefill(&tokens).unwrap();
        for i in 0..room {
            let token = 300 + i as u32;
            let want = bits(plain.decode(token).unwrap());
            let drafts = [301 + i as u32, 9, 9, 9, 9, 9, 9];
            assert_eq!(bits(ahead.decode_ahead(token, &drafts).unwrap()), want);
            assert_eq!(ahead.room(), room - 1 - i);
            assert!(ahead.n_ahead() <= ahead.room());
        }
        let error = ahead.decode_ahead(7, &[8]).unwrap_err().to_string();
        assert_eq!(error, plain.decode(7).unwrap_err().to_string());
        assert!(error.contains("room for 0 more"), "{error}");
    }
}

#[test]
fn a_pass_is_no_longer_than_asked_for() {
    let engine = engine(1);
    for (n_ubatch, n_ahead) in [(1, 0), (4, 3), (512, 6)] {
        let options = SessionOptions { n_ubatch, ..SessionOptions::default() };
        let mut session = engine.session(&options).unwrap();
        session.decode_ahead(1, &[5, 6, 7, 8, 9, 10]).unwrap();
        assert_eq!(session.n_ahead(), n_ahead, "-ub {n_ubatch}");
    }
}

#[test]
fn a_draft_outside_the_vocabulary_is_an_error_and_nothing_is_read() {
    let engine = engine(1);
    let mut session = session(&engine);
    session.decode_ahead(1, &[300, 301]).unwrap();
    let before = bits(session.logits().unwrap());
    for (token, drafts) in [(5, [6, 4096]), (300, [6, 4096]), (4096, [6, 7])] {
        let error = session.decode_ahead(token, &drafts).unwrap_err().to_string();
        assert!(error.contains("token 4096 is not in the vocabulary"), "{error}");
        assert_eq!((session.position(), session.n_ahead()), (1, 2));
        assert_eq!(bits(session.logits().unwrap()), before);
    }
}

#[test]
fn a_draft_that_the_model_fails_on_is_no_error_unless_it_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let engine = with_infinite_embedding(300, &folder.path().join("model.gguf"));
    let tokens: Vec<u32> = (400..1200).collect();
    let mut plain = session(&engine);
    let mut ahead = session(&engine);
    for (i, &token) in tokens.iter().enumerate() {
        let want = bits(plain.decode(token).unwrap());
        let drafts: Vec<u32> = (0..i % 17).map(|k| 500 + k as u32).chain([300]).collect();
        assert!(bits(ahead.decode_ahead(token, &drafts).unwrap()) == want, "token {i}");
        assert_eq!(ahead.n_ahead(), 0);
    }
    for session in [&mut plain, &mut ahead] {
        session.rewind(tokens.len() - 185).unwrap();
    }
    assert!(bits(ahead.decode(7).unwrap()) == bits(plain.decode(7).unwrap()));
    let position = ahead.position();
    assert!(ahead.decode_ahead(300, &[5]).is_err());
    // The text is where it was.
    assert_eq!((ahead.position(), ahead.n_ahead()), (position, 0));
    assert!(bits(ahead.decode(9).unwrap()) == bits(plain.decode(9).unwrap()));
}

#[test]
fn a_generation_goes_on_with_texts_that_are_cut_back_and_others() {
    let engine = engine(2);
    let tokens = prompt(&engine);
    let options = |speculation| GenerationOptions {
        sampling: SamplingParams { ignore_eos: true, ..SamplingParams::greedy() },
        speculation,
        ..GenerationOptions::default()
    };
    let mut generation = Generation::new(engine.tokenizer(), options(ALWAYS)).unwrap();
    let mut plain_generation =
        Generation::new(engine.tokenizer(), options(SpeculationOptions::off())).unwrap();
    let mut sessions = [session(&engine), session(&engine)];
    let mut plain = session(&engine);
    let mut random = random(3);
    let write = |session: &mut Session, generation: &mut Generation, n: usize| {
        generation.set_max_tokens(Some(n));
        generation.prime(session.tokens());
        while generation.finish().is_none() {
            session.step(generation).unwrap();
        }
        let mut text = session.tokens().to_vec();
        text.extend(generation.pending());
        text
    };
    for round in 0..40 {
        let session = &mut sessions[random(2) as usize];
        let position = random(session.position() as u32 + 1) as usize;
        session.rewind(position).unwrap();
        session.prefill(&tokens[..1 + random(20) as usize]).unwrap();
        plain.clear();
        plain.prefill(session.tokens()).unwrap();
        let n = random(24) as usize;
        let text = write(session, &mut generation, n);
        assert_eq!(text, write(&mut plain, &mut plain_generation, n), "round {round}");
    }
    assert!(generation.stats().speculation.n_accepted > 0, "{:?}", generation.stats());
}
