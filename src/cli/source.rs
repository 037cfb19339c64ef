//! From the flags that name a model to its file.

use std::path::PathBuf;

use anyhow::Result;

use super::args::source::SourceArgs;
use super::term::console::Log;

/// The name of the built-in model, where there is no such file.
const BUILTIN: &str = "builtin";

fn file(model: Option<&PathBuf>) -> Option<PathBuf> {
    model.filter(|path| path.as_os_str() != BUILTIN || path.exists()).cloned()
}

/// The file that the flags name: of `--model`, or one that is downloaded if it is not on this machine. A checkpoint is made into a file once. `None`
/// for the built-in model.
///
/// # Errors
/// Flags that contradict each other; whatever keeps the model from being downloaded.
#[cfg(feature = "hub")]
pub fn model_path(model: Option<&PathBuf>, source: &SourceArgs, log: Log) -> Result<Option<PathBuf>> {
    use bise::hub::Reference;

    use super::hub;

    if let (Some(file), None) = (&source.hf_file, &source.hf_repo) {
        log.warn(format_args!("--hf-file {file} has no effect without --hf-repo"));
    }
    let mut shown = hub::Shown::new(log);
    let mut watch = |progress: bise::hub::Progress<'_>| shown.watch(progress);
    match (hub::reference(source)?, model) {
        (Some(Reference::Url(url)), Some(to)) => {
            hub::open(source).pull_url_to(&url, to, &mut watch)?;
            Ok(Some(to.clone()))
        }
        (Some(reference), model) => {
            if let Some(model) = model {
                log.warn(format_args!(
                    "--model {} has no effect: --hf-repo names the model",
                    model.display()
                ));
            }
            Ok(Some(hub::open(source).get_newest(&reference, &mut watch)?.path))
        }
        (None, model) => match file(model) {
            Some(path) if path.is_dir() || bise::hub::Checkpoint::at(&path).is_some() => {
                Ok(Some(hub::open(source).get(&Reference::File(path), &mut watch)?.path))
            }
            file => Ok(file),
        },
    }
}

/// The file of `--model`; this program was built without downloads.
#[cfg(not(feature = "hub"))]
pub fn model_path(model: Option<&PathBuf>, _source: &SourceArgs, _log: Log) -> Result<Option<PathBuf>> {
    Ok(file(model))
}
