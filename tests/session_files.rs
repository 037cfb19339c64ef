//! A session that was saved goes on in another process as if it had never been away; a file that is not what was saved is refused.

#![cfg(feature = "builtin-model")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bise::generation::{Generation, GenerationOptions};
use bise::gguf::{Array, GgufDataWriter, GgufWriter, StrArray, TensorType, Value, WriteError};
use bise::sampling::SamplingParams;
use bise::{CacheType, Engine, EngineOptions, Error, Session, SessionFileError, SessionOptions};
use proptest::prelude::*;

const TYPES: [CacheType; 4] = CacheType::ALL;

fn builtin(sliding_window: Option<usize>) -> Engine {
    Engine::builtin_with(&EngineOptions { threads: Some(1), sliding_window, ..EngineOptions::default() })
        .unwrap()
}

fn options(k_type: CacheType, v_type: CacheType) -> SessionOptions {
    SessionOptions { k_type, v_type, n_ubatch: 128, ..SessionOptions::default() }
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 300 + (i * 97) % 3000).collect()
}

fn bits(logits: Option<&[f32]>) -> Option<Vec<u32>> {
    logits.map(|logits| logits.iter().map(|x| x.to_bits()).collect())
}

/// Goes on greedily by `n` tokens; returns each with the logits behind it.
fn go_on(session: &mut Session, n: usize) -> Vec<(u32, Vec<u32>)> {
    let mut next = 400;
    (0..n)
        .map(|_| {
            let logits = session.decode(next).unwrap();
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            next = best as u32;
            (next, bits(Some(logits)).unwrap())
        })
        .collect()
}

/// A small model with weights that look random: two layers, 259 tokens.
fn small_model(path: &Path, seed: u64) -> Engine {
    const WIDTH: usize = 32;
    let mut writer = GgufWriter::new();
    let mut set = |key: &str, value: Value| writer.metadata_mut().set(key, value);
    set("general.architecture", "llama".into());
    set("general.name", "Small".into());
    for (key, count) in [
        ("context_length", 256),
        ("embedding_length", WIDTH),
        ("block_count", 2),
        ("feed_forward_length", WIDTH),
        ("attention.head_count", 1),
    ] {
        set(&format!("llama.{key}"), (count as u32).into());
    }
    set("llama.attention.layer_norm_rms_epsilon", 1e-5_f32.into());
    set("tokenizer.ggml.model", "llama".into());
    let special = ["<unk>", "<s>", "</s>"].map(String::from);
    let pieces: Vec<String> = special.into_iter().chain((0..256).map(|b| format!("<0x{b:02X}>"))).collect();
    set(
        "tokenizer.ggml.tokens",
        Value::Array(Array::Str(pieces.iter().map(String::as_str).collect::<StrArray>())),
    );
    set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; pieces.len()])));
    let types = (0..pieces.len()).map(|id| [2, 3, 3].get(id).copied().unwrap_or(6)).collect();
    set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));

    let mut tensors =
        vec![("token_embd".to_owned(), vec![WIDTH, pieces.len()]), ("output_norm".into(), vec![WIDTH])];
    for layer in 0..2 {
        for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            tensors.push((format!("blk.{layer}.{name}"), vec![WIDTH, WIDTH]));
        }
        for name in ["attn_norm", "ffn_norm"] {
            tensors.push((format!("blk.{layer}.{name}"), vec![WIDTH]));
        }
    }
    for (name, shape) in &tensors {
        writer.add_tensor(&format!("{name}.weight"), shape, TensorType::F32).unwrap();
    }
    let mut state = seed;
    let mut weight = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5).to_le_bytes()
    };
    let fill = |out: &mut GgufDataWriter<_>| {
        tensors.iter().try_for_each(|(_, shape)| {
            let bytes: Vec<u8> = (0..shape.iter().product::<usize>()).flat_map(|_| weight()).collect();
            out.write(&bytes)
        })
    };
    writer.save::<WriteError>(path, fill).unwrap();
    open(path)
}

