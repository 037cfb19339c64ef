//! A fresh folder and a command.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder of its own for one test, gone afterwards.
pub struct Folder(tempfile::TempDir);

/// What a run left behind.
#[derive(Debug)]
#[allow(dead_code, reason = "not every file of tests needs all of it")]
pub struct Ran {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

#[allow(dead_code, reason = "not every file of tests needs all of it")]
impl Ran {
    /// What was printed, which has to be UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the output is UTF-8")
    }

    /// Fails the test unless the run succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// The one line an error makes, on an exit code of 1.
    pub fn error(&self) -> &str {
        self.error_line(1)
    }

    /// The one line that a command makes of flags that make no sense, on an exit code of 2.
    pub fn misuse(&self) -> &str {
        self.error_line(2)
    }

    fn error_line(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}", self.stderr);
        let errors: Vec<&str> =
            self.stderr.lines().filter(|line| line.starts_with("bise: error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        assert_eq!(self.stderr.lines().last(), Some(errors[0]), "nothing comes after the error");
        errors[0]
    }
}

#[allow(dead_code, reason = "not every file of tests needs all of it")]
impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for the test"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The names of what is in the folder, in order.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder can be read");
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the folder can be written");
        path
    }

    /// The command, in this folder, with nothing of the user's surroundings.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bise"));
        for (name, _) in std::env::vars_os() {
            let prefixes = ["LLAMA_ARG_", "BISE_", "HF_", "OLLAMA_", "XDG_"];
            let of_hubs = ["MODEL_ENDPOINT", "SSL_CERT_FILE", "TRANSFORMERS_OFFLINE"];
            let ours = |name: &str| {
                prefixes.iter().any(|prefix| name.starts_with(prefix))
                    || name.to_ascii_uppercase().ends_with("_PROXY")
                    || of_hubs.contains(&name)
            };
            if name.to_str().is_some_and(ours) {
                command.env_remove(name);
            }
        }
        command.args(args).current_dir(self.0.path()).env("HOME", self.0.path());
        command.env("HF_HUB_OFFLINE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    pub fn bise(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
        self.finish(&mut self.command(args), b"")
    }

    /// Runs the command with `input` on standard input.
    pub fn bise_with(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: impl AsRef<[u8]>,
    ) -> Ran {
        self.finish(self.command(args).stdin(Stdio::piped()), input.as_ref())
    }

    pub fn finish(&self, command: &mut Command, input: &[u8]) -> Ran {
        let mut child = command.spawn().expect("the program starts");
        if let Some(mut stdin) = child.stdin.take() {
            // A program that fails early reads nothing.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().expect("the program ends");
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }

    /// The built-in model as a file of this folder.
    pub fn model(&self) -> PathBuf {
        let path = self.path("model.gguf");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
        std::fs::copy(source, &path).expect("the model is part of the project");
        path
    }
}
