//! NumPy's `.npy` files: token ids in, rows of floats out.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1.0, 2.0 and 3.0.
//! (npyz 0.9.1 multiplies the sizes of a shape unchecked, which panics or wraps, and brings a parser generator and a C
//! compiler for the hundred lines below.)

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bise_models::atomic_file::AtomicFile;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads token ids: an array of 16-, 32- or 64-bit integers with one dimension, or with others of size 1 beside it.
///
/// # Errors
/// If the file cannot be read, is no `.npy` file, has another type or shape, is cut short, or holds a number that is no
/// token id.
pub fn read_ids(path: &Path) -> Result<Vec<u32>> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).with_context(|| name.clone())?;
    parse_ids(&bytes).context(name)
}

fn parse_ids(bytes: &[u8]) -> Result<Vec<u32>> {
    let (header, data) = split_header(bytes)?;
    let descr = quoted(field(header, "descr")?).context("the header's 'descr' is not a string")?;
    let shape = parse_shape(field(header, "shape")?)?;
    let count = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).context("the shape overflows")?;
    ensure!(shape.iter().filter(|&&d| d != 1).count() <= 1, "found shape {shape:?}, expected one dimension");
    let (big_endian, kind) = match descr.split_at_checked(1) {
        Some((">", kind)) => (true, kind),
        Some(("<" | "|" | "=", kind)) => (false, kind),
        _ => (false, descr),
    };
    let width = match kind {
        "i2" | "u2" => 2,
        "i4" | "u4" => 4,
        "i8" | "u8" => 8,
        _ => bail!("found type '{descr}', expected token ids as 16-, 32- or 64-bit integers"),
    };
    let expected = count.checked_mul(width).context("the shape overflows")?;
    ensure!(
        data.len() == expected,
        "found {} bytes of data, expected {expected} for shape {shape:?}",
        data.len()
    );
    let signed = kind.starts_with('i');
    let id = |(at, item): (usize, &[u8])| {
        let mut wide = [0_u8; 8];
        wide[..width].copy_from_slice(item);
        if big_endian {
            wide[..width].reverse();
        }
        let negative = signed && wide[width - 1] & 0x80 != 0;
        let value = u64::from_le_bytes(wide);
        match u32::try_from(value) {
            Ok(id) if !negative => Ok(id),
            _ if negative => bail!("found a negative number at index {at}, expected token ids"),
            _ => bail!("found {value} at index {at}, expected token ids"),
        }
    };
    data.chunks_exact(width).enumerate().map(id).collect()
}

/// The text of the header, and the data behind it.
fn split_header(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC).context("not a .npy file: its first bytes are not \\x93NUMPY")?;
    let cut_short = "the header is cut short";
    let (version, rest) = rest.split_at_checked(2).context(cut_short)?;
    let (len, rest) = match version[0] {
        1 => {
            let (len, rest) = rest.split_first_chunk::<2>().context(cut_short)?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_first_chunk::<4>().context(cut_short)?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        other => bail!("found version {other} of the .npy format, expected 1, 2 or 3"),
    };
    let (header, data) = rest.split_at_checked(len).context(cut_short)?;
    Ok((std::str::from_utf8(header).context("the header is not text")?, data))
}

/// What follows `'name':` in the header, which is a Python dictionary.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str> {
    let found = ['\'', '"'].into_iter().find_map(|quote| {
        let (_, rest) = header.split_once(&format!("{quote}{name}{quote}"))?;
        rest.trim_start().strip_prefix(':')
    });
    found.map(str::trim_start).with_context(|| format!("the header has no '{name}'"))
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote).map(|(inside, _)| inside)
}

fn parse_shape(text: &str) -> Result<Vec<usize>> {
    let inside = text.strip_prefix('(').and_then(|t| t.split_once(')')).map(|(inside, _)| inside);
    let inside = inside.context("the header's 'shape' is not a tuple")?;
    let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
    sizes
        .map(|size| size.parse().with_context(|| format!("found '{size}' in the shape, expected a size")))
        .collect()
}

/// A `.npy` file of float32 `[n_rows, n_cols]`, written row by row; whole or not there at all (see [`AtomicFile`]).
pub struct RowWriter {
    out: BufWriter<AtomicFile>,
    /// The file's name, for messages.
    name: String,
    n_cols: usize,
    rows_left: usize,
}

