use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A handle that ends forward passes from another thread.
///
/// Clones share one flag. Once it is set, a pass that runs with it ends within a layer and reads nothing, and so does every later one until
/// [`Cancel::reset`].
///
/// ```
/// use bise::{Engine, SessionOptions};
///
/// # #[cfg(feature = "builtin-model")] {
/// let engine = Engine::builtin()?;
/// let mut session = engine.session(&SessionOptions::default())?;
/// let cancel = session.cancel_handle();
/// std::thread::spawn(move || cancel.cancel()).join().unwrap();
/// assert!(session.prefill(&[1, 400, 500]).unwrap_err().is_cancelled());
/// assert_eq!(session.position(), 0);
///
/// session.cancel_handle().reset();
/// session.prefill(&[1, 400, 500])?;
/// # }
/// # Ok::<(), bise::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A handle that is not set.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends the pass under way, and those that follow.
    pub fn cancel(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Lets passes run again.
    pub fn reset(&self) {
        self.0.store(false, Relaxed);
    }

    /// The flag itself, for passes that hold on to it.
    #[cfg(feature = "train")]
    pub(crate) fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// The flag, for [`Runner::forward`](crate::Runner::forward), which takes one or several.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }
}
