//! Many texts continued together: [`generate_many`].

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bise_models::tokenizer::EncodeOptions;
use bise_models::{ForwardError, KvCache, Output, PagePool, SpanError};
use smallvec::SmallVec;

use super::{Event, Finish, Generation, GenerationOptions};
use crate::constraint::Constraint;
use crate::{Cancel, Engine, Error, Feed, Sequence, SessionOptions};

/// A prompt to continue, one of many.
pub struct Request {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// How it is continued. [`GenerationOptions::speculation`] is not used: passes have several texts in them as it is.
    pub options: GenerationOptions,
    /// What the text may be.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Request {
    /// A request with the tokens of a text: control tokens in it count as such, and BOS comes first where the vocabulary asks for it.
    pub fn new(engine: &Engine, prompt: &str, options: GenerationOptions) -> Request {
        let encode = EncodeOptions { add_special: true, parse_special: true };
        Request { prompt: engine.tokenizer().encode(prompt, encode), options, constraint: None }
    }
}

/// How many texts are continued together, and in how much memory.
#[derive(Clone, Debug)]
pub struct ManyOptions {
    /// The context of each text, how keys and values are kept, and how many tokens a pass reads, all texts together.
    pub session: SessionOptions,
    /// Texts under way at a time, at most; and no more than tokens in a pass.
    pub n_parallel: usize,
    /// Pages of keys and values that all texts under way may take together; [`PagePool::page_bytes`](crate::PagePool::page_bytes) is the
    /// size of one. A text begins once there are as many free as it may ever need, so that it never runs short in the middle.
    pub max_pages: usize,
    /// Ends all texts when set.
    pub cancel: Cancel,
}

impl Default for ManyOptions {
    fn default() -> ManyOptions {
        ManyOptions {
            session: SessionOptions::default(),
            n_parallel: 8,
            max_pages: usize::MAX,
            cancel: Cancel::new(),
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Outcome {
    /// The tokens chosen.
    pub tokens: Vec<u32>,
    /// Their text, as far as it is shown.
    pub text: String,
    /// Why the text is over, or what went wrong with it.
    pub finish: Result<Finish, Error>,
}

/// Is told the place of a request among the others, from 0, and what came of it; see [`generate_many`].
pub type OnEvent<'a> = dyn FnMut(usize, Result<Event<'_>, &Error>) -> ControlFlow<()> + 'a;

/// Continues several prompts together, in passes that all of them share, and returns what became of each, in order.
///
/// Each text is the one that [`Session::generate_with`](crate::Session::generate_with) gives it alone, bit for bit, whatever the others
/// are and whenever they end. Prompts are read in parts, beside the next tokens of the texts under way, which go on meanwhile.
///
/// `on_event(i, event)` is told what comes of request `i`: tokens and the end as [`Generation::events`] has them, or the error that ended
/// it. [`ControlFlow::Break`] interrupts that text. A text whose context is full is interrupted, too.
///
/// # Errors
/// What concerns one request (a prompt that is empty or too long, sampling parameters out of range, activations that are not finite) ends
/// that request alone. An error is returned only where no pass can run: memory for its buffers is short, or the file was changed. The
/// cancel handle is no error: what is not over then is [`Finish::Interrupted`].
///
/// ```
/// use std::ops::ControlFlow;
/// use bise::Engine;
/// use bise::generation::{GenerationOptions, ManyOptions, Request, generate_many};
/// use bise::sampling::SamplingParams;
///
/// # #[cfg(feature = "builtin-model")] {
/// let engine = Engine::builtin()?;
/// let (sampling, max_tokens) = (SamplingParams::greedy(), Some(12));
/// let options = GenerationOptions { sampling, max_tokens, ..GenerationOptions::default() };
/// let prompts = ["Once upon a time", "The cat", "One day"];
/// let requests = prompts.iter().map(|prompt| Request::new(&engine, prompt, options.clone())).collect();
/// let outcomes = generate_many(&engine, requests, &ManyOptions::default(), &mut |_, _| ControlFlow::Continue(()))?;
/// assert_eq!(outcomes[0].text, ", a kind boy named Hugo lived in a cottage with a");
/// # }
/// # Ok::<(), bise::Error>(())
/// ```
pub fn generate_many(
    engine: &Engine,
    requests: Vec<Request>,
    options: &ManyOptions,
    on_event: &mut OnEvent<'_>,
) -> Result<Vec<Outcome>, Error> {
    let mut many = Many {
        engine,
        options,
        pool: engine.page_pool(&options.session, usize::MAX),
        n_ubatch: options.session.n_ubatch.max(1),
        outcomes: Vec::new(),
        on_event,
    };
    many.outcomes.resize_with(requests.len(), || Outcome {
        tokens: Vec::new(),
        text: String::new(),
        finish: Ok(Finish::Interrupted),
    });
    many.run(requests)?;
    Ok(many.outcomes)
}

struct Many<'a> {
    engine: &'a Engine,
    options: &'a ManyOptions,
    pool: PagePool,
    n_ubatch: usize,
    outcomes: Vec<Outcome>,
    on_event: &'a mut OnEvent<'a>,
}

/// A text under way.
struct Active {
    index: usize,
    prompt: Vec<u32>,
    generation: Generation,
    sequence: Sequence,
    /// Pages that it may come to need.
    n_pages: usize,
    /// It failed.
    is_lost: bool,
}

impl Active {
    /// The prompt's tokens that were not read yet.
    fn unread(&self) -> usize {
        self.prompt.len().saturating_sub(self.sequence.position())
    }

