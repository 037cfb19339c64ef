//! Files written by gguf-py 0.19 (`fixtures/make_gguf.py`) are read as they were meant.

use std::fs;
use std::path::{Path, PathBuf};

use bise_models::gguf::{Array, GgufFile, OpenOptions, StrArray, TensorType, Value};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn open(name: &str) -> GgufFile {
    GgufFile::open(fixture(name)).unwrap()
}

fn strs(texts: &[&str]) -> Array {
    Array::Str(texts.iter().collect::<StrArray>())
}

/// What `make_gguf.py` writes after `general.architecture` and the alignment.
fn keys() -> Vec<(&'static str, Value)> {
    let nested = Array::Array(vec![Array::I32(vec![1, 2]), Array::I32(vec![3]), Array::I32(vec![4, 5, 6])]);
    let deep = Array::Array(vec![Array::Array(vec![strs(&["a", "b"])]), Array::Array(vec![strs(&["c"])])]);
    vec![
        ("t.u8", Value::U8(200)),
        ("t.i8", Value::I8(-100)),
        ("t.u16", Value::U16(60000)),
        ("t.i16", Value::I16(-30000)),
        ("t.u32", Value::U32(4_000_000_000)),
        ("t.i32", Value::I32(-2_000_000_000)),
        ("t.u64", Value::U64(u64::MAX)),
        ("t.i64", Value::I64(i64::MIN)),
        ("t.f32", Value::F32(0.15625)),
        ("t.f64", Value::F64(-1.0 / 3.0)),
        ("t.true", Value::Bool(true)),
        ("t.false", Value::Bool(false)),
        ("t.str", Value::from("la bise, 凛とした")),
        ("t.ints", Value::Array(Array::I32(vec![1, -2, 3]))),
        ("t.floats", Value::Array(Array::F32(vec![0.5, -0.25]))),
        ("t.bools", Value::Array(Array::Bool(vec![true, false, true]))),
        ("t.strs", Value::Array(strs(&["<s>", "", "▁a"]))),
        ("t.bytes", Value::Array(Array::U8(vec![0, 255, 128]))),
        ("t.nested", Value::Array(nested)),
        ("t.deep", Value::Array(deep)),
    ]
}

/// Every key and every byte of every tensor of `file` are those that were written.
#[track_caller]
fn assert_contents(file: &GgufFile) {
    let metadata = file.metadata();
    assert_eq!(metadata.get("general.architecture"), Some(&Value::from("llama")));
    let found: Vec<_> =
        metadata.iter().filter(|(k, _)| k.starts_with("t.")).map(|(k, v)| (k, v.clone())).collect();
    assert_eq!(found, keys());

    let shapes: Vec<_> =
        file.tensors().map(|t| (t.name.as_str(), t.shape.as_slice(), t.tensor_type)).collect();
    let expected: [(&str, &[usize], TensorType); 15] = [
        ("f32", &[3, 2], TensorType::F32),
        ("f16", &[4], TensorType::F16),
        ("bf16", &[3], TensorType::BF16),
        ("q4_0", &[32, 2], TensorType::Q4_0),
        ("q4_1", &[32, 2], TensorType::Q4_1),
        ("q5_0", &[32, 2], TensorType::Q5_0),
        ("q5_1", &[32, 2], TensorType::Q5_1),
        ("q8_0", &[32, 2], TensorType::Q8_0),
        ("q2_k", &[256, 2], TensorType::Q2_K),
        ("q3_k", &[256, 2], TensorType::Q3_K),
        ("q4_k", &[256, 2], TensorType::Q4_K),
        ("q5_k", &[256, 2], TensorType::Q5_K),
        ("q6_k", &[256, 2], TensorType::Q6_K),
        ("iq4_nl", &[32, 2], TensorType::IQ4_NL),
        ("iq4_xs", &[256, 2], TensorType::IQ4_XS),
    ];
    assert_eq!(shapes, expected);

    let data = fs::read(fixture("tensors.bin")).unwrap();
    let mut rest = data.as_slice();
    for info in file.tensors() {
        let (expected, after) = rest.split_at(info.n_bytes);
        assert_eq!(*file.bytes(info), *expected, "{}", info.name);
        rest = after;
    }
    assert!(rest.is_empty());
}

#[test]
fn versions_2_and_3_are_read() {
    for (name, version) in [("v2.gguf", 2), ("v3.gguf", 3)] {
        let file = open(name);
        assert_eq!((file.version(), file.alignment(), file.n_parts()), (version, 32, 1));
        assert!(!file.is_big_endian());
        assert!(file.warnings().is_empty());
        assert_contents(&file);
    }
}

