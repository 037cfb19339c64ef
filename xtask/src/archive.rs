//! Archives that depend on nothing but what is in them: entries in order of their names, one time, one owner.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

/// What goes into an archive, by path.
#[derive(Default)]
pub struct Files(BTreeMap<String, File>);

struct File {
    bytes: Vec<u8>,
    executable: bool,
}

impl File {
    fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

impl Files {
    /// Adds a file.
    pub fn add(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.to_owned(), File { bytes: bytes.into(), executable: false });
    }

    /// Adds a program.
    pub fn add_executable(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.to_owned(), File { bytes: bytes.into(), executable: true });
    }

    /// As a `.tar.gz`, below the folder `root`, all modified at `time` (seconds since 1970).
    pub fn tar_gz(&self, root: &str, time: u64) -> Result<Vec<u8>> {
        let gz = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
        let mut tar = tar::Builder::new(gz);
        for (path, file) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_mode(file.mode());
            header.set_mtime(time);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(file.bytes.len() as u64);
            tar.append_data(&mut header, format!("{root}/{path}"), &file.bytes[..]).context(path.clone())?;
        }
        Ok(tar.into_inner()?.finish()?)
    }

    /// As a `.zip`, below the folder `root`, all modified at the earliest time that zip knows.
    pub fn zip(&self, root: &str) -> Result<Vec<u8>> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (path, file) in &self.0 {
            let options = zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Deflated)
                .last_modified_time(zip::DateTime::default())
                .unix_permissions(file.mode());
            zip.start_file(format!("{root}/{path}"), options).context(path.clone())?;
            zip.write_all(&file.bytes)?;
        }
        Ok(zip.finish()?.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn files(order: &[usize]) -> Files {
        let all = [("bise", "program"), ("LICENSE-MIT", "free"), ("man/bise.1", ".TH")];
        let mut files = Files::default();
        for &i in order {
            let (path, text) = all[i];
            if i == 0 { files.add_executable(path, text) } else { files.add(path, text) }
        }
        files
    }

    #[test]
    fn the_order_of_additions_does_not_show() {
        let (a, b) = (files(&[0, 1, 2]), files(&[2, 0, 1]));
        assert_eq!(a.tar_gz("r", 1).unwrap(), b.tar_gz("r", 1).unwrap());
        assert_eq!(a.zip("r").unwrap(), b.zip("r").unwrap());
        assert_ne!(a.tar_gz("r", 1).unwrap(), a.tar_gz("r", 2).unwrap());
    }

    #[test]
    fn a_tar_holds_what_was_added() {
        let bytes = files(&[0, 1, 2]).tar_gz("bise-1", 1_700_000_000).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            (path, text, entry.header().mode().unwrap(), entry.header().mtime().unwrap())
        });
        let want = [
            ("bise-1/LICENSE-MIT", "free", 0o644),
            ("bise-1/bise", "program", 0o755),
            ("bise-1/man/bise.1", ".TH", 0o644),
        ];
        let want: Vec<_> =
            want.into_iter().map(|(p, t, m)| (p.to_owned(), t.to_owned(), m, 1_700_000_000)).collect();
        assert_eq!(entries.collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_zip_holds_what_was_added() {
        let bytes = files(&[0, 1, 2]).zip("bise-1").unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let names: Vec<_> = archive.file_names().map(str::to_owned).collect();
        assert_eq!(names, ["bise-1/LICENSE-MIT", "bise-1/bise", "bise-1/man/bise.1"]);
        let mut entry = archive.by_name("bise-1/bise").unwrap();
        assert_eq!(entry.unix_mode().unwrap() & 0o777, 0o755);
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, "program");
    }
}
