//! The parser of replies.

use std::collections::VecDeque;

use bise_models::tokenizer::{StreamDecoder, Tokenizer};

use super::call::{CallReader, Progress};
use super::marks::{Mark, Marks, find_text, n_held_back};
use super::{ReplyEvent, ReplyOptions};

const THINK: &str = "<think>";
const END_THINK: &str = "</think>";

/// Takes a reply apart as it arrives; see the [module](super).
#[derive(Clone, Debug)]
pub struct ReplyParser {
    options: ReplyOptions,
    marks: Marks,
    /// Counts the text of the tokens, which may arrive later than they do.
    decoder: Option<StreamDecoder>,
    n_decoded: usize,
    n_received: usize,
    /// Control tokens, and how much text comes before them.
    waiting: VecDeque<(usize, Mark)>,
    /// Text that was received and not given out: a mark may be beginning in it.
    text: String,
    scratch: String,
    state: State,
    calls: CallReader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said yet but white space, which is held back.
    Start {
        after_reasoning: bool,
    },
    Content,
    Reasoning {
        /// How its end is spelled.
        ends: &'static [&'static str],
        is_empty: bool,
    },
    Call,
    /// Behind a call, where another one may follow.
    BetweenCalls,
}

impl ReplyParser {
    /// A parser for what a model with this tokenizer writes.
    pub fn new(tokenizer: &Tokenizer, options: ReplyOptions) -> Self {
        let decoder =
            if options.starts_text { tokenizer.stream_from_start(true) } else { tokenizer.stream(true) };
        Self::with(Marks::of(tokenizer), Some(decoder), options)
    }

    /// A parser for text alone, in which marks are spelled.
    pub fn for_text(options: ReplyOptions) -> Self {
        Self::with(Marks::default(), None, options)
    }

    fn with(marks: Marks, decoder: Option<StreamDecoder>, options: ReplyOptions) -> Self {
        let state = if options.reasoning && options.starts_in_reasoning {
            let ends =
                if marks.is_text(Mark::EndThink) { &[END_THINK, "[/THINK]"][..] } else { &[END_THINK] };
            State::Reasoning { ends, is_empty: true }
        } else {
            State::Start { after_reasoning: false }
        };
        Self {
            options,
            marks,
            decoder,
            n_decoded: 0,
            n_received: 0,
            waiting: VecDeque::new(),
            text: String::new(),
            scratch: String::new(),
            state,
            calls: CallReader::new(options.whole_calls, options.id_seed),
        }
    }

    /// Takes a token and the text that can be shown after it, as [`Event::Token`](crate::generation::Event::Token) has them where
    /// control tokens are left out. The text may be late.
    pub fn push(&mut self, token: u32, text: &str, events: &mut Vec<ReplyEvent>) {
        if let Some(decoder) = &mut self.decoder {
            if let Some(mark) = self.marks.find(token) {
                self.waiting.push_back((self.n_decoded, mark));
            }
            self.scratch.clear();
            decoder.push_to(token, &mut self.scratch);
            self.n_decoded += self.scratch.len();
        }
        self.push_text(text, events);
    }

    /// Takes text: what had been held back when the generation was over, or a part of a reply that has no tokens.
    pub fn push_text(&mut self, text: &str, events: &mut Vec<ReplyEvent>) {
        let mut rest = text;
        while let Some(&(at, mark)) = self.waiting.front()
            && at <= self.n_received + rest.len()
        {
            self.waiting.pop_front();
            let (before, behind) =
                rest.split_at(rest.floor_char_boundary(at.saturating_sub(self.n_received)));
            self.n_received += before.len();
            self.text.push_str(before);
            self.run(false, events);
            self.run(true, events);
            self.read_mark(mark, events);
            rest = behind;
        }
        self.n_received += rest.len();
        self.n_decoded = self.n_decoded.max(self.n_received);
        self.text.push_str(rest);
        self.run(false, events);
    }

