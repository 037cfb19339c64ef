//! Adapters that are cut or have bytes flipped: they are read or refused, and nothing panics.

#![cfg(feature = "convert")]

mod adapter_support;

use std::path::Path;

use adapter_support::{Fixture, oracle};
use bise::MistralConfig;
use bise::adapter::{self, AdapterFile, AdapterSummary};
use bise::gguf::GgufFile;
use bise_kernels::KernelTable;
use bise_models::Mistral;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The folder and the GGUF file of a small adapter.
struct Adapter {
    folder: tempfile::TempDir,
    model: Mistral,
}

impl Adapter {
    fn new() -> Adapter {
        let folder = tempfile::tempdir().unwrap();
        let file = GgufFile::open(oracle("plain_f32")).unwrap();
        let config = MistralConfig::from_metadata(file.metadata()).unwrap();
        let model = Mistral::load(&file, config, KernelTable::detect()).unwrap();
        let mut fixture = Fixture::load("alpha-0");
        fixture.config().insert("lora_alpha".into(), 4.into());
        fixture.config().insert("rank_pattern".into(), serde_json::json!({ "v_proj": 2 }));
        fixture.write(folder.path());
        let read = AdapterFile::open(folder.path(), model.config()).unwrap();
        let parts = read.parts.iter().map(|(target, part)| (*target, part));
        let path = folder.path().join("a.gguf");
        adapter::gguf::write(&path, model.config(), parts, &Default::default()).unwrap();
        Adapter { folder, model }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// Whether the adapter is read with these bytes in place of a file. A refusal is one line that names a file.
    fn is_read(&self, name: &str, bytes: &[u8]) -> bool {
        let path = self.folder.path().join(name);
        // Another file each time: the one before may be mapped still.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let at: &Path = if name.ends_with(".gguf") { &path } else { self.folder.path() };
        let summary = AdapterSummary::of(at);
        let loaded = adapter::load(at, &self.model);
        let opened = AdapterFile::open(at, self.model.config());
        let errors = [
            summary.err().map(|error| error.to_string()),
            loaded.as_ref().err().map(ToString::to_string),
            opened.as_ref().err().map(ToString::to_string),
        ];
        for error in errors.into_iter().flatten() {
            assert!(!error.contains('\n') && !error.chars().any(char::is_control), "{error:?}");
            assert!(error.contains(self.folder.path().to_str().unwrap()), "{error}");
        }
        assert_eq!(loaded.is_ok(), opened.is_ok(), "{name}");
        loaded.is_ok()
    }
}

#[test]
fn a_file_that_is_cut_is_refused() {
    for name in ["adapter_config.json", "adapter_model.safetensors", "a.gguf"] {
        let adapter = Adapter::new();
        let whole = adapter.bytes(name);
        assert!(adapter.is_read(name, &whole));
        // Tensors are 1.5 KB: all cuts of what describes them, and some of those.
        let described = whole.len().saturating_sub(1536);
        let cuts =
            (0..described).chain((described..whole.len()).step_by(61)).chain(whole.len() - 3..whole.len());
        for n in cuts {
            assert!(!adapter.is_read(name, &whole[..n]), "{name}: {n} of {} bytes", whole.len());
        }
        // And a file that goes on.
        let longer = [&whole[..], b"and more"].concat();
        assert_eq!(adapter.is_read(name, &longer), name == "a.gguf", "{name}");
    }
}

#[test]
fn flipped_bytes_are_read_or_refused() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for (name, n) in [("adapter_config.json", 400), ("adapter_model.safetensors", 600), ("a.gguf", 600)] {
        let adapter = Adapter::new();
        let whole = adapter.bytes(name);
        let mut n_refused = 0;
        for _ in 0..n {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.next_u32() % 3 {
                // Half of them in the first bytes, where files say what they are.
                let most = if rng.next_u32() % 2 == 0 { bytes.len().min(400) } else { bytes.len() };
                let at = rng.next_u32() as usize % most;
                bytes[at] ^= 1 << (rng.next_u32() % 8);
            }
            n_refused += usize::from(!adapter.is_read(name, &bytes));
        }
        assert!(n_refused > n / 5, "{name}: {n_refused} of {n}");
    }
}

/// A file that is looked at without its model is refused for all that needs none.
#[test]
fn what_cannot_be_used_is_not_described() {
    let adapter = Adapter::new();
    let whole = adapter.bytes("a.gguf");
    let find =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|at| at == text.as_bytes()).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>), words: &str| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        let path = adapter.folder.path().join("changed.gguf");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        for error in [
            AdapterSummary::of(&path).unwrap_err(),
            AdapterFile::open(&path, adapter.model.config()).unwrap_err(),
            adapter::load(&path, &adapter.model).unwrap_err(),
        ] {
            assert!(error.to_string().contains(words), "{error}: {words}");
        }
    };
    let alpha = find(&whole, "adapter.lora.alpha");
    refused(
        &|bytes| bytes[alpha + 22..alpha + 26].copy_from_slice(&f32::NAN.to_le_bytes()),
        "a finite number",
    );
    refused(&|bytes| bytes[alpha + 17] = b'x', "adapter.lora.alphx");
    for half in [".lora_a", ".lora_b"] {
        let at = find(&whole, half);
        refused(&|bytes| bytes[at + 6] = b'c', "names that end in");
        // Its counterpart is another layer's.
        let layer = whole[..at].windows(6).rposition(|at| at == b"blk.0.").unwrap() + 4;
        refused(&|bytes| bytes[layer] = b'7', "it alone");
    }
    // The two sizes of B in the other order, behind its name and their number.
    let sizes = find(&whole, ".lora_b") + 7 + 4;
    let swap = |bytes: &mut Vec<u8>| bytes[sizes..sizes + 16].rotate_left(8);
    refused(&swap, "the rank");
}

/// Half-written, overlapping and huge: what a header says is not believed.
#[test]
fn a_header_that_lies_is_refused() {
    let adapter = Adapter::new();
    let whole = adapter.bytes("adapter_model.safetensors");
    let n = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&whole[8..8 + n]).unwrap().trim_end().to_owned();
    let with = |header: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&whole[8 + n..]);
        adapter.is_read("adapter_model.safetensors", &bytes)
    };
    assert!(with(&header));
    for (from, to) in [
        ("[0,", "[4,"),
        ("\"F32\"", "\"F64\""),
        ("\"F32\"", "\"F4\""),
        ("\"F32\"", "\"I32\""),
        ("\"shape\":[", "\"shape\":[18446744073709551615,"),
        ("\"shape\":[2,64]", "\"shape\":[64,2]"),
        ("\"shape\":[2,64]", "\"shape\":[2,32,2]"),
        ("\"shape\":[2,64]", "\"shape\":[128]"),
        ("layers.0", "layers.1"),
        ("layers.0", "layers.18446744073709551616"),
        ("lora_A", "lora_C"),
        ("\"data_offsets\":", "\"data_offset\":"),
    ] {
        assert!(header.contains(from), "{header}");
        assert!(!with(&header.replacen(from, to, 1)), "{from} → {to}");
    }
}