fn open(path: &Path) -> Engine {
    Engine::open_with(path, &EngineOptions { threads: Some(1), ..EngineOptions::default() }).unwrap()
}

/// The small model, and the bytes of a session of five tokens with it.
fn small_session(folder: &Path) -> (Engine, SessionOptions, Vec<u8>) {
    let engine = small_model(&folder.join("small.gguf"), 1);
    let options = options(CacheType::Q4_0, CacheType::Q8_0);
    let mut session = engine.session(&options).unwrap();
    session.prefill(&[1, 80, 90, 100, 110]).unwrap();
    let path = folder.join("small.session");
    session.save(&path).unwrap();
    (engine, options, fs::read(path).unwrap())
}

fn refusal(engine: &Engine, path: &Path, options: &SessionOptions) -> SessionFileError {
    match engine.restore_session(path, options).map(|session| session.position()) {
        Err(Error::SessionFile(error)) => error,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn a_restored_session_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    for window in [None, Some(0), Some(70)] {
        let engine = builtin(window);
        for (i, n) in [0, 1, 63, 64, 65, 300, 700].into_iter().enumerate() {
            // Every type of keys and of values comes with every length.
            for k in 0..4 {
                let options = options(TYPES[k], TYPES[(k + i) % 4]);
                let mut original = engine.session(&options).unwrap();
                if n > 0 {
                    original.prefill(&tokens(n)).unwrap();
                }
                original.save(&path).unwrap();
                let mut restored = engine.restore_session(&path, &options).unwrap();
                let case = format!("{n} tokens, window {window:?}, {options:?}");
                assert_eq!(restored.tokens(), original.tokens(), "{case}");
                assert_eq!(bits(restored.logits()), bits(original.logits()), "{case}");
                assert!(go_on(&mut restored, 9) == go_on(&mut original, 9), "{case}");
                // As far back as can be without reading again.
                let back = restored.position().saturating_sub(100);
                restored.rewind(back).unwrap();
                original.rewind(back).unwrap();
                assert!(go_on(&mut restored, 2) == go_on(&mut original, 2), "{case}");
            }
        }
    }
}

#[test]
fn a_session_of_which_only_the_window_is_left_is_small_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let engine = builtin(Some(70));
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    let size = |session: &Session| {
        session.save(&path).unwrap();
        fs::metadata(&path).unwrap().len() as usize
    };
    session.prefill(&tokens(1024)).unwrap();
    let before = size(&session);
    session.prefill(&tokens(1024)).unwrap();
    assert_eq!(size(&session), before + 4 * 1024, "only tokens were added");
}

/// Not a test by itself: what [`a_session_goes_on_in_another_process`] starts.
#[test]
fn child_goes_on() {
    let Some(folder) = std::env::var_os("BISE_TEST_GOES_ON").map(PathBuf::from) else { return };
    let options = options(CacheType::Q8_0, CacheType::F16);
    let mut session = builtin(None).restore_session(folder.join("session"), &options).unwrap();
    fs::write(folder.join("after"), format!("{:?}", go_on(&mut session, 40))).unwrap();
}

#[test]
fn a_session_goes_on_in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(CacheType::Q8_0, CacheType::F16);
    let mut session = builtin(None).session(&options).unwrap();
    session.prefill(&tokens(500)).unwrap();
    session.save(folder.path().join("session")).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_goes_on"])
        .env("BISE_TEST_GOES_ON", folder.path())
        .stdout(Stdio::null())
        .status();
    assert!(child.unwrap().success());
    let after = fs::read_to_string(folder.path().join("after")).unwrap();
    assert!(after == format!("{:?}", go_on(&mut session, 40)));
}

#[test]
fn logits_that_are_not_known_are_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let engine = builtin(None);
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    session.prefill(&tokens(20)).unwrap();
    session.rewind(11).unwrap();
    session.save(&path).unwrap();
    let mut restored = engine.restore_session(&path, &SessionOptions::default()).unwrap();
    assert!(restored.logits().is_none());
    assert_eq!(restored.tokens(), &tokens(11));
    assert!(go_on(&mut restored, 3) == go_on(&mut session, 3));
}

