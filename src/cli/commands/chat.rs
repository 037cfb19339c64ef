//! `bise chat` and `--conversation`: renders messages by the chat template, streams answers, and reuses the prompt read so far.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bise::Engine;
use bise::chat::{ChatError, ChatInput, ChatNote, ChatTemplate, Message, SpecialTokens};
use bise::generation::{Finish, GenerationOptions};
use bise::sampling::SamplingParams;

use super::chat_command::{self, Command, ModelCommand};
use super::transcript;
use crate::cli::args::ChatArgs;
use crate::cli::args::constraint::Constraints;
use crate::cli::args::prompt::{ConversationArgs, JsonObject, TemplateArgs};
use crate::cli::load::{self, Loaded};
use crate::cli::prompt_cache::PromptCache;
use crate::cli::term::console::{Colour, Log, Screen};
use crate::cli::term::line::Line;
use crate::cli::term::lines::{Joining, Lines};
use crate::cli::term::signals;
use crate::cli::text;
use crate::cli::usage::wrong;
use crate::cli::writer::{Pause, Read, WhenFull, Writer};

/// Runs the command.
///
/// # Errors
/// Whatever is wrong with the model, the flags or the template.
pub fn run(args: ChatArgs) -> Result<ExitCode> {
    let log = args.output.log.log();
    let loaded = load::load(&args.model, Some((1, args.context.session_options())), log)?;
    run_with(args, loaded, log)
}

/// [`run`] with a model that is already open.
///
/// # Errors
/// As [`run`].
pub fn run_with(args: ChatArgs, loaded: Loaded, log: Log) -> Result<ExitCode> {
    match converse(args, loaded, Opening::default(), log)? {
        Ended::Exit(code) => Ok(code),
        Ended::Open(_) => unreachable!("only commands about models open another one"),
    }
}

/// What a conversation begins with, besides what the flags say.
#[derive(Default)]
pub struct Opening {
    /// Messages, in order.
    pub messages: Vec<Message>,
    /// Sampling parameters by name.
    pub params: Vec<(String, String)>,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// What is said about the model and the speed goes here; without it, to the log of the conversation.
    pub log: Option<Log>,
    /// Who carries out commands about models. With it, the conversation looks like one of `ollama run`.
    pub models: Option<Box<dyn Models>>,
}

/// Carries out commands about models.
pub trait Models {
    /// Carries out one of them; what it has to say goes to standard error.
    ///
    /// # Errors
    /// Why it could not.
    fn obey(&mut self, command: ModelCommand<'_>, talk: &Talk<'_>) -> Result<()>;
}

/// A conversation, as commands about models see it.
#[cfg_attr(
    not(feature = "hub"),
    expect(dead_code, reason = "models are opened and saved by name with `hub` alone")
)]
pub struct Talk<'a> {
    /// So far, the system prompt first.
    pub messages: &'a [Message],
    /// Sampling parameters that the user set.
    pub params: &'a [(String, String)],
}

/// How a conversation ended.
pub enum Ended {
    /// The program does, with this code.
    Exit(ExitCode),
    /// It goes on with the model of this name.
    #[cfg_attr(
        not(feature = "hub"),
        expect(dead_code, reason = "models are opened and saved by name with `hub` alone")
    )]
    Open(String),
}

