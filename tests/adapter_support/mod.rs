//! Adapters of PEFT, made of `tests/adapter/*.json` (see `make_adapters.py` there).

// Each test uses some of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bise_kernels::{Format, KernelTable};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

/// An adapter in memory.
pub struct Fixture {
    /// The fixture.
    pub json: Value,
    /// Name, type, shape and bytes of its tensors.
    pub tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapter")
}

/// The names of the fixtures that are refused, or of those that are not.
pub fn names(refused: bool) -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let names = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let names = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("refused-") == refused).collect();
    names.sort();
    names
}

/// An oracle's model file.
pub fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/tests/oracles/{name}.gguf"))
}

impl Fixture {
    pub fn load(name: &str) -> Fixture {
        let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let tensors = json["tensors"].as_array().unwrap().iter().map(|tensor| {
            let dtype = match tensor[1].as_str().unwrap() {
                "F32" => Dtype::F32,
                "F16" => Dtype::F16,
                "BF16" => Dtype::BF16,
                other => panic!("{other}"),
            };
            let shape = tensor[2].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize);
            let (name, shape) = (tensor[0].as_str().unwrap().to_owned(), shape.collect::<Vec<_>>());
            let bytes = bytes(dtype, &values(&name, shape.iter().product()));
            (name, dtype, shape, bytes)
        });
        let tensors = tensors.collect();
        Fixture { json, tensors }
    }

    /// The model it is for.
    pub fn base(&self) -> PathBuf {
        oracle(self.json["base"].as_str().unwrap())
    }

    pub fn config(&mut self) -> &mut serde_json::Map<String, Value> {
        self.json["config"].as_object_mut().unwrap()
    }

    /// Gives every tensor another name.
    pub fn rename(&mut self, rename: impl Fn(&str) -> String) {
        self.tensors.iter_mut().for_each(|tensor| tensor.0 = rename(&tensor.0));
    }

    /// Writes the folder.
    pub fn write(&self, folder: &Path) {
        self.write_config(folder);
        write_tensors(&folder.join("adapter_model.safetensors"), &self.tensors);
    }

    pub fn write_config(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("adapter_config.json"), self.json["config"].to_string()).unwrap();
    }

    /// The first logits of PEFT at each position.
    pub fn logits(&self) -> Vec<Vec<f32>> {
        let row = |row: &Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        self.json["logits"].as_array().unwrap().iter().map(row).collect()
    }

    /// The tokens that they are for.
    pub fn tokens(&self) -> Vec<u32> {
        (0..self.logits().len() as u32).map(|i| (7 * i * i + 3 * i + 1) % 272).collect()
    }
}

pub fn write_tensors(path: &Path, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views.collect::<Vec<_>>(), Some(metadata), path).unwrap();
}

fn bytes(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let format = match dtype {
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::BF16,
        _ => Format::F32,
    };
    let mut bytes = vec![0; values.len() * format.block_bytes()];
    KernelTable::detect().quantize_weights(format, values.len(), values, None, &mut bytes).unwrap();
    bytes
}

/// `values` of `make_adapters.py`.
fn values(name: &str, n: usize) -> Vec<f32> {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, step);
    let random = |i: usize| {
        let mut x = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    (0..n).map(|i| ((random(i) >> 40) as f32 / 8_388_608.0 - 1.0) * 0.25).collect()
}