/// What else was in the pages, of drafts or of text that was cut off, is not written.
#[test]
fn a_file_holds_nothing_but_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let engine = builtin(None);
    for cache_type in TYPES {
        let options = options(cache_type, cache_type);
        let saved = |session: &Session| {
            session.save(folder.path().join("session")).unwrap();
            fs::read(folder.path().join("session")).unwrap()
        };
        let mut plain = engine.session(&options).unwrap();
        plain.prefill(&tokens(70)).unwrap();
        plain.decode(5).unwrap();
        let expected = saved(&plain);
        let mut session = engine.session(&options).unwrap();
        session.prefill(&tokens(120)).unwrap();
        session.rewind(70).unwrap();
        session.decode_ahead(5, &[6, 7, 8]).unwrap();
        assert_eq!(session.n_ahead(), 3);
        assert!(saved(&session) == expected, "{cache_type}");
        assert_eq!(session.n_ahead(), 3, "saving changes nothing");
    }
}

#[test]
fn a_generation_goes_on_as_if_never_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let engine = builtin(None);
    let seeded = SamplingParams { seed: 7, temp: 1.5, ignore_eos: true, ..SamplingParams::default() };
    for sampling in [
        SamplingParams { penalty_repeat: 1.2, dry_multiplier: 0.8, ..seeded.clone() },
        SamplingParams { mirostat: 1, ..seeded.clone() },
        SamplingParams { mirostat: 2, ..seeded.clone() },
        SamplingParams { xtc_probability: 0.5, xtc_threshold: 0.05, ..seeded.clone() },
    ] {
        let generation = |sampling: &SamplingParams| {
            let options = GenerationOptions { sampling: sampling.clone(), ..GenerationOptions::default() };
            Generation::new(engine.tokenizer(), options).unwrap()
        };
        let mut session = engine.session(&SessionOptions::default()).unwrap();
        session.prefill(&tokens(30)).unwrap();
        let mut whole = generation(&sampling);
        whole.prime(session.tokens());
        let step_to = |session: &mut Session, generation: &mut Generation, n: usize| {
            while session.position() < n {
                session.step(generation).unwrap();
            }
        };
        step_to(&mut session, &mut whole, 60);
        session.save_with(&path, Some(&whole.state())).unwrap();
        let restored = engine.restore_session_with(&path, &SessionOptions::default()).unwrap();
        let (mut again, state) = (restored.session, restored.state.unwrap());
        assert_eq!(state, whole.state());
        // Another seed: the saved one counts.
        let mut resumed = generation(&SamplingParams { seed: 1000, ..sampling.clone() });
        resumed.resume(again.tokens(), &state);
        step_to(&mut session, &mut whole, 120);
        step_to(&mut again, &mut resumed, 120);
        let n = session.position().min(again.position());
        assert_eq!(again.tokens()[..n], session.tokens()[..n], "{sampling:?}");
    }
    // Without one, none comes back.
    engine.session(&SessionOptions::default()).unwrap().save(&path).unwrap();
    assert!(engine.restore_session_with(&path, &SessionOptions::default()).unwrap().state.is_none());
}

#[test]
fn every_flipped_byte_and_every_missing_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, options, bytes) = small_session(folder.path());
    let path = folder.path().join("damaged");
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << (i % 8);
        fs::write(&path, &damaged).unwrap();
        match (i, refusal(&engine, &path, &options)) {
            (0..8, SessionFileError::NotASession { .. }) => {}
            (8..12, SessionFileError::OtherVersion { .. }) => {}
            (12.., SessionFileError::Damaged { .. }) => {}
            (_, error) => panic!("byte {i}: {error}"),
        }
        fs::write(&path, &bytes[..i]).unwrap();
        match (i, refusal(&engine, &path, &options)) {
            (0, SessionFileError::NotASession { .. }) => {}
            (1.., SessionFileError::Damaged { .. }) => {}
            (_, error) => panic!("{i} bytes: {error}"),
        }
    }
    fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(matches!(refusal(&engine, &path, &options), SessionFileError::Damaged { .. }));
    fs::write(&path, &bytes).unwrap();
    assert!(engine.restore_session(&path, &options).is_ok());
}

