//! No subcommand: continue a prompt, as llama.cpp's `main` does.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bise::Session;
use bise::generation::{Finish, GenerationOptions};
use bise::tokenizer::{EncodeOptions, StreamDecoder};

use super::chat;
use crate::cli::args::GenerateArgs;
use crate::cli::args::constraint::Constraints;
use crate::cli::args::prompt::ConversationArgs;
use crate::cli::prompt_cache::{PromptCache, Reused};
use crate::cli::term::console::{Colour, Log, Screen};
use crate::cli::term::line::Line;
use crate::cli::term::lines::{Joining, Lines};
use crate::cli::term::signals;
use crate::cli::usage::wrong;
use crate::cli::writer::{Pause, Read, WhenFull, Writer};
use crate::cli::{load, text};

/// Runs the command: a conversation or raw generation.
///
/// # Errors
/// Whatever is wrong with the model, the flags or the prompt.
pub fn run(args: GenerateArgs) -> Result<ExitCode> {
    let asked = wants_conversation(&args);
    let framed = frames_lines(&args);
    if asked && !framed {
        return chat::run(args.chat);
    }
    let log = args.chat.output.log.log();
    let given = given_prompt(&args)?;
    let loaded = load::load(&args.chat.model, Some((1, args.chat.context.session_options())), log)?;
    // A model without a template cannot hold a conversation by itself, so it goes on from what is typed.
    let interactive = args.generation.interactive || args.generation.interactive_first;
    let has_template = chat::has_template(&loaded.engine);
    let by_default =
        given == Given::Nothing && !interactive && has_template && !args.generation.no_conversation;
    if by_default && !framed {
        return chat::run_with(args.chat, loaded, log);
    }
    // As in llama.cpp, texts around the user's lines take the place of the template.
    let conversation = asked || by_default;
    if conversation {
        warn_of_template_flags(&args.chat.conversation, log);
    } else if framed && !interactive {
        log.warn("--in-prefix, --in-prefix-bos and --in-suffix have no effect: nobody is asked for a line (--interactive)");
    }
    let interactive = interactive || conversation;
    let options = args.chat.context.session_options();
    let n_ctx = if options.n_ctx == 0 { loaded.engine.config().n_ctx_train } else { options.n_ctx };
    let params = args.chat.sampling.params(n_ctx, args.chat.prompt.escapes)?;
    let cached = PromptCache::open(&args.chat.prompt_cache, &loaded.engine, &options, log)?;
    let kept = cached.as_ref().and_then(|(_, session)| session.as_ref()).map(Session::tokens);
    let tokens = match kept.filter(|kept| given == Given::Nothing && !interactive && !kept.is_empty()) {
        // As in llama.cpp: without a prompt, the text of the file goes on.
        Some(kept) => kept.to_vec(),
        None => prompt_tokens(&given, &loaded.engine, interactive)?,
    };
    let generation = GenerationOptions {
        sampling: params,
        max_tokens: usize::try_from(args.chat.prompt.n_predict).ok(),
        stop: args.chat.prompt.reverse_prompts()?,
        speculation: args.chat.speculation.options(),
        special: args.chat.output.special,
        // Behind nothing but a BOS.
        starts_text: tokens.iter().all(|&token| loaded.engine.tokenizer().is_control(token)),
        ..GenerationOptions::default()
    };
    let constraints = args.chat.constraint.constraints(&loaded.engine)?;
    let writer = Writer::new(loaded, cached, &options, generation, log)?;
    if !interactive {
        writer.check_prompt(&tokens)?;
    }
    let turns = Turns {
        asks: interactive && !(args.chat.conversation.single_turn && given != Given::Nothing),
        asks_first: args.generation.interactive_first || (conversation && given == Given::Nothing),
        conversation,
    };
    let mut text = RawText::new(writer, args, constraints, turns, &tokens, log)?;
    let interrupted = text.write(tokens)?;
    text.finish()?;
    Ok(if interrupted { ExitCode::from(signals::EXIT_INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Whether the flags alone ask for a conversation.
fn wants_conversation(args: &GenerateArgs) -> bool {
    let conversation = &args.chat.conversation;
    let asked = args.generation.conversation
        || conversation.single_turn
        || conversation.system_prompt.is_some()
        || conversation.system_prompt_file.is_some()
        || conversation.template.chat_template.is_some()
        || conversation.template.chat_template_file.is_some();
    asked && !args.generation.no_conversation && !args.generation.infill
}

/// Whether texts stand around each line of the user.
fn frames_lines(args: &GenerateArgs) -> bool {
    let generation = &args.generation;
    let framed = generation.in_prefix.is_some() || generation.in_suffix.is_some() || generation.in_prefix_bos;
    framed && !generation.infill
}

/// Warns of flags that have no effect without a template.
fn warn_of_template_flags(args: &ConversationArgs, log: Log) {
    log.note("--in-prefix, --in-prefix-bos and --in-suffix take the place of the chat template");
    let given = [
        ("--system-prompt", args.system_prompt.is_some() || args.system_prompt_file.is_some()),
        (
            "--chat-template",
            args.template.chat_template.is_some() || args.template.chat_template_file.is_some(),
        ),
    ];
    for (flag, _) in given.into_iter().filter(|(_, given)| *given) {
        log.warn(format_args!("{flag} has no effect beside --in-prefix, --in-prefix-bos and --in-suffix"));
    }
}

/// What to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Given {
    Nothing,
    Text(String),
    Gap { prefix: String, suffix: String },
}

fn given_prompt(args: &GenerateArgs) -> Result<Given> {
    let prompt = &args.chat.prompt;
    if args.generation.infill {
        let side = |flag: &str, given: &Option<std::ffi::OsString>| match given {
            None => Ok(String::new()),
            Some(text) => match text::from_argument(flag, text)? {
                path if path.starts_with('@') => text::from_file(path[1..].as_ref()),
                text => prompt.escapes.meant(flag, text),
            },
        };
        let prefix = side("--in-prefix", &args.generation.in_prefix)?;
        let suffix = side("--in-suffix", &args.generation.in_suffix)?;
        if prefix.is_empty() && suffix.is_empty() {
            return Err(wrong("--infill: found nothing around the gap, expected --in-prefix or --in-suffix"));
        }
        return Ok(Given::Gap { prefix, suffix });
    }
    Ok(prompt.text()?.map_or(Given::Nothing, Given::Text))
}

fn prompt_tokens(given: &Given, engine: &bise::Engine, interactive: bool) -> Result<Vec<u32>> {
    let tokenizer = engine.tokenizer();
    let hint = || match tokenizer.bos().map(|bos| String::from_utf8_lossy(tokenizer.piece(bos)).into_owned())
    {
        Some(bos) => format!(" (to go on from nothing, give '{bos}')"),
        None => String::new(),
    };
    match given {
        Given::Text(text) if text.is_empty() => {
            bail!("the prompt is empty: expected some text{}", hint())
        }
        Given::Nothing if !interactive => Err(wrong(format_args!(
            "there is no prompt: expected --prompt, --file or --interactive{}",
            hint()
        ))),
        Given::Nothing => Ok(tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect()),
        Given::Text(text) => {
            Ok(tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true }))
        }
        Given::Gap { prefix, suffix } => tokenizer.infill(prefix, suffix).context("--infill"),
    }
}

/// When the user is asked for a line.
#[derive(Clone, Copy, Debug)]
struct Turns {
    /// Whenever the text pauses.
    asks: bool,
    /// Also before it starts.
    asks_first: bool,
    /// With a `> ` prompt, and without showing the texts around each line.
    conversation: bool,
}

/// Raw generation, with the user's lines in between.
struct RawText {
    writer: Writer,
    args: GenerateArgs,
    /// What is written has to follow, from one line of the user to the next.
    constraints: Option<Constraints>,
    turns: Turns,
    screen: Screen,
    /// For the prompt; the generation has its own.
    decoder: StreamDecoder,
    /// Tokens left to generate; `None` is no limit.
    n_left: Option<usize>,
    log: Log,
}

impl RawText {
    fn new(
        mut writer: Writer,
        args: GenerateArgs,
        constraints: Option<Constraints>,
        turns: Turns,
        tokens: &[u32],
        log: Log,
    ) -> Result<Self> {
        let prompt = &args.chat.prompt;
        let tokenizer = writer.engine.tokenizer();
        let n_keep = match usize::try_from(prompt.keep) {
            // BOS is always kept.
            Ok(n) if n <= tokens.len() => (n + usize::from(tokenizer.adds_bos())).min(tokens.len()),
            _ => tokens.len(),
        };
        if prompt.verbose_prompt {
            writer.log_prompt(log, tokens, None);
        }
        let decoder = tokenizer.stream_from_start(!args.chat.output.special);
        writer.when_full = match (prompt.n_predict, prompt.context_shift) {
            (-2, _) => WhenFull::StopAtContext,
            (_, true) => WhenFull::Shift { n_keep },
            (_, false) => WhenFull::Stop,
        };
        let screen = Screen::new(args.chat.output.color);
        let n_left = usize::try_from(prompt.n_predict).ok();
        Ok(Self { writer, args, constraints, turns, screen, decoder, n_left, log })
    }

    /// Generates to the end, asking the user in between; returns whether Ctrl-C ended it.
    fn write(&mut self, tokens: Vec<u32>) -> Result<bool> {
        self.echo(&tokens)?;
        // An editor would draw over the text that a line goes on from.
        let mut lines = self.turns.asks.then(Lines::plain);
        let mut given = tokens;
        if let Some(lines) = lines.as_mut().filter(|_| self.turns.asks_first) {
            match self.user_line(lines)? {
                Some(line) => given.extend(line),
                None => return Ok(false),
            }
        }
        if given.is_empty() {
            bail!("there is nothing to go on from: the vocabulary has no token that begins a text");
        }
        if self.args.chat.conversation.single_turn {
            lines = None;
        }
        // What the prompt cache has need not be read.
        let (reused, _) = self.writer.reuse(&given)?;
        self.writer.generation.extend(&given[..reused.n_kept]);
        given.drain(..reused.n_kept);
        let mut reused = Some(reused);
        self.constrain()?;
        loop {
            let pause = self.write_until_pause(&given, reused.take())?;
            given.clear();
            let Some(lines) = &mut lines else {
                if matches!(pause, Pause::Finished(Finish::EndToken(_))) {
                    self.screen.print(" [end of text]")?;
                }
                return Ok(pause == Pause::Interrupted);
            };
            self.n_left = self.writer.generation.n_left();
            match pause {
                Pause::Full => return Ok(false),
                Pause::Finished(Finish::EndToken(_)) => {
                    self.screen.print("\n")?;
                    let options = EncodeOptions { add_special: false, parse_special: true };
                    if let Some(first) = self.args.chat.prompt.reverse_prompts()?.first() {
                        given = self.writer.engine.tokenizer().encode(first, options);
                        self.echo(&given)?;
                    }
                }
                Pause::Finished(_) | Pause::Interrupted => {}
            }
            if self.n_left == Some(0) {
                self.n_left = usize::try_from(self.args.chat.prompt.n_predict).ok();
            }
            match self.user_line(lines)? {
                Some(line) => given.extend(line),
                None => return Ok(false),
            }
            self.constrain()?;
        }
    }

    /// Sets the constraint to its beginning.
    fn constrain(&mut self) -> Result<()> {
        if let Some(constraints) = &self.constraints {
            self.writer.generation.constrain(constraints.make()?);
        }
        Ok(())
    }

    /// Prefills `given`, then generates until something pauses it. `reused` is how much of the first prompt
    /// was there before.
    fn write_until_pause(&mut self, given: &[u32], reused: Option<Reused>) -> Result<Pause> {
        let listening = self.writer.listen();
        // What was chosen last goes before it.
        let unread: Vec<u32> =
            self.writer.generation.pending().into_iter().chain(given.iter().copied()).collect();
        let read = self.writer.read(&unread)?;
        if read != Read::Full {
            self.writer.generation.set_max_tokens(self.n_left);
            // The first is part of the text already.
            self.writer.generation.extend(given);
        }
        if let Some(reused) = reused.filter(|_| read == Read::Done) {
            self.writer.prompt_is_read(reused);
        }
        let screen = &mut self.screen;
        let pause = match read {
            Read::Done => self.writer.write(&mut |text| Ok(screen.print(text)?))?,
            Read::Full => Pause::Full,
            Read::Interrupted => Pause::Interrupted,
        };
        drop(listening);
        match &pause {
            // As in llama.cpp: what follows is the user's answer to it.
            Pause::Finished(Finish::StopText(stop)) => self.screen.print(stop)?,
            Pause::Finished(Finish::EndToken(token)) if self.args.chat.output.special => {
                let piece = self.writer.engine.tokenizer().piece(*token);
                self.screen.print(&String::from_utf8_lossy(piece))?;
            }
            Pause::Full => {
                let n_ctx = self.writer.session.n_ctx();
                self.log.warn(format_args!(
                    "the context of {n_ctx} tokens is full (--ctx-size, --context-shift)"
                ));
            }
            _ => {}
        }
        Ok(pause)
    }

    /// Prints the text of given tokens, unless `--no-display-prompt`.
    fn echo(&mut self, tokens: &[u32]) -> Result<()> {
        let text: String = tokens.iter().map(|&token| self.decoder.push(token)).collect();
        if !self.args.generation.no_display_prompt {
            self.screen.set_colour(Colour::Prompt)?;
            self.screen.print(&text)?;
            self.screen.set_colour(Colour::Plain)?;
        }
        Ok(())
    }

    /// A line of the user as tokens, between `--in-prefix` and `--in-suffix`; `None` at the end of the input.
    fn user_line(&mut self, lines: &mut Lines) -> Result<Option<Vec<u32>>> {
        let escapes = self.args.chat.prompt.escapes;
        let around = |flag: &str, given: &Option<std::ffi::OsString>| match given {
            Some(text) => escapes.meant(flag, text::from_argument(flag, text)?),
            None => Ok(String::new()),
        };
        let prefix = around("--in-prefix", &self.args.generation.in_prefix)?;
        let suffix = around("--in-suffix", &self.args.generation.in_suffix)?;
        let conversation = self.turns.conversation;
        if !conversation {
            self.screen.print(&prefix)?;
        }
        self.screen.set_colour(Colour::Input)?;
        let joining = Joining::without_commands(self.args.chat.conversation.multiline_input);
        let line = lines.read(if conversation { "\n> " } else { "" }, joining);
        self.screen.set_colour(Colour::Plain)?;
        let line = match line? {
            Line::Text(line) => line,
            Line::Interrupted | Line::End => return Ok(None),
        };
        if line.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if !conversation {
            self.screen.print(&suffix)?;
        }
        let line = escapes.meant("standard input", line)?;
        let tokenizer = self.writer.engine.tokenizer();
        let encode = |text: &str, parse_special| {
            tokenizer.encode(text, EncodeOptions { add_special: false, parse_special })
        };
        let mut tokens: Vec<u32> = Vec::new();
        if self.args.generation.in_prefix_bos {
            tokens.extend(tokenizer.bos());
        }
        tokens.extend(encode(&prefix, true));
        let line = encode(&line, false);
        self.n_left = self.n_left.map(|n| n.saturating_sub(line.len()).max(1));
        tokens.extend(line);
        tokens.extend(encode(&suffix, true));
        if self.args.chat.prompt.verbose_prompt {
            self.writer.log_prompt(self.log, &tokens, None);
        }
        Ok(Some(tokens))
    }

    /// Ends the output, prints the timings, and keeps the text where the prompt cache does.
    fn finish(mut self) -> Result<()> {
        let _ = self.screen.print("\n");
        if !self.args.chat.output.no_perf {
            self.log.note("");
            self.writer.print_timings();
        }
        self.writer.end_text()
    }
}
