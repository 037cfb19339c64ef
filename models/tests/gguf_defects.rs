//! Each defect of a file is one line that names the file, the key or tensor, what was found and what was expected.

use std::fs;
use std::path::Path;

use bise_models::gguf::{GgufFile, GgufWriter, OpenOptions, TensorType};

/// The parts of a file, each of which a test can spoil.
#[derive(Clone)]
struct Raw {
    magic: [u8; 4],
    version: u32,
    n_tensors: u64,
    n_entries: u64,
    entries: Vec<u8>,
    descriptions: Vec<u8>,
    alignment: usize,
    data: Vec<u8>,
}

impl Raw {
    /// A sound file without keys or tensors.
    fn new() -> Raw {
        Raw {
            magic: *b"GGUF",
            version: 3,
            n_tensors: 0,
            n_entries: 0,
            entries: Vec::new(),
            descriptions: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
    }

    /// Adds a key with a value of type `id`, whose bytes are `value`.
    fn key(mut self, key: &[u8], id: u32, value: &[u8]) -> Raw {
        self.n_entries += 1;
        self.entries.extend(text(key));
        self.entries.extend(id.to_le_bytes());
        self.entries.extend(value);
        self
    }

    fn tensor(mut self, name: &str, shape: &[u64], id: u32, offset: u64) -> Raw {
        self.n_tensors += 1;
        self.descriptions.extend(text(name.as_bytes()));
        self.descriptions.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|size| self.descriptions.extend(size.to_le_bytes()));
        self.descriptions.extend(id.to_le_bytes());
        self.descriptions.extend(offset.to_le_bytes());
        self
    }

    fn data(mut self, n_bytes: usize) -> Raw {
        self.data = vec![0; n_bytes];
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.n_tensors.to_le_bytes());
        bytes.extend(self.n_entries.to_le_bytes());
        bytes.extend(&self.entries);
        bytes.extend(&self.descriptions);
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }

    #[track_caller]
    fn opens(&self) -> GgufFile {
        GgufFile::from_bytes(self.bytes(), "m.gguf").unwrap()
    }

    /// The file is refused with `message`.
    #[track_caller]
    fn fails(&self, message: &str) {
        refused(self.bytes(), message);
    }
}

#[track_caller]
fn refused(bytes: Vec<u8>, message: &str) {
    let error = GgufFile::from_bytes(bytes, "m.gguf").unwrap_err().to_string();
    assert_eq!(error, format!("m.gguf: {message}"));
    assert!(!error.contains('\n'));
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend(bytes);
    out
}

/// An array header: type of the elements and count.
fn array(id: u32, n: u64) -> Vec<u8> {
    let mut out = id.to_le_bytes().to_vec();
    out.extend(n.to_le_bytes());
    out
}

const U8: u32 = 0;
const U32: u32 = 4;
const BOOL: u32 = 7;
const STR: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;
const Q4_K: u32 = 12;

#[test]
fn the_sound_files_that_the_tests_spoil_open() {
    assert_eq!(Raw::new().opens().tensors().len(), 0);
    let file = Raw::new().key(b"k", U8, &[5]).tensor("t", &[4], F32, 0).data(16).opens();
    assert_eq!(file.metadata().u32("k").unwrap(), Some(5));
    assert_eq!(file.bytes(file.tensor("t").unwrap()).len(), 16);
    // A model of no tensors may end before the data section would begin.
    let raw = Raw { alignment: 1, ..Raw::new() };
    assert_eq!(raw.opens().n_bytes(), 24);
}

#[test]
fn another_kind_of_file_is_told_by_its_magic() {
    Raw { magic: *b"\xffG\x1bF", ..Raw::new() }
        .fails("magic: found \"\u{fffd}G\\u{1b}F\", expected \"GGUF\": this is not a GGUF file");
    Raw { magic: *b"PK\x03\x04", ..Raw::new() }
        .fails("found a zip archive, expected a GGUF model: unpack it first");
    Raw { magic: *b"tjgg", ..Raw::new() }.fails(
        "found a GGJT file, from before GGUF, expected a GGUF model: \
         the format was given up in August 2023: download the model as GGUF",
    );
    refused(
        b"Entry not found".to_vec(),
        "found a text that begins \"Entry not found\", expected a GGUF model: \
         download the file again, from its /resolve/ (not /blob/) address",
    );
    refused(
        b"GG".to_vec(),
        "magic: found the end of the file after 2 bytes, expected 4 bytes of the magic at byte 0",
    );
}

