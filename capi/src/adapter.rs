//! Adapters beside the weights of a model.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use engine::adapter::{Adapter, Adapters};

use crate::border::{call, value};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::model::{MODELS, bise_model, past_end};
use crate::registry::Registry;
use crate::session::{bise_session, with};
use crate::status::bise_status;
use crate::strings;

/// An adapter (LoRA) for a model. Any number of sessions, and of threads, may use it at the same time.
pub struct bise_adapter {
    adapter: Arc<Adapter>,
    name: CString,
}

static ADAPTERS: Registry<bise_adapter> = Registry::new(9, "bise_adapter");

/// Reads an adapter for `model`: a GGUF file as llama.cpp's converter writes it, or a folder of PEFT. It acts on the sessions that it is set for.
///
/// `path` is as for bise_model_open. Returns BISE_ERROR_FILE for a file that is damaged, is no adapter or fits another model,
/// BISE_ERROR_UNSUPPORTED for a kind of adapter that this library does not run, and BISE_ERROR_MEMORY where there is no room for it. The weights
/// of the model stay as they are.
///
/// Owner: the caller, who frees the adapter by bise_adapter_free, before or after the model. On failure `*adapter` is NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_adapter_load(
    model: *const bise_model,
    path: *const c_char,
    adapter: *mut *mut bise_adapter,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(adapter, "adapter")?;
        caller.store(adapter, std::ptr::null_mut());
        let model = MODELS.get(model)?;
        let new = model.engine.load_adapter(caller.path(path)?)?;
        let name = CString::new(new.name().replace('\0', " ")).unwrap_or_default();
        caller.store(adapter, ADAPTERS.insert(bise_adapter { adapter: new, name }));
        Ok(())
    })
}

/// Frees an adapter. NULL is allowed and does nothing. Sessions that it is set for keep it until they are freed or given others.
///
/// Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_adapter_free(adapter: *mut bise_adapter) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| ADAPTERS.free(adapter))
}

/// What messages call the adapter: its path. Empty for NULL or a freed adapter.
///
/// Owner: the adapter. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_adapter_name(adapter: *const bise_adapter) -> *const c_char {
    value!(c"".as_ptr(), |_caller| Ok(ADAPTERS.get(adapter)?.name.as_ptr()))
}

/// Bytes of memory that the adapter takes; 0 for NULL or a freed adapter.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_adapter_n_bytes(adapter: *const bise_adapter) -> usize {
    value!(0, |_caller| Ok(ADAPTERS.get(adapter)?.adapter.n_bytes()))
}

/// The number of warnings: what of the adapter's files is not used, such as a name in its configuration that fits no tensor. 0 for NULL or a freed
/// adapter.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_adapter_n_warnings(adapter: *const bise_adapter) -> usize {
    value!(0, |_caller| Ok(ADAPTERS.get(adapter)?.adapter.warnings().len()))
}

/// The warning at an index below bise_adapter_n_warnings, a line.
///
/// Returns BISE_ERROR_NOT_FOUND past the end. Owner: the caller, who frees `*warning` by bise_string_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_adapter_warning(
    adapter: *const bise_adapter,
    index: usize,
    warning: *mut *mut c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(warning, "warning")?;
        caller.store(warning, std::ptr::null_mut());
        let adapter = ADAPTERS.get(adapter)?;
        let warnings = adapter.adapter.warnings();
        let found = warnings.get(index).ok_or_else(|| past_end("warning", index, warnings.len()))?;
        strings::hand_over(caller, &found[..], warning, std::ptr::null_mut());
        Ok(())
    })
}

/// Has `n` adapters act on the session from now on, in place of those before; none where `n` is 0.
///
/// `scales` has a factor on the scale of each, any finite number, or is NULL, which is 1 for all: as they were made. One with a factor of 0
/// does not act. If they are others than before, a generation is over, and the tokens that were read are read again, with them: to set them
/// before anything is read costs nothing. Sessions with different adapters may be decoded together.
///
/// Returns BISE_ERROR_ARGUMENT for an adapter of a model with other shapes, or a factor that is not finite; nothing changes then. Threads: any,
/// one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_session_set_adapters(
    session: *mut bise_session,
    adapters: *const *const bise_adapter,
    scales: *const f32,
    n: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let handles = caller.slice(adapters, n, "adapters")?;
        let scales = match scales.is_null() {
            true => None,
            false => Some(caller.slice(scales, n, "scales")?),
        };
        let one = |(i, handle): (usize, &*const bise_adapter)| {
            let scale = scales.map_or(1.0, |scales| scales[i]);
            Ok((Arc::clone(&ADAPTERS.get(*handle)?.adapter), scale))
        };
        let list = handles.iter().enumerate().map(one).collect::<Result<Vec<_>, Failure>>()?;
        let adapters = Adapters::new(list);
        with(session, |state| {
            if adapters == *state.session.adapters() {
                return Ok(());
            }
            state.session.set_adapters(adapters)?;
            state.leave_generation();
            Ok(())
        })
    })
}
