//! The file of log-probabilities that llama-perplexity writes with `--kl-divergence-base` and reads with `--kl-divergence`.
//!
//! `_logits_`, then as 32-bit integers the length of a chunk, the size of the vocabulary and the number of chunks, then the tokens of all
//! chunks, then for each chunk the rows ([`LogProbs`]) after the tokens of its second half but the last. All little-endian.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::CompareError;
use super::row::LogProbs;

const MAGIC: [u8; 8] = *b"_logits_";
const HEADER: u64 = 20;

/// The numbers that everything else in a file follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Tokens of a chunk, at least 3.
    pub n_ctx: usize,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Chunks.
    pub n_chunks: usize,
}

impl Layout {
    /// The first token of a chunk whose successor is foretold.
    pub fn first(&self) -> usize {
        self.n_ctx / 2
    }

    /// Rows of a chunk.
    pub fn rows(&self) -> usize {
        self.n_ctx - 1 - self.first()
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        LogProbs::n_bytes(self.n_vocab)
    }

    /// Bytes before the rows; `None` if that is too many to count.
    fn rows_at(&self) -> Option<u64> {
        let tokens = (self.n_ctx as u64).checked_mul(self.n_chunks as u64)?;
        tokens.checked_mul(4)?.checked_add(HEADER)
    }

    /// Bytes of the file; `None` if that is too many to count.
    pub fn n_bytes(&self) -> Option<u64> {
        let rows = (self.rows() as u64).checked_mul(self.n_chunks as u64)?;
        rows.checked_mul(self.row_bytes() as u64)?.checked_add(self.rows_at()?)
    }
}

/// Writes a file, a row at a time.
pub struct BaseWriter<W> {
    out: W,
    path: PathBuf,
    layout: Layout,
    rows_left: u64,
}

impl<W: Write> BaseWriter<W> {
    /// Begins the file of `tokens`, as many as the layout has, with `out`; errors name `path`.
    ///
    /// # Errors
    /// If it cannot be written, or a number of the layout does not fit in 31 bits.
    ///
    /// # Panics
    /// If there are more tokens, or fewer.
    pub fn start(
        mut out: W,
        path: &Path,
        layout: Layout,
        tokens: &[u32],
    ) -> Result<BaseWriter<W>, CompareError> {
        assert_eq!(tokens.len(), layout.n_ctx * layout.n_chunks, "tokens of {layout:?}");
        let mut head = MAGIC.to_vec();
        for (what, n) in
            [("chunk length", layout.n_ctx), ("vocabulary", layout.n_vocab), ("chunks", layout.n_chunks)]
        {
            let n =
                i32::try_from(n).map_err(|_| content(path, what, n.to_string(), "a number below 2^31"))?;
            head.extend(n.to_le_bytes());
        }
        head.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
        out.write_all(&head).map_err(|error| io(path, "write the file", error))?;
        let rows_left = layout.rows() as u64 * layout.n_chunks as u64;
        Ok(BaseWriter { out, path: path.to_owned(), layout, rows_left })
    }

    /// The layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The chunk that the next row is of.
    pub(super) fn chunk(&self) -> usize {
        self.layout.n_chunks - self.rows_left.div_ceil(self.layout.rows() as u64) as usize
    }

    /// Writes the next row, as [`encode_row`](super::encode_row) makes it.
    ///
    /// # Errors
    /// If it cannot be written.
    ///
    /// # Panics
    /// If it is none of this layout, or one too many.
    pub fn row(&mut self, row: &[u8]) -> Result<(), CompareError> {
        assert_eq!(row.len(), self.layout.row_bytes(), "bytes of a row");
        self.rows_left = self.rows_left.checked_sub(1).expect("no more rows than the layout has");
        self.out.write_all(row).map_err(|error| io(&self.path, "write the file", error))
    }

    /// What was written to, with nothing left in buffers of this writer.
    ///
    /// # Panics
    /// If rows are missing.
    pub fn finish(self) -> W {
        assert_eq!(self.rows_left, 0, "rows are missing");
        self.out
    }
}

/// Reads a file, a chunk at a time.
pub struct BaseReader {
    file: BufReader<File>,
    path: PathBuf,
    layout: Layout,
    /// The chunk and row that the file is at.
    at: (usize, usize),
}

impl BaseReader {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is no such file, or is shorter or longer than it says.
    pub fn open(path: &Path) -> Result<BaseReader, CompareError> {
        // Opening a pipe could wait forever, and it has no size to check.
        let kind = std::fs::metadata(path).map_err(|error| io(path, "open the file", error))?;
        if !kind.is_file() {
            let found = if kind.is_dir() { "a directory" } else { "a pipe or device" };
            return Err(content(path, "log-probabilities", found, "a file"));
        }
        let file = File::open(path).map_err(|error| io(path, "open the file", error))?;
        BaseReader::new(file, path)
    }

