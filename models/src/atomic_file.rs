//! Files that are written aside and renamed when they are whole, so that nobody ever sees half of one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::symlinks::links;

/// A file that appears under its name only when it is whole and on disk.
///
/// The bytes go to a file beside it. [`commit`](AtomicFile::commit) flushes them to the disk and renames the file;
/// dropping it instead, after an error or a panic, removes it, and what was under the name before is left as it was. (A
/// process that is killed leaves the file aside, under a name that begins with a dot and ends in `.part`;
/// [`remove_left_over`] removes it.)
///
/// A file that is replaced passes on its permissions, and must be writable. Where the name is a symbolic link, the file
/// it leads to is replaced and the link stays. What is no regular file (a pipe, a device, `/dev/stdout`) cannot be
/// replaced by one: it is written to as the bytes come.
#[derive(Debug)]
pub struct AtomicFile(Target);

#[derive(Debug)]
enum Target {
    Aside { file: NamedTempFile, path: PathBuf, replaces: bool },
    Through(File),
}

impl AtomicFile {
    /// Begins the file that is to be at `path`.
    ///
    /// # Errors
    /// If there is a directory or a file that may not be written at `path`, or no file can be made beside it. Errors are the system's own,
    /// and do not name the file: whoever chose `path` does.
    pub fn create(path: &Path) -> io::Result<AtomicFile> {
        let existing = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if existing.as_ref().is_some_and(Metadata::is_dir) || path.file_name().is_none() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let is_regular = existing.as_ref().is_none_or(Metadata::is_file);
        let links = links(path);
        if is_written_through(path) {
            // Appending, because a regular file behind `/dev/stdout` may have something in it.
            let file = File::options().write(true).append(is_regular).open(path)?;
            return Ok(AtomicFile(Target::Through(file)));
        }
        let path = links.into_iter().next_back().expect("the path itself is one");
        if existing.is_some() {
            // A rename asks the directory alone; a file that is protected stays.
            File::options().write(true).open(&path)?;
        }
        let file = beside(&path)?;
        // WASI has no permissions.
        if let Some(existing) = existing.filter(|_| cfg!(any(unix, windows))) {
            file.as_file().set_permissions(existing.permissions())?;
        }
        Ok(AtomicFile(Target::Aside { file, path, replaces: true }))
    }

    /// Begins the file that is to be at `path`, where there is none. One that appears there before this one is whole stays, too.
    ///
    /// # Errors
    /// As [`create`](AtomicFile::create), and if there is a file.
    pub fn create_new(path: &Path) -> io::Result<AtomicFile> {
        let mut file = AtomicFile::create(path)?;
        if let Target::Aside { path, replaces, .. } = &mut file.0 {
            if path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            *replaces = false;
        }
        Ok(file)
    }

    /// Ends the file: flushed to the disk and under its name, the directory included.
    ///
    /// # Errors
    /// If the disk does not take it, or the file cannot be renamed. What was under the name before is left as it was
    /// then, unless it is the directory that cannot be flushed.
    pub fn commit(self) -> io::Result<()> {
        commit_all(vec![self]).map_err(|(_, error)| error)
    }

    fn sync(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Target::Through(file) => file.flush(),
            Target::Aside { file, .. } => file.as_file().sync_all(),
        }
    }
}

/// Ends files that belong together: all are on the disk before the first gets its name.
///
/// # Errors
/// As [`AtomicFile::commit`], with the place of the file in `files`. Files that have their names by then lose them again, unless they replaced
/// others.
pub fn commit_all(mut files: Vec<AtomicFile>) -> Result<(), (usize, io::Error)> {
    for (i, file) in files.iter_mut().enumerate() {
        file.sync().map_err(|error| (i, error))?;
    }
    let mut in_place = Vec::new();
    for (i, file) in files.into_iter().enumerate() {
        let Target::Aside { file, path, replaces } = file.0 else { continue };
        let is_new = !path.exists();
        let persisted = if replaces { file.persist(&path) } else { file.persist_noclobber(&path) };
        if let Err(error) = persisted {
            for (path, _) in in_place.iter().filter(|(_, is_new)| *is_new) {
                let _ = fs::remove_file(path);
            }
            return Err((i, error.error));
        }
        in_place.push((path, is_new));
    }
    in_place
        .iter()
        .enumerate()
        .try_for_each(|(i, (path, _))| sync_directory(path).map_err(|error| (i, error)))
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            // The file itself: errors of `NamedTempFile` name a file that is gone when they are read, and hide the system's number.
            Target::Aside { file, .. } => file.as_file_mut().write(bytes),
            Target::Through(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Target::Aside { file, .. } => file.as_file_mut().flush(),
            Target::Through(file) => file.flush(),
        }
    }
}

