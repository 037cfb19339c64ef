//! Systems that nobody has asked yet.

pub fn resident_bytes() -> Option<usize> {
    None
}

pub fn anonymous_bytes() -> Option<usize> {
    None
}

pub fn mapped_bytes() -> Option<usize> {
    None
}

pub fn peak_bytes() -> Option<usize> {
    None
}

pub fn available_bytes() -> Option<usize> {
    None
}
