//! What a [`Generation`] promises: stop texts, log-probabilities, reasons, constraints, the same text however it is fed.

#![cfg(feature = "builtin-model")]

use std::sync::atomic::AtomicBool;

use bise::constraint::{Choices, ConstraintError};
use bise::generation::{Event, Finish, Generation, GenerationOptions};
use bise::sampling::{SamplingError, SamplingParams};
use bise::speculation::SpeculationOptions;
use bise::tokenizer::{Algorithm, EncodeOptions, Tokenizer, Vocabulary};
use bise::{Engine, Feed, Output, Sequence, SessionOptions};

const STORY: &str = "Once upon a time";

fn greedy(max_tokens: usize) -> GenerationOptions {
    let (sampling, max_tokens) = (SamplingParams::greedy(), Some(max_tokens));
    GenerationOptions { sampling, max_tokens, ..GenerationOptions::default() }
}

/// The text by the built-in model, and why it ended.
fn run(prompt: &str, options: GenerationOptions) -> (String, Finish) {
    let engine = Engine::builtin().unwrap();
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    let mut pieces = session.generate_with(prompt, options).unwrap();
    let text = pieces.by_ref().collect::<Result<String, _>>().unwrap();
    (text, pieces.generation().finish().unwrap().clone())
}

/// The numbers of GGUF's token types.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

fn vocabulary(tokens: &[(String, i32)]) -> Tokenizer {
    let mut vocabulary = Vocabulary::with_defaults(Algorithm::SentencePiece);
    vocabulary.tokens = tokens.iter().map(|(text, _)| text.as_str()).collect();
    vocabulary.types = tokens.iter().map(|(_, kind)| *kind).collect();
    vocabulary.scores = vec![0.0; tokens.len()];
    vocabulary.eos = tokens.iter().position(|(text, _)| text == "</s>").map(|id| id as u32);
    vocabulary.unk = Some(0);
    Tokenizer::new(vocabulary).unwrap()
}

/// A vocabulary of single bytes (3 + byte).
fn byte_vocabulary() -> Tokenizer {
    let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
    let special = special.map(|(text, kind)| (text.to_owned(), kind));
    let bytes = (0..256).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
    vocabulary(&special.into_iter().chain(bytes).collect::<Vec<_>>())
}

/// Logits that choose one token.
fn row(n_vocab: usize, token: u32) -> Vec<f32> {
    let mut logits = vec![0.0; n_vocab];
    logits[token as usize] = 9.0;
    logits
}

/// What is shown step by step while a model writes these tokens.
fn shown(tokenizer: &Tokenizer, options: GenerationOptions, tokens: &[u32]) -> (Vec<String>, Option<Finish>) {
    let mut generation = Generation::new(tokenizer, options).unwrap();
    generation.prime(&[1]);
    let mut shown = Vec::new();
    for &token in tokens {
        if generation.finish().is_some() {
            break;
        }
        generation.next_tokens(0);
        generation.advance([&row(tokenizer.n_vocab(), token)[..]]).unwrap();
        shown.push(generation.text().to_owned());
    }
    (shown, generation.finish().cloned())
}

#[test]
fn a_stop_text_is_never_shown() {
    let (whole, _) = run(STORY, greedy(40));
    // Every run of two to nine characters that the text has is found where it first stands.
    let starts: Vec<usize> = whole.char_indices().map(|(i, _)| i).collect();
    for (i, n) in (0..starts.len() - 9).step_by(7).zip((2..10).cycle()) {
        let stop = &whole[starts[i]..starts[i + n]];
        let options = GenerationOptions { stop: vec!["never said".into(), stop.to_owned()], ..greedy(40) };
        let (text, finish) = run(STORY, options);
        assert_eq!(text, whole[..whole.find(stop).unwrap()], "{stop:?}");
        assert_eq!(finish, Finish::StopText(stop.to_owned()));
    }
}

