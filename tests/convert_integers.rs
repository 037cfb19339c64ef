//! Layers that AWQ, GPTQ and compressed-tensors have quantized: the integers and scales of `tests/convert_integers/pack.py`, to the bit.
#![cfg(feature = "convert")]

#[path = "convert_integers/refused.rs"]
mod refused;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bise::convert::ConvertError;
use bise::convert::integers::{PackedLinear, Scheme, StoredTensor, Tensors};
use bise_kernels::{Format, dequantize_row};
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn find(folder: &Path, config: Value) -> Result<Option<Scheme>, ConvertError> {
    Scheme::find(folder, config.as_object().unwrap())
}

/// A checkpoint of one layer, `l`, and what it holds.
struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Stored>,
    config: Value,
    format: Format,
    group: usize,
}

#[derive(Clone)]
struct Stored {
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Checkpoint {
    fn read(name: &str) -> Checkpoint {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/convert_integers/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let stored = |view: safetensors::tensor::TensorView<'_>| Stored {
            dtype: format!("{:?}", view.dtype()),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        Checkpoint {
            tensors: tensors.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect(),
            config: serde_json::from_str(&metadata["config"]).unwrap(),
            format: *Format::ALL.iter().find(|format| format.to_string() == metadata["format"]).unwrap(),
            group: metadata["group"].parse().unwrap(),
            path,
        }
    }

    fn scheme(&self) -> Result<Option<Scheme>, ConvertError> {
        find(Path::new("no-such-folder"), json!({ "quantization_config": self.config }))
    }

    fn open(&self) -> Result<PackedLinear<'_>, ConvertError> {
        self.scheme()?.expect("it is quantized").open(&self, "l")
    }

    fn refusal(&self) -> String {
        self.open().err().expect("the layer is refused").to_string()
    }

    fn expected(&self, what: &str) -> &[u8] {
        &self.tensors[&format!("expected.{what}")].bytes
    }

