//! What is generated, and how tokens are chosen.

use std::ffi::c_char;
use std::sync::Mutex;

use engine::generation::GenerationOptions;

use crate::border::{call, try_lock};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::names;
use crate::registry::Registry;
use crate::status::{bise_status, bise_status::*};
use crate::strings;

/// What is generated, and how tokens are chosen.
pub struct bise_generation_options {
    options: Mutex<GenerationOptions>,
}

static GENERATION_OPTIONS: Registry<bise_generation_options> = Registry::new(5, "bise_generation_options");

/// Options beside the parameters of sampling.
const NAMES: [&str; 6] = ["n_predict", "n_probs", "special", "starts_text", "spec_type", "draft_max"];

/// Those of a handle; what a handle of NULL stands for.
pub(crate) fn of(handle: *const bise_generation_options) -> Result<GenerationOptions, Failure> {
    let Some(options) = GENERATION_OPTIONS.get_if_any(handle)? else {
        return Ok(GenerationOptions::default());
    };
    Ok(try_lock(&options.options, "bise_generation_options")?.clone())
}

fn set(options: &mut GenerationOptions, name: &str, value: &str) -> Result<(), Failure> {
    let plain = names::plain(name);
    match &plain[..] {
        "n_predict" | "max_tokens" => options.max_tokens = names::parse_count(name, value)?,
        "n_probs" => options.log_probs = names::parse_count(name, value)?,
        "special" => options.special = names::parse_bool(name, value)?,
        "starts_text" => options.starts_text = names::parse_bool(name, value)?,
        "spec_type" => {
            options.speculation = match value {
                "ngram" => Default::default(),
                "none" => engine::speculation::SpeculationOptions::off(),
                _ => return Err(names::unfit(name, value, "ngram or none")),
            }
        }
        "draft_max" => options.speculation.n_max = names::parse(name, value, "a whole number")?,
        _ => options.sampling.set(&plain, value)?,
    }
    Ok(())
}

fn get(options: &GenerationOptions, name: &str) -> Option<String> {
    let count = |n: Option<usize>| n.map_or("-1".to_owned(), |n| n.to_string());
    let plain = names::plain(name);
    match &plain[..] {
        "n_predict" | "max_tokens" => Some(count(options.max_tokens)),
        "n_probs" => Some(count(options.log_probs)),
        "special" => Some(options.special.to_string()),
        "starts_text" => Some(options.starts_text.to_string()),
        "spec_type" => Some(if options.speculation.n_max > 0 { "ngram" } else { "none" }.to_owned()),
        "draft_max" => Some(options.speculation.n_max.to_string()),
        _ => options.sampling.values().find(|(known, _)| *known == plain).map(|(_, value)| value),
    }
}

/// Makes options with their defaults, which are llama.cpp's, for bise_session_start.
///
/// Owner: the caller, who frees them by bise_generation_options_free. One call at a time may use them. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_generation_options_new(
    options: *mut *mut bise_generation_options,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(options, "options")?;
        let new = bise_generation_options { options: Mutex::default() };
        caller.store(options, GENERATION_OPTIONS.insert(new));
        Ok(())
    })
}

/// Frees options. NULL is allowed and does nothing. Generations that were started with them are not concerned.
///
/// Returns BISE_ERROR_HANDLE where they were freed already. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_generation_options_free(options: *mut bise_generation_options) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| GENERATION_OPTIONS.free(options))
}

/// Sets an option by its name. Parameters of sampling have llama.cpp's names and defaults:
///
/// "seed" (-1 draws one), "temp" (0 is greedy), "top_k", "top_p", "min_p", "min_keep", "typ_p", "top_n_sigma", "xtc_probability",
/// "xtc_threshold", "dynatemp_range", "dynatemp_exp", "repeat_last_n", "repeat_penalty", "frequency_penalty", "presence_penalty",
/// "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "mirostat", "mirostat_ent", "mirostat_lr", "ignore_eos",
/// "samplers" (names separated by ';'), "logit_bias" (TOKEN_ID(+/-)BIAS, separated by ',').
///
/// Others:
///
/// - "n_predict": tokens at most; -1, the default, is no limit.
/// - "n_probs": log-probabilities to compute, of each token chosen and of so many of the likeliest; -1, the default, is none.
/// - "special": "true" shows control tokens as they are spelt. By default they are left out.
/// - "starts_text": "true" where the text is one of its own, such as an answer in a conversation: the space that some vocabularies put before
///   a text is left out. By default "false".
/// - "spec_type": "ngram", the default, checks several tokens at a time where the text repeats; "none" does not. The text is the same.
/// - "draft_max": how many, at most; by default 15.
///
/// "-" in a name counts as "_". Returns BISE_ERROR_ARGUMENT for another name or a value out of range; nothing changes then. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_generation_options_set(
    options: *mut bise_generation_options,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let (name, value) = (caller.name(name, "name")?, caller.name(value, "value")?);
        let options = GENERATION_OPTIONS.get(options)?;
        set(&mut *try_lock(&options.options, "bise_generation_options")?, name, value)
    })
}

/// bise_generation_options_set with a number, which needs no formatting (and so does not depend on the locale).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_generation_options_set_number(
    options: *mut bise_generation_options,
    name: *const c_char,
    value: f64,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let name = caller.name(name, "name")?;
        let options = GENERATION_OPTIONS.get(options)?;
        set(&mut *try_lock(&options.options, "bise_generation_options")?, name, &names::number(value))
    })
}

/// The value of an option, spelt so that bise_generation_options_set takes it.
///
/// Returns BISE_ERROR_NOT_FOUND for another name. Owner: the caller, who frees `*value` by bise_string_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_generation_options_get(
    options: *const bise_generation_options,
    name: *const c_char,
    value: *mut *mut c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(value, "value")?;
        caller.store(value, std::ptr::null_mut());
        let name = caller.name(name, "name")?;
        let options = GENERATION_OPTIONS.get(options)?;
        let options = try_lock(&options.options, "bise_generation_options")?;
        let found = get(&options, name).ok_or_else(|| {
            let sampling: Vec<_> = options.sampling.values().map(|(name, _)| name).collect();
            let message = names::unknown(name, &[&NAMES[..], &sampling].concat()).message;
            Failure::new(BISE_ERROR_NOT_FOUND, message)
        })?;
        strings::hand_over(caller, found, value, std::ptr::null_mut());
        Ok(())
    })
}

/// Adds a text that ends the generation and is not shown, `n_bytes` of UTF-8 (or BISE_NUL_TERMINATED). One that spells a control token stands
/// for that token, too.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_generation_options_add_stop(
    options: *mut bise_generation_options,
    text: *const c_char,
    n_bytes: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let text = caller.text(text, n_bytes, "text")?;
        if text.is_empty() {
            return Err(Failure::argument("text: found an empty one, which would end every generation"));
        }
        let options = GENERATION_OPTIONS.get(options)?;
        try_lock(&options.options, "bise_generation_options")?.stop.push(text.to_owned());
        Ok(())
    })
}