#[test]
fn characters_and_stop_texts_may_be_split_over_tokens() {
    let tokenizer = byte_vocabulary();
    let bytes = |text: &str| text.bytes().map(|byte| 3 + u32::from(byte)).collect::<Vec<_>>();
    let stop = |stop: &str| GenerationOptions { stop: vec![stop.to_owned()], ..greedy(100) };
    // é is two bytes, 😀 four.
    let (pieces, finish) = shown(&tokenizer, stop("é😀"), &bytes("aéé😀b"));
    assert_eq!(pieces.concat(), "aé");
    assert_eq!(finish, Some(Finish::StopText("é😀".into())));
    // Held back until it cannot be one any more: nothing after "é", both after its second "é".
    assert_eq!(pieces[..5], ["a", "", "", "", "é"]);
    let (pieces, finish) = shown(&tokenizer, stop("é😀"), &bytes("é!"));
    assert_eq!((pieces.concat().as_str(), finish), ("é!", None));
    // What is held back belongs to the text after all when it ends otherwise.
    let mut tokens = bytes("aé");
    tokens.push(2);
    let (pieces, finish) = shown(&tokenizer, stop("é😀"), &tokens);
    assert_eq!((pieces.concat().as_str(), finish), ("aé", Some(Finish::EndToken(2))));
    // Half a character at the end is shown as such.
    let (pieces, _) = shown(&tokenizer, greedy(2), &bytes("aé"));
    assert_eq!(pieces.concat(), "a\u{fffd}");
}

#[test]
fn a_stop_text_that_spells_a_control_token_waits_for_the_token() {
    let tokenizer = byte_vocabulary();
    let options = GenerationOptions { stop: vec!["<s>".into()], ..greedy(100) };
    let (pieces, finish) = shown(&tokenizer, options.clone(), &[3 + 97, 1, 3 + 98]);
    assert_eq!((pieces.concat().as_str(), finish), ("a", Some(Finish::StopToken(1))));
    // And for the text, which is another thing.
    let text: Vec<u32> = "a<s>b".bytes().map(|byte| 3 + u32::from(byte)).collect();
    let (pieces, finish) = shown(&tokenizer, options, &text);
    assert_eq!((pieces.concat().as_str(), finish), ("a", Some(Finish::StopText("<s>".into()))));
}

#[test]
fn the_reason_is_told() {
    assert_eq!(run(STORY, greedy(5)).1, Finish::Length);
    assert_eq!(run(STORY, greedy(0)), (String::new(), Finish::Length));
    let question = "[INST] What is the capital of France? [/INST]";
    let (answer, finish) = run(question, greedy(60));
    assert!(answer.contains("Paris"), "{answer}");
    assert_eq!(finish, Finish::EndToken(2));
    let sampling = SamplingParams { ignore_eos: true, ..SamplingParams::greedy() };
    assert_eq!(run(question, GenerationOptions { sampling, ..greedy(60) }).1, Finish::Length);
}

#[test]
fn the_text_does_not_depend_on_how_many_tokens_a_pass_has() {
    let always = SpeculationOptions { n_max: 15, always: true };
    let prompt = "Tom had a red ball. Tom had a red ball and a blue ball. Tom had a";
    for sampling in [
        SamplingParams::greedy(),
        SamplingParams { seed: 4, temp: 0.4, penalty_repeat: 1.02, ..SamplingParams::default() },
    ] {
        for stop in [vec![], vec!["ball. ".to_owned()], vec![" blue".to_owned()]] {
            let options = |speculation| GenerationOptions {
                sampling: sampling.clone(),
                stop: stop.clone(),
                speculation,
                log_probs: Some(2),
                ..greedy(200)
            };
            let events = |speculation| {
                let engine = Engine::builtin().unwrap();
                let mut session = engine.session(&SessionOptions::default()).unwrap();
                let tokens = engine
                    .tokenizer()
                    .encode(prompt, EncodeOptions { add_special: true, parse_special: false });
                let mut generation = Generation::new(engine.tokenizer(), options(speculation)).unwrap();
                session.prefill(&tokens).unwrap();
                generation.prime(&tokens);
                let mut seen = Vec::new();
                while generation.finish().is_none() {
                    session.step(&mut generation).unwrap();
                    seen.extend(generation.events().map(|event| format!("{event:?}")));
                }
                // All that was chosen is in the session, or waits to be read.
                let n = session.position() - tokens.len() + usize::from(generation.pending().is_some());
                assert_eq!(n, generation.stats().n_chosen);
                (seen, generation.stats().speculation.n_accepted)
            };
            let (plain, _) = events(SpeculationOptions::off());
            let (drafted, n_accepted) = events(always);
            assert_eq!(plain, drafted, "{stop:?}");
            assert!(n_accepted > 0 || !stop.is_empty());
        }
    }
}

