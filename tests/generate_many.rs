//! Many texts continued together are those that each has alone, and none harms another.

#![cfg(feature = "builtin-model")]

mod infinite_embedding;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bise::constraint::Choices;
use bise::generation::{Event, Finish, Generation, GenerationOptions};
use bise::many::{ManyOptions, Outcome, Request, generate_many};
use bise::sampling::SamplingParams;
use bise::{Engine, EngineOptions, Error, SessionOptions};
use infinite_embedding::with_infinite_embedding;

/// An event that outlives the call that told it; log-probabilities as bits.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Token(u32, String, Option<u32>, Vec<(u32, u32)>),
    Finished(Finish, String),
    Failed(String),
}

fn told(event: Result<Event<'_>, &Error>) -> Told {
    match event {
        Ok(Event::Token { token, text, log_prob, top }) => {
            let top = top.iter().map(|(id, log_prob)| (*id, log_prob.to_bits())).collect();
            Told::Token(token, text.to_owned(), log_prob.map(f32::to_bits), top)
        }
        Ok(Event::Finished { finish, text }) => Told::Finished(finish.clone(), text.to_owned()),
        Err(error) => Told::Failed(error.to_string()),
    }
}

fn engine() -> Engine {
    Engine::builtin_with(&EngineOptions { threads: Some(2), ..EngineOptions::default() }).unwrap()
}

fn greedy(max_tokens: usize) -> GenerationOptions {
    let (sampling, max_tokens) = (SamplingParams::greedy(), Some(max_tokens));
    GenerationOptions { sampling, max_tokens, ..GenerationOptions::default() }
}

fn seeded(seed: u32, max_tokens: usize) -> GenerationOptions {
    let sampling = SamplingParams { seed, temp: 1.3, ..SamplingParams::default() };
    GenerationOptions { sampling, ..greedy(max_tokens) }
}

/// Prompts of 2 to 200 tokens, and a different end for each.
fn cases() -> Vec<(String, GenerationOptions)> {
    let long = "The wind came down from the mountains and blew the hat of the old man away. ".repeat(6);
    let stop = GenerationOptions { stop: vec![" cottage".into()], ..greedy(40) };
    let penalized = SamplingParams { penalty_repeat: 1.3, dry_multiplier: 0.8, ..seeded(5, 0).sampling };
    vec![
        ("Once upon a time".into(), greedy(12)),
        (long.clone(), seeded(1, 30)),
        ("The cat".into(), seeded(2, 60)),
        ("Once upon a time".into(), stop),
        (format!("{long}One day"), greedy(1)),
        ("a".into(), GenerationOptions { log_probs: Some(3), ..seeded(3, 20) }),
        ("One day".into(), GenerationOptions { sampling: penalized, ..greedy(50) }),
        ("The end".into(), greedy(0)),
        ("It was".into(), GenerationOptions { special: true, ..greedy(25) }),
    ]
}

fn requests(engine: &Engine) -> Vec<Request> {
    cases().into_iter().map(|(prompt, options)| Request::new(engine, &prompt, options)).collect()
}

/// What each case tells when it is alone.
fn alone(engine: &Engine, session: &SessionOptions) -> Vec<Vec<Told>> {
    let one = |request: Request| {
        let mut session = engine.session(session).unwrap();
        let mut generation = Generation::new(engine.tokenizer(), request.options).unwrap();
        session.prefill(&request.prompt).unwrap();
        generation.prime(&request.prompt);
        let mut events: Vec<Told> = generation.events().map(|event| told(Ok(event))).collect();
        while generation.finish().is_none() {
            session.step(&mut generation).unwrap();
            events.extend(generation.events().map(|event| told(Ok(event))));
        }
        events
    };
    requests(engine).into_iter().map(one).collect()
}

fn together(
    engine: &Engine,
    requests: Vec<Request>,
    options: &ManyOptions,
) -> (Vec<Outcome>, Vec<Vec<Told>>) {
    let mut events = vec![Vec::new(); requests.len()];
    let outcomes = generate_many(engine, requests, options, &mut |i, event| {
        events[i].push(told(event));
        ControlFlow::Continue(())
    })
    .unwrap();
    (outcomes, events)
}

fn many(n_ubatch: usize, n_parallel: usize) -> ManyOptions {
    let session = SessionOptions { n_ubatch, ..SessionOptions::default() };
    ManyOptions { session, n_parallel, ..ManyOptions::default() }
}

