//! What `bise chat` says of a template that does not take a conversation as it is.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use cli_support::Folder;

const NO_SYSTEM: &str = "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}";

#[test]
fn a_template_without_a_system_role_gets_it_in_the_first_turn() {
    let folder = Folder::new();
    let chat = |more: &[&str]| {
        let line = ["chat", "--chat-template", NO_SYSTEM, "--temp", "0", "-n", "8"];
        folder.bise_with(line.iter().chain(more).copied(), "Hi\nAnd you?\n").ok()
    };
    let merged = chat(&["-sys", "Be brief."]);
    let note = "the chat template has no system role";
    assert_eq!(merged.stderr.matches(note).count(), 1, "said once: {}", merged.stderr);
    assert!(!chat(&[]).stderr.contains(note));
    let by_hand = folder
        .bise(["chat", "--chat-template", NO_SYSTEM, "--temp", "0", "-n", "8", "-st", "-p", "Be brief.\nHi"])
        .ok();
    assert_eq!(merged.text().lines().next(), by_hand.text().lines().next());
}

#[test]
fn a_refusal_names_a_template_that_takes_the_conversation() {
    let folder = Folder::new();
    let never = "{{ '[INST]' }}{{ raise_exception('Never') }}";
    let ran = folder.bise(["chat", "--chat-template", never, "-p", "Hi", "-st", "-n", "1"]);
    assert_eq!(ran.code, 1);
    let error = ran.error();
    assert!(error.contains("Never") && error.contains("--chat-template mistral-v1"), "{error}");
}

#[test]
fn the_template_is_given_variables() {
    let folder = Folder::new();
    let chat = |kwargs: &str| {
        let template = "{{ raise_exception(mood ~ (' ' ~ n[1] if n else '')) }}";
        let line = ["chat", "--chat-template", template, "--chat-template-kwargs", kwargs, "-p", "Hi", "-st"];
        folder.bise(line)
    };
    assert!(chat(r#"{"mood": "calm", "n": [1, 2]}"#).error().contains("calm 2"));
    let wrong = chat("[1]");
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.stderr.contains("--chat-template-kwargs") && wrong.stderr.contains("JSON object"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn the_template_is_told_whether_to_think() {
    let folder = Folder::new();
    let chat = |flags: &[&'static str]| {
        let template = "{{ raise_exception('thinks: ' ~ (enable_thinking if enable_thinking is defined else 'as ever')) }}";
        let line = ["chat", "--chat-template", template, "-p", "Hi", "-st"];
        folder.bise(line.iter().chain(flags))
    };
    for (flags, thinks) in [
        (&[][..], "as ever"),
        (&["--reasoning", "auto"], "as ever"),
        (&["-rea", "off"], "False"),
        (&["--reasoning", "on"], "True"),
        (&["--reasoning", "on", "--chat-template-kwargs", r#"{"enable_thinking": false}"#], "False"),
        (&["--reasoning-format", "none", "--reasoning-budget", "-1"], "as ever"),
    ] {
        let ran = chat(flags);
        assert!(ran.error().contains(&format!("thinks: {thinks}")), "{flags:?}: {}", ran.stderr);
    }
    for flags in
        [&["--reasoning", "loud"][..], &["--reasoning-budget", "100"], &["--reasoning-effort", "high"]]
    {
        assert_eq!(chat(flags).code, 2, "{flags:?}");
    }
}
