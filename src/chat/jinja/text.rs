//! Text that knows which of its characters were given to the template and which the template wrote.
//!
//! Upper case of a given character is given, and so is what `replace` leaves of a message: whatever a template does to
//! the words of a conversation, the result still tells them from its own. Comparison ignores the difference.

use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;

use super::fault::Fault;
use super::meter::{Charge, MAX_TEXT_BYTES, Meter};

/// An immutable text; clones share it.
#[derive(Clone)]
pub(super) struct Text(Rc<Data>);

struct Data {
    text: String,
    /// Byte ranges of given characters, in rising order and apart.
    given: Vec<Range<usize>>,
    _charge: Charge,
}

/// What a text occupies besides its characters.
const OVERHEAD: usize = 96;

impl Text {
    /// A text all of whose characters are given, or none.
    pub fn new(meter: &Rc<Meter>, text: &str, given: bool) -> Result<Self, Fault> {
        let mut writer = Writer::new(meter)?;
        writer.push_str(text, given)?;
        Ok(writer.finish())
    }

    /// A text that the template wrote.
    pub fn written(meter: &Rc<Meter>, text: &str) -> Result<Self, Fault> {
        Self::new(meter, text, false)
    }

    /// The byte ranges of given characters.
    pub fn given(&self) -> &[Range<usize>] {
        &self.0.given
    }

    /// Whether the character at this byte offset comes from the conversation.
    pub fn is_given(&self, at: usize) -> bool {
        let next = self.0.given.partition_point(|range| range.end <= at);
        self.0.given.get(next).is_some_and(|range| range.start <= at)
    }

    /// A part of the text, by bytes.
    pub fn part(&self, meter: &Rc<Meter>, range: Range<usize>) -> Result<Self, Fault> {
        if range == (0..self.len()) {
            return Ok(self.clone());
        }
        let mut writer = Writer::new(meter)?;
        writer.push_part(self, range)?;
        Ok(writer.finish())
    }

    /// The characters, each with its byte offset and whether it comes from the conversation.
    pub fn marked_chars(&self) -> impl Iterator<Item = (usize, char, bool)> + '_ {
        let mut ranges = self.0.given.iter().peekable();
        self.char_indices().map(move |(at, c)| {
            while ranges.next_if(|range| range.end <= at).is_some() {}
            (at, c, ranges.peek().is_some_and(|range| range.start <= at))
        })
    }

    /// The number of characters.
    pub fn n_chars(&self, meter: &Meter) -> Result<usize, Fault> {
        meter.pay_copy(self.len())?;
        Ok(self.chars().count())
    }

    /// The text and its given ranges, for the caller of the template.
    pub fn into_parts(self) -> (String, Vec<Range<usize>>) {
        match Rc::try_unwrap(self.0) {
            Ok(data) => (data.text, data.given),
            Err(shared) => (shared.text.clone(), shared.given.clone()),
        }
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A text being put together.
pub(super) struct Writer {
    meter: Rc<Meter>,
    text: String,
    given: Vec<Range<usize>>,
    charge: Charge,
}

impl Writer {
    pub fn new(meter: &Rc<Meter>) -> Result<Self, Fault> {
        let charge = meter.hold(OVERHEAD)?;
        Ok(Self { meter: Rc::clone(meter), text: String::new(), given: Vec::new(), charge })
    }

    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Appends characters that are all given, or none.
    pub fn push_str(&mut self, text: &str, given: bool) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        if self.text.len() + text.len() > MAX_TEXT_BYTES {
            return Err(Fault::Endless);
        }
        self.meter.pay_copy(text.len())?;
        self.charge.grow(text.len())?;
        let start = self.text.len();
        self.text.push_str(text);
        if given {
            self.mark(start..self.text.len())?;
        }
        Ok(())
    }

    /// Appends a character.
    pub fn push(&mut self, c: char, given: bool) -> Result<(), Fault> {
        self.push_str(c.encode_utf8(&mut [0; 4]), given)
    }

    /// Appends a character `n` times.
    pub fn push_many(&mut self, c: char, n: usize, given: bool) -> Result<(), Fault> {
        let bytes = n.saturating_mul(c.len_utf8());
        if self.text.len().saturating_add(bytes) > MAX_TEXT_BYTES {
            return Err(Fault::Endless);
        }
        self.meter.pay_scan(bytes)?;
        self.charge.grow(bytes)?;
        let start = self.text.len();
        self.text.extend(std::iter::repeat_n(c, n));
        if given && n > 0 {
            self.mark(start..self.text.len())?;
        }
        Ok(())
    }

    /// Appends a text.
    pub fn push_text(&mut self, text: &Text) -> Result<(), Fault> {
        self.push_part(text, 0..text.len())
    }

    /// Appends a part of a text, by bytes.
    pub fn push_part(&mut self, text: &Text, part: Range<usize>) -> Result<(), Fault> {
        if part.is_empty() {
            return Ok(());
        }
        let start = self.text.len();
        self.push_str(&text[part.clone()], false)?;
        let first = text.given().partition_point(|range| range.end <= part.start);
        for range in &text.given()[first..] {
            if range.start >= part.end {
                break;
            }
            self.meter.pay(1)?;
            let (from, to) = (range.start.max(part.start), range.end.min(part.end));
            self.mark(start + from - part.start..start + to - part.start)?;
        }
        Ok(())
    }

    fn mark(&mut self, range: Range<usize>) -> Result<(), Fault> {
        match self.given.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => {
                // A vector may hold twice what it needs.
                self.charge.grow(2 * size_of::<Range<usize>>())?;
                self.given.push(range);
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Text {
        Text(Rc::new(Data { text: self.text, given: self.given, _charge: self.charge }))
    }
}
