//! The command `bise`.

fn main() {}
