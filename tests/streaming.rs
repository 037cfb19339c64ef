//! A model that streams its weights computes the same bits, and gives back what it has read.

#![cfg(all(feature = "builtin-model", target_os = "linux"))]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bise::gguf::{GgufFile, GgufWriter, TensorType, Value};
use bise::memory::MemoryLimit;
use bise::{Engine, EngineBuilder, SessionOptions};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf")
}

/// What becomes of the built-in model.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    /// The embedding takes the place of `output.weight`.
    Tied,
    /// Each layer has eight experts, of which each token meets two.
    Sparse,
}

impl Kind {
    /// Large beside what the heap of this process grows and shrinks by.
    fn n_layers(self) -> usize {
        if self == Kind::Sparse { 20 } else { 60 }
    }
}

/// The built-in model's layers over and over.
fn deep(folder: &Path, kind: Kind) -> PathBuf {
    const N_EXPERTS: usize = 8;
    let tiny = GgufFile::open(tiny()).unwrap();
    let Some(&Value::U32(n_layers)) = tiny.metadata().get("llama.block_count") else { panic!("layers") };
    let n_layers = n_layers as usize;
    let mut writer = GgufWriter::new();
    for (key, value) in tiny.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    writer.metadata_mut().set("llama.block_count", Value::U32(kind.n_layers() as u32));
    if kind == Kind::Sparse {
        writer.metadata_mut().set("llama.expert_count", Value::U32(N_EXPERTS as u32));
        writer.metadata_mut().set("llama.expert_used_count", Value::U32(2));
    }
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for tensor in tiny.tensors().filter(|tensor| tensor.name != "output.weight" || kind != Kind::Tied) {
        if !tensor.name.starts_with("blk.") {
            writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type).unwrap();
            bytes.push(tiny.bytes(tensor).to_vec());
        }
    }
    let all: Vec<_> = tiny.tensors().filter(|tensor| tensor.name.starts_with("blk.")).collect();
    let of = |layer: usize, rest: &str| {
        let name = format!("blk.{}.{rest}", layer % n_layers);
        *all.iter().find(|tensor| tensor.name == name).unwrap()
    };
    for i in 0..kind.n_layers() {
        for tensor in all.iter().filter(|tensor| tensor.name.starts_with("blk.0.")) {
            let rest = tensor.name.strip_prefix("blk.0.").unwrap();
            let matrix = rest.strip_suffix(".weight").unwrap();
            if kind == Kind::Sparse && ["ffn_gate", "ffn_up", "ffn_down"].contains(&matrix) {
                // Those of this layer and of others that have the same type.
                let like_this = |layer: &usize| of(*layer, rest).tensor_type == of(i, rest).tensor_type;
                let layers: Vec<usize> = (i..i + n_layers).filter(like_this).collect();
                let experts = (0..N_EXPERTS).map(|expert| of(layers[expert % layers.len()], rest));
                let shape = [&tensor.shape[..], &[N_EXPERTS]].concat();
                writer
                    .add_tensor(&format!("blk.{i}.{matrix}_exps.weight"), &shape, of(i, rest).tensor_type)
                    .unwrap();
                bytes.push(experts.flat_map(|tensor| tiny.bytes(tensor).to_vec()).collect());
            } else {
                let tensor = of(i, rest);
                writer.add_tensor(&format!("blk.{i}.{rest}"), &tensor.shape, tensor.tensor_type).unwrap();
                bytes.push(tiny.bytes(tensor).to_vec());
            }
        }
        if kind == Kind::Sparse {
            let n_embd = of(i, "attn_q.weight").shape[0];
            writer
                .add_tensor(&format!("blk.{i}.ffn_gate_inp.weight"), &[n_embd, N_EXPERTS], TensorType::F32)
                .unwrap();
            let router =
                (0..n_embd * N_EXPERTS).map(|j| ((j * 7919 + i * 104_729) % 1009) as f32 / 5045.0 - 0.1);
            bytes.push(router.flat_map(f32::to_le_bytes).collect());
        }
    }
    let path = folder.join(format!("deep-{kind:?}.gguf"));
    let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &bytes[..]).collect();
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

/// A ceiling that leaves room for this part of the weights.
fn limit(path: &Path, part: f64) -> MemoryLimit {
    let plan = builder().plan(path, 1, &OPTIONS).unwrap();
    MemoryLimit::Bytes(plan.full() - plan.weights_bytes() + (part * plan.weights_bytes() as f64) as usize)
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
    for kind in [Kind::Plain, Kind::Tied, Kind::Sparse] {
        let path = deep(folder.path(), kind);
        let size = std::fs::metadata(&path).unwrap().len() as usize;
        let engine = builder().open(&path).unwrap();
        let (expected, all_resident) = (logits(&engine), resident(&path));
        assert_eq!(engine.kept_layers(), None);
        drop(engine);
        assert!(all_resident > size * 9 / 10, "{all_resident} of {size}");

        for part in [0.2, 0.5, 0.8, 2.0] {
            let engine = builder().stream_weights(true).max_memory(limit(&path, part)).sessions(1, &OPTIONS);
            let engine = engine.open(&path).unwrap();
            let (kept, n_layers) = engine.kept_layers().unwrap();
            assert_eq!(n_layers, engine.config().n_layers + 1);
            assert_eq!(kept == n_layers, part > 1.0, "{kept} of {n_layers} with {part}");
            assert!(logits(&engine) == expected, "{}: {kept} of {n_layers} layers kept", path.display());
            let now = resident(&path);
            println!("{}: {kept} of {n_layers} layers kept, {now} of {size} bytes resident", path.display());
            if kept < n_layers {
                // The rest of the file: metadata, and rows of the embedding.
                let most = (part + 0.15) * all_resident as f64;
                assert!((now as f64) < most, "{now} of {all_resident} bytes with {part}");
            }
        }
    }
}

#[test]
fn what_is_free_is_room_enough_for_a_small_model() {
    let _alone = alone();
    let engine = builder().stream_weights(true).open(tiny()).unwrap();
    let (kept, n_layers) = engine.kept_layers().unwrap();
    assert_eq!(kept, n_layers);
}