#[test]
fn every_text_has_the_bits_that_it_has_alone() {
    let engine = engine();
    let expected = alone(&engine, &SessionOptions::default());
    for (n_ubatch, n_parallel) in [(512, 8), (512, 3), (16, 16), (5, 4), (1, 8), (512, 1)] {
        let (outcomes, events) = together(&engine, requests(&engine), &many(n_ubatch, n_parallel));
        for (i, (events, expected)) in events.iter().zip(&expected).enumerate() {
            assert_eq!(events, expected, "request {i}, {n_ubatch} tokens a pass, {n_parallel} texts");
            let (mut tokens, mut text) = (Vec::new(), String::new());
            for event in events {
                match event {
                    Told::Token(token, piece, ..) => {
                        tokens.push(*token);
                        text += piece;
                    }
                    Told::Finished(finish, piece) => {
                        assert_eq!(outcomes[i].finish.as_ref().unwrap(), finish);
                        text += piece;
                    }
                    Told::Failed(error) => panic!("{error}"),
                }
            }
            assert_eq!((&outcomes[i].tokens, &outcomes[i].text), (&tokens, &text));
        }
    }
}

#[test]
fn a_request_that_fails_harms_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let engine = with_infinite_embedding(300, &folder.path().join("model.gguf"));
    let expected = alone(&engine, &SessionOptions::default());
    let raw = |prompt: Vec<u32>, options| Request { prompt, options, constraint: None, adapters: None };
    let wrong = SamplingParams { mirostat: 9, ..SamplingParams::greedy() };
    // Chosen after two tokens, and fatal when it is read.
    let fatal = SamplingParams { logit_bias: vec![(300, 1e6)], ..SamplingParams::greedy() };
    let bad = || {
        vec![
            (raw(vec![], greedy(5)), "the prompt has no tokens"),
            (raw(vec![1, 4096], greedy(5)), "token 4096 is not in the vocabulary"),
            (raw(vec![1, 300, 5], greedy(5)), "are not finite"),
            (raw(vec![1, 5], GenerationOptions { sampling: wrong.clone(), ..greedy(5) }), "mirostat"),
            (raw(vec![1, 5], GenerationOptions { sampling: fatal.clone(), ..greedy(5) }), "are not finite"),
            (raw(vec![300], greedy(5)), "are not finite"),
        ]
    };
    for (n_ubatch, n_parallel) in [(512, 16), (512, 2), (7, 4), (512, 1)] {
        // A bad one in front of each good one, and the rest behind.
        let mut all = Vec::new();
        let mut bad = bad().into_iter();
        for (i, request) in requests(&engine).into_iter().enumerate() {
            all.extend(bad.next().map(|(request, error)| (request, Err(error))));
            all.push((request, Ok(i)));
        }
        let (requests, expectations): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let (outcomes, events) = together(&engine, requests, &many(n_ubatch, n_parallel));
        for ((outcome, events), expectation) in outcomes.iter().zip(&events).zip(expectations) {
            match expectation {
                Ok(i) => assert_eq!(*events, expected[i], "{n_ubatch} tokens a pass, {n_parallel} texts"),
                Err(message) => {
                    let Some(Told::Failed(error)) = events.last() else { panic!("{message}: {events:?}") };
                    assert!(error.contains(message), "{error}");
                    assert_eq!(outcome.finish.as_ref().unwrap_err().to_string(), *error);
                }
            }
        }
    }
}

#[test]
fn a_prompt_or_context_that_does_not_fit_ends_that_request_alone() {
    let options = EngineOptions { sliding_window: Some(0), ..EngineOptions::default() };
    let engine = Engine::builtin_with(&options).unwrap();
    let mut options = many(16, 4);
    options.session.n_ctx = 20;
    let no_end = || GenerationOptions {
        sampling: SamplingParams { ignore_eos: true, ..SamplingParams::greedy() },
        max_tokens: None,
        ..GenerationOptions::default()
    };
    let request = |n: u32, options| Request {
        prompt: (300..300 + n).collect(),
        options,
        constraint: None,
        adapters: None,
    };
    let requests =
        vec![request(21, greedy(3)), request(20, greedy(3)), request(5, no_end()), request(4, greedy(3))];
    let (outcomes, _) = together(&engine, requests, &options);
    let error = outcomes[0].finish.as_ref().unwrap_err().to_string();
    assert!(error.contains("21 tokens at position 0 do not fit"), "{error}");
    // The last token needs no room: nothing is read after it.
    let ends: Vec<_> = outcomes[1..].iter().map(|o| (o.tokens.len(), o.finish.as_ref().unwrap())).collect();
    assert_eq!(ends, [(1, &Finish::Interrupted), (16, &Finish::Interrupted), (3, &Finish::Length)]);
}

