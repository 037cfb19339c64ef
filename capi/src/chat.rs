//! Conversations, as the text that a model was trained on.

use std::ffi::c_char;
use std::sync::Mutex;

use engine::Engine;
use engine::chat::{ChatError, ChatInput, ChatTemplate, Message, RenderedPrompt, SpecialTokens};
use serde_json::{Map, Value};

use crate::border::{call, try_lock};
use crate::error::bise_error;
use crate::failure::Failure;
use crate::model::{MODELS, bise_model};
use crate::registry::Registry;
use crate::session::{bise_session, with};
use crate::status::{bise_status, bise_status::*};
use crate::strings;
use crate::tokenizer::check_flags;

/// The prompt ends with what the last message says, for the model to go on with it. By default an answer begins.
pub const BISE_CHAT_CONTINUE: u32 = 1;

/// The prompt does not end with what comes before an answer.
pub const BISE_CHAT_NO_ANSWER: u32 = 2;

/// A message of a conversation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct bise_message {
    /// "system", "user", "assistant", "tool", or another word that the template knows. Ends in NUL.
    pub role: *const c_char,
    /// What is said, in UTF-8. Ends in NUL.
    pub content: *const c_char,
}

/// A conversation and the chat template that makes a prompt of it. Nothing that a message says becomes a control token.
///
/// Any thread may use it, but one call at a time.
pub struct bise_chat {
    state: Mutex<Chat>,
}

struct Chat {
    engine: Engine,
    template: ChatTemplate,
    messages: Vec<Message>,
    tools: Vec<Value>,
    documents: Vec<Value>,
    arguments: Map<String, Value>,
}

static CHATS: Registry<bise_chat> = Registry::new(7, "bise_chat");

fn with_chat<T>(
    handle: *const bise_chat,
    body: impl FnOnce(&mut Chat) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let chat = CHATS.get(handle)?;
    body(&mut *try_lock(&chat.state, "bise_chat")?)
}

/// The template that a model's file has, or another by its name or source.
fn template(engine: &Engine, given: Option<&str>) -> Result<ChatTemplate, Failure> {
    let metadata = engine.file().metadata();
    let Some(given) = given else {
        let own = metadata.str("tokenizer.chat_template").map_err(engine::Error::from)?;
        let own = own.filter(|source| !source.is_empty()).ok_or_else(|| {
            Failure::new(
                BISE_ERROR_NOT_FOUND,
                format_args!("{}: found no chat template: name one", engine.file().name()),
            )
        })?;
        return Ok(ChatTemplate::from_source(own)?);
    };
    let is_source = given.contains("{{") || given.contains("{%");
    let template = if is_source { ChatTemplate::from_source(given)? } else { ChatTemplate::by_name(given)? };
    let adds_space = metadata.bool("tokenizer.ggml.add_space_prefix").map_err(engine::Error::from)?;
    Ok(template.with_space_prefix(adds_space.unwrap_or(true)))
}

impl Chat {
    fn render(&self, flags: u32) -> Result<RenderedPrompt, Failure> {
        check_flags(flags, BISE_CHAT_CONTINUE | BISE_CHAT_NO_ANSWER)?;
        for (name, given) in [("tools", &self.tools), ("documents", &self.documents)] {
            if !given.is_empty() && !self.template.source().contains(name) {
                return Err(Failure::new(
                    BISE_ERROR_CHAT,
                    format_args!("the chat template has no place for {name}: the model would not see them"),
                ));
            }
        }
        let continue_final_message = flags & BISE_CHAT_CONTINUE != 0;
        let input = ChatInput {
            messages: &self.messages,
            tools: &self.tools,
            documents: &self.documents,
            arguments: Some(&self.arguments),
            add_generation_prompt: !continue_final_message && flags & BISE_CHAT_NO_ANSWER == 0,
            continue_final_message,
        };
        let tokens = SpecialTokens::of(self.engine.tokenizer());
        self.template.render(&input, &tokens).map_err(|error| {
            match (&error, self.template.alternative(&input)) {
                (ChatError::Refused(_), Some(name)) => {
                    Failure::new(BISE_ERROR_CHAT, format_args!("{error} (the template {name} takes it)"))
                }
                _ => error.into(),
            }
        })
    }

