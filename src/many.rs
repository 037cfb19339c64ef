//! Many texts continued together: [`generate_many`].

use std::any::Any;
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bise_models::tokenizer::EncodeOptions;

use crate::adapter::list::Adapters;
use crate::constraint::Constraint;
use crate::generation::{Event, Finish, GenerationOptions};
use crate::prefix::PrefixOptions;
use crate::scheduler::{Core, JobEvent, JobStats, Listener, SchedulerOptions, Work};
use crate::{Cancel, Engine, Error, SessionOptions};

/// A prompt to continue, one of many.
pub struct Request {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// How it is continued. Drafts ([`GenerationOptions::speculation`]) are only sent while no other text is under way.
    pub options: GenerationOptions,
    /// What the text may be.
    pub constraint: Option<Box<dyn Constraint>>,
    /// The adapters that act on it; those of the engine where `None`. Texts with different ones share passes.
    pub adapters: Option<Adapters>,
}

impl Request {
    /// A request with the tokens of a text: control tokens in it count as such, and BOS comes first where the vocabulary asks for it.
    pub fn new(engine: &Engine, prompt: &str, options: GenerationOptions) -> Request {
        let encode = EncodeOptions { add_special: true, parse_special: true };
        Request {
            prompt: engine.tokenizer().encode(prompt, encode),
            options,
            constraint: None,
            adapters: None,
        }
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
/// `on_event(i, event)` is told what comes of request `i`: tokens and the end as
/// [`Generation::events`](crate::generation::Generation::events) has them, or the error that ended it. [`ControlFlow::Break`] interrupts
/// that text. A text whose context is full is interrupted, too.
///
/// # Errors
/// What concerns one request (a prompt that is empty or too long, sampling parameters out of range, activations that are not finite) ends
/// that request alone. An error is returned only where no pass can run: memory for its buffers is short, or the file was changed. The
/// cancel handle is no error: what is not over then is [`Finish::Interrupted`].
///
/// ```
/// use std::ops::ControlFlow;
/// use bise::Engine;
/// use bise::generation::GenerationOptions;
/// use bise::many::{ManyOptions, Request, generate_many};
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
    let outcome =
        |_: &Request| Outcome { tokens: Vec::new(), text: String::new(), finish: Ok(Finish::Interrupted) };
    let outcomes = requests.iter().map(outcome).collect();
    let many = RefCell::new(Many { outcomes, on_event, panic: None });
    let mut core = Core::new(
        engine,
        SchedulerOptions {
            session: options.session,
            n_slots: options.n_parallel,
            max_queue: usize::MAX,
            max_pages: Some(options.max_pages),
            max_gap: None,
            prefix: PrefixOptions { max_pages: 0, disk: None },
        },
    )?;
    core.set_cancel(options.cancel.clone());
    for (index, request) in requests.into_iter().enumerate() {
        let Request { prompt, options, constraint, adapters } = request;
        let sink = Collector { index, many: &many, is_over: false };
        let request = crate::scheduler::Request {
            prompt,
            options,
            constraint,
            adapters,
            cache_prompt: false,
            prompt_log_probs: None,
            slot: None,
            sink,
        };
        if let Err(refused) = core.submit(Work::Generate(Box::new(request))) {
            many.borrow_mut().report(index, refused.into());
        }
    }
    loop {
        if options.cancel.is_cancelled() {
            core.interrupt_all();
            break;
        }
        let goes_on = match core.try_step() {
            Ok(goes_on) => goes_on,
            // The loop begins with a look at the handle.
            Err(error) if error.is_cancelled() => true,
            Err(error) => return Err(error),
        };
        let panic = many.borrow_mut().panic.take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        if !goes_on {
            break;
        }
    }
    drop(core);
    Ok(many.into_inner().outcomes)
}

struct Many<'m, 'e> {
    outcomes: Vec<Outcome>,
    on_event: &'m mut OnEvent<'e>,
    /// `on_event` has panicked.
    panic: Option<Box<dyn Any + Send>>,
}

impl Many<'_, '_> {
    fn tell(&mut self, index: usize, event: Result<Event<'_>, &Error>) -> ControlFlow<()> {
        if self.panic.is_some() {
            return ControlFlow::Break(());
        }
        let told = catch_unwind(AssertUnwindSafe(|| (self.on_event)(index, event)));
        told.unwrap_or_else(|panic| {
            self.panic = Some(panic);
            ControlFlow::Break(())
        })
    }

    fn report(&mut self, index: usize, error: Error) {
        let _ = self.tell(index, Err(&error));
        self.outcomes[index].finish = Err(error);
    }
}

/// Collects what comes of one request.
struct Collector<'r, 'm, 'e> {
    index: usize,
    many: &'r RefCell<Many<'m, 'e>>,
    /// The end was told.
    is_over: bool,
}

impl Listener for Collector<'_, '_, '_> {
    fn event(&mut self, event: JobEvent<'_>) -> ControlFlow<()> {
        let many = &mut *self.many.borrow_mut();
        let event = match event {
            JobEvent::Generation(event) => event,
            JobEvent::Started { .. }
            | JobEvent::Prompt(_)
            | JobEvent::PromptToken { .. }
            | JobEvent::Finished { .. } => return ControlFlow::Continue(()),
        };
        let outcome = &mut many.outcomes[self.index];
        match event {
            Event::Token { token, text, .. } => {
                outcome.tokens.push(token);
                outcome.text.push_str(text);
            }
            Event::Finished { finish, text } => {
                outcome.text.push_str(text);
                outcome.finish = Ok(finish.clone());
                self.is_over = true;
            }
        }
        many.tell(self.index, Ok(event))
    }

    fn finished(&mut self, result: Result<Finish, Error>, _: &JobStats) {
        match result {
            Ok(finish) if !self.is_over => {
                let event = Event::Finished { finish: &finish, text: "" };
                let _ = self.event(JobEvent::Generation(event));
            }
            Ok(_) => {}
            Err(error) => self.many.borrow_mut().report(self.index, error),
        }
    }
}