#[test]
fn no_more_texts_are_under_way_than_there_is_room_for() {
    let engine =
        Engine::builtin_with(&EngineOptions { sliding_window: Some(0), ..EngineOptions::default() }).unwrap();
    // Each needs 4 + 80 positions, which are two pages.
    let requests = || -> Vec<Request> {
        let options = GenerationOptions {
            sampling: SamplingParams { ignore_eos: true, ..seeded(9, 0).sampling },
            ..greedy(80)
        };
        let prompt = |i: u32| vec![1, 400 + i, 500, 600];
        (0..7)
            .map(|i| Request {
                prompt: prompt(i),
                options: options.clone(),
                constraint: None,
                adapters: None,
            })
            .collect()
    };
    let most_open = |options: &ManyOptions| {
        let (mut open, mut most) = (BTreeSet::new(), 0);
        let outcomes = generate_many(&engine, requests(), options, &mut |i, event| {
            match event.unwrap() {
                Event::Token { .. } => open.insert(i),
                Event::Finished { .. } => open.remove(&i),
            };
            most = most.max(open.len());
            ControlFlow::Continue(())
        });
        assert!(outcomes.unwrap().iter().all(|outcome| outcome.tokens.len() == 80));
        most
    };
    let with_pages = |max_pages| ManyOptions { max_pages, ..many(512, 16) };
    assert_eq!(most_open(&with_pages(usize::MAX)), 7);
    assert_eq!(most_open(&with_pages(7)), 3);
    assert_eq!(most_open(&with_pages(2)), 1);
    assert_eq!(most_open(&many(512, 2)), 2);
    let (outcomes, _) = together(&engine, requests(), &with_pages(1));
    for outcome in outcomes {
        let error = outcome.finish.unwrap_err().to_string();
        assert!(
            error.starts_with("this request may need 2 pages of keys and values, and there may be 1:"),
            "{error}"
        );
    }
}

#[test]
fn texts_go_on_while_a_long_prompt_is_read() {
    let engine = engine();
    let long: Vec<u32> = (0..200).map(|i| 300 + i).collect();
    let sampling = SamplingParams { ignore_eos: true, ..SamplingParams::greedy() };
    let options = GenerationOptions { sampling, ..greedy(60) };
    let requests = vec![
        Request { prompt: vec![1, 400], options: options.clone(), constraint: None, adapters: None },
        Request { prompt: long, options, constraint: None, adapters: None },
    ];
    let mut order = Vec::new();
    generate_many(&engine, requests, &many(8, 2), &mut |i, _| {
        order.push(i);
        ControlFlow::Continue(())
    })
    .unwrap();
    // Six tokens of the long prompt come with the short one, then seven with each token.
    assert_eq!(order.iter().position(|i| *i == 1), Some(1 + (200_usize - 6).div_ceil(7)));
}

#[test]
fn a_text_can_be_interrupted_and_the_others_go_on() {
    let engine = engine();
    let expected = alone(&engine, &SessionOptions::default());
    let mut events = vec![Vec::new(); expected.len()];
    let outcomes = generate_many(&engine, requests(&engine), &many(512, 8), &mut |i, event| {
        events[i].push(told(event));
        if i == 2 && events[i].len() == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(events[2][..5], expected[2][..5]);
    assert!(matches!(events[2][5..], [Told::Finished(Finish::Interrupted, _)]));
    assert_eq!(*outcomes[2].finish.as_ref().unwrap(), Finish::Interrupted);
    events.remove(2);
    assert!(events.iter().eq(expected.iter().enumerate().filter(|(i, _)| *i != 2).map(|(_, events)| events)));
}

#[test]
fn the_cancel_handle_ends_all_of_them() {
    let engine = engine();
    let options = many(512, 3);
    let (cancel, mut n) = (options.cancel.clone(), 0);
    let mut ends = vec![0; cases().len()];
    let outcomes = generate_many(&engine, requests(&engine), &options, &mut |i, event| {
        n += 1;
        if n == 10 {
            cancel.cancel();
        }
        ends[i] += usize::from(matches!(event, Ok(Event::Finished { .. })));
        ControlFlow::Continue(())
    })
    .unwrap();
    // The step under way is told to its end.
    assert!((10..10 + 3 + ends.len()).contains(&n), "{n}");
    assert!(ends.iter().all(|n| *n == 1), "each has one end: {ends:?}");
    assert_eq!(*outcomes.last().unwrap().finish.as_ref().unwrap(), Finish::Interrupted);
    assert!(outcomes.last().unwrap().tokens.is_empty());
}

#[test]
fn a_constraint_holds_for_its_own_text() {
    let engine = engine();
    let mut requests = requests(&engine);
    let choices = [" yes", " no"];
    requests[1].constraint = Some(Box::new(Choices::new(engine.tokenizer(), choices).unwrap()));
    let (outcomes, events) = together(&engine, requests, &many(512, 4));
    assert!(choices.contains(&outcomes[1].text.as_str()), "{:?}", outcomes[1].text);
    assert_eq!(*outcomes[1].finish.as_ref().unwrap(), Finish::Constraint);
    let expected = alone(&engine, &SessionOptions::default());
    assert_eq!(events[0], expected[0]);
    assert_eq!(events[2..], expected[2..]);
}

#[test]
fn no_requests_are_no_work() {
    let (outcomes, events) = together(&engine(), Vec::new(), &ManyOptions::default());
    assert!(outcomes.is_empty() && events.is_empty());
}
