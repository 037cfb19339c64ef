//! Parses a file's header into metadata and tensor descriptions, with a cursor that checks every step.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. The file is not trusted: counts are compared
//! with what the remaining bytes can hold before anything is allocated, the number of small items that take more memory
//! than file is limited, allocations are fallible, arithmetic is checked, and so is the depth of nesting.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use byteorder::{BigEndian, ByteOrder, LittleEndian};

use super::error::GgufError;
use super::foreign;
use super::metadata::Metadata;
use super::mmap::{Storage, TensorBytes};
use super::str_array::StrArray;
use super::tensor::{TensorInfo, TensorType};
use super::value::{Array, Value, ValueType};
use crate::printable::printable;

/// The first four bytes of a file, in either byte order.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// The alignment of tensor data in a file without [`ALIGNMENT_KEY`].
pub(super) const DEFAULT_ALIGNMENT: usize = 32;
/// The key of the alignment.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// ggml's limit.
pub(super) const MAX_DIMS: usize = 4;
/// How deep arrays may nest. Files in use do not go beyond 2.
pub(super) const MAX_ARRAY_DEPTH: usize = 8;

/// The most keys a file may have. Models have a few dozen, and the smallest take ten times their size in the file.
const MAX_ENTRIES: u64 = 1 << 16;
/// The most tensors a file may have. The largest models have a few thousand.
const MAX_TENSORS: u64 = 1 << 20;
/// The most arrays there may be inside other arrays.
const MAX_NESTED_ARRAYS: usize = 1 << 20;

/// The fewest bytes of a metadata entry: an empty key, a type and one byte.
const MIN_ENTRY_BYTES: usize = 8 + 4 + 1;
/// The fewest bytes of a tensor description: an empty name, one dimension, a type and an offset.
const MIN_TENSOR_BYTES: usize = 8 + 4 + 8 + 4 + 8;

/// The parsed header of one file.
#[derive(Debug)]
pub(super) struct Header {
    pub version: u32,
    pub big_endian: bool,
    pub alignment: usize,
    pub metadata: Metadata,
    /// In file order.
    pub tensors: Vec<TensorInfo>,
    /// Where the last tensor ends, or the header if there are no tensors.
    pub end: usize,
}

/// Reads the header of the file behind `storage`, part `part` of a model.
pub(super) fn read_header(storage: &Arc<Storage>, file: &Arc<str>, part: usize) -> Result<Header, GgufError> {
    let bytes: &[u8] = storage;
    if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())])
        && let Some(foreign) = foreign::identify(bytes, Path::new(&**file))
    {
        return Err(GgufError::NotAModel {
            file: file.clone(),
            found: foreign.found,
            advice: foreign.advice,
        });
    }
    let mut cursor = Cursor::<LittleEndian>::new(bytes, file);
    cursor.subject = Subject::Header("magic");
    let magic = cursor.take(MAGIC.len(), "the magic")?;
    if magic != MAGIC {
        return Err(cursor.error(format!("\"{}\"", printable(magic)), "\"GGUF\": this is not a GGUF file"));
    }
    cursor.subject = Subject::Header("version");
    let version = cursor.u32()?;
    // Versions are small numbers, so a file of the other byte order shows in an empty lower half.
    if version != 0 && version & 0xffff == 0 {
        return Cursor::<BigEndian>::at(bytes, file, MAGIC.len()).header(true, part);
    }
    let cursor = Cursor::<LittleEndian>::at(bytes, file, MAGIC.len());
    Cursor { storage: Some(storage), ..cursor }.header(false, part)
}

/// What is being read, for error messages.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Header(&'static str),
    /// A metadata entry whose key has not been read yet, by its index.
    Entry(u64),
    Key(&'a str),
    /// A tensor description whose name has not been read yet, by its index.
    Description(u64),
    Tensor(&'a str),
}

/// A position in the bytes of a file that is read in byte order `B`.
struct Cursor<'a, B> {
    bytes: &'a [u8],
    pos: usize,
    file: &'a Arc<str>,
    /// What arrays of strings borrow from. `None` if their lengths have to be byte-swapped.
    storage: Option<&'a Arc<Storage>>,
    subject: Subject<'a>,
    /// Arrays inside other arrays, so far.
    n_nested: usize,
    order: PhantomData<B>,
}

