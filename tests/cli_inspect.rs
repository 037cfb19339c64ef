//! `bise inspect` says what a file holds.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use cli_support::Folder;
use serde_json::Value;

#[test]
fn the_built_in_model_is_described() {
    let folder = Folder::new();
    let ran = folder.bise(["inspect"]).ok();
    for words in [
        "llama",
        "Q4_K - Medium",
        "8130816",
        "256 tokens",
        "mistral-v1",
        "Q6_K",
        "tokenizer.ggml.tokens = array of 4096",
    ] {
        assert!(ran.text().contains(words), "{words}\n{}", ran.text());
    }
    assert!(ran.text().lines().all(|line| line.chars().count() < 200), "long values are shortened");
}

#[test]
fn json_holds_the_same() {
    let folder = Folder::new();
    let model = folder.model();
    let args = ["inspect".as_ref(), model.as_os_str(), "--json".as_ref(), "--check-tensors".as_ref()];
    let ran = folder.bise(args).ok();
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["n_params"], 8_130_816);
    assert_eq!(report["sliding_window"], 256);
    assert_eq!(report["defects"], serde_json::json!([]));
    assert_eq!(report["metadata"]["llama.block_count"], 8);
    assert_eq!(report["metadata"]["tokenizer.ggml.tokens"]["length"], 4096);
    let bytes: u64 = report["tensors"].as_array().unwrap().iter().map(|t| t["bytes"].as_u64().unwrap()).sum();
    assert_eq!(report["tensor_bytes"], bytes);
    // A context of 512 tokens is kept whole: 8 pages of 64. Of 2048 the window of 256, a pass and some slack are kept.
    let contexts = report["memory"]["contexts"].as_array().unwrap();
    let cache = |row: &Value, kind: &str| row["cache_bytes"][kind].as_u64().unwrap();
    let (first, last) = (&contexts[0], contexts.last().unwrap());
    assert_eq!((&first["n_ctx"], &last["n_ctx"]), (&512.into(), &2048.into()));
    // 8 layers, keys and values, 2 heads of 32 dimensions, 2 or 4 bytes each; and for each of 8 pages what the allocator adds.
    for (kind, bytes) in [("f16", 2), ("f32", 4)] {
        let values = 512 * 8 * 2 * 2 * 32 * bytes;
        assert!((values..=values + 8 * 4096).contains(&cache(first, kind)), "{kind}: {}", cache(first, kind));
    }
    assert!(cache(last, "f16") < 2 * cache(first, "f16"));
}

#[test]
fn a_scale_that_is_no_number_is_found() {
    let folder = Folder::new();
    let model = folder.model();
    let mut bytes = std::fs::read(&model).unwrap();
    // The last tensor of the file ends in a block, and every block of this file has an f16 scale somewhere: set all of its
    // last 210 bytes, which is a block of Q6_K or more than one of Q4_K, to those of infinities.
    let end = bytes.len();
    bytes[end - 210..].as_chunks_mut::<2>().0.iter_mut().for_each(|f16| *f16 = [0x00, 0x7c]);
    std::fs::write(&model, bytes).unwrap();
    let ran = folder.bise(["inspect".as_ref(), model.as_os_str(), "--check-tensors".as_ref()]);
    assert!(ran.error().contains("tensor '"), "{}", ran.stderr);
    assert!(ran.error().contains("expected finite numbers"), "{}", ran.stderr);
    folder.bise(["inspect".as_ref(), model.as_os_str()]).ok();
}

#[test]
fn what_is_no_model_is_an_error_of_one_line() {
    let folder = Folder::new();
    folder.write("empty.gguf", b"");
    folder.write("other.gguf", b"PK\x03\x04 and so on and so on and so on");
    let model = folder.model();
    let bytes = std::fs::read(&model).unwrap();
    folder.write("short.gguf", &bytes[..bytes.len() / 2]);
    folder.write("head.gguf", &bytes[..1000]);
    for name in ["empty.gguf", "other.gguf", "short.gguf", "head.gguf", "none.gguf", "."] {
        for args in [&["inspect", name][..], &["-m", name, "-p", "Once", "-n", "1"]] {
            let ran = folder.bise(args);
            assert!(ran.error().contains(name), "{args:?}: {}", ran.stderr);
            assert!(ran.stdout.is_empty());
        }
    }
}
