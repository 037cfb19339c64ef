//! A model file that is replaced while it is in use, as package managers and downloads do: by renaming another over it.

#![cfg(feature = "builtin-model")]

use std::path::Path;

use bise::{Engine, SessionOptions};

fn logits(engine: &Engine) -> Vec<u32> {
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    session.prefill(&[1, 40, 41, 42]).unwrap().iter().map(|x| x.to_bits()).collect()
}

/// On Windows, a file that is mapped cannot be replaced.
#[cfg(unix)]
#[test]
fn an_engine_keeps_the_file_that_it_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf"), &path)
        .unwrap();
    let engine = Engine::open(&path).unwrap();
    let mut session = engine.session(&SessionOptions::default()).unwrap();
    session.prefill(&[1, 40]).unwrap();
    let want = logits(&engine);
    // Shorter, and no model.
    std::fs::write(folder.path().join("new"), b"not a model").unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(logits(&engine) == want);
    assert!(Engine::open(&path).is_err());
    std::fs::remove_file(&path).unwrap();
    let next: Vec<u32> = session.prefill(&[41, 42]).unwrap().iter().map(|x| x.to_bits()).collect();
    assert!(next == want);
}