impl<'a, B: ByteOrder> Cursor<'a, B> {
    fn new(bytes: &'a [u8], file: &'a Arc<str>) -> Self {
        Cursor::at(bytes, file, 0)
    }

    fn at(bytes: &'a [u8], file: &'a Arc<str>, pos: usize) -> Self {
        let subject = Subject::Header("header");
        Cursor { bytes, pos, file, storage: None, subject, n_nested: 0, order: PhantomData }
    }

    fn error(&self, found: impl Into<String>, expected: impl Into<String>) -> GgufError {
        let (file, found, expected) = (self.file.clone(), found.into(), expected.into());
        match self.subject {
            Subject::Header(what) => GgufError::Header { file, what: what.to_owned(), found, expected },
            Subject::Entry(i) => {
                GgufError::Header { file, what: format!("metadata entry {i}"), found, expected }
            }
            Subject::Description(i) => {
                GgufError::Header { file, what: format!("tensor description {i}"), found, expected }
            }
            Subject::Key(key) => GgufError::Key { file, key: printable(key.as_bytes()), found, expected },
            Subject::Tensor(name) => self.tensor_error(name, found, expected),
        }
    }

    /// Reserves room for `n` more elements. The error names what is being read.
    fn reserve<T>(&self, elements: &mut Vec<T>, n: usize) -> Result<(), GgufError> {
        let n_bytes = (n as u64).saturating_mul(size_of::<T>() as u64);
        elements.try_reserve_exact(n).map_err(|_| self.out_of_memory(n_bytes))
    }

    /// The error for `n_bytes` that could not be allocated for what is being read.
    fn out_of_memory(&self, n_bytes: u64) -> GgufError {
        GgufError::OutOfMemory {
            file: self.file.clone(),
            what: match self.subject {
                Subject::Header(what) => what.to_owned(),
                Subject::Entry(i) => format!("metadata entry {i}"),
                Subject::Description(i) => format!("tensor description {i}"),
                Subject::Key(key) => format!("key '{}'", printable(key.as_bytes())),
                Subject::Tensor(name) => format!("tensor '{}'", printable(name.as_bytes())),
            },
            n_bytes,
        }
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// The next `n` bytes. If they are missing, the error says `what` they were for.
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], GgufError> {
        if n > self.remaining() {
            let found = format!("the end of the file after {} bytes", self.bytes.len());
            return Err(self.error(found, format!("{n} bytes of {what} at byte {}", self.pos)));
        }
        let taken = &self.bytes[self.pos..self.pos + n];
        self.pos += n;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.take(4, "a number").map(B::read_u32)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.take(8, "a number").map(B::read_u64)
    }

    /// Reads a count of `things` that take at least `min_bytes` each, and checks it against the remaining bytes.
    fn count(&mut self, things: &str, min_bytes: usize) -> Result<usize, GgufError> {
        let n = self.u64()?;
        let most = self.remaining() / min_bytes;
        match usize::try_from(n) {
            Ok(n) if n <= most => Ok(n),
            _ => Err(self.error(
                format!("{n} {things}"),
                format!(
                    "at most {most} in the {} bytes that remain (is the download complete?)",
                    self.remaining()
                ),
            )),
        }
    }