#[test]
fn unknown_versions_are_refused() {
    Raw { version: 1, ..Raw::new() }.fails(
        "version: found 1, expected 2 or 3 (version 1 was in use for a month of 2023: convert the model again)",
    );
    Raw { version: 4, ..Raw::new() }.fails("version: found 4, expected 2 or 3");
    Raw { version: 0, ..Raw::new() }.fails("version: found 0, expected 2 or 3");
    Raw { version: 9_u32.swap_bytes(), ..Raw::new() }.fails("version: found 9, expected 2 or 3");
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
    let n = 1_u64 << 63;
    Raw { n_tensors: n, ..Raw::new() }.fails(
        "number of tensors: found 9223372036854775808 tensors, \
         expected at most 0 in the 16 bytes that remain (is the download complete?)",
    );
    Raw { n_entries: u64::MAX, ..Raw::new() }.fails(
        "number of metadata entries: found 18446744073709551615 entries, \
         expected at most 0 in the 8 bytes that remain (is the download complete?)",
    );
    Raw::new().key(b"k", ARRAY, &array(U32, n)).fails(
        "key 'k': found 9223372036854775808 array elements, \
         expected at most 3 in the 15 bytes that remain (is the download complete?)",
    );
    Raw::new().key(b"k", STR, &n.to_le_bytes()).fails(
        "key 'k': found 9223372036854775808 bytes of text, \
         expected at most 19 in the 19 bytes that remain (is the download complete?)",
    );
    Raw { n_entries: 1, entries: n.to_le_bytes().into(), ..Raw::new() }.fails(
        "number of metadata entries: found 1 entries, \
         expected at most 0 in the 8 bytes that remain (is the download complete?)",
    );
}

#[test]
fn small_things_are_limited_in_number_since_they_take_more_memory_than_file() {
    let many = |n: u64, each: &[u8]| each.repeat(n as usize);
    let n = (1 << 16) + 1;
    Raw { n_entries: n, entries: many(n, &[0; 13]), ..Raw::new() }
        .fails("number of metadata entries: found 65537 entries, expected at most 65536");
    let n = (1 << 20) + 1;
    Raw { n_tensors: n, descriptions: many(n, &[0; 32]), ..Raw::new() }
        .fails("number of tensors: found 1048577 tensors, expected at most 1048576");
    let mut value = array(ARRAY, n);
    value.extend(many(n, &array(U8, 0)));
    Raw::new()
        .key(b"k", ARRAY, &value)
        .fails("key 'k': found 1048577 arrays in arrays, expected at most 1048576");
}

#[test]
fn values_of_unknown_type_are_refused() {
    Raw::new().key(b"k", 13, &[0; 8]).fails("key 'k': found value type 13, expected 0 to 12");
    Raw::new().key(b"k", ARRAY, &array(99, 0)).fails("key 'k': found value type 99, expected 0 to 12");
}

#[test]
fn truth_values_other_than_0_and_1_are_refused() {
    Raw::new().key(b"k", BOOL, &[2]).fails("key 'k': found bool 2, expected 0 or 1");
    let mut value = array(BOOL, 3);
    value.extend([1, 0, 7]);
    Raw::new().key(b"k", ARRAY, &value).fails("key 'k': found bool 7, expected 0 or 1");
}

#[test]
fn arrays_may_nest_eight_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let mut value: Vec<u8> = std::iter::repeat_n(array(ARRAY, 1), depth - 1).flatten().collect();
        value.extend(array(U8, 0));
        Raw::new().key(b"k", ARRAY, &value)
    };
    nested(8).opens();
    nested(9).fails("key 'k': found arrays nested more than 8 deep, expected at most 8");
    nested(1_000_000).fails("key 'k': found arrays nested more than 8 deep, expected at most 8");
}

#[test]
fn keys_are_utf_8_and_come_once() {
    Raw::new().key(b"\xff", U8, &[0]).fails("metadata entry 0: found the name \"\u{fffd}\", expected UTF-8");
    Raw::new()
        .key(b"k", U8, &[0])
        .key(b"k", U8, &[0])
        .fails("key 'k': found it twice, expected each key once");
}

#[test]
fn hostile_names_stay_on_their_line() {
    Raw::new()
        .key(b"a\n\x1b[2Jb", 77, &[])
        .fails("key 'a\\n\\u{1b}[2Jb': found value type 77, expected 0 to 12");
}

#[test]
fn the_alignment_is_a_power_of_two() {
    let aligned = |n: u32| Raw::new().key(b"general.alignment", U32, &n.to_le_bytes());
    aligned(0).fails("key 'general.alignment': found 0, expected a power of two");
    aligned(48).fails("key 'general.alignment': found 48, expected a power of two");
    Raw::new()
        .key(b"general.alignment", STR, &text(b"32"))
        .fails("key 'general.alignment': found str \"32\", expected an integer that fits usize");
    // The largest that can be said moves the data beyond any file.
    aligned(1 << 31).tensor("t", &[4], F32, 0).data(64).fails(
        "tensor 't': found 16 bytes of data at offset 0, \
         expected data inside the 0 bytes that there are for it; \
         the file has 160 bytes of 2147483664: is the download complete?",
    );
}

