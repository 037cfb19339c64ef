//! Views of row-major matrices of activations, one row a token.

use std::ops::Range;

/// `[n, width]`, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: &'a [f32],
    width: usize,
}

/// `[n, width]`, to write to.
#[derive(Debug)]
pub struct RowsMut<'a> {
    data: &'a mut [f32],
    width: usize,
}

impl<'a> Rows<'a> {
    /// The rows in `data`.
    ///
    /// # Panics
    /// Where `data` is not a whole number of rows.
    pub fn new(data: &'a [f32], width: usize) -> Rows<'a> {
        assert!(data.len().is_multiple_of(width), "{} values in rows of {width}", data.len());
        Rows { data, width }
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.data.len() / self.width
    }

    /// Values in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row after row.
    pub fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Row `i`.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.width..][..self.width]
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// Where they are not all there.
    pub fn range(&self, rows: Range<usize>) -> Rows<'a> {
        Rows { data: &self.data[rows.start * self.width..rows.end * self.width], width: self.width }
    }
}

impl<'a> RowsMut<'a> {
    /// The rows in `data`.
    ///
    /// # Panics
    /// Where `data` is not a whole number of rows.
    pub fn new(data: &'a mut [f32], width: usize) -> RowsMut<'a> {
        assert!(data.len().is_multiple_of(width), "{} values in rows of {width}", data.len());
        RowsMut { data, width }
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.data.len() / self.width
    }

    /// Values in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row after row.
    pub fn data(&mut self) -> &mut [f32] {
        self.data
    }

    /// All values, for as long as the rows were borrowed.
    pub fn into_data(self) -> &'a mut [f32] {
        self.data
    }

    /// The same rows, to read.
    pub fn view(&self) -> Rows<'_> {
        Rows { data: self.data, width: self.width }
    }

    /// The same rows, for a shorter time.
    pub fn reborrow(&mut self) -> RowsMut<'_> {
        RowsMut { data: self.data, width: self.width }
    }

    /// Row `i`.
    ///
    /// # Panics
    /// Where there is no such row.
    pub fn row(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.width..][..self.width]
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// Where they are not all there.
    pub fn range(&mut self, rows: Range<usize>) -> RowsMut<'_> {
        RowsMut { data: &mut self.data[rows.start * self.width..rows.end * self.width], width: self.width }
    }

    /// Moves the rows `kept` (in rising order) to the front.
    pub(crate) fn keep(&mut self, kept: impl Iterator<Item = usize>) {
        for (to, from) in kept.enumerate() {
            self.data.copy_within(from * self.width..(from + 1) * self.width, to * self.width);
        }
    }
}