#[test]
fn what_was_saved_for_something_else_is_refused_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let plain = builtin(None);
    let usual = SessionOptions::default();
    let mut session = plain.session(&usual).unwrap();
    session.prefill(&tokens(100)).unwrap();
    session.save(&path).unwrap();
    let says = |engine: &Engine, options: &SessionOptions, words: &[&str]| {
        let error = refusal(engine, &path, options).to_string();
        assert!(error.starts_with(path.to_str().unwrap()), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let with = |key: &str, value: Value| {
        let overrides = vec![(key.to_owned(), value)];
        Engine::builtin_with(&EngineOptions { overrides, ..EngineOptions::default() }).unwrap()
    };
    says(&plain, &options(CacheType::Q8_0, CacheType::F16), &["keys in the cache as f16, here it is q8_0"]);
    says(&plain, &options(CacheType::F16, CacheType::Q4_0), &["values in the cache as f16, here it is q4_0"]);
    says(&builtin(Some(0)), &usual, &["a sliding window of 256, here it is none"]);
    says(&builtin(Some(255)), &usual, &["a sliding window of 256, here it is 255"]);
    says(
        &with("llama.rope.freq_base", Value::from(5e5_f32)),
        &usual,
        &["a rotary embedding of", "base 10000, no scaling", "base 500000, no scaling"],
    );
    says(
        &with("llama.attention.layer_norm_rms_epsilon", Value::from(1e-4_f32)),
        &usual,
        &["the model 'Bise Tiny Instruct' (", "here it is 'Bise Tiny Instruct' ("],
    );
    let other = small_model(&folder.path().join("small.gguf"), 1);
    says(&other, &usual, &["the model 'Bise Tiny Instruct' (", "here it is 'Small' ("]);
    // The same key, set to what it is, is no other model.
    let same = with("llama.rope.freq_base", Value::from(1e4_f32));
    assert!(same.restore_session(&path, &usual).is_ok());

    // Without a window, the text has to fit.
    let full = builtin(Some(0));
    let mut session = full.session(&usual).unwrap();
    session.prefill(&tokens(100)).unwrap();
    session.save(&path).unwrap();
    let short = |n_ctx| SessionOptions { n_ctx, ..usual };
    says(&full, &short(99), &["the session has 100 tokens, and the context holds 99"]);
    assert_eq!(full.restore_session(&path, &short(100)).unwrap().room(), 0);
}

#[test]
fn models_that_differ_in_weights_alone_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (_, options, bytes) = small_session(folder.path());
    let path = folder.path().join("session");
    fs::write(&path, &bytes).unwrap();
    let other = small_model(&folder.path().join("other.gguf"), 2);
    assert!(matches!(
        refusal(&other, &path, &options),
        SessionFileError::Mismatch { field: "the model", .. }
    ));
    // The name of the file does not matter, what is in it does.
    let copy = folder.path().join("copy.gguf");
    fs::copy(folder.path().join("small.gguf"), &copy).unwrap();
    assert!(open(&copy).restore_session(&path, &options).is_ok());
    let mut model = fs::read(&copy).unwrap();
    let last = model.len() - 100;
    model[last] ^= 1;
    fs::write(&copy, model).unwrap();
    assert!(matches!(refusal(&open(&copy), &path, &options), SessionFileError::Mismatch { .. }));
}

#[test]
fn what_is_no_session_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name)
    };
    let engine = builtin(None);
    let says = |path: &Path, words: &str| {
        let error = refusal(&engine, path, &SessionOptions::default()).to_string();
        assert!(error.contains(words), "{error}");
    };
    says(&at("empty", b""), "this is no session file of bise: it is empty");
    says(&at("model", b"GGUF\x03\0\0\0"), "it is a GGUF file");
    says(&at("llama", b"nsgg\x09\0\0\0"), "it is a session of llama.cpp");
    says(&at("text", b"once upon a time"), "it begins with 'once upo'");
    says(folder.path(), "it is no regular file");
    says(&folder.path().join("none"), "No such file");
    let mut newer = small_session(folder.path()).2;
    newer[8] = 3;
    says(&at("newer", &newer), "a session file of version 3, and this program reads versions up to 2");

    let session = engine.session(&SessionOptions::default()).unwrap();
    let error = session.save(folder.path().join("none").join("session")).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("No such file"), "{error}");
}

