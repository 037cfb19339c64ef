//! A model and what its file says.

use std::ffi::{CString, c_char};

use engine::gguf::Value;
use engine::{Engine, Threads};

use crate::border::{Caller, call, value};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::model_options::{ModelOptions, bise_model_options};
use crate::registry::Registry;
use crate::session_options::{SessionSettings, bise_session_options};
use crate::status::{bise_status, bise_status::*};
use crate::strings;

/// A model, ready to run. Any number of threads may use it at the same time.
pub struct bise_model {
    pub(crate) engine: Engine,
    pub(crate) threads: Threads,
    isa: CString,
}

pub(crate) static MODELS: Registry<bise_model> = Registry::new(3, "bise_model");

/// Has models that are opened with the options use the threads of `model`, in place of threads of their own: their passes take turns. NULL gives them
/// threads of their own again. Options about threads count for nothing meanwhile.
///
/// `model` may be freed after the call. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_options_share_threads(
    options: *mut bise_model_options,
    model: *const bise_model,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        let model = MODELS.get_if_any(model)?;
        ModelOptions::share_threads(options, model.map(|model| model.threads.clone()))
    })
}

/// Opens a GGUF file, or the first part of a split one. The weights are mapped, not read: this takes milliseconds.
///
/// `path` ends in NUL; on Unix it may have any bytes, on Windows it is UTF-8. `options` may be NULL for the defaults, and is not used after
/// the call.
///
/// Owner: the caller, who frees the model by bise_model_free. On failure `*model` is NULL. The threads that it starts run until it and all
/// that was made of it are freed. After fork() they are the parent's; the child may go on to use the model, whose first pass there starts others,
/// if no call was under way in the parent at the fork. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_open(
    path: *const c_char,
    options: *const bise_model_options,
    model: *mut *mut bise_model,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(model, "model")?;
        caller.store(model, std::ptr::null_mut());
        let path = caller.path(path)?;
        open(caller, options, model, |options| Ok(Engine::open_with(path, &options.engine)?))
    })
}

/// Opens the small model inside the library: 8 million weights that tell stories.
///
/// As bise_model_open. Returns BISE_ERROR_UNSUPPORTED where the library was built without it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_open_builtin(
    options: *const bise_model_options,
    model: *mut *mut bise_model,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(model, "model")?;
        caller.store(model, std::ptr::null_mut());
        open(caller, options, model, builtin)
    })
}

#[cfg(feature = "builtin-model")]
fn builtin(options: &ModelOptions) -> Result<Engine, Failure> {
    Ok(Engine::builtin_with(&options.engine)?)
}

#[cfg(not(feature = "builtin-model"))]
fn builtin(_: &ModelOptions) -> Result<Engine, Failure> {
    Err(Failure::new(BISE_ERROR_UNSUPPORTED, "this library was built without the model inside it"))
}

fn open(
    caller: &Caller,
    options: *const bise_model_options,
    model: *mut *mut bise_model,
    open: impl FnOnce(&ModelOptions) -> Result<Engine, Failure>,
) -> Result<(), Failure> {
    let mut options = ModelOptions::of(options)?;
    let threads = options.threads()?;
    options.engine.shared_threads = Some(threads.clone());
    let engine = open(&options)?;
    if let Some(log) = options.log {
        engine.warnings().iter().for_each(|line| log.tell(caller, line));
    }
    let isa = CString::new(engine.isa().name()).unwrap_or_default();
    caller.store(model, MODELS.insert(bise_model { engine, threads, isa }));
    Ok(())
}

/// Frees a model. NULL is allowed and does nothing. Sessions, conversations and embedders that were made of it go on to work: they keep what
/// they need of it until they are freed.
///
/// Returns BISE_ERROR_HANDLE where it was freed already. Threads: any, also while other calls with the model are under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_free(model: *mut bise_model) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| MODELS.free(model))
}

/// The number of tokens in the vocabulary; 0 for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_n_vocab(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.config().n_vocab))
}

/// The length of a text that the model was trained for, in tokens; 0 for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_n_ctx_train(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.config().n_ctx_train))
}

/// The width of the model, which is the number of floats in an embedding; 0 for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_n_embd(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.config().n_embd))
}

/// The number of layers; 0 for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_n_layers(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.config().n_layers))
}