#[test]
fn rows_decide_which_drafts_stay() {
    let tokenizer = byte_vocabulary();
    let n_vocab = tokenizer.n_vocab();
    let options =
        GenerationOptions { speculation: SpeculationOptions { n_max: 4, always: true }, ..greedy(100) };
    let mut generation = Generation::new(&tokenizer, options).unwrap();
    // 50 60 70 80 comes back after 50 60.
    generation.prime(&[1, 50, 60, 70, 80, 90, 50]);
    assert_eq!(generation.next_tokens(9), [0; 0]);
    assert_eq!(generation.advance([&row(n_vocab, 60)[..]]).unwrap(), 0);
    assert_eq!(generation.next_tokens(2), [60, 70, 80]);
    assert_eq!(generation.next_tokens(9), [60, 70, 80, 90, 50]);
    // The first draft is right and the second wrong; the rows behind it count for nothing.
    let rows = [row(n_vocab, 70), row(n_vocab, 81), row(n_vocab, 90), row(n_vocab, 50), row(n_vocab, 9)];
    assert_eq!(generation.advance(rows.iter().map(Vec::as_slice)).unwrap(), 2);
    assert_eq!(generation.pending(), Some(81));
    // Fewer rows than tokens: drafts that were not read are chosen all the same, but not read.
    generation.prime(&[1, 50, 60, 70, 80, 90, 50]);
    generation.advance([&row(n_vocab, 60)[..]]).unwrap();
    assert_eq!(generation.next_tokens(2), [60, 70, 80]);
    assert_eq!(generation.advance([&row(n_vocab, 70)[..]]).unwrap(), 1);
    assert_eq!(generation.pending(), Some(70));
    // An end among the drafts ends it there.
    generation.prime(&[1, 50, 60, 2, 80, 90, 50]);
    generation.advance([&row(n_vocab, 60)[..]]).unwrap();
    assert_eq!(generation.next_tokens(9)[..3], [60, 2, 80]);
    let rows = [row(n_vocab, 2), row(n_vocab, 80), row(n_vocab, 90)];
    assert_eq!(generation.advance(rows.iter().map(Vec::as_slice)).unwrap(), 2);
    assert_eq!((generation.finish(), generation.pending()), (Some(&Finish::EndToken(2)), None));
    assert_eq!(generation.next_tokens(9), [0; 0]);
}

#[test]
fn bad_rows_are_errors() {
    let tokenizer = byte_vocabulary();
    let mut generation = Generation::new(&tokenizer, greedy(9)).unwrap();
    generation.prime(&[1]);
    let mut bad = row(tokenizer.n_vocab(), 9);
    bad[7] = f32::NAN;
    assert!(matches!(generation.advance([&bad[..]]), Err(SamplingError::NotFinite { token: 7, .. })));
    assert!(matches!(generation.advance([&bad[1..]]), Err(SamplingError::WrongLength { .. })));
    let options = GenerationOptions {
        sampling: SamplingParams { top_p: f32::NAN, ..SamplingParams::default() },
        ..GenerationOptions::default()
    };
    assert!(Generation::new(&tokenizer, options).is_err());
}

/// numpy: l = zeros(259), l[99] = 9, l[5] = 1; l - log(sum(exp(l)))
#[test]
fn log_probabilities_are_the_models() {
    let tokenizer = byte_vocabulary();
    // Whatever the chain makes of them.
    let sampling = SamplingParams { logit_bias: vec![(5, 100.0)], temp: 0.0, ..SamplingParams::default() };
    let options = GenerationOptions { sampling, log_probs: Some(3), ..greedy(9) };
    let mut generation = Generation::new(&tokenizer, options).unwrap();
    generation.prime(&[1]);
    let mut logits = row(tokenizer.n_vocab(), 99);
    logits[5] = 1.0;
    generation.advance([&logits[..]]).unwrap();
    let events: Vec<Event<'_>> = generation.events().collect();
    let [Event::Token { token: 5, log_prob: Some(log_prob), top, .. }] = events[..] else {
        panic!("{events:?}")
    };
    let log_sum = (9f64.exp() + 1f64.exp() + 257.0).ln();
    let near = |found: f32, want: f64| assert!((f64::from(found) - want).abs() < 1e-5, "{found} {want}");
    near(log_prob, 1.0 - log_sum);
    assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [99, 5, 0]);
    near(top[0].1, 9.0 - log_sum);
    near(top[2].1, -log_sum);
}

#[test]
fn a_seed_gives_one_text() {
    let options = |seed| {
        let sampling = SamplingParams { seed, temp: 1.5, ..SamplingParams::default() };
        GenerationOptions { sampling, ..greedy(40) }
    };
    assert_eq!(run(STORY, options(7)), run(STORY, options(7)));
    assert_ne!(run(STORY, options(7)), run(STORY, options(8)));
}

