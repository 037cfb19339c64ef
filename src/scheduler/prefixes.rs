//! What texts take from the prefix cache, and leave to it.

use std::time::{Duration, Instant};

use bise_kernels::kv_page::PAGE_LEN;

use super::core::Core;
use super::listener::Listener;
use super::text::Next;

/// How long a step reads pages from the disk while others wait for their next token.
const READING: Duration = Duration::from_millis(30);
/// A text that is being read looks for what others have read meanwhile where that saves so many tokens.
const WORTH_A_LOOK: usize = PAGE_LEN;

impl<S: Listener> Core<S> {
    /// Has texts begin with what others have read.
    pub(super) fn find_prefixes(&mut self) {
        let Core { prefix: Some(prefix), texts, pool, intake, .. } = self else { return };
        let deadline = Instant::now() + READING;
        let max_pages = intake.limits().max_pages;
        let mut has_read = false;
        for text in texts.iter_mut().filter(|text| text.takes_prefixes()) {
            // The last token is always read: the logits after it are wanted.
            let end = text.tokens.len() - usize::from(!text.is_primed);
            if text.restore.is_none() {
                let is_first = text.seen == 0;
                let missing = end.saturating_sub(text.sequence.position());
                if missing == 0 || text.seen == prefix.version() + 1 {
                    continue;
                }
                text.seen = prefix.version() + 1;
                if !is_first
                    && prefix.n_found(text.sequence.adapters(), &text.tokens[..end])
                        < text.sequence.position() + WORTH_A_LOOK
                {
                    continue;
                }
                let found = prefix.find(text.sequence.adapters(), &text.tokens[..end]);
                text.restore = (found.n() > text.sequence.position()).then_some(found);
            }
            while let Some(restore) = &mut text.restore
                && restore.n_missing() > 0
                && (!has_read || Instant::now() < deadline)
            {
                while pool.n_used() >= max_pages && prefix.evict() {}
                has_read = true;
                prefix.read_page(restore, &text.tokens[..end]);
            }
            if let Some(restore) = text.restore.take_if(|restore| restore.n_missing() == 0) {
                let (n, first_page, pages) = restore.into_pages();
                text.adopt(n, first_page, &pages);
            }
        }
    }

    /// Takes in the pages that texts have filled.
    pub(super) fn keep_prefixes(&mut self) {
        let Core { prefix: Some(prefix), texts, .. } = self else { return };
        for text in texts.iter_mut().filter(|text| !matches!(text.outcome, Some(Err(_)))) {
            text.leave_pages(prefix, false);
        }
    }

    /// Makes room for the pages of the next pass.
    pub(super) fn make_room(&mut self) {
        let Some(prefix) = &mut self.prefix else { return };
        let n_texts = self.texts.iter().map(|text| {
            let n = match text.next {
                Next::Nothing => 0,
                Next::Prompt(n) => n,
                Next::Token { max_drafts } => 1 + max_drafts,
            };
            text.sequence.cache().n_new_pages(n)
        });
        let n: usize =
            n_texts.sum::<usize>() + self.embeddings.iter().map(|e| e.n_new_pages()).sum::<usize>();
        let max_pages = self.intake.limits().max_pages;
        while n > 0 && self.pool.n_used() + n > max_pages && prefix.evict() {}
    }

    /// Gives up what there is too much of: copies of pages that texts have begun to write to.
    pub(super) fn keep_within_bounds(&mut self) {
        let max_pages = self.intake.limits().max_pages;
        let Some(prefix) = &mut self.prefix else { return };
        while self.pool.n_used() > max_pages && prefix.evict() {}
    }

    /// Gives up all pages that no text uses. Returns whether there were any.
    pub(super) fn give_up_prefixes(&mut self) -> bool {
        let Some(prefix) = &mut self.prefix else { return false };
        let mut any = false;
        while prefix.evict() {
            any = true;
        }
        any
    }

    /// Pages that the prefix cache has in memory, and has written to the disk.
    pub(super) fn kept_pages(&self) -> (usize, usize) {
        self.prefix.as_ref().map_or((0, 0), |prefix| (prefix.n_pages(), prefix.n_written()))
    }
}
