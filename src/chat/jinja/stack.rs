//! How much of the stack a template takes.

/// Bytes of stack for all that nests. What is called at the bottom comes on top of it.
const MAX_BYTES: usize = 640 << 10;

/// Where the stack stood when a template was begun. Counting levels alone would not do: without optimizations, a level takes ten times as much.
#[derive(Debug)]
pub(super) struct Stack {
    base: usize,
}

impl Stack {
    pub fn here() -> Self {
        Self { base: address() }
    }

    /// Whether there is room for another level.
    pub fn has_room(&self) -> bool {
        address().abs_diff(self.base) < MAX_BYTES
    }
}

/// An address in the frame of the caller or next to it.
fn address() -> usize {
    let local = 0u8;
    std::ptr::from_ref(std::hint::black_box(&local)).addr()
}