impl RowWriter {
    /// Begins the file at `path`.
    ///
    /// # Errors
    /// If it cannot be made or written.
    pub fn create(path: &Path, n_rows: usize, n_cols: usize) -> Result<Self> {
        let name = path.display().to_string();
        let file = AtomicFile::create(path).with_context(|| name.clone())?;
        let mut writer =
            Self { out: BufWriter::with_capacity(1 << 20, file), name, n_cols, rows_left: n_rows };
        let dictionary =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n_rows}, {n_cols}), }}");
        writer.write_header(&dictionary).with_context(|| writer.name.clone())?;
        Ok(writer)
    }

    fn write_header(&mut self, dictionary: &str) -> std::io::Result<()> {
        // The data begin at a multiple of 64, behind spaces and a newline.
        let unpadded = MAGIC.len() + 4 + dictionary.len() + 1;
        let len = dictionary.len() + unpadded.next_multiple_of(64) - unpadded + 1;
        self.out.write_all(MAGIC)?;
        self.out.write_all(&[1, 0])?;
        self.out.write_all(&u16::try_from(len).expect("two sizes are short").to_le_bytes())?;
        writeln!(self.out, "{dictionary:<width$}", width = len - 1)
    }

    /// Writes the next row.
    ///
    /// # Errors
    /// If the disk does not take it.
    ///
    /// # Panics
    /// If the row has another length than the file's, or all rows are written.
    pub fn push(&mut self, row: &[f32]) -> Result<()> {
        assert_eq!(row.len(), self.n_cols, "a row of the file");
        self.rows_left = self.rows_left.checked_sub(1).expect("a row is left to write");
        let out = &mut self.out;
        let written = row.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()));
        written.with_context(|| self.name.clone())
    }

    /// Ends the file: on disk, under its name.
    ///
    /// # Errors
    /// If the disk does not take it.
    ///
    /// # Panics
    /// If rows are missing.
    pub fn finish(self) -> Result<()> {
        assert_eq!(self.rows_left, 0, "rows left to write");
        let file = self.out.into_inner().map_err(|e| e.into_error());
        file.and_then(AtomicFile::commit).context(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[version, 0]].concat();
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
    }

    #[test]
    fn ids_of_every_width_are_read() {
        let ids = [1_u32, 300, 32767];
        let as_bytes = |f: &dyn Fn(u32) -> Vec<u8>| ids.iter().flat_map(|&id| f(id)).collect::<Vec<u8>>();
        let cases = [
            ("<i2", as_bytes(&|id| (id as i16).to_le_bytes().into())),
            ("<u2", as_bytes(&|id| (id as u16).to_le_bytes().into())),
            ("<i4", as_bytes(&|id| (id as i32).to_le_bytes().into())),
            ("<u4", as_bytes(&|id| id.to_le_bytes().into())),
            ("<i8", as_bytes(&|id| i64::from(id).to_le_bytes().into())),
            (">i8", as_bytes(&|id| i64::from(id).to_be_bytes().into())),
            (">u2", as_bytes(&|id| (id as u16).to_be_bytes().into())),
        ];
        for (descr, data) in cases {
            for (version, shape) in [(1, "(3,)"), (2, "(1, 3)"), (3, "(3, 1)")] {
                assert_eq!(parse_ids(&npy(version, &header(descr, shape), &data)).unwrap(), ids, "{descr}");
            }
        }
        assert_eq!(parse_ids(&npy(1, &header("<i4", "(0,)"), &[])).unwrap(), [0_u32; 0]);
        assert_eq!(parse_ids(&npy(1, &header("<i4", "()"), &[7, 0, 0, 0])).unwrap(), [7]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |bytes: &[u8]| parse_ids(bytes).unwrap_err().to_string();
        let four = [1, 0, 0, 0];
        assert_eq!(message(b"GGUF"), "not a .npy file: its first bytes are not \\x93NUMPY");
        assert_eq!(message(&[MAGIC, &[1, 0, 9]].concat()), "the header is cut short");
        assert_eq!(
            message(&npy(1, &header("<f4", "(1,)"), &four)),
            "found type '<f4', expected token ids as 16-, 32- or 64-bit integers"
        );
        assert_eq!(
            message(&npy(1, &header("<i4", "(2,)"), &four)),
            "found 4 bytes of data, expected 8 for shape [2]"
        );
        assert_eq!(
            message(&npy(1, &header("<i4", "(2, 2)"), &four)),
            "found shape [2, 2], expected one dimension"
        );
        assert_eq!(
            message(&npy(1, &header("<i4", "(1,)"), &[255; 4])),
            "found a negative number at index 0, expected token ids"
        );
        assert_eq!(
            message(&npy(1, &header("<u8", "(1,)"), &[0, 0, 0, 0, 1, 0, 0, 0])),
            "found 4294967296 at index 0, expected token ids"
        );
        assert_eq!(message(&npy(1, "{'descr': '<i4'}", &four)), "the header has no 'shape'");
        assert_eq!(message(&npy(4, "", &four)), "found version 4 of the .npy format, expected 1, 2 or 3");
        let huge = header("<i8", "(18446744073709551615, 18446744073709551615)");
        assert_eq!(message(&npy(1, &huge, &four)), "the shape overflows");
    }

    #[test]
    fn rows_are_written_aside_and_then_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.npy");
        let mut writer = RowWriter::create(&path, 2, 3).unwrap();
        writer.push(&[1.0, 2.0, 3.0]).unwrap();
        assert!(!path.exists());
        writer.push(&[4.0, 5.0, f32::NEG_INFINITY]).unwrap();
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (text, data) = split_header(&bytes).unwrap();
        assert_eq!(text.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
        assert_eq!((bytes.len() - data.len()) % 64, 0);
        assert!(text.ends_with('\n'));
        assert_eq!(data.len(), 24);
        assert_eq!(data[20..], f32::NEG_INFINITY.to_le_bytes());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(RowWriter::create(&folder.path().join("rows.npy"), 2, 3).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
