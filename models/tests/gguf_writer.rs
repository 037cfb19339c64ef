//! What the writer promises: gguf-py's bytes, whole files only, and nothing that the reader would refuse.

use std::fs;
use std::path::Path;

use bise_models::gguf::{Array, GgufFile, GgufWriter, TensorType, Value, WriteError};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

/// A writer with the metadata and tensors of `file`.
fn writer_like(file: &GgufFile) -> GgufWriter {
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, info.tensor_type).unwrap();
    }
    writer
}

#[test]
fn files_are_byte_for_byte_those_of_gguf_py() {
    for name in ["v3.gguf", "v3_big_endian.gguf", "align1.gguf", "align128.gguf"] {
        let file = GgufFile::open(fixture(name)).unwrap();
        let mut writer = writer_like(&file);
        if file.is_big_endian() {
            writer.big_endian();
        }
        let data: Vec<_> = file.tensors().map(|info| file.bytes(info)).collect();
        let data: Vec<&[u8]> = data.iter().map(|bytes| &**bytes).collect();
        let written = writer.write_all(Vec::new(), &data).unwrap();
        assert!(written == fs::read(fixture(name)).unwrap(), "{name}");
    }
}

#[test]
fn data_may_come_in_pieces_of_whole_blocks() {
    let file = GgufFile::open(fixture("v3_big_endian.gguf")).unwrap();
    let mut writer = writer_like(&file);
    writer.big_endian();
    let mut out = writer.start(Vec::new()).unwrap();
    for info in file.tensors() {
        for block in file.bytes(info).chunks(info.tensor_type.block_bytes()) {
            out.write(block).unwrap();
        }
    }
    assert!(out.finish().unwrap() == fs::read(fixture("v3_big_endian.gguf")).unwrap());
}

/// A writer that expects 8 bytes of `t`.
fn small() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.add_tensor("t", &[2], TensorType::F32).unwrap();
    writer
}

#[track_caller]
fn assert_error<T: std::fmt::Debug>(result: Result<T, WriteError>, message: &str) {
    assert_eq!(result.unwrap_err().to_string(), message);
}

#[test]
fn missing_or_excess_data_are_refused() {
    assert_error(small().write_all(Vec::new(), &[]), "tensor 't': found 0 bytes, expected 8");
    assert_error(small().write_all(Vec::new(), &[&[0; 4]]), "tensor 't': found 4 bytes, expected 8");
    assert_error(
        small().write_all(Vec::new(), &[&[0; 12]]),
        "tensor 't': found 12 bytes, expected at most 8, in whole blocks of 4",
    );
    assert_error(
        small().write_all(Vec::new(), &[&[0; 6]]),
        "tensor 't': found 6 bytes, expected at most 8, in whole blocks of 4",
    );
    assert_error(
        small().write_all(Vec::new(), &[&[0; 8], &[0; 4]]),
        "tensor '(after the last)': found 4 bytes, expected no more data",
    );
}

#[test]
fn what_the_reader_would_refuse_is_not_written() {
    let mut writer = small();
    assert_error(
        writer.add_tensor("t", &[1], TensorType::F32),
        "tensor 't': found it twice, expected each tensor once",
    );
    assert_error(
        writer.add_tensor("u", &[2, 0], TensorType::F32),
        "tensor 'u': found shape [2, 0], expected 1 to 4 sizes above zero",
    );
    assert_error(
        writer.add_tensor("u", &[1; 5], TensorType::F32),
        "tensor 'u': found shape [1, 1, 1, 1, 1], expected 1 to 4 sizes above zero",
    );
    assert_error(
        writer.add_tensor("u", &[100], TensorType::Q8_0),
        "tensor 'u': found rows of 100 elements, expected a multiple of 32, the block of Q8_0",
    );
    let huge = usize::MAX / 2 + 1;
    assert_error(
        writer.add_tensor("u", &[huge, 2], TensorType::I8),
        &format!("tensor 'u': found shape [{huge}, 2], expected a size that fits in memory"),
    );

    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("general.alignment", 48_u32);
    assert_error(
        writer.write_all(Vec::new(), &[]),
        "key 'general.alignment': found u32 48, expected a power of two in u32",
    );
    let deep = (0..8).fold(Array::U8(vec![1]), |inner, _| Array::Array(vec![inner]));
    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("k", Value::Array(deep));
    assert_error(
        writer.write_all(Vec::new(), &[]),
        "key 'k': found arrays nested more than 8 deep, expected at most 8",
    );
    let mut writer = GgufWriter::new();
    writer.add_tensor("t", &[256], TensorType::IQ1_M).unwrap();
    writer.big_endian();
    assert_error(
        writer.write_all(Vec::new(), &[&[0; 56]]),
        "tensor 't': found type IQ1_M for a big-endian file, expected little-endian for this type",
    );
}

#[test]
fn a_saved_file_is_whole_and_alone_in_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::write(&path, "what was there before").unwrap();
    small().save(&path, |out| out.write(&[1; 8])).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(*file.bytes(file.tensor("t").unwrap()), [1; 8]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_save_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    fs::write(&path, "what was there before").unwrap();
    let result: Result<(), WriteError> = small().save(&path, |out| out.write(&[1; 4]));
    assert_error(result, "tensor 't': found 4 bytes, expected 8");
    assert_eq!(fs::read_to_string(&path).unwrap(), "what was there before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let nowhere = dir.path().join("none").join("m.gguf");
    let message = small().save(&nowhere, |out| out.write(&[1; 8])).unwrap_err().to_string();
    assert!(message.contains("none") && message.contains("cannot create the file"), "{message}");
}
