//! What a model without any sense writes under a constraint.

// Each test uses some of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use bise::constraint::{Constraint, TokenMask};
use bise_models::tokenizer::Tokenizer;

/// How a walk ended.
#[derive(Debug, PartialEq)]
pub enum End {
    /// The text may end.
    Complete,
    /// As many tokens as were asked for.
    Cut,
}

/// A walk and what it cost.
pub struct Walk {
    pub text: String,
    pub end: End,
    pub tokens: Vec<u32>,
    pub masks: Vec<Duration>,
}

/// Random numbers of xorshift.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// Takes tokens at random among those allowed, half of the time one that may close something, until the text can end.
pub fn walk(tokenizer: &Tokenizer, constraint: &mut dyn Constraint, dice: &mut Dice, n_max: usize) -> Walk {
    let closes = |id: u32| tokenizer.piece(id).iter().all(|byte| b"\"}],0123456789: \n".contains(byte));
    let mut allowed = TokenMask::new(tokenizer.n_vocab());
    let mut walk = Walk { text: String::new(), end: End::Cut, tokens: Vec::new(), masks: Vec::new() };
    let mut bytes = Vec::new();
    while walk.tokens.len() < n_max {
        allowed.clear();
        let start = Instant::now();
        constraint.mask(&mut allowed);
        walk.masks.push(start.elapsed());
        assert_eq!(constraint.fault(), None, "{}", String::from_utf8_lossy(&bytes));
        if constraint.can_end() && (allowed.is_empty() || dice.next(4) == 0) {
            walk.end = End::Complete;
            break;
        }
        let ids: Vec<u32> = (0..tokenizer.n_vocab() as u32).filter(|id| allowed.contains(*id)).collect();
        assert!(!ids.is_empty(), "nothing is allowed after {:?}", String::from_utf8_lossy(&bytes));
        assert!(!ids.iter().any(|id| tokenizer.is_end_of_generation(*id)));
        let closing: Vec<u32> = ids.iter().copied().filter(|id| closes(*id)).collect();
        let from = if !closing.is_empty() && dice.next(2) == 0 { &closing } else { &ids };
        let token = from[dice.next(from.len())];
        constraint.accept(token);
        bytes.extend_from_slice(tokenizer.piece(token));
        walk.tokens.push(token);
    }
    walk.text = String::from_utf8_lossy(&bytes).into_owned();
    walk
}
