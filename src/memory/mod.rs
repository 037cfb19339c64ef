//! How much memory a model takes: foretold, and as the system counts it.

use bise_kernels::kv_page::PageLayout;
use bise_models::{KvCache, MistralConfig, PassContext};

/// Bytes of a mapped file that the system brings in around the one that is read.
const FAULT_BYTES: usize = 64 << 10;

/// What a session will take of memory, in bytes, as a function of the tokens it has read.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    pub(crate) config: MistralConfig,
    pub(crate) layout: PageLayout,
    pub(crate) n_ctx: usize,
    pub(crate) n_ubatch: usize,
    pub(crate) n_threads: usize,
    /// Logits that are kept for drafts, beside those of the last token.
    pub(crate) n_drafts: usize,
    pub(crate) program_bytes: usize,
    pub(crate) weights_bytes: usize,
    /// The part of the weights that is looked up token by token.
    pub(crate) embeddings_bytes: usize,
}

impl MemoryPlan {
    /// The process as it was when this was asked for, without weights: the program, the tokenizer, and whatever else it holds. 0 where
    /// the system does not tell.
    pub fn program_bytes(&self) -> usize {
        self.program_bytes
    }

    /// The tensors that the model uses. They are mapped, and resident once read.
    pub fn weights_bytes(&self) -> usize {
        self.weights_bytes
    }

    /// Keys and values of `n_tokens`, in whole pages; no more than the context or the window takes.
    pub fn cache_bytes(&self, n_tokens: usize) -> usize {
        let c = &self.config;
        let n = if c.sliding_window.is_some() { n_tokens } else { n_tokens.min(self.n_ctx) };
        KvCache::bytes(&self.layout, c.n_layers, n, c.sliding_window, self.n_rows(n_tokens))
    }

    /// Buffers of the passes that `n_tokens` are read in, and logits.
    pub fn buffers_bytes(&self, n_tokens: usize) -> usize {
        let rows = self.n_rows(n_tokens);
        // The last token's logits and the drafts', and the candidates that one of them is chosen from.
        let logits = self.config.n_vocab * (4 * (1 + self.n_drafts) + 12);
        PassContext::bytes(&self.config, self.n_threads, rows, 1 + self.n_drafts) + logits
    }

    fn n_rows(&self, n_tokens: usize) -> usize {
        n_tokens.clamp(1, self.n_ubatch.max(1))
    }

    /// The most that is resident until `n_tokens` have been read.
    pub fn at(&self, n_tokens: usize) -> usize {
        let looked_up = n_tokens.saturating_mul(FAULT_BYTES).min(self.embeddings_bytes);
        let weights = self.weights_bytes - self.embeddings_bytes + looked_up;
        [self.program_bytes, weights, self.buffers_bytes(n_tokens)]
            .into_iter()
            .fold(self.cache_bytes(n_tokens), usize::saturating_add)
    }

    /// With a line of text, some sixteen tokens.
    pub fn now(&self) -> usize {
        self.at(16)
    }

    /// When the context is full. With a window, the text may then go on without taking more.
    pub fn full(&self) -> usize {
        self.at(self.n_ctx)
    }
}

/// The memory of this process that is resident, in bytes; `None` where the system does not tell.
pub fn resident_bytes() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return status_bytes("VmRSS:");
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// The most memory of this process that was resident at one time, in bytes; `None` where the system does not tell.
///
/// On Linux this is `VmHWM`. (`getrusage` starts from what the program that started this one had used.) On Apple's systems it is
/// `ru_maxrss`, which belongs to the program alone there.
pub fn peak_bytes() -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return status_bytes("VmHWM:");
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: an all-zero `rusage` is a valid one, and `getrusage` only fills in the one it is given.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)
        }?;
        usize::try_from(usage.ru_maxrss).ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    None
}

/// A line of `/proc/self/status`, which counts in kibibytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn status_bytes(key: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}
