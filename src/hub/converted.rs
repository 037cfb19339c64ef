//! Checkpoints made into GGUF files so that they run: a cache of our own, `converted/KEY/NAME-TYPE.gguf`.
//!
//! The key is a digest of what the file was made of: the checkpoint's files by name, size and time, and the type. A file appears there when it is
//! whole, and one process at a time makes it. `source.json` beside it says for people and for `bise list` where it came from.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bise_models::atomic_file::AtomicFile;
use serde_json::{Value, json};

use super::digest::Sha256;
use super::download::Lock;
use super::error::HubError;
use super::hugging_face::checkpoint;
use super::model::{Extras, LocalModel, Place};
use super::progress::Watch;

/// The type that checkpoints become unless another is asked for.
const DEFAULT_TYPE: &str = "Q4_K_M";

/// What those become that are quantized already, to integers that blocks of a GGUF file hold as they are: others' integers are not rounded again.
#[cfg(feature = "convert")]
const KEPT: &str = "AUTO";

/// Part of every key: another one makes files anew.
const REVISION: u32 = 1;

const RECORD: &str = "source.json";

/// A checkpoint to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where its files lie.
    pub folder: PathBuf,
    /// What it goes by, without the type.
    pub name: String,
    /// The type of its GGUF file, in upper case.
    pub file_type: String,
}

impl Checkpoint {
    /// The checkpoint at `FOLDER` or `FOLDER:TYPE`, if there is a configuration. Whether it has weights that can be converted is seen later.
    pub fn at(path: &Path) -> Option<Checkpoint> {
        let of = |folder: &Path, file_type: Option<&str>| {
            let has_config = ["config.json", "params.json"].iter().any(|name| folder.join(name).is_file());
            has_config.then(|| {
                let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
                Checkpoint::new(folder.clone(), folder.display().to_string(), file_type)
            })
        };
        of(path, None).or_else(|| {
            let (folder, file_type) = path.to_str()?.rsplit_once(':')?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (!file_type.is_empty() && file_type.chars().all(plain))
                .then(|| of(Path::new(folder), Some(file_type)))?
        })
    }

    /// A checkpoint that goes by `name`.
    pub fn new(folder: PathBuf, name: String, file_type: Option<&str>) -> Checkpoint {
        let file_type = file_type.unwrap_or_else(|| default_type(&folder)).to_ascii_uppercase();
        Checkpoint { folder, name, file_type }
    }

    /// What it goes by, with the type.
    fn full_name(&self) -> String {
        format!("{}:{}", self.name, self.file_type)
    }

    /// The last part of its name, with the type.
    fn stem(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name = self.name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
        let name: String = name.chars().map(plain).take(120).collect();
        format!("{}-{}", name.trim_start_matches('.'), self.file_type)
    }

    /// A digest of the files and the type.
    fn key(&self) -> Result<String, HubError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| HubError::io(&path, error)
        };
        let names = names(&self.folder).map_err(io(&self.folder))?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut text = format!("{REVISION}\n{}\n{}\n", self.file_type, self.folder.display());
        for name in checkpoint::files(&names) {
            // In the cache of huggingface_hub a file is a link to its content, which has a name of its own.
            let path = self.folder.join(name);
            let content = fs::canonicalize(&path).map_err(io(&path))?;
            let metadata = fs::metadata(&content).map_err(io(&path))?;
            let time = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            text += &format!("{name}\n{}\n{}\n{time}\n", content.display(), metadata.len());
        }
        Ok(Sha256::of(text.as_bytes()).short())
    }
}

#[cfg(feature = "convert")]
fn default_type(folder: &Path) -> &'static str {
    if crate::convert::has_integers(folder) { KEPT } else { DEFAULT_TYPE }
}

#[cfg(not(feature = "convert"))]
fn default_type(_folder: &Path) -> &'static str {
    DEFAULT_TYPE
}

/// Whether a folder holds a checkpoint with weights.
pub fn is_checkpoint(folder: &Path) -> bool {
    names(folder).is_ok_and(|names| checkpoint::is_checkpoint(names.iter().map(String::as_str)))
}

/// The files of a folder, and of the one below it that matters, in order.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    const TEMPLATES: &str = "additional_chat_templates";
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A link may lead nowhere.
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().exists()
        {
            names.push(name);
        }
    }
    if names.iter().any(|name| name == TEMPLATES)
        && let Ok(entries) = fs::read_dir(folder.join(TEMPLATES))
    {
        names.extend(
            entries
                .flatten()
                .filter_map(|entry| Some(format!("{TEMPLATES}/{}", entry.file_name().to_str()?))),
        );
    }
    names.sort();
    Ok(names)
}

