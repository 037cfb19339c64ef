//! Any bytes at all are refused with one line, or read as a file that can be looked through, written and read again.

#![no_main]

use bise_models::gguf::check::check_tensor;
use bise_models::gguf::{GgufFile, GgufWriter, Metadata};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match GgufFile::from_bytes(bytes.to_vec(), "fuzz.gguf") {
        Ok(file) => {
            ask(file.metadata());
            for info in file.tensors() {
                let data = file.bytes(info);
                assert_eq!(data.len(), info.n_bytes);
                let _ = check_tensor(info.tensor_type, &data);
            }
            write_again(&file);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
});

/// Asks every key for every type: an answer or an error.
fn ask(metadata: &Metadata) {
    for (key, value) in metadata.iter() {
        let _ = value.describe();
        let _ = (metadata.u32(key), metadata.u64(key), metadata.f32(key), metadata.bool(key), metadata.str(key));
        let _ = (metadata.str_array(key), metadata.f32_array(key), metadata.i32_array(key));
    }
}

/// What the writer makes of `file` has the same contents; it may refuse an alignment that is not in a `u32`.
fn write_again(file: &GgufFile) {
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    // Padding to a hostile alignment would make the copy much larger than the file.
    if file.alignment() > 4096 {
        writer.metadata_mut().set("general.alignment", 1_u32);
    }
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, info.tensor_type).expect("a tensor as it was read");
    }
    let data: Vec<_> = file.tensors().map(|info| file.bytes(info)).collect();
    let data: Vec<&[u8]> = data.iter().map(|bytes| &**bytes).collect();
    let Ok(bytes) = writer.write_all(Vec::new(), &data) else { return };
    let again = GgufFile::from_bytes(bytes, "again.gguf").expect("what was written is read");
    for ((info, copy), data) in file.tensors().zip(again.tensors()).zip(data) {
        assert_eq!((&info.name, &info.shape, info.tensor_type), (&copy.name, &copy.shape, copy.tensor_type));
        assert_eq!(*again.bytes(copy), *data);
    }
    assert_eq!(again.tensors().len(), file.tensors().len());
}
