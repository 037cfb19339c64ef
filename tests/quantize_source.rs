//! Models that are made while they are read come out as from a file with the same weights.

#![cfg(feature = "quantize")]

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

use bise::gguf::{GgufFile, GgufWriter, Metadata, TensorType};
use bise::quantize::{FileType, Plan, QuantizeError, QuantizeOptions, Source, SourceTensor};
use bise::{Cancel, Threads};

/// A model whose weights follow from their places.
struct Made {
    metadata: Metadata,
    tensors: Vec<SourceTensor>,
    /// The tensor that cannot be made.
    broken: Option<&'static str>,
}

impl Made {
    fn new() -> Made {
        let mut metadata = Metadata::new("made");
        metadata.set("general.architecture", "llama");
        metadata.set("llama.block_count", 1_u32);
        metadata.set("split.count", 7_u16);
        let tensor = |name: &str, shape: &[usize], t| SourceTensor::new(name, shape, t);
        let mut kept = tensor("blk.0.attn_k.weight", &[256, 40], TensorType::Q4_0);
        kept.keeps_type = true;
        let tensors = vec![
            tensor("blk.0.attn_q.weight", &[256, 1000], TensorType::F32),
            kept,
            tensor("blk.0.ffn_down_exps.weight", &[512, 30, 3], TensorType::BF16),
            tensor("blk.0.attn_norm.weight", &[256], TensorType::F32),
        ];
        Made { metadata, tensors, broken: None }
    }
}

fn row(tensor: &SourceTensor, row: usize) -> Vec<u8> {
    let weight = |i: usize| ((row * 31 + i) as f32 * 0.37).sin();
    match tensor.tensor_type {
        TensorType::F32 => (0..256).flat_map(|i| weight(i).to_le_bytes()).collect(),
        TensorType::BF16 => {
            (0..512).flat_map(|i| ((weight(i).to_bits() >> 16) as u16).to_le_bytes()).collect()
        }
        // Blocks of half a one and whatever levels.
        _ => (0..8).flat_map(|block| [vec![0, 0x38], vec![(row * 8 + block) as u8; 16]].concat()).collect(),
    }
}

impl Source for Made {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> Vec<SourceTensor> {
        self.tensors.clone()
    }

    fn rows(&self, tensor: &SourceTensor, rows: Range<usize>) -> Result<Cow<'_, [u8]>, QuantizeError> {
        assert_eq!(rows.start / tensor.rows_a_matrix(), (rows.end - 1) / tensor.rows_a_matrix());
        if self.broken == Some(&tensor.name) && rows.end > 500 {
            return Err(QuantizeError::Source(format!("{} is broken", tensor.name).into()));
        }
        Ok(rows.flat_map(|i| row(tensor, i)).collect())
    }

    fn check_unchanged(&self) -> Result<(), QuantizeError> {
        Ok(())
    }

    fn paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The same as a file.
fn file(made: &Made) -> GgufFile {
    let mut writer = GgufWriter::new();
    for (key, value) in made.metadata.iter().filter(|(key, _)| !key.starts_with("split.")) {
        writer.metadata_mut().set(key, value.clone());
    }
    let mut data = Vec::new();
    for tensor in &made.tensors {
        writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type).unwrap();
        data.push((0..tensor.n_rows()).flat_map(|i| row(tensor, i)).collect::<Vec<u8>>());
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    GgufFile::from_bytes(writer.write_all(Vec::new(), &data).unwrap(), "file").unwrap()
}

fn quantized(source: &dyn Source, options: &QuantizeOptions) -> Result<Vec<u8>, QuantizeError> {
    let folder = tempfile::tempdir().unwrap();
    let (path, threads) = (folder.path().join("out.gguf"), Threads::builder().n(2).build().unwrap());
    let plan = Plan::new(source, options)?;
    plan.write(source, &path, &threads, &Cancel::new(), false, &mut |_| {})?;
    Ok(std::fs::read(path).unwrap())
}

#[test]
fn weights_that_are_made_become_what_stored_ones_do() {
    let made = Made::new();
    let stored = file(&made);
    for file_type in [FileType::F16, FileType::F32, FileType::BF16, FileType::Q8_0, FileType::Q4_K_M] {
        let mut options = QuantizeOptions::new(file_type);
        options.tensor_types.push(("attn_k".into(), TensorType::Q4_0));
        let bytes = quantized(&made, &options).unwrap();
        assert!(bytes == quantized(&stored, &options).unwrap(), "{file_type}");
        let out = GgufFile::from_bytes(bytes, "out").unwrap();
        let kept = out.require_tensor("blk.0.attn_k.weight").unwrap();
        assert_eq!(kept.tensor_type, TensorType::Q4_0);
        assert_eq!(out.bytes(kept)[..], (0..40).flat_map(|i| row(&made.tensors[1], i)).collect::<Vec<_>>());
    }
}

#[test]
fn what_a_source_cannot_make_is_said_in_its_words() {
    let broken = Made { broken: Some("blk.0.attn_q.weight"), ..Made::new() };
    let error = quantized(&broken, &QuantizeOptions::new(FileType::Q8_0)).unwrap_err();
    assert_eq!(error.to_string(), "blk.0.attn_q.weight is broken");
}
