//! Reading calls of tools, in each of their spellings.

use serde_json::Value;

use super::json_scanner::{JsonScanner, Step};
use super::marks::Mark;
use super::{ReplyEvent, ids};

/// The longest name, and the longest id, in bytes.
const MAX_WORD_BYTES: usize = 256;

/// Reads what stands behind `[TOOL_CALLS]`.
#[derive(Clone, Debug)]
pub struct CallReader {
    /// Whether calls are given out only when they are complete.
    whole: bool,
    id_seed: u64,
    n_calls: usize,
    place: Place,
    /// The name, id, key or value that is being read.
    word: String,
    scanner: JsonScanner,
    draft: Draft,
    /// Arguments that were read and are to be given out.
    piece: String,
    /// All other text since the last that was given out.
    raw: String,
}

/// A call that is being read.
#[derive(Clone, Debug, Default)]
struct Draft {
    name: Option<String>,
    id: Option<String>,
    /// A JSON object.
    arguments: Option<String>,
    /// The arguments are, or were, given out as they arrive.
    is_given_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A list or a name must come.
    Opening,
    Name,
    Id,
    BeforeArguments,
    Arguments,
    /// An object of a list must come.
    Item,
    FirstKey,
    Key,
    KeyText,
    Colon(Field),
    Value(Field),
    AfterValue,
    AfterItem,
}

/// A member of an object in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Arguments,
    Id,
    Other,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    More,
    /// A call, or a list of them, is complete.
    Done,
    /// This is no call: what was not given out is in [`CallReader::take_raw`].
    Failed,
}

/// What a character was.
enum Taken {
    Yes,
    /// The last of a call or list.
    Last,
    /// Nothing to this place, but something to the one that is now set.
    Again,
    /// A mistake.
    No,
}

impl CallReader {
    pub fn new(whole: bool, id_seed: u64) -> Self {
        Self {
            whole,
            id_seed,
            n_calls: 0,
            place: Place::Opening,
            word: String::new(),
            scanner: JsonScanner::default(),
            draft: Draft::default(),
            piece: String::new(),
            raw: String::new(),
        }
    }

    /// How many calls were given out.
    pub fn n_calls(&self) -> usize {
        self.n_calls
    }

    /// Begins behind `[TOOL_CALLS]`, which stands behind white space that is only said if there is no call.
    pub fn open(&mut self, space: &str) {
        self.place = Place::Opening;
        self.word.clear();
        self.draft = Draft::default();
        self.raw.clear();
        self.raw.push_str(space);
        self.raw.push_str(Mark::ToolCalls.text());
    }

    /// What was read and not given out.
    pub fn take_raw(&mut self) -> String {
        std::mem::take(&mut self.raw)
    }

    /// Reads text, and returns how much of it belongs to calls.
    pub fn read(&mut self, text: &str, events: &mut Vec<ReplyEvent>) -> (usize, Progress) {
        for (at, c) in text.char_indices() {
            self.raw.push(c);
            let taken = loop {
                match self.take(c, events) {
                    Taken::Again => {}
                    taken => break taken,
                }
            };
            let end = at + c.len_utf8();
            match taken {
                Taken::Last => return (end, Progress::Done),
                Taken::No => {
                    self.fail(events);
                    return (end, Progress::Failed);
                }
                Taken::Yes | Taken::Again => {}
            }
        }
        self.give_piece(events);
        (text.len(), Progress::More)
    }

    /// Takes a control token; one that has no place here is not read.
    pub fn read_mark(&mut self, mark: Mark, events: &mut Vec<ReplyEvent>) -> Progress {
        let fits = match (self.place, mark) {
            (Place::Name, Mark::CallId) => self.end_name(self.word.len(), Place::Id),
            (Place::Name, Mark::Args) => self.end_name(self.word.len(), Place::BeforeArguments),
            (Place::Id, Mark::Args) => self.end_id(self.word.len()),
            _ => false,
        };
        if fits {
            self.raw.push_str(mark.text());
            return Progress::More;
        }
        self.fail(events);
        Progress::Failed
    }

    /// The reply ends in a call.
    pub fn fail(&mut self, events: &mut Vec<ReplyEvent>) {
        if self.draft.is_given_out {
            self.give_piece(events);
            self.end_call(events);
        }
    }