/// Holds a conversation.
///
/// # Errors
/// As [`run`].
pub fn converse(args: ChatArgs, loaded: Loaded, opening: Opening, log: Log) -> Result<Ended> {
    let template = template(&args.conversation.template, &loaded.engine)?;
    let first = args.prompt.text()?;
    if first.as_ref().is_some_and(String::is_empty) {
        bail!("the prompt is empty: expected the first message");
    }
    let system = system_prompt(&args.conversation)?;
    let options = args.context.session_options();
    let n_ctx = if options.n_ctx == 0 { loaded.engine.config().n_ctx_train } else { options.n_ctx };
    let mut params = args.sampling.params(n_ctx, args.prompt.escapes)?;
    for (name, value) in &opening.params {
        match params.set(name, value) {
            Ok(()) => {}
            Err(error) => log.warn(format_args!("PARAMETER {name} {value} has no effect: {error}")),
        }
    }
    let params = params.with_context(n_ctx);
    let special_tokens = SpecialTokens::of(loaded.engine.tokenizer());
    let generation = GenerationOptions {
        sampling: params.clone(),
        max_tokens: usize::try_from(args.prompt.n_predict).ok(),
        stop: args.prompt.reverse_prompts()?.into_iter().chain(opening.stop).collect(),
        speculation: args.speculation.options(),
        special: args.output.special,
        starts_text: true,
        ..GenerationOptions::default()
    };
    let constraints = args.constraint.constraints(&loaded.engine)?;
    let cached = PromptCache::open(&args.prompt_cache, &loaded.engine, &options, log)?;
    let writer = Writer::new(loaded, cached, &options, generation, opening.log.unwrap_or(log))?;
    let screen = Screen::new(args.output.color);
    let messages =
        system.map(|text| Message::new("system", text)).into_iter().chain(opening.messages).collect();
    let chat = Chat {
        writer,
        template,
        arguments: args.conversation.template.template_arguments(),
        special_tokens,
        messages,
        notes: Vec::new(),
        params,
        constraints,
        set: Vec::new(),
        verbose: false,
        models: opening.models,
        before_next: String::new(),
        n_first: None,
        args,
        screen,
        log,
    };
    chat.run(first)
}

/// Whether the model's file has a chat template.
pub fn has_template(engine: &Engine) -> bool {
    file_template(engine).is_some()
}

fn file_template(engine: &Engine) -> Option<&str> {
    engine.file().metadata().str("tokenizer.chat_template").ok().flatten().filter(|source| !source.is_empty())
}

/// The template by name or source, of a file, or the model's own.
pub fn template(args: &TemplateArgs, engine: &Engine) -> Result<ChatTemplate> {
    match template_of(args, engine)? {
        Some(template) => Ok(template),
        None => bail!(
            "{}: found no chat template, expected tokenizer.chat_template or --chat-template NAME",
            engine.file().name()
        ),
    }
}

/// The template by name or source, of a file, or the model's own, if there is one.
///
/// # Errors
/// As [`given_template`], and a template in the model's file that is not Jinja.
pub fn template_of(args: &TemplateArgs, engine: &Engine) -> Result<Option<ChatTemplate>> {
    if let Some(template) = given_template(args)? {
        let adds_space =
            engine.file().metadata().bool("tokenizer.ggml.add_space_prefix").ok().flatten().unwrap_or(true);
        return Ok(Some(template.with_space_prefix(adds_space)));
    }
    let own = file_template(engine).map(ChatTemplate::from_source).transpose();
    own.with_context(|| engine.file().name().to_string())
}

/// The template that the flags give, if they do.
///
/// # Errors
/// An unknown name, a file that cannot be read, and a template that is not Jinja.
pub fn given_template(args: &TemplateArgs) -> Result<Option<ChatTemplate>> {
    if let Some(given) = &args.chat_template {
        let is_source = given.contains("{{") || given.contains("{%");
        let template =
            if is_source { ChatTemplate::from_source(given) } else { ChatTemplate::by_name(given) };
        return template.map(Some).map_err(|e| wrong(format_args!("--chat-template: {e}")));
    }
    let Some(path) = &args.chat_template_file else { return Ok(None) };
    let template = ChatTemplate::from_source(&text::from_file(path)?);
    template.map(Some).with_context(|| path.display().to_string())
}

fn system_prompt(args: &ConversationArgs) -> Result<Option<String>> {
    if let Some(path) = &args.system_prompt_file {
        let text = text::from_file(path)?;
        return Ok(Some(text.strip_suffix('\n').unwrap_or(&text).to_string()));
    }
    args.system_prompt.as_ref().map(|text| text::from_argument("--system-prompt", text)).transpose()
}

