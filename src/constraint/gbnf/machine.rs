//! Running a program: which bytes may come next.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::program::{Node, Program};

/// Steps that one token may take, at most: tenths of a second.
const MAX_STEPS: usize = 2_000_000;
/// States that are remembered; more of them are forgotten with the next token.
const MAX_STATES: usize = 4_096;
/// States that one token may add, at most: a kilobyte each, and what they consist of.
const MAX_NEW_STATES: usize = 30_000;

/// A state of the machine.
pub type StateId = u32;

/// Nothing can follow.
pub const DEAD: StateId = u32::MAX;
const UNKNOWN: StateId = u32::MAX - 1;

/// A node that reads something, and the stack below it.
type Thread = (u32, u32);

/// All threads that the text so far leaves, and where bytes lead from them: found when first asked for.
struct State {
    threads: Arc<[Thread]>,
    can_end: bool,
    next: Box<[StateId; 256]>,
}

/// The states of a program that were met.
pub struct Machine {
    program: Arc<Program>,
    states: Vec<State>,
    by_threads: HashMap<(Arc<[Thread]>, bool), StateId>,
    /// Stacks: where to go on, and the stack below. The first is empty.
    stacks: Vec<(u32, u32)>,
    by_stack: HashMap<(u32, u32), u32>,
    n_steps: usize,
    n_states_before: usize,
    // What `close` works with.
    todo: Vec<Thread>,
    seen: HashSet<Thread>,
    found: Vec<Thread>,
}

/// Why a program cannot be followed.
pub const TOO_MUCH: &str = "it is so ambiguous that following it takes too long";

impl Machine {
    pub fn new(program: Arc<Program>) -> Self {
        Self {
            program,
            states: Vec::new(),
            by_threads: HashMap::new(),
            stacks: vec![(0, 0)],
            by_stack: HashMap::new(),
            n_steps: 0,
            n_states_before: 0,
            todo: Vec::new(),
            seen: HashSet::new(),
            found: Vec::new(),
        }
    }

    /// The state before any byte.
    pub fn start(&mut self) -> StateId {
        self.todo.push((self.program.start, 0));
        self.close()
    }

    /// Whether the text may end.
    pub fn can_end(&self, state: StateId) -> bool {
        self.states.get(state as usize).is_some_and(|state| state.can_end)
    }

    /// Begins to count steps anew, and forgets states where there are many: returns what `state` is called then.
    pub fn begin_token(&mut self, state: StateId) -> Option<StateId> {
        self.n_steps = 0;
        let mut moved_state = None;
        if self.states.len() > MAX_STATES && state != DEAD {
            let mut fresh = Self::new(self.program.clone());
            let mut moved = HashMap::from([(0, 0)]);
            for &(node, stack) in &*self.states[state as usize].threads {
                let stack = self.move_stack(stack, &mut fresh, &mut moved);
                fresh.found.push((node, stack));
            }
            let can_end = self.states[state as usize].can_end;
            moved_state = Some(fresh.intern(can_end));
            *self = fresh;
        }
        self.n_states_before = self.states.len();
        moved_state
    }

    /// Copies a stack to another machine.
    fn move_stack(&self, stack: u32, to: &mut Self, moved: &mut HashMap<u32, u32>) -> u32 {
        let mut path = Vec::new();
        let mut at = stack;
        while !moved.contains_key(&at) {
            path.push(at);
            at = self.stacks[at as usize].1;
        }
        let mut below = moved[&at];
        for old in path.into_iter().rev() {
            below = to.push_stack(self.stacks[old as usize].0, below);
            moved.insert(old, below);
        }
        below
    }

    /// Whether the token took more steps than it may. What was found then is not all.
    pub fn is_exhausted(&self) -> bool {
        self.n_steps > MAX_STEPS || self.states.len() - self.n_states_before > MAX_NEW_STATES
    }

    /// The state after a byte.
    #[inline]
    pub fn step(&mut self, state: StateId, byte: u8) -> StateId {
        match self.states[state as usize].next[usize::from(byte)] {
            UNKNOWN => self.find(state, byte),
            next => next,
        }
    }

