//! What a line of a conversation asks for.

/// Shown once, to somebody who types.
pub const WELCOME: &str = "Type a message, /help for commands, Ctrl-C to stop an answer, Ctrl-D to leave.";

/// Shown on request.
pub const HELP: &str = "\
/regen              answer the last message again
/forget             forget the last message and its answer
/clear              begin a new conversation
/system [TEXT]      show or replace the system prompt (\"\" removes it)
/set [NAME VALUE]   show the sampling parameters, or set one (/set temp 0.5)
/read FILE          put the text of a file before the next message
/save FILE          write the conversation to a file, as JSON
/load FILE          go on with a conversation from such a file
/exit               leave (also Ctrl-D)
Ctrl-C clears a line, or stops an answer. A line that ends in \\ continues on the next.";

/// As [`WELCOME`], in `bise run`.
pub const RUN_WELCOME: &str = "Send a message (/? for help)";

/// As [`HELP`], in `bise run`.
pub const RUN_HELP: &str = "\
/set parameter NAME VALUE   set a sampling parameter (/set parameter temperature 0.5)
/set system TEXT            set the system prompt
/set verbose, /set quiet    show timings after each answer, or no longer
/set think, /set nothink    let the model think before it answers, or not
/show [info]                show what the model is
/show license, modelfile, parameters, system, template
/load MODEL                 go on with another model, in a new conversation
/save MODEL                 save the model, system prompt, parameters and conversation under a name
/list                       list the models on this machine
/clear                      begin a new conversation
/regen, /forget             answer the last message again, or forget it
/read FILE                  put the text of a file before the next message
/bye                        leave (also Ctrl-D)
\"\"\" begins and ends a message of several lines. Ctrl-C clears a line, or stops an answer.";

/// What a command of `bise run` wants of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelCommand<'a> {
    /// `/list`.
    List,
    /// `/show`, and what of it.
    Show(&'a str),
    /// `/load NAME`.
    Load(&'a str),
    /// `/save NAME`.
    Save(&'a str),
}

/// A line of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// One that is about models (`bise run`).
    Model(ModelCommand<'a>),
    /// `/set verbose` and `/set quiet` (`bise run`).
    SetVerbose(bool),
    /// `/set think` and `/set nothink` (`bise run`).
    SetThinking(bool),
    /// A message.
    Say(&'a str),
    /// `/exit` or `/quit`.
    Exit,
    /// `/regen`.
    Regenerate,
    /// `/forget`.
    Forget,
    /// `/clear`.
    Clear,
    /// `/system`.
    ShowSystem,
    /// `/system TEXT`.
    SetSystem(&'a str),
    /// `/set`.
    ShowSampling,
    /// `/set NAME VALUE`.
    Set {
        /// Of a sampling parameter.
        name: &'a str,
        /// What to set it to.
        value: &'a str,
    },
    /// `/read FILE`.
    Read(&'a str),
    /// `/save FILE`.
    Save(&'a str),
    /// `/load FILE`.
    Load(&'a str),
    /// `/help`.
    Help,
    /// A command without what it needs, and how it is used.
    Incomplete {
        /// As typed.
        word: &'a str,
        /// What should follow.
        expected: &'static str,
    },
    /// A word after a slash that is none of these.
    Unknown(&'a str),
}

/// Reads a line. One that begins with a slash but no single word of letters, such as `/usr/bin`, is a message.
pub fn parse(line: &str) -> Command<'_> {
    let trimmed = line.trim();
    let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    let rest = rest.trim();
    let is_word = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
    match word {
        "/exit" | "/quit" => Command::Exit,
        "/regen" => Command::Regenerate,
        "/forget" => Command::Forget,
        "/clear" => Command::Clear,
        "/help" => Command::Help,
        "/system" if rest.is_empty() => Command::ShowSystem,
        "/system" => Command::SetSystem(if rest == "\"\"" { "" } else { rest }),
        "/set" => match rest.split_once(|c: char| c.is_whitespace() || c == '=') {
            Some((name, value)) => Command::Set { name, value: value.trim() },
            None if rest.is_empty() => Command::ShowSampling,
            None => Command::Incomplete { word, expected: "a parameter and its value, such as temp 0.5" },
        },
        "/read" if !rest.is_empty() => Command::Read(rest),
        "/save" if !rest.is_empty() => Command::Save(rest),
        "/load" if !rest.is_empty() => Command::Load(rest),
        "/read" | "/save" | "/load" => Command::Incomplete { word, expected: "the name of a file" },
        _ if word.strip_prefix('/').is_some_and(is_word) => Command::Unknown(word),
        _ => Command::Say(if trimmed.is_empty() { "" } else { line }),
    }
}

/// Reads a line of `bise run`, whose commands are those of `ollama run`, and those of [`parse`] that have other names.
pub fn parse_run(line: &str) -> Command<'_> {
    let trimmed = line.trim();
    let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    let rest = rest.trim();
    let (what, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let value = value.trim();
    let unquoted = |text: &'static str, value: &'_ str| value.starts_with(text) && value.ends_with(text);
    match (word, what) {
        ("/bye", _) => Command::Exit,
        ("/?" | "/help", _) => Command::Help,
        ("/list", _) => Command::Model(ModelCommand::List),
        ("/load" | "/save", "") => Command::Incomplete { word, expected: "the name of a model" },
        ("/load", _) => Command::Model(ModelCommand::Load(rest)),
        ("/save", _) => Command::Model(ModelCommand::Save(rest)),
        ("/show", "system") => Command::ShowSystem,
        ("/show", "parameters") => Command::ShowSampling,
        ("/show", _) => Command::Model(ModelCommand::Show(rest)),
        ("/set", "") => Command::Help,
        ("/set", "verbose") => Command::SetVerbose(true),
        ("/set", "quiet") => Command::SetVerbose(false),
        ("/set", "think") => Command::SetThinking(true),
        ("/set", "nothink") => Command::SetThinking(false),
        ("/set", "system") if value.is_empty() => {
            Command::Incomplete { word: "/set system", expected: "a text" }
        }
        ("/set", "system") => Command::SetSystem(match value.len() >= 6 && unquoted("\"\"\"", value) {
            true => &value[3..value.len() - 3],
            false => value,
        }),
        ("/set", "parameter") => match value.split_once(char::is_whitespace) {
            Some((name, value)) => Command::Set { name, value: value.trim() },
            None => Command::Incomplete {
                word: "/set parameter",
                expected: "a parameter and its value, such as temperature 0.5",
            },
        },
        _ => parse(line),
    }
}

/// The text of a message of `bise run`, without the quotation marks around one of several lines.
pub fn without_triple_quotes(text: &str) -> &str {
    let trimmed = text.trim();
    match trimmed.strip_prefix("\"\"\"") {
        Some(rest) => rest.strip_suffix("\"\"\"").unwrap_or(rest),
        None => text,
    }
}

/// Whether a line is a command, which stands for itself however messages are typed.
pub fn is_command(line: &str) -> bool {
    !matches!(parse(line), Command::Say(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_begin_commands() {
        assert_eq!(parse("/exit"), Command::Exit);
        assert_eq!(parse("  /regen "), Command::Regenerate);
        assert_eq!(parse("/read  my notes.txt "), Command::Read("my notes.txt"));
        assert_eq!(parse("/regne"), Command::Unknown("/regne"));
        assert_eq!(parse("/usr/bin is a folder"), Command::Say("/usr/bin is a folder"));
        assert_eq!(parse("hello /exit"), Command::Say("hello /exit"));
        assert_eq!(parse(" \t"), Command::Say(""));
        assert_eq!(parse("/"), Command::Say("/"));
        assert!(is_command("/help") && !is_command("/usr/bin") && !is_command(""));
    }

    #[test]
    fn bise_run_speaks_as_ollama_run() {
        use ModelCommand::{List, Load, Save, Show};
        for (line, want) in [
            ("/bye", Command::Exit),
            ("/?", Command::Help),
            ("/list", Command::Model(List)),
            ("/load mistral", Command::Model(Load("mistral"))),
            ("/save me/pirate:v1", Command::Model(Save("me/pirate:v1"))),
            ("/show", Command::Model(Show(""))),
            ("/show modelfile", Command::Model(Show("modelfile"))),
            ("/show system", Command::ShowSystem),
            ("/set system Be brief.", Command::SetSystem("Be brief.")),
            ("/set system \"\"\"a\nb\"\"\"", Command::SetSystem("a\nb")),
            ("/set parameter temperature 0.5", Command::Set { name: "temperature", value: "0.5" }),
            ("/set verbose", Command::SetVerbose(true)),
            ("/set nothink", Command::SetThinking(false)),
            ("/clear", Command::Clear),
            ("/regen", Command::Regenerate),
            ("/usr/bin is a folder", Command::Say("/usr/bin is a folder")),
        ] {
            assert_eq!(parse_run(line), want, "{line}");
        }
        assert!(matches!(parse_run("/save"), Command::Incomplete { .. }));
        assert_eq!(without_triple_quotes("\"\"\"a\nb\"\"\""), "a\nb");
        assert_eq!(without_triple_quotes(" a "), " a ");
    }

    #[test]
    fn what_is_missing_is_named() {
        for word in ["/read", "/save", "/load"] {
            assert_eq!(parse(word), Command::Incomplete { word, expected: "the name of a file" });
        }
        assert!(matches!(parse("/set temp"), Command::Incomplete { word: "/set", .. }));
    }

    #[test]
    fn settings_are_shown_or_changed() {
        assert_eq!(parse("/system"), Command::ShowSystem);
        assert_eq!(parse("/system  Be brief. "), Command::SetSystem("Be brief."));
        assert_eq!(parse("/system \"\""), Command::SetSystem(""));
        assert_eq!(parse("/set"), Command::ShowSampling);
        for line in ["/set temp 0.5", "/set  temp   0.5", "/set temp=0.5"] {
            assert_eq!(parse(line), Command::Set { name: "temp", value: "0.5" }, "{line}");
        }
    }
}
