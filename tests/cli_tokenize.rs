//! `bise tokenize` prints what llama-tokenize prints (the outputs below are those of b11434 for the same file).

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use cli_support::Folder;

#[test]
fn tokens_are_printed_as_llama_tokenize_prints_them() {
    let folder = Folder::new();
    let print = |args: &[&str]| {
        let args = std::iter::once("tokenize").chain(args.iter().copied());
        String::from_utf8(folder.bise(args).ok().stdout).unwrap()
    };
    assert_eq!(print(&["-p", "Hello"]), "     1 -> '<s>'\n  2721 -> ' Hello'\n");
    assert_eq!(print(&["-p", "Hello", "--ids"]), "[1, 2721]\n");
    assert_eq!(print(&["-p", "Hello", "--ids", "--no-bos"]), "[2721]\n");
    assert_eq!(
        print(&["-p", "Hello", "--show-count"]),
        "     1 -> '<s>'\n  2721 -> ' Hello'\nTotal number of tokens: 2\n"
    );
    assert_eq!(print(&["--ids", "--show-count", "-p", "Hello"]), "[1, 2721]\nTotal number of tokens: 2\n");
}

#[test]
fn control_tokens_are_parsed_unless_that_is_not_wanted() {
    let folder = Folder::new();
    let ids =
        |args: &[&str]| folder.bise(["tokenize", "--ids", "--no-bos", "-p", "a</s>"].iter().chain(args)).ok();
    let parsed = ids(&[]);
    assert!(parsed.text().ends_with(", 2]\n"), "{}", parsed.text());
    let plain = ids(&["--no-parse-special"]);
    assert!(!plain.text().ends_with(", 2]\n"), "{}", plain.text());
}

#[test]
fn an_end_of_text_that_the_file_asks_for_is_shown_but_never_answered() {
    let folder = Folder::new();
    let model = bise::gguf::GgufFile::open(folder.model()).unwrap();
    let mut writer = bise::gguf::GgufWriter::new();
    *writer.metadata_mut() = model.metadata().clone();
    writer.metadata_mut().set("tokenizer.ggml.add_eos_token", true);
    let mut bytes = Vec::new();
    writer.write_all(&mut bytes, &[]).unwrap();
    let file = folder.write("vocabulary.gguf", bytes);
    let ids = |more: &[&str]| {
        let args = ["tokenize", "--ids", "-p", "Hello", "-m", file.to_str().unwrap()];
        let args = args.iter().chain(more);
        folder.bise(args).ok().text().to_owned()
    };
    assert_eq!(ids(&[]), "[1, 2721, 2]\n", "as llama-tokenize prints it");
    assert_eq!(ids(&["--no-bos"]), "[2721]\n");

    let asks = ["--override-kv", "tokenizer.ggml.add_eos_token=bool:true"];
    for command in [
        &["chat", "-st", "--temp", "0", "-p", "What is the opposite of hot?"][..],
        &["-no-cnv", "--temp", "0", "-n", "8", "-p", "Once upon a time"],
    ] {
        let plain = folder.bise(command).ok();
        let asked = folder.bise(command.iter().chain(&asks)).ok();
        assert_eq!(asked.text(), plain.text(), "{command:?}");
    }
}

#[test]
fn a_text_is_the_same_from_everywhere() {
    let folder = Folder::new();
    let text = "Ein Stück Kuchen\n🍰 und\ttee";
    let file = folder.write("text.txt", text);
    let from_prompt = folder.bise(["tokenize", "--ids", "-p", text]).ok();
    let from_file =
        folder.bise(["tokenize".as_ref(), "--ids".as_ref(), "-f".as_ref(), file.as_os_str()]).ok();
    let from_stdin = folder.bise_with(["tokenize", "--ids", "--stdin"], text).ok();
    assert_eq!(from_prompt.text(), from_file.text());
    assert_eq!(from_prompt.text(), from_stdin.text());
}

#[test]
fn a_newline_at_the_end_of_a_file_is_a_token() {
    let folder = Folder::new();
    folder.write("one.txt", "word");
    folder.write("two.txt", "word\n");
    let ids = |name| folder.bise(["tokenize", "--ids", "-f", name]).ok().text().matches(',').count();
    assert_eq!(ids("two.txt"), ids("one.txt") + 1);
}

#[test]
fn escapes_are_processed_unless_that_is_not_wanted() {
    let folder = Folder::new();
    let ids = |args: &[&str]| {
        let ran = folder.bise(["tokenize", "--ids"].iter().chain(args)).ok();
        ran.text().to_string()
    };
    assert_eq!(ids(&["-p", r"a\nb"]), ids(&["-p", "a\nb"]));
    assert_ne!(ids(&["-p", r"a\nb", "--no-escape"]), ids(&["-p", "a\nb"]));
}

#[test]
fn what_is_no_text_is_an_error() {
    let folder = Folder::new();
    folder.write("bad.txt", b"ab\xffcd");
    let ran = folder.bise(["tokenize", "-f", "bad.txt"]);
    assert_eq!(
        ran.error(),
        "bise: error: bad.txt: invalid UTF-8: found byte 0xff at offset 2, expected text"
    );
    assert!(folder.bise(["tokenize"]).misuse().contains("--stdin"));
    assert!(folder.bise(["tokenize", "-f", "none.txt"]).error().contains("none.txt"));
    assert!(folder.bise(["tokenize", "-m", "none.gguf", "-p", "x"]).error().contains("none.gguf"));
}
