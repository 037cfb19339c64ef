//! How a model is opened.

use std::ffi::{c_char, c_void};
use std::fmt::Display;
use std::sync::Mutex;

use engine::gguf::Value;
use engine::threads::{self, CpuSet, Priority};
use engine::{EngineOptions, Threads};

use crate::border::{Caller, call, try_lock};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::names;
use crate::registry::Registry;
use crate::status::bise_status;

/// How a model is opened.
pub struct bise_model_options {
    options: Mutex<ModelOptions>,
}

#[derive(Clone, Default)]
pub(crate) struct ModelOptions {
    pub engine: EngineOptions,
    cpus: Option<CpuSet>,
    cpu_strict: bool,
    priority: Priority,
    poll: Option<u8>,
    /// Of another model.
    threads: Option<Threads>,
    pub log: Option<Log>,
}

/// Told what a user should know, a line at a time, such as a correction to a file. `message` is valid during the call.
///
/// Runs in the thread whose call of the library it belongs to, during that call. It must not throw or longjmp.
pub type bise_log_callback = Option<extern "C" fn(user_data: *mut c_void, message: *const c_char)>;

/// A callback and what it is to be told.
#[derive(Clone, Copy)]
pub(crate) struct Log {
    pub function: extern "C" fn(*mut c_void, *const c_char),
    pub user_data: *mut c_void,
}

// SAFETY: the pointer is only passed back to the caller's function, which the header says runs in whatever thread opens the model.
unsafe impl Send for Log {}

static MODEL_OPTIONS: Registry<bise_model_options> = Registry::new(2, "bise_model_options");

const NAMES: [&str; 13] = [
    "threads",
    "cpu_mask",
    "cpu_range",
    "cpu_strict",
    "prio",
    "poll",
    "isa",
    "mmap",
    "mlock",
    "max_memory",
    "stream_weights",
    "sliding_window",
    "override_kv",
];

impl ModelOptions {
    /// Those of a handle; what a handle of NULL stands for.
    pub fn of(handle: *const bise_model_options) -> Result<ModelOptions, Failure> {
        let Some(options) = MODEL_OPTIONS.get_if_any(handle)? else { return Ok(ModelOptions::default()) };
        Ok(try_lock(&options.options, "bise_model_options")?.clone())
    }

    /// Makes models that are opened with the options of a handle use these threads, or threads of their own for `None`.
    pub fn share_threads(handle: *const bise_model_options, threads: Option<Threads>) -> Result<(), Failure> {
        let options = MODEL_OPTIONS.get(handle)?;
        try_lock(&options.options, "bise_model_options")?.threads = threads;
        Ok(())
    }

    /// The threads that a model opened with these options is to have.
    pub fn threads(&self) -> Result<Threads, Failure> {
        if let Some(threads) = &self.threads {
            return Ok(threads.clone());
        }
        let mut builder = Threads::builder().strict(self.cpu_strict).priority(self.priority);
        if let Some(n) = self.engine.threads {
            builder = builder.n(n);
        }
        if let Some(cpus) = &self.cpus {
            builder = builder.cpus(cpus.clone());
        }
        if let Some(level) = self.poll {
            builder = builder.poll(level);
        }
        Ok(builder.build().map_err(engine::Error::from)?)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let engine = &mut self.engine;
        match &names::plain(name)[..] {
            "threads" | "n_threads" => {
                engine.threads = names::parse_count(name, value)?.filter(|n| *n > 0);
            }
            "cpu_mask" => self.cpus = Some(CpuSet::from_mask(value).map_err(|error| bad(name, error))?),
            "cpu_range" => {
                // A range without an end goes on to the last CPU that this program may use.
                let highest = threads::allowed_cpus().and_then(|cpus| cpus.iter().last()).unwrap_or(0);
                self.cpus = Some(CpuSet::from_range(value, highest).map_err(|error| bad(name, error))?);
            }
            "cpu_strict" => self.cpu_strict = names::parse_bool(name, value)?,
            "prio" => {
                let level = value.parse().ok().and_then(Priority::from_level);
                self.priority = level.ok_or_else(|| names::unfit(name, value, "a number from -1 to 3"))?;
            }
            "poll" => {
                let level = value.parse().ok().filter(|level| *level <= 100);
                let expected = "a number from 0 to 100";
                self.poll = Some(level.ok_or_else(|| names::unfit(name, value, expected))?);
            }
            "isa" => engine.isa = Some(value.parse().map_err(Failure::argument)?),
            "mmap" => engine.mmap = names::parse_bool(name, value)?,
            "mlock" => engine.mlock = names::parse_bool(name, value)?,
            "max_memory" => engine.max_memory = Some(value.parse().map_err(|error| bad(name, error))?),
            "stream_weights" => engine.stream_weights = names::parse_bool(name, value)?,
            "sliding_window" => engine.sliding_window = names::parse_count(name, value)?,
            "override_kv" => {
                let expected = "KEY=TYPE:VALUE, as in llama.context_length=int:4096";
                let (key, value) =
                    value.split_once('=').ok_or_else(|| names::unfit(name, value, expected))?;
                let value = Value::parse_override(value).map_err(|error| bad(name, error))?;
                engine.overrides.push((key.to_owned(), value));
            }
            _ => return Err(names::unknown(name, &NAMES)),
        }
        Ok(())
    }
}

