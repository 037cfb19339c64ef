//! `bise inspect` and [`bise::inspect`]: hashes, a walk through all weights, differences, histograms.

#![cfg(all(feature = "cli", feature = "compare", feature = "builtin-model"))]

mod cli_support;

use std::path::Path;

use bise::gguf::{GgufFile, GgufWriter, TensorType};
use bise::inspect::{Verified, difference, histogram, verify};
use bise::{Cancel, Threads};
use cli_support::Folder;
use serde_json::Value;

const ORACLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tests/oracles");
/// What gguf-hash prints; `golden/gguf_hash.sh` made it.
const HASHES: &str = include_str!("golden/gguf_hash.txt");

fn verified(file: &GgufFile) -> Verified {
    verify(file, &Threads::new(2).unwrap(), &Cancel::new(), &mut |_| {}).unwrap()
}

#[test]
fn hashes_are_those_of_gguf_hash() {
    let folder = Folder::new();
    let bytes = std::fs::read(Path::new(ORACLES).join("plain_f16.gguf")).unwrap();
    folder.write("plain_f16.gguf", &bytes);
    let ran = folder.bise(["inspect", "plain_f16.gguf", "--hash", "all,uuid"]).ok();
    assert_eq!(ran.text(), HASHES);
    let lines = |kind: &str, only_whole: bool| -> String {
        let ours = |line: &&str| line.starts_with(kind) && !(only_whole && line.contains(':'));
        HASHES.lines().filter(ours).map(|line| format!("{line}\n")).collect()
    };
    // The kind may be left out, before a file too.
    let ran = folder.bise(["inspect", "--hash", "plain_f16.gguf"]).ok();
    assert_eq!(ran.text(), lines("xxh64", false));
    let ran = folder.bise(["inspect", "plain_f16.gguf", "--hash", "sha256", "--no-layer"]).ok();
    assert_eq!(ran.text(), lines("sha256", true));
    let ran = folder.bise(["inspect", "plain_f16.gguf", "--hash", "sha1", "--json"]).ok();
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    assert!(HASHES.contains(report["hashes"]["sha1"].as_str().unwrap()));
    assert!(HASHES.contains(report["tensors"]["output_norm.weight"]["sha1"].as_str().unwrap()));

    folder.write("manifest", HASHES);
    let ran = folder.bise(["inspect", "plain_f16.gguf", "-c", "manifest"]).ok();
    let ok: String = lines("sha256", false).lines().map(|line| format!("{line}  -  Ok\n")).collect();
    assert_eq!(ran.text(), ok);
    // One bit of the last tensor is another.
    let mut changed = bytes;
    *changed.last_mut().unwrap() ^= 1;
    folder.write("plain_f16.gguf", changed);
    let ran = folder.bise(["inspect", "plain_f16.gguf", "--check", "manifest", "--hash", "xxh64"]);
    assert!(ran.error().contains("found 2 hashes that differ"), "{}", ran.stderr);
    assert_eq!(ran.text().matches("  -  Mismatch\n").count(), 2);
    assert_eq!(ran.text().matches("  -  Ok\n").count(), 20);
    folder.write("other.gguf", std::fs::read(folder.path("plain_f16.gguf")).unwrap());
    let ran = folder.bise(["inspect", "other.gguf", "--check", "manifest"]);
    assert!(ran.error().contains("nothing about it"), "{}", ran.stderr);
    folder.write("empty", "no hashes\n");
    for (manifest, words) in [("empty", "found no hash"), ("absent", "cannot read the manifest")] {
        let ran = folder.bise(["inspect", "plain_f16.gguf", "--check", manifest]);
        assert!(ran.error().contains(words), "{}", ran.stderr);
    }
    for mode in [&["--no-layer"][..], &["--no-layer", "--verify"], &["--no-layer", "--histogram"]] {
        let ran = folder.bise([&["inspect", "plain_f16.gguf"], mode].concat());
        assert!(ran.misuse().contains("--no-layer"), "{}", ran.stderr);
    }
    for mode in ["--verify", "--hash", "--histogram"] {
        let ran = folder.bise(["inspect", "plain_f16.gguf", mode, "--check-tensors"]);
        assert!(ran.misuse().contains("--check-tensors"), "{}", ran.stderr);
    }
    assert_eq!(folder.bise(["inspect", "plain_f16.gguf", "--hash", "md5"]).code, 2);
}