    fn is_over(&self) -> bool {
        self.is_lost || self.generation.finish().is_some()
    }
}

impl Many<'_> {
    fn run(&mut self, requests: Vec<Request>) -> Result<(), Error> {
        let mut waiting: VecDeque<(usize, Request)> = requests.into_iter().enumerate().collect();
        let mut active: Vec<Active> = Vec::new();
        let mut runner = self.engine.shared_runner();
        loop {
            if self.options.cancel.is_cancelled() {
                self.cancel(&mut active, waiting);
                return Ok(());
            }
            self.admit(&mut active, &mut waiting);
            for text in active.iter_mut().filter(|text| text.unread() == 0 && text.sequence.room() == 0) {
                self.interrupt(text);
            }
            active.retain(|text| !text.is_over());
            if active.is_empty() {
                if waiting.is_empty() {
                    return Ok(());
                }
                continue;
            }
            match self.pass(&mut runner, &mut active) {
                // The loop begins with a look at the handle.
                Ok(()) | Err(Error::Forward(ForwardError::Cancelled)) => {}
                // Nothing was read: the others try again without it.
                Err(Error::Forward(ForwardError::Span { span, error })) => {
                    let error = ForwardError::Span { span: 0, error }.into();
                    self.fail(&mut active[span], error);
                }
                Err(error) => return Err(error),
            }
            active.retain(|text| !text.is_over());
        }
    }

    /// Takes requests in, in order, while there is room for them.
    fn admit(&mut self, active: &mut Vec<Active>, waiting: &mut VecDeque<(usize, Request)>) {
        let n_parallel = self.options.n_parallel.clamp(1, self.n_ubatch);
        while active.len() < n_parallel {
            let Some((index, request)) = waiting.pop_front() else { return };
            let n_pages = self.pages(&request);
            let n_taken: usize = active.iter().map(|text| text.n_pages).sum();
            if !active.is_empty() && n_pages > self.options.max_pages.saturating_sub(n_taken) {
                waiting.push_front((index, request));
                return;
            }
            match self.begin(index, request, n_pages) {
                Ok(text) => active.push(text),
                Err(error) => self.report(index, error),
            }
        }
    }

    /// Pages that a request may come to need.
    fn pages(&self, request: &Request) -> usize {
        let (config, n_ctx) = (self.engine.config(), self.engine.n_ctx(&self.options.session));
        let wanted = request.prompt.len().saturating_add(request.options.max_tokens.unwrap_or(usize::MAX));
        let n = if config.sliding_window.is_none() { wanted.min(n_ctx) } else { wanted };
        KvCache::most_pages(n, config.sliding_window, self.n_ubatch)
    }

    fn begin(&self, index: usize, request: Request, n_pages: usize) -> Result<Active, Error> {
        let Request { prompt, options, constraint } = request;
        let (config, n_ctx) = (self.engine.config(), self.engine.n_ctx(&self.options.session));
        let sequence = Sequence::new(&self.pool, n_ctx, config.sliding_window);
        let (n_vocab, room) = (config.n_vocab, sequence.room());
        let refusal = |error| Err(ForwardError::Span { span: 0, error }.into());
        if prompt.is_empty() {
            return Err(Error::NoTokens);
        }
        if let Some(&token) = prompt.iter().find(|token| **token as usize >= n_vocab) {
            return refusal(SpanError::UnknownToken { token, n_vocab });
        }
        if prompt.len() > room {
            return refusal(SpanError::ContextFull { n_tokens: prompt.len(), position: 0, room });
        }
        if n_pages > self.options.max_pages {
            return Err(Error::TooFewPages { n_pages, max_pages: self.options.max_pages });
        }
        let mut generation = Generation::new(self.engine.tokenizer(), options)?;
        if let Some(constraint) = constraint {
            generation.constrain_boxed(constraint);
        }
        Ok(Active { index, prompt, generation, sequence, n_pages, is_lost: false })
    }

