//! Asking for parts of a mapped file ahead of their use, and giving them back.

use std::ops::Range;
use std::sync::Arc;

use super::mmap::{MappedFile, Storage, TensorBytes};
use super::pages;

/// Parts of mapped files that are used together.
pub struct FileRanges {
    /// In order, and apart from each other.
    ranges: Vec<(Arc<Storage>, Range<usize>)>,
    n_bytes: usize,
}

impl FileRanges {
    /// Where those of `tensors` are that lie in mapped files. Bytes in memory of their own are left out: they could not be read again.
    pub fn of(tensors: impl IntoIterator<Item = TensorBytes>) -> FileRanges {
        let mut ranges: Vec<(Arc<Storage>, Range<usize>)> = Vec::new();
        for tensor in tensors {
            let (storage, range) = tensor.place();
            if matches!(**storage, Storage::Mapped(_)) && !range.is_empty() {
                ranges.push((storage.clone(), range));
            }
        }
        ranges.sort_by_key(|(storage, range)| (Arc::as_ptr(storage).addr(), range.start));
        // Tensors of a layer mostly lie side by side, with a few bytes between them for alignment.
        let mut joined: Vec<(Arc<Storage>, Range<usize>)> = Vec::with_capacity(ranges.len());
        for (storage, range) in ranges {
            match joined.last_mut() {
                Some((last, before)) if Arc::ptr_eq(last, &storage) && range.start <= before.end + 64 => {
                    before.end = before.end.max(range.end);
                }
                _ => joined.push((storage, range)),
            }
        }
        let n_bytes = joined.iter().map(|(_, range)| range.len()).sum();
        FileRanges { ranges: joined, n_bytes }
    }

    /// Their size.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Tells the system that little of them is read at a time, here and there: it then reads nothing around it.
    pub fn read_sparsely(&self) {
        for (file, range) in self.mapped() {
            pages::read_sparsely(&file.map, range);
        }
    }

    /// Asks the system to read them. Returns before they are there. Only a hint: errors are ignored.
    pub fn ask_for(&self) {
        for (file, range) in self.mapped() {
            pages::ask_for(&file.map, range);
        }
    }

    /// Gives them back: they take no memory of this process, nor of the system's page cache unless somebody else uses them, until they
    /// are read again.
    pub fn give_back(&self) {
        for (file, range) in self.mapped() {
            // SAFETY: a file is mapped whole and read-only.
            unsafe { pages::give_back(Some(&file.file), &file.map, range) };
        }
    }

    /// Leaves them to the system's page cache: they take no memory of this process until they are read again, which is fast as long as the
    /// system keeps them.
    pub fn leave(&self) {
        for (file, range) in self.mapped() {
            // SAFETY: a file is mapped whole and read-only.
            unsafe { pages::give_back(None, &file.map, range) };
        }
    }

    fn mapped(&self) -> impl Iterator<Item = (&MappedFile, Range<usize>)> {
        self.ranges.iter().filter_map(|(storage, range)| match &**storage {
            Storage::Mapped(file) => Some((file, range.clone())),
            _ => None,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
impl FileRanges {
    /// Of the pages that lie wholly inside them: how many the system has in memory, whoever reads them, of how many.
    pub fn resident_pages(&self) -> (usize, usize) {
        // SAFETY: `sysconf` only reads its argument.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let mut count = (0, 0);
        for (file, range) in self.mapped() {
            let (start, end) = (range.start.next_multiple_of(page), range.end / page * page);
            let mut pages = vec![0; end.saturating_sub(start) / page];
            if pages.is_empty() {
                continue;
            }
            // SAFETY: the pages are part of the map, which begins at one, and there is a byte for each.
            let failed = unsafe {
                libc::mincore(file.map.as_ptr().add(start).cast_mut().cast(), end - start, pages.as_mut_ptr())
            };
            assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
            count.0 += pages.iter().filter(|&&page| page & 1 == 1).count();
            count.1 += pages.len();
        }
        count
    }
}
