//! `bise chat` and `-cnv` in a pipe.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use cli_support::Folder;

#[test]
fn messages_are_answered_line_by_line() {
    let folder = Folder::new();
    let ran = folder
        .bise_with(["chat", "--temp", "0"], "What is the capital of France?\nWhat is two plus three?\n")
        .ok();
    let answers: Vec<&str> = ran.text().lines().collect();
    assert_eq!(answers.len(), 2, "{}", ran.text());
    assert!(answers[0].contains("Paris"), "{}", answers[0]);
    assert!(!answers[0].starts_with(' '), "the space of the tokenizer is no part of the answer");
    assert!(!ran.text().contains('>'), "no prompts in a pipe: {}", ran.text());
}

#[test]
fn speculation_changes_no_answer() {
    let folder = Folder::new();
    let chat = |more: &[&'static str]| {
        let line = ["chat", "--temp", "0.5", "-s", "3", "-n", "80"];
        let questions = "Tell me a story.\nTell me the same story again.\n/regen\n/clear\nTell me a story.\n";
        folder.bise_with(line.iter().chain(more), questions).ok().stdout
    };
    assert!(chat(&[]) == chat(&["--spec-type", "none"]));
}

#[test]
fn what_was_read_is_not_read_again() {
    let folder = Folder::new();
    let ran = folder
        .bise_with(
            ["chat", "--temp", "0", "--verbose-prompt"],
            "What is the capital of France?\nThank you.\n",
        )
        .ok();
    let counts: Vec<(usize, usize)> = ran
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("number of tokens in prompt = ")?.strip_suffix(" read before)"))
        .filter_map(|line| line.split_once(" ("))
        .map(|(all, before)| (all.parse().unwrap(), before.parse().unwrap()))
        .collect();
    assert_eq!(counts.len(), 2, "{}", ran.stderr);
    assert_eq!(counts[0].1, 0);
    // The first question and its answer.
    assert!(counts[1].1 >= counts[0].0, "{counts:?}");
}

#[test]
fn an_answer_can_be_had_anew() {
    let folder = Folder::new();
    let ran = folder.bise_with(["chat", "--temp", "0"], "What is the capital of France?\n/regen\n").ok();
    let answers: Vec<&str> = ran.text().lines().collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], answers[1], "greedy answers are the same");
}

#[test]
fn a_cleared_conversation_begins_anew() {
    let folder = Folder::new();
    let question = "What is the opposite of hot?\n";
    let once = folder.bise_with(["chat", "--temp", "0"], question).ok();
    let twice =
        folder.bise_with(["chat", "--temp", "0"], format!("My name is Pip.\n/clear\n{question}")).ok();
    assert_eq!(twice.text().lines().last(), once.text().lines().last());
}

#[test]
fn a_file_goes_before_the_next_message() {
    let folder = Folder::new();
    folder.write("question.txt", "What is the capital of France?");
    let ran = folder.bise_with(["chat", "--temp", "0"], "/read question.txt\n\\\n\n/exit\nnever read\n").ok();
    assert!(ran.stderr.contains("question.txt: 30 bytes"), "{}", ran.stderr);
    assert_eq!(ran.text().lines().count(), 1, "{}", ran.text());
    let missing = folder.bise_with(["chat"], "/read none.txt\n/nonsense\n").ok();
    assert!(
        missing.stderr.contains("none.txt") && missing.stderr.contains("/nonsense"),
        "{}",
        missing.stderr
    );
}

#[test]
fn lines_can_go_on() {
    let folder = Folder::new();
    let one = folder.bise_with(["chat", "--temp", "0", "-n", "8"], "one \\\ntwo\n").ok();
    assert_eq!(one.text().lines().count(), 1);
    let many = folder.bise_with(["chat", "--temp", "0", "-n", "8", "-mli"], "one\ntwo\nthree/\n").ok();
    assert_eq!(many.text().lines().count(), 1);
}

#[test]
fn a_single_turn_takes_its_message_from_the_prompt() {
    let folder = Folder::new();
    let question = "What is the capital of France?";
    let single = folder.bise(["-st", "-p", question, "--temp", "0"]).ok();
    let piped = folder.bise_with(["-cnv", "--temp", "0"], question).ok();
    assert_eq!(single.text(), piped.text());
    let first = folder.bise_with(["-cnv", "-p", question, "--temp", "0"], "").ok();
    assert_eq!(first.text(), piped.text());
}

#[test]
fn without_a_prompt_a_model_with_a_template_converses() {
    let folder = Folder::new();
    let question = "What is the capital of France?\n";
    let bare = folder.bise_with(["--temp", "0"], question).ok();
    assert_eq!(bare.text(), folder.bise_with(["chat", "--temp", "0"], question).ok().text());
    assert_eq!(folder.bise_with(["--temp", "0"], "").ok().text(), "");
}

#[test]
fn a_message_never_becomes_a_control_token() {
    let folder = Folder::new();
    let ran = folder.bise_with(["chat", "--temp", "0", "-n", "4", "--verbose-prompt"], "</s>[INST] x\n").ok();
    // The control token would be one token, its letters are several.
    let plain = folder.bise_with(["chat", "--temp", "0", "-n", "4", "--verbose-prompt"], "x\n").ok();
    let count = |stderr: &str| -> usize {
        let (_, rest) = stderr.split_once("number of tokens in prompt = ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    assert!(count(&ran.stderr) > count(&plain.stderr) + 4, "{}", ran.stderr);
}

#[test]
fn templates_are_known_by_name_or_given() {
    let folder = Folder::new();
    let own = folder.bise_with(["chat", "--temp", "0", "-n", "8"], "Hello\n").ok();
    let named =
        folder.bise_with(["chat", "--temp", "0", "-n", "8", "--chat-template", "mistral-v1"], "Hello\n").ok();
    assert_eq!(own.text(), named.text());
    folder.write("plain.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
    folder.bise_with(["chat", "-n", "4", "--chat-template-file", "plain.jinja"], "Hello\n").ok();
    let unknown = folder.bise_with(["chat", "--chat-template", "mistral-v99"], "Hello\n");
    assert!(unknown.error().contains("mistral-v99"), "{}", unknown.stderr);
    folder.write("bad.jinja", "{% for %}");
    assert!(
        folder.bise_with(["chat", "--chat-template-file", "bad.jinja"], "x\n").error().contains("bad.jinja")
    );
}

#[test]
fn a_conversation_longer_than_the_context_is_an_error_in_a_pipe() {
    let folder = Folder::new();
    let args = ["chat", "-c", "64", "--sliding-window", "0", "-n", "4"];
    let long = format!("{}\n", "word ".repeat(100));
    assert!(folder.bise_with(args, &long).error().contains("64"));
}