/// Tokens that attention looks back on; 0 where there is no window, and for NULL or a freed model. With a window a text may be of any
/// length, in constant memory.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_sliding_window(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.config().sliding_window.unwrap_or(0)))
}

/// The number of threads, that of the caller included; 0 for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_n_threads(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.n_threads()))
}

/// The instruction set in use, such as "avx2"; NULL for NULL or a freed model.
///
/// Owner: the model; the text is valid until bise_model_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_isa(model: *const bise_model) -> *const c_char {
    value!(std::ptr::null(), |_caller| Ok(MODELS.get(model)?.isa.as_ptr()))
}

/// The number of keys in the file's metadata; 0 for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_n_metadata(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.file().metadata().len()))
}

/// The key at an index below bise_model_n_metadata, in the order of the file.
///
/// Returns BISE_ERROR_NOT_FOUND past the end. Owner: the caller, who frees `*key` by bise_string_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_metadata_key(
    model: *const bise_model,
    index: usize,
    key: *mut *mut c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(key, "key")?;
        caller.store(key, std::ptr::null_mut());
        let model = MODELS.get(model)?;
        let metadata = model.engine.file().metadata();
        let (found, _) = metadata.iter().nth(index).ok_or_else(|| past_end("key", index, metadata.len()))?;
        strings::hand_over(caller, found, key, std::ptr::null_mut());
        Ok(())
    })
}

/// The value of a key in the file's metadata, as text: a string's bytes as they are, a number or bool in its usual spelling, an array as its
/// type and length. `n_bytes` may be NULL; else it gets the length, as a string may hold a NUL.
///
/// Returns BISE_ERROR_NOT_FOUND where the key is not there. Owner: the caller, who frees `*value` by bise_string_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_metadata(
    model: *const bise_model,
    key: *const c_char,
    value: *mut *mut c_char,
    n_bytes: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(value, "value")?;
        caller.store(value, std::ptr::null_mut());
        let model = MODELS.get(model)?;
        let key = caller.name(key, "key")?;
        let found = model.engine.file().metadata().get(key);
        let found = found
            .ok_or_else(|| Failure::new(BISE_ERROR_NOT_FOUND, format_args!("the file has no key {key:?}")))?;
        strings::hand_over(caller, as_text(found), value, n_bytes);
        Ok(())
    })
}

fn as_text(value: &Value) -> Vec<u8> {
    match value {
        Value::U8(v) => v.to_string(),
        Value::I8(v) => v.to_string(),
        Value::U16(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::Str(bytes) => return bytes.to_vec(),
        Value::Array(array) => array.describe(),
    }
    .into_bytes()
}

/// The number of warnings: what a user should know about this file on this machine. 0 for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_n_warnings(model: *const bise_model) -> usize {
    value!(0, |_caller| Ok(MODELS.get(model)?.engine.warnings().len()))
}

/// The warning at an index below bise_model_n_warnings, a line.
///
/// Returns BISE_ERROR_NOT_FOUND past the end. Owner: the caller, who frees `*warning` by bise_string_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_warning(
    model: *const bise_model,
    index: usize,
    warning: *mut *mut c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(warning, "warning")?;
        caller.store(warning, std::ptr::null_mut());
        let model = MODELS.get(model)?;
        let warnings = model.engine.warnings();
        let found = warnings.get(index).ok_or_else(|| past_end("warning", index, warnings.len()))?;
        strings::hand_over(caller, &found[..], warning, std::ptr::null_mut());
        Ok(())
    })
}

pub(crate) fn past_end(what: &str, index: usize, n: usize) -> Failure {
    Failure::new(BISE_ERROR_NOT_FOUND, format_args!("found no {what} {index}: there are {n}, from 0"))
}

/// The memory that the process will take, in bytes, once a session with these options (NULL for the defaults) has read `n_tokens`: weights,
/// keys and values, buffers, and what the process takes now.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_memory(
    model: *const bise_model,
    options: *const bise_session_options,
    n_tokens: usize,
    n_bytes: *mut u64,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(n_bytes, "n_bytes")?;
        let model = MODELS.get(model)?;
        let settings = SessionSettings::of(options)?;
        caller.store(n_bytes, model.engine.memory(&settings.engine).at(n_tokens) as u64);
        Ok(())
    })
}