    fn tokens(&self, flags: u32) -> Result<Vec<u32>, Failure> {
        let prompt = self.render(flags)?;
        Ok(self.engine.tokenizer().encode_segments(&prompt.segments(), true))
    }
}

fn parse(json: &str, what: &str) -> Result<Value, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::argument(format_args!("{what}: not JSON: {error}")))
}

fn parse_list(json: &str, what: &str) -> Result<Vec<Value>, Failure> {
    match parse(json, what)? {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(Vec::new()),
        _ => Err(Failure::argument(format_args!("{what}: found JSON of another kind, expected a list"))),
    }
}

/// Begins an empty conversation. `chat_template` is NULL for the template of the model's file, or one by llama.cpp's name ("mistral-v1",
/// "mistral-v3", "mistral-v3-tekken", "mistral-v7", "mistral-v7-tekken", "chatml", "llama2", "llama3", "zephyr"), or the Jinja source of one. It
/// ends in NUL.
///
/// Returns BISE_ERROR_NOT_FOUND where the file has none, and BISE_ERROR_CHAT for a template that cannot be used. Owner: the caller, who frees
/// the conversation by bise_chat_free, before or after the model. On failure `*chat` is NULL. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_new(
    model: *const bise_model,
    chat_template: *const c_char,
    chat: *mut *mut bise_chat,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(chat, "chat")?;
        caller.store(chat, std::ptr::null_mut());
        let engine = MODELS.get(model)?.engine.clone();
        let given = match chat_template.is_null() {
            true => None,
            false => Some(caller.name(chat_template, "chat_template")?),
        };
        let state = Chat {
            template: template(&engine, given)?,
            engine,
            messages: Vec::new(),
            tools: Vec::new(),
            documents: Vec::new(),
            arguments: Map::new(),
        };
        caller.store(chat, CHATS.insert(bise_chat { state: Mutex::new(state) }));
        Ok(())
    })
}

/// Frees a conversation. NULL is allowed and does nothing.
///
/// Returns BISE_ERROR_HANDLE where it was freed already. Threads: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_free(chat: *mut bise_chat) -> bise_status {
    call!(std::ptr::null_mut(), |_caller| CHATS.free(chat))
}

/// Adds messages at the end, which are copied. All are added, or none.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_add(
    chat: *mut bise_chat,
    messages: *const bise_message,
    n_messages: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let messages = caller.slice(messages, n_messages, "messages")?;
        let read = |message: &bise_message| {
            Ok(Message::new(caller.name(message.role, "role")?, caller.name(message.content, "content")?))
        };
        let messages = messages.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
        with_chat(chat, |state| {
            state.messages.extend(messages);
            Ok(())
        })
    })
}

/// Adds messages at the end: a JSON list of them, or one, as the APIs of chat servers have them, with "role", "content" and whatever else the
/// template knows ("tool_calls", "tool_call_id", "name", parts of a content). `json` ends in NUL. All are added, or none.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_add_json(
    chat: *mut bise_chat,
    json: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let messages = match parse(caller.name(json, "json")?, "json")? {
            Value::Array(messages) => messages,
            message => vec![message],
        };
        let messages = messages.into_iter().map(Message::from_json).collect::<Result<Vec<_>, _>>()?;
        with_chat(chat, |state| {
            state.messages.extend(messages);
            Ok(())
        })
    })
}

/// Removes messages from `n_messages` on: 0 removes all.
///
/// Returns BISE_ERROR_ARGUMENT where there are fewer. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_truncate(
    chat: *mut bise_chat,
    n_messages: usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |_caller| {
        with_chat(chat, |state| {
            let n = state.messages.len();
            if n_messages > n {
                return Err(Failure::argument(format_args!(
                    "n_messages: found {n_messages}, expected at most {n}"
                )));
            }
            state.messages.truncate(n_messages);
            Ok(())
        })
    })
}