fn bad(name: &str, error: impl Display) -> Failure {
    Failure::argument(format_args!("option {name}: {error}"))
}

/// Makes options with their defaults, for bise_model_open.
///
/// Owner: the caller, who frees them by bise_model_options_free. One call at a time may use them. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_options_new(
    options: *mut *mut bise_model_options,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(options, "options")?;
        caller.store(options, MODEL_OPTIONS.insert(bise_model_options { options: Mutex::default() }));
        Ok(())
    })
}

/// Frees options. NULL is allowed and does nothing. Models that were opened with them are not concerned.
///
/// Returns BISE_ERROR_HANDLE where they were freed already. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_options_free(options: *mut bise_model_options) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| MODEL_OPTIONS.free(options))
}

/// Sets an option by its name, which is that of llama.cpp's flag:
///
/// - "threads": how many; 0 or -1, the default, is one for each performance core that the process may use.
/// - "cpu_mask", "cpu_range": CPUs that the library's threads are bound to, as "0xf" or as "0-3". The thread that calls stays where it is.
/// - "cpu_strict": "true" binds each of them to one CPU. By default "false".
/// - "prio": how urgent they are, from -1 (low) to 3 (real time); by default 0.
/// - "poll": how eagerly they wait for each other, from 0 (they sleep at once, which saves power) to 100; by default 50, and 0 on battery.
/// - "isa": the instruction set ("scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "neon-dotprod", "neon-i8mm"). By default the
///   best that the machine has. All give the same bits.
/// - "mmap": "true", the default, maps the file. It must not be changed in place then while it is in use: if it shrinks in the middle of a
///   call, the process gets SIGBUS. "false" reads it into memory.
/// - "mlock": "true" keeps the weights from being swapped out. By default "false".
/// - "max_memory": a ceiling, such as "5G", or "auto" for what the machine or its control group has free. Opening fails where the model does
///   not fit, and no more anonymous memory than that is taken. By default none.
/// - "stream_weights": "true" gives layers back to the system behind a pass where the model is larger than memory. By default "false".
/// - "sliding_window": tokens that attention looks back on, in place of what the file says; 0 turns the window off; -1, the default, is what
///   the file says.
/// - "override_kv": "KEY=TYPE:VALUE" sets a key of the metadata, where the type is int, float, bool or str. Each call adds one.
///
/// "-" in a name counts as "_". Returns BISE_ERROR_ARGUMENT for another name or a value that is none; nothing changes then. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_options_set(
    options: *mut bise_model_options,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| set(options, caller.name(name, "name")?, caller.name(value, "value")?))
}

/// bise_model_options_set with a number, which needs no formatting (and so does not depend on the locale).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_options_set_number(
    options: *mut bise_model_options,
    name: *const c_char,
    value: f64,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| set(options, caller.name(name, "name")?, &names::number(value)))
}

fn set(options: *mut bise_model_options, name: &str, value: &str) -> Result<(), Failure> {
    let options = MODEL_OPTIONS.get(options)?;
    try_lock(&options.options, "bise_model_options")?.set(name, value)
}

/// Has `callback` told, while a model is being opened, what bise_model_warning tells afterwards. NULL tells nobody, which is the default.
///
/// `user_data` is passed on as it is. Threads: any; the callback runs in the thread that opens the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_model_options_set_log(
    options: *mut bise_model_options,
    callback: bise_log_callback,
    user_data: *mut c_void,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        let options = MODEL_OPTIONS.get(options)?;
        try_lock(&options.options, "bise_model_options")?.log =
            callback.map(|function| Log { function, user_data });
        Ok(())
    })
}

impl Log {
    /// Tells it a line.
    pub fn tell(self, _: &Caller, line: &str) {
        let line = std::ffi::CString::new(line.replace('\0', " ")).unwrap_or_default();
        (self.function)(self.user_data, line.as_ptr());
    }
}
