//! Where `bise logits -o` writes: whole files, and through what is no file.

#![cfg(all(feature = "cli", feature = "builtin-model", unix))]

mod cli_support;

use std::process::Command;

use cli_support::Folder;

fn logits(folder: &Folder, output: &str) -> cli_support::Ran {
    folder.bise(["logits", "--tokens", "1,2,3", "-o", output])
}

#[test]
fn a_device_or_a_pipe_is_written_to_and_not_replaced() {
    let folder = Folder::new();
    logits(&folder, "out.npy").ok();
    let whole = std::fs::read(folder.path("out.npy")).unwrap();
    assert_eq!(whole.len(), 128 + 3 * 4096 * 4);
    // Standard output is a pipe here.
    assert!(logits(&folder, "/dev/stdout").ok().stdout == whole);
    logits(&folder, "/dev/null").ok();
    let is_device = |path: &str| {
        std::os::unix::fs::FileTypeExt::is_char_device(&std::fs::metadata(path).unwrap().file_type())
    };
    assert!(is_device("/dev/null"));
    std::os::unix::fs::symlink("/dev/null", folder.path("link.npy")).unwrap();
    logits(&folder, "link.npy").ok();
    assert!(folder.path("link.npy").is_symlink() && is_device("/dev/null"));
    assert_eq!(folder.names(), ["link.npy", "out.npy"]);
    if cfg!(target_os = "linux") {
        let ran = logits(&folder, "/dev/full");
        assert!(ran.error().contains("/dev/full") && ran.error().contains("No space left"), "{}", ran.stderr);
        assert!(is_device("/dev/full"));
    }
}

#[test]
fn a_disk_that_is_full_leaves_what_was_there_and_nothing_else() {
    let folder = Folder::new();
    folder.write("out.npy", "what was there");
    let bise = folder.command(["logits", "--tokens", "1,2,3", "-o", "out.npy"]);
    // A limit on the size of files, of which the signal is ignored, gives an error as a full disk does.
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"");
    limited.arg(bise.get_program()).args(bise.get_args()).current_dir(folder.path("."));
    limited.stdin(std::process::Stdio::null());
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ran = folder.finish(&mut limited, b"");
    assert!(ran.error().contains("out.npy: File too large"), "{}", ran.stderr);
    assert_eq!(folder.names(), ["out.npy"]);
    assert_eq!(std::fs::read(folder.path("out.npy")).unwrap(), b"what was there");
}

#[test]
fn a_run_that_is_killed_leaves_no_half_file_under_the_name() {
    let folder = Folder::new();
    let tokens = vec!["1"; 2000].join(",");
    let mut command = folder.command(["logits", "--tokens", &tokens, "--chunk", "8", "-o", "out.npy"]);
    let mut child = command.spawn().unwrap();
    let aside =
        |names: &[String]| names.iter().any(|name| name.starts_with(".out.npy.") && name.ends_with(".part"));
    while !aside(&folder.names()) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before the file was begun");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.path("out.npy").exists());
}