/// The cache.
#[derive(Clone, Debug)]
pub struct Converted {
    root: PathBuf,
}

impl Converted {
    /// The cache in our folder of models.
    pub fn new(models: &Path) -> Converted {
        Converted { root: models.join("converted") }
    }

    fn path(&self, checkpoint: &Checkpoint) -> Result<PathBuf, HubError> {
        Ok(self.root.join(checkpoint.key()?).join(format!("{}.gguf", checkpoint.stem())))
    }

    /// The GGUF file of a checkpoint as it is now, if it was made.
    ///
    /// # Errors
    /// If the folder of the checkpoint cannot be read.
    pub fn find(&self, checkpoint: &Checkpoint) -> Result<Option<LocalModel>, HubError> {
        let path = self.path(checkpoint)?;
        Ok(model(&path, checkpoint.full_name()))
    }

    /// The GGUF file of a checkpoint, which is made unless it is there.
    ///
    /// # Errors
    /// The checkpoint cannot be converted, the disk, or `watch`.
    pub fn get(&self, checkpoint: &Checkpoint, watch: &mut Watch<'_>) -> Result<LocalModel, HubError> {
        let path = self.path(checkpoint)?;
        if let Some(model) = model(&path, checkpoint.full_name()) {
            return Ok(model);
        }
        let started = SystemTime::now();
        make(checkpoint, &path, watch)?;
        self.remove_older(checkpoint, &path, started);
        model(&path, checkpoint.full_name()).ok_or_else(|| HubError::Corrupt {
            path: path.clone(),
            why: "found nothing, expected the file that was just written".into(),
        })
    }

    /// Every file that was made.
    pub fn list(&self) -> Vec<LocalModel> {
        self.records().into_iter().filter_map(|(path, name)| model(&path, name)).collect()
    }

    /// Removes a file that was made. What it was made of stays.
    ///
    /// # Errors
    /// The disk.
    pub fn remove(&self, model: &LocalModel) -> Result<(), HubError> {
        let folder = model.path.parent().filter(|folder| folder.parent() == Some(&self.root));
        // Held by another process, the folder is about to have a file again.
        let lock = folder.and_then(|folder| Lock::try_acquire(&lock_of(folder)));
        fs::remove_file(&model.path).map_err(|error| HubError::io(&model.path, error))?;
        if let (Some(folder), Some(lock)) = (folder, lock) {
            let _ = fs::remove_dir_all(folder);
            lock.remove();
        }
        Ok(())
    }

    /// Removes what was made of the same checkpoint and for the same type before its files changed, and what killed processes left of any.
    /// `newest` was just made, by a run that began at `started`.
    fn remove_older(&self, checkpoint: &Checkpoint, newest: &Path, started: SystemTime) {
        let name = checkpoint.full_name();
        // Not if the checkpoint has changed meanwhile.
        let is_current = self.path(checkpoint).is_ok_and(|path| path == newest);
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path());
        for entry in entries {
            let is_lock = entry.extension().is_some_and(|extension| extension == "lock");
            let folder = if is_lock { entry.with_extension("") } else { entry };
            if Some(folder.as_path()) == newest.parent() || is_lock && folder.exists() {
                continue;
            }
            // What is being made is left alone.
            let Some(lock) = Lock::try_acquire(&lock_of(&folder)) else { continue };
            match Record::of(&folder) {
                Some(record) if record.path.is_file() => {
                    // Renaming the whole file into the folder has set its time. Another run may have made a newer one since this one began.
                    let made = fs::metadata(&folder).and_then(|metadata| metadata.modified());
                    let is_older = is_current && record.made_of == checkpoint.folder
                        || made.is_ok_and(|made| made < started);
                    if record.name == name && is_older {
                        let _ = fs::remove_dir_all(&folder);
                    }
                }
                Some(_) => drop(fs::remove_dir_all(&folder)),
                // Only if there is nothing in it.
                None => drop(fs::remove_dir(&folder)),
            }
            lock.remove();
        }
    }

    /// Files that were made or are being made, and the names of what they are made of.
    fn records(&self) -> Vec<(PathBuf, String)> {
        let folders = fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.path());
        let records = folders.filter_map(|folder| Record::of(&folder));
        let mut records: Vec<_> = records.map(|record| (record.path, record.name)).collect();
        records.sort();
        records
    }
}

/// What `source.json` says.
struct Record {
    /// Where the file is or will be.
    path: PathBuf,
    /// The name and the type of the checkpoint.
    name: String,
    /// The folder of the checkpoint.
    made_of: PathBuf,
}

