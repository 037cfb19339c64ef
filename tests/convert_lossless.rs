//! Checkpoints of integers as GGUF files that keep them: `bise convert --lossless`, and what `--outtype auto` does by itself.

#![cfg(all(feature = "cli", feature = "convert"))]

mod cli_support;
mod convert_support;

use bise::convert::{ConvertOptions, Lossless, OutType, convert};
use bise::gguf::{GgufFile, TensorInfo};
use bise::{Cancel, Threads};
use bise_kernels::{Format, KernelTable, dequantize_row};
use bise_models::{Mistral, MistralConfig};
use cli_support::{Folder, Ran};
use convert_support::{Family, Stored};
use safetensors::Dtype;
use serde_json::json;

/// Families of integers, with the type that holds them and its `general.file_type`.
const FAMILIES: [(&str, &str, u32); 5] = [
    ("gptq", "Q5_0", 8),
    ("mixtral-gptq", "Q5_0", 8),
    ("compressed-int4", "Q5_0", 8),
    ("compressed-int4-symmetric", "Q4_0", 2),
    ("compressed-int8", "Q8_0", 7),
];

/// The family as a file. Without a type, that is left to `auto`.
fn converted(family: &Family, folder: &Folder, out_type: &str, lossless: Option<Lossless>) -> GgufFile {
    converted_by(2, family, folder, out_type, lossless)
}

fn converted_by(
    threads: usize,
    family: &Family,
    folder: &Folder,
    out_type: &str,
    lossless: Option<Lossless>,
) -> GgufFile {
    let source = folder.path("source");
    std::fs::remove_dir_all(&source).ok();
    std::fs::create_dir(&source).unwrap();
    family.write(&source);
    let path = folder.path(&format!("{out_type}-{lossless:?}-{threads}.gguf"));
    let mut options = ConvertOptions::default();
    options.out_type = OutType::from_name(out_type).unwrap();
    options.lossless = lossless;
    options.force = true;
    let threads = Threads::new(threads).unwrap();
    convert(&source, &path, &options, &threads, &Cancel::new(), &mut |_, _| {}).unwrap();
    GgufFile::open(&path).unwrap()
}

fn weights(file: &GgufFile, tensor: &TensorInfo) -> Vec<f32> {
    let mut x = vec![0.0; tensor.shape.iter().product()];
    dequantize_row(tensor.tensor_type.format().unwrap(), &file.bytes(tensor), &mut x);
    x
}

fn is_linear(name: &str) -> bool {
    ["attn_q.", "attn_k.", "attn_v.", "attn_output.", "ffn_gate", "ffn_up", "ffn_down"]
        .iter()
        .any(|part| name.contains(part))
        && !name.contains("ffn_gate_inp")
}

fn file_type(file: &GgufFile) -> u32 {
    file.metadata().u32("general.file_type").unwrap().unwrap()
}

