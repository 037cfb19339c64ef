//! What the help of a flag says besides what it does: other spellings, its variable, its default.

use clap::builder::Resettable;

use super::words;

/// Stands for a space at which no line is to end, until [`text`].
const KEEP_TOGETHER: &str = "\u{a0}";

/// Adds the notes to a flag, and keeps clap from reading variables and writing defaults itself.
pub fn annotate(arg: clap::Arg) -> clap::Arg {
    let mut notes = Vec::new();
    let spellings = words::other_spellings(&arg);
    if !spellings.is_empty() {
        notes.push(format!("[also {}]", spellings.join(", ")));
    }
    if let Some(name) = arg.get_env() {
        notes.push(format!("[env: {}]", name.display()));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && !arg.is_hide_default_value_set() && arg.get_action().takes_values() {
        notes.push(format!("[default: {}]", defaults.join(", ")));
    }
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    // A long list may be broken between its words.
    let notes = notes
        .iter()
        .map(|note| if note.len() < 60 { note.replace(' ', KEEP_TOGETHER) } else { note.clone() });
    let help = std::iter::once(help).chain(notes).collect::<Vec<_>>().join(" ");
    // clap allows this of flags with values alone.
    let hides = arg.get_action().takes_values();
    arg.help(help).hide_default_value(hides).env(Resettable::Reset)
}

/// Help as it is to be printed, with colours or without.
pub fn text(help: &clap::builder::StyledStr, colours: bool) -> String {
    plain(&if colours { help.ansi().to_string() } else { help.to_string() })
}

/// `text` with ordinary spaces only, once lines no longer move.
pub fn plain(text: &str) -> String {
    text.replace(KEEP_TOGETHER, " ")
}
