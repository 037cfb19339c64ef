//! Names and texts of a file never reach the terminal as they are: no escape sequence, no faked line.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;

use std::path::Path;

use bise::gguf::{GgufDataWriter, GgufFile, GgufWriter, TensorType, Value, WriteError};
use cli_support::{Folder, Ran};

/// Clears the screen, sets the title of the window, starts a line that looks like ours, turns text around.
const EVIL: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\nbise: error: fake\u{202e}\u{2028}\x7f";

/// The built-in model with other metadata and one tensor more.
fn write(path: &Path, changes: &[(&str, &str)], tensor: Option<&str>) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny/bise-tiny.Q4_K_M.gguf");
    let file = GgufFile::open(source).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    for (key, value) in changes {
        writer.metadata_mut().set(key, Value::from(*value));
    }
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, info.tensor_type).unwrap();
    }
    if let Some(name) = tensor {
        writer.add_tensor(name, &[1], TensorType::F32).unwrap();
    }
    let fill = |out: &mut GgufDataWriter<_>| {
        file.tensors().try_for_each(|info| out.write(&file.bytes(info)))?;
        tensor.map_or(Ok(()), |_| out.write(&f32::NAN.to_le_bytes()))
    };
    writer.save::<WriteError>(path, fill).unwrap();
}

/// Fails the test if anything that was printed could drive a terminal.
fn assert_harmless(ran: &Ran) {
    let stdout = std::str::from_utf8(&ran.stdout).unwrap();
    for (name, text) in [("stdout", stdout), ("stderr", &ran.stderr)] {
        let harmful = text
            .chars()
            .find(|&c| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{202a}'..='\u{202e}'));
        assert_eq!(harmful, None, "{name}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("bise: error: fake")), "{name}: {text}");
    }
}

#[test]
fn inspect_escapes_names_keys_and_texts() {
    let folder = Folder::new();
    let path = folder.path("evil.gguf");
    let key = format!("x.{EVIL}");
    write(&path, &[("general.name", EVIL), (&key, EVIL), ("tokenizer.chat_template", EVIL)], Some(EVIL));
    let file = path.to_str().unwrap();
    let table = folder.bise(["inspect", file]).ok();
    assert_harmless(&table);
    assert!(table.text().contains(r"\u{1b}[2J"), "{}", table.text());
    let checked = folder.bise(["inspect", file, "--check-tensors"]);
    assert_harmless(&checked);
    assert!(checked.error().contains(r"\u{1b}[2J"), "{}", checked.stderr);

    let json = folder.bise(["inspect", file, "--json"]).ok();
    assert_harmless(&json);
    let report: serde_json::Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(report["name"], EVIL);
    assert_eq!(report["metadata"][&key], EVIL);
    assert_eq!(report["tensors"].as_array().unwrap().last().unwrap()["name"], EVIL);
}

#[test]
fn errors_and_warnings_escape_what_they_quote() {
    let folder = Folder::new();
    let path = folder.path("evil.gguf");
    let file = path.to_str().unwrap();
    write(&path, &[("general.architecture", EVIL)], None);
    let ran = folder.bise(["-m", file, "-p", "Once", "-n", "1"]);
    ran.error();
    assert_harmless(&ran);
    assert_harmless(&folder.bise(["inspect", file]));

    // A tensor that nothing reads.
    write(&path, &[], Some(EVIL));
    assert_harmless(&folder.bise(["-m", file, "-p", "Once", "-n", "1"]));

    // A key of the rotary embedding that nobody knows, and a name in the tables of `bench`.
    write(&path, &[("llama.rope.scaling.type", EVIL), ("general.name", EVIL)], None);
    assert_harmless(&folder.bise(["-m", file, "-p", "Once", "-n", "1"]));
    write(&path, &[("general.name", EVIL)], None);
    for format in ["md", "csv", "json", "jsonl"] {
        assert_harmless(
            &folder.bise(["bench", "-m", file, "-p", "1", "-n", "0", "-r", "1", "-o", format]).ok(),
        );
    }
}

#[test]
fn what_a_template_says_about_itself_is_escaped() {
    let folder = Folder::new();
    let path = folder.path("evil.gguf");
    let template = format!("{{{{ raise_exception('{EVIL}') }}}}");
    write(&path, &[("tokenizer.chat_template", &template)], None);
    let ran = folder.bise_with(["chat", "-m", path.to_str().unwrap(), "-n", "4", "-st"], "Hello\n");
    assert!(ran.stderr.contains(r"\u{1b}[2J"), "{}", ran.stderr);
    assert_harmless(&ran);
}
