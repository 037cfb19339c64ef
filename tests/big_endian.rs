//! A big-endian file, which is copied, under a ceiling on memory. One test: what it measures belongs to the whole process.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};

use bise::memory::{MemoryLimit, peak_bytes};
use bise::{Engine, Error, SessionOptions};
use bise_models::gguf::{GgufFile, GgufWriter, TensorType, WriteError};

/// A Mistral of the built-in one's shape, in f32: 32 MB.
fn write(folder: &Path, name: &str, big_endian: bool) -> PathBuf {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
    let tiny = GgufFile::open(tiny).unwrap();
    let mut writer = GgufWriter::new();
    if big_endian {
        writer.big_endian();
    }
    for (key, value) in tiny.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    for tensor in tiny.tensors() {
        writer.add_tensor(&tensor.name, &tensor.shape, TensorType::F32).unwrap();
    }
    let path = folder.join(name);
    writer
        .save::<WriteError>(&path, |out| {
            tiny.tensors().try_for_each(|tensor| {
                let values = (0..tensor.n_elements()).map(|i| (i * 7 % 31) as f32 / 310.0 - 0.05);
                out.write(&values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
            })
        })
        .unwrap();
    path
}

#[test]
fn a_big_endian_file_is_not_copied_where_it_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "big-endian.gguf", true);
    let same = write(folder.path(), "little-endian.gguf", false);
    let n_bytes = std::fs::metadata(&path).unwrap().len() as usize;
    assert!(n_bytes > 32_000_000, "{n_bytes}");
    // Forgets the peak of the writing.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_bytes().unwrap();
    let limit = MemoryLimit::Bytes(before + n_bytes / 2);
    let refused = Engine::builder().max_memory(limit).open(&path).err().unwrap();
    let Error::DoesNotFit(why) = &refused else { panic!("{refused}") };
    assert!(why.plan.weights_are_copied(), "{refused}");
    assert!(!refused.to_string().contains("--stream-weights"), "{refused}");
    let grown = peak_bytes().unwrap() - before;
    assert!(grown < n_bytes / 4, "{grown} of {n_bytes} bytes more");

    let limit = before + 3 * n_bytes;
    let engine = Engine::builder().threads(1).max_memory(MemoryLimit::Bytes(limit)).open(&path).unwrap();
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    let logits = session.prefill(&[1, 300, 400]).unwrap();
    assert!(peak_bytes().unwrap() <= limit);
    let mut reference = Engine::open(&same).unwrap().session(&SessionOptions::default()).unwrap();
    assert_eq!(logits, reference.prefill(&[1, 300, 400]).unwrap());
}
