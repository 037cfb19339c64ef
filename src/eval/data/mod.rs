//! Questions in the files that they are published as.

mod find;
mod json_lines;
mod parquet;
mod row;

pub use find::{Dataset, Files, Split};
pub use row::Row;

use super::EvalError;

impl Files {
    /// Calls `each` with every row, in order.
    ///
    /// # Errors
    /// A file that cannot be read, a row that is not sound, and the errors of `each`.
    pub fn each(
        &self,
        columns: &[&'static str],
        each: &mut dyn FnMut(Row<'_>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        for file in self.paths() {
            match file.extension().is_some_and(|extension| extension == "jsonl") {
                true => json_lines::each_row(file, columns, each)?,
                false => parquet::each_row(file, columns, each)?,
            }
        }
        Ok(())
    }
}