struct Chat {
    writer: Writer,
    template: ChatTemplate,
    /// Variables for the template.
    arguments: JsonObject,
    special_tokens: SpecialTokens,
    messages: Vec<Message>,
    /// Notes about the template that were already shown.
    notes: Vec<ChatNote>,
    params: SamplingParams,
    /// What answers have to follow.
    constraints: Option<Constraints>,
    /// Those that the user set, as typed.
    set: Vec<(String, String)>,
    /// Whether timings follow each answer.
    verbose: bool,
    models: Option<Box<dyn Models>>,
    /// Text from `/read`, to go before the next message.
    before_next: String,
    /// Tokens of the first prompt, which `--keep -1` keeps.
    n_first: Option<usize>,
    args: ChatArgs,
    screen: Screen,
    log: Log,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Complete,
    Interrupted,
    /// The conversation does not fit in the context; the last message was removed again.
    TooLong,
}

impl Chat {
    fn run(mut self, first: Option<String>) -> Result<Ended> {
        let single = self.args.conversation.single_turn;
        if let Some(text) = first {
            let answer = self.say(text)?;
            if single {
                return self.end(answer);
            }
        }
        let options = &self.args.conversation;
        let mut lines = if options.simple_io { Lines::plain() } else { Lines::edited(!options.no_history)? };
        let as_run = self.models.is_some();
        let joining = Joining {
            multiline: options.multiline_input,
            is_command: chat_command::is_command,
            triple_quotes: as_run,
        };
        if lines.is_typed() {
            self.log.note(if as_run { chat_command::RUN_WELCOME } else { chat_command::WELCOME });
        }
        loop {
            self.screen.set_colour(Colour::Input)?;
            let line = lines.read(if as_run { ">>> " } else { "> " }, joining);
            self.screen.set_colour(Colour::Plain)?;
            let line = match line? {
                Line::Text(line) => line,
                Line::End => return self.end(Answer::Complete),
                Line::Interrupted => return self.end(Answer::Interrupted),
            };
            let command = if as_run { chat_command::parse_run(&line) } else { chat_command::parse(&line) };
            let answer = match command {
                Command::Exit => return self.end(Answer::Complete),
                Command::Model(ModelCommand::Load(name)) => {
                    self.end(Answer::Complete)?;
                    return Ok(Ended::Open(name.to_string()));
                }
                Command::Regenerate => match self.regenerate()? {
                    Some(answer) => answer,
                    None => continue,
                },
                Command::Say("") if self.before_next.is_empty() => continue,
                Command::Say(text) => {
                    let text = if as_run { chat_command::without_triple_quotes(text) } else { text };
                    let text = std::mem::take(&mut self.before_next) + text;
                    self.say(text)?
                }
                command => {
                    self.obey(command);
                    continue;
                }
            };
            if self.verbose {
                self.writer.print_timings();
            }
            if single {
                return self.end(answer);
            }
            if answer == Answer::TooLong && !lines.is_typed() {
                bail!(
                    "the conversation is longer than the context of {} tokens",
                    self.writer.session.n_ctx()
                );
            }
        }
    }

