//! What a session holds after errors, rewinds and panics, and sessions that use one engine at the same time.

#![cfg(feature = "builtin-model")]

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bise::generation::{Generation, GenerationOptions};
use bise::sampling::SamplingParams;
use bise::tokenizer::EncodeOptions;
use bise::{Cancel, Engine, EngineOptions, Error, Session, SessionOptions, decode_together};

fn engine() -> Engine {
    Engine::builtin_with(&EngineOptions { threads: Some(2), ..EngineOptions::default() }).unwrap()
}

fn session(engine: &Engine) -> Session {
    engine.session(&SessionOptions { n_ubatch: 8, ..SessionOptions::default() }).unwrap()
}

/// Logits after `tokens`, read by a session of their own.
fn fresh(engine: &Engine, tokens: &[u32]) -> Vec<f32> {
    session(engine).prefill(tokens).unwrap().to_vec()
}

fn tokens(n: u32) -> Vec<u32> {
    (0..n).map(|i| 300 + 7 * i).collect()
}

#[test]
fn nothing_is_read_where_a_later_pass_would_meet_an_unknown_token() {
    let engine = engine();
    let mut session = session(&engine);
    let mut bad = tokens(20);
    bad[17] = 4096;
    let error = session.prefill(&bad).unwrap_err().to_string();
    assert!(error.contains("token 4096 is not in the vocabulary, which has 4096"), "{error}");
    assert_eq!(session.position(), 0);
    assert!(session.logits().is_none());
    assert!(session.score(&bad, &mut |_, _| panic!("nothing is scored")).is_err());
    assert_eq!(session.position(), 0);
    assert_eq!(session.prefill(&tokens(20)).unwrap(), fresh(&engine, &tokens(20)));
}

#[test]
fn nothing_is_read_of_tokens_that_do_not_all_fit() {
    let options = EngineOptions { sliding_window: Some(0), ..EngineOptions::default() };
    let engine = Engine::builtin_with(&options).unwrap();
    let options = SessionOptions { n_ctx: 19, n_ubatch: 8, ..SessionOptions::default() };
    let mut session = engine.session(&options).unwrap();
    let error = session.prefill(&tokens(20)).unwrap_err().to_string();
    assert!(error.contains("20 tokens at position 0 do not fit"), "{error}");
    assert_eq!(session.position(), 0);
    session.prefill(&tokens(19)).unwrap();
    assert!(session.decode(7).is_err());
    // An error that read nothing leaves the logits where they were.
    assert_eq!(session.logits().unwrap(), fresh(&engine, &tokens(19)));
}

#[test]
fn logits_that_are_not_the_last_tokens_cannot_be_read() {
    let engine = engine();
    let mut session = session(&engine);
    assert!(session.logits().is_none());
    session.prefill(&tokens(20)).unwrap();
    let last = session.logits().unwrap().to_vec();
    session.rewind(20).unwrap();
    assert_eq!(session.logits().unwrap(), last, "nothing was forgotten");
    session.rewind(11).unwrap();
    assert!(session.logits().is_none());
    assert_eq!(session.decode(tokens(20)[11]).unwrap(), fresh(&engine, &tokens(12)));
    assert!(session.logits().is_some());

    session.prefill_with(&tokens(20), &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(session.position(), 12 + 8);
    assert!(session.logits().is_none(), "the reading was stopped before the last token");
    session.clear();
    assert!(session.logits().is_none());
}

#[test]
fn shared_logits_stay_as_they_are() {
    let engine = engine();
    let mut session = session(&engine);
    assert!(session.shared_logits().is_none());
    session.prefill(&tokens(8)).unwrap();
    let (kept, place) = (session.shared_logits().unwrap(), session.logits().unwrap().as_ptr());
    assert_eq!(kept.as_ptr(), place, "not a copy");
    session.decode(tokens(9)[8]).unwrap();
    session.decode_ahead(tokens(10)[9], &tokens(12)[10..]).unwrap();
    session.decode(tokens(11)[10]).unwrap();
    assert_eq!(*kept, fresh(&engine, &tokens(8)));
    assert_eq!(session.logits().unwrap(), fresh(&engine, &tokens(11)));
    // Once nobody uses what was shared, it is written to again.
    let place = session.shared_logits().unwrap().as_ptr();
    session.decode(tokens(13)[12]).unwrap();
    assert_eq!(session.logits().unwrap().as_ptr(), place);
    drop(session);
    assert_eq!(*kept, fresh(&engine, &tokens(8)));
}

#[test]
fn callbacks_may_use_other_sessions() {
    let engine = engine();
    let (mut scored, mut other) = (session(&engine), session(&engine));
    let mut rows = Vec::new();
    let each = &mut |i: usize, logits: &[f32]| {
        other.decode(tokens(20)[i]).unwrap();
        rows.push(logits.to_vec());
    };
    scored.score(&tokens(20), each).unwrap();
    assert_eq!(rows.len(), 20);
    assert_eq!(rows[19], fresh(&engine, &tokens(20)));
    assert_eq!(other.logits().unwrap(), rows[19]);

    let mut pair = [session(&engine), session(&engine)];
    let mut rows = Vec::new();
    decode_together(&mut pair, &[5, 6], &mut |_, logits| {
        other.decode(9).unwrap();
        rows.push(logits.to_vec());
    })
    .unwrap();
    assert_eq!(rows, [fresh(&engine, &[5]), fresh(&engine, &[6])]);
}

#[test]
fn a_callback_that_panics_leaves_session_and_engine_whole() {
    let engine = engine();
    let mut session = session(&engine);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        session.score(&tokens(20), &mut |i, _| assert!(i < 11, "as it was told")).unwrap();
    }));
    assert!(panicked.is_err());
    // The pass that the callback saw was read.
    assert_eq!(session.tokens(), &tokens(20)[..16]);
    assert!(session.logits().is_none(), "it saw no logits of the last");
    assert_eq!(session.prefill(&tokens(20)[16..]).unwrap(), fresh(&engine, &tokens(20)));
}

