//! Grammars in llama.cpp's notation, GBNF.

mod expression;
mod machine;
mod parse;
mod program;

use std::collections::HashMap;
use std::sync::Arc;

use toktrie::{Recognizer, SimpleVob};

use super::{Constraint, ConstraintError, Grammars, TokenMask};
use machine::{DEAD, Machine, StateId, TOO_MUCH};
use program::Program;

/// Masks that are remembered; with 131,072 tokens they take a megabyte.
const MAX_MASKS: usize = 64;

/// Allows the texts of a grammar in llama.cpp's notation.
///
/// The whole notation is understood: texts and sets of characters with escapes, `.`, alternatives, groups, `*`, `+`, `?`, `{m,n}`,
/// comments, and tokens by number (`<[3]>`) or text (`<think>`), also negated (`!<[3]>`: any text token but this). Tokens are allowed that
/// the grammar can be at any place within, also in the middle of a character. Control tokens are allowed only where the grammar names them.
///
/// ```
/// use bise::Engine;
/// use bise::constraint::{Constraint, Gbnf, Grammars, TokenMask};
///
/// # #[cfg(feature = "builtin-model")] {
/// let engine = Engine::builtin()?; // or Engine::open("mistral-7b.Q4_K_M.gguf")?
/// let grammars = Grammars::new(engine.tokenizer());
/// let mut answer = Gbnf::new(&grammars, "root ::= \"yes\" | \"no\" [!.]?")?;
/// let mut allowed = TokenMask::new(engine.tokenizer().n_vocab());
/// answer.mask(&mut allowed);
/// assert!(allowed.contains(engine.tokenizer().id("y").unwrap()));
/// assert!(!allowed.contains(engine.tokenizer().id("z").unwrap()));
///
/// let error = Gbnf::new(&grammars, "root ::= answer").err().unwrap();
/// assert_eq!(error.to_string(), "the grammar is not valid: line 1, column 10: there is no rule called \"answer\"");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Gbnf {
    grammars: Grammars,
    machine: Machine,
    state: StateId,
    /// What is allowed in a state.
    masks: HashMap<StateId, Box<[u64]>>,
    // What `mask` works with.
    found: SimpleVob,
    path: Vec<StateId>,
    fault: Option<&'static str>,
}

impl Gbnf {
    /// A constraint by a grammar, which begins with the rule `root`.
    ///
    /// # Errors
    /// [`ConstraintError::Grammar`] for what llama.cpp refuses, too: mistakes in the notation, rules that are not defined or begin with
    /// themselves, a repetition that is too large, a token that the vocabulary does not have. And for a rule that is defined twice.
    pub fn new(grammars: &Grammars, grammar: &str) -> Result<Self, ConstraintError> {
        let tokenizer = grammars.tokenizer();
        let rules = parse::parse(grammar, &|text| tokenizer.id(text), tokenizer.n_vocab())?;
        let Some(program) = Program::new(&rules) else {
            let message = "it is too large when its repetitions are written out".to_owned();
            return Err(ConstraintError::Grammar { line: 1, column: 1, message });
        };
        let mut machine = Machine::new(Arc::new(program));
        let state = machine.start();
        let fault = machine.is_exhausted().then_some(TOO_MUCH);
        let found = grammars.trie()?.alloc_token_set();
        Ok(Self {
            grammars: grammars.clone(),
            machine,
            state,
            masks: HashMap::new(),
            found,
            path: Vec::new(),
            fault,
        })
    }

    /// Adds the tokens of a state to a set.
    fn find(&mut self, allowed: &mut TokenMask) {
        let Ok(trie) = self.grammars.trie() else { return };
        self.found.set_all(false);
        self.path.clear();
        self.path.push(self.state);
        let mut walk = Walk { machine: &mut self.machine, path: &mut self.path };
        trie.add_bias(&mut walk, &mut self.found, &[]);
        for (word, pair) in allowed.words_mut().iter_mut().zip(self.found.as_slice().chunks(2)) {
            *word = u64::from(pair[0]) | pair.get(1).map_or(0, |high| u64::from(*high) << 32);
        }
        allowed.trim();
        let tokenizer = self.grammars.tokenizer();
        self.machine.each_token(self.state, &mut |token, is_negated| {
            if is_negated {
                let is_text = |id: &u32| *id != token && is_text(trie.token(*id));
                (0..trie.vocab_size() as u32).filter(is_text).for_each(|id| allowed.insert(id));
            } else if !tokenizer.is_end_of_generation(token) {
                allowed.insert(token);
            }
        });
    }
}

/// Whether a token's bytes are text.
fn is_text(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| *byte != toktrie::TokTrie::SPECIAL_TOKEN_MARKER)
}

impl Constraint for Gbnf {
    fn mask(&mut self, allowed: &mut TokenMask) {
        if self.fault.is_some() || self.state == DEAD {
            return;
        }
        if let Some(mask) = self.masks.get(&self.state) {
            allowed.words_mut().copy_from_slice(mask);
            return;
        }
        if let Some(state) = self.machine.begin_token(self.state) {
            self.masks.clear();
            self.state = state;
        }
        self.find(allowed);
        if self.machine.is_exhausted() {
            self.fault = Some(TOO_MUCH);
            allowed.clear();
            return;
        }
        if self.masks.len() >= MAX_MASKS {
            self.masks.clear();
        }
        self.masks.insert(self.state, allowed.words().into());
    }

    fn accept(&mut self, token: u32) {
        if self.fault.is_some() || self.state == DEAD || self.grammars.tokenizer().is_end_of_generation(token)
        {
            return;
        }
        let Ok(trie) = self.grammars.trie() else { return };
        let bytes = Some(trie.token(token)).filter(|bytes| is_text(bytes));
        self.state = self.machine.accept(self.state, token, bytes);
        if self.machine.is_exhausted() {
            self.fault = Some(TOO_MUCH);
        }
    }

    fn can_end(&self) -> bool {
        self.fault.is_none() && self.state != DEAD && self.machine.can_end(self.state)
    }

    fn fault(&self) -> Option<&str> {
        self.fault
    }
}

/// Follows the machine along the bytes of tokens.
struct Walk<'a> {
    machine: &'a mut Machine,
    path: &'a mut Vec<StateId>,
}

impl Recognizer for Walk<'_> {
    fn pop_bytes(&mut self, n: usize) {
        self.path.truncate(self.path.len() - n);
    }

    fn collapse(&mut self) {
        let last = self.path.len() - 1;
        self.path.drain(..last);
    }

    fn trie_finished(&mut self) {
        self.path.truncate(1);
    }

    #[inline]
    fn try_push_byte(&mut self, byte: u8) -> bool {
        let state = self.path[self.path.len() - 1];
        let next = self.machine.step(state, byte);
        if next == DEAD {
            return false;
        }
        self.path.push(next);
        true
    }
}
