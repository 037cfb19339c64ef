//! Every tensor gets the type that llama-quantize gives it, whatever the mix and the model's shape. `golden/quantize_mixes.py` asked it.

#![cfg(feature = "quantize")]

use std::collections::BTreeMap;

use bise::gguf::{GgufFile, GgufWriter, TensorType};
use bise::quantize::{FileType, Importance, Plan, QuantizeOptions};

/// What `golden/quantize_mixes.py` calls a shape.
struct Shape {
    name: &'static str,
    arch: &'static str,
    n_layers: usize,
    heads: [u32; 2],
    n_experts: usize,
    width: usize,
    ffn: usize,
    has_output: bool,
}

const fn llama(name: &'static str, n_layers: usize, heads: [u32; 2], n_experts: usize) -> Shape {
    Shape { name, arch: "llama", n_layers, heads, n_experts, width: 256, ffn: 512, has_output: true }
}

const SHAPES: [Shape; 8] = [
    llama("dense", 32, [32, 8], 0),
    llama("ungrouped", 32, [32, 32], 0),
    llama("gqa8", 80, [64, 8], 0),
    llama("mixtral", 32, [32, 8], 8),
    llama("experts4", 9, [32, 8], 4),
    Shape { has_output: false, ..llama("tied", 12, [8, 2], 0) },
    Shape { width: 96, ffn: 80, ..llama("narrow", 9, [8, 2], 0) },
    Shape { arch: "mistral3", ..llama("mistral3", 26, [32, 8], 0) },
];

impl Shape {
    fn model(&self) -> GgufFile {
        let mut writer = GgufWriter::new();
        let metadata = writer.metadata_mut();
        metadata.set("general.architecture", self.arch);
        let mut set = |key: &str, n: u32| metadata.set(&format!("{}.{key}", self.arch), n);
        set("block_count", self.n_layers as u32);
        set("attention.head_count", self.heads[0]);
        set("attention.head_count_kv", self.heads[1]);
        if self.n_experts > 0 {
            set("expert_count", self.n_experts as u32);
        }
        let mut data = Vec::new();
        let mut add = |name: &str, shape: &[usize]| {
            let is_single = shape.len() == 1 || name.contains("gate_inp");
            let tensor_type = if is_single { TensorType::F32 } else { TensorType::F16 };
            writer.add_tensor(name, shape, tensor_type).unwrap();
            data.push(vec![0; tensor_type.bytes_for(shape.iter().product()).unwrap()]);
        };
        let (width, ffn, experts) = (self.width, self.ffn, self.n_experts);
        add("token_embd.weight", &[width, 2]);
        // Backwards: what a mix does must not depend on the order in the file.
        for i in (0..self.n_layers).rev() {
            for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                add(&format!("blk.{i}.{name}.weight"), &[width, 2]);
            }
            add(&format!("blk.{i}.attn_norm.weight"), &[width]);
            if experts > 0 {
                add(&format!("blk.{i}.ffn_gate_inp.weight"), &[width, experts]);
                add(&format!("blk.{i}.ffn_gate_exps.weight"), &[width, 2, experts]);
                add(&format!("blk.{i}.ffn_up_exps.weight"), &[width, 2, experts]);
                add(&format!("blk.{i}.ffn_down_exps.weight"), &[ffn, 2, experts]);
            } else {
                add(&format!("blk.{i}.ffn_gate.weight"), &[width, 2]);
                add(&format!("blk.{i}.ffn_up.weight"), &[width, 2]);
                add(&format!("blk.{i}.ffn_down.weight"), &[ffn, 2]);
            }
        }
        add("output_norm.weight", &[width]);
        if self.has_output {
            add("output.weight", &[width, 2]);
        }
        let mut bytes = Vec::new();
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        writer.write_all(&mut bytes, &data).unwrap();
        GgufFile::from_bytes(bytes, self.name).unwrap()
    }
}

/// `attn_v` and 3 for `blk.3.attn_v.weight`.
fn part_and_layer(name: &str) -> (&str, usize) {
    let name = name.strip_suffix(".weight").unwrap();
    match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, part)) => (part, layer.parse().unwrap()),
        None => (name, 0),
    }
}

/// `2*Q6_K,1*Q4_K`
fn runs(types: &BTreeMap<usize, TensorType>) -> String {
    let mut runs: Vec<(usize, TensorType)> = Vec::new();
    for t in types.values() {
        match runs.last_mut() {
            Some((n, last)) if last == t => *n += 1,
            _ => runs.push((1, *t)),
        }
    }
    runs.iter().map(|(n, t)| format!("{n}*{t}")).collect::<Vec<_>>().join(",")
}

#[test]
fn types_are_those_of_llama_quantize() {
    let golden = include_str!("golden/quantize_mixes.txt");
    let mut compared = 0;
    for shape in &SHAPES {
        let file = shape.model();
        let mut expected: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for line in golden.lines() {
            let [name, label, part, runs] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            if name == shape.name {
                expected.entry(label).or_default().insert(part, runs);
            }
        }
        assert_eq!(expected.len(), 26, "{}", shape.name);
        for (label, expected) in expected {
            let file_type = FileType::from_name(label.trim_end_matches('+')).unwrap();
            let mut options = QuantizeOptions::new(file_type);
            if label.ends_with('+') {
                let columns = file
                    .tensors()
                    .map(|t| (t.name.clone(), vec![1.0; t.shape[0] * t.shape.get(2).unwrap_or(&1)]));
                options.importance = Some(Importance { columns: columns.collect(), ..Importance::default() });
            }
            let plan = Plan::new(&file, &options).unwrap_or_else(|e| panic!("{} {label}: {e}", shape.name));
            let mut found: BTreeMap<&str, BTreeMap<usize, TensorType>> = BTreeMap::new();
            for tensor in &plan.tensors {
                let (part, layer) = part_and_layer(&tensor.name);
                found.entry(part).or_default().insert(layer, tensor.tensor_type);
            }
            assert_eq!(found.len(), expected.len(), "{} {label}", shape.name);
            for (part, types) in &found {
                assert_eq!(runs(types), expected[part], "{} {label} {part}", shape.name);
                compared += 1;
            }
        }
    }
    assert_eq!(compared, golden.lines().count());
}