    /// Reads `file` from its beginning; errors name `path`.
    ///
    /// # Errors
    /// As [`BaseReader::open`].
    pub fn new(file: File, path: &Path) -> Result<BaseReader, CompareError> {
        let fail = |error| io(path, "read the file", error);
        let n_bytes = file.metadata().map_err(fail)?.len();
        let mut file = BufReader::with_capacity(1 << 18, file);
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        if n_bytes < HEADER {
            let found = format!("{n_bytes} bytes");
            return Err(content(path, "log-probabilities", found, "a file of llama-perplexity or bise"));
        }
        let mut head = [0; HEADER as usize];
        file.read_exact(&mut head).map_err(fail)?;
        if head[..8] != MAGIC {
            let found = format!("'{}'", String::from_utf8_lossy(&head[..8]).escape_debug());
            return Err(content(path, "the first 8 bytes", found, "'_logits_'"));
        }
        let number = |at: usize, what: &str, least: i32| {
            let n = i32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
            match usize::try_from(n) {
                Ok(size) if n >= least => Ok(size),
                _ => Err(content(path, what, n.to_string(), format!("at least {least}"))),
            }
        };
        let n_ctx = number(8, "tokens of a chunk", 3)?;
        let n_vocab = number(12, "tokens of the vocabulary", 1)?;
        let n_chunks = number(16, "chunks", 1)?;
        let layout = Layout { n_ctx, n_vocab, n_chunks };
        if layout.n_bytes() != Some(n_bytes) {
            let expected = layout.n_bytes().map_or("fewer chunks".to_owned(), |n| {
                format!("{n} for {n_chunks} chunks of {n_ctx} tokens and a vocabulary of {n_vocab}")
            });
            return Err(content(path, "size", format!("{n_bytes} bytes"), expected));
        }
        Ok(BaseReader { file, path: path.to_owned(), layout, at: (usize::MAX, 0) })
    }

    /// The layout, which fits the size of the file.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens of a chunk. Rows are then read from its first one on.
    ///
    /// # Errors
    /// If they cannot be read, or one of them is not in the vocabulary.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn chunk(&mut self, i: usize) -> Result<Vec<u32>, CompareError> {
        let Layout { n_ctx, n_vocab, n_chunks } = self.layout;
        assert!(i < n_chunks, "chunk {i} of {n_chunks}");
        let fail = |path: &Path, error| io(path, "read the file", error);
        self.seek(HEADER + 4 * n_ctx as u64 * i as u64)?;
        // The size of the file bounds it.
        let mut bytes = Vec::new();
        let n_bytes = 4 * n_ctx;
        (&mut self.file)
            .take(n_bytes as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| fail(&self.path, error))?;
        if bytes.len() != n_bytes {
            return Err(fail(&self.path, std::io::ErrorKind::UnexpectedEof.into()));
        }
        let (numbers, _) = bytes.as_chunks::<4>();
        let tokens: Vec<u32> = numbers.iter().map(|token| u32::from_le_bytes(*token)).collect();
        if let Some(at) = tokens.iter().position(|token| *token as usize >= n_vocab) {
            let what = format!("chunk {}, token {}", i + 1, at + 1);
            let found = (tokens[at] as i32).to_string();
            return Err(content(&self.path, &what, found, format!("a token of the vocabulary of {n_vocab}")));
        }
        let rows = self.layout.rows() as u64 * self.layout.row_bytes() as u64;
        self.seek(self.layout.rows_at().expect("it fits the size of the file") + rows * i as u64)?;
        self.at = (i, 0);
        Ok(tokens)
    }

    /// Reads the next `n` rows of the chunk to `rows`, in place of what it holds.
    ///
    /// # Errors
    /// If they cannot be read, or a row is not one of log-probabilities.
    ///
    /// # Panics
    /// If the chunk has fewer.
    pub fn rows(&mut self, n: usize, rows: &mut Vec<u8>) -> Result<(), CompareError> {
        let (chunk, row) = self.at;
        assert!(row + n <= self.layout.rows(), "{n} rows after {row} of chunk {chunk}");
        rows.resize(n * self.layout.row_bytes(), 0);
        self.file.read_exact(rows).map_err(|error| io(&self.path, "read the file", error))?;
        for (i, bytes) in rows.chunks_exact(self.layout.row_bytes()).enumerate() {
            let row_probs = LogProbs::new(bytes);
            let (scale, minimum) = (row_probs.scale(), row_probs.minimum());
            let is_sane = scale.is_finite() && scale >= 0.0 && minimum.is_finite() && minimum <= 1e-3;
            if !is_sane {
                let found = format!("log-probabilities from {minimum} in steps of {scale}");
                return Err(self.bad_row(i, found, "finite ones below 0"));
            }
        }
        self.at.1 += n;
        Ok(())
    }

    /// An error about the row that is `i` behind those read before.
    fn bad_row(&self, i: usize, found: String, expected: &str) -> CompareError {
        content(&self.path, &format!("chunk {}, row {}", self.at.0 + 1, self.at.1 + i + 1), found, expected)
    }

    /// An error about a row that was read, `back` before the next one, whose probabilities add up to `sum`.
    pub(super) fn bad_sum(&self, back: usize, sum: f64) -> CompareError {
        let what = format!("chunk {}, row {}", self.at.0 + 1, self.at.1 - back + 1);
        content(&self.path, &what, format!("probabilities that add up to {sum:.3}"), "1")
    }

    fn seek(&mut self, to: u64) -> Result<(), CompareError> {
        match self.file.seek(SeekFrom::Start(to)) {
            Ok(_) => Ok(()),
            Err(error) => Err(io(&self.path, "read the file", error)),
        }
    }
}

pub(super) fn content(
    path: &Path,
    what: &str,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> CompareError {
    CompareError::Content {
        path: path.to_owned(),
        what: what.to_owned(),
        found: found.into(),
        expected: expected.into(),
    }
}

fn io(path: &Path, action: &'static str, error: std::io::Error) -> CompareError {
    CompareError::Io { path: path.to_owned(), action, error }
}
