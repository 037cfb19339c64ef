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

/// A line of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
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
