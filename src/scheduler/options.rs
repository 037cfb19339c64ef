use std::time::Duration;

use crate::SessionOptions;
use crate::prefix::PrefixOptions;

/// How many texts run at a time, in how much memory, and how many may wait.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
    /// The context of each text, how keys and values are kept, and how many tokens a pass reads, all texts together.
    pub session: SessionOptions,
    /// Texts under way at a time; no more than tokens in a pass.
    pub n_slots: usize,
    /// Jobs that may wait for a slot. More are refused.
    pub max_queue: usize,
    /// Pages of keys and values that texts and the prefix cache may take together;
    /// [`PagePool::page_bytes`](crate::PagePool::page_bytes) is the size of one. `None`: what it takes to fill the context in every slot.
    /// A text begins once it is sure of as many as it may ever need, so that it never runs short in the middle; what texts leave is the
    /// prefix cache's.
    pub max_pages: Option<usize>,
    /// While some texts are being continued, prompts of others are read in parts of such a size that a pass takes no longer than about this. It
    /// bounds the time between two tokens of a text. A prompt that is alone is read in parts two and a half times as long, so that what
    /// comes meanwhile begins soon. Nothing depends on the size of parts but time. `None` sets no bound.
    pub max_gap: Option<Duration>,
    /// What is kept of texts for others that begin alike.
    pub prefix: PrefixOptions,
}

impl Default for SchedulerOptions {
    /// Four texts, 512 waiting ones, and gaps of 0.4 s.
    fn default() -> Self {
        SchedulerOptions {
            session: SessionOptions::default(),
            n_slots: 4,
            max_queue: 512,
            max_pages: None,
            max_gap: Some(Duration::from_millis(400)),
            prefix: PrefixOptions::default(),
        }
    }
}