/// Whether what is written to `path` goes to a file aside first, so that it can be begun anew. A pipe or a device takes bytes as they come.
#[must_use]
pub fn is_set_aside(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |found| found.is_file())
        && !links(path).iter().any(|path| is_open_file(path))
}

/// Whether what is written to `path` goes there as the bytes come, and nothing is known to be on a disk at the end: a pipe, a device, or what
/// is open already, like `/dev/stdout`.
#[must_use]
pub fn is_written_through(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
        || links(path).iter().any(|path| is_open_file(path))
}

/// Whether the name stands for a file that is open already. It may be a regular one, which is not ours to replace.
fn is_open_file(path: &Path) -> bool {
    cfg!(unix)
        && (["/dev/stdout", "/dev/stderr"].iter().any(|name| path == *name)
            || ["/dev/fd", "/proc"].iter().any(|folder| path.starts_with(folder)))
}

/// The longest name that names aside are made of. Most file systems allow 255 bytes; six random letters and [`PART`] are added.
const MAX_NAME: usize = 200;

/// How names aside end.
const PART: &str = ".part";

/// Random letters and digits in a name aside.
const N_RANDOM: usize = 6;

/// A new file in the directory of `path`, with the permissions that any new file would have. It is locked as long as it is open.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let prefix = prefix(path.file_name().filter(|name| name.len() <= MAX_NAME).unwrap_or("new".as_ref()));
    // With the permissions that any new file has. (`tempfile_in` would make it private, and hide the number of an error.)
    let create = |path: &Path| {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        // Between the two lines another process may have taken it for a file that was left over: another name, then.
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::AlreadyExists.into()),
            Ok(()) if !path.exists() => Err(io::ErrorKind::AlreadyExists.into()),
            // Not all file systems know locks.
            _ => Ok(file),
        }
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(PART).rand_bytes(N_RANDOM).make_in(directory(path), create)
}

/// How names aside of a file called `name` begin.
fn prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// Removes what killed processes left of files that were to be at `path`, and returns their names. Files that a living process writes are
/// locked, and stay.
pub fn remove_left_over(path: &Path) -> Vec<PathBuf> {
    let path = links(path).into_iter().next_back().expect("the path itself is one");
    let Some(name) = path.file_name().filter(|name| name.len() <= MAX_NAME) else { return Vec::new() };
    let prefix = prefix(name);
    let is_left_over = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let random = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes())
            .and_then(|rest| rest.strip_suffix(PART.as_bytes()));
        random.is_some_and(|random| random.len() == N_RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && File::options().write(true).open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
    };
    let entries = fs::read_dir(directory(&path)).into_iter().flatten().flatten();
    let left_over = entries.filter(is_left_over).map(|entry| entry.path());
    left_over.filter(|path| fs::remove_file(path).is_ok()).collect()
}

