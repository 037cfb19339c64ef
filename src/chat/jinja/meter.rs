//! What a render may spend.
//!
//! Every evaluation, every byte copied and every byte kept is paid for here before it happens. There is no other bound
//! to look for: a template that runs long or builds much fails at the payment, whichever operation asked for it.

use std::cell::Cell;
use std::rc::Rc;

use super::fault::Fault;

/// Steps of a render. One is about 50 ns on a laptop, and published templates need about a hundred a message.
const STEPS: u64 = 3_000_000;
const STEPS_PER_MESSAGE: u64 = 2_000;
const MAX_STEPS: u64 = 8_000_000;

/// Bytes that values of a render may occupy at one time, next to the conversation itself.
const LIVE_BYTES: usize = 64 << 20;

/// The longest text a template may make, which bounds how much the growth of one buffer can cost.
pub(super) const MAX_TEXT_BYTES: usize = 24 << 20;

/// The steps and the memory left to a render.
#[derive(Debug)]
pub(super) struct Meter {
    steps: Cell<u64>,
    live: Cell<usize>,
    limit: usize,
}

impl Meter {
    /// A meter for a conversation of so many messages and bytes.
    pub fn new(n_messages: usize, n_bytes: usize) -> Rc<Self> {
        let steps = (STEPS + STEPS_PER_MESSAGE * n_messages as u64).min(MAX_STEPS);
        Rc::new(Self { steps: Cell::new(steps), live: Cell::new(0), limit: LIVE_BYTES + 2 * n_bytes })
    }

    /// Pays for `n` steps.
    pub fn pay(&self, n: usize) -> Result<(), Fault> {
        match self.steps.get().checked_sub(n as u64) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => {
                self.steps.set(0);
                Err(Fault::Endless)
            }
        }
    }

    /// Pays for looking at `n` bytes one character at a time.
    pub fn pay_scan(&self, n: usize) -> Result<(), Fault> {
        self.pay(1 + n / 32)
    }

    /// Pays for moving `n` bytes.
    pub fn pay_copy(&self, n: usize) -> Result<(), Fault> {
        self.pay(n / 128)
    }

    /// Bytes in use.
    #[cfg(test)]
    pub fn live(&self) -> usize {
        self.live.get()
    }

    /// Reserves memory until the charge is dropped.
    pub fn hold(self: &Rc<Self>, bytes: usize) -> Result<Charge, Fault> {
        let mut charge = Charge { meter: Rc::clone(self), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }
}

/// Memory in use, given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    meter: Rc<Meter>,
    bytes: usize,
}

impl Charge {
    /// Reserves more.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        let live = self.meter.live.get().saturating_add(bytes);
        if live > self.meter.limit {
            return Err(Fault::Endless);
        }
        self.meter.live.set(live);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.live.set(self.meter.live.get() - self.bytes);
    }
}
