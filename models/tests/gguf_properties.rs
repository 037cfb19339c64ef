//! Properties of the reader on files at random: it never panics, allocates in proportion to the file, and reads
//! back what the writer wrote.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use bise_models::gguf::{Array, GgufFile, GgufWriter, StrArray, TensorType, Value};
use proptest::collection::vec;
use proptest::prelude::*;

/// The system's allocator, which also keeps the sum of what the current thread holds, and the peak.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call goes to `System` unchanged; counting touches thread-local cells without destructors only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: `ptr` came from `System` through `alloc`, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens `bytes` and, if that works, looks at everything; returns the peak of memory held meanwhile, in bytes.
fn read_all(bytes: Vec<u8>) -> (isize, Result<GgufFile, String>) {
    let before = HELD.get();
    PEAK.set(before);
    let result = GgufFile::from_bytes(bytes, "m.gguf");
    let peak = PEAK.get() - before;
    let result = result.map_err(|error| error.to_string());
    if let Ok(file) = &result {
        let sum: usize = file.tensors().map(|info| file.bytes(info).len()).sum();
        assert!(sum as u64 <= file.n_bytes());
        assert!(file.metadata().iter().all(|(_, value)| !value.describe().is_empty()));
    }
    (peak, result)
}

/// What the reader may hold for a file of `n_bytes`: descriptions in memory are larger than in the file (a tensor's
/// takes 40 bytes there and some 250 here, with the index), by a constant factor. Error messages take some too.
fn allowance(n_bytes: usize) -> isize {
    (16 * n_bytes + 16384).cast_signed()
}

/// How many cases: `default`, or `PROPTEST_CASES` if that is more.
fn n_cases(default: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or(0).max(default)
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)).unwrap()
}

/// A change to a sound file: bytes overwritten somewhere, by values that hurt.
fn change() -> impl Strategy<Value = (prop::sample::Index, Vec<u8>)> {
    let word = prop_oneof![
        any::<u64>().prop_map(|n| n.to_le_bytes().to_vec()),
        (0..64_u32).prop_map(|bit| (1_u64 << bit).to_le_bytes().to_vec()),
        (0..64_u32).prop_map(|bit| (u64::MAX >> bit).to_be_bytes().to_vec()),
        (0..16_u32).prop_map(|n| n.to_le_bytes().to_vec()),
        vec(any::<u8>(), 1..4),
    ];
    (any::<prop::sample::Index>(), word)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(n_cases(3000)))]

    #[test]
    fn spoiled_files_are_refused_or_read_without_panic_or_large_allocation(
        big_endian: bool,
        changes in vec(change(), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = fixture(if big_endian { "v3_big_endian.gguf" } else { "v3.gguf" });
        let n_header = 1700; // changes to weights teach nothing
        for (at, word) in changes {
            let at = at.index(n_header);
            bytes[at..at + word.len()].copy_from_slice(&word);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let n_bytes = bytes.len();
        let (peak, result) = read_all(bytes);
        prop_assert!(peak <= allowance(n_bytes), "{peak} bytes for a file of {n_bytes}");
        if let Err(message) = result {
            prop_assert!(message.starts_with("m.gguf: ") && message.lines().count() == 1, "{}", message);
            prop_assert!(message.contains("found") && message.contains("expected"), "{}", message);
        }
    }

    #[test]
    fn noise_after_a_sound_start_does_no_harm(
        n_tensors in 0..4_u64,
        n_entries in 0..4_u64,
        noise in vec(prop_oneof![Just(0_u8), 0..16_u8, any::<u8>()], 0..400),
    ) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(n_tensors.to_le_bytes());
        bytes.extend(n_entries.to_le_bytes());
        bytes.extend(noise);
        let n_bytes = bytes.len();
        let (peak, _) = read_all(bytes);
        prop_assert!(peak <= allowance(n_bytes), "{peak} bytes for a file of {n_bytes}");
    }
}