/// Whether two paths lead to one file, over links of either kind.
#[must_use]
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        if let (Ok(a), Ok(b)) = (id(a), id(b)) {
            return a == b;
        }
    }
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Flushes the directory that `path` is in, so that a file that was renamed to `path` outlives a power cut.
///
/// # Errors
/// If the disk does not take it.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(directory(path)).and_then(|directory| directory.sync_all()) {
        // Some network file systems cannot, and some directories may be written but not read.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> io::Result<()> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half");
        drop(AtomicFile::create(&path).unwrap());
        assert_eq!(names(folder.path()), ["f"]);
        assert_eq!(fs::read(&path).unwrap(), b"half");
    }

    #[test]
    fn files_that_belong_together_appear_together() {
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| {
            let mut file = AtomicFile::create(&folder.path().join(name)).unwrap();
            file.write_all(name.as_bytes()).unwrap();
            file
        };
        let files = vec![create("a"), create("b")];
        commit_all(files).unwrap();
        assert_eq!(names(folder.path()), ["a", "b"]);
        // A folder is in the way of the last.
        let files = vec![create("b"), create("c"), create("d")];
        fs::create_dir(folder.path().join("d")).unwrap();
        assert_eq!(commit_all(files).unwrap_err().0, 2);
        assert_eq!(names(folder.path()), ["a", "b", "d"]);
    }

    #[test]
    fn a_file_that_appears_meanwhile_stays_where_it_is_not_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = AtomicFile::create_new(&path).unwrap();
        file.write_all(b"new").unwrap();
        fs::write(&path, "mine").unwrap();
        assert_eq!(file.commit().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(AtomicFile::create_new(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["f"]);
        write(&path, "newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
    }

    #[test]
    fn what_killed_processes_left_is_removed_and_what_living_ones_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.gguf");
        let living = AtomicFile::create(&path).unwrap();
        let [living_name] = names(folder.path()).try_into().unwrap();
        let others = [".f.gguf.short.part", ".g.gguf.abcdef.part", "f.gguf", ".f.gguf.abcdef.other"];
        for name in others.iter().chain(&[".f.gguf.abcD12.part"]) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert_eq!(remove_left_over(&path), [folder.path().join(".f.gguf.abcD12.part")]);
        let mut left: Vec<OsString> = others.iter().map(OsString::from).chain([living_name]).collect();
        left.sort();
        assert_eq!(names(folder.path()), left);
        living.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_name_may_be_as_long_as_names_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let name = "n".repeat(255);
        write(&folder.path().join(&name), "x").unwrap();
        assert_eq!(names(folder.path()), [name.as_str()]);
    }

    #[test]
    fn a_name_without_a_directory_is_in_the_current_one() {
        assert_eq!(directory(Path::new("f")), Path::new("."));
        assert_eq!(directory(Path::new("a/f")), Path::new("a"));
        for path in ["", "/", "..", "."] {
            assert!(AtomicFile::create(Path::new(path)).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_directory_is_refused_and_so_is_one_that_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let error = AtomicFile::create(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = AtomicFile::create(&folder.path().join("none").join("f")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        // The system's own error, which names no file of ours.
        assert!(error.raw_os_error().is_some() && !error.to_string().contains(".part"), "{error}");
    }

    #[cfg(unix)]
    mod unix {
        use std::io::Read;
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

        use super::*;

        fn mode(path: &Path) -> u32 {
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        }

        #[test]
        fn permissions_are_those_of_the_file_replaced_or_of_any_new_file() {
            let folder = tempfile::tempdir().unwrap();
            let (new, plain, private) =
                (folder.path().join("new"), folder.path().join("plain"), folder.path().join("private"));
            write(&new, "x").unwrap();
            fs::write(&plain, "x").unwrap();
            assert_eq!(mode(&new), mode(&plain));
            fs::write(&private, "x").unwrap();
            fs::set_permissions(&private, PermissionsExt::from_mode(0o640)).unwrap();
            write(&private, "y").unwrap();
            assert_eq!((mode(&private), fs::read_to_string(&private).unwrap().as_str()), (0o640, "y"));
        }

        #[test]
        fn a_link_stays_and_what_it_leads_to_is_replaced() {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            fs::create_dir(at("there")).unwrap();
            fs::write(at("there/f"), "old").unwrap();
            symlink("there/f", at("link")).unwrap();
            symlink("link", at("again")).unwrap();
            symlink("there/none", at("dangling")).unwrap();
            write(&at("again"), "new").unwrap();
            write(&at("dangling"), "new").unwrap();
            assert_eq!(fs::read_to_string(at("there/f")).unwrap(), "new");
            assert_eq!(fs::read_to_string(at("there/none")).unwrap(), "new");
            assert!(["link", "again", "dangling"].iter().all(|name| at(name).is_symlink()));
            assert_eq!(names(&at("there")), ["f", "none"]);
            symlink("b", at("a")).unwrap();
            symlink("a", at("b")).unwrap();
            assert!(write(&at("a"), "x").is_err());
        }

        #[test]
        fn pipes_and_devices_are_written_to_and_stay_what_they_are() {
            let null = Path::new("/dev/null");
            write(null, "nothing").unwrap();
            assert!(fs::metadata(null).unwrap().file_type().is_char_device());
            let folder = tempfile::tempdir().unwrap();
            let pipe = folder.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            let reader = {
                let pipe = pipe.clone();
                std::thread::spawn(move || {
                    let mut text = String::new();
                    File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                    text
                })
            };
            write(&pipe, "through").unwrap();
            assert_eq!(reader.join().unwrap(), "through");
            assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
            assert_eq!(names(folder.path()), ["pipe"]);
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn what_is_open_already_is_written_to_behind_what_it_holds() {
            use std::os::fd::AsRawFd;

            let mut open = tempfile::tempfile().unwrap();
            open.write_all(b"before, ").unwrap();
            write(Path::new(&format!("/proc/self/fd/{}", open.as_raw_fd())), "after").unwrap();
            let mut text = String::new();
            io::Seek::rewind(&mut open).unwrap();
            open.read_to_string(&mut text).unwrap();
            assert_eq!(text, "before, after");
            // Not everything there is a device.
            let shm = Path::new("/dev/shm");
            if shm.is_dir() {
                let folder = tempfile::tempdir_in(shm).unwrap();
                write(&folder.path().join("f"), "one").unwrap();
                write(&folder.path().join("f"), "two").unwrap();
                assert_eq!(fs::read_to_string(folder.path().join("f")).unwrap(), "two");
            }
            let error = write(Path::new("/dev/full"), "x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
