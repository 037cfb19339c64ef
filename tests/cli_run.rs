//! `bise run`: one answer, or a conversation with the commands of `ollama run`.

#![cfg(all(feature = "cli", feature = "hub", feature = "builtin-model"))]

mod cli_support;

use cli_support::Folder;

const QUESTION: &str = "What do you like?";

/// What `bise chat` answers with these flags.
fn answer(folder: &Folder, flags: &[&str]) -> String {
    let line = ["chat", "-p", QUESTION, "-st", "-n", "12", "--no-perf"];
    folder.bise(line.iter().chain(flags)).ok().text().to_string()
}

#[test]
fn a_prompt_is_answered_once() {
    let folder = Folder::new();
    let want = answer(&folder, &["--temp", "0"]);
    let flags = ["--temp", "0", "-n", "12"];
    let ran = folder.bise(["run", "builtin", "What", "do", "you", "like?"].iter().chain(&flags)).ok();
    assert_eq!((ran.text(), ran.stderr.as_str()), (want.as_str(), ""));
    let piped = folder.bise_with(["run", "builtin"].iter().chain(&flags), format!("{QUESTION}\n")).ok();
    assert_eq!(piped.text(), want);
    let both = folder.bise_with(["run", "builtin", "you", "like?"].iter().chain(&flags), "What do\n").ok();
    assert_eq!(both.text(), want);
    let verbose = folder.bise(["run", "builtin", "--verbose", QUESTION].iter().chain(&flags)).ok();
    assert!(verbose.text() == want && verbose.stderr.contains("tokens per second"), "{}", verbose.stderr);
    // A file works as a name does.
    folder.model();
    assert_eq!(folder.bise(["run", "model.gguf", QUESTION].iter().chain(&flags)).ok().text(), want);
}

#[test]
fn a_modelfile_decides_where_no_flag_does() {
    let folder = Folder::new();
    folder.model();
    let text = "FROM ./model.gguf\nPARAMETER temperature 0\nPARAMETER num_predict 12\nPARAMETER num_gpu 1\nSYSTEM Be kind.\n";
    folder.write("Modelfile", text);
    folder.bise(["create", "kind"]).ok();
    let ran = folder.bise(["run", "kind", QUESTION]).ok();
    assert_eq!(ran.text(), answer(&folder, &["--temp", "0", "-sys", "Be kind."]));
    assert!(
        ran.stderr.contains("PARAMETER num_gpu 1 has no effect: bise computes on the CPU"),
        "{}",
        ran.stderr
    );
    let typed = folder.bise(["run", "kind", QUESTION, "--temp", "2", "-s", "7", "-sys", "Be short."]).ok();
    assert_eq!(typed.text(), answer(&folder, &["--temp", "2", "-s", "7", "-sys", "Be short."]));
    folder.write("stops", "FROM kind\nPARAMETER stop \" \"\n");
    folder.bise(["create", "stops", "-f", "stops"]).ok();
    let short = folder.bise(["run", "stops", QUESTION]).ok();
    assert!(ran.text().starts_with(short.text().trim_end()) && short.text().len() < ran.text().len());
}

#[test]
fn a_conversation_takes_the_commands_of_ollama() {
    let folder = Folder::new();
    folder.model();
    let lines = "\
/set parameter temperature 0
/set system Be kind.
/show system
/show
/?
/save me/kind
/list
/show nonsense
/load me/kind
/show system
\"\"\"What do
you like?\"\"\"
/bye
";
    let ran = folder.bise_with(["run", "./model.gguf", "--simple-io", "-n", "12"], lines).ok();
    for words in [
        "Be kind.",
        "architecture",
        "/save MODEL",
        "created new model 'me/kind:latest'",
        "NAME",
        "found \"nonsense\", expected info",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert_eq!(
        ran.stderr.matches("Be kind.").count(),
        2,
        "the saved model has the system prompt: {}",
        ran.stderr
    );
    let line = [
        "chat",
        "-p",
        "What do\nyou like?",
        "-st",
        "-n",
        "12",
        "--temp",
        "0",
        "-sys",
        "Be kind.",
        "--no-perf",
    ];
    assert_eq!(ran.text(), folder.bise(line).ok().text());
    assert_eq!(folder.bise(["show", "me/kind", "--parameters"]).ok().text(), "temperature 0.0\n");
}

#[test]
fn what_is_no_model_is_named() {
    let folder = Folder::new();
    assert!(folder.bise(["run"]).misuse().contains("bise run mistral"));
    let ran = folder.bise(["run", "mistral", "--offline", "x"]);
    assert!(ran.error().contains("hf.co/MaziyarPanahi/Mistral-7B-Instruct-v0.3-GGUF"), "{}", ran.stderr);
    let ran = folder.bise(["run", "no-such-model", "--offline", "x"]);
    assert!(ran.error().contains("no-such-model:latest is not on this machine"), "{}", ran.stderr);
}