    fn str_bytes(&mut self) -> Result<&'a [u8], GgufError> {
        let n = self.count("bytes of text", 1)?;
        self.take(n, "text")
    }

    fn owned(&self, bytes: &[u8]) -> Result<Vec<u8>, GgufError> {
        let mut owned = Vec::new();
        self.reserve(&mut owned, bytes.len())?;
        owned.extend_from_slice(bytes);
        Ok(owned)
    }

    /// Reads `n` strings. They are borrowed from a little-endian file, and copied from a big-endian one.
    fn strs(&mut self, n: usize) -> Result<StrArray, GgufError> {
        let start = self.pos;
        let mut marks = Vec::new();
        self.reserve(&mut marks, StrArray::n_marks(n))?;
        for i in 0..n {
            if StrArray::is_marked(i) {
                marks.push(self.pos - start);
            }
            // Vocabularies have hundreds of thousands: no more is done here than must be, where all is well.
            match self.bytes[self.pos..].split_first_chunk::<8>().map(|(len, rest)| (B::read_u64(len), rest))
            {
                Some((len, rest)) if len <= rest.len() as u64 => self.pos += size_of_val(&len) + len as usize,
                _ => {
                    self.str_bytes()?;
                }
            }
        }
        if let Some(storage) = self.storage {
            let bytes = TensorBytes::new(storage.clone(), start..self.pos);
            return Ok(StrArray::borrowed(bytes, n, marks));
        }
        let n_bytes = self.pos - start;
        self.pos = start;
        let texts = StrArray::try_with_capacity(n, n_bytes);
        let mut texts = texts.map_err(|_| self.out_of_memory(n_bytes as u64))?;
        for _ in 0..n {
            texts.push(self.str_bytes()?);
        }
        Ok(texts)
    }

    /// Reads a key or a tensor name, which must be UTF-8.
    fn name(&mut self) -> Result<&'a str, GgufError> {
        let bytes = self.str_bytes()?;
        std::str::from_utf8(bytes)
            .map_err(|_| self.error(format!("the name \"{}\"", printable(bytes)), "UTF-8"))
    }

    fn value_type(&mut self) -> Result<ValueType, GgufError> {
        let id = self.u32()?;
        ValueType::from_id(id).ok_or_else(|| self.error(format!("value type {id}"), "0 to 12"))
    }

    fn bools(&mut self, n: usize) -> Result<&'a [u8], GgufError> {
        let bytes = self.take(n, "truth values")?;
        match bytes.iter().find(|&&b| b > 1) {
            Some(bad) => Err(self.error(format!("bool {bad}"), "0 or 1")),
            None => Ok(bytes),
        }
    }

    fn value(&mut self) -> Result<Value, GgufError> {
        let kind = self.value_type()?;
        let fixed = match kind {
            ValueType::Str => {
                return Ok(Value::Str(
                    self.str_bytes().and_then(|text| self.owned(text))?.into_boxed_slice(),
                ));
            }
            ValueType::Array => return Ok(Value::Array(self.array(1)?)),
            ValueType::Bool => return Ok(Value::Bool(self.bools(1)?[0] == 1)),
            _ => self.take(kind.min_bytes(), kind.name())?,
        };
        Ok(match kind {
            ValueType::U8 => Value::U8(fixed[0]),
            ValueType::I8 => Value::I8(fixed[0].cast_signed()),
            ValueType::U16 => Value::U16(B::read_u16(fixed)),
            ValueType::I16 => Value::I16(B::read_i16(fixed)),
            ValueType::U32 => Value::U32(B::read_u32(fixed)),
            ValueType::I32 => Value::I32(B::read_i32(fixed)),
            ValueType::U64 => Value::U64(B::read_u64(fixed)),
            ValueType::I64 => Value::I64(B::read_i64(fixed)),
            ValueType::F32 => Value::F32(B::read_f32(fixed)),
            ValueType::F64 => Value::F64(B::read_f64(fixed)),
            ValueType::Str | ValueType::Array | ValueType::Bool => unreachable!("returned above"),
        })
    }

    /// Reads an array at nesting depth `depth`, 1 for the outermost.
    fn array(&mut self, depth: usize) -> Result<Array, GgufError> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(self.error(
                format!("arrays nested more than {MAX_ARRAY_DEPTH} deep"),
                format!("at most {MAX_ARRAY_DEPTH}"),
            ));
        }
        let kind = self.value_type()?;
        let n = self.count("array elements", kind.min_bytes())?;
        // `count` made sure that n times the element size does not exceed the file.
        macro_rules! numbers {
            ($variant:ident, $zero:expr, $read_into:path) => {{
                let mut numbers = Vec::new();
                self.reserve(&mut numbers, n)?;
                numbers.resize(n, $zero);
                $read_into(self.take(n * kind.min_bytes(), kind.name())?, &mut numbers);
                Array::$variant(numbers)
            }};
        }
        Ok(match kind {
            ValueType::U8 => Array::U8(self.take(n, "u8").and_then(|bytes| self.owned(bytes))?),
            ValueType::I8 => {
                let mut numbers = Vec::new();
                self.reserve(&mut numbers, n)?;
                numbers.extend(self.take(n, "i8")?.iter().map(|b| b.cast_signed()));
                Array::I8(numbers)
            }
            ValueType::Bool => {
                let mut bools = Vec::new();
                self.reserve(&mut bools, n)?;
                bools.extend(self.bools(n)?.iter().map(|&b| b == 1));
                Array::Bool(bools)
            }
            ValueType::U16 => numbers!(U16, 0, B::read_u16_into),
            ValueType::I16 => numbers!(I16, 0, B::read_i16_into),
            ValueType::U32 => numbers!(U32, 0, B::read_u32_into),
            ValueType::I32 => numbers!(I32, 0, B::read_i32_into),
            ValueType::U64 => numbers!(U64, 0, B::read_u64_into),
            ValueType::I64 => numbers!(I64, 0, B::read_i64_into),
            ValueType::F32 => numbers!(F32, 0.0, B::read_f32_into),
            ValueType::F64 => numbers!(F64, 0.0, B::read_f64_into),
            ValueType::Str => Array::Str(self.strs(n)?),
            ValueType::Array => {
                // An array in memory is larger than the 12 bytes of an empty one in the file.
                self.n_nested += n;
                if self.n_nested > MAX_NESTED_ARRAYS {
                    let found = format!("{} arrays in arrays", self.n_nested);
                    return Err(self.error(found, format!("at most {MAX_NESTED_ARRAYS}")));
                }
                let mut arrays = Vec::new();
                self.reserve(&mut arrays, n)?;
                for _ in 0..n {
                    arrays.push(self.array(depth + 1)?);
                }
                Array::Array(arrays)
            }
        })
    }

    /// Reads everything from the version on.
    fn header(mut self, big_endian: bool, part: usize) -> Result<Header, GgufError> {
        self.subject = Subject::Header("version");
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            let expected = if version == 1 {
                "2 or 3 (version 1 was in use for a month of 2023: convert the model again)"
            } else {
                "2 or 3"
            };
            return Err(self.error(version.to_string(), expected));
        }
        self.subject = Subject::Header("number of tensors");
        let n_tensors = self.count("tensors", MIN_TENSOR_BYTES)?;
        self.at_most(n_tensors, "tensors", MAX_TENSORS)?;
        self.subject = Subject::Header("number of metadata entries");
        let n_entries = self.count("entries", MIN_ENTRY_BYTES)?;
        self.at_most(n_entries, "entries", MAX_ENTRIES)?;
        let metadata = self.metadata(n_entries)?;
        let alignment = self.alignment(&metadata)?;
        let mut tensors = self.descriptions(n_tensors, alignment, part)?;
        let header_end = self.pos;
        self.place(&mut tensors, alignment)?;
        let end = tensors.iter().map(|info| info.offset + info.n_bytes).max().unwrap_or(header_end);
        Ok(Header { version, big_endian, alignment, metadata, tensors, end })
    }

    fn at_most(&self, n: usize, things: &str, most: u64) -> Result<(), GgufError> {
        match n as u64 <= most {
            true => Ok(()),
            false => Err(self.error(format!("{n} {things}"), format!("at most {most}"))),
        }
    }

    fn metadata(&mut self, n: usize) -> Result<Metadata, GgufError> {
        let mut metadata = Metadata::new(self.file);
        for i in 0..n {
            self.subject = Subject::Entry(i as u64);
            let key = self.name()?;
            self.subject = Subject::Key(key);
            let value = self.value()?;
            if !metadata.add(key, value) {
                return Err(self.error("it twice", "each key once"));
            }
        }
        Ok(metadata)
    }

    fn alignment(&mut self, metadata: &Metadata) -> Result<usize, GgufError> {
        let alignment = metadata.get_as(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(metadata.error(ALIGNMENT_KEY, alignment.to_string(), "a power of two"));
        }
        Ok(alignment)
    }

    /// Reads the tensor descriptions. Their offsets are still relative to the data section.
    fn descriptions(
        &mut self,
        n: usize,
        alignment: usize,
        part: usize,
    ) -> Result<Vec<TensorInfo>, GgufError> {
        let mut tensors = Vec::new();
        self.reserve(&mut tensors, n)?;
        let mut names = HashSet::new();
        for i in 0..n {
            self.subject = Subject::Description(i as u64);
            let name = self.name()?;
            self.subject = Subject::Tensor(name);
            if !names.insert(name) {
                return Err(self.error("it twice", "each tensor once"));
            }
            let shape = self.shape()?;
            let id = self.u32()?;
            let Some(tensor_type) = TensorType::from_id(id) else {
                return Err(self.error(format!("type id {id}"), "one of the tensor types of ggml"));
            };
            let n_bytes = self.n_bytes(&shape, tensor_type)?;
            let offset = self.u64()?;
            if offset % alignment as u64 != 0 {
                return Err(self
                    .error(format!("offset {offset}"), format!("a multiple of the alignment {alignment}")));
            }
            let Ok(offset) = usize::try_from(offset) else {
                return Err(self.error(format!("offset {offset}"), format!("at most {}", self.bytes.len())));
            };
            tensors.push(TensorInfo { name: name.to_owned(), shape, tensor_type, n_bytes, part, offset });
        }
        Ok(tensors)
    }

    fn shape(&mut self) -> Result<Vec<usize>, GgufError> {
        let n_dims = self.u32()? as usize;
        if !(1..=MAX_DIMS).contains(&n_dims) {
            return Err(self.error(format!("{n_dims} dimensions"), format!("1 to {MAX_DIMS}")));
        }
        let mut shape = Vec::with_capacity(n_dims);
        for i in 0..n_dims {
            let size = self.u64()?;
            match usize::try_from(size) {
                Ok(size) if size > 0 => shape.push(size),
                _ => {
                    return Err(
                        self.error(format!("dimension {i} of size {size}"), "1 or more that fit in memory")
                    );
                }
            }
        }
        Ok(shape)
    }

    /// The size of a tensor's data in bytes. Rows must be whole blocks.
    fn n_bytes(&self, shape: &[usize], tensor_type: TensorType) -> Result<usize, GgufError> {
        if !shape[0].is_multiple_of(tensor_type.block_len()) {
            return Err(self.error(
                format!("rows of {} elements", shape[0]),
                format!("a multiple of {}, the block of {tensor_type}", tensor_type.block_len()),
            ));
        }
        let n_elements = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        n_elements
            .and_then(|n| tensor_type.bytes_for(n))
            .ok_or_else(|| self.error(format!("shape {shape:?}"), "a size that fits in memory"))
    }

    /// Makes the offsets relative to the start of the file (the data section begins at the cursor), and checks that the
    /// tensors lie inside the file and do not overlap.
    fn place(&mut self, tensors: &mut [TensorInfo], alignment: usize) -> Result<(), GgufError> {
        let data_start = self.pos.checked_next_multiple_of(alignment);
        let needed =
            tensors.iter().filter_map(|t| data_start?.checked_add(t.offset)?.checked_add(t.n_bytes)).max();
        for info in &mut *tensors {
            let start = data_start.and_then(|d| d.checked_add(info.offset));
            let end = start.and_then(|s| s.checked_add(info.n_bytes));
            match (start, end) {
                (Some(start), Some(end)) if end <= self.bytes.len() => info.offset = start,
                _ => {
                    let found = format!("{} bytes of data at offset {}", info.n_bytes, info.offset);
                    let room = data_start.map_or(0, |d| self.bytes.len().saturating_sub(d));
                    let whole = needed.map_or(String::new(), |n| {
                        format!("; the file has {} bytes of {n}: is the download complete?", self.bytes.len())
                    });
                    let expected = format!("data inside the {room} bytes that there are for it{whole}");
                    return Err(self.tensor_error(&info.name, found, expected));
                }
            }
        }
        let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
        by_offset.sort_unstable_by_key(|info| info.offset);
        for pair in by_offset.windows(2) {
            let end = pair[0].offset + pair[0].n_bytes;
            if pair[1].offset < end {
                let found = format!("data from byte {} of the file", pair[1].offset);
                let expected = format!(
                    "byte {end} or later, where tensor '{}' ends",
                    printable(pair[0].name.as_bytes())
                );
                return Err(self.tensor_error(&pair[1].name, found, expected));
            }
        }
        Ok(())
    }

    fn tensor_error(&self, name: &str, found: String, expected: String) -> GgufError {
        GgufError::Tensor { file: self.file.clone(), tensor: printable(name.as_bytes()), found, expected }
    }
}