#[test]
fn dry_has_its_breakers_without_being_given_any() {
    // After "ab\n" twice, "a" and "b" would go on with a repetition; a newline breaks it.
    let tokenizer = byte_vocabulary();
    let sampling =
        SamplingParams { dry_multiplier: 100.0, dry_allowed_length: 1, ..SamplingParams::greedy() };
    let next = |text: &str| {
        let mut generation =
            Generation::new(&tokenizer, GenerationOptions { sampling: sampling.clone(), ..greedy(9) })
                .unwrap();
        generation.prime(&text.bytes().map(|byte| 3 + u32::from(byte)).collect::<Vec<_>>());
        let mut logits = vec![0.0; tokenizer.n_vocab()];
        (logits[3 + 97], logits[3 + 98]) = (9.0, 8.0);
        generation.advance([&logits[..]]).unwrap();
        generation.text().to_owned()
    };
    assert_eq!(next("xyaxy"), "b", "a would repeat xya");
    assert_eq!(next("xya\nxy\n"), "a", "nothing is repeated across a newline");
}

#[test]
fn an_interrupted_generation_shows_what_it_held_back() {
    let tokenizer = byte_vocabulary();
    let options = GenerationOptions { stop: vec!["abc".into()], ..greedy(9) };
    let mut generation = Generation::new(&tokenizer, options).unwrap();
    generation.prime(&[1]);
    for byte in *b"ab" {
        generation.next_tokens(0);
        generation.advance([&row(tokenizer.n_vocab(), 3 + u32::from(byte))[..]]).unwrap();
        assert_eq!(generation.text(), "");
    }
    generation.interrupt();
    assert_eq!((generation.text(), generation.finish()), ("ab", Some(&Finish::Interrupted)));
    let events: Vec<Event<'_>> = generation.events().collect();
    assert_eq!(events, [Event::Finished { finish: &Finish::Interrupted, text: "ab" }]);
    // It goes on with what comes next, without a trace of that.
    generation.extend(&[50]);
    generation.advance([&row(tokenizer.n_vocab(), 3 + 99)[..]]).unwrap();
    assert_eq!(generation.text(), "c");
}

#[test]
fn choices_are_kept_whatever_the_model_likes() {
    let engine = Engine::builtin().unwrap();
    let tokenizer = engine.tokenizer();
    let texts = [" yes", " yes, please", " no", " naïve 😀", "\n\t1"];
    let mut seen = std::collections::HashSet::new();
    for seed in 0..60 {
        let mut session = engine.session(&SessionOptions::default()).unwrap();
        let sampling =
            SamplingParams { seed, temp: 3.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplingParams::default() };
        let options = GenerationOptions { sampling, stop: vec![], ..greedy(60) };
        let mut pieces = session.generate_with("Do you like it?", options).unwrap();
        pieces.generation_mut().constrain(Choices::new(tokenizer, texts).unwrap());
        let text = pieces.by_ref().collect::<Result<String, _>>().unwrap();
        assert!(texts.contains(&text.as_str()), "{text:?}");
        // " yes" may go on, so the model has to end it.
        let finish = pieces.generation().finish().unwrap();
        let want = if text == " yes" { Finish::EndToken(2) } else { Finish::Constraint };
        assert_eq!(*finish, want, "{text:?}");
        seen.insert(text);
    }
    assert!(seen.len() >= 3, "{seen:?}");
}

#[test]
fn an_answer_may_begin_with_the_space_of_the_vocabulary() {
    let engine = Engine::builtin().unwrap();
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    let options = GenerationOptions { starts_text: true, ..greedy(20) };
    let mut pieces = session.generate_with("[INST] What is the capital of France? [/INST]", options).unwrap();
    let texts = ["The capital of France is Rome.", "The capital of France is Paris."];
    let choices = Choices::new_answer(engine.tokenizer(), texts).unwrap();
    pieces.generation_mut().constrain(choices);
    assert_eq!(pieces.by_ref().collect::<Result<String, _>>().unwrap(), texts[1]);
    assert_eq!(pieces.generation().finish(), Some(&Finish::Constraint));
}

