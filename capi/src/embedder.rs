//! Texts as vectors.

use std::ffi::c_char;
use std::sync::Mutex;

use engine::embedding::{EmbedOptions, Pooling};
use engine::{Cancel, Engine};

use crate::border::{call, try_lock};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::model::{MODELS, bise_model};
use crate::names;
use crate::registry::Registry;
use crate::session_options::SessionSettings;
use crate::status::{bise_status, bise_status::*};

/// Makes vectors of texts. Any thread may use it, but one call at a time, bise_embedder_cancel and bise_embedder_free excepted.
pub struct bise_embedder {
    engine: Engine,
    options: Mutex<EmbedOptions>,
    cancel: Cancel,
}

static EMBEDDERS: Registry<bise_embedder> = Registry::new(8, "bise_embedder");

fn set(options: &mut EmbedOptions, name: &str, value: &str) -> Result<(), Failure> {
    match &names::plain(name)[..] {
        "pooling" => {
            options.pooling = match value {
                "auto" => None,
                "mean" => Some(Pooling::Mean),
                "cls" | "first" => Some(Pooling::First),
                "last" => Some(Pooling::Last),
                _ => return Err(names::unfit(name, value, "auto, mean, cls or last")),
            }
        }
        "normalize" => options.normalize = names::parse_bool(name, value)?,
        "parallel" => {
            let n = names::parse(name, value, "a number of texts")?;
            options.n_parallel = if n > 0 { n } else { return Err(names::unfit(name, value, "at least 1")) };
        }
        _ => {
            let mut settings = SessionSettings { engine: options.session };
            settings.set(name, value).map_err(|failure| {
                let is_unknown = failure.message.starts_with("no option is called");
                if is_unknown { names::unknown(name, &NAMES) } else { failure }
            })?;
            options.session = settings.engine;
        }
    }
    Ok(())
}

const NAMES: [&str; 7] =
    ["pooling", "normalize", "parallel", "ctx_size", "ubatch_size", "cache_type_k", "cache_type_v"];

/// Makes an embedder with its default options.
///
/// Owner: the caller, who frees it by bise_embedder_free, before or after the model. On failure `*embedder` is NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_embedder_new(
    model: *const bise_model,
    embedder: *mut *mut bise_embedder,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(embedder, "embedder")?;
        caller.store(embedder, std::ptr::null_mut());
        let engine = MODELS.get(model)?.engine.clone();
        let options = EmbedOptions::default();
        let cancel = options.cancel.clone();
        let new = bise_embedder { engine, options: Mutex::new(options), cancel };
        caller.store(embedder, EMBEDDERS.insert(new));
        Ok(())
    })
}

/// Frees an embedder. NULL is allowed and does nothing. A call that is under way in another thread goes on to its end.
///
/// Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_embedder_free(embedder: *mut bise_embedder) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| EMBEDDERS.free(embedder))
}

/// Sets an option by its name:
///
/// - "pooling": how the hidden states of a text become one vector: "mean", "cls" (the first token's), "last", or "auto", the default: what the
///   file says, or the mean.
/// - "normalize": "true", the default, scales each vector to length 1.
/// - "parallel": texts that are read together at most, by default 16. The vectors do not depend on it.
/// - "ctx_size", "ubatch_size", "cache_type_k", "cache_type_v": as for bise_session_options_set.
///
/// Returns BISE_ERROR_ARGUMENT for another name or a value that is none; nothing changes then. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_embedder_set(
    embedder: *mut bise_embedder,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let (name, value) = (caller.name(name, "name")?, caller.name(value, "value")?);
        let embedder = EMBEDDERS.get(embedder)?;
        set(&mut *try_lock(&embedder.options, "bise_embedder")?, name, value)
    })
}

/// Ends the call of bise_embed that is under way, which returns BISE_ERROR_CANCELLED, or else the next one.
///
/// Threads: any. Not from a signal handler: it takes a lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_embedder_cancel(embedder: *const bise_embedder) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| {
        EMBEDDERS.get(embedder)?.cancel.cancel();
        Ok(())
    })
}

/// One vector of bise_model_n_embd floats for each of `n_texts` texts in UTF-8, one behind the other in `vectors`. Each text has the same bits
/// alone and among others.
///
/// `n_bytes` has the length of each text, or is NULL where all end in NUL. Returns BISE_ERROR_BUFFER where `capacity`, in floats, is less than
/// `n_texts` times bise_model_n_embd, and stores nothing then.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_embed(
    embedder: *mut bise_embedder,
    texts: *const *const c_char,
    n_bytes: *const usize,
    n_texts: usize,
    vectors: *mut f32,
    capacity: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let embedder = EMBEDDERS.get(embedder)?;
        let texts = caller.slice(texts, n_texts, "texts")?;
        let lengths = match n_bytes.is_null() {
            true => None,
            false => Some(caller.slice(n_bytes, n_texts, "n_bytes")?),
        };
        let text = |(i, text): (usize, &*const c_char)| {
            caller.text(*text, lengths.map_or(usize::MAX, |lengths| lengths[i]), "text")
        };
        let texts = texts.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?;
        // Before the work is done, not after.
        let needed = n_texts.saturating_mul(embedder.engine.config().n_embd);
        if capacity < needed {
            return Err(Failure::new(
                BISE_ERROR_BUFFER,
                format_args!("vectors: found room for {capacity} floats, expected at least {needed}"),
            ));
        }
        if needed > 0 {
            caller.check_place(vectors, "vectors")?;
        }
        let options = try_lock(&embedder.options, "bise_embedder")?;
        let found = embedder.engine.embed(&texts, &options);
        if matches!(&found, Err(error) if error.is_cancelled()) {
            embedder.cancel.reset();
        }
        caller.fill(&found?.concat(), vectors, capacity, std::ptr::null_mut(), "vectors")
    })
}
