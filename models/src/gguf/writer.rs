//! Writing GGUF version 3, in either byte order.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use byteorder::{BigEndian, ByteOrder, LittleEndian, WriteBytesExt};

use super::layout;
use super::metadata::Metadata;
use super::reader::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_ARRAY_DEPTH, MAX_DIMS};
use super::tensor::TensorType;
use super::value::{Array, Value};
use crate::atomic_file::AtomicFile;
use crate::printable::{Printable, printable};

/// The version that is written.
const VERSION: u32 = 3;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Writing to the destination failed.
    #[error("cannot write the model: {0}")]
    Io(io::Error),
    /// A file could not be created, filled or put in place.
    #[error("{}: cannot {action}: {error}", Printable(path.display()))]
    File {
        /// The file concerned.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// Metadata that no reader would accept.
    #[error("key '{key}': found {found}, expected {expected}")]
    Key {
        /// The metadata key.
        key: String,
        /// What was given.
        found: String,
        /// What can be written.
        expected: String,
    },
    /// A tensor that no reader would accept, or data that do not have its size.
    #[error("tensor '{tensor}': found {found}, expected {expected}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What was given.
        found: String,
        /// What can be written.
        expected: String,
    },
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Io(error)
    }
}

/// A tensor that has been added, whose data come later.
#[derive(Debug, Clone)]
struct Announced {
    name: String,
    shape: Vec<usize>,
    tensor_type: TensorType,
    n_bytes: usize,
}

impl Announced {
    fn error(&self, found: String, expected: String) -> WriteError {
        WriteError::Tensor { tensor: printable(self.name.as_bytes()), found, expected }
    }
}

/// Collects metadata and tensor descriptions, writes the header, and then accepts the data in order.
///
/// Data are streamed: no tensor is held in memory as a whole.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    metadata: Metadata,
    tensors: Vec<Announced>,
    big_endian: bool,
}

impl Default for GgufWriter {
    fn default() -> GgufWriter {
        GgufWriter::new()
    }
}

impl GgufWriter {
    /// A little-endian file without metadata or tensors.
    #[must_use]
    pub fn new() -> GgufWriter {
        GgufWriter { metadata: Metadata::new("new file"), tensors: Vec::new(), big_endian: false }
    }

    /// The metadata to write. `general.alignment` (a power of two; 32 by default) sets the alignment of the data.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    /// Makes it a big-endian file. The data passed in are little-endian in any case.
    pub fn big_endian(&mut self) {
        self.big_endian = true;
    }

