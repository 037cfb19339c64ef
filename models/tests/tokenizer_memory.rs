//! Memory and time that a vocabulary takes, from opening the file to the first tokens.
//!
//! It counts what the whole process allocates, so it is a test binary of its own, with a single test.

#[path = "golden_tokens/fixtures.rs"]
#[allow(dead_code)]
mod fixtures;

use bise_models::gguf::{GgufFile, GgufWriter};
use bise_models::tokenizer::{EncodeOptions, Tokenizer, Vocabulary};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: both functions hand their arguments to the system's allocator as they are and return what it returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller keeps the rules of `GlobalAlloc`, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `pointer` is from `System`, since `alloc` is.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Writes a file with no more than this vocabulary.
fn write(path: &Path, vocabulary: Vocabulary) {
    let mut writer = GgufWriter::new();
    fixtures::set_vocabulary(writer.metadata_mut(), vocabulary);
    writer.write_all(std::io::BufWriter::new(std::fs::File::create(path).unwrap()), &[]).unwrap();
}

const TEXT: &str =
    "The quick brown fox jumps over the lazy dog. Çà et là, 12345 voix… 視野無限廣 xyzzyqq\n\n  fn main() {}";

#[test]
fn a_vocabulary_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    const MB: usize = 1_000_000;
    for (name, heap_limit) in [("v3", MB), ("tekken", 6 * MB)] {
        let path = folder.path().join(name);
        write(&path, fixtures::vocabulary(name));
        let options = EncodeOptions { add_special: true, parse_special: true };

        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let start = Instant::now();
        let file = GgufFile::open(&path).unwrap();
        let (opened, metadata) = (start.elapsed(), LIVE.load(Relaxed) - before);
        let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
        let built = start.elapsed();
        let tokens = tokenizer.encode(TEXT, options);
        let encoded = start.elapsed();
        let heap = LIVE.load(Relaxed) - before - metadata;
        let peak = PEAK.load(Relaxed) - before;
        eprintln!(
            "{name}: file {opened:?}, tokenizer {built:?}, first tokens {encoded:?}; heap: metadata {metadata}, \
             tokenizer {heap}, at most {peak}"
        );
        assert!(tokens.len() > 10);
        assert!(heap < heap_limit, "{name}: the tokenizer takes {heap} bytes");
        let predicted = tokenizer.heap_bytes();
        assert!(
            predicted.abs_diff(heap) < heap / 20,
            "{name}: {predicted} bytes are said to be taken, {heap} are"
        );
        // Numbers are kept as the file has them, 4 bytes each; strings stay in the file.
        assert!(metadata < heap_limit / 2, "{name}: the metadata take {metadata} bytes");
        drop((tokenizer, tokens, file));
        // What the test harness keeps of the output is counted too.
        let left = LIVE.load(Relaxed).saturating_sub(before);
        assert!(left < 10_000, "{name}: {left} bytes are left");
    }
}