    fn take(&mut self, c: char, events: &mut Vec<ReplyEvent>) -> Taken {
        let is_space = matches!(c, ' ' | '\t' | '\n' | '\r');
        match self.place {
            Place::Opening if is_space => {}
            Place::Opening if c == '[' => self.place = Place::Item,
            Place::Opening => {
                self.place = Place::Name;
                return Taken::Again;
            }
            Place::Name => return self.name(c),
            Place::Id => return self.id(c),
            Place::BeforeArguments if is_space => {}
            Place::BeforeArguments if c == '{' => {
                self.begin_arguments(events);
                self.place = Place::Arguments;
                return Taken::Again;
            }
            Place::Arguments => return self.arguments(c, events),
            Place::Item | Place::FirstKey | Place::Key | Place::AfterValue | Place::AfterItem if is_space => {
            }
            Place::Colon(_) | Place::Value(_) if is_space && self.word.is_empty() => {}
            Place::Item if c == '{' => {
                self.draft = Draft::default();
                self.place = Place::FirstKey;
            }
            Place::FirstKey | Place::Key if c == '"' => {
                self.begin_value();
                self.place = Place::KeyText;
                return Taken::Again;
            }
            Place::KeyText => return self.key(c),
            Place::Colon(field) if c == ':' => {
                self.begin_value();
                self.place = Place::Value(field);
            }
            Place::Value(field) => return self.value(c, field, events),
            Place::AfterValue if c == ',' => self.place = Place::Key,
            Place::AfterValue if c == '}' => return self.end_item(events),
            Place::AfterItem if c == ',' => self.place = Place::Item,
            Place::AfterItem if c == ']' => {
                self.raw.clear();
                return Taken::Last;
            }
            _ => return Taken::No,
        }
        Taken::Yes
    }

    fn name(&mut self, c: char) -> Taken {
        if c == '{' {
            let ended = self.end_name(self.word.len(), Place::BeforeArguments);
            return if ended { Taken::Again } else { Taken::No };
        }
        self.word.push(c);
        for (mark, next) in [(Mark::CallId, Place::Id), (Mark::Args, Place::BeforeArguments)] {
            if let Some(name) = self.word.strip_suffix(mark.text()) {
                return if self.end_name(name.len(), next) { Taken::Yes } else { Taken::No };
            }
        }
        self.word_goes_on(&[Mark::CallId, Mark::Args])
    }

    fn id(&mut self, c: char) -> Taken {
        if c == '{' {
            return if self.end_id(self.word.len()) { Taken::Again } else { Taken::No };
        }
        self.word.push(c);
        if let Some(id) = self.word.strip_suffix(Mark::Args.text()) {
            return if self.end_id(id.len()) { Taken::Yes } else { Taken::No };
        }
        self.word_goes_on(&[Mark::Args])
    }

    /// Whether what was read can be a name or an id, and after it the beginning of one of these marks as text.
    fn word_goes_on(&self, marks: &[Mark]) -> Taken {
        let (word, mark) = match self.word.find('[') {
            Some(at) => self.word.split_at(at),
            None => (self.word.as_str(), ""),
        };
        let has_mark = marks.iter().any(|m| m.text().starts_with(mark));
        let is_word = |text: &str| text.is_empty() || is_word(text);
        if has_mark && self.word.len() <= MAX_WORD_BYTES && is_word(word.trim_end()) {
            Taken::Yes
        } else {
            Taken::No
        }
    }

    /// Ends a name of the first `n` bytes of the word.
    fn end_name(&mut self, n: usize, next: Place) -> bool {
        let name = self.word[..n].trim_end();
        if !is_word(name) {
            return false;
        }
        self.draft.name = Some(name.to_owned());
        self.word.clear();
        self.place = next;
        true
    }

    fn end_id(&mut self, n: usize) -> bool {
        self.draft.id = Some(self.word[..n].trim().to_owned());
        self.word.clear();
        self.place = Place::BeforeArguments;
        true
    }

    fn begin_value(&mut self) {
        self.word.clear();
        self.scanner = JsonScanner::default();
    }

    /// Begins an object of arguments, whose first byte is to come.
    fn begin_arguments(&mut self, events: &mut Vec<ReplyEvent>) {
        self.begin_value();
        if !self.whole && self.draft.name.is_some() {
            // The brace is part of what is given out next.
            self.raw.clear();
            self.raw.push('{');
            self.draft.is_given_out = true;
            self.begin_call(events);
        }
    }

    /// Takes a character of arguments behind a name.
    fn arguments(&mut self, c: char, events: &mut Vec<ReplyEvent>) -> Taken {
        match self.scan(c) {
            Step::Inside => {
                self.keep(c);
                Taken::Yes
            }
            Step::Last => {
                self.keep(c);
                self.draft.arguments = Some(std::mem::take(&mut self.word));
                self.give(events);
                Taken::Last
            }
            Step::Past | Step::Wrong => Taken::No,
        }
    }

    fn key(&mut self, c: char) -> Taken {
        let step = self.scan(c);
        self.word.push(c);
        match step {
            Step::Inside => Taken::Yes,
            Step::Last => {
                let key: String = serde_json::from_str(&self.word).unwrap_or_default();
                self.word.clear();
                self.place = Place::Colon(match key.as_str() {
                    "name" => Field::Name,
                    "arguments" => Field::Arguments,
                    "id" => Field::Id,
                    _ => Field::Other,
                });
                Taken::Yes
            }
            Step::Past | Step::Wrong => Taken::No,
        }
    }