#[test]
fn sound_files_are_sound() {
    let mut n = 0;
    for entry in std::fs::read_dir(ORACLES).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            let found = verified(&GgufFile::open(&path).unwrap());
            assert!(found.faults.is_empty() && found.not_checked.is_empty(), "{}: {found:?}", path.display());
            n += 1;
        }
    }
    assert!(n >= 10);
    let folder = Folder::new();
    let ran = folder.bise(["inspect", "--verify"]).ok();
    assert!(ran.text().ends_with(": sound\n"), "{}", ran.text());
}

#[test]
fn whatever_is_unsound_is_found() {
    let folder = Folder::new();
    let path = folder.model();
    let good = std::fs::read(&path).unwrap();
    let faults = |bytes: Vec<u8>| -> Vec<(String, String)> {
        let found = verified(&GgufFile::from_bytes(bytes, "model").unwrap());
        found.faults.into_iter().map(|fault| (fault.tensor.unwrap_or_default(), fault.what)).collect()
    };
    let file = GgufFile::open(&path).unwrap();
    let tensor = file.require_tensor("blk.3.ffn_gate.weight").unwrap();
    assert_eq!(tensor.tensor_type, TensorType::Q4_K);
    let block = tensor.offset + 5 * 144;
    // Scales: NaN, and halves whose products are beyond halves.
    for (halves, what) in [
        ([0x7e00_u16, 0], "found NaN in block 5 (Q4_K)"),
        ([0, 0xfc00], "found -inf in block 5 (Q4_K)"),
        ([0x7bff, 0], "in block 5 or behind it (Q4_K), expected scales that keep weights below 65504"),
    ] {
        let mut bad = good.clone();
        for (at, half) in [block, block + 2].into_iter().zip(halves) {
            bad[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
        let found = faults(bad);
        assert!(found.len() == 1 && found[0].0 == tensor.name && found[0].1.contains(what), "{found:?}");
    }
    // Part of a download that is missing.
    let embedding = file.require_tensor("token_embd.weight").unwrap();
    let mut bad = good.clone();
    // The tensor of 4096 x 256 weights is smaller than the file's largest holes may be, so take one whole.
    bad[embedding.offset..embedding.offset + embedding.n_bytes].fill(0);
    let found = faults(bad);
    assert_eq!(embedding.n_bytes >= 1 << 20, !found.is_empty(), "{found:?}");

    // A tensor that the architecture needs.
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    let mut data = Vec::new();
    for tensor in file.tensors().filter(|tensor| tensor.name != "blk.2.attn_k.weight") {
        writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type).unwrap();
        data.push(file.bytes(tensor));
    }
    let slices: Vec<&[u8]> = data.iter().map(|bytes| &bytes[..]).collect();
    let found = faults(writer.write_all(Vec::new(), &slices).unwrap());
    assert!(found.len() == 1 && found[0].1.contains("blk.2.attn_k.weight"), "{found:?}");

    let mut bad = good;
    bad[block..block + 2].copy_from_slice(&[0, 0x7c]);
    folder.write("bad.gguf", bad);
    let ran = folder.bise(["inspect", "bad.gguf", "--verify", "--json"]);
    assert!(ran.error().contains("bad.gguf: found 1 fault,"), "{}", ran.stderr);
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((&report["sound"], &report["faults"][0]["tensor"]), (&false.into(), &tensor.name[..].into()));
}

#[test]
fn long_runs_of_zeros_are_found_wherever_they_begin() {
    let holes = |from: usize, to: usize| {
        let mut writer = GgufWriter::new();
        writer.metadata_mut().set("general.architecture", "test");
        // 4 MiB of halves: four slabs.
        writer.add_tensor("x", &[1 << 21], TensorType::F16).unwrap();
        let mut data = vec![0x11_u8; 4 << 20];
        data[from..to].fill(0);
        let bytes = writer.write_all(Vec::new(), &[&data]).unwrap();
        let found = verified(&GgufFile::from_bytes(bytes, "x").unwrap());
        // The architecture is not known, which is no fault of the file.
        assert_eq!(found.not_checked.len(), 1);
        found.faults.iter().map(|fault| fault.what.clone()).collect::<Vec<_>>()
    };
    let mib = 1 << 20;
    assert!(holes(0, 0).is_empty() && holes(mib, 2 * mib - 2048).is_empty());
    for (from, to) in [
        (0, mib),
        (512, 3 * mib),
        (mib / 2 + 1024, 2 * mib),
        (3 * mib, 4 * mib),
        (2 * mib + 2048, 4 * mib),
        (0, 4 * mib),
    ] {
        let found = holes(from, to);
        let first = from.next_multiple_of(1024) / 2;
        let words =
            format!("{} bytes of zeros in a row from weight {first} on", to - from.next_multiple_of(1024));
        assert!(found.len() == 1 && found[0].contains(&words), "{from}..{to}: {found:?}");
    }
}

/// A file of two tensors, the first of the given type.
fn two(name: &str, key: u32, tensor_type: TensorType, x: &[u8], y: &[f32]) -> GgufFile {
    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("general.architecture", "llama");
    writer.metadata_mut().set("llama.block_count", key);
    writer.add_tensor("x", &[4, 2], tensor_type).unwrap();
    writer.add_tensor(&format!("y{key}"), &[y.len()], TensorType::F32).unwrap();
    writer.add_tensor("z", &[y.len()], TensorType::F32).unwrap();
    let y: Vec<u8> = y.iter().flat_map(|y| y.to_le_bytes()).collect();
    GgufFile::from_bytes(writer.write_all(Vec::new(), &[x, &y, &y]).unwrap(), name).unwrap()
}

#[test]
fn differences_are_those_of_the_weights() {
    let f32s = |x: &[f32]| -> Vec<u8> { x.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let f16s = |x: &[f32]| -> Vec<u8> {
        x.iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect()
    };
    let a = two("a", 1, TensorType::F32, &f32s(&[1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.5, 8.0]), &[1.0, 2.0]);
    // As BF16, of which all of these are.
    let b =
        two("b", 2, TensorType::BF16, &f16s(&[1.0, 2.0, 3.5, 4.0, -1.0, 0.0, 0.5, 6.0]), &[1.0, 2.0, 3.0]);
    let threads = Threads::new(2).unwrap();
    let of = |a: &GgufFile, b: &GgufFile| difference(a, b, &threads, &Cancel::new(), &mut |_| {}).unwrap();
    let found = of(&a, &b);
    let keys: Vec<_> = found.keys.iter().map(|key| key.key.as_str()).collect();
    assert_eq!(keys, ["llama.block_count"]);
    let names: Vec<_> =
        found.tensors.iter().map(|t| (t.name.as_str(), t.first.is_some(), t.second.is_some())).collect();
    assert_eq!(names, [("x", true, true), ("y1", true, false), ("z", true, true), ("y2", false, true)]);
    // numpy: e = [0, 0, .5, 0, 0, 0, 0, -2]; sqrt(mean(e^2)) and, by sqrt(mean(a^2)) = sqrt(95.25 / 8)
    let error = found.tensors[0].error.unwrap();
    assert_eq!((error.max, error.max_at, error.n_different), (2.0, 7, 2));
    assert!((error.rms - 0.728_868_986_855_662_5).abs() < 1e-12, "{error:?}");
    assert!((error.relative - (4.25_f64 / 95.25).sqrt()).abs() < 1e-12, "{error:?}");
    assert!(found.tensors[2].error.is_none(), "shapes differ");
    let same = of(&a, &a);
    assert!(same.is_none() && same.n_same == 3);
    // Another type for the same weights is a difference without an error.
    let c = two("c", 1, TensorType::BF16, &f16s(&[1.0, 2.0, 3.0, 4.0, -1.0, 0.0, 0.5, 8.0]), &[1.0, 2.0]);
    let found = of(&a, &c);
    assert_eq!((found.tensors.len(), found.n_same), (1, 2));
    assert_eq!(found.tensors[0].error.unwrap(), bise::inspect::WeightError::default());
}

#[test]
fn files_that_differ_say_so_in_a_line_and_an_exit_code() {
    let folder = Folder::new();
    let model = folder.model();
    let path = model.to_str().unwrap();
    assert!(folder.bise(["inspect", path, "--diff", path]).ok().text().starts_with("the same: 75 tensors"));
    let file = GgufFile::open(&model).unwrap();
    let tensor = file.require_tensor("blk.1.attn_q.weight").unwrap();
    let mut bytes = std::fs::read(&model).unwrap();
    bytes[tensor.offset + 20] ^= 1;
    folder.write("other.gguf", bytes);
    let ran = folder.bise(["inspect", path, "--diff", "other.gguf"]);
    assert!(ran.error().contains("found 0 keys and 1 tensors that differ"), "{}", ran.stderr);
    assert!(
        ran.text().starts_with("blk.1.attn_q.weight") && ran.text().contains(", 1 weights"),
        "{}",
        ran.text()
    );
    let ran = folder.bise(["inspect", path, "--diff", "other.gguf", "--json"]);
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((&report["equal"], &report["tensors"][0]["error"]["n_different"]), (&false.into(), &1.into()));
    assert!(folder.bise(["inspect", path, "--diff", "none.gguf"]).error().contains("none.gguf"));
    assert_eq!(folder.bise(["inspect", path, "--diff", path, "--verify"]).code, 2);
}

#[test]
fn scales_are_counted_by_their_magnitude() {
    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("general.architecture", "test");
    writer.add_tensor("a", &[32, 4], TensorType::Q8_0).unwrap();
    writer.add_tensor("b", &[32], TensorType::Q8_0).unwrap();
    writer.add_tensor("c", &[3], TensorType::F32).unwrap();
    let block = |half: u16| [&half.to_le_bytes()[..], &[7; 32]].concat();
    // 1, -1.5, 0 and infinity; 2^-24; 0.75, 1 and -4.
    let a = [0x3c00, 0xbe00, 0, 0x7c00].map(block).concat();
    let c: Vec<u8> = [0.75_f32, 1.0, -4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let bytes = writer.write_all(Vec::new(), &[&a, &block(1), &c]).unwrap();
    let file = GgufFile::from_bytes(bytes, "x").unwrap();
    let of = |by_tensor| {
        histogram(&file, by_tensor, &Threads::new(2).unwrap(), &Cancel::new(), &mut |_| {}).unwrap()
    };
    let types = of(false);
    assert_eq!(types.len(), 2);
    let q8_0 = &types[0];
    assert_eq!((q8_0.n(), q8_0.zeros, q8_0.negative, q8_0.not_finite), (5, 1, 1, 1));
    assert_eq!(q8_0.powers, [(-24, 1), (0, 2)]);
    assert_eq!(q8_0.range, Some((2f64.powi(-24), 1.5)));
    assert_eq!(types[1].powers, [(-1, 1), (0, 1), (2, 1)]);
    let tensors = of(true);
    let names: Vec<_> = tensors.iter().map(|h| (h.tensor.as_deref().unwrap(), h.n())).collect();
    assert_eq!(names, [("a", 4), ("b", 1), ("c", 3)]);

    let folder = Folder::new();
    let ran = folder.bise(["inspect", "--histogram"]).ok();
    assert!(
        ran.text().contains("Q4_K: ") && ran.text().contains("2^-") && ran.text().contains('█'),
        "{}",
        ran.text()
    );
    let ran = folder.bise(["inspect", "--histogram", "tensor", "--json"]).ok();
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!(report["histograms"].as_array().unwrap().len(), 75);
}

#[test]
fn a_check_says_what_was_not_checked() {
    let folder = Folder::new();
    folder.write("m.gguf", std::fs::read(Path::new(ORACLES).join("plain_f16.gguf")).unwrap());
    let all = folder.bise(["inspect", "m.gguf", "--hash"]).ok().text().to_owned();
    let n = all.lines().count();
    let (whole, tensors): (Vec<&str>, Vec<&str>) = all.lines().partition(|line| !line.contains(':'));
    let check = |manifest: &str, more: &[&str]| {
        folder.write("manifest", manifest);
        folder.bise([&["inspect", "m.gguf", "-c", "manifest"], more].concat())
    };
    let ran = check(&all, &["--hash=sha256"]);
    assert!(ran.error().contains("manifest: found hashes of kind xxh64, expected sha256"), "{}", ran.stderr);
    let ran = check(&all, &["--hash=all"]).ok();
    assert!(ran.stderr.contains("sha1, sha256 is not checked"), "{}", ran.stderr);
    let ran = check(tensors[0], &[]);
    assert!(ran.error().contains(&format!("1 of {n} hashes checked: found no xxh64 of")), "{}", ran.stderr);
    // The hash of all tensors stands for each.
    let ran = check(whole[0], &[]).ok();
    assert!(ran.stderr.contains(&format!("1 of {n} hashes checked, those of all")), "{}", ran.stderr);
    check(whole[0], &["--no-layer"]).ok();
    let ran = check(&format!("{all}xxh64 0123 m.gguf:more.weight\n"), &[]);
    assert!(ran.error().contains("a hash of tensor 'more.weight'"), "{}", ran.stderr);
    let changed = tensors[0].replacen(tensors[0].split_whitespace().nth(1).unwrap(), "00", 1);
    let ran = check(&changed, &[]);
    assert!(ran.error().contains("found 1 hash that differs"), "{}", ran.stderr);
    #[cfg(unix)]
    {
        assert!(std::process::Command::new("mkfifo").arg(folder.path("fifo")).status().unwrap().success());
        for manifest in ["fifo", "/dev/zero", "."] {
            let ran = folder.bise(["inspect", "m.gguf", "-c", manifest]);
            assert!(ran.error().contains("expected a manifest in a file"), "{}", ran.stderr);
        }
    }
    std::fs::File::create(folder.path("large")).unwrap().set_len((64 << 20) + 1).unwrap();
    let ran = folder.bise(["inspect", "m.gguf", "-c", "large"]);
    assert!(ran.error().contains("large: found more than 67108864 bytes"), "{}", ran.stderr);
}

#[test]
fn spare_rows_of_the_vocabulary_are_not_certain() {
    let mib = 1 << 20;
    let found = |name: &str, holes: &[(usize, usize)]| {
        let mut writer = GgufWriter::new();
        writer.metadata_mut().set("general.architecture", "test");
        writer.add_tensor(name, &[512, 4096], TensorType::F16).unwrap();
        let mut data = vec![0x11_u8; 4 * mib];
        holes.iter().for_each(|&(from, to)| data[from..to].fill(0));
        let bytes = writer.write_all(Vec::new(), &[&data]).unwrap();
        let found = verified(&GgufFile::from_bytes(bytes, "x").unwrap());
        (found.faults.len(), found.not_certain.len())
    };
    for name in ["token_embd.weight", "output.weight"] {
        assert_eq!(found(name, &[]), (0, 0));
        assert_eq!(found(name, &[(3 * mib, 4 * mib)]), (0, 1), "{name}");
        assert_eq!(found(name, &[(mib, 4 * mib)]), (0, 1), "{name}");
        assert_eq!(found(name, &[(mib, 2 * mib), (2 * mib + 4096, 4 * mib)]), (1, 1), "{name}");
        assert_eq!(found(name, &[(mib, 2 * mib)]), (1, 0), "{name}");
        assert_eq!(found(name, &[(0, 4 * mib)]), (1, 0), "{name}");
    }
    assert_eq!(found("blk.0.ffn_up.weight", &[(3 * mib, 4 * mib)]), (1, 0));
}
