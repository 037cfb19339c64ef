//! `bise chat` on a terminal: what is typed and pasted, Ctrl-C, the history.

#![cfg(all(unix, feature = "cli", feature = "builtin-model"))]

mod cli_support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cli_support::Folder;

const PATIENCE: Duration = Duration::from_secs(120);

/// A program on a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let (mut ours, mut theirs) = (-1, -1);
        let (name, modes, size) = (null_mut(), null_mut(), null_mut());
        // SAFETY: `openpty` writes two descriptors into the integers it is given; the name, the modes and the size may be null.
        let result = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, name, modes, size) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both descriptors were opened above and belong to nobody else.
        let (ours, theirs) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let stdio = || Stdio::from(theirs.try_clone().unwrap());
        command.stdin(stdio()).stdout(stdio()).stderr(stdio()).env("TERM", "xterm");
        // SAFETY: between fork and exec only two system calls are made, both async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // The terminal controls the program, so that Ctrl-C reaches it as a signal.
                libc::setsid();
                if libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(command);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (shown, mut reader) = (screen.clone(), ours.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Linux reports the end as an error.
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                shown.lock().unwrap().extend_from_slice(&bytes[..n]);
            }
        });
        Self { child, keyboard: ours, screen }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, what: &str, n: usize) {
        let start = Instant::now();
        while self.text().matches(what).count() < n {
            assert!(start.elapsed() < PATIENCE, "no {what:?} in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program to end, and returns its exit code.
    fn finish(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("the program does not end: {:?}", self.text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn chat(folder: &Folder, more: &[&str]) -> Terminal {
    Terminal::start(folder.command(["chat", "--temp", "0", "-n", "8"].iter().chain(more)))
}

/// The user's messages in a file that `/save` wrote.
fn said(folder: &Folder, name: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_reader(File::open(folder.path(name)).unwrap()).unwrap();
    let messages = value["messages"].as_array().unwrap().iter();
    let users = messages.filter(|message| message["role"] == "user");
    users.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lines_that_arrive_together_are_all_answered() {
    for more in [&[][..], &["--simple-io"]] {
        let folder = Folder::new();
        let mut terminal = chat(&folder, more);
        terminal.wait_for("> ", 1);
        terminal.send("one\ntwo\nthree\n/save talk.json\n/exit\n");
        assert_eq!(terminal.finish(), 0, "{}", terminal.text());
        assert_eq!(said(&folder, "talk.json"), ["one", "two", "three"], "{more:?}: {}", terminal.text());
    }
}

#[test]
fn what_is_typed_before_the_prompt_is_not_lost() {
    let folder = Folder::new();
    let mut terminal = chat(&folder, &[]);
    // Long before the model is loaded.
    terminal.send("one\ntwo\n/save talk.json\n/exit\n");
    assert_eq!(terminal.finish(), 0, "{}", terminal.text());
    assert_eq!(said(&folder, "talk.json"), ["one", "two"], "{}", terminal.text());
}

#[test]
fn a_pasted_text_of_many_lines_is_one_message() {
    let folder = Folder::new();
    let mut terminal = chat(&folder, &[]);
    terminal.wait_for("> ", 1);
    let lines: Vec<String> = (0..200).map(|i| format!("line {i}")).collect();
    terminal.send(&format!("\x1b[200~{}\x1b[201~\r/save talk.json\r/exit\r", lines.join("\r")));
    assert_eq!(terminal.finish(), 0, "{}", terminal.text());
    assert_eq!(said(&folder, "talk.json"), [lines.join("\n")], "{}", terminal.text());
}

#[test]
fn ctrl_c_clears_a_line_and_leaves_from_an_empty_one() {
    let folder = Folder::new();
    let mut terminal = chat(&folder, &[]);
    terminal.wait_for("> ", 1);
    terminal.send("half a li\x03whole\r/save talk.json\r");
    terminal.wait_for("talk.json: 2 messages", 1);
    assert_eq!(said(&folder, "talk.json"), ["whole"]);
    // A message of several lines is given up as a whole.
    terminal.send("first \\\r\x03other\r/save talk.json\r");
    terminal.wait_for("talk.json: 4 messages", 1);
    assert_eq!(said(&folder, "talk.json"), ["whole", "other"]);
    terminal.send("\x03");
    assert_eq!(terminal.finish(), 130, "{}", terminal.text());
}

#[test]
fn ctrl_c_stops_an_answer_and_the_conversation_goes_on() {
    let folder = Folder::new();
    let mut terminal = Terminal::start(folder.command(["chat", "--temp", "0", "--ignore-eos"]));
    terminal.wait_for("> ", 1);
    terminal.send("Tell me a story.\r");
    terminal.wait_for("time", 1);
    terminal.send("\x03");
    terminal.wait_for("> ", 2);
    terminal.send("/save talk.json\r/exit\r");
    assert_eq!(terminal.finish(), 0, "{}", terminal.text());
    assert_eq!(said(&folder, "talk.json"), ["Tell me a story."]);
}

#[test]
fn ctrl_c_stops_the_pass_that_reads_a_message_and_the_conversation_goes_on() {
    let folder = Folder::new();
    folder.write("long.txt", "The wind blew over the hills and far away. ".repeat(3000));
    // A single pass.
    let mut terminal = chat(&folder, &["-f", "long.txt", "-c", "65536", "-b", "65536", "-ub", "65536"]);
    terminal.wait_for("reading", 1);
    terminal.send("\x03");
    terminal.wait_for("> ", 1);
    terminal.send("What is the capital of France?\r/save talk.json\r/exit\r");
    assert_eq!(terminal.finish(), 0, "{}", terminal.text());
    // Had the pass come to its end, the first message would have been answered.
    assert_eq!(said(&folder, "talk.json"), ["What is the capital of France?"], "{}", terminal.text());
}

#[test]
fn what_is_typed_is_kept_unless_that_is_not_wanted() {
    let folder = Folder::new();
    let history = folder.path(".local/state/bise/history");
    for more in [&["--no-history"][..], &[]] {
        assert!(!history.exists(), "kept in spite of --no-history");
        let mut terminal = chat(&folder, more);
        terminal.wait_for("> ", 1);
        terminal.send("a secret\r/exit\r");
        assert_eq!(terminal.finish(), 0, "{}", terminal.text());
    }
    assert!(std::fs::read_to_string(&history).unwrap().contains("a secret"));
    // The next time it is there, under the arrow that points up.
    let mut terminal = chat(&folder, &[]);
    terminal.wait_for("> ", 1);
    terminal.send("\x1b[A\x1b[A\r/save talk.json\r/exit\r");
    assert_eq!(terminal.finish(), 0, "{}", terminal.text());
    assert_eq!(said(&folder, "talk.json"), ["a secret"], "{}", terminal.text());
}

#[test]
fn each_line_on_stderr_is_one_write() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    let folder = Folder::new();
    // A socket that keeps writes apart.
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let collect = std::thread::spawn(move || {
        let (mut writes, mut bytes) = (Vec::new(), [0; 65536]);
        while let Ok(n @ 1..) = ours.recv(&mut bytes) {
            writes.push(String::from_utf8(bytes[..n].to_vec()).unwrap());
        }
        writes
    });
    let mut command = folder.command(["chat", "-n", "2", "-c", "3000", "-ngl", "9", "--verbose-prompt"]);
    command.stderr(Stdio::from(OwnedFd::from(theirs.try_clone().unwrap()))).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    child.stdin.take().unwrap().write_all(b"/set temp x\nHello\n/read\n/read none.txt\n").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    theirs.send(&[]).unwrap();
    let writes = collect.join().unwrap();
    assert!(writes.len() > 8, "{writes:?}");
    for write in &writes {
        assert!(write.ends_with('\n') && write.matches('\n').count() == 1, "{write:?}");
    }
}
