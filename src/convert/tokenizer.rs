//! The tokenizer of a checkpoint as the `tokenizer.*` keys of a GGUF file.

use std::path::Path;

use bise_models::gguf::Metadata;

use super::layout::Layout;
use super::vocabulary::files::Folder;
use super::{ConvertError, chat_template, vocabulary};

/// Sets all `tokenizer.*` keys of the checkpoint in `folder`. `n_rows` is the number of rows of the embedding.
///
/// The vocabulary is filled up with unused tokens called `[PADi]` to as many tokens as there are rows. Returns what differs from the checkpoint's own
/// tokenizer, or was left out: a line for each.
///
/// # Errors
/// If there is no tokenizer, a file of it is invalid or of a kind that `bise` cannot run, or it has more tokens than the embedding has rows. Some of
/// the keys may be set then.
pub fn set_tokenizer(
    folder: &Path,
    layout: Layout,
    n_rows: usize,
    metadata: &mut Metadata,
) -> Result<Vec<String>, ConvertError> {
    let folder = Folder(folder);
    let mut notes = Vec::new();
    let found = vocabulary::set(folder, layout, n_rows, metadata, &mut notes)?;
    match found.native {
        Some(native) => chat_template::set_native(folder, layout, native, metadata, &mut notes)?,
        None => {
            chat_template::set_hugging_face(folder, metadata, &mut notes)?;
        }
    }
    Ok(notes)
}
