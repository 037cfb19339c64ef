//! `bise split` and `bise merge`: the files of llama-gguf-split, and what cannot be done. `golden/gguf_split.py` asked it.

#![cfg(all(feature = "cli", feature = "quantize", feature = "builtin-model"))]

mod cli_support;

use std::collections::BTreeMap;
use std::path::Path;

use bise::gguf::{GgufFile, GgufWriter, TensorType};
use cli_support::Folder;

fn oracle(name: &str) -> String {
    format!("{}/models/tests/oracles/{name}.gguf", env!("CARGO_MANIFEST_DIR"))
}

/// Names, sizes and checksums of the files in a folder.
fn files(folder: &Folder) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder.path("")).unwrap().map(|entry| entry.unwrap());
    let described = entries.map(|entry| {
        let bytes = std::fs::read(entry.path()).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        (entry.file_name().into_string().unwrap(), format!("{}\t{:08x}", bytes.len(), crc.sum()))
    });
    described.collect()
}

fn names(folder: &Folder) -> Vec<String> {
    files(folder).into_keys().collect()
}

#[test]
fn files_are_those_of_llama_gguf_split() {
    let golden =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gguf_split.txt"));
    let mut cases: BTreeMap<(String, String), BTreeMap<String, String>> = BTreeMap::new();
    for line in golden.unwrap().lines() {
        let [model, flags, name, rest] = line.splitn(4, '\t').collect::<Vec<_>>().try_into().unwrap();
        let case = cases.entry((model.to_owned(), flags.to_owned())).or_default();
        case.insert(name.to_owned(), rest.to_owned());
    }
    assert!(cases.len() >= 9);
    for ((model, flags), expected) in cases {
        let folder = Folder::new();
        let source = match model.as_str() {
            "bise-tiny.Q4_K_M" => format!("{}/models/tiny/{model}.gguf", env!("CARGO_MANIFEST_DIR")),
            _ => oracle(&model),
        };
        let flags: Vec<&str> = flags.split_whitespace().collect();
        folder.bise([&["split"], &flags[..], &[&source, "part"]].concat()).ok();
        let first = names(&folder)[0].clone();
        folder.bise(["merge", &first, "merge"]).ok();
        assert_eq!(files(&folder), expected, "{model} {flags:?}");
        // What was merged is split as the source was, and runs.
        let again = Folder::new();
        std::fs::copy(folder.path("merge"), again.path("in.gguf")).unwrap();
        again.bise([&["split", "--split"], &flags[..], &["in.gguf", "part"]].concat()).ok();
        let mut again = files(&again);
        again.remove("in.gguf");
        assert!(again.iter().all(|(name, file)| expected[name] == *file), "{model} {flags:?}");
    }
}

#[test]
fn a_split_model_runs_and_is_divided_anew() {
    let folder = Folder::new();
    let tiny = folder.model();
    folder.bise(["split", "--split-max-tensors", "10", "model.gguf", "a"]).ok();
    let first = names(&folder)[0].clone();
    let say = |model: &str| {
        let args = ["-m", model, "-p", "Once upon a time", "-n", "6", "--temp", "0", "-no-cnv"];
        folder.bise(args).ok().text().to_owned()
    };
    assert_eq!(say(&first), say("model.gguf"));
    folder.bise(["split", "--split-max-tensors", "25", &first, "b"]).ok();
    folder.bise(["split", "--split-max-tensors", "25", "model.gguf", "c"]).ok();
    let all = files(&folder);
    let of = |prefix: &str| {
        all.iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, file)| file.clone())
            .collect::<Vec<_>>()
    };
    assert!(of("b-").len() > 1 && of("b-") == of("c-"));
    // Merging as llama-gguf-split spells it, and the parts gone.
    folder.bise(["split", "--merge", "--delete-splits", &first, "merged.gguf"]).ok();
    assert!(names(&folder).iter().all(|name| !name.starts_with("a-")));
    assert_eq!(say("merged.gguf"), say("model.gguf"));
    let (merged, tiny) = (GgufFile::open(folder.path("merged.gguf")).unwrap(), GgufFile::open(tiny).unwrap());
    for tensor in tiny.tensors() {
        assert!(*tiny.bytes(tensor) == *merged.bytes(merged.require_tensor(&tensor.name).unwrap()));
    }
}

#[test]
fn a_dry_run_prints_what_llama_gguf_split_prints_and_writes_nothing() {
    let folder = Folder::new();
    let ran = folder
        .bise(["split", "--dry-run", "--split-max-tensors", "20", &oracle("mixtral_split"), "part"])
        .ok();
    let lines: Vec<&str> = ran.text().lines().collect();
    let file = GgufFile::open(oracle("mixtral_split")).unwrap();
    assert_eq!(lines[0], format!("n_split: {}", file.tensors().len().div_ceil(20)));
    assert!(lines[1].starts_with("split 00001: n_tensors = 20, total_size = 0M"), "{lines:?}");
    assert_eq!(lines.len(), 1 + file.tensors().len().div_ceil(20));
    assert!(names(&folder).is_empty());
}