    /// Takes a character of a member's value.
    fn value(&mut self, c: char, field: Field, events: &mut Vec<ReplyEvent>) -> Taken {
        if field == Field::Arguments && self.word.is_empty() {
            if self.draft.arguments.is_some() {
                return Taken::No;
            }
            if c == '{' {
                self.begin_arguments(events);
            }
        }
        match self.scan(c) {
            Step::Inside => {
                self.keep_of(c, field);
                Taken::Yes
            }
            Step::Last => {
                self.keep_of(c, field);
                if self.end_value(field, events) { Taken::Yes } else { Taken::No }
            }
            Step::Past => {
                if self.end_value(field, events) {
                    Taken::Again
                } else {
                    Taken::No
                }
            }
            Step::Wrong => Taken::No,
        }
    }

    fn scan(&mut self, c: char) -> Step {
        let mut bytes = [0; 4];
        // All bytes of a character beyond ASCII are the same to JSON.
        let step = c.encode_utf8(&mut bytes).bytes().map(|byte| self.scanner.push(byte)).last();
        step.unwrap_or(Step::Wrong)
    }

    fn keep_of(&mut self, c: char, field: Field) {
        if field == Field::Arguments { self.keep(c) } else { self.word.push(c) }
    }

    /// Keeps a character of arguments.
    fn keep(&mut self, c: char) {
        self.word.push(c);
        if self.draft.is_given_out {
            self.raw.pop();
            self.piece.push(c);
        }
    }

    /// Ends a member; false if it makes no sense.
    fn end_value(&mut self, field: Field, events: &mut Vec<ReplyEvent>) -> bool {
        self.place = Place::AfterValue;
        let text = std::mem::take(&mut self.word);
        let draft = &mut self.draft;
        match field {
            Field::Name if draft.name.is_none() => {
                draft.name = serde_json::from_str(&text).ok().filter(|name: &String| is_word(name));
                draft.name.is_some()
            }
            Field::Id if draft.id.is_none() => {
                draft.id = Some(serde_json::from_str(&text).unwrap_or_default());
                true
            }
            Field::Arguments if draft.arguments.is_none() => {
                draft.arguments = as_object(text);
                self.give_piece(events);
                self.draft.arguments.is_some()
            }
            Field::Other => true,
            _ => false,
        }
    }

    /// Ends an object of a list.
    fn end_item(&mut self, events: &mut Vec<ReplyEvent>) -> Taken {
        if self.draft.name.is_none() {
            return Taken::No;
        }
        self.give(events);
        self.place = Place::AfterItem;
        Taken::Yes
    }

    /// Gives out what is left of a call that is complete.
    fn give(&mut self, events: &mut Vec<ReplyEvent>) {
        if self.draft.is_given_out {
            self.give_piece(events);
        } else {
            self.begin_call(events);
            let arguments = self.draft.arguments.take().unwrap_or_else(|| "{}".to_owned());
            events.push(ReplyEvent::ToolArguments { index: self.n_calls, text: arguments });
        }
        self.end_call(events);
        self.raw.clear();
    }

    fn begin_call(&mut self, events: &mut Vec<ReplyEvent>) {
        let index = self.n_calls;
        let own = self.draft.id.take().filter(|id| ids::is_valid(id));
        let id = own.unwrap_or_else(|| ids::make(self.id_seed, index));
        let name = self.draft.name.clone().unwrap_or_default();
        events.push(ReplyEvent::ToolCall { index, id, name });
    }

    fn give_piece(&mut self, events: &mut Vec<ReplyEvent>) {
        if !self.piece.is_empty() {
            let text = std::mem::take(&mut self.piece);
            events.push(ReplyEvent::ToolArguments { index: self.n_calls, text });
        }
    }

    fn end_call(&mut self, events: &mut Vec<ReplyEvent>) {
        events.push(ReplyEvent::ToolCallEnd { index: self.n_calls });
        self.n_calls += 1;
        self.draft = Draft::default();
    }
}

/// Whether a text can be the name of a function.
fn is_word(text: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '{' | '}' | '[' | ']');
    (1..=MAX_WORD_BYTES).contains(&text.len()) && !text.contains(is_bad)
}

/// Arguments as an object. Some models write it into a string, or null for none.
fn as_object(json: String) -> Option<String> {
    if json.starts_with('{') {
        return Some(json);
    }
    match serde_json::from_str(&json) {
        Ok(Value::Null) => Some("{}".to_owned()),
        Ok(Value::String(text)) if matches!(serde_json::from_str(&text), Ok(Value::Object(_))) => Some(text),
        _ => None,
    }
}