    fn expected_scales(&self) -> Vec<f32> {
        self.expected("scale").as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn tensor_mut(&mut self, name: &str) -> &mut Stored {
        self.tensors.get_mut(&format!("l.{name}")).unwrap()
    }

    /// The weights, `(q − z) · s`.
    fn weights(&self) -> Vec<f32> {
        let (scales, zeros) = (self.expected_scales(), self.expected("zero"));
        let weight = |(i, q): (usize, &u8)| {
            (f32::from(*q) - f32::from(zeros[i / self.group])) * scales[i / self.group]
        };
        self.expected("q").iter().enumerate().map(weight).collect()
    }
}

impl<'a> Tensors<'a> for &'a Checkpoint {
    fn tensor(&self, name: &str) -> Option<StoredTensor<'a>> {
        let stored = self.tensors.get(name)?;
        Some(StoredTensor {
            path: &self.path,
            dtype: &stored.dtype,
            shape: &stored.shape,
            bytes: &stored.bytes,
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

const LAYERS: [&str; 23] = [
    "awq_gemm_g32",
    "awq_gemm_g64",
    "awq_gemm_g128",
    "awq_gemm_row",
    "awq_gemm_symmetric",
    "awq_gemv_g32",
    "awq_gemv_g64",
    "awq_gemv_g128",
    "awq_gemv_fast_g32",
    "awq_gemv_fast_g128",
    "compressed_symmetric_g32",
    "compressed_symmetric_row",
    "compressed_asymmetric_g128",
    "compressed_asymmetric_g64_int8",
    "compressed_8_bits_g64",
    "compressed_int8",
    "gptq_v1_g32",
    "gptq_v1_g128",
    "gptq_v1_row",
    "gptq_v1_symmetric",
    "gptq_v1_8_bits",
    "gptq_v1_by_gptqmodel",
    "gptq_v2_g64",
];

/// Every row alone, some at odd places, and all.
fn ranges(n_out: usize) -> Vec<std::ops::Range<usize>> {
    let mut all: Vec<_> = (0..n_out).map(|row| row..row + 1).collect();
    all.extend([0..n_out, 1..n_out, 0..n_out - 1, n_out / 3..n_out - 1, 2..2]);
    all
}

fn encoded(linear: &PackedLinear<'_>, rows: std::ops::Range<usize>, format: Format) -> Vec<u8> {
    let mut out = vec![0; rows.len() * format.row_bytes(linear.n_in()).unwrap()];
    linear.encode(rows, format, &mut out);
    out
}

fn dequantized(format: Format, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    dequantize_row(format, bytes, &mut out);
    out
}

#[test]
fn integers_zero_points_and_scales_are_those_that_were_packed() {
    for name in LAYERS {
        let checkpoint = Checkpoint::read(name);
        let linear = checkpoint.open().unwrap_or_else(|error| panic!("{name}: {error}"));
        let shape = &checkpoint.tensors["expected.q"].shape;
        assert_eq!([linear.n_out(), linear.n_in()], shape[..], "{name}");
        assert_eq!((linear.name(), linear.group_len()), ("l", checkpoint.group), "{name}");
        let n_groups = linear.n_in() / linear.group_len();
        let scales = checkpoint.expected_scales();
        for row in 0..linear.n_out() {
            for group in 0..n_groups {
                let at = row * n_groups + group;
                assert_eq!(
                    linear.zero_point(row, group),
                    u16::from(checkpoint.expected("zero")[at]),
                    "{name} {row} {group}"
                );
                assert_eq!(linear.scale(row, group).to_bits(), scales[at].to_bits(), "{name} {row} {group}");
            }
        }
        for rows in ranges(linear.n_out()) {
            let mut q = vec![0xff; rows.len() * linear.n_in()];
            linear.integers(rows.clone(), &mut q);
            assert_eq!(
                q,
                checkpoint.expected("q")[rows.start * linear.n_in()..rows.end * linear.n_in()],
                "{name} {rows:?}"
            );
        }
    }
}

#[test]
fn exact_blocks_are_equal_to_the_bit() {
    let mut formats = Vec::new();
    for name in LAYERS {
        let checkpoint = Checkpoint::read(name);
        let linear = checkpoint.open().unwrap();
        let format = linear.exact_format().unwrap();
        assert_eq!(format, checkpoint.format, "{name}");
        formats.push(format);
        let row_bytes = format.row_bytes(linear.n_in()).unwrap();
        for rows in ranges(linear.n_out()) {
            let expected = &checkpoint.expected("blocks")[rows.start * row_bytes..rows.end * row_bytes];
            assert_eq!(encoded(&linear, rows.clone(), format), expected, "{name} {rows:?}");
        }
        let weights = dequantized(format, checkpoint.expected("blocks"), linear.n_out() * linear.n_in());
        assert_eq!(weights, checkpoint.weights(), "{name}");
    }
    for format in [Format::Q4_0, Format::Q5_0, Format::Q8_0] {
        assert!(formats.contains(&format), "{format}");
    }
}

#[test]
fn weights_are_the_integers_times_the_scales() {
    for name in LAYERS {
        let checkpoint = Checkpoint::read(name);
        let linear = checkpoint.open().unwrap();
        let weights = checkpoint.weights();
        for rows in ranges(linear.n_out()) {
            let mut out = vec![f32::NAN; rows.len() * linear.n_in()];
            linear.dequantize(rows.clone(), &mut out);
            assert_eq!(out, weights[rows.start * linear.n_in()..rows.end * linear.n_in()], "{name} {rows:?}");
        }
    }
}

/// Blocks that are larger than they need to be: Q5_0 and Q8_0 of symmetric integers, Q8_0 of 4 bits.
#[test]
fn larger_blocks_hold_the_same_weights() {
    for name in LAYERS {
        let checkpoint = Checkpoint::read(name);
        let linear = checkpoint.open().unwrap();
        let others: &[Format] = if linear.n_bits() == 4 { &[Format::Q5_0, Format::Q8_0] } else { &[] };
        for &format in others {
            linear.check_format(format).unwrap();
            let bytes = encoded(&linear, 0..linear.n_out(), format);
            let weights = dequantized(format, &bytes, linear.n_out() * linear.n_in());
            assert_eq!(weights, checkpoint.weights(), "{name} {format}");
        }
    }
}

#[test]
fn q4_1_keeps_integers_and_scales_and_rounds_the_min_alone() {
    let mut any_rounded = false;
    for name in LAYERS {
        let checkpoint = Checkpoint::read(name);
        let linear = checkpoint.open().unwrap();
        if linear.n_bits() == 8 {
            let error = linear.check_format(Format::Q4_1).unwrap_err().to_string();
            assert!(error.contains("Q4_1 has no blocks for integers of 8 bits"), "{error}");
            continue;
        }
        linear.check_format(Format::Q4_1).unwrap();
        let bytes = encoded(&linear, 0..linear.n_out(), Format::Q4_1);
        let (scales, zeros, q) =
            (checkpoint.expected_scales(), checkpoint.expected("zero"), checkpoint.expected("q"));
        let mut largest = 0f32;
        for (b, block) in bytes.chunks_exact(20).enumerate() {
            let at = 32 * b / checkpoint.group;
            let half = |at: usize| dequantized(Format::F16, &block[at..at + 2], 1)[0];
            assert_eq!(half(0).to_bits(), scales[at].to_bits(), "{name} block {b}");
            let min = f32::from(zeros[at]) * scales[at];
            let rounded = (half(2) + min).abs();
            // Half a unit in the last of the 11 digits of a half; min is at least 2⁻¹⁴ here.
            assert!(rounded <= min * 2f32.powi(-11), "{name} block {b}: {rounded:e} of {min:e}");
            largest = largest.max(rounded);
            for i in 0..16 {
                assert_eq!(block[4 + i] & 15, q[32 * b + i], "{name} block {b}");
                assert_eq!(block[4 + i] >> 4, q[32 * b + i + 16], "{name} block {b}");
            }
        }
        assert_eq!(linear.largest_q4_1_error(), largest, "{name}");
        any_rounded |= largest > 0.0;
    }
    assert!(any_rounded);
}

#[test]
fn types_that_do_not_hold_the_integers_are_refused() {
    let asymmetric = Checkpoint::read("awq_gemm_g32");
    let error = asymmetric.open().unwrap().check_format(Format::Q4_0).unwrap_err().to_string();
    assert!(error.contains("Q4_0 is for 8 alone"), "{error}");
    for format in [Format::Q4_K, Format::F16, Format::Q5_1, Format::Q6_K] {
        let error = asymmetric.open().unwrap().check_format(format).unwrap_err().to_string();
        assert!(error.contains("has no blocks for integers of 4 bits"), "{error}");
    }
    // 8 bits with zero points of their own.
    let mut wide = Checkpoint::read("gptq_v1_8_bits");
    wide.tensor_mut("qzeros").bytes[5] = 126;
    let linear = wide.open().unwrap();
    assert_eq!(linear.zero_point(5, 0), 127);
    let error = linear.exact_format().unwrap_err().to_string();
    assert!(error.contains("row 5, group 0 has the zero point 127; Q8_0 is for 128 alone"), "{error}");
}

#[test]
fn scales_that_are_no_halves_are_refused_where_they_must_be_exact_and_used_where_not() {
    for (name, scale, reason) in [
        // 2⁻²⁴ · 1.5 in bf16, 2¹⁷ in bf16.
        (
            "compressed_symmetric_g32",
            0x33c0_0000_u32,
            "the scale 8.940697e-8 of row 1, group 2 is not exactly a half",
        ),
        (
            "compressed_symmetric_g32",
            0x4800_0000,
            "the scale 1.31072e5 of row 1, group 2 is out of the range of a half",
        ),
    ] {
        let mut checkpoint = Checkpoint::read(name);
        let at = 2 * (4 + 2);
        checkpoint.tensor_mut("weight_scale").bytes[at..at + 2].copy_from_slice(&scale.to_le_bytes()[2..]);
        let linear = checkpoint.open().unwrap();
        let error = linear.exact_format().unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("layer 'l'"), "{error}");
        let mut row = vec![0.0; 128];
        linear.dequantize(1..2, &mut row);
        let q = f32::from(checkpoint.expected("q")[128 + 64]) - 8.0;
        assert_eq!(row[64], q * f32::from_bits(scale));
    }
    let mut single = Checkpoint::read("gptq_v2_g64");
    let scales = single.tensor_mut("scales");
    scales.dtype = "F32".to_owned();
    scales.bytes = (0..scales.bytes.len() / 2).flat_map(|_| 0.1f32.to_le_bytes()).collect();
    let error = single.open().unwrap().exact_format().unwrap_err().to_string();
    assert!(error.contains("the scale 1e-1 of row 0, group 0 is not exactly a half"), "{error}");
    for (name, bytes) in [("awq_gemm_g32", 0x7c00_u16), ("gptq_v2_g64", 0x7e00), ("awq_gemv_g64", 0xfc00)] {
        let mut checkpoint = Checkpoint::read(name);
        checkpoint.tensor_mut("scales").bytes[0..2].copy_from_slice(&bytes.to_le_bytes());
        let error = checkpoint.refusal();
        assert!(error.contains("l.scales") && error.contains("row 0, group 0"), "{error}");
        assert!(error.contains("expected finite scales"), "{error}");
    }
    // 65504 · 15 has no half.
    let mut large = Checkpoint::read("awq_gemm_g64");
    let scales = large.tensor_mut("scales");
    scales.bytes = scales.bytes.chunks(2).flat_map(|_| 0x7bff_u16.to_le_bytes()).collect();
    let linear = large.open().unwrap();
    linear.check_format(Format::Q5_0).unwrap();
    let error = linear.check_format(Format::Q4_1).unwrap_err().to_string();
    assert!(error.contains("the min of row ") && error.contains("out of the range of a half"), "{error}");
}

#[test]
fn columns_in_another_order_are_refused() {
    let mut checkpoint = Checkpoint::read("gptq_v1_g128");
    let g_idx = checkpoint.tensor_mut("g_idx");
    g_idx.bytes[4 * 7] = 1;
    let error = checkpoint.refusal();
    for part in
        ["l.g_idx", "act-order", "desc_act", "column 7 belongs to group 1 instead of 0", "desc_act false"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    // None, and none that was ever set, are the plain order.
    checkpoint.tensors.remove("l.g_idx");
    checkpoint.open().unwrap();
    let mut compressed = Checkpoint::read("compressed_symmetric_g32");
    let unset = Stored { dtype: "I32".to_owned(), shape: vec![128], bytes: vec![0xff; 512] };
    compressed.tensors.insert("l.weight_g_idx".to_owned(), unset);
    compressed.open().unwrap();
    compressed.tensor_mut("weight_g_idx").bytes[..4].fill(0);
    assert!(compressed.refusal().contains("column 1 belongs to group -1"));
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    type Change = fn(&mut Checkpoint);
    let cases: [(&str, Change, &[&str]); 16] = [
        ("awq_gemm_g32", |c| drop(c.tensors.remove("l.qzeros")), &["l.qzeros", "no such tensor"]),
        ("gptq_v2_g64", |c| drop(c.tensors.remove("l.scales")), &["l.scales", "no such tensor"]),
        (
            "compressed_symmetric_g32",
            |c| drop(c.tensors.remove("l.weight_shape")),
            &["l.weight_shape", "no such tensor"],
        ),
        (
            "compressed_asymmetric_g128",
            |c| drop(c.tensors.remove("l.weight_zero_point")),
            &["l.weight_zero_point", "no such tensor"],
        ),
        ("awq_gemm_g32", |c| c.tensor_mut("qweight").dtype = "F32".to_owned(), &["l.qweight", "F32", "I32"]),
        (
            "awq_gemm_g32",
            |c| c.tensor_mut("scales").dtype = "I16".to_owned(),
            &["l.scales", "I16", "F16 or BF16 or F32"],
        ),
        ("awq_gemm_g32", |c| c.tensor_mut("qweight").shape = vec![18 * 96], &["l.qweight", "a matrix"]),
        ("awq_gemm_g32", |c| c.tensor_mut("qweight").bytes.truncate(64), &["l.qweight", "64 bytes"]),
        (
            "awq_gemm_g32",
            |c| c.tensor_mut("scales").shape = vec![144, 3],
            &["l.scales", "[144, 3]", "[3, 144]"],
        ),
        (
            "awq_gemm_g32",
            |c| c.config["group_size"] = json!(64),
            &["l.qweight", "rows of 96", "whole groups of 64"],
        ),
        ("awq_gemm_g64", |c| c.config["group_size"] = json!(128), &["l.qzeros", "[2, 2]", "[1, 2]"]),
        ("awq_gemv_g64", |c| c.config["group_size"] = json!(-1), &[]),
        (
            "awq_gemv_fast_g128",
            |c| c.tensor_mut("qzeros").bytes[1] ^= 0x40,
            &["l.qzeros", "row 0, group 0", "scale times a whole number"],
        ),
        ("gptq_v2_g64", |c| c.config["bits"] = json!(8), &["l.qzeros"]),
        (
            "compressed_symmetric_g32",
            |c| c.tensor_mut("weight_shape").bytes[0] = 13,
            &["l.weight_shape", "[13, 128]", "12 rows"],
        ),
        (
            "compressed_symmetric_g32",
            |c| c.config["config_groups"]["group_0"]["weights"]["group_size"] = json!(64),
            &["l.weight_scale", "4 groups for 128 columns", "4 bits in groups of 64"],
        ),
    ];
    for (name, change, parts) in cases {
        let mut checkpoint = Checkpoint::read(name);
        change(&mut checkpoint);
        if parts.is_empty() {
            // Padding makes it fit.
            checkpoint.open().unwrap();
            continue;
        }
        let error = checkpoint.refusal();
        for part in parts {
            assert!(error.contains(part), "{name}, {part}: {error}");
        }
    }
    let mut both = Checkpoint::read("awq_gemm_g32");
    let plain = Stored { dtype: "F16".to_owned(), shape: vec![144, 96], bytes: vec![0; 2 * 144 * 96] };
    both.tensors.insert("l.weight".to_owned(), plain);
    assert!(both.refusal().contains("either it or 'qweight'"));
    let mut odd = Checkpoint::read("gptq_v1_row");
    let qweight = odd.tensor_mut("qweight");
    qweight.shape = vec![6, 16];
    qweight.bytes.truncate(6 * 16 * 4);
    assert!(odd.refusal().contains("rows of 48 weights"), "{}", odd.refusal());
    let mut rows = Checkpoint::read("gptq_v1_row");
    let qweight = rows.tensor_mut("qweight");
    qweight.shape = vec![12, 15];
    qweight.bytes.truncate(12 * 15 * 4);
    assert!(rows.refusal().contains("15 rows of weights, expected a multiple of 8"), "{}", rows.refusal());
}

#[test]
fn plain_and_fp8_checkpoints_have_no_integers() {
    let fp8 = json!({ "num_bits": 8, "type": "float", "symmetric": true, "strategy": "channel" });
    for config in [
        json!({}),
        json!({ "quantization_config": null }),
        json!({ "quantization_config": { "quant_method": "fp8", "weight_block_size": [128, 128] } }),
        json!({ "quantization_config": { "quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": { "group_0": { "weights": fp8 } } } }),
    ] {
        assert!(find(Path::new("no-such-folder"), config.clone()).unwrap().is_none(), "{config}");
    }
}

#[test]
fn older_configurations_are_read_from_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let awq = Checkpoint::read("awq_gemm_g32");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("quant_config.json", r#"{"zero_point": true, "q_group_size": 32, "w_bit": 4, "version": "GEMM"}"#);
    let scheme = find(folder.path(), json!({})).unwrap().unwrap();
    assert_eq!(scheme.name(), "AWQ");
    assert_eq!(scheme.open(&&awq, "l").unwrap().exact_format().unwrap(), Format::Q5_0);
    write("quantize_config.json", r#"{"bits": 4, "group_size": 32, "desc_act": false, "sym": false}"#);
    let scheme = find(folder.path(), json!({})).unwrap().unwrap();
    assert_eq!(scheme.name(), "GPTQ");
    assert_eq!(scheme.open(&&Checkpoint::read("gptq_v1_g32"), "l").unwrap().group_len(), 32);
    write("quantize_config.json", "{");
    let error = find(folder.path(), json!({})).unwrap_err().to_string();
    assert!(error.contains("quantize_config.json") && error.contains("expected valid JSON"), "{error}");
}

#[test]
fn auto_round_is_read_in_the_layout_that_it_names() {
    for (name, packing) in [
        ("awq_gemm_g64", "auto_round:auto_awq"),
        ("gptq_v1_g32", "auto_round:auto_gptq"),
        ("gptq_v2_g64", "auto_round:gptqmodel"),
    ] {
        let mut checkpoint = Checkpoint::read(name);
        let group = checkpoint.config["group_size"].clone();
        checkpoint.config = json!({ "quant_method": "auto-round", "bits": 4, "group_size": group, "data_type": "int", "packing_format": packing });
        let linear = checkpoint.open().unwrap();
        assert_eq!(
            encoded(&linear, 0..linear.n_out(), checkpoint.format),
            checkpoint.expected("blocks"),
            "{name}"
        );
    }
}

#[test]
fn quantized_layers_are_told_from_plain_ones() {
    for name in LAYERS {
        let checkpoint = Checkpoint::read(name);
        let scheme = checkpoint.scheme().unwrap().unwrap();
        assert!(scheme.is_quantized(&&checkpoint, "l") && !scheme.is_quantized(&&checkpoint, "m"), "{name}");
        let parts = scheme.parts(&&checkpoint, "l");
        for tensor in checkpoint.tensors.keys().filter_map(|name| name.strip_prefix("l.")) {
            assert!(parts.contains(&tensor), "{name} {tensor}");
        }
        assert!(!parts.contains(&"bias"));
    }
}
