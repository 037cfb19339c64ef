//! What a line of a conversation asks for.

/// Said once, to who types.
pub const WELCOME: &str = "Type a message, /help for commands, Ctrl-C to stop an answer, Ctrl-D to leave.";

/// Said to who asks.
pub const HELP: &str = "\
/regen      answer the last message anew
/clear      begin a new conversation
/read FILE  put the text of a file before the next message
/exit       leave (also Ctrl-D)
A line that ends in \\ goes on in the next.";

/// A line of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// A message.
    Say(&'a str),
    /// `/exit` or `/quit`.
    Exit,
    /// `/regen`.
    Regenerate,
    /// `/clear`.
    Clear,
    /// `/read FILE`.
    Read(&'a str),
    /// `/help`.
    Help,
    /// A word after a slash that is none of these.
    Unknown(&'a str),
}

/// Reads a line. One that begins with a slash but no single word of letters, such as `/usr/bin`, is a message.
pub fn parse(line: &str) -> Command<'_> {
    let trimmed = line.trim();
    let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    let is_word = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
    match word {
        "/exit" | "/quit" => Command::Exit,
        "/regen" => Command::Regenerate,
        "/clear" => Command::Clear,
        "/help" => Command::Help,
        "/read" if !rest.trim().is_empty() => Command::Read(rest.trim()),
        _ if word.strip_prefix('/').is_some_and(is_word) => Command::Unknown(word),
        _ => Command::Say(if trimmed.is_empty() { "" } else { line }),
    }
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
        assert_eq!(parse("/read"), Command::Unknown("/read"));
        assert_eq!(parse("/usr/bin is a folder"), Command::Say("/usr/bin is a folder"));
        assert_eq!(parse("hello /exit"), Command::Say("hello /exit"));
        assert_eq!(parse(" \t"), Command::Say(""));
        assert_eq!(parse("/"), Command::Say("/"));
    }
}