/// Sets the tools that the model may call: a JSON list of schemas ({"type": "function", "function": {...}}). NULL removes them. A template that
/// has no place for them, as those by name, makes no prompt then (BISE_ERROR_CHAT).
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_set_tools(
    chat: *mut bise_chat,
    json: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let tools = match json.is_null() {
            true => Vec::new(),
            false => parse_list(caller.name(json, "json")?, "json")?,
        };
        with_chat(chat, |state| {
            state.tools = tools;
            Ok(())
        })
    })
}

/// Sets documents to answer from: a JSON list of objects that the template knows ({"title": ..., "text": ...}). NULL removes them.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_set_documents(
    chat: *mut bise_chat,
    json: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let documents = match json.is_null() {
            true => Vec::new(),
            false => parse_list(caller.name(json, "json")?, "json")?,
        };
        with_chat(chat, |state| {
            state.documents = documents;
            Ok(())
        })
    })
}

/// Sets more variables for the template, such as {"enable_thinking": false}: a JSON object. NULL removes them.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_set_arguments(
    chat: *mut bise_chat,
    json: *const c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        let arguments = match json.is_null() {
            true => Map::new(),
            false => match parse(caller.name(json, "json")?, "json")? {
                Value::Object(arguments) => arguments,
                _ => return Err(Failure::argument("json: found JSON of another kind, expected an object")),
            },
        };
        with_chat(chat, |state| {
            state.arguments = arguments;
            Ok(())
        })
    })
}

/// The prompt as text, for people to read. `flags` is BISE_CHAT_CONTINUE or BISE_CHAT_NO_ANSWER, or 0. To have a session read it, use
/// bise_chat_feed, which knows what messages say from what the template writes: tokens made of this text do not.
///
/// `n_bytes` may be NULL; else it gets the length. `notes` may be NULL; else it gets what was done to the conversation so that the template
/// takes it, a line each, or an empty text.
///
/// Owner: the caller, who frees `*text` and `*notes` by bise_string_free. Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_render(
    chat: *mut bise_chat,
    flags: u32,
    text: *mut *mut c_char,
    n_bytes: *mut usize,
    notes: *mut *mut c_char,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(text, "text")?;
        caller.store(text, std::ptr::null_mut());
        caller.store(notes, std::ptr::null_mut());
        let prompt = with_chat(chat, |state| state.render(flags))?;
        if !notes.is_null() {
            let lines: Vec<String> = prompt.notes.iter().map(ToString::to_string).collect();
            strings::hand_over(caller, lines.join("\n"), notes, std::ptr::null_mut());
        }
        strings::hand_over(caller, prompt.text, text, n_bytes);
        Ok(())
    })
}

/// The prompt as tokens. `flags` as for bise_chat_render, the buffer as for bise_tokenize.
///
/// Threads: any, one call at a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_tokens(
    chat: *mut bise_chat,
    flags: u32,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.check_place(n_tokens, "n_tokens")?;
        caller.store(n_tokens, 0);
        let found = with_chat(chat, |state| state.tokens(flags))?;
        caller.fill(&found, tokens, capacity, n_tokens, "tokens")
    })
}

/// Has a session read the prompt: bise_session_prompt with bise_chat_tokens, so that only what is new in the conversation is read.
///
/// `n_kept` as there. Threads: any, one call at a time with either.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bise_chat_feed(
    chat: *mut bise_chat,
    session: *mut bise_session,
    flags: u32,
    n_kept: *mut usize,
    error: *mut *mut bise_error,
) -> bise_status {
    call!(error, |caller| {
        caller.store(n_kept, 0);
        let (tokens, n_vocab) =
            with_chat(chat, |state| Ok((state.tokens(flags)?, state.engine.tokenizer().n_vocab())))?;
        let kept = with(session, |state| {
            if state.session.engine().tokenizer().n_vocab() != n_vocab {
                return Err(Failure::argument("the conversation and the session are of different models"));
            }
            state.read_prompt(&tokens)
        })?;
        caller.store(n_kept, kept);
        Ok(())
    })
}
