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

/// The messages in a file that `/save` wrote: role and content.
fn saved(folder: &Folder, name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder.path(name)).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let field = |message: &serde_json::Value, name: &str| message[name].as_str().unwrap().to_owned();
    let messages = value["messages"].as_array().unwrap().iter();
    messages.map(|message| (field(message, "role"), field(message, "content"))).collect()
}

fn contents(folder: &Folder, name: &str) -> Vec<String> {
    saved(folder, name).into_iter().map(|(_, content)| content).collect()
}

#[test]
fn commands_need_no_end_of_a_multiline_message() {
    let folder = Folder::new();
    let input = "/help\none\n/regen\ntwo/\n/save talk.json\n/set temp 0.5\n/exit\n";
    let ran = folder.bise_with(["chat", "--temp", "0", "-n", "4", "-mli"], input).ok();
    assert!(ran.stderr.contains("/forget"), "{}", ran.stderr);
    // Only a first line can be a command.
    assert_eq!(saved(&folder, "talk.json")[0], ("user".to_owned(), "one\n/regen\ntwo".to_owned()));
}

#[test]
fn a_command_without_what_it_needs_says_so() {
    let folder = Folder::new();
    let ran = folder.bise_with(["chat"], "/read\n/save\n/load\n/set temp\n").ok();
    assert!(
        ran.stderr.contains("/read: found nothing after it, expected the name of a file"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.matches("found nothing after it").count(), 4, "{}", ran.stderr);
    assert_eq!(ran.text(), "");
}

#[test]
fn a_conversation_is_saved_and_gone_on_with() {
    let folder = Folder::new();
    let chat = |input: &str| folder.bise_with(["chat", "--temp", "0", "-sys", "Be brief."], input).ok();
    let whole = chat("What is the capital of France?\nAnd of Italy?\n/save whole.json\n");
    chat("What is the capital of France?\n/save half.json\n");
    let half = saved(&folder, "half.json");
    assert_eq!(
        half.iter().map(|(role, _)| role.as_str()).collect::<Vec<_>>(),
        ["system", "user", "assistant"]
    );
    let rest =
        folder.bise_with(["chat", "--temp", "0"], "/load half.json\nAnd of Italy?\n/save again.json\n").ok();
    assert_eq!(saved(&folder, "again.json"), saved(&folder, "whole.json"));
    assert_eq!(Some(rest.text().trim_end()), whole.text().lines().nth(1));
    // What cannot be loaded changes nothing.
    folder.write("bad.json", "{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}");
    let ran = chat("Hello\n/load bad.json\n/load none.json\n/save after.json\n");
    assert!(ran.stderr.contains("bad.json: message 0"), "{}", ran.stderr);
    assert!(ran.stderr.contains("none.json"), "{}", ran.stderr);
    assert_eq!(contents(&folder, "after.json")[..2], ["Be brief.", "Hello"]);
}

#[test]
fn what_is_forgotten_was_never_said() {
    let folder = Folder::new();
    let chat = |input: &str| folder.bise_with(["chat", "--temp", "0", "-n", "16"], input).ok();
    let ran = chat("What is the capital of France?\nTell me a story.\n/forget\nThank you.\n/save a.json\n");
    chat("What is the capital of France?\nThank you.\n/save b.json\n");
    assert_eq!(saved(&folder, "a.json"), saved(&folder, "b.json"), "{}", ran.text());
    assert!(chat("/forget\n").stderr.contains("nothing to forget"));
}

#[test]
fn the_system_prompt_can_be_replaced() {
    let folder = Folder::new();
    let input = "/system\n/system Be brief.\n/system\nHello\n/save a.json\n/system \"\"\n/save b.json\n";
    let ran = folder.bise_with(["chat", "--temp", "0", "-n", "4"], input).ok();
    assert!(ran.stderr.contains("there is no system prompt\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nBe brief.\n"), "{}", ran.stderr);
    assert_eq!(saved(&folder, "a.json")[0], ("system".to_owned(), "Be brief.".to_owned()));
    assert_eq!(saved(&folder, "b.json")[0], ("user".to_owned(), "Hello".to_owned()));
}

#[test]
fn sampling_parameters_can_be_set() {
    let folder = Folder::new();
    let greedy = folder.bise_with(["chat", "--temp", "0", "-n", "24"], "Tell me a story.\n").ok();
    let input = "/set temp 0\n/set\n/set tmep 1\n/set top-k many\nTell me a story.\n";
    let ran = folder.bise_with(["chat", "--temp", "30", "-n", "24", "--top-k", "0"], input).ok();
    assert_eq!(ran.text(), greedy.text());
    assert!(ran.stderr.contains("\ntemp 0\n") && ran.stderr.contains("\ntop_k 0\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("no sampling parameter is called \"tmep\""), "{}", ran.stderr);
    assert!(ran.stderr.contains("top_k is \"many\""), "{}", ran.stderr);
}

#[test]
fn a_reverse_prompt_returns_to_the_user() {
    let folder = Folder::new();
    let chat = |more: &[&str]| {
        let input = "Tell me a story.\n/save talk.json\n";
        folder.bise_with(["chat", "--temp", "0", "-n", "40"].iter().chain(more), input).ok()
    };
    let whole = chat(&[]);
    // Within a word, so that it ends inside a token, and over two words, so that it spans tokens.
    let words: Vec<&str> = whole.text().split_whitespace().collect();
    for stop in [format!("{} {}", words[4], words[5]), words[7][..words[7].len() - 1].to_owned()] {
        let ran = chat(&["-r", "never said", "-r", &stop]);
        let at = whole.text().find(&stop).unwrap();
        assert_eq!(ran.text(), format!("{}\n", &whole.text()[..at + stop.len()]));
        assert_eq!(contents(&folder, "talk.json")[1], ran.text().trim_end());
    }
    // A control token is no text, but can be waited for: here the end token, which is no end any more.
    let ended = chat(&["--ignore-eos", "-l", "2+1000", "-r", "</s>"]);
    assert_eq!(ended.text().lines().count(), 1, "{}", ended.text());
}

#[test]
fn texts_around_lines_take_the_place_of_the_template() {
    let folder = Folder::new();
    let line =
        ["-cnv", "--temp", "0", "-n", "12", "--in-prefix", "Q: ", "--in-suffix", "\\nA:", "--verbose-prompt"];
    let ran = folder.bise_with(line.iter().chain(&["-sys", "Be brief."]), "Who are you?\n").ok();
    let raw = folder
        .bise(["-no-cnv", "-p", "Q: Who are you?\nA:", "--temp", "0", "-n", "12", "--verbose-prompt"])
        .ok();
    let answer = raw.text().strip_prefix("Q: Who are you?\nA:").unwrap();
    // The texts around are not repeated in a conversation, and the line counts among the tokens asked for.
    assert!(ran.text().len() > 10 && answer.trim().starts_with(ran.text().trim()), "{} {answer}", ran.text());
    assert!(!ran.text().contains("Q:"), "{}", ran.text());
    assert!(ran.stderr.contains("take the place of the chat template"), "{}", ran.stderr);
    assert!(ran.stderr.contains("--system-prompt has no effect"), "{}", ran.stderr);
    let bos = |args: &[&str]| {
        let ran =
            folder.bise_with(["--temp", "0", "-n", "1", "--verbose-prompt"].iter().chain(args), "Hi\n").ok();
        ran.stderr.matches(" -> '<s>'").count()
    };
    assert_eq!((bos(&["--in-prefix", "x"]), bos(&["--in-prefix-bos"])), (1, 2));
    // Where nobody is asked, that is said.
    let unused = folder.bise(["-p", "Hello", "-n", "1", "--in-prefix", "x"]).ok();
    assert!(unused.stderr.contains("--in-prefix"), "{}", unused.stderr);
}

#[test]
fn a_full_context_shifts_in_the_middle_of_an_answer() {
    let folder = Folder::new();
    let line = ["chat", "--temp", "0", "-c", "64", "--sliding-window", "0", "--ignore-eos", "-n", "100"];
    let input = "Tell me a story.\nGo on.\n/save talk.json\n";
    let ends = folder.bise_with(line, "Tell me a story.\n").ok();
    assert!(ends.stderr.contains("the context of 64 tokens is full"), "{}", ends.stderr);
    for keep in ["0", "-1"] {
        let shifts = folder.bise_with(line.iter().chain(&["--context-shift", "--keep", keep]), input).ok();
        assert!(!shifts.stderr.contains("tokens is full"), "{}", shifts.stderr);
        assert!(shifts.stderr.contains("/   200 tokens"), "{}", shifts.stderr);
    }
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
    // Nor is it listed as one, unlike the template's.
    let listed =
        |piece: &str| ran.stderr.lines().filter(|line| line.ends_with(&format!("-> '{piece}'"))).count();
    assert_eq!((listed("</s>"), listed("<s>")), (0, 1), "{}", ran.stderr);
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
    assert!(unknown.misuse().contains("mistral-v99"), "{}", unknown.stderr);
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