    /// Adds a tensor. Data are written later, in the order of these calls. `shape[0]` is the length of a row.
    ///
    /// # Errors
    /// If the name is taken, the shape is not 1 to 4 sizes above zero, rows are not whole blocks, or the type
    /// cannot be written in the byte order asked for.
    pub fn add_tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        tensor_type: TensorType,
    ) -> Result<(), WriteError> {
        let mut tensor = Announced { name: name.to_owned(), shape: shape.to_vec(), tensor_type, n_bytes: 0 };
        if self.tensors.iter().any(|t| t.name == name) {
            return Err(tensor.error("it twice".into(), "each tensor once".into()));
        }
        if !(1..=MAX_DIMS).contains(&shape.len()) || shape.contains(&0) {
            return Err(tensor.error(format!("shape {shape:?}"), format!("1 to {MAX_DIMS} sizes above zero")));
        }
        let block_len = tensor_type.block_len();
        if !shape[0].is_multiple_of(block_len) {
            let expected = format!("a multiple of {block_len}, the block of {tensor_type}");
            return Err(tensor.error(format!("rows of {} elements", shape[0]), expected));
        }
        let n_elements = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        match n_elements.and_then(|n| tensor_type.bytes_for(n)) {
            Some(n_bytes) => tensor.n_bytes = n_bytes,
            None => return Err(tensor.error(format!("shape {shape:?}"), "a size that fits in memory".into())),
        }
        self.tensors.push(tensor);
        Ok(())
    }

    /// Writes everything but the data to `out`, and returns the writer for those.
    ///
    /// # Errors
    /// If `out` fails, or there are metadata or tensors that no reader would accept.
    pub fn start<W: Write>(self, mut out: W) -> Result<GgufDataWriter<W>, WriteError> {
        let alignment = match self.metadata.get(ALIGNMENT_KEY) {
            None => DEFAULT_ALIGNMENT,
            Some(&Value::U32(n)) if n.is_power_of_two() => n as usize,
            Some(other) => {
                return Err(WriteError::Key {
                    key: ALIGNMENT_KEY.to_owned(),
                    found: other.describe(),
                    expected: "a power of two in u32".to_owned(),
                });
            }
        };
        if self.big_endian
            && let Some(tensor) = self.tensors.iter().find(|t| layout::fields(t.tensor_type).is_none())
        {
            let found = format!("type {} for a big-endian file", tensor.tensor_type);
            return Err(tensor.error(found, "little-endian for this type".into()));
        }
        let mut header = if self.big_endian {
            self.header::<BigEndian>(alignment)?
        } else {
            self.header::<LittleEndian>(alignment)?
        };
        header.resize(header.len().next_multiple_of(alignment), 0);
        out.write_all(&header)?;
        Ok(GgufDataWriter {
            out,
            alignment,
            big_endian: self.big_endian,
            tensors: self.tensors.into_iter(),
            current: None,
        })
    }

    /// Writes a whole file, `data[i]` being the bytes of the i-th tensor.
    ///
    /// # Errors
    /// As [`start`](Self::start), [`write`](GgufDataWriter::write) and [`finish`](GgufDataWriter::finish).
    pub fn write_all<W: Write>(self, out: W, data: &[&[u8]]) -> Result<W, WriteError> {
        let mut writer = self.start(out)?;
        for bytes in data {
            writer.write(bytes)?;
        }
        writer.finish()
    }

    /// Writes the file at `path`. `fill` writes the data.
    ///
    /// The file is written aside, flushed to the disk, and then renamed, so that `path` is never half a model; see
    /// [`AtomicFile`].
    ///
    /// # Errors
    /// If the file system refuses, or as [`start`](Self::start), [`write`](GgufDataWriter::write) and
    /// [`finish`](GgufDataWriter::finish). Nothing is left behind then, and what was at `path` stays.
    pub fn save<E: From<WriteError>>(
        self,
        path: &Path,
        fill: impl FnOnce(&mut GgufDataWriter<BufWriter<AtomicFile>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |action| move |error| WriteError::File { path: path.to_owned(), action, error };
        let file = AtomicFile::create(path).map_err(failed("create the file"))?;
        let mut writer = self.start(BufWriter::with_capacity(1 << 20, file))?;
        fill(&mut writer)?;
        let file = writer.finish()?.into_inner().map_err(|e| failed("write the file")(e.into_error()))?;
        Ok(file.commit().map_err(failed("put the file in place"))?)
    }

    fn header<B: ByteOrder>(&self, alignment: usize) -> Result<Vec<u8>, WriteError> {
        let mut out = MAGIC.to_vec();
        out.write_u32::<B>(VERSION)?;
        out.write_u64::<B>(self.tensors.len() as u64)?;
        out.write_u64::<B>(self.metadata.len() as u64)?;
        for (key, value) in self.metadata.iter() {
            write_str::<B>(&mut out, key.as_bytes())?;
            out.write_u32::<B>(value.value_type() as u32)?;
            write_value::<B>(&mut out, key, value)?;
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            write_str::<B>(&mut out, tensor.name.as_bytes())?;
            out.write_u32::<B>(tensor.shape.len() as u32)?;
            for &size in &tensor.shape {
                out.write_u64::<B>(size as u64)?;
            }
            out.write_u32::<B>(tensor.tensor_type as u32)?;
            out.write_u64::<B>(offset)?;
            offset = (tensor.n_bytes as u64)
                .checked_next_multiple_of(alignment as u64)
                .and_then(|padded| offset.checked_add(padded))
                .ok_or_else(|| {
                    tensor.error("too many bytes before it ends".into(), "less than 2^64".into())
                })?;
        }
        Ok(out)
    }
}

fn write_str<B: ByteOrder>(out: &mut Vec<u8>, text: &[u8]) -> io::Result<()> {
    out.write_u64::<B>(text.len() as u64)?;
    out.write_all(text)
}

fn write_value<B: ByteOrder>(out: &mut Vec<u8>, key: &str, value: &Value) -> Result<(), WriteError> {
    match value {
        Value::U8(v) => out.write_u8(*v)?,
        Value::I8(v) => out.write_i8(*v)?,
        Value::U16(v) => out.write_u16::<B>(*v)?,
        Value::I16(v) => out.write_i16::<B>(*v)?,
        Value::U32(v) => out.write_u32::<B>(*v)?,
        Value::I32(v) => out.write_i32::<B>(*v)?,
        Value::U64(v) => out.write_u64::<B>(*v)?,
        Value::I64(v) => out.write_i64::<B>(*v)?,
        Value::F32(v) => out.write_f32::<B>(*v)?,
        Value::F64(v) => out.write_f64::<B>(*v)?,
        Value::Bool(v) => out.write_u8((*v).into())?,
        Value::Str(text) => write_str::<B>(out, text)?,
        Value::Array(array) => write_array::<B>(out, key, array, 1)?,
    }
    Ok(())
}