#[test]
fn shapes_have_one_to_four_dimensions_none_of_them_zero() {
    let shaped = |shape: &[u64]| Raw::new().tensor("t", shape, F32, 0).data(64);
    shaped(&[2, 2, 2, 2]).opens();
    Raw::new().tensor("t", &[], F32, 0).data(64).fails("tensor 't': found 0 dimensions, expected 1 to 4");
    shaped(&[1; 5]).fails("tensor 't': found 5 dimensions, expected 1 to 4");
    shaped(&[4, 0]).fails("tensor 't': found dimension 1 of size 0, expected 1 or more that fit in memory");
    shaped(&[1 << 32, 1 << 32]).fails(if cfg!(target_pointer_width = "32") {
        "tensor 't': found dimension 0 of size 4294967296, expected 1 or more that fit in memory"
    } else {
        "tensor 't': found shape [4294967296, 4294967296], expected a size that fits in memory"
    });
    // The product wraps around to zero.
    shaped(&[1 << 31, 1 << 31, 4])
        .fails("tensor 't': found shape [2147483648, 2147483648, 4], expected a size that fits in memory");
}

#[test]
fn rows_are_whole_blocks() {
    Raw::new()
        .tensor("t", &[128, 2], Q4_K, 0)
        .data(144)
        .fails("tensor 't': found rows of 128 elements, expected a multiple of 256, the block of Q4_K");
}

#[test]
fn unknown_tensor_types_are_named_by_their_id() {
    Raw::new()
        .tensor("t", &[4], 4, 0)
        .data(64)
        .fails("tensor 't': found type id 4, expected one of the tensor types of ggml");
    Raw::new()
        .tensor("t", &[4], 4242, 0)
        .data(64)
        .fails("tensor 't': found type id 4242, expected one of the tensor types of ggml");
}

#[test]
fn tensors_have_names_of_their_own() {
    Raw::new()
        .tensor("t", &[4], F32, 0)
        .tensor("t", &[4], F32, 32)
        .data(64)
        .fails("tensor 't': found it twice, expected each tensor once");
}

#[test]
fn data_lie_inside_the_file() {
    let at = |offset| Raw::new().tensor("t", &[4], F32, offset).data(64);
    at(32).opens();
    at(64).fails(
        "tensor 't': found 16 bytes of data at offset 64, expected data inside the 64 bytes that there are for it; \
         the file has 128 bytes of 144: is the download complete?",
    );
    at(u64::MAX - 31).fails(if cfg!(target_pointer_width = "32") {
        "tensor 't': found offset 18446744073709551584, expected at most 128"
    } else {
        "tensor 't': found 16 bytes of data at offset 18446744073709551584, \
         expected data inside the 64 bytes that there are for it"
    });
    // One byte short.
    at(32).data(47).fails(
        "tensor 't': found 16 bytes of data at offset 32, expected data inside the 47 bytes that there are for it; \
         the file has 111 bytes of 112: is the download complete?",
    );
    at(32).data(48).opens();
}

#[test]
fn data_are_aligned() {
    Raw::new()
        .tensor("t", &[4], F32, 16)
        .data(64)
        .fails("tensor 't': found offset 16, expected a multiple of the alignment 32");
}

#[test]
fn tensors_do_not_share_bytes() {
    // Described in the other order than they lie.
    Raw::new().tensor("b", &[4], F32, 32).tensor("a", &[12], F32, 0).data(64).fails(
        "tensor 'b': found data from byte 128 of the file, expected byte 144 or later, where tensor 'a' ends",
    );
    Raw::new().tensor("b", &[4], F32, 32).tensor("a", &[8], F32, 0).data(64).opens();
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let mut value = array(STR, 2);
    value.extend(text(b"one"));
    value.extend(text(b"two"));
    let bytes = Raw::new().key(b"k", ARRAY, &value).tensor("t", &[4], F32, 0).data(16).bytes();
    GgufFile::from_bytes(bytes.clone(), "m.gguf").unwrap();
    for n in 0..bytes.len() {
        let error = GgufFile::from_bytes(bytes[..n].to_vec(), "m.gguf").unwrap_err().to_string();
        assert!(
            error.starts_with("m.gguf: ") && error.contains("found") && error.contains("expected"),
            "{error}"
        );
    }
}

#[test]
fn big_endian_codebook_formats_are_refused() {
    let mut writer = GgufWriter::new();
    writer.add_tensor("t", &[256], TensorType::IQ2_XXS).unwrap();
    let mut bytes = writer.write_all(Vec::new(), &[&[0; 66]]).unwrap();
    GgufFile::from_bytes(bytes.clone(), "m.gguf").unwrap();
    // The same header in the other byte order: version, counts, name, dimensions, type, offset.
    for (at, width) in [(4, 4), (8, 8), (16, 8), (24, 8), (33, 4), (37, 8), (45, 4), (49, 8)] {
        bytes[at..at + width].reverse();
    }
    refused(
        bytes,
        "tensor 't': found type IQ2_XXS in a big-endian file, expected a little-endian file for this type",
    );
}