#[test]
fn choices_that_cannot_be_made_are_errors() {
    let engine = Engine::builtin().unwrap();
    assert_eq!(Choices::new(engine.tokenizer(), [""; 0]).unwrap_err(), ConstraintError::NoChoices);
    let tokens = [("<unk>", UNKNOWN), ("</s>", CONTROL), ("a", NORMAL), ("abc", NORMAL), ("b", NORMAL)];
    let tokenizer = vocabulary(&tokens.map(|(text, kind)| (text.to_owned(), kind)));
    for (text, ok) in [("abca", true), ("abb", true), ("abcc", false), ("", true)] {
        let made = Choices::new(&tokenizer, [text]);
        assert_eq!(made.is_ok(), ok, "{text}: {made:?}");
    }
    // A way that cannot be gone to the end is not begun: "abc" would leave "c".
    let mut generation = Generation::new(&tokenizer, greedy(9)).unwrap();
    generation.constrain(Choices::new(&tokenizer, ["aba"]).unwrap());
    generation.prime(&[2]);
    let mut text = String::new();
    while generation.finish().is_none() {
        generation.next_tokens(0);
        generation.advance([&row(5, 3)[..]]).unwrap();
        text += generation.text();
    }
    assert_eq!((text.as_str(), generation.finish()), ("aba", Some(&Finish::Constraint)));
    // A single text that is empty is complete at once.
    generation.constrain(Choices::new(&tokenizer, [""]).unwrap());
    generation.prime(&[2]);
    generation.advance([&row(5, 3)[..]]).unwrap();
    assert_eq!((generation.text(), generation.finish()), ("", Some(&Finish::Constraint)));
}

/// Generations in the passes of one runner, as a server makes them: each has its own next tokens and drafts in every pass.
#[test]
fn many_generations_share_passes_and_each_writes_its_own_text() {
    let engine = Engine::builtin().unwrap();
    let prompts = [
        STORY,
        "Tom had a red ball. Tom had a red ball and a blue ball. Tom had a",
        "[INST] What is the capital of France? [/INST]",
        "One day",
    ];
    let options = |i: usize| GenerationOptions {
        sampling: SamplingParams { seed: i as u32, temp: 0.5, ..SamplingParams::default() },
        stop: vec!["never said".to_owned()],
        speculation: SpeculationOptions { n_max: 5, always: true },
        ..greedy(20 + 10 * i)
    };
    let alone: Vec<(String, Finish)> = (0..4).map(|i| run(prompts[i], options(i))).collect();

    let never = AtomicBool::new(false);
    let mut runner = engine.runner();
    let mut sequences: Vec<Sequence> = (0..4).map(|_| engine.sequence(&SessionOptions::default())).collect();
    let mut generations: Vec<Generation> =
        (0..4).map(|i| Generation::new(engine.tokenizer(), options(i)).unwrap()).collect();
    let mut texts = vec![String::new(); 4];
    let n_vocab = engine.config().n_vocab;
    let mut n_passes = 0;
    while generations.iter().any(|generation| generation.finish().is_none()) {
        let mut fed: Vec<Vec<u32>> = Vec::new();
        for (i, generation) in generations.iter_mut().enumerate() {
            if sequences[i].position() > 0 {
                fed.push(generation.next_tokens(5).to_vec());
            } else if i <= n_passes {
                // They come one after the other.
                let as_prompt = EncodeOptions { add_special: true, parse_special: true };
                let prompt = engine.tokenizer().encode(prompts[i], as_prompt);
                generation.prime(&prompt);
                fed.push(prompt);
            } else {
                fed.push(Vec::new());
            }
        }
        let mut batch: Vec<Feed<'_>> = sequences
            .iter_mut()
            .zip(&fed)
            .map(|(sequence, tokens)| {
                let output = if sequence.position() == 0 { Output::Last } else { Output::All };
                Feed { sequence, tokens, output }
            })
            .filter(|feed| !feed.tokens.is_empty())
            .collect();
        let spans: Vec<usize> = (0..4).filter(|i| !fed[*i].is_empty()).collect();
        let mut rows = vec![Vec::new(); 4];
        let mut outputs = runner.forward(&mut batch, &never).unwrap();
        while let Some(row) = outputs.next_row().unwrap() {
            rows[spans[row.span]].extend_from_slice(row.values);
        }
        n_passes += 1;
        for i in spans {
            let before = sequences[i].position() - fed[i].len();
            let n_accepted = generations[i].advance(rows[i].chunks_exact(n_vocab)).unwrap();
            if before > 0 {
                assert!(sequences[i].truncate(before + n_accepted));
            }
            texts[i] += generations[i].text();
        }
    }
    for (i, (text, finish)) in alone.into_iter().enumerate() {
        assert_eq!((&texts[i], generations[i].finish()), (&text, Some(&finish)));
    }
    assert!(generations.iter().any(|generation| generation.stats().speculation.n_accepted > 0));
}