#[test]
fn tensors_larger_than_a_file_should_be_are_named_and_have_one_each() {
    let folder = Folder::new();
    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("general.architecture", "llama");
    let sizes = [300_000, 8, 300_000, 8, 8];
    for (i, size) in sizes.iter().enumerate() {
        writer.add_tensor(&format!("t{i}"), &[*size], TensorType::F32).unwrap();
    }
    let data = sizes.map(|size| vec![1; 4 * size]);
    let data = data.each_ref().map(Vec::as_slice);
    std::fs::write(folder.path("in.gguf"), writer.write_all(Vec::new(), &data).unwrap()).unwrap();
    let ran = folder.bise(["split", "--split-max-size", "1M", "in.gguf", "out"]).ok();
    for name in ["t0", "t2"] {
        let expected =
            format!("tensor '{name}' alone has 1200000 bytes: its file is larger than was asked for");
        assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    }
    assert_eq!(names(&folder).len(), 5);
    let last = GgufFile::open(folder.path("out-00001-of-00004.gguf")).unwrap();
    let parts: Vec<usize> = last.tensors().map(|tensor| tensor.part).collect();
    assert_eq!(parts, [0, 1, 2, 3, 3]);
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing_behind() {
    let folder = Folder::new();
    folder.model();
    let split = ["split", "--split-max-tensors", "10", "model.gguf"];
    folder.bise([&split[..], &["part"]].concat()).ok();
    let parts: Vec<String> = names(&folder).into_iter().filter(|name| name.starts_with("part")).collect();
    let (first, second) = (parts[0].as_str(), parts[1].as_str());
    let before = files(&folder);
    let cases: &[(&[&str], &str)] = &[
        (
            &["split", "--split-max-tensors", "10", "model.gguf", "part"],
            "found a file, expected none: --force",
        ),
        (
            &["split", "--force", "--split-max-tensors", "10", first, "part"],
            "found the source, expected another",
        ),
        (&["split", "none.gguf", "out"], "none.gguf"),
        (&["split", "model.gguf", "none/out"], "none/out-00001-of-00001.gguf: cannot create the file"),
        (
            &["merge", "model.gguf", "out.gguf"],
            "model.gguf: found a model in one file, expected the first file",
        ),
        (&["merge", second, "out.gguf"], "found part 2 of "),
        (&["merge", first, "model.gguf"], "model.gguf: found a file, expected none: --force"),
        (&["merge", "--force", first, second], "found the source, expected another file"),
        (&["merge", first, "/dev/full"], "No space left"),
        // What was written there is gone, and the parts would be, too.
        (
            &["merge", "--delete-splits", first, "/dev/null"],
            "/dev/null: found a pipe, a device or an open file",
        ),
        (
            &["merge", "--delete-splits", "--force", first, "/dev/stdout"],
            "/dev/stdout: found a pipe, a device",
        ),
    ];
    for (args, expected) in cases {
        let ran = folder.bise(*args);
        assert!(ran.error().contains(expected), "{args:?}: {}", ran.stderr);
        assert_eq!(files(&folder), before, "{args:?}");
    }
    let misuse: &[(&[&str], &str)] = &[
        (&["split", "--split-max-size", "4K", "model.gguf", "out"], "expected a whole number of M or G"),
        (&["split", "--split-max-tensors", "0", "model.gguf", "out"], "0 is not in 1.."),
        (
            &["split", "--split-max-tensors", "1", "--split-max-size", "1G", "model.gguf", "out"],
            "cannot be used with",
        ),
        (&["split", "--merge", "--split", first, "out.gguf"], "cannot be used with"),
        (&["split", "--delete-splits", "model.gguf", "out"], "--merge"),
    ];
    for (args, expected) in misuse {
        let ran = folder.bise(*args);
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{args:?}: {}", ran.stderr);
    }
    // A part that is missing, and one of another model.
    std::fs::rename(folder.path(second), folder.path("aside")).unwrap();
    let ran = folder.bise(["merge", first, "out.gguf"]);
    assert!(ran.error().contains(second) && ran.stderr.contains("no such file"), "{}", ran.stderr);
    std::fs::copy(folder.path(first), folder.path(second)).unwrap();
    let ran = folder.bise(["merge", first, "out.gguf"]);
    assert!(
        ran.error().contains(second) && ran.stderr.contains("'split.no': found 0, expected 1"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_part_of_another_quantization_is_named() {
    let folder = Folder::new();
    folder.model();
    let split = |model: &str, prefix: &str| {
        folder.bise(["split", "--split-max-tensors", "25", model, prefix]).ok();
    };
    split("model.gguf", "a");
    folder.bise(["quantize", "--allow-requantize", "model.gguf", "other.gguf", "Q8_0"]).ok();
    split("other.gguf", "b");
    let first = names(&folder).into_iter().find(|name| name.starts_with("a-")).unwrap();
    let ran = folder.bise(["merge", &first, "one.gguf"]).ok();
    assert!(!ran.stderr.contains("quantization"), "{}", ran.stderr);
    let second = first.replace("a-00001", "a-00002");
    std::fs::copy(folder.path(&second.replace("a-", "b-")), folder.path(&second)).unwrap();
    let ran = folder.bise(["merge", &first, "two.gguf"]).ok();
    assert!(
        ran.stderr.contains(&format!("{second}: found most weights in Q8_0, which no other")),
        "{}",
        ran.stderr
    );
}