    /// Ends a reply that the model has ended: gives out what was held back. A call that is not complete becomes content, as far as it was
    /// not given out.
    pub fn finish(&mut self, events: &mut Vec<ReplyEvent>) {
        self.waiting.clear();
        self.run(true, events);
        match self.state {
            State::Call => {
                self.calls.fail(events);
                self.give_up_call(events);
            }
            // Nothing else was said.
            State::Start { after_reasoning: false } => self.give_content(self.text.len(), events),
            _ => {}
        }
        self.text.clear();
    }

    /// Ends a reply that others have ended, which the model would have gone on with. Of a call that is not complete, what was not given out
    /// is left out. Returns whether there was such a call.
    pub fn cut(&mut self, events: &mut Vec<ReplyEvent>) -> bool {
        let is_call = match self.state {
            State::Call => true,
            // Whatever is held back may be the mark of a call.
            State::BetweenCalls => !self.text.is_empty(),
            State::Start { .. } => self.options.only_calls,
            State::Content | State::Reasoning { .. } => false,
        };
        if !is_call {
            self.finish(events);
            return false;
        }
        self.waiting.clear();
        if self.state == State::Call {
            self.calls.fail(events);
            self.calls.take_raw();
        }
        self.text.clear();
        true
    }

    /// How many calls were given out.
    pub fn n_calls(&self) -> usize {
        self.calls.n_calls()
    }

    /// Works on the text received; up to its last byte if `is_end`.
    fn run(&mut self, is_end: bool, events: &mut Vec<ReplyEvent>) {
        while !self.text.is_empty() {
            let goes_on = match self.state {
                State::Start { after_reasoning } => self.start(after_reasoning, is_end),
                State::Content => self.content(is_end, events),
                State::Reasoning { ends, is_empty } => self.reasoning(ends, is_empty, is_end, events),
                State::Call => self.call(events),
                State::BetweenCalls => self.between_calls(is_end),
            };
            if !goes_on {
                break;
            }
        }
    }

