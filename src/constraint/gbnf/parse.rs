//! The text of a grammar.

use std::collections::HashMap;

use super::expression::{Expression, Rule};
use crate::constraint::ConstraintError;

/// Parentheses within each other, at most.
const MAX_DEPTH: usize = 100;
/// Longer texts are refused.
const MAX_BYTES: usize = 4 << 20;
/// Rules, at most.
const MAX_RULES: usize = 10_000;

/// The rules of a grammar, by number. `token` finds the token with a text.
///
/// # Errors
/// What is wrong with the text, and where.
pub fn parse(
    text: &str,
    token: &dyn Fn(&str) -> Option<u32>,
    n_vocab: usize,
) -> Result<Vec<Rule>, ConstraintError> {
    let mut parser = Parser {
        chars: text.chars().collect(),
        at: 0,
        rules: Vec::new(),
        names: HashMap::new(),
        token,
        n_vocab,
    };
    if text.len() > MAX_BYTES {
        return Err(parser.error(0, &format!("it has {} bytes: expected at most {MAX_BYTES}", text.len())));
    }
    parser.space(true);
    while parser.peek().is_some() {
        parser.rule()?;
    }
    parser.finish()
}

struct Parser<'a> {
    chars: Vec<char>,
    at: usize,
    rules: Vec<Draft>,
    names: HashMap<String, usize>,
    token: &'a dyn Fn(&str) -> Option<u32>,
    n_vocab: usize,
}

/// A rule that is referred to, and may be defined.
struct Draft {
    name: String,
    /// Where it is first named.
    named_at: usize,
    body: Option<Expression>,
}

