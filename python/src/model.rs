//! `bise.Model`, less what the package adds to it in Python.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bise::adapter::Adapters;
use bise::chat::{ChatInput, ChatTemplate, Message, SpecialTokens};
use bise::memory::MemoryLimit;
use bise::{CacheType, Cancel, Engine, Isa, SessionOptions};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value as Json;

use crate::adapter::{Adapter, ScaledPath};
use crate::errors::{ChatTemplateError, ClosedError, chat, to_python};
use crate::options;
use crate::passes::{self, Length};
use crate::slot::Slot;
use crate::tokenizer::Tokenizer;

/// A model that is open; the package's class of this name adds generation to it.
#[pyclass(frozen, subclass, module = "bise._bise")]
pub struct Model {
    /// `None` once closed.
    engine: Mutex<Option<Engine>>,
    pub session_options: SessionOptions,
    /// Sessions of this model, to be closed with it.
    slots: Mutex<Vec<Weak<Slot>>>,
    /// What runs without a session, to be cancelled when the model is closed.
    works: Mutex<Vec<(u64, Cancel)>>,
    template: Option<String>,
}

impl Model {
    pub fn engine(&self) -> PyResult<Engine> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.clone().ok_or_else(|| ClosedError::new_err("the model is closed"))
    }

    /// Has `cancel` set when the model is closed, until the guard is dropped.
    pub fn work_under_way(&self, cancel: &Cancel) -> PyResult<WorkGuard<'_>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Relaxed);
        self.works().push((id, cancel.clone()));
        let guard = WorkGuard { model: self, id };
        // Closing cancels what is listed: either this work was, or the model is seen to be closed here.
        self.engine()?;
        Ok(guard)
    }

    fn works(&self) -> MutexGuard<'_, Vec<(u64, Cancel)>> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that closes with the model: an empty one, or one that was saved. `adapters` act on it in place of the model's.
    pub fn slot(
        &self,
        py: Python<'_>,
        options: &SessionOptions,
        saved: Option<PathBuf>,
        adapters: Option<Adapters>,
    ) -> PyResult<Arc<Slot>> {
        let engine = self.engine()?;
        let session = match saved {
            None => engine.session(options),
            Some(path) => {
                passes::run(py, &Cancel::new(), Length::Long, || engine.restore_session(path, options))?
            }
        };
        let mut session = session.map_err(to_python)?;
        if let Some(adapters) = adapters {
            // What was saved is read again, with others.
            let set =
                passes::run(py, &session.cancel_handle(), Length::Long, || session.set_adapters(adapters))?;
            set.map_err(to_python)?;
        }
        let slot = Arc::new(Slot::new(session));
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        drop(slots);
        // Closing closes what is listed: either this session was, or the model is seen to be closed here.
        self.engine()?;
        Ok(slot)
    }

    fn chat_template(&self, engine: &Engine, given: Option<&str>) -> PyResult<ChatTemplate> {
        let metadata = engine.file().metadata();
        let own = metadata.str("tokenizer.chat_template").ok().flatten().filter(|source| !source.is_empty());
        let Some(source) = given.or(self.template.as_deref()).or(own) else {
            return Err(ChatTemplateError::new_err(format!(
                "{}: found no chat template, expected tokenizer.chat_template in the file or chat_template= with the source of \
                 one or a name: {}",
                engine.file().name(),
                ChatTemplate::names().join(", ")
            )));
        };
        let is_source = source.contains("{{") || source.contains("{%");
        if is_source {
            return ChatTemplate::from_source(source).map_err(chat);
        }
        let adds_space = metadata.bool("tokenizer.ggml.add_space_prefix").ok().flatten().unwrap_or(true);
        Ok(ChatTemplate::by_name(source).map_err(chat)?.with_space_prefix(adds_space))
    }
}

/// Takes a work off its model's list.
pub struct WorkGuard<'a> {
    model: &'a Model,
    id: u64,
}

impl Drop for WorkGuard<'_> {
    fn drop(&mut self) {
        self.model.works().retain(|(id, _)| *id != self.id);
    }
}

