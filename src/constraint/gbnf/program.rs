//! A grammar as a machine with a stack that reads bytes.

use regex_syntax::utf8::Utf8Sequences;

use super::expression::{self, Expression, Rule};

/// More nodes than this are refused.
const MAX_NODES: usize = 200_000;
/// A rule of at most so many nodes is written out where it is used, unless it comes up inside itself: that keeps stacks short.
const MAX_INLINED: usize = 1_000;

/// A step of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A byte of this range.
    Byte { first: u8, last: u8, next: u32 },
    /// One token, or any text token but this.
    Token { id: u32, is_negated: bool, next: u32 },
    /// Either of two ways.
    Either(u32, u32),
    /// A rule, and what comes behind it.
    Call { rule: u32, next: u32 },
    /// The end of a rule.
    Return,
}

/// The nodes of a grammar.
#[derive(Debug)]
pub struct Program {
    pub nodes: Vec<Node>,
    /// Where each rule begins; only those that are called have a beginning.
    pub rules: Vec<u32>,
    pub start: u32,
}

/// No node.
const NONE: u32 = u32::MAX;

impl Program {
    /// The program of rules, one of which is called `root`; `None` if it is too large.
    pub fn new(rules: &[Rule]) -> Option<Self> {
        let is_recursive = expression::recursive(rules);
        let sizes = inlined_sizes(rules, &is_recursive);
        let inline: Vec<bool> = sizes
            .iter()
            .zip(&is_recursive)
            .map(|(size, recursive)| *size <= MAX_INLINED && !recursive)
            .collect();
        // Where everything written out is too much, nothing is.
        Self::compile(rules, &inline).or_else(|| Self::compile(rules, &vec![false; rules.len()]))
    }

    fn compile(rules: &[Rule], inline: &[bool]) -> Option<Self> {
        let root = rules.iter().position(|rule| rule.name == "root")?;
        let mut compiler = Compiler {
            rules,
            inline,
            nodes: vec![Node::Return],
            wanted: Vec::new(),
            starts: vec![NONE; rules.len()],
        };
        let start = compiler.add(&rules[root].body, 0)?;
        while let Some(rule) = compiler.wanted.pop() {
            if compiler.starts[rule] == NONE {
                compiler.starts[rule] = compiler.add(&rules[rule].body, 0)?;
            }
        }
        Some(Self { nodes: compiler.nodes, rules: compiler.starts, start })
    }
}

/// How many nodes each rule takes with the rules it refers to, at most [`MAX_NODES`].
fn inlined_sizes(rules: &[Rule], is_recursive: &[bool]) -> Vec<usize> {
    // Rules settle from those that refer to none. They mostly refer to those behind them, so a few rounds are enough; what has not settled
    // then is not written out.
    let mut sizes: Vec<Option<usize>> = is_recursive.iter().map(|recursive| recursive.then_some(1)).collect();
    for _ in 0..100 {
        let mut changed = false;
        for (i, rule) in rules.iter().enumerate().rev() {
            if sizes[i].is_none()
                && let Some(size) = size(&rule.body, &sizes)
            {
                sizes[i] = Some(size.min(MAX_NODES));
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    sizes.into_iter().map(|size| size.unwrap_or(MAX_NODES)).collect()
}

fn size(expression: &Expression, sizes: &[Option<usize>]) -> Option<usize> {
    let sum = |items: &[Expression]| {
        items
            .iter()
            .try_fold(0usize, |sum, item| Some(sum.saturating_add(size(item, sizes)?.saturating_add(1))))
    };
    Some(match expression {
        Expression::Bytes(bytes) => bytes.len(),
        Expression::Characters(ranges) => ranges.len().saturating_mul(2),
        Expression::Token { .. } => 1,
        Expression::Rule(rule) => sizes[*rule]?,
        Expression::Sequence(items) | Expression::AnyOf(items) => sum(items)?,
        Expression::Repeat { item, min, max } => {
            let n = max.unwrap_or(min.saturating_add(1)).max(1) as usize;
            size(item, sizes)?.saturating_add(1).saturating_mul(n)
        }
    })
}

struct Compiler<'a> {
    rules: &'a [Rule],
    inline: &'a [bool],
    nodes: Vec<Node>,
    /// Rules that are called.
    wanted: Vec<usize>,
    starts: Vec<u32>,
}

impl Compiler<'_> {
    fn push(&mut self, node: Node) -> Option<u32> {
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        self.nodes.push(node);
        Some(self.nodes.len() as u32 - 1)
    }

    /// Adds the nodes of an expression that `next` comes behind, and returns the first.
    fn add(&mut self, expression: &Expression, next: u32) -> Option<u32> {
        match expression {
            Expression::Bytes(bytes) => {
                let byte = |next, byte: &u8| self.push(Node::Byte { first: *byte, last: *byte, next });
                bytes.iter().rev().try_fold(next, byte)
            }
            Expression::Characters(ranges) => self.characters(ranges, next),
            Expression::Token { id, is_negated } => {
                self.push(Node::Token { id: *id, is_negated: *is_negated, next })
            }
            Expression::Rule(rule) if self.inline[*rule] => {
                let rules = self.rules;
                self.add(&rules[*rule].body, next)
            }
            Expression::Rule(rule) => {
                self.wanted.push(*rule);
                self.push(Node::Call { rule: *rule as u32, next })
            }
            Expression::Sequence(items) => {
                items.iter().rev().try_fold(next, |next, item| self.add(item, next))
            }
            Expression::AnyOf(items) => {
                let (last, others) = items.split_last()?;
                let last = self.add(last, next)?;
                others.iter().rev().try_fold(last, |rest, item| {
                    let first = self.add(item, next)?;
                    self.push(Node::Either(first, rest))
                })
            }
            Expression::Repeat { item, min, max } => {
                let mut at = match max {
                    None => {
                        // Its first way leads back to it.
                        let again = self.push(Node::Either(next, next))?;
                        let body = self.add(item, again)?;
                        self.nodes[again as usize] = Node::Either(body, next);
                        again
                    }
                    Some(max) => {
                        let mut at = next;
                        for _ in *min..*max {
                            let body = self.add(item, at)?;
                            at = self.push(Node::Either(body, next))?;
                        }
                        at
                    }
                };
                for _ in 0..*min {
                    let before = at;
                    at = self.add(item, at)?;
                    if at == before {
                        // Nothing, however often it is repeated.
                        break;
                    }
                }
                Some(at)
            }
        }
    }

    /// One character of these ranges, in UTF-8.
    fn characters(&mut self, ranges: &[(u32, u32)], next: u32) -> Option<u32> {
        let mut ways: Vec<u32> = Vec::new();
        // ASCII and the rest of each range; surrogates are no characters.
        for &(first, last) in ranges {
            for (first, last) in [(first, last.min(0xd7ff)), (first.max(0xe000), last)] {
                let (Some(first), Some(last)) = (char::from_u32(first), char::from_u32(last)) else {
                    continue;
                };
                if first > last {
                    continue;
                }
                for sequence in Utf8Sequences::new(first, last) {
                    let byte = |next, range: &regex_syntax::utf8::Utf8Range| {
                        self.push(Node::Byte { first: range.start, last: range.end, next })
                    };
                    ways.push(sequence.as_slice().iter().rev().try_fold(next, byte)?);
                }
            }
        }
        let Some(mut at) = ways.pop() else {
            // No character at all: a range that no byte is in.
            return self.push(Node::Byte { first: 1, last: 0, next });
        };
        while let Some(way) = ways.pop() {
            at = self.push(Node::Either(way, at))?;
        }
        Some(at)
    }
}