    /// The marks that are looked for in text: everywhere, and at the beginning of a reply alone.
    fn text_marks(&self) -> (&'static [&'static str], &'static [&'static str]) {
        let call: &[&str] =
            if self.options.tools && self.marks.is_text(Mark::ToolCalls) { &["[TOOL_CALLS]"] } else { &[] };
        let think: &[&str] = match (self.options.reasoning, self.marks.is_text(Mark::Think)) {
            (false, _) => &[],
            (true, false) => &[THINK],
            (true, true) => &[THINK, "[THINK]"],
        };
        (call, think)
    }

    fn start(&mut self, after_reasoning: bool, is_end: bool) -> bool {
        let said = self.text.trim_start();
        if said.is_empty() {
            return false;
        }
        let (call, think) = self.text_marks();
        let mut marks = call.iter().chain(think);
        if let Some(mark) = marks.clone().find(|mark| said.starts_with(**mark)) {
            let n_spaces = self.text.len() - said.len();
            self.enter(mark, if after_reasoning { n_spaces } else { 0 }, n_spaces);
            return true;
        }
        if !is_end && marks.any(|mark| mark.starts_with(said)) {
            return false;
        }
        if after_reasoning {
            self.text.drain(..self.text.len() - said.len());
        }
        self.state = State::Content;
        true
    }

    /// Goes on behind a mark that is spelled at byte `at` of the text, where `from..at` is white space.
    fn enter(&mut self, mark: &str, from: usize, at: usize) {
        self.state = match mark {
            THINK => State::Reasoning { ends: &[END_THINK], is_empty: true },
            "[THINK]" => State::Reasoning { ends: &["[/THINK]"], is_empty: true },
            _ => {
                self.calls.open(&self.text[from..at]);
                State::Call
            }
        };
        self.text.drain(..at + mark.len());
    }

    fn content(&mut self, is_end: bool, events: &mut Vec<ReplyEvent>) -> bool {
        let (marks, _) = self.text_marks();
        if let Some((at, mark)) = find_text(&self.text, marks) {
            self.give_content(at, events);
            self.enter(mark, 0, 0);
            return true;
        }
        let held = if is_end { 0 } else { n_held_back(&self.text, marks) };
        self.give_content(self.text.len() - held, events);
        false
    }

    fn reasoning(
        &mut self,
        ends: &'static [&'static str],
        is_empty: bool,
        is_end: bool,
        events: &mut Vec<ReplyEvent>,
    ) -> bool {
        let end = find_text(&self.text, ends);
        let n = match end {
            Some((at, _)) => at,
            None if is_end => self.text.len(),
            None => self.text.len() - n_held_back(&self.text, ends),
        };
        // White space goes out with what follows it, or not at all.
        let mut thought = self.text[..n].trim_end();
        if is_empty {
            thought = thought.trim_start();
        }
        if !thought.is_empty() {
            push_reasoning(thought, events);
            self.state = State::Reasoning { ends, is_empty: false };
        }
        if let Some((at, mark)) = end {
            self.text.drain(..at + mark.len());
            self.state = State::Start { after_reasoning: true };
            return true;
        }
        let n = if is_end { n } else { self.text[..n].trim_end().len() };
        self.text.drain(..n);
        false
    }

    fn call(&mut self, events: &mut Vec<ReplyEvent>) -> bool {
        let (n, progress) = self.calls.read(&self.text, events);
        self.text.drain(..n);
        match progress {
            Progress::More => {}
            Progress::Done => self.state = State::BetweenCalls,
            Progress::Failed => self.give_up_call(events),
        }
        true
    }

    /// What is no call after all is content.
    fn give_up_call(&mut self, events: &mut Vec<ReplyEvent>) {
        push_content(&self.calls.take_raw(), events);
        self.state = State::Content;
    }

    fn between_calls(&mut self, is_end: bool) -> bool {
        let n_spaces = self.text.len() - self.text.trim_start().len();
        self.text.drain(..n_spaces);
        let (marks, _) = self.text_marks();
        let may_begin = |mark: &&str| mark.starts_with(&self.text) && mark.len() > self.text.len();
        if self.text.is_empty() || !is_end && marks.iter().any(may_begin) {
            return false;
        }
        self.state = State::Content;
        true
    }

    fn read_mark(&mut self, mark: Mark, events: &mut Vec<ReplyEvent>) {
        if self.state == State::Call {
            if self.calls.read_mark(mark, events) == Progress::More {
                return;
            }
            self.give_up_call(events);
        }
        let is_reasoning = matches!(self.state, State::Reasoning { .. });
        match mark {
            Mark::ToolCalls if self.options.tools => {
                let keeps_space = self.state == State::Start { after_reasoning: false };
                self.calls.open(if keeps_space { &self.text } else { "" });
                self.text.clear();
                self.state = State::Call;
            }
            Mark::Think if self.options.reasoning && !is_reasoning => {
                self.text.clear();
                self.state = State::Reasoning { ends: &[], is_empty: true };
            }
            Mark::EndThink if is_reasoning => self.state = State::Start { after_reasoning: true },
            // It has no meaning here, so it is spelled.
            _ if is_reasoning => self.text.push_str(mark.text()),
            _ => {
                self.give_content(self.text.len(), events);
                push_content(mark.text(), events);
                self.state = State::Content;
            }
        }
    }

    /// Gives out the first `n` bytes of the text.
    fn give_content(&mut self, n: usize, events: &mut Vec<ReplyEvent>) {
        push_content(&self.text[..n], events);
        self.text.drain(..n);
    }
}

fn push_content(text: &str, events: &mut Vec<ReplyEvent>) {
    match events.last_mut() {
        _ if text.is_empty() => {}
        Some(ReplyEvent::Content(last)) => last.push_str(text),
        _ => events.push(ReplyEvent::Content(text.to_owned())),
    }
}

fn push_reasoning(text: &str, events: &mut Vec<ReplyEvent>) {
    match events.last_mut() {
        Some(ReplyEvent::Reasoning(last)) => last.push_str(text),
        _ => events.push(ReplyEvent::Reasoning(text.to_owned())),
    }
}