/// The F32 files are those of llama.cpp's converter (`tests/convert.rs`): rows of Q and K in pairs, experts stacked.
#[test]
fn kept_integers_are_the_weights_of_the_f32_file() {
    for (name, kept, id) in FAMILIES {
        let (family, folder) = (Family::load(name), Folder::new());
        let f32s = converted(&family, &folder, "f32", None);
        assert_eq!(file_type(&f32s), 0, "{name}");
        for (out_type, lossless, rest) in [
            ("auto", None, "BF16"),
            ("auto", Some(Lossless::Smallest), "BF16"),
            ("f16", Some(Lossless::Smallest), "F16"),
            ("f32", Some(Lossless::Smallest), "F32"),
        ] {
            let file = converted(&family, &folder, out_type, lossless);
            assert_eq!(file_type(&file), id, "{name}");
            let mut n_kept = 0;
            for tensor in file.tensors() {
                let place = format!("{name}, {out_type}: {}", tensor.name);
                let expected = f32s.require_tensor(&tensor.name).unwrap();
                if is_linear(&tensor.name) {
                    assert_eq!(tensor.tensor_type.name(), kept, "{place}");
                    assert!(weights(&file, tensor) == weights(&f32s, expected), "{place}");
                    n_kept += 1;
                } else if ["token_embd.weight", "output.weight"].contains(&&*tensor.name) {
                    assert_eq!(tensor.tensor_type.name(), rest, "{place}");
                } else {
                    assert_eq!(tensor.tensor_type.name(), "F32", "{place}");
                }
            }
            assert_eq!(n_kept, 14, "{name}");
            assert_eq!(file.tensors().len(), f32s.tensors().len());
            let config = MistralConfig::from_metadata(file.metadata()).unwrap();
            Mistral::load(&file, config, KernelTable::detect()).unwrap();
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for (name, ..) in FAMILIES {
        let (family, folder) = (Family::load(name), Folder::new());
        for out_type in ["auto", "q4_k_m", "bf16"] {
            converted_by(1, &family, &folder, out_type, None);
            converted_by(3, &family, &folder, out_type, None);
            let bytes = |threads: usize| {
                std::fs::read(folder.path(&format!("{out_type}-None-{threads}.gguf"))).unwrap()
            };
            assert!(bytes(1) == bytes(3), "{name}, {out_type}");
        }
    }
}

/// The integers of a GPTQ layer, `[n_in, n_out]`.
fn integers(qweight: &Stored) -> Vec<u8> {
    let [n_words, n_out] = qweight.shape[..] else { panic!("a matrix") };
    let mut q = vec![0; n_words * 8 * n_out];
    for (i, word) in qweight.bytes.as_chunks().0.iter().enumerate() {
        for nibble in 0..8 {
            let row = i / n_out * 8 + nibble;
            q[row * n_out + i % n_out] = (u32::from_le_bytes(*word) >> (4 * nibble)) as u8 & 15;
        }
    }
    q
}

/// `[n, n_out]` in AWQ's words of eight columns.
fn awq_words(q: &[u8]) -> Vec<u8> {
    let order = [0, 2, 4, 6, 1, 3, 5, 7];
    let word = |eight: &[u8]| (0..8).fold(0, |word, i| word | u32::from(eight[order[i]]) << (4 * i));
    q.chunks_exact(8).flat_map(|eight| word(eight).to_le_bytes()).collect()
}

/// The zero points of a GPTQ layer, `[n_groups, n_out]`.
fn zero_points(qzeros: &Stored) -> Vec<u8> {
    qzeros.bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect()
}

#[test]
fn awq_and_gptq_of_the_same_integers_become_the_same_file() {
    for name in ["gptq", "mixtral-gptq"] {
        let (mut gptq, folder) = (Family::load(name), Folder::new());
        gptq.config()["quantization_config"]["checkpoint_format"] = json!("gptq_v2");
        let mut awq = Family::load(name);
        awq.config()["quantization_config"] = json!({ "quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": true, "version": "gemm" });
        for tensor in &mut awq.files[0].1 {
            if tensor.name.ends_with(".qweight") {
                tensor.bytes = awq_words(&integers(tensor));
                tensor.shape = vec![tensor.shape[0] * 8, tensor.shape[1] / 8];
            } else if tensor.name.ends_with(".qzeros") {
                tensor.bytes = awq_words(&zero_points(tensor));
            }
        }
        awq.files[0].1.retain(|tensor| !tensor.name.ends_with(".g_idx"));
        for (out_type, lossless) in [("auto", None), ("f32", None), ("q4_1", Some(Lossless::Smallest))] {
            let from_gptq = converted(&gptq, &folder, out_type, lossless);
            let from_awq = converted(&awq, &Folder::new(), out_type, lossless);
            for tensor in from_gptq.tensors() {
                let other = from_awq.require_tensor(&tensor.name).unwrap();
                assert_eq!((tensor.tensor_type, &tensor.shape), (other.tensor_type, &other.shape), "{name}");
                assert!(*from_gptq.bytes(tensor) == *from_awq.bytes(other), "{name}: {}", tensor.name);
            }
            assert_eq!(file_type(&from_gptq), file_type(&from_awq));
        }
    }
}

#[test]
fn q4_1_is_within_its_bound() {
    for name in ["gptq", "compressed-int4", "compressed-int4-symmetric"] {
        let (family, folder) = (Family::load(name), Folder::new());
        let f32s = converted(&family, &folder, "f32", None);
        for lossless in [Lossless::Smallest, Lossless::In(Format::Q4_1)] {
            let file = converted(&family, &folder, "q4_1", Some(lossless));
            assert_eq!(file_type(&file), 3);
            for tensor in file.tensors().filter(|tensor| is_linear(&tensor.name)) {
                assert_eq!(tensor.tensor_type.name(), "Q4_1");
                let exact = weights(&f32s, f32s.require_tensor(&tensor.name).unwrap());
                let bytes = file.bytes(tensor);
                for (i, (x, y)) in weights(&file, tensor).iter().zip(&exact).enumerate() {
                    let block = &bytes[i / 32 * 20..];
                    let mut min = [0.0];
                    dequantize_row(Format::F16, &block[2..4], &mut min);
                    // Once where the min is rounded, and once where the weight is computed in f32.
                    let bound = min[0].abs() * 2f32.powi(-11) * 1.001 + y.abs() * 2f32.powi(-23);
                    assert!((x - y).abs() <= bound, "{name}, {}, {i}: {x} for {y}", tensor.name);
                }
            }
        }
    }
}

/// Runs `bise convert` over the family.
fn run(family: &Family, folder: &Folder, flags: &[&str]) -> Ran {
    let source = folder.path("source");
    if !source.exists() {
        std::fs::create_dir(&source).unwrap();
        family.write(&source);
    }
    folder.bise([&["convert", "source", "-o", "out.gguf", "--force"], flags].concat())
}

#[test]
fn flags_say_which_blocks_integers_are_kept_in_and_what_the_rest_becomes() {
    let (asymmetric, symmetric, bytes) =
        (Family::load("gptq"), Family::load("compressed-int4-symmetric"), Family::load("compressed-int8"));
    // Linear layers, embedding, and general.file_type.
    for (family, flags, linear, embedding, id) in [
        (&asymmetric, &[][..], "Q5_0", "BF16", 8),
        (&asymmetric, &["--lossless"], "Q5_0", "BF16", 8),
        (&asymmetric, &["--lossless", "--outtype", "q5_0"], "Q5_0", "Q5_0", 8),
        (&asymmetric, &["--lossless", "--outtype", "q8_0"], "Q8_0", "Q8_0", 7),
        (&asymmetric, &["--lossless=q5_0", "--outtype", "q8_0"], "Q5_0", "Q8_0", 8),
        (&asymmetric, &["--lossless=q4_1", "--outtype", "f16"], "Q4_1", "F16", 3),
        (&asymmetric, &["--lossless=Q4_1"], "Q4_1", "BF16", 3),
        (&asymmetric, &["--outtype", "f16"], "F16", "F16", 1),
        (&asymmetric, &["--outtype", "q8_0"], "Q8_0", "Q8_0", 7),
        (&symmetric, &["--lossless"], "Q4_0", "BF16", 2),
        (&symmetric, &["--lossless", "--outtype", "q4_0"], "Q4_0", "Q4_0", 2),
        (&symmetric, &["--lossless=q5_0"], "Q5_0", "BF16", 8),
        (&bytes, &["--lossless"], "Q8_0", "BF16", 7),
        (&bytes, &["--lossless", "--outtype", "q8_0"], "Q8_0", "Q8_0", 7),
    ] {
        let folder = Folder::new();
        run(family, &folder, flags).ok();
        let file = GgufFile::open(folder.path("out.gguf")).unwrap();
        let type_of = |name: &str| file.require_tensor(name).unwrap().tensor_type.name();
        let found = (type_of("blk.1.ffn_up.weight"), type_of("token_embd.weight"), file_type(&file));
        assert_eq!(found, (linear, embedding, id), "{flags:?}");
    }
    // Integers that are made weights and quantized anew are others than those that are kept.
    let bytes_of = |flags: &[&str]| {
        let folder = Folder::new();
        run(&asymmetric, &folder, flags).ok();
        let file = GgufFile::open(folder.path("out.gguf")).unwrap();
        file.bytes(file.require_tensor("blk.0.attn_q.weight").unwrap()).to_vec()
    };
    assert_ne!(bytes_of(&["--outtype", "q5_0"]), bytes_of(&["--lossless", "--outtype", "q5_0"]));
}

#[test]
fn what_cannot_be_kept_is_an_error_where_it_must_be_and_a_line_where_not() {
    let (mut family, folder) = (Family::load("compressed-int4-symmetric"), Folder::new());
    // 1.5 · 2⁻²⁴ in BF16.
    let scales = family.tensor("model.layers.1.self_attn.k_proj.weight_scale");
    scales.bytes[6..8].copy_from_slice(&0x33c0_u16.to_le_bytes());
    let error = run(&family, &folder, &["--lossless"]);
    let said = "layer 'model.layers.1.self_attn.k_proj': the scale 8.940697e-8 of row 1, group 1 is not exactly a half";
    assert!(error.error().contains(said) && error.error().contains("without --lossless"), "{error:?}");
    assert!(!folder.path("out.gguf").exists());
    let auto = run(&family, &folder, &[]).ok();
    assert!(auto.stderr.contains(said), "{}", auto.stderr);
    let file = GgufFile::open(folder.path("out.gguf")).unwrap();
    let type_of = |name: &str| file.require_tensor(name).unwrap().tensor_type.name();
    assert_eq!((type_of("blk.1.attn_k.weight"), type_of("blk.0.attn_k.weight")), ("BF16", "Q4_0"));
    assert_eq!(file_type(&file), 2);
    // One line for all layers.
    for layer in 0..2 {
        let scales = family.tensor(&format!("model.layers.{layer}.mlp.up_proj.weight_scale"));
        scales.bytes[6..8].copy_from_slice(&0x33c0_u16.to_le_bytes());
    }
    std::fs::remove_dir_all(folder.path("source")).unwrap();
    let several = run(&family, &folder, &[]).ok();
    assert_eq!(several.stderr.matches("not exactly a half").count(), 1, "{}", several.stderr);
    assert!(several.stderr.contains("(and 2 more tensors likewise)"), "{}", several.stderr);
    let explicit = run(&family, &folder, &["--outtype", "f32"]).ok();
    assert!(!explicit.stderr.contains("not exactly"), "{}", explicit.stderr);

    let folder = Folder::new();
    let error = run(&Family::load("gptq"), &folder, &["--lossless=q4_0"]);
    assert!(error.error().contains("Q4_0 is for 8 alone"), "{error:?}");
    let error = run(&Family::load("gptq"), &folder, &["--lossless=q6_k"]);
    assert!(error.code == 2 && error.stderr.contains("expected one of q4_0, q4_1, q5_0, q8_0"), "{error:?}");
    for plain in ["nemo-f16", "fp8-blocks", "native-v0.1"] {
        let error = run(&Family::load(plain), &Folder::new(), &["--lossless"]);
        assert!(error.error().contains("no integers") && error.error().contains("AWQ, GPTQ"), "{error:?}");
    }
}

/// Turns the matrices whose names end so into integers of `n_bits`, in groups of 32 with the zero point in the middle.
fn pack(family: &mut Family, n_bits: usize, is_chosen: impl Fn(&str) -> bool) {
    let tensors = &mut family.files[0].1;
    let chosen: Vec<Stored> = tensors.iter().filter(|t| is_chosen(&t.name)).cloned().collect();
    tensors.retain(|t| !is_chosen(&t.name));
    for matrix in chosen {
        let (n_out, n_in) = (matrix.shape[0], matrix.shape[1]);
        let part = |end: &str, dtype, shape| Stored::new(&format!("{}_{end}", matrix.name), dtype, shape);
        let mut shape = part("shape", Dtype::I64, vec![2]);
        shape.bytes = [n_out as i64, n_in as i64].iter().flat_map(|n| n.to_le_bytes()).collect();
        tensors.push(part("packed", Dtype::I32, vec![n_out, n_in * n_bits / 32]));
        tensors.push(part("scale", Dtype::F16, vec![n_out, n_in / 32]));
        tensors.push(shape);
    }
}

#[test]
fn experts_of_4_and_of_8_bits_become_one_tensor_that_holds_both() {
    let (mut family, folder) = (Family::load("mixtral"), Folder::new());
    pack(&mut family, 8, |name| name.contains(".experts.1."));
    pack(&mut family, 4, |name| name.contains(".experts.") && name.ends_with(".weight"));
    let group = |n: u32| json!({ "weights": { "num_bits": n, "type": "int", "strategy": "group", "group_size": 32, "symmetric": true } });
    family.config().insert(
        "quantization_config".to_owned(),
        json!({ "quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": { "a": group(4), "b": group(8) } }),
    );
    let f32s = converted(&family, &folder, "f32", None);
    for lossless in [None, Some(Lossless::Smallest)] {
        let file = converted(&family, &folder, "auto", lossless);
        for tensor in file.tensors().filter(|tensor| tensor.name.contains("_exps.")) {
            assert_eq!(tensor.tensor_type.name(), "Q8_0", "{}", tensor.name);
            let expected = weights(&f32s, f32s.require_tensor(&tensor.name).unwrap());
            assert!(weights(&file, tensor) == expected, "{}", tensor.name);
        }
    }
}

#[test]
fn checkpoints_that_are_refused_leave_nothing_behind() {
    let refused = |name: &str, change: &dyn Fn(&mut Family), parts: &[&str]| {
        let (mut family, folder) = (Family::load(name), Folder::new());
        change(&mut family);
        for flags in [&[][..], &["--lossless"], &["--outtype", "f16"]] {
            let ran = run(&family, &folder, flags);
            for part in parts {
                assert!(ran.error().contains(part), "{part}: {ran:?}");
            }
            let left: Vec<_> =
                std::fs::read_dir(folder.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, ["source"], "{ran:?}");
        }
    };
    let reordered =
        |family: &mut Family| family.tensor("model.layers.1.mlp.down_proj.g_idx").bytes[4 * 40] = 0;
    refused(
        "gptq",
        &reordered,
        &["model.layers.1.mlp.down_proj.g_idx", "act-order", "column 40", "desc_act false"],
    );
    let unset = |family: &mut Family| {
        family.tensor("model.layers.1.mlp.down_proj.g_idx").bytes.fill(0xff);
    };
    refused("gptq", &unset, &["model.layers.1.mlp.down_proj.g_idx", "column 0 belongs to group -1"]);
    let method = |value: serde_json::Value| {
        move |family: &mut Family| family.config()["quantization_config"] = value.clone()
    };
    refused(
        "gptq",
        &method(json!({ "quant_method": "exl2", "bits": 4.0 })),
        &["config.json", "exl2", "convert the checkpoint"],
    );
    refused("gptq", &method(json!({ "quant_method": "bitsandbytes" })), &["bitsandbytes", "table of floats"]);
    refused("gptq", &method(json!({ "quant_method": "gptq", "bits": 3 })), &["GPTQ with 3 bits"]);
    refused(
        "gptq",
        &method(json!({ "quant_method": "awq", "bits": 4, "group_size": 32 })),
        &["q_proj.q", "rows of 8 weights", "multiples of 32"],
    );
    refused(
        "gptq",
        &|family| drop(family.config().remove("quantization_config")),
        &["config.json: 'quantization_config'"],
    );
    let missing =
        |family: &mut Family| family.files[0].1.retain(|t| t.name != "model.layers.0.mlp.up_proj.scales");
    refused("gptq", &missing, &["model.layers.0.mlp.up_proj.scales", "no such tensor"]);
    let nan = |family: &mut Family| {
        family.tensor("model.layers.0.mlp.up_proj.scales").bytes[..2]
            .copy_from_slice(&0x7e00_u16.to_le_bytes())
    };
    refused("gptq", &nan, &["model.layers.0.mlp.up_proj.scales", "NaN in row 0, group 0", "finite scales"]);
    let other = |family: &mut Family| {
        let shape = family.tensor("model.layers.0.mlp.up_proj.weight_shape");
        shape.bytes[0] = 95;
    };
    refused("compressed-int4", &other, &["model.layers.0.mlp.up_proj.weight_shape", "[95, 64]", "96 rows"]);
    // A layer of another size than the configuration says.
    let narrow = |family: &mut Family| {
        for (part, shape) in [("qweight", vec![8, 64]), ("qzeros", vec![2, 8]), ("scales", vec![2, 64])] {
            let (dtype, tensor) = {
                let tensor = family.tensor(&format!("model.layers.0.mlp.up_proj.{part}"));
                (tensor.dtype, tensor)
            };
            let n_bytes = shape.iter().product::<usize>() * if dtype == Dtype::F16 { 2 } else { 4 };
            tensor.shape = shape;
            tensor.bytes.truncate(n_bytes);
        }
    };
    refused(
        "gptq",
        &narrow,
        &["model.layers.0.mlp.up_proj.qweight", "[64, 64]", "[96, 64], as config.json says"],
    );
}
