//! Where in the structure of teams a thread is.

use super::sync::Cell;

/// A thread's part in a team; teams are told apart by the address of their door.
#[derive(Clone, Copy)]
pub enum Place {
    Outside,
    Leads(usize),
    Task { of: usize, worker: usize },
}

#[cfg(not(loom))]
thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::Outside) };
}
#[cfg(loom)]
loom::thread_local! {
    static PLACE: Cell<Place> = Cell::new(Place::Outside);
}

pub fn get() -> Place {
    PLACE.with(Cell::get)
}

/// Where the thread was before.
pub fn replace(place: Place) -> Place {
    PLACE.with(|current| current.replace(place))
}