/// Writes an array that is `depth` arrays deep, counting itself.
fn write_array<B: ByteOrder>(
    out: &mut Vec<u8>,
    key: &str,
    array: &Array,
    depth: usize,
) -> Result<(), WriteError> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(WriteError::Key {
            key: printable(key.as_bytes()),
            found: format!("arrays nested more than {MAX_ARRAY_DEPTH} deep"),
            expected: format!("at most {MAX_ARRAY_DEPTH}"),
        });
    }
    out.write_u32::<B>(array.element_type() as u32)?;
    out.write_u64::<B>(array.len() as u64)?;
    macro_rules! each {
        ($numbers:expr, $write:ident) => {
            $numbers.iter().try_for_each(|&v| out.$write::<B>(v))?
        };
    }
    match array {
        Array::U8(v) => out.write_all(v)?,
        Array::I8(v) => v.iter().try_for_each(|&v| out.write_i8(v))?,
        Array::Bool(v) => v.iter().try_for_each(|&v| out.write_u8(v.into()))?,
        Array::U16(v) => each!(v, write_u16),
        Array::I16(v) => each!(v, write_i16),
        Array::U32(v) => each!(v, write_u32),
        Array::I32(v) => each!(v, write_i32),
        Array::U64(v) => each!(v, write_u64),
        Array::I64(v) => each!(v, write_i64),
        Array::F32(v) => each!(v, write_f32),
        Array::F64(v) => each!(v, write_f64),
        Array::Str(texts) => texts.iter().try_for_each(|text| write_str::<B>(out, text))?,
        Array::Array(arrays) => {
            for array in arrays {
                write_array::<B>(out, key, array, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// Writes the data of the tensors, in the order in which they were added.
#[derive(Debug)]
pub struct GgufDataWriter<W> {
    out: W,
    alignment: usize,
    big_endian: bool,
    tensors: std::vec::IntoIter<Announced>,
    /// The tensor that is partly written, and the number of bytes written of it.
    current: Option<(Announced, usize)>,
}

impl<W: Write> GgufDataWriter<W> {
    /// Writes the next piece of the current tensor, or the first of the next: whole blocks, little-endian.
    ///
    /// # Errors
    /// If all tensors are written, the piece is not whole blocks or is too long for its tensor, or `out` fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let next = self.current.take().or_else(|| self.tensors.next().map(|tensor| (tensor, 0)));
        let Some((tensor, n_written)) = next else {
            return Err(WriteError::Tensor {
                tensor: "(after the last)".into(),
                found: format!("{} bytes", bytes.len()),
                expected: "no more data".into(),
            });
        };
        let left = tensor.n_bytes - n_written;
        let block_bytes = tensor.tensor_type.block_bytes();
        if bytes.len() > left || !bytes.len().is_multiple_of(block_bytes) {
            let expected = format!("at most {left}, in whole blocks of {block_bytes}");
            return Err(tensor.error(format!("{} bytes", bytes.len()), expected));
        }
        let mut bytes = Cow::Borrowed(bytes);
        if self.big_endian {
            layout::swap_byte_order(tensor.tensor_type, bytes.to_mut());
        }
        self.out.write_all(&bytes)?;
        if bytes.len() < left {
            self.current = Some((tensor, n_written + bytes.len()));
        } else {
            self.pad(tensor.n_bytes)?;
        }
        Ok(())
    }

    /// Writes the zeros between the end of a tensor of `n_bytes` and the start of the next.
    fn pad(&mut self, n_bytes: usize) -> io::Result<()> {
        let padding = n_bytes.next_multiple_of(self.alignment) - n_bytes;
        io::copy(&mut io::Read::take(io::repeat(0), padding as u64), &mut self.out).map(|_| ())
    }

    /// Ends the file, flushes `out` and gives it back.
    ///
    /// # Errors
    /// If data are missing, or `out` fails.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if let Some((tensor, n_written)) = self.current.take().or_else(|| self.tensors.next().map(|t| (t, 0)))
        {
            return Err(tensor.error(format!("{n_written} bytes"), tensor.n_bytes.to_string()));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}
