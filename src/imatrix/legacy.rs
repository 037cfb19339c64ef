//! The older format, `.dat`: names, numbers of calls and sums, one after the other.

use std::io::Write;
use std::path::Path;

use bise_models::atomic_file::AtomicFile;

use super::error::content;
use super::{Entry, Imatrix, ImatrixError};

/// Writes such a file: for each matrix its mean squares, times the number of chunks.
pub(super) fn write(imatrix: &Imatrix, path: &Path) -> Result<(), ImatrixError> {
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, n: u64| out.extend(i32::try_from(n).unwrap_or(i32::MAX).to_le_bytes());
    number(&mut out, imatrix.entries.len() as u64);
    for (name, entry) in &imatrix.entries {
        number(&mut out, name.len() as u64);
        out.extend(name.as_bytes());
        let most = entry.counts.iter().copied().max().unwrap_or(0);
        let n_calls = most.div_ceil(u64::from(imatrix.chunk_len.max(1)));
        number(&mut out, n_calls);
        number(&mut out, entry.sum_squares.len() as u64);
        for mean in entry.mean_squares() {
            out.extend((mean * n_calls as f32).to_le_bytes());
        }
    }
    number(&mut out, u64::from(imatrix.n_chunks));
    let dataset = imatrix.datasets.last().map_or("", String::as_str);
    number(&mut out, dataset.len() as u64);
    out.extend(dataset.as_bytes());
    let failed = |error| ImatrixError::Io { path: path.to_owned(), action: "write it", error };
    let mut file = AtomicFile::create(path).map_err(failed)?;
    file.write_all(&out).map_err(failed)?;
    file.commit().map_err(failed)
}

/// The longest name of a tensor.
const MAX_NAME: usize = 4096;

/// Reads such a file. Its sums are mean squares times the number of calls, which is what counts here.
pub(super) fn read(path: &Path) -> Result<Imatrix, ImatrixError> {
    let bytes = std::fs::read(path).map_err(|error| ImatrixError::Io {
        path: path.to_owned(),
        action: "read it",
        error,
    })?;
    let mut at = Cursor { path, bytes: &bytes, position: 0 };
    let n_entries = at.number("the number of entries")?;
    // An entry has at least its three numbers.
    if n_entries == 0 || n_entries > bytes.len() / 12 {
        let found = format!("{n_entries} entries in {} bytes", bytes.len());
        return Err(content(
            path,
            "the importance matrix",
            found,
            "one in GGUF or in llama.cpp's older format",
        ));
    }
    let mut imatrix = Imatrix::default();
    for i in 0..n_entries {
        let what = format!("entry {i}");
        let len = at.number(&what)?;
        if len > MAX_NAME {
            return Err(content(
                path,
                &what,
                format!("a name of {len} bytes"),
                format!("at most {MAX_NAME}"),
            ));
        }
        let name = String::from_utf8_lossy(at.take(len, &what)?).into_owned();
        let count = at.number(&name)? as u64;
        let n = at.number(&name)?;
        let values = at.take(n.saturating_mul(4), &name)?.as_chunks().0;
        let sum_squares = values.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
        // Sums of no calls are taken as they are.
        let entry = Entry { sum_squares, sums: Vec::new(), counts: vec![count.max(1)] };
        imatrix.entries.insert(name, entry);
    }
    // The oldest files end here.
    if at.position < bytes.len() {
        imatrix.n_chunks = at.number("the number of calls")? as u32;
        if at.position < bytes.len() {
            let len = at.number("the name of the text")?;
            let name = at.take(len, "the name of the text")?;
            imatrix.datasets.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(imatrix)
}

struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], ImatrixError> {
        let left = &self.bytes[self.position..];
        match left.get(..n) {
            Some(taken) => {
                self.position += n;
                Ok(taken)
            }
            None => {
                Err(content(self.path, what, format!("{} bytes before the end", left.len()), n.to_string()))
            }
        }
    }

    /// A number of 32 bits that is not negative.
    fn number(&mut self, what: &str) -> Result<usize, ImatrixError> {
        let bytes = self.take(4, what)?.try_into().expect("four bytes");
        let number = i32::from_le_bytes(bytes);
        usize::try_from(number)
            .map_err(|_| content(self.path, what, number.to_string(), "a number that is not negative"))
    }
}