/// Not a test by itself: what [`a_kill_while_saving_leaves_a_whole_file`] starts.
#[test]
fn child_saves_for_ever() {
    let Some(path) = std::env::var_os("BISE_TEST_SAVES").map(PathBuf::from) else { return };
    let mut session = builtin(None).session(&SessionOptions::default()).unwrap();
    session.prefill(&tokens(200)).unwrap();
    loop {
        session.save(&path).unwrap();
    }
}

#[test]
fn a_kill_while_saving_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let engine = builtin(None);
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    session.prefill(&tokens(100)).unwrap();
    session.save(&path).unwrap();
    let (mut n_aside, mut n_new) = (0, 0);
    // Some are killed early and some late; on a slow or busy machine, later and later until one comes to the end of a file.
    for round in 0..24 {
        if round >= 12 && n_aside > 0 && n_new > 0 {
            break;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_saves_for_ever"])
            .env("BISE_TEST_SAVES", &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Until it is in the midst of it: the file aside is there.
        let is_aside = || {
            fs::read_dir(folder.path())
                .unwrap()
                .any(|e| e.unwrap().path().extension().is_some_and(|e| e == "part"))
        };
        while !is_aside() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let later = 1 << (round.max(11) - 11).min(8);
        std::thread::sleep(Duration::from_micros(700 * round * later));
        child.kill().unwrap();
        child.wait().unwrap();
        let restored = engine.restore_session(&path, &SessionOptions::default()).unwrap();
        assert!([100, 200].contains(&restored.position()), "{}", restored.position());
        n_new += usize::from(restored.position() == 200);
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap().path();
            if entry != path {
                n_aside += 1;
                fs::remove_file(entry).unwrap();
            }
        }
    }
    assert!(n_aside > 0, "no child was killed while it wrote");
    assert!(n_new > 0, "no child came to the end of a file");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Bytes that are anything, with checksums that are right, are restored or refused; what is restored can be read on from.
    #[test]
    fn hostile_bytes_are_restored_or_refused(
        edits in proptest::collection::vec((0_usize..1 << 16, any::<u8>()), 1..6),
        keep in 0_usize..1 << 16,
        cut in any::<bool>(),
    ) {
        use std::hash::Hasher as _;
        thread_local! {
            static SMALL: (tempfile::TempDir, Engine, SessionOptions, Vec<u8>) = {
                let folder = tempfile::tempdir().unwrap();
                let (engine, options, bytes) = small_session(folder.path());
                (folder, engine, options, bytes)
            };
        }
        SMALL.with(|(folder, engine, options, bytes)| {
            let mut bytes = bytes.clone();
            let n = bytes.len();
            for (at, byte) in edits {
                // Half of them in the header.
                let at = if at % 2 == 0 { 12 + (at / 2) % 196 } else { at % n };
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(300 + keep % (n - 300));
            }
            let checksum = |bytes: &[u8]| {
                let mut hash = twox_hash::XxHash3_64::new();
                hash.write(bytes);
                hash.finish().to_le_bytes()
            };
            let sum = checksum(&bytes[..208]);
            bytes[208..216].copy_from_slice(&sum);
            let end = bytes.len() - 8;
            let sum = checksum(&bytes[..end]);
            bytes[end..].copy_from_slice(&sum);
            let path = folder.path().join("hostile");
            fs::write(&path, &bytes).unwrap();
            match engine.restore_session(&path, options) {
                Ok(mut session) => {
                    let _ = session.decode(77);
                    let _ = session.rewind(session.position() / 2);
                    let _ = session.prefill(&[5; 70]);
                }
                Err(Error::SessionFile(_)) => {}
                Err(error) => panic!("{error}"),
            }
        });
    }
}