    /// Carries out a command that asks for no answer. One that fails says why, and changes nothing.
    fn obey(&mut self, command: Command<'_>) {
        match command {
            Command::Help if self.models.is_some() => {
                chat_command::RUN_HELP.lines().for_each(|line| self.log.note(line));
            }
            Command::Help => chat_command::HELP.lines().for_each(|line| self.log.note(line)),
            Command::Model(command) => {
                let talk = Talk { messages: &self.messages, params: &self.set };
                let result = self.models.as_mut().map_or(Ok(()), |models| models.obey(command, &talk));
                if let Err(error) = result {
                    self.log.note(format_args!("{error:#}"));
                }
            }
            Command::SetVerbose(verbose) => {
                self.verbose = verbose;
                self.writer.log = self.log;
            }
            Command::SetThinking(thinks) => {
                self.arguments.insert("enable_thinking".to_owned(), thinks.into());
            }
            Command::Clear => {
                self.messages.retain(|message| message.role() == "system");
                self.before_next.clear();
                self.writer.clear();
            }
            Command::Forget => match self.messages.iter().rposition(|message| message.role() == "user") {
                Some(last) => self.messages.truncate(last),
                None => self.log.note("there is nothing to forget"),
            },
            Command::ShowSystem => match self.messages.first().filter(|message| message.role() == "system") {
                Some(message) => {
                    message.content().unwrap_or_default().lines().for_each(|line| self.log.note(line));
                }
                None => self.log.note("there is no system prompt"),
            },
            Command::SetSystem(text) => {
                self.messages.retain(|message| message.role() != "system");
                if !text.is_empty() {
                    self.messages.insert(0, Message::new("system", text));
                }
            }
            Command::ShowSampling => {
                for (name, value) in self.params.values() {
                    self.log.note(format_args!("{name} {value}"));
                }
            }
            Command::Set { name, value } => {
                let mut params = self.params.clone();
                let n_ctx = self.writer.session.n_ctx();
                let changed = params.set(name, value).map_err(anyhow::Error::from).and_then(|()| {
                    params = params.with_context(n_ctx);
                    self.writer.generation.set_sampling(&params)?;
                    Ok(params)
                });
                match changed {
                    Ok(params) => {
                        self.params = params;
                        self.set.retain(|(known, _)| known != name);
                        self.set.push((name.to_string(), value.to_string()));
                    }
                    Err(error) => self.log.note(format_args!("{error:#}")),
                }
            }
            Command::Read(path) => self.read_file(path),
            Command::Save(path) => match transcript::save(path.as_ref(), &self.messages) {
                Ok(()) => self.log.note(format_args!("{path}: {} messages", self.messages.len())),
                Err(error) => self.log.note(format_args!("{error:#}")),
            },
            Command::Load(path) => match transcript::load(path.as_ref()) {
                Ok(messages) => {
                    self.log.note(format_args!("{path}: {} messages", messages.len()));
                    self.messages = messages;
                }
                Err(error) => self.log.note(format_args!("{error:#}")),
            },
            Command::Incomplete { word, expected } => {
                self.log.note(format_args!("{word}: found nothing after it, expected {expected} (/help)"));
            }
            Command::Unknown(word) => {
                self.log.note(format_args!("there is no command {word}; /help lists those there are"));
            }
            Command::Say(_) | Command::Exit | Command::Regenerate => {
                unreachable!("answered by the caller")
            }
        }
    }

    /// Prints the timings, and returns the exit code.
    fn end(mut self, answer: Answer) -> Result<Ended> {
        if !self.args.output.no_perf {
            self.writer.print_timings();
        }
        self.writer.end_text()?;
        Ok(Ended::Exit(match answer {
            Answer::Complete => ExitCode::SUCCESS,
            Answer::Interrupted => ExitCode::from(signals::EXIT_INTERRUPTED),
            Answer::TooLong => ExitCode::FAILURE,
        }))
    }

    fn read_file(&mut self, path: &str) {
        match text::from_file(path.as_ref()) {
            Ok(text) => {
                self.log
                    .note(format_args!("{path}: {} bytes, which go before your next message", text.len()));
                self.before_next.push_str(&text);
                if !text.ends_with('\n') {
                    self.before_next.push('\n');
                }
            }
            Err(error) => self.log.note(format_args!("{error:#}")),
        }
    }

    /// Adds a user message and answers it.
    fn say(&mut self, text: String) -> Result<Answer> {
        self.messages.push(Message::new("user", text));
        self.answer()
    }

    /// Answers the last message again; `None` if there is none.
    fn regenerate(&mut self) -> Result<Option<Answer>> {
        if self.messages.last().is_some_and(|message| message.role() == "assistant") {
            self.messages.pop();
        }
        if self.messages.last().is_none_or(|message| message.role() != "user") {
            self.log.note("there is nothing to answer again");
            return Ok(None);
        }
        self.answer().map(Some)
    }

