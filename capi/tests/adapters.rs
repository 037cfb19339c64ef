//! Adapters from C: the texts are those of the engine.
#![cfg(feature = "builtin-model")]

mod support;

use std::path::Path;

use engine::adapter::Adapters;
use engine::gguf::{GgufDataWriter, GgufWriter, TensorType, WriteError};
use engine::sampling::SamplingParams;
use engine::{Engine, SessionOptions};
use support::{Build, command, compile, stdout, succeed};

/// Writes an adapter beside the attention and the feed-forward of every layer, strong enough to change the text.
fn write_adapter(path: &Path, engine: &Engine) {
    const RANK: usize = 4;
    let config = engine.config();
    let mut state = 7_u32;
    let mut numbers = |n: usize, size: f32| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * size
        };
        (0..n).flat_map(|_| next().to_le_bytes()).collect()
    };
    let mut writer = GgufWriter::new();
    let metadata = writer.metadata_mut();
    metadata.set("general.type", "adapter");
    metadata.set("general.architecture", config.arch.as_str());
    metadata.set("adapter.type", "lora");
    metadata.set("adapter.lora.alpha", RANK as f32);
    let mut data = Vec::new();
    for layer in 0..config.n_layers {
        let matrices = [
            ("attn_q", config.n_embd, config.q_dim()),
            ("attn_output", config.q_dim(), config.n_embd),
            ("ffn_down", config.n_ff, config.n_embd),
        ];
        for (name, k, n_rows) in matrices {
            let (a, b) =
                (format!("blk.{layer}.{name}.weight.lora_a"), format!("blk.{layer}.{name}.weight.lora_b"));
            writer.add_tensor(&a, &[k, RANK], TensorType::F32).unwrap();
            writer.add_tensor(&b, &[RANK, n_rows], TensorType::F32).unwrap();
            data.push(numbers(k * RANK, 1.0 / (k as f32).sqrt()));
            data.push(numbers(RANK * n_rows, 0.8));
        }
    }
    let fill = |out: &mut GgufDataWriter<_>| data.iter().try_for_each(|bytes| out.write(bytes));
    writer.save::<WriteError>(path, fill).unwrap();
}

#[test]
fn sessions_use_the_adapters_that_are_set_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let (adapter, model) = (folder.path().join("adapter.gguf"), folder.path().join("torn.gguf"));
    let engine = Engine::builtin().unwrap();
    write_adapter(&adapter, &engine);
    let whole = std::fs::read(&adapter).unwrap();
    std::fs::write(&model, &whole[..whole.len() / 2]).unwrap();
    let loaded = engine.load_adapter(&adapter).unwrap();
    let story = |scale: f32| -> String {
        let mut session = engine.session(&SessionOptions::default()).unwrap();
        session.set_adapters(Adapters::new([(loaded.clone(), scale)])).unwrap();
        let pieces = session.generate("Once upon a time", &SamplingParams::greedy(), 24).unwrap();
        pieces.map(Result::unwrap).collect::<String>() + "\n"
    };
    for build in [Build::Shared, Build::Sanitized] {
        let output = succeed(command(&compile("tests/c/adapters.c", build)).args([&adapter, &model]));
        assert_eq!(stdout(&output), [0.0, 1.0, 0.5].map(story).concat());
    }
}