#[test]
fn an_empty_prompt_is_an_error_and_changes_nothing() {
    let engine = engine();
    let mut session = session(&engine);
    session.prefill(&tokens(3)).unwrap();
    assert!(matches!(session.prefill(&[]), Err(Error::NoTokens)));
    assert_eq!(session.logits().unwrap(), fresh(&engine, &tokens(3)));
}

#[test]
fn sessions_of_many_threads_get_what_they_get_alone() {
    let engine = engine();
    let alone = fresh(&engine, &tokens(20));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(fresh(&engine, &tokens(20)), alone);
                }
            });
        }
    });
}

#[test]
fn engines_that_share_threads_get_what_they_get_with_their_own() {
    let threads = bise::Threads::new(2).unwrap();
    let share = || {
        let options = EngineOptions { shared_threads: Some(threads.clone()), ..EngineOptions::default() };
        Engine::builtin_with(&options).unwrap()
    };
    let (first, second) = (share(), share());
    assert_eq!((first.n_threads(), second.n_threads()), (2, 2));
    let alone = fresh(&engine(), &tokens(20));
    std::thread::scope(|scope| {
        for engine in [&first, &second] {
            let alone = &alone;
            scope.spawn(move || (0..5).for_each(|_| assert_eq!(fresh(engine, &tokens(20)), *alone)));
        }
    });
}

#[test]
fn a_cancelled_session_reads_nothing_until_it_is_reset() {
    let engine = engine();
    let mut session = session(&engine);
    session.prefill(&tokens(20)[..9]).unwrap();
    let cancel = session.cancel_handle();
    cancel.cancel();
    assert!(session.cancel_handle().is_cancelled(), "handles are one");
    let cancelled = |error: Error| assert!(error.is_cancelled(), "{error}");
    cancelled(session.prefill(&[5, 6]).unwrap_err());
    cancelled(session.decode(5).unwrap_err());
    cancelled(session.decode_ahead(5, &[6, 7]).unwrap_err());
    cancelled(session.score(&[5, 6], &mut |_, _| panic!("nothing is scored")).unwrap_err());
    assert_eq!(session.tokens(), &tokens(20)[..9]);
    // Nothing was read, so the logits are still those of the last token.
    assert_eq!(session.logits().unwrap(), fresh(&engine, &tokens(20)[..9]));
    cancel.reset();
    assert_eq!(session.prefill(&tokens(20)[9..]).unwrap(), fresh(&engine, &tokens(20)));
}

#[test]
fn tokens_of_passes_before_the_cancelled_one_are_kept() {
    let engine = engine();
    let mut session = session(&engine);
    let cancel = session.cancel_handle();
    let mut in_time = |done: usize| {
        if done == 16 {
            cancel.cancel();
        }
        ControlFlow::Continue(())
    };
    let error = session.prefill_with(&tokens(20), &mut in_time).unwrap_err();
    assert_eq!(error.to_string(), "the forward pass was cancelled");
    assert_eq!(session.tokens(), &tokens(20)[..16]);
    assert!(session.logits().is_none());
    cancel.reset();
    assert_eq!(session.prefill(&tokens(20)[16..]).unwrap(), fresh(&engine, &tokens(20)));
}

#[test]
fn a_pass_under_way_is_cancelled_from_another_thread() {
    let engine = engine();
    let options = SessionOptions { n_ubatch: 4096, n_ctx: 4096, ..SessionOptions::default() };
    let mut session = engine.session(&options).unwrap();
    let text: Vec<u32> = tokens(500).into_iter().cycle().take(4000).collect();
    let start = Instant::now();
    session.prefill(&text).unwrap();
    let whole = start.elapsed();
    session.clear();
    // One pass: a tenth of the way through it is under way.
    let cancel = session.cancel_handle();
    let asked = std::thread::spawn(move || {
        std::thread::sleep(whole / 10);
        cancel.cancel();
    });
    let start = Instant::now();
    let error = session.prefill(&text).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
    let took = start.elapsed();
    asked.join().unwrap();
    assert!(took < whole * 6 / 10, "cancelled after {took:?} of {whole:?}");
    assert_eq!(session.position(), 0);
}

