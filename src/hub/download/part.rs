//! A file that is not whole yet: its bytes in `NAME.bise-part`, and beside them, in `NAME.bise-part.json`, which of them have
//! arrived and of what. Bytes are on the disk before the list says so, so that whatever ends the program, the list is true.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bise_models::atomic_file::{self, AtomicFile};
use serde_json::{Value, json};

use super::ranges::Ranges;
use crate::hub::error::HubError;

/// A file that is not whole yet.
#[derive(Debug)]
pub struct Part {
    file: File,
    pub path: PathBuf,
    list: PathBuf,
    pub state: State,
}

/// What has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What tells this content from another under the same URL: the hub's name for it, or the server's validator.
    pub content: Option<String>,
    /// Size of the whole file, once it is known.
    pub size: Option<u64>,
    pub done: Ranges,
}

impl State {
    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let size = value["size"].as_u64()?;
        let list =
            value["done"].as_array()?.iter().map(|range| Some((range[0].as_u64()?, range[1].as_u64()?)));
        Some(Self {
            content: value["content"].as_str().map(str::to_string),
            size: Some(size),
            done: Ranges::from_list(list.collect::<Option<_>>()?, size)?,
        })
    }
}

impl Part {
    /// The part of the file that `path` is to become, with what an earlier program left of the same content: `content` if that
    /// is known, and `size` if that is.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, content: Option<&str>, size: Option<u64>) -> Result<Self, HubError> {
        let (path, list) = (beside(path, ".bise-part"), beside(path, ".bise-part.json"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| HubError::io(&path, error))?;
        let found = fs::read_to_string(&list).ok().and_then(|text| State::parse(&text)).filter(|found| {
            let length = file.metadata().map_or(0, |m| m.len());
            (content.is_none() || found.content.as_deref() == content)
                && (size.is_none() || found.size == size)
                && found.done.list().last().is_none_or(|(_, end)| *end <= length)
        });
        let mut part = Self { file, path, list, state: found.clone().unwrap_or_default() };
        if found.is_none() {
            part.restart()?;
        }
        Ok(part)
    }

    /// Forgets what has arrived.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn restart(&mut self) -> Result<(), HubError> {
        self.state = State::default();
        match fs::remove_file(&self.list) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(HubError::io(&self.list, error));
            }
            _ => {}
        }
        self.file.set_len(0).map_err(|error| HubError::io(&self.path, error))
    }

    /// Writes bytes at their place; several threads may do so at a time.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), HubError> {
        write_all_at(&self.file, bytes, offset).map_err(|error| HubError::io(&self.path, error))
    }

    /// Writes down that `done` has arrived.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, done: &Ranges) -> Result<(), HubError> {
        let Some(size) = self.state.size else { return Ok(()) };
        self.file.sync_data().map_err(|error| HubError::io(&self.path, error))?;
        let list: Vec<[u64; 2]> = done.list().iter().map(|&(start, end)| [start, end]).collect();
        let state = json!({ "content": self.state.content, "size": size, "done": list });
        AtomicFile::create(&self.list)
            .and_then(|mut file| writeln!(file, "{state}").and_then(|()| file.commit()))
            .map_err(|error| HubError::io(&self.list, error))
    }

    /// Gives the whole file its name.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(self, to: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(|error| HubError::io(&self.path, error))?;
        fs::rename(&self.path, to)
            .and_then(|()| atomic_file::sync_directory(to))
            .map_err(|error| HubError::io(to, error))?;
        let _ = fs::remove_file(&self.list);
        Ok(())
    }

    /// Size of the file so far.
    pub fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Removes it.
    pub fn remove(self) {
        // The list first: without it, the bytes count for nothing.
        let _ = fs::remove_file(&self.list);
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        (bytes, offset) = (&bytes[n..], offset + n as u64);
    }
    Ok(())
}

/// A name beside `path` that ends in `suffix`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_goes_on_where_it_was_if_it_is_of_the_same_content() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("f");
        let mut part = Part::open(&to, Some("a"), Some(6)).unwrap();
        part.state = State { content: Some("a".into()), size: Some(6), done: Ranges::default() };
        part.write_at(b"abc", 3).unwrap();
        let mut done = Ranges::default();
        done.insert(3, 6);
        part.save(&done).unwrap();
        drop(part);
        for (content, size) in [(Some("a"), Some(6)), (None, None), (Some("a"), None)] {
            assert_eq!(Part::open(&to, content, size).unwrap().state.done, done);
        }
        assert_eq!(Part::open(&to, Some("b"), Some(6)).unwrap().state, State::default());
        // That forgot the old content.
        assert_eq!(Part::open(&to, Some("a"), Some(6)).unwrap().state, State::default());
    }

    #[test]
    fn a_list_that_promises_too_much_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("f");
        for list in [
            r#"{"content":"a","size":6,"done":[[0,6]]}"#,
            r#"{"content":"a","size":2,"done":[[0,6]]}"#,
            r#"{"content":"a","size":6,"done":[[-1,2]]}"#,
            "{",
        ] {
            fs::write(beside(&to, ".bise-part"), "abc").unwrap();
            fs::write(beside(&to, ".bise-part.json"), list).unwrap();
            assert_eq!(Part::open(&to, Some("a"), None).unwrap().state, State::default(), "{list}");
        }
    }

    #[test]
    fn a_whole_file_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("f");
        let part = Part::open(&to, None, None).unwrap();
        part.write_at(b"abc", 0).unwrap();
        part.finish(&to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"abc");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
