//! Numbers of an adapter as bytes of a file.

use bise_kernels::quantize::QuantizeError;
use bise_kernels::{Format, KernelTable};

use super::error::AdapterFileError;

/// A number that the type of a file cannot hold.
pub(super) struct Unfit(QuantizeError);

impl Unfit {
    /// The error about a number of the tensor called `name`.
    pub fn of(self, name: &str) -> AdapterFileError {
        let (found, expected) = match self.0 {
            QuantizeError::NotFinite { index, value } => {
                (format!("{value} at {index}"), "finite numbers".to_owned())
            }
            QuantizeError::TooLarge { index, largest, format, .. } => {
                (format!("{largest:e} at {index}"), format!("what {format} can hold: F32 and BF16 hold more"))
            }
        };
        AdapterFileError::Part { place: name.to_owned(), found, expected }
    }
}

/// Rows of `width` numbers in `format`, little-endian.
///
/// # Panics
/// If they are no whole rows, or rows no whole blocks.
pub(super) fn encode(format: Format, width: usize, values: &[f32]) -> Result<Vec<u8>, Unfit> {
    let row_bytes = format.row_bytes(width).expect("whole blocks");
    let mut bytes = vec![0; values.len() / width * row_bytes];
    KernelTable::detect().quantize_weights(format, width, values, None, &mut bytes).map_err(Unfit)?;
    Ok(bytes)
}
