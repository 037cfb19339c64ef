//! What a run needs to go on: weights, what the optimizer remembers, and what it was asked to do.
//!
//! The file is one of safetensors: of every matrix its values, and as `NAME.mean` and `NAME.mean_square` the moments of its gradient. The last
//! tensor, `checksum`, is XXH3 (128 bits) of everything before its bytes.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use twox_hash::XxHash3_128;

use super::error::TrainError;
use super::objective::Objective;
use super::settings::Settings;
use super::step::Training;
use super::unreported::Unreported;

/// What the metadata says of the format.
const FORMAT: &str = "bise training state 1";

/// Bytes of the checksum.
const CHECKSUM: usize = 16;

/// The longest header that is read: some hundred bytes a matrix, and as many a report.
const MAX_HEADER_BYTES: u64 = 1 << 30;

/// What the metadata of a saved run says, beside what it was asked to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Steps that are done.
    pub n_done: usize,
    /// What was reported so far, as JSON.
    pub history: Vec<Value>,
    /// The steps behind the last report; none in a file of a program that did not keep them.
    pub unreported: Unreported,
}

impl<T: Objective> Training<T> {
    /// Writes the state to a new file at `path`, and flushes it to the disk.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(
        &mut self,
        path: &Path,
        settings: &Settings,
        history: &[Value],
        unreported: &Unreported,
    ) -> Result<(), TrainError> {
        let io = |action| move |error| TrainError::io(path, action, error);
        let file = File::create(path).map_err(io("create the file"))?;
        let mut file = Hashing { inner: BufWriter::new(file), hash: XxHash3_128::new() };
        let header = self.header(settings, history, unreported).to_string();
        let mut written = file.write_all(&(header.len() as u64).to_le_bytes());
        written = written.and_then(|()| file.write_all(header.as_bytes()));
        let mut moments = self.moments.iter();
        self.objective.visit(&mut |weights| {
            let moments = moments.next().expect("there are moments of every matrix");
            for values in [&*weights.values, &moments.m, &moments.v] {
                if written.is_ok() {
                    written = put(&mut file, values);
                }
            }
        });
        let checksum = file.hash.finish_128().to_le_bytes();
        let written = written.and_then(|()| file.write_all(&checksum)).and_then(|()| file.inner.flush());
        written.and_then(|()| file.inner.get_ref().sync_all()).map_err(io("write the file"))
    }

    /// Takes over the state at `path`, which must be of a run that was asked for the same.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is of another run: the message names what differs. What was taken over by then is
    /// unspecified.
    pub fn load(&mut self, path: &Path, settings: &Settings) -> Result<Saved, TrainError> {
        let io = |action| move |error| TrainError::io(path, action, error);
        let damaged = |found: String, expected: &str| TrainError::State {
            path: path.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        let file = File::open(path).map_err(io("open the file"))?;
        let n_bytes = file.metadata().map_err(io("read the file"))?.len();
        let mut file = Hashing { inner: BufReader::new(file), hash: XxHash3_128::new() };
        let mut len = [0; 8];
        file.fill(&mut len).map_err(io("read the file"))?;
        let len = u64::from_le_bytes(len);
        if len > MAX_HEADER_BYTES || len > n_bytes {
            return Err(damaged(format!("a header of {len} bytes"), "the saved state of a training run"));
        }
        let mut header = vec![0; len as usize];
        file.fill(&mut header).map_err(io("read the file"))?;
        let header: Value = serde_json::from_slice(&header)
            .map_err(|error| damaged(format!("a damaged header ({error})"), "one that was written whole"))?;
        let metadata = &header["__metadata__"];
        let text = |key: &str| metadata[key].as_str().unwrap_or_default();
        if text("format") != FORMAT {
            return Err(damaged(format!("the format '{}'", text("format")), FORMAT));
        }
        settings.check(&serde_json::from_str(text("settings")).unwrap_or_default(), path)?;
        let n_done = text("n_done").parse().unwrap_or(usize::MAX);
        if n_done > self.n_steps() {
            return Err(damaged(format!("'{}' steps", text("n_done")), "no more than the run has"));
        }
        let history: Vec<Value> = serde_json::from_str(text("history")).unwrap_or_default();
        let unreported = match metadata.get("unreported") {
            None => Unreported::default(),
            Some(_) => {
                let found = serde_json::from_str(text("unreported")).ok();
                found.as_ref().and_then(Unreported::from_json).ok_or_else(|| {
                    damaged(format!("'{}' as unreported steps", text("unreported")), "their sums")
                })?
            }
        };
        // The same settings have the same matrices.
        let expected = self.header(settings, &history, &unreported);
        let without = |header: &Value| {
            let mut tensors = header.as_object().cloned().unwrap_or_default();
            tensors.remove("__metadata__");
            tensors
        };
        if without(&header) != without(&expected) {
            return Err(damaged("other matrices".into(), "those that this run trains"));
        }
        let mut read = Ok(());
        let mut moments = self.moments.iter_mut();
        self.objective.visit(&mut |weights| {
            let moments = moments.next().expect("there are moments of every matrix");
            for values in [weights.values, &mut moments.m, &mut moments.v] {
                if read.is_ok() {
                    read = get(&mut file, values);
                }
            }
        });
        let checksum = file.hash.finish_128().to_le_bytes();
        let mut found = [0; CHECKSUM];
        read.and_then(|()| file.fill(&mut found)).map_err(io("read the file"))?;
        if found != checksum {
            return Err(damaged("a wrong checksum".into(), "a file as it was written"));
        }
        self.n_done = n_done;
        Ok(Saved { n_done, history, unreported })
    }

    fn header(&mut self, settings: &Settings, history: &[Value], unreported: &Unreported) -> Value {
        let mut header = Map::new();
        let metadata = json!({
            "format": FORMAT,
            "n_done": self.n_done.to_string(),
            "settings": settings.to_json().to_string(),
            "history": Value::from(history).to_string(),
            "unreported": unreported.to_json().to_string(),
        });
        header.insert("__metadata__".into(), metadata);
        let mut at = 0;
        self.objective.visit(&mut |weights| {
            for part in ["", ".mean", ".mean_square"] {
                let end = at + size_of_val(weights.values);
                let shape = [weights.values.len()];
                let tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]});
                header.insert(format!("{}{part}", weights.name), tensor);
                at = end;
            }
        });
        let checksum = json!({"dtype": "U8", "shape": [CHECKSUM], "data_offsets": [at, at + CHECKSUM]});
        header.insert("checksum".into(), checksum);
        header.into()
    }
}

/// A file and the hash of what was read or written so far.
struct Hashing<F> {
    inner: F,
    hash: XxHash3_128,
}

impl<F: Write> Hashing<F> {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.write(bytes);
        self.inner.write_all(bytes)
    }
}

impl<F: Read> Hashing<F> {
    fn fill(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.hash.write(bytes);
        Ok(())
    }
}

/// Values that are converted at a time.
const PIECE: usize = 4096;

fn put(file: &mut Hashing<impl Write>, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(PIECE * 4);
    for piece in values.chunks(PIECE) {
        bytes.clear();
        piece.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn get(file: &mut Hashing<impl Read>, values: &mut [f32]) -> std::io::Result<()> {
    let mut bytes = [0; PIECE * 4];
    for piece in values.chunks_mut(PIECE) {
        let bytes = &mut bytes[..piece.len() * 4];
        file.fill(bytes)?;
        for (value, bytes) in piece.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        }
    }
    Ok(())
}
