use std::borrow::Cow;
use std::ops::Range;

use bise_kernels::dequantize_row;
use bise_models::gguf::{TensorBytes, TensorType};

use super::halves::Halves;
use super::rows::Rows;

/// A tensor of the new file, before it gets its new type.
pub struct Tensor<'a> {
    /// Its name in GGUF files.
    pub name: String,
    /// Sizes, the fastest first.
    pub shape: Vec<usize>,
    /// The type of the rows.
    pub tensor_type: TensorType,
    /// Matrices that follow each other: one, or one for each expert.
    pieces: Vec<Piece<'a>>,
}

impl<'a> Tensor<'a> {
    /// A matrix; `shape` is the length of a row and the number of rows.
    pub(super) fn matrix(name: String, shape: [usize; 2], piece: Piece<'a>) -> Tensor<'a> {
        let tensor_type = piece.rows.tensor_type();
        Tensor { name, shape: shape.to_vec(), tensor_type, pieces: vec![piece] }
    }

    /// Matrices of one shape, one after the other. Where they differ in type, all become F32.
    pub(super) fn stack(name: String, [k, n_rows]: [usize; 2], pieces: Vec<Piece<'a>>) -> Tensor<'a> {
        let first = pieces[0].rows.tensor_type();
        let all_alike = pieces.iter().all(|piece| piece.rows.tensor_type() == first);
        let tensor_type = if all_alike { first } else { TensorType::F32 };
        Tensor { name, shape: vec![k, n_rows, pieces.len()], tensor_type, pieces }
    }

    /// A vector in F32, whatever it is stored in.
    pub(super) fn vector(name: String, n: usize, piece: Piece<'a>) -> Tensor<'a> {
        Tensor { name, shape: vec![n], tensor_type: TensorType::F32, pieces: vec![piece] }
    }

    /// A vector that is in no file.
    pub(super) fn singles(name: &str, values: Vec<f32>) -> Tensor<'a> {
        let n = values.len();
        Tensor::vector(name.to_owned(), n, Piece::new(Box::new(Singles(values)), None))
    }

    /// The same in F32.
    pub(super) fn in_singles(self) -> Tensor<'a> {
        Tensor { tensor_type: TensorType::F32, ..self }
    }

    /// Some rows, which lie in one matrix, in the tensor's type.
    pub fn read(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let (piece, rows) = self.piece(rows);
        let read = piece.read(rows);
        let from = piece.rows.tensor_type();
        if from == self.tensor_type {
            return read;
        }
        let format = from.format().expect("weights are of types that can be computed with");
        let mut x = vec![0.0; read.len() / format.block_bytes() * format.block_len()];
        dequantize_row(format, &read, &mut x);
        Cow::Owned(bytes_of(&x))
    }

    /// The tensor of the checkpoint that has a weight which is not finite. Reads it until there.
    pub fn not_finite(&self) -> Option<&'a str> {
        let rows_a_piece = self.shape.get(1).copied().unwrap_or(1);
        let is_damaged = |piece: &&Piece<'a>| {
            let format =
                piece.rows.tensor_type().format().expect("weights are of types that can be computed with");
            let mut x = vec![0.0; self.shape[0]];
            (0..rows_a_piece).any(|row| {
                dequantize_row(format, &piece.rows.read(row..row + 1), &mut x);
                x.iter().any(|x| !x.is_finite())
            })
        };
        self.pieces.iter().find(is_damaged)?.name
    }

    /// Whether it keeps its type, whatever others get.
    pub fn keeps_type(&self) -> bool {
        self.pieces
            .iter()
            .all(|piece| piece.rows.keeps_type() && piece.rows.tensor_type() == self.tensor_type)
    }

    /// What of the files some rows of one matrix are made of.
    pub fn places(&self, rows: Range<usize>) -> Vec<TensorBytes> {
        let (piece, rows) = self.piece(rows);
        piece.places(rows)
    }

    fn piece(&self, rows: Range<usize>) -> (&Piece<'a>, Range<usize>) {
        let rows_a_piece = self.shape.get(1).copied().unwrap_or(1);
        let i = rows.start / rows_a_piece;
        let first = i * rows_a_piece;
        (&self.pieces[i], rows.start - first..rows.end - first)
    }
}

