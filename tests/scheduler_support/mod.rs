//! What tests of schedulers share: jobs, what is told of them, and what each says alone.

#![allow(dead_code, reason = "no test uses all of it")]

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bise::generation::{Event, Finish, Generation, GenerationOptions};
use bise::sampling::SamplingParams;
use bise::scheduler::{Job, JobEvent, JobStats, PromptProgress, Scheduler, SchedulerOptions};
use bise::{Engine, EngineOptions, SessionOptions};

/// An event that outlives the call that told it; log-probabilities as bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Started(usize),
    Prompt(PromptProgress),
    PromptToken(usize, u32, Vec<(u32, u32)>),
    Token(u32, String, Option<u32>, Vec<(u32, u32)>),
    End(Finish, String),
    Finished(Result<Finish, String>, JobStats),
}

pub fn told(event: JobEvent<'_>) -> Told {
    let bits = |top: &[(u32, f32)]| top.iter().map(|(id, log_prob)| (*id, log_prob.to_bits())).collect();
    match event {
        JobEvent::Started { slot } => Told::Started(slot),
        JobEvent::Prompt(progress) => Told::Prompt(progress),
        JobEvent::PromptToken { index, log_prob, top } => {
            Told::PromptToken(index, log_prob.to_bits(), bits(top))
        }
        JobEvent::Generation(Event::Token { token, text, log_prob, top }) => {
            Told::Token(token, text.to_owned(), log_prob.map(f32::to_bits), bits(top))
        }
        JobEvent::Generation(Event::Finished { finish, text }) => Told::End(finish.clone(), text.to_owned()),
        JobEvent::Finished { result, stats } => {
            Told::Finished(result.cloned().map_err(ToString::to_string), stats.clone())
        }
    }
}

/// What was told of a job so far.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<Told>>>);

impl Log {
    pub fn events(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    /// Tokens and the end of the text.
    pub fn text_events(&self) -> Vec<Told> {
        self.events().into_iter().filter(|told| matches!(told, Told::Token(..) | Told::End(..))).collect()
    }

    pub fn tokens(&self) -> Vec<u32> {
        let token = |told| if let Told::Token(token, ..) = told { Some(token) } else { None };
        self.events().into_iter().filter_map(token).collect()
    }

    pub fn n_tokens(&self) -> usize {
        self.tokens().len()
    }

    pub fn started(&self) -> Option<usize> {
        self.events().iter().find_map(|told| if let Told::Started(slot) = told { Some(*slot) } else { None })
    }

    /// How it ended. Fails where it ended twice, or was told more behind the end.
    pub fn finished(&self) -> Option<(Result<Finish, String>, JobStats)> {
        let events = self.events();
        let n = events.iter().filter(|told| matches!(told, Told::Finished(..))).count();
        match events.last() {
            Some(Told::Finished(result, stats)) => {
                assert_eq!(n, 1, "{events:?}");
                Some((result.clone(), stats.clone()))
            }
            _ => {
                assert_eq!(n, 0, "{events:?}");
                None
            }
        }
    }

    pub fn stats(&self) -> JobStats {
        self.finished().expect("it is over").1
    }

    /// A sink that writes to the log, and says stop after so many tokens.
    pub fn sink(&self, n_most: usize) -> impl FnMut(JobEvent<'_>) -> ControlFlow<()> + Send + 'static {
        let (log, mut n) = (Arc::clone(&self.0), 0);
        move |event| {
            let told = told(event);
            n += usize::from(matches!(told, Told::Token(..)));
            let stop = n == n_most && matches!(told, Told::Token(..));
            log.lock().unwrap().push(told);
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
}

pub fn job(prompt: &[u32], options: &GenerationOptions) -> (Job, Log) {
    let log = Log::default();
    (Job::new(prompt.to_vec(), options.clone(), log.sink(usize::MAX)), log)
}

pub fn engine() -> Engine {
    engine_with_window(None)
}

pub fn engine_with_window(window: Option<usize>) -> Engine {
    let options = EngineOptions { threads: Some(2), sliding_window: window, ..EngineOptions::default() };
    Engine::builtin_with(&options).unwrap()
}

pub fn greedy(max_tokens: usize) -> GenerationOptions {
    let sampling = SamplingParams { ignore_eos: true, ..SamplingParams::greedy() };
    GenerationOptions { sampling, max_tokens: Some(max_tokens), ..GenerationOptions::default() }
}

pub fn seeded(seed: u32, max_tokens: usize) -> GenerationOptions {
    let sampling = SamplingParams { seed, temp: 1.3, ..SamplingParams::default() };
    GenerationOptions { sampling, ..greedy(max_tokens) }
}

/// Numbers below `n`, the same in every run.
pub struct Random(pub u32);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % n
    }

    pub fn tokens(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| 259 + self.below(3000) as u32).collect()
    }
}

/// What a prompt tells when it is continued in a session of its own.
pub fn alone(
    engine: &Engine,
    session: &SessionOptions,
    prompt: &[u32],
    options: &GenerationOptions,
) -> Vec<Told> {
    let mut session = engine.session(session).unwrap();
    let mut generation = Generation::new(engine.tokenizer(), options.clone()).unwrap();
    session.prefill(prompt).unwrap();
    generation.prime(prompt);
    let mut events: Vec<Told> = generation.events().map(|event| told(JobEvent::Generation(event))).collect();
    while generation.finish().is_none() {
        session.step(&mut generation).unwrap();
        events.extend(generation.events().map(|event| told(JobEvent::Generation(event))));
    }
    events
}

pub fn run(scheduler: &mut Scheduler) {
    while scheduler.step() {}
}

/// Options for contexts of 512 tokens.
pub fn options(n_ubatch: usize, n_slots: usize) -> SchedulerOptions {
    let session = SessionOptions { n_ubatch, n_ctx: 512, ..SessionOptions::default() };
    SchedulerOptions { session, n_slots, ..SchedulerOptions::default() }
}

pub fn scheduler(engine: &Engine, n_ubatch: usize, n_slots: usize) -> Scheduler {
    Scheduler::new(engine, options(n_ubatch, n_slots)).unwrap()
}
