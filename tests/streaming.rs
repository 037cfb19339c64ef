//! A model that streams its weights computes the same bits, and gives back what it has read.

#![cfg(all(feature = "builtin-model", target_os = "linux"))]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bise::gguf::{GgufFile, GgufWriter, Value};
use bise::memory::MemoryLimit;
use bise::{Engine, EngineBuilder, SessionOptions};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf")
}

/// The first three layers of the built-in model, with `output.weight` or with the embedding in its place.
fn three_layers(folder: &Path, tied: bool) -> PathBuf {
    let tiny = GgufFile::open(tiny()).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in tiny.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    writer.metadata_mut().set("llama.block_count", Value::U32(3));
    let is_kept = |name: &str| match name.strip_prefix("blk.") {
        Some(rest) => rest.split('.').next().unwrap().parse::<usize>().unwrap() < 3,
        None => name != "output.weight" || !tied,
    };
    let tensors: Vec<_> = tiny.tensors().filter(|tensor| is_kept(&tensor.name)).collect();
    for tensor in &tensors {
        writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type).unwrap();
    }
    let path = folder.join(format!("three-layers-{tied}.gguf"));
    let bytes: Vec<_> = tensors.iter().map(|tensor| tiny.bytes(tensor)).collect();
    let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &**bytes).collect();
    writer.write_all(std::fs::File::create(&path).unwrap(), &bytes).unwrap();
    path
}

const OPTIONS: SessionOptions =
    SessionOptions { n_ctx: 512, k_type: bise::CacheType::F16, v_type: bise::CacheType::F16, n_ubatch: 64 };

/// The logits after a prompt, and after each of some tokens.
fn logits(engine: &Engine) -> Vec<Vec<u32>> {
    let mut session = engine.session(&OPTIONS).unwrap();
    let prompt: Vec<u32> = (0..150).map(|i| 300 + i * 37 % 3000).collect();
    let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<u32>>();
    let mut all = vec![bits(session.prefill(&prompt).unwrap())];
    all.extend((0..12).map(|i| bits(session.decode(400 + i).unwrap())));
    let mut scored = Vec::new();
    session.score(&prompt[..70], &mut |_, logits| scored.push(bits(logits))).unwrap();
    all.extend(scored);
    all
}

/// Bytes of `path` that are in the memory of this process.
fn resident(path: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut is_it, mut bytes) = (false, 0);
    for line in maps.lines() {
        // The first line of a mapping ends in its path; the others are `Key: value`.
        if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            is_it = line.ends_with(path.to_str().unwrap());
        } else if let Some(rest) = line.strip_prefix("Rss:").filter(|_| is_it) {
            bytes += rest.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024;
        }
    }
    bytes
}

fn builder() -> EngineBuilder {
    Engine::builder().threads(2)
}

/// A ceiling that leaves room for a part of the weights: none of them, or all.
fn limit(path: &Path, part: f64) -> MemoryLimit {
    let plan = builder().plan(path, 1, &OPTIONS).unwrap();
    MemoryLimit::Bytes(plan.full() - ((1.0 - part) * plan.weights_bytes() as f64) as usize)
}

/// One test at a time: a plan counts what the process takes.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn streamed_weights_give_the_same_bits_and_leave_memory() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("tiny.gguf");
    std::fs::copy(tiny(), &copy).unwrap();
    for path in [copy, three_layers(folder.path(), false), three_layers(folder.path(), true)] {
        let size = std::fs::metadata(&path).unwrap().len() as usize;
        let engine = builder().open(&path).unwrap();
        let (expected, all_resident) = (logits(&engine), resident(&path));
        assert_eq!(engine.kept_layers(), None);
        drop(engine);
        assert!(all_resident > size * 9 / 10, "{all_resident} of {size}");

        let mut fewest = usize::MAX;
        for part in [0.0, 0.6, 0.9, 1.5] {
            let engine = builder().stream_weights(true).max_memory(limit(&path, part)).sessions(1, &OPTIONS);
            let engine = match engine.open(&path) {
                Ok(engine) => engine,
                Err(bise::Error::DoesNotFit(error)) => {
                    // The largest step and the next take more than this part of so small a model.
                    assert!(part < 0.9, "{error}");
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let (kept, n_layers) = engine.kept_layers().unwrap();
            assert_eq!(n_layers, engine.config().n_layers + 1);
            assert_eq!(kept == n_layers, part > 1.0, "{kept} of {n_layers} with {part}");
            assert!(logits(&engine) == expected, "{}: {kept} of {n_layers} layers kept", path.display());
            let now = resident(&path);
            println!("{}: {kept} of {n_layers} layers kept, {now} of {size} bytes resident", path.display());
            if kept < n_layers {
                assert!(now < all_resident, "{now} of {all_resident} bytes");
            }
            fewest = fewest.min(now);
        }
        assert!(fewest < all_resident * 9 / 10, "{fewest} of {all_resident} bytes");
    }
}

#[test]
fn what_is_free_is_room_enough_for_a_small_model() {
    let _alone = alone();
    let engine = builder().stream_weights(true).open(tiny()).unwrap();
    let (kept, n_layers) = engine.kept_layers().unwrap();
    assert_eq!(kept, n_layers);
}
