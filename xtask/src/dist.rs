//! `cargo xtask dist`: what users download.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::archive::Files;
use crate::{checksums, licences};

/// Shells, and the name under which each looks for completions.
const SHELLS: [(&str, &str); 5] = [
    ("bash", "bise.bash"),
    ("elvish", "bise.elv"),
    ("fish", "bise.fish"),
    ("powershell", "_bise.ps1"),
    ("zsh", "_bise"),
];

#[derive(clap::Args)]
pub struct Options {
    /// What it is for, a target triple (default: this machine)
    #[arg(long)]
    target: Option<String>,
    /// A program built for that target already (default: build it with --locked)
    #[arg(long)]
    binary: Option<PathBuf>,
    /// What it is built like: a profile of Cargo.toml
    #[arg(long, default_value = "release", conflicts_with = "binary")]
    profile: String,
    /// A bise that runs here and prints manual and completions (default: the program itself)
    #[arg(long)]
    docs_from: Option<PathBuf>,
    /// Where archive and SHA256SUMS go
    #[arg(long, default_value = "target/dist")]
    out: PathBuf,
}

/// Packs the archive, and adds its line to `SHA256SUMS`.
///
/// The same program gives the same bytes: entries are sorted, and carry the time of the commit or of `SOURCE_DATE_EPOCH`.
pub fn run(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in the workspace")?;
    let target = match &options.target {
        Some(target) => target.clone(),
        None => host()?,
    };
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => build(root, &target, &options.profile)?,
    };
    let docs_from = options.docs_from.as_deref().unwrap_or(&binary);
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());

    let mut files = Files::default();
    let is_windows = target.contains("windows");
    let program = match target.split('-').next() {
        _ if is_windows => "bise.exe",
        Some(arch) if arch.starts_with("wasm") => "bise.wasm",
        _ => "bise",
    };
    files.add_executable(program, read(&binary)?);
    for name in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        files.add(name, read(&root.join(name))?);
    }
    files.add("LICENSES-THIRD-PARTY.txt", licences::third_party(&target)?);
    let manual = print(docs_from, ["man"])?;
    for command in commands(&manual)? {
        files.add(&format!("man/bise-{command}.1"), print(docs_from, ["man", &command])?);
    }
    files.add("man/bise.1", manual);
    for (shell, name) in SHELLS {
        files.add(&format!("completions/{name}"), print(docs_from, ["completions", shell])?);
    }

    let name = format!("bise-{}-{target}", env!("CARGO_PKG_VERSION"));
    let (file, bytes) = if is_windows {
        (format!("{name}.zip"), files.zip(&name)?)
    } else {
        (format!("{name}.tar.gz"), files.tar_gz(&name, time(root)?)?)
    };
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join(&file), &bytes)?;
    let sums = options.out.join("SHA256SUMS");
    let before = if sums.exists() { fs::read_to_string(&sums)? } else { String::new() };
    fs::write(&sums, checksums::with(&before, &file, &bytes))?;
    println!("{} ({:.1} MB)", options.out.join(&file).display(), bytes.len() as f64 / 1e6);
    Ok(())
}

/// The commands that a page of the manual refers to, each with a page of its own.
fn commands(manual: &[u8]) -> Result<Vec<String>> {
    let manual = std::str::from_utf8(manual).context("the manual is not UTF-8")?;
    // As roff has it: a hyphen is escaped.
    let name = |line: &str| Some(line.strip_prefix("bise\\-")?.strip_suffix("(1)")?.replace("\\-", "-"));
    let commands: Vec<String> = manual.lines().filter_map(name).collect();
    ensure!(!commands.is_empty(), "the manual refers to no command");
    Ok(commands)
}

/// The target of this machine's compiler.
fn host() -> Result<String> {
    let version = String::from_utf8(output(Command::new("rustc").arg("-vV"))?)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Builds the program without the paths of this machine in it.
fn build(root: &Path, target: &str, profile: &str) -> Result<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().context("no home folder")?.join(".cargo"),
    };
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let flags = format!(
        "{flags} --remap-path-prefix={}=/cargo --remap-path-prefix={}=/bise",
        home.display(),
        root.display()
    );
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).env("RUSTFLAGS", flags.trim());
    cargo.args([
        "build",
        "--profile",
        profile,
        "--locked",
        "--package=bise",
        "--bin=bise",
        "--target-dir=target/dist-build",
    ]);
    let status = cargo.args(["--target", target]).status().context("cargo build")?;
    ensure!(status.success(), "cargo build: {status}");
    let folder = root.join("target/dist-build").join(target).join(profile);
    let suffixes = ["", ".exe", ".wasm"];
    let built = suffixes.map(|suffix| folder.join(format!("bise{suffix}")));
    built.into_iter().find(|path| path.is_file()).with_context(|| format!("no bise in {}", folder.display()))
}

/// What `program` prints.
fn print<const N: usize>(program: &Path, args: [&str; N]) -> Result<Vec<u8>> {
    // A path without a slash would be looked for in PATH.
    let program = program.canonicalize().with_context(|| program.display().to_string())?;
    let printed = output(Command::new(&program).args(args)).with_context(|| {
        format!("{} does not run here: give a bise that does by --docs-from", program.display())
    })?;
    if printed.is_empty() {
        bail!("{} {} prints nothing", program.display(), args.join(" "));
    }
    Ok(printed)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_owned();
    let output = command.output().with_context(|| name.display().to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", OsStr::display(&name), errors.trim());
    Ok(output.stdout)
}

/// Seconds since 1970 that files are said to be from.
fn time(root: &Path) -> Result<u64> {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return time.parse().context("SOURCE_DATE_EPOCH: expected seconds since 1970");
    }
    let printed = output(Command::new("git").current_dir(root).args(["log", "-1", "--format=%ct"]))
        .context("no commit to take the time from: set SOURCE_DATE_EPOCH")?;
    Ok(String::from_utf8(printed)?.trim().parse()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_has_a_page() {
        let manual = b".SH SUBCOMMANDS\n.TP\nbise\\-chat(1)\nHold a conversation\n.TP\nbise\\-no\\-such(1)\nbise \\-p x";
        assert_eq!(super::commands(manual).unwrap(), ["chat", "no-such"]);
        assert!(super::commands(b".SH NAME\nbise").is_err());
    }
}
