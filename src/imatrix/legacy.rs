//! The older format, `.dat`: names, numbers of calls and sums, one after the other.

use std::fs::File;
use std::io::{BufReader, Read, Write};
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

/// The longest name of a tensor, or of a text.
const MAX_NAME: usize = 4096;

/// The most sums of an entry: 128 experts of 131072 columns.
const MAX_SUMS: usize = 1 << 24;

/// Reads such a file. Its sums are mean squares times the number of calls, which is what counts here.
pub(super) fn read(path: &Path) -> Result<Imatrix, ImatrixError> {
    let failed = |error| ImatrixError::Io { path: path.to_owned(), action: "read it", error };
    let file = File::open(path).map_err(failed)?;
    let n_bytes = file.metadata().map_err(failed)?.len();
    let mut from = Reader { path, file: BufReader::new(file), left: n_bytes };
    let n_entries = from.number("the number of entries")?;
    // An entry has at least its three numbers.
    if n_entries == 0 || n_entries as u64 > n_bytes / 12 {
        let found = format!("{n_entries} entries in {n_bytes} bytes");
        return Err(content(
            path,
            "the importance matrix",
            found,
            "one in GGUF or in llama.cpp's older format",
        ));
    }
    let mut imatrix = Imatrix { counts_chunks: true, ..Imatrix::default() };
    for i in 0..n_entries {
        let what = format!("entry {i}");
        let name = from.text(&what)?;
        let count = from.number(&name)? as u64;
        let n = from.number(&name)?;
        if n > MAX_SUMS {
            return Err(content(path, &name, format!("{n} sums"), format!("at most {MAX_SUMS}")));
        }
        let bytes = from.take(4 * n, &name)?;
        let sums = bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        // Sums of no calls are taken as they are.
        let entry = Entry { sum_squares: sums.collect(), sums: Vec::new(), counts: vec![count.max(1)] };
        if imatrix.entries.insert(name.clone(), entry).is_some() {
            return Err(content(path, &name, "it twice", "each tensor once"));
        }
    }
    // The oldest files end here.
    if from.left > 0 {
        imatrix.n_chunks = from.number("the number of calls")? as u32;
        if from.left > 0 {
            imatrix.datasets.push(from.text("the name of the text")?);
        }
    }
    Ok(imatrix)
}

/// What is read piece by piece: a file that is something else is soon known, however large it is.
struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Bytes before the end.
    left: u64,
}

impl Reader<'_> {
    fn take(&mut self, n: usize, what: &str) -> Result<Vec<u8>, ImatrixError> {
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            content(self.path, what, format!("{} bytes before the end", self.left), n.to_string())
        })?;
        let mut bytes = vec![0; n];
        self.file.read_exact(&mut bytes).map_err(|error| ImatrixError::Io {
            path: self.path.to_owned(),
            action: "read it",
            error,
        })?;
        Ok(bytes)
    }

    /// A number of 32 bits that is not negative.
    fn number(&mut self, what: &str) -> Result<usize, ImatrixError> {
        let bytes = self.take(4, what)?.try_into().expect("four bytes");
        let number = i32::from_le_bytes(bytes);
        usize::try_from(number)
            .map_err(|_| content(self.path, what, number.to_string(), "a number that is not negative"))
    }

    /// A name behind its length.
    fn text(&mut self, what: &str) -> Result<String, ImatrixError> {
        let len = self.number(what)?;
        if len > MAX_NAME {
            let expected = format!("at most {MAX_NAME}");
            return Err(content(self.path, what, format!("a name of {len} bytes"), expected));
        }
        Ok(String::from_utf8_lossy(&self.take(len, what)?).into_owned())
    }
}
