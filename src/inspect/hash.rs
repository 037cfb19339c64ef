//! Hashes of tensors and of all of them together, as llama.cpp's gguf-hash makes them: of the data alone, so that metadata may change.

use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use bise_models::gguf::{FileRanges, GgufFile};
use sha1::Digest as _;
use twox_hash::XxHash64;

use crate::{Cancel, Threads};

/// Bytes that all hashes take before the next ones are read.
const SLAB: usize = 4 << 20;

/// `uuid.uuid5(uuid.NAMESPACE_URL, 'en.wikipedia.org/wiki/Llama.cpp')`
const UUID_NAMESPACE: [u8; 16] =
    [0xef, 0x00, 0x12, 0x06, 0xda, 0xdc, 0x5f, 0x6d, 0xa1, 0x5f, 0x33, 0x59, 0xe5, 0x77, 0xd4, 0xe5];

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashKind {
    /// XXH64 with the seed 0: as fast as memory, and no protection against those who mean ill.
    Xxh64,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// A version 5 UUID of the whole: SHA-1 in a form that databases like.
    Uuid,
}

impl HashKind {
    /// All, in the order of gguf-hash.
    pub const ALL: [HashKind; 4] = [HashKind::Xxh64, HashKind::Sha1, HashKind::Sha256, HashKind::Uuid];

    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            HashKind::Xxh64 => "xxh64",
            HashKind::Sha1 => "sha1",
            HashKind::Sha256 => "sha256",
            HashKind::Uuid => "uuid",
        }
    }

    fn start(self) -> Hasher {
        match self {
            HashKind::Xxh64 => Hasher::Xxh64(XxHash64::with_seed(0)),
            HashKind::Sha1 => Hasher::Sha1(sha1::Sha1::new()),
            HashKind::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            HashKind::Uuid => Hasher::Uuid(sha1::Sha1::new_with_prefix(UUID_NAMESPACE)),
        }
    }
}

impl FromStr for HashKind {
    type Err = String;

    fn from_str(name: &str) -> Result<HashKind, String> {
        let found = HashKind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("found '{name}', expected one of xxh64, sha1, sha256, uuid"))
    }
}

/// A hash of one tensor, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHash {
    /// The function.
    pub kind: HashKind,
    /// In hexadecimal digits, as gguf-hash writes it.
    pub text: String,
    /// The tensor; `None` for all together, in the order of the file.
    pub tensor: Option<String>,
}

enum Hasher {
    Xxh64(XxHash64),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Uuid(sha1::Sha1),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Xxh64(hasher) => hasher.write(bytes),
            Hasher::Sha1(hasher) | Hasher::Uuid(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Hasher::Xxh64(hasher) => format!("{:016x}", hasher.finish()),
            Hasher::Sha1(hasher) => hex(&hasher.finalize()),
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Uuid(hasher) => {
                // RFC 9562, section 5.5: the first 16 bytes, with version and variant in place of some bits.
                let mut uuid: [u8; 16] = hasher.finalize()[..16].try_into().expect("20 bytes have 16");
                uuid[6] = uuid[6] & 0x0f | 0x50;
                uuid[8] = uuid[8] & 0x3f | 0x80;
                let text = hex(&uuid);
                let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
                parts.join("-")
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("strings take everything");
        text
    })
}

/// Hashes all tensors of `file`, of each kind in `kinds`: each tensor by itself (unless `only_whole`, and but for UUIDs), then all of them,
/// in gguf-hash's order. Different hashes are computed on different threads; a hash alone takes one. `done` is called with the bytes that
/// are behind. `None` where it was cancelled.
///
/// gguf-hash takes bytes as they are stored: open a file [as stored](GgufFile::open_as_stored).
pub fn hash(
    file: &GgufFile,
    kinds: &[HashKind],
    only_whole: bool,
    threads: &Threads,
    cancel: &Cancel,
    done: &mut dyn FnMut(u64),
) -> Option<Vec<TensorHash>> {
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let of_tensors: Vec<_> =
        kinds.iter().copied().filter(|kind| !only_whole && *kind != HashKind::Uuid).collect();
    let mut hashes = Vec::new();
    let mut hashers: Vec<Hasher> = kinds.iter().map(|kind| kind.start()).collect();
    let mut n_done = 0;
    for tensor in file.tensors() {
        hashers.extend(of_tensors.iter().map(|kind| kind.start()));
        let bytes = file.bytes(tensor);
        for first in (0..bytes.len()).step_by(SLAB) {
            if cancel.is_cancelled() {
                return None;
            }
            let slab = bytes.slice(first..(first + SLAB).min(bytes.len()));
            let next = (first + slab.len()).min(bytes.len());
            FileRanges::of([bytes.slice(next..(next + SLAB).min(bytes.len()))]).ask_for();
            let team = threads.team();
            team.together(|| team.for_each_chunk(&mut hashers, 1, |_, hasher| hasher[0].update(&slab)));
            n_done += slab.len() as u64;
            FileRanges::of([slab]).leave();
            done(n_done);
        }
        for (&kind, hasher) in of_tensors.iter().zip(hashers.drain(kinds.len()..)) {
            hashes.push(TensorHash { kind, text: hasher.finish(), tensor: Some(tensor.name.clone()) });
        }
    }
    let whole = kinds.iter().zip(hashers);
    hashes.extend(whole.map(|(&kind, hasher)| TensorHash { kind, text: hasher.finish(), tensor: None }));
    Some(hashes)
}
