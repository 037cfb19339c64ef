//! Small sound models with a few changes at random: each is refused with one line, or tokenizes and computes. Nothing
//! panics, whatever the keys, the shapes and the bytes say. `PROPTEST_CASES` asks for more cases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bise::gguf::{Array, GgufFile, GgufWriter, TensorType, Value, WriteError};
use bise::tokenizer::EncodeOptions;
use bise::{Engine, EngineOptions, SessionOptions};

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A number of a size that is anybody's guess.
    fn any_size(&mut self) -> u64 {
        let shift = self.below(64);
        match self.below(4) {
            0 => 1 << shift,
            1 => (1 << shift) - 1,
            2 => u64::MAX >> shift,
            _ => self.next() >> shift,
        }
    }

    /// A value of any type.
    fn value(&mut self, depth: usize) -> Value {
        let n = self.any_size();
        match self.below(if depth > 2 { 12 } else { 15 }) {
            0 => Value::U8(n as u8),
            1 => Value::I8(n as i8),
            2 => Value::U16(n as u16),
            3 => Value::I16(n as i16),
            4 => Value::U32(n as u32),
            5 => Value::I32(n as i32),
            6 => Value::U64(n),
            7 => Value::I64(n as i64),
            8 => Value::F32(f32::from_bits(n as u32)),
            9 => Value::F64(f64::from_bits(n)),
            10 => Value::Bool(n & 1 == 1),
            11 => Value::Str(n.to_le_bytes()[..self.below(9)].into()),
            12 => Value::Array(Array::U32((0..self.below(5)).map(|_| self.any_size() as u32).collect())),
            13 => Value::Array(Array::F32((0..self.below(5)).map(|_| self.any_size() as f32).collect())),
            _ => Value::Array(Array::Array(
                (0..self.below(4))
                    .filter_map(|_| match self.value(depth + 1) {
                        Value::Array(array) => Some(array),
                        _ => None,
                    })
                    .collect(),
            )),
        }
    }
}

struct Tensor {
    name: String,
    shape: Vec<usize>,
    tensor_type: TensorType,
    bytes: Vec<u8>,
}

/// A model taken apart.
struct Model {
    keys: BTreeMap<String, Value>,
    tensors: Vec<Tensor>,
}

impl Model {
    fn read(path: &Path) -> Model {
        let file = GgufFile::open(path).unwrap();
        let keys = file.metadata().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let tensor = |info: &bise::gguf::TensorInfo| Tensor {
            name: info.name.clone(),
            shape: info.shape.clone(),
            tensor_type: info.tensor_type,
            bytes: file.bytes(info).to_vec(),
        };
        Model { keys, tensors: file.tensors().map(tensor).collect() }
    }

    /// One change that leaves a sound file.
    fn change(&mut self, numbers: &mut Numbers) {
        let keys: Vec<String> = self.keys.keys().cloned().collect();
        let key = keys[numbers.below(keys.len())].clone();
        let at = numbers.below(self.tensors.len());
        match numbers.below(12) {
            0..=2 => drop(self.keys.insert(key, numbers.value(0))),
            3 => drop(self.keys.remove(&key)),
            4 => {
                // A number becomes another of its type.
                let n = numbers.any_size();
                match self.keys.get_mut(&key) {
                    Some(Value::U32(v)) => *v = n as u32,
                    Some(Value::F32(v)) => *v = f32::from_bits(n as u32),
                    Some(Value::Array(Array::I32(v))) if !v.is_empty() => {
                        let at = numbers.below(v.len());
                        v[at] = n as i32;
                    }
                    Some(Value::Array(Array::F32(v))) if !v.is_empty() => {
                        let at = numbers.below(v.len());
                        v[at] = f32::from_bits(n as u32);
                    }
                    Some(Value::Array(Array::Str(v))) if !v.is_empty() => {
                        let at = numbers.below(v.len());
                        let other = &n.to_le_bytes()[..numbers.below(9)];
                        *v = v
                            .iter()
                            .enumerate()
                            .map(|(i, text)| if i == at { other } else { text })
                            .collect();
                    }
                    _ => {}
                }
            }
            5 => drop(self.tensors.remove(at)),
            6 => {
                let other = numbers.below(self.tensors.len());
                let name = self.tensors[other].name.clone();
                self.tensors[other].name = std::mem::replace(&mut self.tensors[at].name, name);
            }
            7 => self.tensors[at].name = format!("{}.{}", self.tensors[at].name, numbers.below(3)),
            8 => {
                let tensor = &mut self.tensors[at];
                if tensor.shape.len() > 1 {
                    tensor.shape.reverse();
                } else {
                    tensor.shape.push(1);
                }
            }
            9 => {
                let tensor = &mut self.tensors[at];
                let tensor_type = TensorType::ALL[numbers.below(TensorType::ALL.len())];
                let n: usize = tensor.shape.iter().product();
                if tensor.shape[0].is_multiple_of(tensor_type.block_len()) {
                    tensor.bytes.resize(tensor_type.bytes_for(n).unwrap(), 0x3c);
                    tensor.tensor_type = tensor_type;
                }
            }
            _ => {
                let tensor = &mut self.tensors[at];
                for _ in 0..1 + numbers.below(4) {
                    let place = numbers.below(tensor.bytes.len());
                    tensor.bytes[place] = numbers.next() as u8;
                }
            }
        }
    }

