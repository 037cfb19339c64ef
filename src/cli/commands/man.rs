//! `bise man`: the manual.

use std::io::Write;

use anyhow::Result;

use crate::cli::args::help;
use crate::cli::usage::wrong;

/// Prints the page about one of the commands of `definition`, or about all of it.
///
/// # Errors
/// There is no such command, or the output cannot be written.
pub fn run(name: Option<&str>, mut definition: clap::Command) -> Result<()> {
    definition.build();
    let command = match name {
        None => &definition,
        Some(name) => find(&definition, name)
            .ok_or_else(|| wrong(format_args!("there is no command '{name}' (bise --help lists them)")))?,
    };
    let page_name = name.map_or("bise".to_owned(), |name| format!("bise-{name}"));
    let version = concat!("bise ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone().display_name(&page_name)).source(version);
    let mut page = Vec::new();
    man.title(page_name).render(&mut page)?;
    std::io::stdout().write_all(help::plain(&String::from_utf8(page)?).as_bytes())?;
    Ok(())
}

/// The command of that name; one that is in another is called `lora-convert`, as its page is.
fn find<'a>(definition: &'a clap::Command, name: &str) -> Option<&'a clap::Command> {
    let inner = |outer: &'a clap::Command| {
        let name = name.strip_prefix(outer.get_name())?.strip_prefix('-')?;
        outer.find_subcommand(name)
    };
    definition.find_subcommand(name).or_else(|| definition.get_subcommands().find_map(inner))
}