fn array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..5).prop_map(Array::U8),
        vec(any::<i8>(), 0..5).prop_map(Array::I8),
        vec(any::<u16>(), 0..5).prop_map(Array::U16),
        vec(any::<i16>(), 0..5).prop_map(Array::I16),
        vec(any::<u32>(), 0..5).prop_map(Array::U32),
        vec(any::<i32>(), 0..5).prop_map(Array::I32),
        vec(any::<u64>(), 0..5).prop_map(Array::U64),
        vec(any::<i64>(), 0..5).prop_map(Array::I64),
        vec(any::<f32>(), 0..5).prop_map(Array::F32),
        vec(any::<f64>(), 0..5).prop_map(Array::F64),
        vec(any::<bool>(), 0..5).prop_map(Array::Bool),
        vec(vec(any::<u8>(), 0..9), 0..5).prop_map(|texts| Array::Str(texts.iter().collect::<StrArray>())),
    ];
    leaf.prop_recursive(7, 20, 4, |inner| vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Str(bytes.into())),
        array().prop_map(Value::Array),
    ]
}

/// A type the writer can swap, so that either byte order will do, and a shape of whole blocks.
fn description() -> impl Strategy<Value = (TensorType, Vec<usize>)> {
    let types = || TensorType::ALL.iter().copied().filter(|t| t.format().is_some()).collect::<Vec<_>>();
    (prop::sample::select(types()), vec(1..4_usize, 1..5)).prop_map(|(t, mut shape)| {
        shape[0] *= t.block_len();
        (t, shape)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(n_cases(300)))]

    #[test]
    fn what_is_written_is_read_back(
        entries in prop::collection::btree_map("[a-z.]{1,12}", value(), 0..6),
        descriptions in vec(description(), 0..4),
        log_alignment in 0..8_u32,
        big_endian: bool,
        seed: u8,
    ) {
        let mut writer = GgufWriter::new();
        writer.metadata_mut().set("general.alignment", 1_u32 << log_alignment);
        for (key, value) in &entries {
            writer.metadata_mut().set(key, value.clone());
        }
        let mut data = Vec::new();
        for (i, (t, shape)) in descriptions.iter().enumerate() {
            writer.add_tensor(&format!("t{i}"), shape, *t).unwrap();
            let n_bytes = t.bytes_for(shape.iter().product()).unwrap();
            data.push((0..n_bytes).map(|j| (j as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<u8>>());
        }
        if big_endian {
            writer.big_endian();
        }
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let bytes = writer.write_all(Vec::new(), &slices).unwrap();
        let file = GgufFile::from_bytes(bytes, "m.gguf").unwrap();

        prop_assert_eq!(file.is_big_endian(), big_endian);
        // Debug text, since NaN differs from itself; it tells every float from every other.
        let found: Vec<_> = file.metadata().iter().skip(1).map(|(k, v)| format!("{k}: {v:?}")).collect();
        let expected: Vec<_> = entries.iter().map(|(k, v)| format!("{k}: {v:?}")).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(file.tensors().len(), descriptions.len());
        for ((info, (t, shape)), bytes) in file.tensors().zip(&descriptions).zip(&data) {
            prop_assert_eq!((info.tensor_type, &info.shape), (*t, shape));
            prop_assert!(info.offset.is_multiple_of(1 << log_alignment));
            prop_assert_eq!(&*file.bytes(info), bytes.as_slice());
        }
    }
}

#[test]
fn a_file_of_nothing_but_descriptions_stays_within_the_allowance() {
    // The worst a file can do: names as short as they can be, in each of the three ways a file can list things.
    let mut tensors = GgufWriter::new();
    let mut entries = GgufWriter::new();
    tensors.metadata_mut().set("general.alignment", 1_u32);
    for i in 0..2000 {
        tensors.add_tensor(&format!("{i:x}"), &[1], TensorType::I8).unwrap();
        entries.metadata_mut().set(&format!("{i:x}"), 0_u8);
    }
    let mut nested = GgufWriter::new();
    nested.metadata_mut().set("k", Value::Array(Array::Array(vec![Array::U8(Vec::new()); 2000])));
    let one: &[u8] = &[0];
    for (writer, data) in [(tensors, vec![one; 2000]), (entries, vec![]), (nested, vec![])] {
        let bytes = writer.write_all(Vec::new(), &data).unwrap();
        let n_bytes = bytes.len();
        let (peak, result) = read_all(bytes);
        result.unwrap();
        assert!(peak <= allowance(n_bytes), "{peak} bytes for a file of {n_bytes}");
    }
}
