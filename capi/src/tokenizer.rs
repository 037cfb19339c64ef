//! Texts as tokens, and back.

use std::ffi::c_char;

use engine::tokenizer::{EncodeOptions, Tokenizer};

use crate::border::{call, value};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::model::{MODELS, bise_model};
use crate::status::bise_status;
use crate::strings;

/// Begin with the token for the beginning of a text, where the file says so.
pub const BISE_ADD_SPECIAL: u32 = 1;

/// Text such as "[INST]" or "</s>" becomes the control token that it spells. Do not use it on text that somebody else wrote.
pub const BISE_PARSE_SPECIAL: u32 = 2;

/// What `flags` ask for.
pub(crate) fn encode_options(flags: u32) -> Result<EncodeOptions, Failure> {
    check_flags(flags, BISE_ADD_SPECIAL | BISE_PARSE_SPECIAL)?;
    Ok(EncodeOptions {
        add_special: flags & BISE_ADD_SPECIAL != 0,
        parse_special: flags & BISE_PARSE_SPECIAL != 0,
    })
}

/// Errs for flags that a function does not know.
pub(crate) fn check_flags(flags: u32, known: u32) -> Result<(), Failure> {
    match flags & !known {
        0 => Ok(()),
        _ => Err(Failure::argument(format_args!("flags: found {flags:#x}, expected some of {known:#x}"))),
    }
}

/// Errs for a token outside the vocabulary.
fn check_token(tokenizer: &Tokenizer, token: u32) -> Result<(), Failure> {
    let n_vocab = tokenizer.n_vocab();
    if (token as usize) < n_vocab {
        return Ok(());
    }
    Err(Failure::argument(format_args!("token {token} is not in the vocabulary, which has {n_vocab}")))
}

/// The tokens of a text of `n_bytes` of UTF-8 (or BISE_NUL_TERMINATED). `flags` is a sum of BISE_ADD_SPECIAL and BISE_PARSE_SPECIAL, or 0.
///
/// `*n_tokens` gets their number. Returns BISE_ERROR_BUFFER where `capacity` is less, and stores no token then; `tokens` may be NULL with a
/// capacity of 0, to ask for the number.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_tokenize(
    model: *const bise_model,
    text: *const c_char,
    n_bytes: usize,
    flags: u32,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(n_tokens, "n_tokens")?;
        caller.store(n_tokens, 0);
        let model = MODELS.get(model)?;
        let text = caller.text(text, n_bytes, "text")?;
        let found = model.engine.tokenizer().encode(text, encode_options(flags)?);
        caller.fill(&found, tokens, capacity, n_tokens, "tokens")
    })
}

/// The text of tokens. Control tokens are left out, unless `flags` is BISE_PARSE_SPECIAL, which spells them. `n_bytes` may be NULL; else it gets
/// the length, as a text may hold a NUL.
///
/// Bytes that are not UTF-8 become U+FFFD. Owner: the caller, who frees `*text` by bise_string_free. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_detokenize(
    model: *const bise_model,
    tokens: *const u32,
    n_tokens: usize,
    flags: u32,
    text: *mut *mut c_char,
    n_bytes: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(text, "text")?;
        caller.store(text, std::ptr::null_mut());
        let model = MODELS.get(model)?;
        check_flags(flags, BISE_PARSE_SPECIAL)?;
        let tokens = caller.slice(tokens, n_tokens, "tokens")?;
        let tokenizer = model.engine.tokenizer();
        tokens.iter().try_for_each(|&token| check_token(tokenizer, token))?;
        strings::hand_over(caller, tokenizer.decode(tokens, flags == 0), text, n_bytes);
        Ok(())
    })
}

/// The bytes that a token stands for, which may be a part of a character; a control token is spelt. They are copied to `piece`, without a NUL.
///
/// `*n_bytes` gets their number. Returns BISE_ERROR_BUFFER where `capacity` is less, and stores none then. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_token_piece(
    model: *const bise_model,
    token: u32,
    piece: *mut c_char,
    capacity: usize,
    n_bytes: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(n_bytes, "n_bytes")?;
        caller.store(n_bytes, 0);
        let model = MODELS.get(model)?;
        let tokenizer = model.engine.tokenizer();
        check_token(tokenizer, token)?;
        caller.fill(tokenizer.piece(token), piece.cast(), capacity, n_bytes, "piece")
    })
}

/// The token that a text of `n_bytes` (or BISE_NUL_TERMINATED) spells, control tokens included; -1 where there is none, and for NULL or a freed
/// model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_token_id(model: *const bise_model, text: *const c_char, n_bytes: usize) -> i64 {
    value!(-1, |caller| {
        let model = MODELS.get(model)?;
        let text = caller.text(text, n_bytes, "text")?;
        Ok(id(model.engine.tokenizer().id(text)))
    })
}

/// The token for the beginning of a text; -1 where the vocabulary has none, and for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_token_bos(model: *const bise_model) -> i64 {
    value!(-1, |_caller| Ok(id(MODELS.get(model)?.engine.tokenizer().bos())))
}

/// The token for the end of a text; -1 where the vocabulary has none, and for NULL or a freed model. Others may end a generation as well:
/// bise_token_is_end.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_token_eos(model: *const bise_model) -> i64 {
    value!(-1, |_caller| Ok(id(MODELS.get(model)?.engine.tokenizer().eos())))
}

fn id(token: Option<u32>) -> i64 {
    token.map_or(-1, i64::from)
}

/// Whether a generation ends at this token: the end of a text, of a turn, of a message. False for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_token_is_end(model: *const bise_model, token: u32) -> bool {
    value!(false, |_caller| Ok(MODELS.get(model)?.engine.tokenizer().is_end_of_generation(token)))
}

/// Whether this is a control token: structure, not text. False for NULL or a freed model.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_token_is_control(model: *const bise_model, token: u32) -> bool {
    value!(false, |_caller| Ok(MODELS.get(model)?.engine.tokenizer().is_control(token)))
}