/// How keys and values are kept, from keyword arguments.
pub fn session_options(
    n_ctx: usize,
    n_ubatch: usize,
    cache_type_k: &str,
    cache_type_v: &str,
) -> PyResult<SessionOptions> {
    let cache_type = |name: &'static str, text: &str| -> PyResult<CacheType> {
        text.parse().map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
    };
    if n_ubatch == 0 {
        return Err(PyValueError::new_err("n_ubatch is 0: expected at least one token in a pass"));
    }
    Ok(SessionOptions {
        n_ctx,
        n_ubatch,
        k_type: cache_type("cache_type_k", cache_type_k)?,
        v_type: cache_type("cache_type_v", cache_type_v)?,
    })
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (
        path, *, n_ctx=0, threads=None, cache_type_k="f16", cache_type_v="f16", n_ubatch=512, sliding_window=None, mmap=true,
        mlock=false, max_memory=None, stream_weights=false,
        isa=None, metadata=None, chat_template=None, adapters=Vec::new(),
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        n_ctx: usize,
        threads: Option<usize>,
        cache_type_k: &str,
        cache_type_v: &str,
        n_ubatch: usize,
        sliding_window: Option<usize>,
        mmap: bool,
        mlock: bool,
        max_memory: Option<Bound<'_, PyAny>>,
        stream_weights: bool,
        isa: Option<&str>,
        metadata: Option<&Bound<'_, PyDict>>,
        chat_template: Option<String>,
        adapters: Vec<ScaledPath>,
    ) -> PyResult<Model> {
        let session_options = session_options(n_ctx, n_ubatch, cache_type_k, cache_type_v)?;
        let mut builder = Engine::builder().mmap(mmap).mlock(mlock).stream_weights(stream_weights);
        if let Some(limit) = max_memory {
            let limit: MemoryLimit = limit
                .str()?
                .to_string()
                .parse()
                .map_err(|error| PyValueError::new_err(format!("max_memory: {error}")))?;
            builder = builder.max_memory(limit).sessions(1, &session_options);
        }
        if let Some(threads) = threads {
            if threads == 0 {
                return Err(PyValueError::new_err(
                    "threads is 0: expected at least one, or None for one a core",
                ));
            }
            builder = builder.threads(threads);
        }
        if let Some(isa) = isa {
            let isa: Isa = isa.parse().map_err(|error| PyValueError::new_err(format!("isa: {error}")))?;
            builder = builder.isa(isa);
        }
        if let Some(window) = sliding_window {
            builder = builder.sliding_window(window);
        }
        for (path, scale) in adapters.into_iter().map(ScaledPath::parts) {
            builder = builder.adapter(path, scale);
        }
        for (key, value) in metadata.into_iter().flatten() {
            builder = builder.metadata(key.extract::<String>()?, options::metadata_value(&value)?);
        }
        let engine = passes::run(py, &Cancel::new(), Length::Long, || match path {
            Some(path) => builder.open(path),
            None => builder.builtin(),
        })?;
        Ok(Model {
            engine: Mutex::new(Some(engine.map_err(to_python)?)),
            session_options,
            slots: Mutex::default(),
            works: Mutex::default(),
            template: chat_template,
        })
    }

    /// Reads an adapter (LoRA) for this model: a GGUF file as llama.cpp's converter writes it, or a folder of PEFT. It acts on the sessions and texts
    /// that are given it. It is freed when nothing uses it any more.
    fn load_adapter(&self, py: Python<'_>, path: PathBuf) -> PyResult<Adapter> {
        let engine = self.engine()?;
        let loaded = passes::run(py, &Cancel::new(), Length::Long, || engine.load_adapter(path))?;
        Ok(Adapter(loaded.map_err(to_python)?))
    }

    /// Gives back the model's memory. Whatever is under way with it ends with `ClosedError`, and so does every later use of it and
    /// of its sessions.
    fn close(&self, py: Python<'_>) {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        let slots = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
        self.works().iter().for_each(|(_, cancel)| cancel.cancel());
        for slot in slots.iter().filter_map(Weak::upgrade) {
            slot.close(py);
        }
        py.detach(|| drop(engine));
    }

    /// Whether the model was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.engine().is_err()
    }

    /// The tokenizer.
    #[getter]
    fn tokenizer(&self) -> PyResult<Tokenizer> {
        Ok(Tokenizer { inner: self.engine()?.tokenizer().clone() })
    }

    /// The path of the file, as it was given.
    #[getter]
    fn name(&self) -> PyResult<String> {
        Ok(self.engine()?.file().name().to_owned())
    }

    /// What a user should know about this file on this machine, a line each.
    #[getter]
    fn warnings(&self) -> PyResult<Vec<String>> {
        Ok(self.engine()?.warnings().to_vec())
    }

    /// The metadata of the file, with what was given in its place. Long: the vocabulary is part of it.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (engine, dict) = (self.engine()?, PyDict::new(py));
        for (key, value) in engine.file().metadata().iter() {
            dict.set_item(key, options::from_metadata(py, value)?)?;
        }
        Ok(dict)
    }

    /// Tokens that a session may hold.
    #[getter]
    fn n_ctx(&self) -> PyResult<usize> {
        let engine = self.engine()?;
        let n_ctx = self.session_options.n_ctx;
        Ok(if n_ctx == 0 { engine.config().n_ctx_train } else { n_ctx })
    }

    /// Tokens that the model was trained to hold.
    #[getter]
    fn n_ctx_train(&self) -> PyResult<usize> {
        Ok(self.engine()?.config().n_ctx_train)
    }

    /// Tokens that each token attends to, or None for all.
    #[getter]
    fn sliding_window(&self) -> PyResult<Option<usize>> {
        Ok(self.engine()?.config().sliding_window)
    }

    /// Tokens in the vocabulary.
    #[getter]
    fn n_vocab(&self) -> PyResult<usize> {
        Ok(self.engine()?.config().n_vocab)
    }

    /// Numbers in an embedding.
    #[getter]
    fn n_embd(&self) -> PyResult<usize> {
        Ok(self.engine()?.config().n_embd)
    }

    /// Layers.
    #[getter]
    fn n_layers(&self) -> PyResult<usize> {
        Ok(self.engine()?.config().n_layers)
    }

    /// Threads in use.
    #[getter]
    fn n_threads(&self) -> PyResult<usize> {
        Ok(self.engine()?.n_threads())
    }

    /// The instruction set in use.
    #[getter]
    fn isa(&self) -> PyResult<&'static str> {
        Ok(self.engine()?.isa().name())
    }

    /// Bytes of memory that the process will take with one session, once `n_tokens` have been read (the whole context where None).
    #[pyo3(signature = (n_tokens=None))]
    fn memory(&self, n_tokens: Option<usize>) -> PyResult<usize> {
        let plan = self.engine()?.memory(&self.session_options);
        Ok(n_tokens.map_or_else(|| plan.full(), |n| plan.at(n)))
    }

    /// A conversation as text and as tokens, and notes on what was done to it. Arguments are JSON.
    #[expect(clippy::too_many_arguments, reason = "called by the package alone")]
    fn _render(
        &self,
        py: Python<'_>,
        messages: &str,
        tools: &str,
        documents: &str,
        arguments: &str,
        template: Option<&str>,
        add_generation_prompt: bool,
        continue_final_message: bool,
    ) -> PyResult<(String, Vec<u32>, Vec<String>)> {
        let engine = self.engine()?;
        let template = self.chat_template(&engine, template)?;
        let messages = list("messages", messages)?;
        let messages: Vec<Message> =
            messages.into_iter().map(Message::from_json).collect::<Result<_, _>>().map_err(chat)?;
        let (tools, documents) = (list("tools", tools)?, list("documents", documents)?);
        let Ok(Json::Object(arguments)) = serde_json::from_str(arguments) else {
            return Err(PyTypeError::new_err("chat_template_kwargs: expected a dict"));
        };
        let input = ChatInput {
            tools: &tools,
            documents: &documents,
            arguments: Some(&arguments),
            add_generation_prompt,
            continue_final_message,
            ..ChatInput::new(&messages)
        };
        py.detach(|| {
            let tokenizer = engine.tokenizer();
            let prompt = template.render(&input, &SpecialTokens::of(tokenizer)).map_err(chat)?;
            let tokens = tokenizer.encode_segments(&prompt.segments(), true);
            Ok((prompt.text, tokens, prompt.notes.iter().map(ToString::to_string).collect()))
        })
    }

    fn __repr__(&self) -> String {
        match self.engine() {
            Ok(engine) => format!("<bise.Model {}>", engine.file().name()),
            Err(_) => "<bise.Model, closed>".to_owned(),
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a bise.Model cannot be pickled: it holds an open file, memory and threads. Open the file again in the other process",
        ))
    }
}

fn list(name: &str, json: &str) -> PyResult<Vec<Json>> {
    match serde_json::from_str(json) {
        Ok(Json::Array(items)) => Ok(items),
        Ok(_) => Err(PyTypeError::new_err(format!("{name}: expected a list"))),
        Err(error) => Err(PyValueError::new_err(format!("{name}: {error}"))),
    }
}
