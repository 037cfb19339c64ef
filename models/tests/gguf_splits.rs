//! Models in several files: the parts are found, also through links, and what is wrong with them is named.

use std::fs;
use std::path::Path;

use bise_models::gguf::GgufFile;

/// Writes the three parts of the fixture to a directory of their own, as `change` makes them.
fn parts(change: impl Fn(usize, &mut Vec<u8>)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for i in 1..=3 {
        let name = format!("split-0000{i}-of-00003.gguf");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(&name);
        let mut bytes = fs::read(from).unwrap();
        change(i, &mut bytes);
        fs::write(dir.path().join(&name), bytes).unwrap();
    }
    dir
}

/// Sets the value of `key`, which has `N` bytes.
fn set<const N: usize>(bytes: &mut [u8], key: &str, value: [u8; N]) {
    let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap() + key.len() + 4;
    bytes[at..at + N].copy_from_slice(&value);
}

/// Opening `name` in `dir` fails with `message`, where DIR stands for the directory.
#[track_caller]
fn refused(dir: &tempfile::TempDir, name: &str, message: &str) {
    let error = GgufFile::open(dir.path().join(name)).unwrap_err().to_string();
    assert_eq!(error.replace(&dir.path().display().to_string(), "DIR"), message);
}

#[test]
fn a_later_part_sends_to_the_first() {
    refused(
        &parts(|_, _| ()),
        "split-00002-of-00003.gguf",
        "DIR/split-00002-of-00003.gguf: split model: found part 2 of 3, \
         expected the first part, split-00001-of-00003.gguf",
    );
}

#[test]
fn a_missing_part_is_named() {
    let dir = parts(|_, _| ());
    fs::remove_file(dir.path().join("split-00003-of-00003.gguf")).unwrap();
    refused(
        &dir,
        "split-00001-of-00003.gguf",
        "DIR/split-00003-of-00003.gguf: split model: found no such file, \
         expected part 3 of 3, beside DIR/split-00001-of-00003.gguf: download all parts",
    );
}

#[test]
fn parts_joined_with_cat_are_named() {
    for name in ["model.gguf", "split-00001-of-00003.gguf"] {
        let dir = parts(|_, _| ());
        let part = |i: usize| fs::read(dir.path().join(format!("split-0000{i}-of-00003.gguf"))).unwrap();
        fs::write(dir.path().join(name), [part(1), part(2), part(3)].concat()).unwrap();
        refused(
            &dir,
            name,
            &format!(
                "DIR/{name}: found the 3 parts of a split model joined into one file, expected a GGUF model: \
                 parts are not joined with cat: give the first part with the others beside it, or join them \
                 with `bise merge FIRST OUT`"
            ),
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_the_first_part_is_as_good_as_its_name() {
    use std::os::unix::fs::symlink;

    let dir = parts(|_, _| ());
    let other = tempfile::tempdir().unwrap();
    let first = dir.path().join("split-00001-of-00003.gguf");
    symlink(&first, other.path().join("model.gguf")).unwrap();
    // A link to the link, relative; and one that is named like a part where there are no others.
    symlink("model.gguf", other.path().join("again.gguf")).unwrap();
    symlink(&first, other.path().join("mine-00001-of-00003.gguf")).unwrap();
    for name in ["model.gguf", "again.gguf", "mine-00001-of-00003.gguf"] {
        assert_eq!(GgufFile::open(other.path().join(name)).unwrap().tensors().len(), 15, "{name}");
    }
    // As the cache of Hugging Face has it: links with names, to files that have none.
    let cache = tempfile::tempdir().unwrap();
    for i in 1..=3 {
        let name = format!("split-0000{i}-of-00003.gguf");
        fs::copy(dir.path().join(&name), cache.path().join(format!("blob{i}"))).unwrap();
        symlink(format!("blob{i}"), cache.path().join(&name)).unwrap();
    }
    let file = GgufFile::open(cache.path().join("split-00001-of-00003.gguf")).unwrap();
    assert_eq!(file.tensors().len(), 15);
    // A circle is an error like any other.
    symlink("b.gguf", other.path().join("a.gguf")).unwrap();
    symlink("a.gguf", other.path().join("b.gguf")).unwrap();
    GgufFile::open(other.path().join("a.gguf")).unwrap_err();
}

#[test]
fn a_first_part_under_another_name_is_refused() {
    let dir = parts(|_, _| ());
    fs::rename(dir.path().join("split-00001-of-00003.gguf"), dir.path().join("model.gguf")).unwrap();
    refused(
        &dir,
        "model.gguf",
        "DIR/model.gguf: split model: found the first of 3 parts under another name, \
         expected a name that ends in -00001-of-00003.gguf, by which the other parts are found",
    );
}

#[test]
fn parts_of_different_models_are_told_apart() {
    let dir = parts(|i, bytes| {
        if i == 2 {
            set(bytes, "split.count", 4_u16.to_le_bytes())
        }
    });
    refused(
        &dir,
        "split-00001-of-00003.gguf",
        "DIR/split-00002-of-00003.gguf: key 'split.count': found 4, expected 3, as in the first part",
    );
    let dir = parts(|i, bytes| {
        if i == 2 {
            set(bytes, "split.no", 2_u16.to_le_bytes())
        }
    });
    refused(
        &dir,
        "split-00001-of-00003.gguf",
        "DIR/split-00002-of-00003.gguf: key 'split.no': found 2, expected 1, as in the name of the file",
    );
    let dir = parts(|i, bytes| {
        if i == 1 {
            set(bytes, "split.tensors.count", 16_i32.to_le_bytes())
        }
    });
    refused(
        &dir,
        "split-00001-of-00003.gguf",
        "DIR/split-00001-of-00003.gguf: key 'split.tensors.count': found 16, expected 15, the tensors of all parts",
    );
    let dir = parts(|i, bytes| {
        if i == 1 {
            set(bytes, "split.no", 3_u16.to_le_bytes())
        }
    });
    refused(
        &dir,
        "split-00001-of-00003.gguf",
        "DIR/split-00001-of-00003.gguf: key 'split.no': found 3, expected less than split.count, which is 3",
    );
}

#[test]
fn a_tensor_in_two_parts_is_refused() {
    let dir = parts(|i, bytes| {
        if i == 2 {
            // Its first tensor becomes the last one of the first part.
            let at = bytes.windows(4).position(|w| w == b"q5_1").unwrap();
            bytes[at..at + 4].copy_from_slice(b"q5_0");
        }
    });
    refused(
        &dir,
        "split-00001-of-00003.gguf",
        "DIR/split-00002-of-00003.gguf: tensor 'q5_0': found it again, \
         expected it only in DIR/split-00001-of-00003.gguf",
    );
}

#[test]
fn one_part_in_memory_is_no_model() {
    let dir = parts(|_, _| ());
    let bytes = fs::read(dir.path().join("split-00001-of-00003.gguf")).unwrap();
    let error = GgufFile::from_bytes(bytes, "m.gguf").unwrap_err().to_string();
    assert_eq!(
        error,
        "m.gguf: split model: found one of 3 parts, expected a whole model, since it is in memory"
    );
}
