//! A generation under way, step by step.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use bise::constraint::Choices;
use bise::generation::{Event, Finish, Generation, GenerationOptions};
use bise::{Error, ForwardError, Session as Inner, SpanError};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::errors::{BusyError, ContextFullError, to_python};
use crate::logits::{self, Logits};
use crate::model::Model;
use crate::slot::{Slot, Use};

/// A token, its log-probability, and the likeliest tokens with theirs.
pub type Token = (u32, Option<f32>, Vec<(u32, f32)>);

/// A generation under way; `bise.Stream` wraps it.
#[pyclass(frozen, module = "bise._bise", name = "Stream")]
pub struct Stream {
    slot: Arc<Slot>,
    /// Keeps the model alive as long as its generation.
    _model: Py<Model>,
    state: Mutex<State>,
    cancelled: AtomicBool,
    logits_processor: Option<Py<PyAny>>,
    n_prompt: usize,
    seed: u32,
}

struct State {
    generation: Generation,
    /// Not read yet; `None` once it is.
    prompt: Option<Vec<u32>>,
    /// [`Slot::changes`] after this generation's last step: more of them, and someone else has used the session.
    changes: u64,
    /// An exception ended it.
    has_failed: bool,
    /// The logits processor ended it.
    is_complete: bool,
}

impl Stream {
    pub fn new(
        slot: Arc<Slot>,
        model: Py<Model>,
        prompt: Vec<u32>,
        options: GenerationOptions,
        choices: Option<Vec<String>>,
        logits_processor: Option<Py<PyAny>>,
    ) -> PyResult<Stream> {
        let starts_text = options.starts_text;
        let (room, position, generation, choices) = slot.look(|session| {
            let tokenizer = session.engine().tokenizer();
            let choices = choices.map(|texts| match starts_text {
                true => Choices::new_answer(tokenizer, texts),
                false => Choices::new(tokenizer, texts),
            });
            let generation = Generation::new(tokenizer, options);
            (session.room(), session.position(), generation, choices)
        })?;
        let mut generation = generation.map_err(crate::errors::sampling)?;
        if let Some(choices) = choices {
            generation.constrain(choices.map_err(|error| PyValueError::new_err(error.to_string()))?);
        }
        let n_prompt = prompt.len();
        if n_prompt > room {
            let error = SpanError::ContextFull { n_tokens: n_prompt, position, room };
            return Err(ContextFullError::new_err(error.to_string()));
        }
        if n_prompt == 0 && position == 0 {
            return Err(to_python(Error::NoTokens));
        }
        let (seed, changes) = (generation.seed(), slot.changes());
        Ok(Stream {
            slot,
            _model: model,
            state: Mutex::new(State {
                generation,
                prompt: Some(prompt),
                changes,
                has_failed: false,
                is_complete: false,
            }),
            cancelled: AtomicBool::new(false),
            logits_processor,
            n_prompt,
            seed,
        })
    }

    fn state(&self) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(BusyError::new_err("another thread is waiting for the next piece of this generation"))
            }
        }
    }

    /// Reads the prompt, or takes the step that follows it. Logits processors are called between passes.
    fn advance(&self, py: Python<'_>) -> PyResult<()> {
        let is_first = self.state()?.prompt.is_some();
        let use_ = if is_first && self.n_prompt != 1 { Use::Prefill } else { Use::Step };
        let with_processor = self.logits_processor.is_some();
        let stepped = self.slot.work(py, use_, &|| self.cancelled.load(SeqCst), |session| {
            let Ok(mut state) = self.state.try_lock() else { return Ok(Stepped::Busy) };
            if self.slot.changes() != state.changes + 1 {
                return Ok(Stepped::Disturbed);
            }
            // From here on `cancel` sees that a step is under way.
            if self.cancelled.load(SeqCst) {
                return Err(ForwardError::Cancelled.into());
            }
            // A failure in what follows is a change as well.
            state.changes += 1;
            let result = state.step(session, with_processor);
            state.has_failed = result.is_err();
            result.map(|()| Stepped::Done)
        })?;
        match stepped {
            Stepped::Done => {}
            Stepped::Busy => return Err(busy()),
            Stepped::Disturbed => {
                return Err(PyRuntimeError::new_err(
                    "the session was used by others since this generation's last piece: it cannot go on",
                ));
            }
        }
        match &self.logits_processor {
            Some(processor) if self.state()?.generation.finish().is_none() => self.process(py, processor),
            _ => Ok(()),
        }
    }

    /// Chooses by what a Python function makes of the logits.
    fn process(&self, py: Python<'_>, processor: &Py<PyAny>) -> PyResult<()> {
        let (tokens, logits) =
            self.slot.look(|session| (session.tokens().to_vec(), session.shared_logits()))?;
        let logits = logits.ok_or_else(|| to_python(Error::NoTokens))?;
        let numpy = py.import("numpy")?;
        let tokens = numpy.call_method1("array", (tokens, "intc"))?;
        // Processors may write to what they are given.
        let scores = Logits::array(py, logits, None)?.call_method0("copy")?;
        let scores = processor.call1(py, (tokens, scores))?;
        if scores.is_none(py) {
            let mut state = self.state()?;
            state.is_complete = true;
            state.generation.interrupt();
            return Ok(());
        }
        let row = logits::row(scores.bind(py))?;
        self.state()?.generation.advance([&row[..]]).map(drop).map_err(crate::errors::sampling)
    }
}