impl Record {
    fn of(folder: &Path) -> Option<Record> {
        let text = fs::read_to_string(folder.join(RECORD)).ok()?;
        let record: Value = serde_json::from_str(&text).ok()?;
        let file = record["file"].as_str().filter(|file| checkpoint_file(file))?;
        Some(Record {
            path: folder.join(file),
            name: record["name"].as_str()?.to_owned(),
            made_of: record["made_of"].as_str().unwrap_or_default().into(),
        })
    }
}

/// The lock of a folder: held while its file is made, and while it is removed.
fn lock_of(folder: &Path) -> PathBuf {
    folder.with_extension("lock")
}

/// Whether a name in a record is that of a file beside it.
fn checkpoint_file(name: &str) -> bool {
    name.ends_with(".gguf") && !name.contains(['/', '\\', ':'])
}

fn model(path: &Path, name: String) -> Option<LocalModel> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(LocalModel {
        name,
        path: path.to_owned(),
        files: vec![path.to_owned()],
        bytes: metadata.len(),
        digest: None,
        weights: None,
        modified: metadata.modified().ok(),
        place: Place::Converted,
        extras: Extras::default(),
    })
}

/// Writes down what the file at `path` is made of.
fn write_record(checkpoint: &Checkpoint, path: &Path) -> Result<(), HubError> {
    let record = path.with_file_name(RECORD);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let text = json!({
        "name": checkpoint.full_name(),
        "file": file,
        "made_of": checkpoint.folder.display().to_string(),
        "type": checkpoint.file_type,
    });
    AtomicFile::create(&record)
        .and_then(|mut file| writeln!(file, "{text:#}").and_then(|()| file.commit()))
        .map_err(|error| HubError::io(&record, error))
}

#[cfg(feature = "convert")]
fn make(checkpoint: &Checkpoint, path: &Path, watch: &mut Watch<'_>) -> Result<(), HubError> {
    /// Notes that are shown of a conversion that nobody asked for by its name.
    const MAX_NOTES: usize = 6;

    use super::progress::Progress;
    use crate::convert::{ConvertError, ConvertOptions, OutType, convert};
    use crate::quantize::{FileType, QuantizeError};
    use crate::{Cancel, Threads};

    let name = checkpoint.full_name();
    let failed = |why: String| HubError::Conversion { name: checkpoint.name.clone(), why };
    let Some(out_type) = OutType::from_name(&checkpoint.file_type) else {
        let known = FileType::ALL.iter().filter(|known| **known != FileType::Copy).map(|known| known.name());
        let known: Vec<&str> = known.collect();
        return Err(failed(format!(
            "found the type {}, expected AUTO or one of {}",
            checkpoint.file_type,
            known.join(", ")
        )));
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let lock = Lock::acquire(&lock_of(folder), &name, &mut |progress| match progress {
        Progress::Waiting { file } => watch(Progress::WaitingForConversion { name: file }),
        progress => watch(progress),
    })?;
    if path.is_file() {
        lock.remove();
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(|error| HubError::io(folder, error))?;
    bise_models::atomic_file::remove_left_over(path);
    write_record(checkpoint, path)?;
    let options = ConvertOptions { out_type, ..ConvertOptions::default() };
    let threads = Threads::builder().build().map_err(|error| failed(error.to_string()))?;
    let cancel = Cancel::new();
    let converted = convert(&checkpoint.folder, path, &options, &threads, &cancel, &mut |done, total| {
        if watch(Progress::Converting { name: &name, done, total }).is_break() {
            cancel.cancel();
        }
    });
    let converted = match converted {
        Ok(converted) => converted,
        Err(error) => {
            // Nothing is left of it.
            let _ = fs::remove_dir_all(folder);
            lock.remove();
            return Err(match error {
                ConvertError::Write(QuantizeError::Cancelled) => HubError::ConversionCancelled,
                error => failed(error.to_string()),
            });
        }
    };
    lock.remove();
    let (shown, more) = converted.notes.split_at(converted.notes.len().min(MAX_NOTES));
    for text in shown {
        let _ = watch(Progress::Note { text });
    }
    if !more.is_empty() {
        let text = format!("and {} more notes, which `bise convert --dry-run` shows", more.len());
        let _ = watch(Progress::Note { text: &text });
    }
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let _ = watch(Progress::Done { file: &name, bytes });
    Ok(())
}

#[cfg(not(feature = "convert"))]
fn make(checkpoint: &Checkpoint, _path: &Path, _watch: &mut Watch<'_>) -> Result<(), HubError> {
    let _ = write_record;
    let why =
        "found a checkpoint of safetensors, expected a GGUF file: this program was built without conversion"
            .into();
    Err(HubError::Conversion { name: checkpoint.name.clone(), why })
}