    fn answer(&mut self) -> Result<Answer> {
        let listening = self.writer.listen();
        match self.read_conversation()? {
            Read::Done => {}
            Read::Interrupted => {
                self.messages.pop();
                return Ok(Answer::Interrupted);
            }
            Read::Full => {
                self.messages.pop();
                let n_ctx = self.writer.session.n_ctx();
                self.log.warn(format_args!("the conversation does not fit in the context of {n_ctx} tokens any more (/clear, --ctx-size, --context-shift)"));
                return Ok(Answer::TooLong);
            }
        }
        self.writer.generation.prime(self.writer.session.tokens());
        if let Some(constraints) = &self.constraints {
            self.writer.generation.constrain(constraints.make()?);
        }
        let mut said = String::new();
        let pause = self.writer.write(&mut |text| {
            said.push_str(text);
            Ok(self.screen.print(text)?)
        })?;
        drop(listening);
        if let Pause::Finished(Finish::StopText(stop)) = &pause {
            // As in llama.cpp, it is a part of the answer.
            said.push_str(stop);
            self.screen.print(stop)?;
        }
        self.screen.print("\n")?;
        self.messages.push(Message::new("assistant", said));
        if pause == Pause::Full {
            let n_ctx = self.writer.session.n_ctx();
            self.log.warn(format_args!("the context of {n_ctx} tokens is full, so the answer ends here"));
        }
        Ok(if pause == Pause::Interrupted { Answer::Interrupted } else { Answer::Complete })
    }

    /// Prefills the part of the rendered conversation that the session has not read yet.
    fn read_conversation(&mut self) -> Result<Read> {
        loop {
            let tokens = self.tokens()?;
            let fits = self.writer.engine.config().sliding_window.is_some()
                || tokens.len() < self.writer.session.n_ctx();
            if !fits {
                if self.args.prompt.context_shift && self.forget_oldest() {
                    continue;
                }
                return Ok(Read::Full);
            }
            let (reused, rewound) = self.writer.reuse(&tokens)?;
            let keep = reused.n_kept;
            if rewound == Read::Interrupted {
                return Ok(Read::Interrupted);
            }
            self.writer.when_full = match (self.args.prompt.n_predict, self.args.prompt.context_shift) {
                (-2, _) => WhenFull::StopAtContext,
                (_, false) => WhenFull::Stop,
                // A context that fills up while the answer is written.
                (_, true) => {
                    let n_keep = match usize::try_from(self.args.prompt.keep) {
                        Ok(n) => n + usize::from(self.writer.engine.tokenizer().adds_bos()),
                        Err(_) => *self.n_first.get_or_insert(tokens.len()),
                    };
                    WhenFull::Shift { n_keep: n_keep.min(tokens.len()) }
                }
            };
            if self.args.prompt.verbose_prompt {
                self.writer.log_prompt(self.log, &tokens, Some(keep));
            }
            let read = self.writer.read(&tokens[keep..])?;
            if read == Read::Done {
                self.writer.prompt_is_read(reused);
            }
            return Ok(read);
        }
    }

    /// Drops the oldest question and its answer. False if only the newest question is left.
    fn forget_oldest(&mut self) -> bool {
        let Some(first) = self.messages.iter().position(|message| message.role() == "user") else {
            return false;
        };
        let next = self.messages[first + 1..].iter().position(|message| message.role() == "user");
        let Some(n) = next else { return false };
        self.messages.drain(first..=first + n);
        true
    }

    fn tokens(&mut self) -> Result<Vec<u32>> {
        let engine = self.writer.engine.clone();
        let tokenizer = engine.tokenizer();
        let input = ChatInput { arguments: Some(&self.arguments), ..ChatInput::new(&self.messages) };
        let prompt = match self.template.render(&input, &self.special_tokens) {
            Err(error @ ChatError::Refused(_)) => match self.template.alternative(&input) {
                Some(name) => bail!("{error} (--chat-template {name} takes it)"),
                None => return Err(error.into()),
            },
            prompt => prompt?,
        };
        for note in &prompt.notes {
            if !self.notes.contains(note) {
                self.log.warn(note);
                self.notes.push(*note);
            }
        }
        let tokens = tokenizer.encode_segments(&prompt.segments(), true);
        if tokens.is_empty() {
            bail!("the chat template makes nothing of this conversation: expected some text");
        }
        Ok(tokens)
    }
}
