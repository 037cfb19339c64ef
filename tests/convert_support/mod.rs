//! Small checkpoints, made of `tests/convert/*.json` (see `make_checkpoints.py` there).

// Each test uses some of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bise::convert::{ConvertOptions, OutType, convert};
use bise::gguf::GgufFile;
use bise::{Cancel, Threads};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

/// Where the fixtures are.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert")
}

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A checkpoint in memory.
pub struct Family {
    /// The fixture.
    pub json: Value,
    /// Name and tensors of each file.
    pub files: Vec<(String, Vec<Stored>)>,
}

impl Family {
    pub fn load(name: &str) -> Family {
        let text = std::fs::read_to_string(fixtures().join(format!("{name}.json"))).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let files = json["files"].as_object().unwrap().iter().map(|(file, tensors)| {
            let tensors = tensors.as_array().unwrap().iter().map(|tensor| {
                let dtype = match tensor[1].as_str().unwrap() {
                    "BF16" => Dtype::BF16,
                    "F16" => Dtype::F16,
                    "F32" => Dtype::F32,
                    "F8_E4M3" => Dtype::F8_E4M3,
                    "I8" => Dtype::I8,
                    "I32" => Dtype::I32,
                    "I64" => Dtype::I64,
                    other => panic!("{other}"),
                };
                let size = |n: &Value| n.as_u64().unwrap() as usize;
                let shape = tensor[2].as_array().unwrap().iter().map(size).collect();
                let mut stored = Stored::new(tensor[0].as_str().unwrap(), dtype, shape);
                if let Some(given) = tensor.get(3) {
                    let given = given.as_array().unwrap().iter().map(|n| n.as_i64().unwrap());
                    stored.bytes = given.flat_map(i64::to_le_bytes).collect();
                }
                stored
            });
            (file.clone(), tensors.collect())
        });
        let files = files.collect();
        Family { json, files }
    }

    /// The names of all fixtures.
    pub fn names() -> Vec<String> {
        let paths = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
        let is_family = |path: &PathBuf| {
            path.extension().is_some_and(|e| e == "json") && path.file_stem().is_some_and(|s| s != "tekken")
        };
        let mut names: Vec<_> = paths
            .filter(is_family)
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    pub fn is_native(&self) -> bool {
        self.json["config"].get("dim").is_some()
    }

    pub fn config(&mut self) -> &mut serde_json::Map<String, Value> {
        self.json["config"].as_object_mut().unwrap()
    }

    pub fn tensor(&mut self, name: &str) -> &mut Stored {
        let mut all = self.files.iter_mut().flat_map(|(_, tensors)| tensors);
        all.find(|tensor| tensor.name == name).unwrap()
    }

    /// Writes the checkpoint into `folder`.
    pub fn write(&self, folder: &Path) {
        let config_name = if self.is_native() { "params.json" } else { "config.json" };
        std::fs::write(folder.join(config_name), self.json["config"].to_string()).unwrap();
        let tokenizer = self.json["tokenizer"].as_str().unwrap();
        std::fs::copy(fixtures().join(tokenizer), folder.join(tokenizer)).unwrap();
        let mut index = serde_json::Map::new();
        for (file, tensors) in &self.files {
            let views = tensors
                .iter()
                .map(|t| (t.name.clone(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
            let views: Vec<_> = views.collect();
            let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            safetensors::serialize_to_file(views, Some(metadata), &folder.join(file)).unwrap();
            index.extend(tensors.iter().map(|t| (t.name.clone(), Value::from(file.as_str()))));
        }
        if self.json.get("index").is_some() {
            let index = serde_json::json!({ "metadata": {}, "weight_map": index });
            std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
    }
}

impl Stored {
    /// `values` of `make_checkpoints.py`.
    pub fn new(name: &str, dtype: Dtype, shape: Vec<usize>) -> Stored {
        let seed = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let n: usize = shape.iter().product();
        let random = |i: usize| {
            let mut x = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        let value = |i: usize| {
            let u = (random(i) >> 40) as f32 / 8_388_608.0 - 1.0;
            if name.contains("norm") {
                1.0 + u * 0.125
            } else if name.contains("scale") {
                (1.5 + u) * 0.0625
            } else {
                u * 0.25
            }
        };
        let all = 0..n;
        let bytes = match dtype {
            Dtype::F32 => all.flat_map(|i| value(i).to_le_bytes()).collect(),
            Dtype::F16 => all.flat_map(|i| half(value(i), bise_kernels::Format::F16)).collect(),
            Dtype::BF16 => all.flat_map(|i| half(value(i), bise_kernels::Format::BF16)).collect(),
            Dtype::I32 if name.ends_with("g_idx") => {
                all.flat_map(|i| (i as i32 / 32).to_le_bytes()).collect()
            }
            Dtype::I32 => all.flat_map(|i| ((random(i) >> 32) as u32).to_le_bytes()).collect(),
            Dtype::F8_E4M3 => all.map(|i| (random(i) >> 56) as u8 & 0xbf).collect(),
            _ => all.map(|i| (random(i) >> 56) as u8).collect(),
        };
        Stored { name: name.to_owned(), dtype, shape, bytes }
    }
}

/// `x` rounded to 16 bits.
pub fn half(x: f32, format: bise_kernels::Format) -> [u8; 2] {
    let mut out = [0; 2];
    bise_kernels::KernelTable::detect().quantize_weights(format, 1, &[x], None, &mut out).unwrap();
    out
}

/// Checks that `message` contains each of `parts`.
#[track_caller]
pub fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message}\nlacks: {part}");
    }
}

/// The family as a file of the type.
pub fn converted(
    family: &Family,
    folder: &super::cli_support::Folder,
    out_type: &str,
    threads: usize,
) -> GgufFile {
    let source = folder.path("source");
    if !source.exists() {
        std::fs::create_dir(&source).unwrap();
        family.write(&source);
    }
    let path = folder.path(&format!("{out_type}-{threads}.gguf"));
    let mut options = ConvertOptions::default();
    options.out_type = OutType::from_name(out_type).unwrap();
    let threads = Threads::new(threads).unwrap();
    convert(&source, &path, &options, &threads, &Cancel::new(), &mut |_, _| {}).unwrap();
    GgufFile::open(&path).unwrap()
}