impl Parser<'_> {
    fn error(&self, at: usize, message: &str) -> ConstraintError {
        let before = &self.chars[..at.min(self.chars.len())];
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        ConstraintError::Grammar { line, column, message: message.to_owned() }
    }

    /// An error that says what stands here.
    fn expected(&self, what: &str) -> ConstraintError {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some('\n' | '\r') => "the end of the line".to_owned(),
            Some(c) => format!("{c:?}"),
        };
        self.error(self.at, &format!("expected {what}, found {found}"))
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let is_here = self.peek() == Some(c);
        self.at += usize::from(is_here);
        is_here
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    /// Skips white space and comments; over the end of the line too if `lines`.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if lines => self.at += 1,
                '#' => {
                    while self.peek().is_some_and(|c| c != '\r' && c != '\n') {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
    }

    fn name(&mut self) -> Result<String, ConstraintError> {
        let is_letter = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let name: String = self.chars[self.at..].iter().take_while(|c| is_letter(c)).collect();
        if name.is_empty() {
            return Err(self.expected("the name of a rule (letters, digits and '-')"));
        }
        self.at += name.len();
        Ok(name)
    }

    fn number_of(&mut self, name: String, at: usize) -> usize {
        *self.names.entry(name).or_insert_with_key(|name| {
            self.rules.push(Draft { name: name.clone(), named_at: at, body: None });
            self.rules.len() - 1
        })
    }

    fn rule(&mut self) -> Result<(), ConstraintError> {
        let start = self.at;
        let name = self.name()?;
        self.space(false);
        if !self.starts_with("::=") {
            return Err(self.expected("\"::=\""));
        }
        self.at += 3;
        self.space(true);
        let number = self.number_of(name, start);
        if self.rules.len() > MAX_RULES {
            return Err(self.error(start, &format!("there are more than {MAX_RULES} rules")));
        }
        if self.rules[number].body.is_some() {
            let message = format!("the rule {:?} is defined twice", self.rules[number].name);
            return Err(self.error(start, &message));
        }
        let body = self.alternatives(0)?;
        self.rules[number].body = Some(body);
        match self.peek() {
            None => {}
            Some('\r' | '\n') => self.space(true),
            Some(_) => return Err(self.expected("the end of the rule")),
        }
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Expression, ConstraintError> {
        if depth > MAX_DEPTH {
            return Err(
                self.error(self.at, &format!("parentheses are nested deeper than {MAX_DEPTH} levels"))
            );
        }
        let mut alternatives = vec![self.sequence(depth)?];
        while self.take('|') {
            self.space(true);
            alternatives.push(self.sequence(depth)?);
        }
        Ok(Expression::any_of(alternatives))
    }

    fn sequence(&mut self, depth: usize) -> Result<Expression, ConstraintError> {
        let mut items: Vec<Expression> = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                '"' => items.push(self.literal()?),
                '[' => items.push(self.class()?),
                '.' => {
                    self.at += 1;
                    items.push(Expression::Characters(vec![(0, char::MAX as u32)]));
                }
                '(' => {
                    self.at += 1;
                    self.space(true);
                    items.push(self.alternatives(depth + 1)?);
                    if !self.take(')') {
                        return Err(self.expected("')'"));
                    }
                }
                '<' | '!' => items.push(self.token_literal()?),
                '*' | '+' | '?' | '{' => {
                    let at = self.at;
                    let (min, max) = self.repetition()?;
                    let Some(item) = items.pop() else {
                        return Err(
                            self.error(at, &format!("expected something before '{c}' that it repeats"))
                        );
                    };
                    items.push(Expression::Repeat { item: Box::new(item), min, max });
                }
                c if c.is_ascii_alphanumeric() || c == '-' => {
                    let at = self.at;
                    let name = self.name()?;
                    let number = self.number_of(name, at);
                    items.push(Expression::Rule(number));
                }
                _ => break,
            }
            // In parentheses, a rule may go on in the next line.
            self.space(depth > 0);
        }
        Ok(Expression::Sequence(items))
    }

    fn repetition(&mut self) -> Result<(u32, Option<u32>), ConstraintError> {
        let c = self.peek();
        self.at += 1;
        match c {
            Some('*') => return Ok((0, None)),
            Some('+') => return Ok((1, None)),
            Some('?') => return Ok((0, Some(1))),
            _ => {}
        }
        let start = self.at;
        self.space(false);
        let min = self.number()?;
        self.space(false);
        let max = if self.take(',') {
            self.space(false);
            if self.peek() == Some('}') { None } else { Some(self.number()?) }
        } else {
            Some(min)
        };
        self.space(false);
        if !self.take('}') {
            return Err(self.expected("'}'"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.error(start, "the second number is less than the first"));
        }
        Ok((min, max))
    }

    fn number(&mut self) -> Result<u32, ConstraintError> {
        let digits: String = self.chars[self.at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        if digits.is_empty() {
            return Err(self.expected("a number"));
        }
        let number =
            digits.parse().map_err(|_| self.error(self.at, &format!("the number {digits} is too large")))?;
        self.at += digits.len();
        Ok(number)
    }

    fn literal(&mut self) -> Result<Expression, ConstraintError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(self.error(start, "the text has no closing '\"'")),
                Some('"') => break,
                Some(_) => text.push(self.text_char()?),
            }
        }
        self.at += 1;
        Ok(Expression::Bytes(text.into_bytes()))
    }

    /// A character of a text, where surrogates have no place.
    fn text_char(&mut self) -> Result<char, ConstraintError> {
        let at = self.at;
        let code = self.code_point()?;
        char::from_u32(code).ok_or_else(|| self.error(at, &format!("U+{code:04X} is no character")))
    }

    fn class(&mut self) -> Result<Expression, ConstraintError> {
        let start = self.at;
        self.at += 1;
        let is_negated = self.take('^');
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error(start, "the set of characters has no closing ']'")),
                Some(']') => break,
                Some(_) => {}
            }
            let at = self.at;
            let first = self.code_point()?;
            let is_range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']');
            let last = if is_range {
                self.at += 1;
                self.code_point()?
            } else {
                first
            };
            if last < first {
                return Err(self.error(at, "the range ends before it begins"));
            }
            ranges.push((first, last));
        }
        self.at += 1;
        Ok(Expression::Characters(if is_negated { complement(ranges) } else { ranges }))
    }

    fn code_point(&mut self) -> Result<u32, ConstraintError> {
        let at = self.at;
        let Some(c) = self.peek() else { return Err(self.expected("a character")) };
        self.at += 1;
        if c != '\\' {
            return Ok(c as u32);
        }
        let Some(escape) = self.peek() else { return Err(self.expected("a character after '\\'")) };
        self.at += 1;
        let n_digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            't' => return Ok(0x09),
            'r' => return Ok(0x0d),
            'n' => return Ok(0x0a),
            '\\' | '"' | '[' | ']' => return Ok(escape as u32),
            _ => return Err(self.error(at, &format!("there is no escape '\\{escape}'"))),
        };
        let digits: String = self.chars[self.at..].iter().take(n_digits).collect();
        let code = (digits.len() == n_digits && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(&digits, 16).ok())
            .flatten();
        match code {
            Some(code) if code <= char::MAX as u32 => {
                self.at += n_digits;
                Ok(code)
            }
            Some(code) => Err(self.error(at, &format!("U+{code:X} is no character"))),
            None => {
                Err(self.error(at, &format!("expected {n_digits} hexadecimal digits after '\\{escape}'")))
            }
        }
    }

    /// `<[3]>`, `<think>`, and either behind `!`.
    fn token_literal(&mut self) -> Result<Expression, ConstraintError> {
        let is_negated = self.take('!');
        let start = self.at;
        if !self.take('<') {
            return Err(self.expected("a token such as <[3]> or <think> after '!'"));
        }
        let id = if self.take('[') {
            let id = self.number()?;
            if !(self.take(']') && self.take('>')) {
                return Err(self.expected("\"]>\" after the number of a token"));
            }
            if id as usize >= self.n_vocab {
                let message = format!("there is no token {id}: the vocabulary has {}", self.n_vocab);
                return Err(self.error(start, &message));
            }
            id
        } else {
            let is_inside = |c: &char| !matches!(c, '>' | '\n' | '\r');
            let inside: String = self.chars[self.at..].iter().take_while(|c| is_inside(c)).collect();
            self.at += inside.chars().count();
            if !self.take('>') {
                return Err(self.error(start, "the token has no closing '>'"));
            }
            let text = format!("<{inside}>");
            (self.token)(&text)
                .ok_or_else(|| self.error(start, &format!("no token of the vocabulary is {text:?}")))?
        };
        Ok(Expression::Token { id, is_negated })
    }

    fn finish(self) -> Result<Vec<Rule>, ConstraintError> {
        if !self.names.contains_key("root") {
            return Err(self.error(self.chars.len(), "there is no rule called \"root\""));
        }
        let mut rules = Vec::with_capacity(self.rules.len());
        for draft in &self.rules {
            let Some(body) = &draft.body else {
                return Err(self.error(draft.named_at, &format!("there is no rule called {:?}", draft.name)));
            };
            rules.push(Rule { name: draft.name.clone(), body: body.clone() });
        }
        if let Some(rule) = super::expression::left_recursive(&rules) {
            let draft = &self.rules[rule];
            let message = format!("the rule {:?} can begin with itself (left recursion)", draft.name);
            return Err(self.error(draft.named_at, &message));
        }
        Ok(rules)
    }
}

/// All code points but these.
fn complement(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut others = Vec::new();
    let mut next = 0;
    for (first, last) in ranges {
        if first > next {
            others.push((next, first - 1));
        }
        next = next.max(last + 1);
    }
    if next <= char::MAX as u32 {
        others.push((next, char::MAX as u32));
    }
    others
}