enum Stepped {
    Done,
    Busy,
    Disturbed,
}

fn busy() -> PyErr {
    BusyError::new_err("another thread is waiting for the next piece of this generation")
}

impl State {
    /// One step in the engine. With a processor, tokens are chosen outside of it.
    fn step(&mut self, session: &mut Inner, with_processor: bool) -> Result<(), Error> {
        if let Some(prompt) = self.prompt.take() {
            if !prompt.is_empty() {
                session.prefill(&prompt)?;
            }
            self.generation.prime(session.tokens());
        } else if self.generation.finish().is_none()
            && self.generation.pending().is_some()
            && session.room() == 0
        {
            // The last token has no room, and so nothing can follow it.
            self.generation.interrupt();
            return Ok(());
        }
        if !with_processor {
            return session.step(&mut self.generation);
        }
        if let [token] = *self.generation.next_tokens(0) {
            session.decode(token)?;
        }
        Ok(())
    }

    /// The text, tokens and end that the last step brought.
    fn outcome(&self) -> (String, Vec<Token>, Option<&'static str>) {
        let mut tokens = Vec::new();
        for event in self.generation.events() {
            if let Event::Token { token, log_prob, top, .. } = event {
                tokens.push((token, log_prob, top.to_vec()));
            }
        }
        let finish =
            self.generation.finish().map(|finish| if self.is_complete { "stop" } else { reason(finish) });
        (self.generation.text().to_owned(), tokens, finish)
    }
}

/// Why a generation is over, in the words of OpenAI's API.
pub fn reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        // Interrupted for want of room.
        Finish::Interrupted => "length",
        Finish::EndToken(_) | Finish::StopText(_) | Finish::StopToken(_) | Finish::Constraint => "stop",
    }
}

#[pymethods]
impl Stream {
    /// One step: the text that can be shown now, the tokens chosen with their log-probabilities, and why the generation is over, if it
    /// is. None once it has been over.
    #[expect(clippy::type_complexity, reason = "called by the package alone")]
    fn step(&self, py: Python<'_>) -> PyResult<Option<(String, Vec<Token>, Option<&'static str>)>> {
        {
            let state = self.state()?;
            if state.has_failed || self.cancelled.load(SeqCst) || state.generation.finish().is_some() {
                return Ok(None);
            }
        }
        if let Err(error) = self.advance(py) {
            // Another thread's step goes on.
            if !error.is_instance_of::<BusyError>(py) {
                self.state.lock().unwrap_or_else(PoisonError::into_inner).has_failed = true;
            }
            return Err(error);
        }
        Ok(Some(self.state()?.outcome()))
    }

    /// Ends the generation, and the pass that another thread has under way for it, which raises `CancelledError` there.
    fn cancel(&self) {
        self.cancelled.store(true, SeqCst);
        // A pass of somebody else's is left alone.
        if self.state.try_lock().is_err() {
            self.slot.cancel();
        }
    }

    /// The number of tokens in the prompt.
    #[getter]
    fn n_prompt(&self) -> usize {
        self.n_prompt
    }

    /// The seed in use: the one that was drawn, if none was given.
    #[getter]
    fn seed(&self) -> u32 {
        self.seed
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a generation cannot be pickled: it belongs to an open model"))
    }
}
