//! A page in a file. All numbers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `bisepage` |
//! | 4 | the version |
//! | 4 | n, the number of tokens up to the end of the page: a multiple of 64 |
//! | 16 | the salt: what the page's content depends on beside the tokens |
//! | 4 · n | all tokens of the text up to there |
//! | n_layers · page | keys and values as they lie in memory, so that the version changes with their layout |
//! | 8 | XXH3 (64 bits) of all bytes before it |
//!
//! The name of a file is a hash of the tokens; that it has the right ones is seen in the file.

use std::fs::{File, Metadata};
use std::hash::Hasher;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use bise_models::atomic_file::AtomicFile;
use bise_models::{PagePool, PageRef, PoolError};
use twox_hash::XxHash3_64;

const MAGIC: [u8; 8] = *b"bisepage";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 8;

/// Why a page could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// There is no such file (any more).
    Missing,
    /// It is not what it should be, and of no use to anybody.
    Damaged(&'static str),
    /// Another text or model has the same name: as good as missing.
    Other,
    Io(io::Error),
    /// There is no page to read it into.
    NoPage,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        match error.kind() {
            io::ErrorKind::NotFound => ReadError::Missing,
            io::ErrorKind::UnexpectedEof => ReadError::Damaged("it has become shorter"),
            _ => ReadError::Io(error),
        }
    }
}

impl From<PoolError> for ReadError {
    fn from(_: PoolError) -> ReadError {
        ReadError::NoPage
    }
}

fn header(salt: u128, tokens: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 * tokens.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tokens.len() as u32).to_le_bytes());
    bytes.extend(salt.to_le_bytes());
    bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    bytes
}

/// Bytes of a file.
pub(super) fn file_bytes(n_tokens: usize, pool: &PagePool) -> u64 {
    let page = pool.n_layers() * pool.layout().page_bytes();
    (HEADER_BYTES + 4 * n_tokens + page + CHECKSUM_BYTES) as u64
}

/// Writes the page at the end of `tokens`: aside, to the disk, and under its name.
pub(super) fn write(
    path: &Path,
    salt: u128,
    tokens: &[u32],
    page: &PageRef,
    n_layers: usize,
) -> io::Result<()> {
    let mut hash = XxHash3_64::new();
    let mut out = BufWriter::new(AtomicFile::create(path)?);
    let mut put = |bytes: &[u8]| {
        hash.write(bytes);
        out.write_all(bytes)
    };
    put(&header(salt, tokens))?;
    (0..n_layers).try_for_each(|layer| put(page.layer(layer)))?;
    out.write_all(&hash.finish().to_le_bytes())?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.commit()
}

/// Reads the page at the end of `tokens`, and notes on the file that it was used.
pub(super) fn read(path: &Path, salt: u128, tokens: &[u32], pool: &PagePool) -> Result<PageRef, ReadError> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::Other);
    }
    let mut hash = XxHash3_64::new();
    let expected = header(salt, tokens);
    let mut found = vec![0; expected.len()];
    let whole = file_bytes(tokens.len(), pool);
    if metadata.len() != whole {
        return Err(ReadError::Damaged("it is not as long as it should be"));
    }
    file.read_exact(&mut found)?;
    hash.write(&found);
    let page = pool.filled_page::<ReadError>(&mut |layer| {
        file.read_exact(layer)?;
        hash.write(layer);
        Ok(())
    })?;
    let mut checksum = [0; CHECKSUM_BYTES];
    file.read_exact(&mut checksum)?;
    if hash.finish() != u64::from_le_bytes(checksum) {
        return Err(ReadError::Damaged("its checksum is wrong"));
    }
    if found != expected {
        return Err(ReadError::Other);
    }
    note_use(&file);
    Ok(page)
}

/// Notes on a file that it was used.
pub(super) fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        note_use(&file);
    }
}

fn note_use(file: &File) {
    // Files are given up in the order of these times. Where it cannot be set, that is no matter.
    let _ = file.set_modified(SystemTime::now());
}

/// When a file was used last.
pub(super) fn last_used(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}
