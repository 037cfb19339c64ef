//! Many texts in passes that they share: generation and embeddings.

use std::ops::ControlFlow;

use bise::Cancel;
use bise::embedding::{EmbedOptions, Norm, Pooling, normalize};
use bise::generation::{Event, GenerationOptions};
use bise::many::{ManyOptions, Request, generate_many};
use bise::tokenizer::EncodeOptions;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::adapter::{self, Scaled};
use crate::errors::to_python;
use crate::model::Model;
use crate::options;
use crate::passes::{self, Length};
use crate::session::Prompt;
use crate::stream::{Token, reason};

/// The tokens chosen, their text, why it ended, the number of tokens in the prompt, and the seed.
type Written = (String, Vec<Token>, &'static str, usize, u32);

/// Continues several prompts together. `on_piece(i, text)` is called with what can be shown of each.
#[pyfunction]
#[pyo3(name = "_generate_many")]
#[pyo3(signature = (
    model, prompts, max_tokens, stop, logprobs, special, starts_text, parse_special, n_parallel, on_piece, adapters, sampling,
))]
#[expect(clippy::too_many_arguments, reason = "called by the package alone")]
pub fn generate(
    py: Python<'_>,
    model: &Model,
    prompts: Vec<Prompt>,
    max_tokens: Option<usize>,
    stop: Vec<String>,
    logprobs: Option<usize>,
    special: bool,
    starts_text: bool,
    parse_special: bool,
    n_parallel: usize,
    on_piece: Option<Py<PyAny>>,
    adapters: Option<Vec<Scaled>>,
    sampling: &Bound<'_, PyDict>,
) -> PyResult<Vec<Written>> {
    let engine = model.engine()?;
    if n_parallel == 0 {
        return Err(PyValueError::new_err("n_parallel is 0: expected at least one text at a time"));
    }
    let options = GenerationOptions {
        sampling: options::sampling_params(Some(sampling))?,
        max_tokens,
        stop,
        log_probs: logprobs,
        special,
        starts_text,
        ..GenerationOptions::default()
    };
    let adapters = adapters.map(adapter::list).transpose()?;
    let mut requests = Vec::with_capacity(prompts.len());
    let mut n_prompts = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let prompt = match prompt {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Text(text) => {
                engine.tokenizer().encode(&text, EncodeOptions { add_special: true, parse_special })
            }
        };
        n_prompts.push(prompt.len());
        // Each has a seed of its own, so that a drawn one can be told.
        let mut options = options.clone();
        options.sampling.seed = options::drawn_seed(options.sampling.seed);
        requests.push(Request { prompt, options, constraint: None, adapters: adapters.clone() });
    }
    let seeds: Vec<u32> = requests.iter().map(|request| request.options.sampling.seed).collect();
    let cancel = Cancel::new();
    let many = ManyOptions {
        session: model.session_options,
        n_parallel,
        cancel: cancel.clone(),
        ..ManyOptions::default()
    };
    let mut tokens: Vec<Vec<Token>> = vec![Vec::new(); requests.len()];
    let mut raised = None;
    let _work = model.work_under_way(&cancel)?;
    let outcomes = passes::run(py, &cancel, Length::Long, || {
        generate_many(&engine, requests, &many, &mut |i, event| {
            let text = match event {
                Ok(Event::Token { token, text, log_prob, top }) => {
                    tokens[i].push((token, log_prob, top.to_vec()));
                    text
                }
                Ok(Event::Finished { text, .. }) => text,
                Err(_) => "",
            };
            if let Some(on_piece) = on_piece.as_ref().filter(|_| !text.is_empty() && raised.is_none())
                && let Err(error) = Python::attach(|py| on_piece.call1(py, (i, text)).map(drop))
            {
                raised = Some(error);
                cancel.cancel();
            }
            if raised.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })?;
    if let Some(error) = raised {
        return Err(error);
    }
    model.engine()?;
    let mut written = Vec::with_capacity(n_prompts.len());
    for (i, outcome) in outcomes.map_err(to_python)?.into_iter().enumerate() {
        let finish = outcome.finish.map_err(|error| options::of_prompt(py, i, to_python(error)))?;
        written.push((outcome.text, std::mem::take(&mut tokens[i]), reason(&finish), n_prompts[i], seeds[i]));
    }
    Ok(written)
}

/// One vector for each text.
#[pyfunction]
#[pyo3(name = "_embed")]
pub fn embed(
    py: Python<'_>,
    model: &Model,
    texts: Vec<Prompt>,
    pooling: Option<&str>,
    scale: bool,
) -> PyResult<Vec<Vec<f32>>> {
    let engine = model.engine()?;
    let pooling = match pooling {
        None => None,
        Some("mean") => Some(Pooling::Mean),
        Some("first" | "cls") => Some(Pooling::First),
        Some("last") => Some(Pooling::Last),
        Some(other) => {
            let message = format!(
                "pooling is {other:?}: expected \"mean\", \"first\", \"last\", or None for the model's own"
            );
            return Err(PyValueError::new_err(message));
        }
    };
    let options =
        EmbedOptions { pooling, normalize: scale, session: model.session_options, ..EmbedOptions::default() };
    let tokens: Vec<Vec<u32>> = texts
        .into_iter()
        .map(|text| match text {
            Prompt::Text(text) => engine.embedding_tokens(&text),
            Prompt::Tokens(tokens) => tokens,
        })
        .collect();
    let _work = model.work_under_way(&options.cancel)?;
    let vectors = passes::run(py, &options.cancel, Length::Long, || engine.embed_tokens(&tokens, &options))?;
    model.engine()?;
    vectors.map_err(to_python)
}

/// The hidden state after each token of a text, `n_embd` numbers each.
#[pyfunction]
#[pyo3(name = "_hidden_states")]
pub fn hidden_states(py: Python<'_>, model: &Model, text: Prompt, scale: bool) -> PyResult<Vec<Vec<f32>>> {
    let engine = model.engine()?;
    let options = EmbedOptions { session: model.session_options, ..EmbedOptions::default() };
    let tokens = match text {
        Prompt::Text(text) => engine.embedding_tokens(&text),
        Prompt::Tokens(tokens) => tokens,
    };
    let _work = model.work_under_way(&options.cancel)?;
    let mut states = Vec::new();
    let read = passes::run(py, &options.cancel, Length::Long, || {
        engine.hidden_states(&[tokens], &options, &mut |_, _, state| states.push(state.to_vec()))
    })?;
    model.engine()?;
    read.map_err(to_python)?;
    if scale {
        states.iter_mut().for_each(|state| normalize(state, Norm::P(2.0)));
    }
    Ok(states)
}
