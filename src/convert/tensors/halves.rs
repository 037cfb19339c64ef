use std::ops::Range;

/// Heads whose rows come in halves: rotary embedding turns row `i` of a head with row `i + len / 2` in transformers, and rows `2i` and `2i + 1`
/// with each other in GGUF files.
#[derive(Clone, Copy)]
pub(crate) struct Halves {
    pub n_heads: usize,
    pub head_len: usize,
}

impl Halves {
    pub fn new(n_heads: usize, head_len: usize) -> Halves {
        Halves { n_heads, head_len }
    }

    /// Where some rows of one head of the new file are stored: the even ones, and the odd ones.
    pub fn stored(self, rows: Range<usize>) -> [Range<usize>; 2] {
        let head = rows.start / self.head_len * self.head_len;
        let (start, end) = (rows.start - head, rows.end - head);
        let second = head + self.head_len / 2;
        [head + start.div_ceil(2)..head + end.div_ceil(2), second + start / 2..second + end / 2]
    }

    /// Puts rows of `width` numbers in halves into pairs.
    pub fn pair(self, stored: &[f32], width: usize, paired: &mut [f32]) {
        for (row, paired) in paired.chunks_exact_mut(width).enumerate() {
            paired.copy_from_slice(&stored[self.stored_row(row) * width..][..width]);
        }
    }

    /// Rows of `width` numbers in pairs, put into halves again.
    pub fn unpair(self, paired: &[f32], width: usize) -> Vec<f32> {
        let mut stored = vec![0.0; paired.len()];
        for (row, paired) in paired.chunks_exact(width).enumerate() {
            stored[self.stored_row(row) * width..][..width].copy_from_slice(paired);
        }
        stored
    }

    /// Where row `row` of the new file is stored.
    fn stored_row(self, row: usize) -> usize {
        let [even, odd] = self.stored(row..row + 1);
        if even.is_empty() { odd.start } else { even.start }
    }
}

#[cfg(test)]
mod tests {
    use super::Halves;

    #[test]
    fn rows_are_paired_and_put_back() {
        // w.reshape(2, 2, 2, -1).swapaxes(1, 2).reshape(8, -1) for rows of two numbers.
        let rows = |order: [usize; 8]| -> Vec<f32> {
            order.into_iter().flat_map(|row| [row as f32, row as f32 + 0.5]).collect()
        };
        let (stored, paired) = (rows([0, 1, 2, 3, 4, 5, 6, 7]), rows([0, 2, 1, 3, 4, 6, 5, 7]));
        let halves = Halves::new(2, 4);
        let mut found = vec![0.0; stored.len()];
        halves.pair(&stored, 2, &mut found);
        assert_eq!(found, paired);
        assert_eq!(halves.unpair(&paired, 2), stored);
    }
}