    /// One pass: the next token of every text whose prompt was read, and as much of the other prompts as there is room for.
    ///
    /// # Errors
    /// As [`Runner::forward`](crate::Runner::forward); nothing was read then.
    fn pass(&mut self, runner: &mut crate::Runner, active: &mut [Active]) -> Result<(), Error> {
        let n_decoding = active.iter().filter(|text| text.unread() == 0).count();
        let mut left = self.n_ubatch - n_decoding;
        // Which text each span belongs to.
        let mut texts: SmallVec<[usize; 16]> = SmallVec::new();
        let mut batch: SmallVec<[Feed<'_>; 16]> = SmallVec::new();
        for (i, text) in active.iter_mut().enumerate() {
            let n_unread = text.unread();
            let Active { prompt, generation, sequence, .. } = text;
            let (tokens, output) = match n_unread {
                0 => (generation.next_tokens(0), Output::Last),
                _ => {
                    let n = n_unread.min(left);
                    left -= n;
                    let output = if n == n_unread { Output::Last } else { Output::None };
                    (&prompt[sequence.position()..][..n], output)
                }
            };
            if !tokens.is_empty() {
                texts.push(i);
                batch.push(Feed { sequence, tokens, output });
            }
        }
        let mut outputs = match runner.forward(&mut batch, self.options.cancel.flag()) {
            Ok(outputs) => outputs,
            Err(Error::Forward(ForwardError::Span { span, error })) => {
                return Err(ForwardError::Span { span: texts[span], error }.into());
            }
            Err(error) => return Err(error),
        };
        drop(batch);
        for (span, &i) in texts.iter().enumerate() {
            if let Some(error) = outputs.failure(span) {
                let error = ForwardError::Span { span: 0, error: error.clone() };
                self.fail(&mut active[i], error.into());
            }
        }
        loop {
            match outputs.next_row() {
                Ok(None) => return Ok(()),
                Ok(Some(row)) => self.advance(&mut active[texts[row.span]], row.values),
                Err(ForwardError::Span { span, error }) => {
                    let error = ForwardError::Span { span: 0, error };
                    self.fail(&mut active[texts[span]], error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The logits after the last token of a text.
    fn advance(&mut self, text: &mut Active, logits: &[f32]) {
        let Active { prompt, generation, sequence, .. } = &mut *text;
        if sequence.position() == prompt.len() {
            generation.prime(prompt);
        }
        if generation.finish().is_none()
            && let Err(error) = generation.advance([logits])
        {
            return self.fail(text, error.into());
        }
        if self.tell(text).is_break() {
            self.interrupt(text);
        }
    }

    /// Passes on what the last step of a text brought.
    fn tell(&mut self, text: &mut Active) -> ControlFlow<()> {
        let outcome = &mut self.outcomes[text.index];
        let mut flow = ControlFlow::Continue(());
        for event in text.generation.events() {
            match event {
                Event::Token { token, text, .. } => {
                    outcome.tokens.push(token);
                    outcome.text.push_str(text);
                }
                Event::Finished { finish, text } => {
                    outcome.text.push_str(text);
                    outcome.finish = Ok(finish.clone());
                }
            }
            if (self.on_event)(text.index, Ok(event)).is_break() {
                flow = ControlFlow::Break(());
            }
        }
        flow
    }

    fn interrupt(&mut self, text: &mut Active) {
        if !text.is_over() {
            text.generation.interrupt();
            let _ = self.tell(text);
        }
    }

    fn fail(&mut self, text: &mut Active, error: Error) {
        text.is_lost = true;
        self.report(text.index, error);
    }

    fn report(&mut self, index: usize, error: Error) {
        let _ = (self.on_event)(index, Err(&error));
        self.outcomes[index].finish = Err(error);
    }

    fn cancel(&mut self, active: &mut [Active], waiting: VecDeque<(usize, Request)>) {
        active.iter_mut().for_each(|text| self.interrupt(text));
        for (index, _) in waiting {
            let event = Event::Finished { finish: &Finish::Interrupted, text: "" };
            let _ = (self.on_event)(index, Ok(event));
        }
    }
}
