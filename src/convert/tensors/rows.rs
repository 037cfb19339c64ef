use std::borrow::Cow;
use std::ops::Range;

use bise_models::gguf::{TensorBytes, TensorType};

/// A matrix whose rows are made when they are asked for, from several threads at a time.
pub trait Rows: Send + Sync {
    /// The type of the rows that [`read`](Self::read) gives.
    fn tensor_type(&self) -> TensorType;

    /// Whether the tensor keeps that type, whatever others get.
    fn keeps_type(&self) -> bool {
        false
    }

    /// Some rows, little-endian. They are as long as the tensor's.
    fn read(&self, rows: Range<usize>) -> Cow<'_, [u8]>;

    /// What of the files they are made of, so that it can be read ahead and given back.
    fn places(&self, rows: Range<usize>) -> Vec<TensorBytes>;
}