mod paths {
    use super::*;

    #[track_caller]
    fn refused(path: &Path, message: &str) {
        let error = GgufFile::open(path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {message}", path.display()));
    }

    #[test]
    fn what_is_not_a_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        refused(dir.path(), "found a directory, expected a GGUF model: give the path of a .gguf file");
        refused(&dir.path().join("none.gguf"), "cannot open: No such file or directory (os error 2)");
        let empty = dir.path().join("empty.gguf");
        fs::write(&empty, []).unwrap();
        refused(&empty, "found an empty file, expected a GGUF model: download the file again");
        let advice = format!("give the file in it, as in {}", empty.display());
        refused(dir.path(), &format!("found a directory, expected a GGUF model: {advice}"));
        #[cfg(unix)]
        {
            refused(
                Path::new("/dev/zero"),
                "found a pipe or device, expected a GGUF model: write it to a file first",
            );
            let link = dir.path().join("link.gguf");
            std::os::unix::fs::symlink("../blobs/4d7a", &link).unwrap();
            refused(
                &link,
                "found a symbolic link to ../blobs/4d7a, which does not exist, expected a GGUF model: \
                 download the file that it stands for",
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_without_waiting_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.gguf");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        refused(&pipe, "found a pipe or device, expected a GGUF model: write it to a file first");
    }

    /// A sound file in a directory of its own, opened.
    fn opened(mmap: bool) -> (tempfile::TempDir, std::path::PathBuf, GgufFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        fs::write(&path, Raw::new().tensor("t", &[4], F32, 0).data(16).bytes()).unwrap();
        let file = GgufFile::open_with(&path, OpenOptions { mmap }).unwrap();
        file.check_unchanged().unwrap();
        (dir, path, file)
    }

    fn edit(path: &Path) -> fs::File {
        fs::OpenOptions::new().write(true).open(path).unwrap()
    }

    #[test]
    fn a_mapped_file_of_another_size_is_noticed_before_it_is_read() {
        for size in [10, 81] {
            let (_dir, path, file) = opened(true);
            edit(&path).set_len(size).unwrap();
            let error = file.check_unchanged().unwrap_err().to_string();
            let expected = format!(
                "{}: the file changed while in use: found {size} bytes, expected 80 as when it was opened",
                path.display()
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_mapped_file_that_was_written_to_is_noticed_at_the_same_size() {
        let (_dir, path, file) = opened(true);
        let before = edit(&path).metadata().unwrap().modified().unwrap();
        edit(&path).set_modified(before + std::time::Duration::from_nanos(1_500_000_000)).unwrap();
        let error = file.check_unchanged().unwrap_err().to_string();
        assert!(error.contains("changed while in use: found modification time "), "{error}");
        // Reading is none.
        let (_dir, path, file) = opened(true);
        fs::read(&path).unwrap();
        file.check_unchanged().unwrap();
    }

    #[test]
    fn another_file_under_the_name_is_no_change_to_one_in_use() {
        let (dir, path, file) = opened(true);
        let other = dir.path().join("other");
        fs::write(&other, "x").unwrap();
        fs::rename(&other, &path).unwrap();
        file.check_unchanged().unwrap();
        assert_eq!(file.bytes(file.tensor("t").unwrap()).len(), 16);
    }

    #[test]
    fn a_file_in_memory_does_not_depend_on_the_one_on_disk() {
        let (_dir, path, file) = opened(false);
        edit(&path).set_len(0).unwrap();
        file.check_unchanged().unwrap();
        assert_eq!(*file.bytes(file.tensor("t").unwrap()), [0; 16]);
        #[cfg(unix)]
        file.mlock().unwrap();
    }
}

#[test]
fn a_model_has_no_more_parts_than_the_format_can_count() {
    let count = |n: u32| Raw::new().key(b"split.count", U32, &n.to_le_bytes());
    count(u32::MAX).fails("key 'split.count': found 4294967295, expected at most 65535 parts");
    count(65535)
        .fails("split model: found one of 65535 parts, expected a whole model, since it is in memory");
}

#[test]
#[cfg(target_pointer_width = "32")]
fn a_file_larger_than_all_addresses_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    // Holes take no room on the disk.
    std::fs::File::create(&path).unwrap().set_len(5 << 30).unwrap();
    for mmap in [true, false] {
        let error = GgufFile::open_with(&path, OpenOptions { mmap }).unwrap_err().to_string();
        let start = "found 5368709120 bytes, expected at most 2147483647, what a 32-bit program can address";
        assert!(error.contains(start), "{error}");
    }
}
