//! A model that fails on one token.

use std::path::Path;

use bise::Engine;
use bise::gguf::{GgufDataWriter, GgufFile, GgufWriter, WriteError};

/// The built-in model, but with an embedding of `token` that is not finite.
pub fn with_infinite_embedding(token: usize, path: &Path) -> Engine {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
    let file = GgufFile::open(source).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, info.tensor_type).unwrap();
    }
    let fill = |out: &mut GgufDataWriter<_>| {
        file.tensors().try_for_each(|info| {
            let mut bytes = file.bytes(info).to_vec();
            if info.name == "token_embd.weight" {
                // All scales become NaN.
                let n = bytes.len() / 4096;
                bytes[token * n..][..n].fill(0xff);
            }
            out.write(&bytes)
        })
    };
    writer.save::<WriteError>(path, fill).unwrap();
    Engine::open(path).unwrap()
}
