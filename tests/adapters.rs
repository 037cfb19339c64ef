//! Adapters in sessions, schedulers, caches and session files: each text has its own, and nothing computed with others is used for it.

#![cfg(all(feature = "builtin-model", feature = "convert"))]

mod scheduler_support;

use std::path::Path;
use std::sync::Arc;

use bise::adapter::gguf::GgufWriteOptions;
use bise::adapter::peft::PeftConfig;
use bise::adapter::{self, Adapter, Adapters, LowRank};
use bise::embedding::EmbedOptions;
use bise::generation::{Generation, GenerationOptions};
use bise::gguf::TensorType;
use bise::memory::MemoryLimit;
use bise::prefix::{DiskCacheOptions, PrefixOptions};
use bise::scheduler::{JobEvent, Scheduler, SchedulerOptions};
use bise::{Engine, Projection, Sequence, SessionOptions, Site};
use scheduler_support::{Log, Random, Told, engine, engine_with_window, job, run, seeded, told};

/// Writes an adapter on all projections of every layer, strong enough to change what is said.
fn write(engine: &Engine, path: &Path, seed: u32) {
    use Projection::*;
    let mut random = Random(seed);
    let mut numbers = |n: usize, size: f32| -> Vec<f32> {
        (0..n).map(|_| (random.below(256) as f32 / 128.0 - 1.0) * size).collect()
    };
    let config = engine.config();
    let mut parts = Vec::new();
    for layer in 0..config.n_layers {
        for projection in [AttnQ, AttnK, AttnV, AttnOutput, FfnGate, FfnUp, FfnDown] {
            let site = Site { layer, projection, expert: None };
            let [n_rows, k] = site.shape(config).unwrap();
            let (a, b) = (numbers(4 * k, 0.125), numbers(4 * n_rows, 0.0625));
            parts.push((site, LowRank { rank: 4, scale: 0.5, a, b }));
        }
    }
    let parts = parts.iter().map(|(site, part)| (*site, part));
    adapter::gguf::write(path, config, parts, &GgufWriteOptions::default()).unwrap();
}

fn random(engine: &Engine, seed: u32) -> Arc<Adapter> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{seed}.gguf"));
    write(engine, &path, seed);
    engine.load_adapter(&path).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions { n_ctx: 512, n_ubatch: 64, ..SessionOptions::default() }
}

/// What a prompt tells with these adapters, in a session of its own.
fn alone(engine: &Engine, adapters: &Adapters, prompt: &[u32], options: &GenerationOptions) -> Vec<Told> {
    let mut session = engine.session(&self::options()).unwrap();
    session.set_adapters(adapters.clone()).unwrap();
    let mut generation = Generation::new(engine.tokenizer(), options.clone()).unwrap();
    session.prefill(prompt).unwrap();
    generation.prime(prompt);
    let mut events: Vec<Told> = generation.events().map(|event| told(JobEvent::Generation(event))).collect();
    while generation.finish().is_none() {
        session.step(&mut generation).unwrap();
        events.extend(generation.events().map(|event| told(JobEvent::Generation(event))));
    }
    events
}

fn scheduler(engine: &Engine, prefix: PrefixOptions) -> Scheduler {
    let options = SchedulerOptions { session: options(), n_slots: 8, prefix, ..SchedulerOptions::default() };
    Scheduler::new(engine, options).unwrap()
}