#[test]
fn any_alignment_is_obeyed() {
    for (name, alignment) in [("align1.gguf", 1), ("align128.gguf", 128)] {
        let file = open(name);
        assert_eq!(file.alignment(), alignment);
        assert!(file.tensors().all(|t| t.offset.is_multiple_of(alignment)));
        assert_contents(&file);
    }
}

#[test]
fn big_endian_files_are_swapped_into_memory_with_a_warning() {
    let path = fixture("v3_big_endian.gguf");
    for mmap in [true, false] {
        let file = GgufFile::open_with(&path, OpenOptions { mmap }).unwrap();
        assert!(file.is_big_endian());
        // Copied, whether mapped or not.
        assert_eq!(file.n_copied_bytes() as u64, file.n_bytes());
        assert_eq!(file.n_resident_bytes(), file.n_copied_bytes());
        let [warning] = file.warnings() else { panic!("{:?}", file.warnings()) };
        assert!(warning.contains("v3_big_endian.gguf: the file is big-endian"), "{warning}");
        assert_contents(&file);
    }
}

#[test]
fn a_split_model_is_opened_from_its_first_part() {
    let file = open("split-00001-of-00003.gguf");
    assert_eq!(file.n_parts(), 3);
    let n_bytes: u64 =
        (1..=3).map(|i| fs::metadata(fixture(&format!("split-0000{i}-of-00003.gguf"))).unwrap().len()).sum();
    assert_eq!(file.n_bytes(), n_bytes);
    assert_eq!(file.tensor("f32").unwrap().part, 0);
    assert_eq!(file.tensor("iq4_xs").unwrap().part, 2);
    assert_contents(&file);
    file.check_unchanged().unwrap();
}

#[test]
fn reading_into_memory_gives_the_same_as_mapping() {
    for name in ["v3.gguf", "split-00001-of-00003.gguf"] {
        let file = GgufFile::open_with(fixture(name), OpenOptions { mmap: false }).unwrap();
        assert_contents(&file);
        file.prefetch();
        file.check_unchanged().unwrap();
    }
}

#[test]
fn a_built_in_file_is_used_in_place() {
    let bytes: &'static [u8] = fs::read(fixture("v3.gguf")).unwrap().leak();
    let file = GgufFile::from_static(bytes, "built-in").unwrap();
    assert_contents(&file);
    for info in file.tensors() {
        assert_eq!(file.bytes(info).as_ptr(), bytes[info.offset..].as_ptr());
    }
}

#[test]
fn tensor_bytes_outlive_the_file_that_gave_them() {
    let file = open("v3.gguf");
    let bytes = file.bytes(file.tensor("f16").unwrap());
    drop(file);
    let again = bytes.clone();
    drop(bytes);
    assert_eq!(again[..2], half::f16::from_f32(-1.5).to_le_bytes());
}

#[test]
fn a_vocabulary_of_131072_tokens_loads_within_a_blink() {
    let tokens: StrArray = (0..131_072).map(|i| format!("token {i}")).collect();
    let mut writer = bise_models::gguf::GgufWriter::new();
    writer.metadata_mut().set("tokenizer.ggml.tokens", Array::Str(tokens.clone()));
    let bytes = writer.write_all(Vec::new(), &[]).unwrap();
    // The best of three, on a machine that may be busy.
    let mut best = std::time::Duration::MAX;
    for _ in 0..3 {
        let bytes = bytes.clone();
        let start = std::time::Instant::now();
        let file = GgufFile::from_bytes(bytes, "vocabulary").unwrap();
        best = best.min(start.elapsed());
        assert_eq!(file.metadata().str_array("tokenizer.ggml.tokens").unwrap(), Some(&tokens));
    }
    assert!(best.as_millis() < 50, "{best:?}");
}

#[cfg(unix)]
#[test]
fn pages_can_be_fetched_ahead_and_locked() {
    let file = open("v3.gguf");
    file.prefetch();
    // A few kilobytes are within every default limit.
    file.mlock().unwrap();
    assert_contents(&file);
}

#[test]
fn a_download_that_aria2_has_not_finished_is_mentioned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::copy(fixture("v3.gguf"), &path).unwrap();
    fs::write(dir.path().join("m.gguf.aria2"), [0, 1]).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let [warning] = file.warnings() else { panic!("{:?}", file.warnings()) };
    assert!(
        warning.ends_with("m.gguf.aria2 says that the download of the model is not finished"),
        "{warning}"
    );
}
