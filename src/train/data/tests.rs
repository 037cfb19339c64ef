//! Files of rows, with the vocabulary and the chat template of the built-in model.

use std::path::PathBuf;

use super::*;
use crate::Engine;
use crate::chat::ChatTemplate;

struct Files {
    folder: tempfile::TempDir,
    engine: Engine,
}

impl Files {
    fn new() -> Files {
        Files { folder: tempfile::tempdir().unwrap(), engine: Engine::builtin().unwrap() }
    }

    fn options(&self, mask_prompt: bool) -> DataOptions {
        let source = self.engine.file().metadata().str("tokenizer.chat_template").unwrap().unwrap();
        let template = Some(ChatTemplate::from_source(source).unwrap());
        DataOptions { template, arguments: Default::default(), mask_prompt, max_seq_length: 2048 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("train.jsonl")
    }

    fn open(&self, content: impl AsRef<[u8]>, options: &DataOptions) -> Result<Dataset, String> {
        std::fs::write(self.path(), content).unwrap();
        Dataset::open(&self.path(), self.engine.tokenizer(), options).map_err(|error| {
            let message = error.to_string();
            message.strip_prefix(&self.path().display().to_string()).expect("the file is named").to_owned()
        })
    }

    /// The tokens of a row, those that count in brackets.
    fn shown(&self, row: DatasetRow<'_>) -> String {
        let piece = |id: u32| String::from_utf8_lossy(self.engine.tokenizer().piece(id)).into_owned();
        let mark = |(i, id): (usize, &u32)| match i >= row.first_label {
            true => format!("[{}]", piece(*id)),
            false => piece(*id),
        };
        row.tokens.iter().enumerate().map(mark).collect::<Vec<_>>().join("|")
    }
}

const CHAT: &str =
    r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No"}]}"#;

/// The pieces are those of SentencePiece for the text between `<s>` and `</s>`.
#[test]
fn the_last_message_alone_counts_behind_a_mask() {
    let files = Files::new();
    let data = files.open(CHAT, &files.options(true)).unwrap();
    assert_eq!(files.shown(data.row(0)), "<s>| [|INST|]| Hi| [/|INST|]|[ No]|[</s>]");
    let all = files.open(CHAT, &files.options(false)).unwrap();
    assert_eq!((all.row(0).tokens, all.row(0).first_label), (data.row(0).tokens, 1));
    let pair = files.open(r#"{"prompt": "Hi", "completion": "No"}"#, &files.options(true)).unwrap();
    assert_eq!(pair.row(0), data.row(0));
    assert_eq!(pair.hash(), data.hash());
    assert_ne!(all.hash(), data.hash());
}

#[test]
fn texts_begin_with_bos_and_end_with_eos() {
    let files = Files::new();
    let text = |text: &str| {
        let data = files.open(format!("{{\"text\": \"{text}\"}}"), &files.options(false)).unwrap();
        data.row(0).tokens.to_vec()
    };
    let plain = text("Once upon a time");
    assert_eq!((plain[0], plain.last()), (1, Some(&2)));
    // What is spelled out is not doubled.
    assert_eq!(text("<s>Once upon a time</s>").last(), Some(&2));
    assert_eq!(text("Once upon a time</s>"), plain);
}

#[test]
fn long_rows_are_cut_and_those_without_an_answer_left_out() {
    let files = Files::new();
    let long = r#"{"prompt": "Tell me a long story about a mouse and a cat and a dog", "completion": "No"}"#;
    let content = format!(
        "{CHAT}\n{long}\n{CHAT}\n{{\"prompt\": \"a\", \"completion\": \"one two three four five six seven eight nine ten\", \"id\": 1}}\n"
    );
    let mut options = files.options(true);
    let whole = files.open(&content, &options).unwrap();
    assert_eq!((whole.n_rows(), whole.warnings().len()), (4, 1));
    options.max_seq_length = whole.row(0).tokens.len();
    let data = files.open(&content, &options).unwrap();
    assert_eq!((data.n_rows(), data.longest()), (3, options.max_seq_length));
    let [cut, left_out, unused] = data.warnings() else { panic!("{:?}", data.warnings()) };
    assert!(cut.contains("2 rows are longer than --max-seq-length"), "{cut}");
    assert!(left_out.contains("1 row is left out") && left_out.ends_with("line 2"), "{left_out}");
    assert!(unused.ends_with("keys without effect: \"id\""), "{unused}");
    let error = files.open(long, &options).unwrap_err();
    assert!(error.starts_with(": found no row with an answer"), "{error}");
}

#[test]
fn faults_name_the_file_and_the_line() {
    let files = Files::new();
    let user = r#"{"messages": [{"role": "user", "content": "Hi"}]}"#;
    let cases: [(String, bool, &str); 10] = [
        (format!("{CHAT}\n{{\"text\"}}\n"), false, ":2: found malformed JSON in column 8"),
        (format!("{CHAT}\n\n{CHAT}\n"), false, ":2: found an empty line, expected a JSON object"),
        (String::new(), false, ": found no rows, expected at least one"),
        ("\u{feff}".into(), false, ": found no rows, expected at least one"),
        ("\n\n".into(), false, ": found no rows, expected at least one"),
        (format!("{CHAT}\n{user}\n"), true, ":2: messages: found no message with the role \"assistant\""),
        (
            r#"{"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hi"}]}"#
                .into(),
            true,
            ":1: ",
        ),
        ("{\"text\": \"a\"}".into(), true, ":1: found \"text\", expected \"messages\""),
        (
            format!("{CHAT}\n{{\"messages\": [{{\"role\": \"a b\", \"content\": \"x\"}}]}}"),
            false,
            ":2: the role \"a b\"",
        ),
        ("{\"question\": \"a\"}".into(), false, ":1: found \"question\", expected \"messages\""),
    ];
    for (content, mask_prompt, expected) in cases {
        let error = files.open(&content, &files.options(mask_prompt)).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    // The empty lines of an editor at the end, and its mark at the beginning.
    assert_eq!(files.open(format!("\u{feff}{CHAT}\r\n\n \n"), &files.options(false)).unwrap().n_rows(), 1);
    let mut options = files.options(false);
    options.template = None;
    assert!(files.open(CHAT, &options).unwrap_err().contains("the model has no chat template"));
}

/// A template that writes nothing of what the assistant says.
#[test]
fn a_mask_that_hides_everything_is_an_error() {
    let files = Files::new();
    let mut options = files.options(true);
    let source = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    options.template = Some(ChatTemplate::from_source(source).unwrap());
    let error = files.open(CHAT, &options).unwrap_err();
    assert!(error.starts_with(":1: ") && error.contains("the mask hides every token"), "{error}");
    let source = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
    options.template = Some(ChatTemplate::from_source(source).unwrap());
    let error = files.open(CHAT, &options).unwrap_err();
    assert!(error.starts_with(":1: messages: found a prompt that the answer changes"), "{error}");
}

#[test]
fn what_the_chat_template_leaves_out_is_named_once_a_file() {
    let files = Files::new();
    let mut options = files.options(false);
    let source = "{{ bos_token }}{% for m in messages if m.role in ['user', 'assistant'] %}{{ m.content }}{% endfor %}";
    options.template = Some(ChatTemplate::from_source(source).unwrap());
    let tool = r#"{"type": "function", "function": {"name": "clock"}}"#;
    let with_tool = r#"{"messages": [{"role": "user", "content": "Late?"}, {"role": "tool", "content": "23:50"}, {"role": "assistant", "content": "Yes"}]"#;
    let content = format!("{CHAT}\n{with_tool}}}\n{with_tool}, \"tools\": [{tool}]}}\n{CHAT}\n");
    let data = files.open(&content, &options).unwrap();
    let expected = "the chat template does not write these, so nothing is learned from them: \"tools\" (1 row, the first in line 3), \
                    messages of the role \"tool\" (2 rows, the first in line 2)";
    assert_eq!(data.warnings(), [format!("{}: {expected}", files.path().display())]);
    assert!(files.open(CHAT, &files.options(true)).unwrap().warnings().is_empty());
}