#[test]
fn a_score_that_is_cancelled_counts_only_what_was_seen() {
    let engine = engine();
    let mut session = session(&engine);
    let cancel = session.cancel_handle();
    let mut seen = Vec::new();
    let each = &mut |i: usize, logits: &[f32]| {
        seen.push(logits.to_vec());
        if i == 11 {
            cancel.cancel();
        }
    };
    assert!(session.score(&tokens(20), each).unwrap_err().is_cancelled());
    // The logits of that pass had all been computed.
    assert_eq!((seen.len(), session.position()), (16, 16));
    cancel.reset();
    assert_eq!(session.logits().unwrap(), seen[15]);
    assert_eq!(session.prefill(&tokens(20)[16..]).unwrap(), fresh(&engine, &tokens(20)));
}

#[test]
fn a_generation_goes_on_after_a_cancelled_step() {
    let engine = engine();
    let options = || GenerationOptions {
        sampling: SamplingParams { seed: 7, ..SamplingParams::default() },
        max_tokens: Some(24),
        ..GenerationOptions::default()
    };
    let whole = {
        let mut session = session(&engine);
        let pieces = session.generate_with("Once upon a time", options()).unwrap();
        pieces.collect::<Result<String, _>>().unwrap()
    };
    let mut session = session(&engine);
    let prompt = engine
        .tokenizer()
        .encode("Once upon a time", EncodeOptions { add_special: true, parse_special: true });
    session.prefill(&prompt).unwrap();
    let mut generation = Generation::new(engine.tokenizer(), options()).unwrap();
    generation.prime(&prompt);
    let (cancel, mut text) = (session.cancel_handle(), String::new());
    while generation.finish().is_none() {
        if generation.pending().is_some() {
            cancel.cancel();
            assert!(session.step(&mut generation).unwrap_err().is_cancelled());
            cancel.reset();
        }
        session.step(&mut generation).unwrap();
        text += generation.text();
    }
    assert_eq!(text, whole);
}

#[test]
fn sessions_that_are_decoded_together_are_cancelled_together() {
    let engine = engine();
    let mut pair = [session(&engine), session(&engine)];
    let cancel = Cancel::new();
    pair.iter_mut().for_each(|session| session.set_cancel_handle(cancel.clone()));
    pair[1].prefill(&[8]).unwrap();
    cancel.cancel();
    let decoded = decode_together(&mut pair, &[5, 6], &mut |_, _| panic!("nothing is decoded"));
    assert!(decoded.unwrap_err().is_cancelled());
    assert_eq!((pair[0].position(), pair[1].position()), (0, 1));
    assert_eq!(pair[1].logits().unwrap(), fresh(&engine, &[8]));
    cancel.reset();
    decode_together(&mut pair, &[5, 6], &mut |_, _| {}).unwrap();
    assert_eq!(pair[1].logits().unwrap(), fresh(&engine, &[8, 6]));
}

#[test]
fn any_session_ends_the_pass_that_it_shares_and_is_the_only_one_cancelled() {
    let engine = engine();
    let mut sessions = [session(&engine), session(&engine), session(&engine)];
    for (session, token) in sessions.iter_mut().zip([8, 9, 10]) {
        session.prefill(&[token]).unwrap();
    }
    let cancels: Vec<Cancel> = sessions.iter().map(Session::cancel_handle).collect();
    let (start, started) = std::sync::mpsc::channel::<Duration>();
    let last = cancels[2].clone();
    let helper = std::thread::spawn(move || {
        for wait in started {
            let since = Instant::now();
            while since.elapsed() < wait {
                std::hint::spin_loop();
            }
            last.cancel();
        }
    });
    // Sooner or later, so that it is in the middle of a pass at least once.
    let mut n_in_the_middle = 0;
    for i in 0..400 {
        start.send(Duration::from_micros(5 * i)).unwrap();
        let early = cancels[2].is_cancelled();
        let decoded = decode_together(&mut sessions, &[5, 6, 7], &mut |_, _| {});
        let n_read = match decoded {
            Ok(()) => 1,
            Err(error) => {
                assert!(error.is_cancelled(), "{error}");
                n_in_the_middle += usize::from(!early);
                0
            }
        };
        while !cancels[2].is_cancelled() {
            std::thread::yield_now();
        }
        assert!(!cancels[0].is_cancelled() && !cancels[1].is_cancelled());
        assert!(sessions.iter().all(|session| session.position() == 1 + n_read));
        // The others go on without it.
        decode_together(&mut sessions[..2], &[5, 6], &mut |_, _| {}).unwrap();
        cancels[2].reset();
        sessions.iter_mut().for_each(|session| session.rewind(1).unwrap());
    }
    drop(start);
    helper.join().unwrap();
    assert!(n_in_the_middle > 0);
    decode_together(&mut sessions, &[5, 6, 7], &mut |_, _| {}).unwrap();
    assert_eq!(sessions[2].logits().unwrap(), fresh(&engine, &[10, 7]));
}
