//! Experts in tensors of their own, as in old files of Mixtral, become stacks, whatever the type; the model stays what it was.

#![cfg(all(feature = "cli", feature = "quantize", feature = "builtin-model"))]

mod cli_support;

use std::collections::BTreeMap;
use std::path::Path;

use bise::gguf::{GgufFile, GgufWriter, TensorType};
use cli_support::Folder;

fn oracle(name: &str) -> String {
    format!("{}/models/tests/oracles/{name}.gguf", env!("CARGO_MANIFEST_DIR"))
}

/// Names, shapes, types and bytes.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, TensorType, Vec<u8>)> {
    let file = GgufFile::open(path).unwrap();
    let described = |t: &bise::gguf::TensorInfo| {
        (t.name.clone(), (t.shape.clone(), t.tensor_type, file.bytes(t).to_vec()))
    };
    file.tensors().map(described).collect()
}

#[test]
fn stacks_hold_the_experts_one_after_the_other() {
    let folder = Folder::new();
    let split = oracle("mixtral_split");
    folder.bise(["quantize", &split, "copy.gguf", "COPY"]).ok();
    let (before, after) = (tensors(Path::new(&split)), tensors(&folder.path("copy.gguf")));
    let mut n_stacks = 0;
    for (name, (shape, tensor_type, bytes)) in &after {
        let Some(stack) = name.strip_suffix("_exps.weight") else {
            assert_eq!(before[name], (shape.clone(), *tensor_type, bytes.clone()));
            continue;
        };
        let experts = (0..shape[2]).map(|e| &before[&format!("{stack}.{e}.weight")]);
        assert_eq!(experts.clone().flat_map(|expert| expert.2.clone()).collect::<Vec<u8>>(), *bytes);
        assert!(experts.clone().all(|expert| expert.0[..] == shape[..2] && expert.1 == *tensor_type));
        n_stacks += 1;
    }
    assert!(n_stacks >= 6 && after.keys().all(|name| !name.contains("ffn_down.")), "{n_stacks}");
    // The model says what it said.
    let logits = |model: &str, out: &str| {
        folder.bise(["logits", "-m", model, "--tokens", "1,5,9,2,7,3", "-o", out]).ok();
        std::fs::read(folder.path(out)).unwrap()
    };
    assert!(logits(&split, "split.npy") == logits("copy.gguf", "copy.npy"));
}

#[test]
fn they_are_quantized_as_stacks_are() {
    let folder = Folder::new();
    let split = oracle("mixtral_split");
    folder.bise(["quantize", &split, "copy.gguf", "COPY"]).ok();
    for file_type in ["Q8_0", "Q4_0", "F16"] {
        folder.bise(["quantize", "--force", "--allow-requantize", &split, "a.gguf", file_type]).ok();
        folder.bise(["quantize", "--force", "--allow-requantize", "copy.gguf", "b.gguf", file_type]).ok();
        assert!(tensors(&folder.path("a.gguf")) == tensors(&folder.path("b.gguf")), "{file_type}");
    }
}

#[test]
fn experts_that_make_no_stack_are_named() {
    let folder = Folder::new();
    let write = |experts: &[(usize, &[usize])]| {
        let mut writer = GgufWriter::new();
        writer.metadata_mut().set("general.architecture", "llama");
        writer.metadata_mut().set("llama.block_count", 1_u32);
        writer.metadata_mut().set("llama.expert_count", 2_u32);
        let mut data = Vec::new();
        for (index, shape) in experts {
            writer.add_tensor(&format!("blk.0.ffn_up.{index}.weight"), shape, TensorType::F32).unwrap();
            data.push(vec![0; 4 * shape.iter().product::<usize>()]);
        }
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        std::fs::write(folder.path("m.gguf"), writer.write_all(Vec::new(), &data).unwrap()).unwrap();
    };
    let cases: [&[(usize, &[usize])]; 4] = [
        &[(0, &[32, 2]), (1, &[32, 3])],
        &[(0, &[32, 2])],
        &[(1, &[32, 2]), (2, &[32, 2])],
        &[(0, &[32]), (1, &[32])],
    ];
    for experts in cases {
        write(experts);
        let ran = folder.bise(["quantize", "m.gguf", "out.gguf", "COPY"]);
        assert!(
            ran.error().contains("of some that do not make a stack, expected as many as"),
            "{}",
            ran.stderr
        );
    }
    write(&[(1, &[32, 2]), (0, &[32, 2])]);
    folder.bise(["quantize", "m.gguf", "out.gguf", "COPY"]).ok();
    assert_eq!(tensors(&folder.path("out.gguf"))["blk.0.ffn_up_exps.weight"].0, [32, 2, 2]);
}