    fn write(&self, path: &Path) -> Result<(), WriteError> {
        let mut writer = GgufWriter::new();
        self.keys.iter().for_each(|(key, value)| writer.metadata_mut().set(key, value.clone()));
        for tensor in &self.tensors {
            writer.add_tensor(&tensor.name, &tensor.shape, tensor.tensor_type)?;
        }
        let data: Vec<&[u8]> = self.tensors.iter().map(|tensor| tensor.bytes.as_slice()).collect();
        std::fs::write(path, writer.write_all(Vec::new(), &data)?).unwrap();
        Ok(())
    }
}

/// Opens the model at `path`, tokenizes a text, reads it and writes a token.
fn run(path: &Path) -> Result<(), String> {
    let options = EngineOptions { threads: Some(1), ..EngineOptions::default() };
    let engine = Engine::open_with(path, &options).map_err(|error| error.to_string())?;
    let tokenizer = engine.tokenizer();
    let tokens = tokenizer
        .encode("Once <s>[INST] upon\na 🌬 t", EncodeOptions { add_special: true, parse_special: true });
    assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.n_vocab()));
    let options = SessionOptions { n_ctx: 200, n_ubatch: 16, ..SessionOptions::default() };
    let mut session = engine.session(&options).map_err(|error| error.to_string())?;
    for tokens in [&tokens[..tokens.len().min(20)], &[0]] {
        if !tokens.is_empty() {
            let logits = session.prefill(tokens).map_err(|error| error.to_string())?;
            assert!(logits.iter().all(|logit| logit.is_finite()));
        }
    }
    Ok(())
}

fn n_cases() -> usize {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or(0).max(300)
}

fn sources() -> Vec<PathBuf> {
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/oracles");
    ["ministral_3", "mixtral_split", "mixtral_stacked", "plain_f16", "rope_freqs", "window_5"]
        .map(|name| oracles.join(name).with_extension("gguf"))
        .into()
}

/// Opens the file that `make` leaves at `path` and checks what comes of it; returns whether it ran.
fn is_one_line_or_runs(path: &Path, what: &str) -> bool {
    match run(path) {
        Ok(()) => true,
        Err(message) => {
            assert!(!message.contains(char::is_control) && message.len() < 1000, "{what}: {message}");
            false
        }
    }
}

#[test]
fn a_sound_file_of_an_unsound_model_is_refused_or_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let sources = sources();
    let (mut n_ran, mut n_refused) = (0, 0);
    for case in 0..n_cases() {
        let mut numbers = Numbers(case as u64);
        let mut model = Model::read(&sources[case % sources.len()]);
        (0..1 + numbers.below(3)).for_each(|_| model.change(&mut numbers));
        if model.write(&path).is_ok() {
            match is_one_line_or_runs(&path, &format!("case {case}")) {
                true => n_ran += 1,
                false => n_refused += 1,
            }
        }
    }
    assert!(n_ran > 50 && n_refused > 50, "{n_ran} ran, {n_refused} were refused");
}

#[test]
fn a_file_with_changed_bytes_is_refused_or_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let sources: Vec<Vec<u8>> = sources().iter().map(|path| std::fs::read(path).unwrap()).collect();
    let (mut n_ran, mut n_refused) = (0, 0);
    for case in 0..n_cases() {
        let mut numbers = Numbers(!(case as u64));
        let mut bytes = sources[case % sources.len()].clone();
        // Keys come first, then a vocabulary, then the descriptions of tensors: before byte 9,500 in all of these.
        for _ in 0..1 + numbers.below(3) {
            let word = match numbers.below(3) {
                0 => numbers.any_size().to_le_bytes()[..1 + numbers.below(8)].to_vec(),
                1 => (numbers.below(16) as u32).to_le_bytes().to_vec(),
                _ => vec![numbers.next() as u8],
            };
            let at = numbers.below(9_500);
            bytes[at..at + word.len()].copy_from_slice(&word);
        }
        if numbers.below(8) == 0 {
            bytes.truncate(numbers.below(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        match is_one_line_or_runs(&path, &format!("case {case}")) {
            true => n_ran += 1,
            false => n_refused += 1,
        }
    }
    assert!(n_ran > 50 && n_refused > 50, "{n_ran} ran, {n_refused} were refused");
}