/// Runs one job with these adapters.
fn answer(
    scheduler: &mut Scheduler,
    adapters: &Adapters,
    prompt: &[u32],
    options: &GenerationOptions,
) -> Log {
    let (mut job, log) = job(prompt, options);
    job.adapters = Some(adapters.clone());
    scheduler.submit(job).unwrap();
    run(scheduler);
    log
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn jobs_with_different_adapters_share_passes_and_say_what_they_say_alone() {
    let engine = engine();
    let [a, b, c] = [1, 2, 3].map(|seed| random(&engine, seed));
    let lists = [
        Adapters::one(a.clone()),
        Adapters::one(b.clone()),
        Adapters::new([(c.clone(), 1.0), (a.clone(), -0.5)]),
        Adapters::none(),
        Adapters::new([(b.clone(), 0.5)]),
        Adapters::one(b.clone()),
    ];
    let prompts: Vec<Vec<u32>> = (0..6).map(|i| Random(i / 2).tokens(10 + 30 * i as usize)).collect();
    let mut scheduler = scheduler(&engine, PrefixOptions::default());
    let logs: Vec<Log> = (0..6)
        .map(|i| {
            let (mut job, log) = job(&prompts[i], &seeded(i as u32, 12));
            job.adapters = Some(lists[i].clone());
            scheduler.submit(job).unwrap();
            log
        })
        .collect();
    run(&mut scheduler);
    let mut answers: Vec<Vec<u32>> = Vec::new();
    for i in 0..6 {
        let expected = alone(&engine, &lists[i], &prompts[i], &seeded(i as u32, 12));
        assert_eq!(logs[i].text_events(), expected, "job {i}");
        answers.push(logs[i].tokens());
    }
    // Adapters make a difference, and so do their scales.
    let plain = alone(&engine, &Adapters::none(), &prompts[0], &seeded(0, 12));
    assert_ne!(logs[0].text_events(), plain);
    let weaker = alone(&engine, &Adapters::new([(a.clone(), 0.5)]), &prompts[0], &seeded(0, 12));
    assert_ne!(logs[0].text_events(), weaker);
    // Nobody but this test and the lists has them now.
    drop((scheduler, lists, logs));
    assert_eq!(Arc::strong_count(&c), 1);
}

#[test]
fn prefixes_are_shared_by_texts_with_the_same_adapters_alone() {
    for window in [None, Some(100)] {
        let engine = engine_with_window(window);
        let (a, again, b) = (random(&engine, 1), random(&engine, 1), random(&engine, 2));
        let prompt = Random(9).tokens(150);
        let folder = tempfile::tempdir().unwrap();
        let disk = Some(DiskCacheOptions::new(folder.path()));
        let lists = [
            Adapters::none(),
            Adapters::one(a.clone()),
            Adapters::new([(a.clone(), 0.5)]),
            Adapters::new([(a.clone(), 1.0), (b.clone(), 1.0)]),
            Adapters::new([(b.clone(), 1.0), (a.clone(), 1.0)]),
        ];
        for round in 0..2 {
            // In memory, then with what the first process has left on the disk.
            let prefix = PrefixOptions { disk: disk.clone(), ..PrefixOptions::default() };
            let mut scheduler = scheduler(&engine, prefix);
            for (i, list) in lists.iter().enumerate() {
                let log = answer(&mut scheduler, list, &prompt, &seeded(1, 5));
                assert_eq!(log.text_events(), alone(&engine, list, &prompt, &seeded(1, 5)), "{window:?} {i}");
                let cached = if round == 0 { 0 } else { 128 };
                assert_eq!(log.stats().n_cached, cached, "{window:?}, round {round}, list {i}");
            }
            for list in &lists {
                let log = answer(&mut scheduler, list, &prompt, &seeded(1, 5));
                assert_eq!(log.stats().n_cached, 149);
                assert_eq!(log.text_events(), alone(&engine, list, &prompt, &seeded(1, 5)));
            }
            // One that was loaded again is the same.
            let log = answer(&mut scheduler, &Adapters::one(again.clone()), &prompt, &seeded(1, 5));
            assert_eq!(log.stats().n_cached, 149);
        }
    }
}

/// The same bytes in F16 and in BF16 are different numbers.
#[test]
fn adapters_with_the_same_bytes_in_different_formats_are_told_apart() {
    let engine = engine();
    let folder = tempfile::tempdir().unwrap();
    let load = |tensor_type: TensorType, number: &dyn Fn(u32) -> f32| {
        let mut random = Random(5);
        let mut numbers = |n: usize| -> Vec<f32> {
            let bits =
                |random: &mut Random| 0x2c00 | random.below(1024) as u32 | (random.below(2) as u32) << 15;
            (0..n).map(|_| number(bits(&mut random))).collect()
        };
        let site = Site { layer: 0, projection: Projection::AttnV, expert: None };
        let [n_rows, k] = site.shape(engine.config()).unwrap();
        let part = LowRank { rank: 8, scale: 4.0, a: numbers(8 * k), b: numbers(8 * n_rows) };
        let mut options = GgufWriteOptions::default();
        options.tensor_type = tensor_type;
        let path = folder.path().join(format!("{tensor_type}.gguf"));
        adapter::gguf::write(&path, engine.config(), [(site, &part)], &options).unwrap();
        let loaded = engine.load_adapter(&path).unwrap();
        assert!(loaded.parts().eq([(site, part)]));
        (loaded, std::fs::read(&path).unwrap())
    };
    let sign = |bits: u32| if bits >> 15 == 1 { -1.0 } else { 1.0 };
    // 2⁻⁴ · 1.m
    let as_f16 = |bits: u32| sign(bits) * 0.0625 * (1.0 + (bits & 1023) as f32 / 1024.0);
    let as_bf16 = |bits: u32| f32::from_bits(bits << 16);
    let (half, half_file) = load(TensorType::F16, &as_f16);
    let (brain, brain_file) = load(TensorType::BF16, &as_bf16);
    // The files are of the same bytes, but for the types of the two tensors.
    let different = half_file.iter().zip(&brain_file).filter(|(a, b)| a != b).count();
    assert_eq!((half_file.len(), different), (brain_file.len(), 2));
    assert_ne!(half.fingerprint(), brain.fingerprint());

    let lists = [Adapters::one(half), Adapters::one(brain)];
    assert_ne!(lists[0], lists[1]);
    let prompt = Random(9).tokens(150);
    let mut scheduler = scheduler(&engine, PrefixOptions::default());
    for list in &lists {
        let log = answer(&mut scheduler, list, &prompt, &seeded(1, 5));
        assert_eq!(log.stats().n_cached, 0);
        assert_eq!(log.text_events(), alone(&engine, list, &prompt, &seeded(1, 5)));
    }
    let [half, brain] = lists;
    let path = folder.path().join("session");
    let mut session = engine.session(&options()).unwrap();
    session.set_adapters(half).unwrap();
    let before = bits(session.prefill(&prompt).unwrap());
    session.save(&path).unwrap();
    assert!(engine.restore_session_adapted(&path, &options(), brain.clone()).is_err());
    session.set_adapters(brain).unwrap();
    assert_ne!(bits(session.logits().unwrap()), before);
}

#[test]
fn adapters_of_a_session_can_be_changed_in_the_middle() {
    let engine = engine();
    let (a, b) = (Adapters::one(random(&engine, 1)), Adapters::one(random(&engine, 2)));
    let tokens = Random(4).tokens(90);
    let read = |adapters: &Adapters| {
        let mut session = engine.session(&options()).unwrap();
        session.set_adapters(adapters.clone()).unwrap();
        bits(session.prefill(&tokens).unwrap())
    };
    let mut session = engine.session(&options()).unwrap();
    session.prefill(&tokens).unwrap();
    for adapters in [&a, &b, &Adapters::none(), &a, &a] {
        session.set_adapters(adapters.clone()).unwrap();
        assert_eq!(session.tokens(), tokens);
        assert_eq!(bits(session.logits().unwrap()), read(adapters), "{adapters:?}");
    }
    // A sequence forgets what it has read, and takes nothing from one with others.
    let pool = engine.page_pool(&options(), usize::MAX);
    let [mut sequence, mut other] = [(); 2].map(|()| Sequence::new(&pool, 512, None));
    sequence.set_adapters(a.clone());
    let mut feed = [bise::Feed { sequence: &mut sequence, tokens: &tokens, output: bise::Output::None }];
    let never = std::sync::atomic::AtomicBool::new(false);
    engine.runner().forward(&mut feed, &never).unwrap();
    assert!(!other.adopt(&sequence, 10));
    other.set_adapters(a.clone());
    assert!(other.adopt(&sequence, 10));
    other.set_adapters(b);
    assert!(other.tokens().is_empty());
    sequence.set_adapters(a);
    assert_eq!(sequence.tokens(), tokens);
}

#[test]
fn a_session_in_a_file_goes_on_with_its_own_adapters_alone() {
    let engine = engine();
    let (a, b) = (Adapters::one(random(&engine, 1)), Adapters::one(random(&engine, 2)));
    let tokens = Random(4).tokens(90);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    for saved in [&Adapters::none(), &a] {
        let mut session = engine.session(&options()).unwrap();
        session.set_adapters(saved.clone()).unwrap();
        session.prefill(&tokens).unwrap();
        session.save(&path).unwrap();
        let next = bits(session.decode(300).unwrap());
        for adapters in [&Adapters::none(), &a, &b, &Adapters::new([(a.as_slice()[0].0.clone(), 0.5)])] {
            let restored = engine.restore_session_adapted(&path, &options(), adapters.clone());
            if adapters == saved {
                let mut session = restored.unwrap().session;
                assert_eq!(session.adapters(), saved);
                assert_eq!(bits(session.decode(300).unwrap()), next);
            } else {
                let error = restored.err().unwrap().to_string();
                assert!(error.contains("was saved with the adapters"), "{error}");
            }
        }
    }
}

#[test]
fn adapters_of_an_engine_act_on_whatever_asks_for_no_others() {
    let plain = engine();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    write(&plain, &path, 1);
    let adapters = Adapters::new([(plain.load_adapter(&path).unwrap(), 0.75)]);
    let engine = Engine::builder().threads(2).adapter(&path, 0.75).adapter(&path, 0.0).builtin().unwrap();
    assert_eq!(engine.adapters(), adapters);
    let prompt = Random(4).tokens(20);
    let expected = alone(&plain, &adapters, &prompt, &seeded(1, 8));

    let mut session = engine.session(&options()).unwrap();
    let mut with = plain.session(&options()).unwrap();
    with.set_adapters(adapters.clone()).unwrap();
    assert_eq!(bits(session.prefill(&prompt).unwrap()), bits(with.prefill(&prompt).unwrap()));
    let mut scheduler = scheduler(&engine, PrefixOptions::default());
    let (job, log) = job(&prompt, &seeded(1, 8));
    scheduler.submit(job).unwrap();
    run(&mut scheduler);
    assert_eq!(log.text_events(), expected);
    let embed = |engine: &Engine| engine.embed(&["a cat"], &EmbedOptions::default()).unwrap();
    let vectors = embed(&engine);
    assert_ne!(vectors, embed(&plain));
    // Set while it runs.
    plain.set_adapters(adapters).unwrap();
    assert_eq!(embed(&plain), vectors);
    engine.set_adapters(Adapters::none()).unwrap();
    plain.set_adapters(Adapters::none()).unwrap();
    assert_eq!(embed(&engine), embed(&plain));
}

#[test]
fn memory_of_adapters_is_foretold_counted_and_given_back() {
    let plain = engine();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    write(&plain, &path, 1);
    let before = plain.memory(&options());
    assert_eq!(before.adapters_bytes(), 0);
    let adapter = plain.load_adapter(&path).unwrap();
    let n_bytes = adapter.n_bytes() + 64 * adapter.row_bytes();
    assert!(adapter.row_bytes() >= 4 * 12 && adapter.n_bytes() > 10_000);
    assert_eq!(plain.memory(&options()).adapters_bytes(), n_bytes);
    drop(adapter);
    assert_eq!(plain.memory(&options()).adapters_bytes(), 0);

    // No room under a ceiling that leaves some for a session and nothing else.
    let full = before.full();
    let limited = |more: usize| {
        Engine::builder().threads(2).max_memory(MemoryLimit::Bytes(full + more)).builtin().unwrap()
    };
    limited(64 << 20).load_adapter(&path).unwrap();
    let tight = limited(4 << 20);
    let mut held = Vec::new();
    let error = loop {
        match tight.load_adapter(&path) {
            Ok(adapter) => held.push(adapter),
            Err(error) => break error,
        }
        assert!(held.len() < 1000, "nothing is counted");
    };
    assert!(error.to_string().contains("ceiling"), "{error}");
    // It is refused before its numbers are read: nobody sees that they are none.
    let torn = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let n = bytes.len();
        bytes[n - 64..].fill(0xff);
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let (gguf, peft) = (folder.path().join("torn.gguf"), folder.path().join("peft"));
    write(&plain, &gguf, 2);
    let read = adapter::AdapterFile::open(&gguf, plain.config()).unwrap();
    let parts = || read.parts.iter().map(|(target, part)| (*target, part));
    PeftConfig::of_parts(parts()).write(&peft, plain.config(), parts(), &Default::default()).unwrap();
    torn(&gguf);
    torn(&peft.join("adapter_model.safetensors"));
    for path in [&gguf, &peft] {
        let error = tight.load_adapter(path).unwrap_err().to_string();
        assert!(error.contains("ceiling"), "{error}");
        let error = plain.load_adapter(path).unwrap_err().to_string();
        assert!(error.contains("finite"), "{error}");
    }
    held.pop();
    tight.load_adapter(&path).unwrap();
}

#[test]
fn what_is_no_adapter_for_the_model_is_refused() {
    let engine = engine();
    let missing = engine.load_adapter("no-such-adapter.gguf").unwrap_err().to_string();
    assert!(missing.contains("no-such-adapter.gguf"), "{missing}");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/oracles/plain_f32.gguf");
    let other = Engine::open(&model).unwrap();
    let error = engine.load_adapter(&model).unwrap_err().to_string();
    assert!(error.contains("general.type") && error.contains("adapter"), "{error}");
    let misfit = Adapters::one(random(&other, 1));
    for error in [
        engine.set_adapters(misfit.clone()).unwrap_err(),
        engine.session(&options()).unwrap().set_adapters(misfit.clone()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("another model"), "{error}");
    }
    let mut scheduler = scheduler(&engine, PrefixOptions::default());
    let (result, _) = answer(&mut scheduler, &misfit, &[1, 400], &seeded(1, 5)).finished().unwrap();
    assert!(result.unwrap_err().contains("another model"));
    let endless = Adapters::new([(random(&engine, 1), f32::INFINITY)]);
    let error = engine.set_adapters(endless).unwrap_err().to_string();
    assert!(error.contains("inf"), "{error}");
}
