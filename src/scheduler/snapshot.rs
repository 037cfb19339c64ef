//! What a scheduler is doing, to be looked at from other threads.

use std::time::Duration;

use super::JobId;

/// What a slot is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    /// Its number, from 0.
    pub id: usize,
    /// The job in it, if there is one.
    pub job: Option<JobId>,
    /// Tokens that its context holds. With a sliding window, a text may grow past it.
    pub n_ctx: usize,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Those that came from the prefix cache.
    pub n_cached: usize,
    /// Those that are done, cached ones included.
    pub n_processed: usize,
    /// Tokens chosen.
    pub n_generated: usize,
    /// Tokens that may still be chosen; `None` is no limit.
    pub n_left: Option<usize>,
}

/// Counts since the scheduler was made, and what it has now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerStats {
    /// Passes that ran to their end.
    pub n_passes: usize,
    /// Texts that were in them, summed over all passes.
    pub n_texts_in_passes: usize,
    /// Tokens of prompts that were read.
    pub n_prompt: usize,
    /// Tokens of prompts that came from the prefix cache.
    pub n_cached: usize,
    /// Tokens chosen.
    pub n_generated: usize,
    /// Tokens of texts that were embedded.
    pub n_embedded: usize,
    /// Sum of the time that jobs read prompts, [`JobStats::prefill`](super::JobStats::prefill), of those that are over.
    pub prefill: Duration,
    /// Sum of the time that they chose tokens.
    pub decode: Duration,
    /// Jobs that are over.
    pub n_finished: usize,
    /// Jobs of these that were cancelled.
    pub n_cancelled: usize,
    /// Jobs of these that failed.
    pub n_failed: usize,
    /// The longest text so far, in tokens.
    pub n_tokens_max: usize,
    /// Jobs in the queue.
    pub n_waiting: usize,
    /// Jobs under way.
    pub n_running: usize,
    /// Pages of keys and values in use, by texts and by the prefix cache.
    pub n_pages: usize,
    /// Pages that the prefix cache holds; texts may use them too.
    pub n_cached_pages: usize,
    /// Pages that the prefix cache has written to the disk.
    pub n_written_pages: usize,
    /// Pages that there may be.
    pub max_pages: usize,
}

impl SchedulerStats {
    /// Adds those of another scheduler.
    pub fn add(&mut self, other: &SchedulerStats) {
        let sums = [
            (&mut self.n_passes, other.n_passes),
            (&mut self.n_texts_in_passes, other.n_texts_in_passes),
            (&mut self.n_prompt, other.n_prompt),
            (&mut self.n_cached, other.n_cached),
            (&mut self.n_generated, other.n_generated),
            (&mut self.n_embedded, other.n_embedded),
            (&mut self.n_finished, other.n_finished),
            (&mut self.n_cancelled, other.n_cancelled),
            (&mut self.n_failed, other.n_failed),
            (&mut self.n_waiting, other.n_waiting),
            (&mut self.n_running, other.n_running),
            (&mut self.n_pages, other.n_pages),
            (&mut self.n_cached_pages, other.n_cached_pages),
            (&mut self.n_written_pages, other.n_written_pages),
            (&mut self.max_pages, other.max_pages),
        ];
        sums.into_iter().for_each(|(sum, more)| *sum += more);
        self.prefill += other.prefill;
        self.decode += other.decode;
        self.n_tokens_max = self.n_tokens_max.max(other.n_tokens_max);
    }
}