/// A matrix of a tensor.
pub struct Piece<'a> {
    rows: Box<dyn Rows + 'a>,
    /// The rows of this many heads come in halves, and are put into pairs.
    halves: Option<Halves>,
    /// What the checkpoint calls it.
    name: Option<&'a str>,
}

impl<'a> Piece<'a> {
    /// The rows of `n_heads` heads, of `head_len` rows each, are put into pairs.
    pub(super) fn new(rows: Box<dyn Rows + 'a>, halves: Option<(usize, usize)>) -> Piece<'a> {
        Piece { rows, halves: halves.map(|(n_heads, head_len)| Halves::new(n_heads, head_len)), name: None }
    }

    /// The checkpoint's tensor `name`.
    pub(super) fn from(self, name: &'a str) -> Piece<'a> {
        Piece { name: Some(name), ..self }
    }

    fn read(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let Some(halves) = self.halves else { return self.rows.read(rows) };
        let mut out = Vec::new();
        let mut row = rows.start;
        while row < rows.end {
            let of_head = row..rows.end.min((row / halves.head_len + 1) * halves.head_len);
            let [first, second] = halves.stored(of_head.clone()).map(|rows| self.rows.read(rows));
            let row_bytes = (first.len() + second.len()) / of_head.len();
            let (mut first, mut second) = (first.chunks_exact(row_bytes), second.chunks_exact(row_bytes));
            for row in of_head.clone() {
                let half = if row % 2 == 0 { &mut first } else { &mut second };
                out.extend_from_slice(half.next().expect("halves have the rows of the whole"));
            }
            row = of_head.end;
        }
        Cow::Owned(out)
    }

    fn places(&self, rows: Range<usize>) -> Vec<TensorBytes> {
        let Some(Halves { n_heads, head_len }) = self.halves else { return self.rows.places(rows) };
        // Whole heads.
        let heads = rows.start / head_len..rows.end.div_ceil(head_len).min(n_heads);
        self.rows.places(heads.start * head_len..heads.end * head_len)
    }
}

/// Numbers that are in no file.
struct Singles(Vec<f32>);

impl Rows for Singles {
    fn tensor_type(&self) -> TensorType {
        TensorType::F32
    }

    fn read(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        assert_eq!(rows, 0..1, "a vector is one row");
        Cow::Owned(bytes_of(&self.0))
    }

    fn places(&self, _: Range<usize>) -> Vec<TensorBytes> {
        Vec::new()
    }
}

fn bytes_of(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_heads_are_put_into_pairs() {
        // w.reshape(2, 2, 2, -1).swapaxes(1, 2).reshape(8, -1) for rows 0 to 7.
        struct Numbers;
        impl Rows for Numbers {
            fn tensor_type(&self) -> TensorType {
                TensorType::F32
            }
            fn read(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
                Cow::Owned(rows.flat_map(|row| [row as u8, 0xff]).collect())
            }
            fn places(&self, _: Range<usize>) -> Vec<TensorBytes> {
                Vec::new()
            }
        }
        let expected = [0, 2, 1, 3, 4, 6, 5, 7];
        let piece = Piece::new(Box::new(Numbers), Some((2, 4)));
        for start in 0..8 {
            for end in start..=8 {
                let read: Vec<u8> = piece.read(start..end).chunks(2).map(|row| row[0]).collect();
                assert_eq!(read, expected[start..end], "{start}..{end}");
            }
        }
        let piece = Piece::new(Box::new(Numbers), Some((1, 6)));
        let read: Vec<u8> = piece.read(0..6).chunks(2).map(|row| row[0]).collect();
        assert_eq!(read, [0, 3, 1, 4, 2, 5]);
    }
}
