//! Forward passes over one or several sequences.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bise_kernels::CancelFlags;
use bise_models::{Hook, Output, Outputs, PassContext, Span};
use smallvec::SmallVec;

use crate::{Engine, Error, Sequence};

/// Sequences of a batch for which no list is allocated.
const SMALL_BATCH: usize = 16;

/// The next tokens of a sequence, and the output wanted for them.
pub struct Feed<'a> {
    /// The sequence.
    pub sequence: &'a mut Sequence,
    /// The tokens that follow those it has read.
    pub tokens: &'a [u32],
    /// The output wanted.
    pub output: Output,
}

/// Runs forward passes, on the engine's threads (which other runners may share) and in its own working memory.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// use bise::{Engine, Feed, Output, SessionOptions};
///
/// # #[cfg(feature = "builtin-model")] {
/// let engine = Engine::builtin()?;
/// let mut runner = engine.runner();
/// let mut sequence = engine.sequence(&SessionOptions::default());
/// let never = AtomicBool::new(false);
/// // A token that is certain, and two that may follow it.
/// let mut batch = [Feed { sequence: &mut sequence, tokens: &[1, 400, 500], output: Output::All }];
/// let mut outputs = runner.forward(&mut batch, &never)?;
/// while let Some(row) = outputs.next_row()? {
///     println!("after token {}: {} logits", row.index, row.values.len());
/// }
/// // The last one turned out wrong.
/// assert!(sequence.truncate(2));
/// # }
/// # Ok::<(), bise::Error>(())
/// ```
pub struct Runner {
    engine: Engine,
    context: PassContext,
}

impl Engine {
    /// Something to make forward passes with, over sequences of this engine. Sessions bring their own.
    pub fn runner(&self) -> Runner {
        Runner::new(self, self.new_context())
    }

    /// A runner for a session's passes, which goes back to the engine when dropped. No lock is held meanwhile: whoever looks at its
    /// outputs may start passes of other sessions.
    pub(crate) fn shared_runner(&self) -> SharedRunner {
        let idle = self.idle().pop();
        let runner = idle.map_or_else(|| self.runner(), |context| Runner::new(self, context));
        SharedRunner(Some(runner))
    }
}

/// A [`Runner`] whose working memory goes back to the engine.
pub(crate) struct SharedRunner(Option<Runner>);

impl SharedRunner {
    /// Begins again with new memory, after a panic has interrupted a pass.
    pub fn renew(&mut self) {
        let engine = self.engine().clone();
        self.0 = Some(engine.runner());
    }
}

impl Deref for SharedRunner {
    type Target = Runner;

    fn deref(&self) -> &Runner {
        self.0.as_ref().expect("a runner until it is dropped")
    }
}

impl DerefMut for SharedRunner {
    fn deref_mut(&mut self) -> &mut Runner {
        self.0.as_mut().expect("a runner until it is dropped")
    }
}

impl Drop for SharedRunner {
    fn drop(&mut self) {
        let Some(runner) = self.0.take() else { return };
        // What a panic has interrupted is not used again.
        if !std::thread::panicking() {
            let engine = runner.engine().clone();
            engine.idle().push(runner.into_context());
        }
    }
}

impl Runner {
    pub(crate) fn new(engine: &Engine, context: PassContext) -> Runner {
        Runner { engine: engine.clone(), context }
    }

    pub(crate) fn into_context(self) -> PassContext {
        self.context
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes room for passes of `n_rows` tokens at once. Otherwise the first pass that needs it does.
    ///
    /// # Errors
    /// Where the system does not have the memory.
    pub fn reserve(&mut self, n_rows: usize) -> Result<(), Error> {
        Ok(self.context.reserve(self.engine.config(), n_rows)?)
    }

    /// Lets go of the adapters of the last pass, which the next one would do otherwise: one that nobody has any more is freed.
    pub fn release_adapters(&mut self) {
        self.context.release_adapters();
    }

    /// Has `hook` called after every product, or none.
    pub fn set_hook(&mut self, hook: Option<Arc<dyn Hook>>) {
        self.context.set_hook(hook);
    }

    /// Reads the tokens of a batch in one pass, each sequence with its own adapters ([`Sequence::set_adapters`]). What each sequence gets does not depend on the others, nor on how its tokens are cut into
    /// passes, bit for bit.
    ///
    /// A sequence whose activations become infinite or NaN fails alone ([`Outputs::failure`]) and stays as it was. Setting `cancel`, or one
    /// of its flags, from another thread ends the pass within a layer; all sequences then stay as they were.
    ///
    /// # Errors
    /// A token outside the vocabulary, a sequence without room for its tokens, no memory: nothing was read then. A cancelled pass, and one in
    /// which every sequence failed. A file that was changed in place: results computed since then are worthless, and the model must be
    /// opened again.
    pub fn forward<'s>(
        &'s mut self,
        batch: &mut [Feed<'_>],
        cancel: impl Into<CancelFlags<'s>>,
    ) -> Result<Outputs<'s>, Error> {
        self.engine.file().check_unchanged()?;
        let mut spans: SmallVec<[Span<'_>; SMALL_BATCH]> = batch
            .iter_mut()
            .map(|feed| {
                let (cache, adapters) = feed.sequence.parts_mut();
                Span { cache, tokens: feed.tokens, output: feed.output, adapters }
            })
            .collect();
        let outputs = self.engine.model().forward(&mut self.context, &mut spans, cancel)?;
        drop(spans);
        for (i, feed) in batch.iter_mut().enumerate() {
            if outputs.failure(i).is_none() {
                feed.sequence.extend(feed.tokens);
            }
        }
        // The file may have changed under the pass.
        self.engine.file().check_unchanged()?;
        Ok(outputs)
    }
}