    fn find(&mut self, state: StateId, byte: u8) -> StateId {
        if self.is_exhausted() {
            return DEAD;
        }
        let threads = self.states[state as usize].threads.clone();
        for &(node, stack) in &*threads {
            if let Node::Byte { first, last, next } = self.program.nodes[node as usize]
                && (first..=last).contains(&byte)
            {
                self.todo.push((next, stack));
            }
        }
        self.n_steps += threads.len();
        let next = self.close();
        if !self.is_exhausted() {
            self.states[state as usize].next[usize::from(byte)] = next;
        }
        next
    }

    /// Calls `each` with the tokens that are named here: their ids, and whether all but this are meant.
    pub fn each_token(&self, state: StateId, each: &mut dyn FnMut(u32, bool)) {
        for &(node, _) in &*self.states[state as usize].threads {
            if let Node::Token { id, is_negated, .. } = self.program.nodes[node as usize] {
                each(id, is_negated);
            }
        }
    }

    /// The state after a token that spells `bytes`, or none if it is no text.
    pub fn accept(&mut self, state: StateId, token: u32, bytes: Option<&[u8]>) -> StateId {
        let mut by_bytes = state;
        for &byte in bytes.unwrap_or_default() {
            if by_bytes == DEAD {
                break;
            }
            by_bytes = self.step(by_bytes, byte);
        }
        let by_bytes = if bytes.is_some_and(|bytes| !bytes.is_empty()) { by_bytes } else { DEAD };
        let threads = self.states[state as usize].threads.clone();
        for &(node, stack) in &*threads {
            if let Node::Token { id, is_negated, next } = self.program.nodes[node as usize]
                && if is_negated { id != token && bytes.is_some() } else { id == token }
            {
                self.todo.push((next, stack));
            }
        }
        if self.todo.is_empty() {
            return by_bytes;
        }
        if by_bytes != DEAD {
            let state = &self.states[by_bytes as usize];
            self.todo.extend_from_slice(&state.threads);
            if state.can_end {
                // The end of the root: node 0 on an empty stack.
                self.todo.push((0, 0));
            }
        }
        self.close()
    }

    fn push_stack(&mut self, node: u32, below: u32) -> u32 {
        *self.by_stack.entry((node, below)).or_insert_with(|| {
            self.stacks.push((node, below));
            self.stacks.len() as u32 - 1
        })
    }

    /// The state of the threads to do, followed to the nodes that read something.
    fn close(&mut self) -> StateId {
        self.seen.clear();
        self.found.clear();
        let mut can_end = false;
        while let Some((node, stack)) = self.todo.pop() {
            if !self.seen.insert((node, stack)) {
                continue;
            }
            self.n_steps += 1;
            if self.n_steps > MAX_STEPS {
                self.todo.clear();
                return DEAD;
            }
            match self.program.nodes[node as usize] {
                Node::Byte { .. } | Node::Token { .. } => self.found.push((node, stack)),
                Node::Either(first, second) => self.todo.extend([(first, stack), (second, stack)]),
                Node::Call { rule, next } => {
                    // A call at the end of a rule leaves nothing to come back to.
                    let stack = match self.program.nodes[next as usize] {
                        Node::Return => stack,
                        _ => self.push_stack(next, stack),
                    };
                    self.todo.push((self.program.rules[rule as usize], stack));
                }
                Node::Return if stack == 0 => can_end = true,
                Node::Return => {
                    let (node, below) = self.stacks[stack as usize];
                    self.todo.push((node, below));
                }
            }
        }
        self.intern(can_end)
    }

    /// The state of the threads found.
    fn intern(&mut self, can_end: bool) -> StateId {
        if self.found.is_empty() && !can_end {
            return DEAD;
        }
        self.found.sort_unstable();
        let threads: Arc<[Thread]> = self.found.as_slice().into();
        if let Some(&state) = self.by_threads.get(&(threads.clone(), can_end)) {
            return state;
        }
        let state = self.states.len() as StateId;
        self.states.push(State { threads: threads.clone(), can_end, next: Box::new([UNKNOWN; 256]) });
        self.by_threads.insert((threads, can_end), state);
        state
    }
}
