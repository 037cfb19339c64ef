//! Whether there is room for another model, and which one has to go for it.

use std::time::Instant;

use crate::memory::{self, MemoryPlan};

/// How many models there may be in memory, and how large they may be together.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Models at a time; `None` is any number.
    pub max_models: Option<usize>,
    /// Bytes of the whole process.
    pub max_bytes: Option<usize>,
    /// Bytes of the process without a model.
    pub base: usize,
}

/// A model in memory, or on its way out of it.
#[derive(Clone, Copy, Debug)]
pub struct Occupant {
    /// What it takes with full contexts.
    pub bytes: usize,
    /// Whether it can go at once: no request uses it.
    pub is_idle: bool,
    /// Whether a request asked for it to stay.
    pub is_pinned: bool,
    /// When it was last asked for.
    pub used: Instant,
}

/// What is to be done for a model that wants into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: there is room.
    Fits,
    /// This one has to go first.
    Evict(usize),
    /// Those that would have to go are busy.
    Wait,
    /// It does not fit, whatever goes.
    Never,
}

/// Bytes that the process has before it has a model.
pub fn program_bytes() -> usize {
    let bytes = memory::anonymous_bytes().unwrap_or(0) + memory::mapped_bytes().unwrap_or(0);
    bytes + memory::PROGRAM_GROWTH_BYTES + memory::HEAP_GROWTH_BYTES
}

/// Bytes that a model adds to those of the process, with full contexts.
pub fn model_bytes(plan: &MemoryPlan) -> usize {
    plan.full().saturating_sub(plan.program_bytes().saturating_sub(plan.tokenizer_bytes()))
}

/// What is to be done for a model of `bytes`.
pub fn decide(bounds: &Bounds, bytes: usize, occupants: &[Occupant]) -> Verdict {
    let total = |others: usize| bounds.base.saturating_add(bytes).saturating_add(others);
    let fits = |n: usize, others: usize| {
        bounds.max_models.is_none_or(|max| n < max) && bounds.max_bytes.is_none_or(|max| total(others) <= max)
    };
    let taken = |chosen: &dyn Fn(&Occupant) -> bool| {
        let chosen = occupants.iter().filter(|occupant| chosen(occupant));
        chosen.fold((0, 0_usize), |(n, sum), occupant| (n + 1, sum.saturating_add(occupant.bytes)))
    };
    let (n, sum) = taken(&|_| true);
    if fits(n, sum) {
        return Verdict::Fits;
    }
    if !fits(0, 0) {
        return Verdict::Never;
    }
    // Nothing goes in vain.
    let (n_busy, busy) = taken(&|occupant| !occupant.is_idle);
    if !fits(n_busy, busy) {
        return Verdict::Wait;
    }
    let idle = occupants.iter().enumerate().filter(|(_, occupant)| occupant.is_idle);
    match idle.min_by_key(|(_, occupant)| (occupant.is_pinned, occupant.used)) {
        Some((i, _)) => Verdict::Evict(i),
        None => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn occupants(all: &[(usize, bool, bool)]) -> Vec<Occupant> {
        let start = Instant::now();
        let one = |(i, &(bytes, is_idle, is_pinned)): (usize, &(usize, bool, bool))| Occupant {
            bytes,
            is_idle,
            is_pinned,
            used: start + Duration::from_secs(i as u64),
        };
        all.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_longest_idle_model_goes_first() {
        let two = Bounds { max_models: Some(2), max_bytes: None, base: 0 };
        assert_eq!(decide(&two, 9, &occupants(&[(1, true, false)])), Verdict::Fits);
        assert_eq!(decide(&two, 9, &occupants(&[(1, true, false), (1, true, false)])), Verdict::Evict(0));
        assert_eq!(decide(&two, 9, &occupants(&[(1, false, false), (1, true, false)])), Verdict::Evict(1));
        assert_eq!(decide(&two, 9, &occupants(&[(1, false, false), (1, false, false)])), Verdict::Wait);
        // One that is to stay goes last.
        assert_eq!(decide(&two, 9, &occupants(&[(1, true, true), (1, true, false)])), Verdict::Evict(1));
        assert_eq!(decide(&two, 9, &occupants(&[(1, true, true), (1, false, false)])), Verdict::Evict(0));
    }

    #[test]
    fn bytes_are_summed_up() {
        let bounds = Bounds { max_models: None, max_bytes: Some(100), base: 10 };
        assert_eq!(decide(&bounds, 90, &[]), Verdict::Fits);
        assert_eq!(decide(&bounds, 91, &[]), Verdict::Never);
        assert_eq!(decide(&bounds, 40, &occupants(&[(50, true, false)])), Verdict::Fits);
        assert_eq!(decide(&bounds, 41, &occupants(&[(50, true, false)])), Verdict::Evict(0));
        assert_eq!(decide(&bounds, 41, &occupants(&[(50, false, false)])), Verdict::Wait);
        // The idle one stays, as its going would not be enough.
        assert_eq!(decide(&bounds, 60, &occupants(&[(40, false, false), (10, true, false)])), Verdict::Wait);
        assert_eq!(decide(&bounds, usize::MAX, &[]), Verdict::Never);
    }
}
