//! Every flag and variable of llama.cpp is obeyed, named in a warning, or refused by its whole word; none is dropped
//! silently, taken apart into other flags, or answered with the help.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;

use cli_support::{Folder, Ran};

/// A line of `golden/llama_cpp_flags.txt`.
struct Flag {
    spellings: Vec<&'static str>,
    n_values: usize,
    variable: Option<&'static str>,
}

fn flags(section: &str) -> Vec<Flag> {
    let file = include_str!("golden/llama_cpp_flags.txt");
    let start = file.find(&format!("[{section}]")).expect("the section is there");
    let lines = file[start..].lines().skip(1).take_while(|line| !line.starts_with('['));
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (rest, variable) = line.rsplit_once(' ').unwrap();
            let (spellings, n_values) = rest.rsplit_once(' ').unwrap();
            Flag {
                spellings: spellings.split(' ').collect(),
                n_values: n_values.parse().unwrap(),
                variable: Some(variable).filter(|v| *v != "-"),
            }
        })
        .collect()
}

/// What is as bise does anyway, and switches that undo others: they say nothing, and the help leaves them out.
const SILENT: &[&str] = &[
    "--display-prompt",
    "--flash-attn",
    "--jinja",
    "--log-colors",
    "--no-context-shift",
    "--no-log-jsonl",
    "--no-log-prefix",
    "--no-log-timestamps",
    "--no-mmproj",
    "--no-mmproj-auto",
    "--no-show-timings",
    "--no-warmup",
    "--perf",
    "--show-timings",
    "--skip-chat-parsing",
    "--spec-default",
    "-fa",
];

/// [`SILENT`], of `bise serve`.
#[cfg(feature = "server")]
const SILENT_SERVE: &[&str] = &[
    "--cache-prompt",
    "--cont-batching",
    "--cors-credentials",
    "--embedding",
    "--embeddings",
    "--flash-attn",
    "--jinja",
    "--log-colors",
    "--metrics",
    "--models-autoload",
    "--no-agent",
    "--no-context-shift",
    "--no-kv-unified",
    "--no-log-jsonl",
    "--no-log-prefix",
    "--no-log-timestamps",
    "--no-mmproj",
    "--no-mmproj-auto",
    "--no-skip-chat-parsing",
    "--no-ui-mcp-proxy",
    "--no-warmup",
    "--no-webui-mcp-proxy",
    "--perf",
    "--prefill-assistant",
    "--slots",
    "--spec-type",
    "--ui",
    "--webui",
    "-cb",
    "-fa",
    "-no-ag",
    "-no-kvu",
];

/// Variables for what is so anyway, and for flags whose other form is in the help.
const SILENT_VARIABLES: &[&str] = &[
    "LLAMA_ARG_DRAFT_MAX",
    "LLAMA_ARG_FLASH_ATTN",
    "LLAMA_ARG_JINJA",
    "LLAMA_ARG_LOG_COLORS",
    "LLAMA_ARG_NO_CONTEXT_SHIFT",
    "LLAMA_ARG_NO_LOG_JSONL",
    "LLAMA_ARG_NO_LOG_PREFIX",
    "LLAMA_ARG_NO_LOG_TIMESTAMPS",
    "LLAMA_ARG_NO_MMPROJ_AUTO",
    "LLAMA_ARG_NO_PERF",
    "LLAMA_ARG_NO_SHOW_TIMINGS",
    "LLAMA_ARG_NO_WARMUP",
    "LLAMA_ARG_OFFLINE",
    "LLAMA_ARG_PERF",
    "LLAMA_ARG_SHOW_TIMINGS",
    "LLAMA_ARG_SKIP_CHAT_PARSING",
];

/// [`SILENT_VARIABLES`], of `bise serve`.
#[cfg(feature = "server")]
const SILENT_VARIABLES_SERVE: &[&str] = &[
    "LLAMA_ARG_CACHE_PROMPT",
    "LLAMA_ARG_CONT_BATCHING",
    "LLAMA_ARG_CORS_CREDENTIALS",
    "LLAMA_ARG_EMBEDDINGS",
    "LLAMA_ARG_ENDPOINT_METRICS",
    "LLAMA_ARG_ENDPOINT_SLOTS",
    "LLAMA_ARG_FLASH_ATTN",
    "LLAMA_ARG_JINJA",
    "LLAMA_ARG_LOG_COLORS",
    "LLAMA_ARG_MODELS_AUTOLOAD",
    "LLAMA_ARG_NO_AGENT",
    "LLAMA_ARG_NO_CACHE_PROMPT",
    "LLAMA_ARG_NO_CORS_CREDENTIALS",
    "LLAMA_ARG_NO_ENDPOINT_SLOTS",
    "LLAMA_ARG_NO_KV_UNIFIED",
    "LLAMA_ARG_NO_LOG_JSONL",
    "LLAMA_ARG_NO_LOG_PREFIX",
    "LLAMA_ARG_NO_LOG_TIMESTAMPS",
    "LLAMA_ARG_NO_MMPROJ_AUTO",
    "LLAMA_ARG_NO_MODELS_AUTOLOAD",
    "LLAMA_ARG_NO_PREFILL_ASSISTANT",
    "LLAMA_ARG_NO_SKIP_CHAT_PARSING",
    "LLAMA_ARG_NO_UI",
    "LLAMA_ARG_NO_UI_MCP_PROXY",
    "LLAMA_ARG_PERF",
    "LLAMA_ARG_PREFILL_ASSISTANT",
    "LLAMA_ARG_SHOW_TIMINGS",
    "LLAMA_ARG_SPEC_TYPE",
    "LLAMA_ARG_UI",
];

/// A command that ends with exit code 1 where its flags are understood, and what it accepts without a word.
struct Program {
    line: &'static [&'static str],
    silent: &'static [&'static str],
    silent_variables: &'static [&'static str],
}

const GENERATE: Program = Program {
    line: &["-m", "none.gguf", "-p", "Once", "-n", "1"],
    silent: SILENT,
    silent_variables: SILENT_VARIABLES,
};

/// No socket can be made in a folder that is not there.
#[cfg(feature = "server")]
const SERVE: Program = Program {
    line: &["serve", "--host", "gone/bise.sock", "-m", "none.gguf"],
    silent: SILENT_SERVE,
    silent_variables: SILENT_VARIABLES_SERVE,
};

impl Program {
    fn help(&self, folder: &Folder) -> String {
        let command = self.line.first().filter(|word| !word.starts_with('-'));
        folder.bise(command.into_iter().chain(&["--help"])).ok().text().to_owned()
    }

    fn run(&self, folder: &Folder, spelling: &str, values: &[&str]) -> Ran {
        // Flags that say how another is meant stand beside it.
        let beside: &[&str] = match spelling {
            _ if self.line[0] != "serve" && spelling.starts_with("--prompt-cache-") => {
                &["--prompt-cache", "cache"]
            }
            "-hff" | "--hf-file" => &["-hf", "user/repo", "--offline"],
            "-hf" | "-hfr" | "--hf-repo" | "-mu" | "--model-url" => &["--offline"],
            _ => &[],
        };
        folder.bise(self.line_without(spelling).iter().chain(beside).chain(&[spelling]).chain(values))
    }

    /// Fails the test unless every flag is obeyed, named in a warning, or refused.
    fn check_flags(&self) {
        let folder = Folder::new();
        let help = self.help(&folder);
        let flags_of_help = help.split("Examples:").next().unwrap();
        let documented = |word: &str| {
            flags_of_help.split(|c: char| c.is_whitespace() || ",[]".contains(c)).any(|token| token == word)
        };
        let mut n = 0;
        for flag in flags("all programs but llama-bench") {
            for spelling in flag.spellings {
                n += 1;
                let values = vec![value(spelling); flag.n_values];
                let ran = self.run(&folder, spelling, &values);
                match ran.code {
                    // There is no such model, or no such folder, so this is as far as an accepted line gets.
                    1 => {
                        let warned = ran
                            .stderr
                            .lines()
                            .filter_map(|line| line.strip_prefix("bise: warning: "))
                            .any(|line| line.split(' ').next() == Some(spelling));
                        let silent = self.silent.contains(&spelling) || documented(spelling);
                        assert!(warned != silent, "{spelling}: {}", ran.stderr);
                    }
                    2 => assert_refused(&ran, spelling),
                    code => {
                        let asked = ["-h", "--help", "--usage", "--version"].contains(&spelling);
                        assert!(code == 0 && asked, "{spelling}: {code} {}", ran.stderr);
                    }
                }
            }
        }
        assert_eq!(n, 549);
    }

    /// Fails the test unless every variable is obeyed or named in a warning.
    fn check_variables(&self) {
        let folder = Folder::new();
        let help = self.help(&folder).split_whitespace().collect::<Vec<_>>().join(" ");
        let mut n = 0;
        for flag in flags("all programs but llama-bench") {
            let Some(name) = flag.variable.filter(|name| name.starts_with("LLAMA_ARG_")) else { continue };
            n += 1;
            let spelling = flag.spellings[flag.spellings.len() - 1];
            let mut command = folder.command(self.line_without(spelling));
            let ran = folder.finish(command.env(name, value(spelling)), b"");
            let documented = help.contains(&format!("[env: {name}]"));
            let refused = ran.code == 2 && documented && ran.stderr.contains(&format!("error: {spelling}"));
            assert!(ran.code == 1 || refused, "{name}: {}", ran.stderr);
            let named = ran.stderr.contains(&format!("bise: warning: {name}="));
            let quiet = self.silent_variables.contains(&name) || documented;
            assert!(named != quiet, "{name}: {}", ran.stderr);
        }
        assert!(n > 100, "{n}");
    }

    /// The line that a flag is added to: flags about many models stand without one.
    fn line_without(&self, spelling: &str) -> &[&str] {
        let of_many = ["--models-", "--no-models-"].iter().any(|start| spelling.starts_with(start));
        if of_many { &self.line[..self.line.len() - 2] } else { self.line }
    }
}

/// A value that the flag takes.
fn value(spelling: &str) -> &'static str {
    match spelling {
        "-m" | "--model" => "none.gguf",
        "-ctk" | "-ctv" | "--cache-type-k" | "--cache-type-v" => "f16",
        "-hf" | "-hfr" | "--hf-repo" => "user/repo",
        "-mu" | "--model-url" => "https://127.0.0.1/m.gguf",
        "-lm" | "--load-mode" => "mmap",
        "-co" | "--color" => "on",
        "-fa" | "--flash-attn" => "on",
        "-rea" | "--reasoning" => "off",
        "--reasoning-format" => "auto",
        "--api-prefix" => "/1",
        "--pooling" => "mean",
        "--log-colors" => "off",
        "--rope-scaling" => "linear",
        "--spec-type" => "none",
        "--samplers" => "top_k",
        "--sampler-seq" | "--sampling-seq" => "k",
        "--override-kv" => "a=int:1",
        "-l" | "--logit-bias" => "1+1",
        "--chat-template" => "mistral-v1",
        "--chat-template-kwargs" => "{}",
        _ => "1",
    }
}

fn run(folder: &Folder, spelling: &str, values: &[&str]) -> Ran {
    GENERATE.run(folder, spelling, values)
}

/// Fails the test unless a refusal names the whole word.
fn assert_refused(ran: &Ran, spelling: &str) {
    let quoted = ["'", " <", " [<"].map(|end| format!("'{spelling}{end}"));
    let at_once = ran.stderr.starts_with("error: ") && quoted.iter().any(|word| ran.stderr.contains(word));
    // What only the command itself can know.
    let later = ran.stderr.starts_with(&format!("bise: error: {spelling}"));
    assert!((at_once || later) && ran.stdout.is_empty(), "{spelling}: {}", ran.stderr);
}

#[test]
fn every_flag_is_obeyed_or_named() {
    GENERATE.check_flags();
}

#[cfg(feature = "server")]
#[test]
fn every_flag_is_obeyed_or_named_by_the_server() {
    SERVE.check_flags();
}

#[cfg(feature = "server")]
#[test]
fn the_server_says_why_it_takes_no_such_flag() {
    let folder = Folder::new();
    for (flag, words) in [
        (&["--ssl-key-file", "key.pem"][..], "a proxy in front"),
        (&["--ssl-cert-file", "cert.pem"], "a proxy in front"),
        (&["--path", "public"], "comes with the program"),
        (&["--slot-save-path", "slots"], "prompts are cached by themselves"),
        (&["--lora-scaled", "a.gguf"], "expected FILE:SCALE"),
        (&["--grammar", "root ::= \"a\""], "a request brings its own"),
        (&["-j", "{}"], "a request brings its own"),
        (&["--special"], "control tokens"),
        (&["--rerank"], "rerankers"),
        (&["--version"], "`bise --version`"),
        (&["-md", "draft.gguf"], "draft models are not supported"),
        (&["--embd-normalize", "0"], "expected 2"),
        (&["--reasoning-format", "deepseek-legacy"], "'deepseek-legacy'"),
        (&["--pooling", "rank"], "'rank'"),
        (&["--parallel", "0"], "--parallel: found 0"),
        (&["--api-prefix", "v2"], "--api-prefix: found 'v2'"),
    ] {
        let ran = SERVE.run(&folder, flag[0], &flag[1..]);
        assert_eq!(ran.code, 2, "{flag:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words) && ran.stdout.is_empty(), "{flag:?}: {}", ran.stderr);
    }
    for (flag, words) in [
        (&["--keep", "-1"][..], "--keep -1 has no effect: a context that is full ends the answer"),
        (&["--spec-default"], "--spec-default has no effect: the server drafts no tokens"),
        (&["--spec-type", "ngram-mod"], "--spec-type ngram-mod has no effect: the server drafts no tokens"),
        (&["--no-perf"], "--no-perf has no effect: answers come with their timings"),
        (&["--log-file", "a.log"], "--log-file a.log has no effect"),
    ] {
        let ran = SERVE.run(&folder, flag[0], &flag[1..]);
        assert_eq!(ran.code, 1, "{flag:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("bise: warning: {words}")), "{flag:?}: {}", ran.stderr);
    }
}

#[test]
fn a_value_that_makes_no_sense_is_refused_by_the_word_that_was_typed() {
    let folder = Folder::new();
    for spelling in [
        "-c",
        "--ctx-size",
        "--ctx_size",
        "-n",
        "-t",
        "-tb",
        "-b",
        "-ub",
        "-s",
        "-ctk",
        "--cache-type-v",
        "-lm",
        "-lv",
        "-co",
        "-fa",
        "--temp",
        "--top_k",
        "-l",
        "--rope-scaling",
        "--spec-type",
        "--mirostat",
    ] {
        let ran = run(&folder, spelling, &["zzz"]);
        assert_eq!(ran.code, 2, "{spelling}: {}", ran.stderr);
        assert!(ran.stderr.contains("'zzz'"), "{spelling}: {}", ran.stderr);
        assert_refused(&ran, spelling);
    }
}

#[test]
fn a_flag_without_its_value_is_refused() {
    let folder = Folder::new();
    for spelling in ["-m", "-n", "-ub", "-ngl", "--temp", "-p", "--numa"] {
        let ran = folder.bise([spelling]);
        assert_eq!(ran.code, 2, "{spelling}: {}", ran.stderr);
        assert_refused(&ran, spelling);
    }
    // The next flag is not taken for the name of a model.
    let ran = folder.bise(["-m", "-p", "Once"]);
    assert_eq!(ran.code, 2);
    assert_refused(&ran, "-m");
}

#[test]
fn words_with_one_dash_are_never_taken_apart() {
    let folder = Folder::new();
    for (word, hint) in [
        ("-temp", "'--temp'"),
        ("-predict", "'--predict'"),
        ("-ctx-size", "'--ctx-size'"),
        ("-nglx", ""),
        ("-ei", ""),
        ("-hi", ""),
        ("-h1", ""),
        ("-mmodel.gguf", "'-m model.gguf'"),
        ("-pOnce", "'-p Once'"),
    ] {
        let ran = run(&folder, word, &["1"]);
        assert_eq!(ran.code, 2, "{word}: {}", ran.stderr);
        assert_refused(&ran, word);
        assert!(ran.stderr.contains(hint), "{word}: {}", ran.stderr);
    }
    // What can only be one flag and its number is.
    assert!(run(&folder, "-t1", &[]).error().contains("none.gguf"));
    assert!(run(&folder, "-n=1", &[]).error().contains("none.gguf"));
}

#[test]
fn what_is_planned_or_needs_something_else_says_so() {
    let folder = Folder::new();
    for (line, words) in [
        (&["-hf", "user"][..], "USER/NAME"),
        (&["-mu", "m.gguf"], "https://"),
        (&["-hf", "user/repo", "-mu", "https://a/b.gguf"], "both name a model"),
        (&["-dr", "ai/mistral"], "-hf"),
        (&["-md", "draft.gguf"], "--spec-type ngram"),
        (&["-cl"], "`bise list`"),
        (&["--lora-init-without-apply"], "as soon as they are loaded"),
        (&["--port", "8080"], "`bise serve`"),
        (&["--mmproj", "v.gguf"], "images"),
        (&["--chunks", "2"], "`bise perplexity`"),
        (&["bench", "-st"], "`bise` without a command"),
    ] {
        let ran = folder.bise(line);
        assert_eq!(ran.code, 2, "{line:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{line:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty());
    }
}

#[test]
fn flags_that_ask_for_what_is_not_so_are_named() {
    let folder = Folder::new();
    let warnings = |line: &[&str]| {
        let ran = folder.bise(["-p", "Once", "-n", "1"].iter().chain(line)).ok();
        ran.stderr
            .lines()
            .filter_map(|l| l.strip_prefix("bise: warning: ").map(str::to_string))
            .collect::<Vec<_>>()
    };
    for line in
        ["-fa off", "-fa 0", "--log-file x.log", "--log-prefix", "--log-timestamps", "-v", "--no-jinja"]
    {
        let line: Vec<&str> = line.split(' ').collect();
        let warned = warnings(&line);
        assert_eq!(warned.len(), 1, "{line:?}: {warned:?}");
        assert!(warned[0].starts_with(&format!("{} has no effect: ", line.join(" "))), "{warned:?}");
    }
    assert_eq!(warnings(&["-lv", "5"]), ["-lv 5 says no more than -lv 3"]);
    for line in [
        &["-fa"][..],
        &["-fa", "on"],
        &["-fa", "auto"],
        &["--jinja"],
        &["--log-colors", "off"],
        &["-lv", "3"],
    ] {
        assert_eq!(warnings(line), [""; 0], "{line:?}");
    }
}

#[test]
fn verbosity_is_obeyed() {
    let folder = Folder::new();
    let stderr =
        |line: &[&str]| folder.bise(["-p", "Once", "-n", "1", "-ngl", "1"].iter().chain(line)).ok().stderr;
    assert!(stderr(&[]).lines().count() > 1);
    assert_eq!(
        stderr(&["-lv", "2"]).lines().collect::<Vec<_>>(),
        ["bise: warning: -ngl 1 has no effect: bise computes on the CPU alone"]
    );
    for line in [&["-lv", "1"][..], &["--verbosity", "0"], &["--log-disable"], &["--log-verbosity", "1"]] {
        assert_eq!(stderr(line), "", "{line:?}");
    }
    assert_eq!(
        folder.bise(["bench", "-p", "1", "-n", "0", "-r", "1", "-ngl", "1", "--log-disable"]).ok().stderr,
        ""
    );
}

#[test]
fn every_variable_is_obeyed_or_named() {
    GENERATE.check_variables();
}

#[cfg(feature = "server")]
#[test]
fn every_variable_is_obeyed_or_named_by_the_server() {
    SERVE.check_variables();
}

#[test]
fn variables_do_what_their_flags_do() {
    let folder = Folder::new();
    let with = |name: &str, value: &str, line: &[&str]| {
        let mut command = folder.command(["-p", "Once upon a time", "-s", "1"].iter().chain(line));
        folder.finish(command.env(name, value), b"")
    };
    let text =
        |line: &[&str]| folder.bise(["-p", "Once upon a time", "-s", "1"].iter().chain(line)).ok().stdout;
    let n = ["-n", "8"];
    assert_eq!(with("LLAMA_ARG_TEMPERATURE", "0", &n).ok().stdout, text(&["-n", "8", "--temp", "0"]));
    assert_ne!(text(&["-n", "8", "--temp", "0"]), text(&["-n", "8", "--temp", "9"]));
    // What is typed has the last word.
    assert_eq!(with("LLAMA_ARG_N_PREDICT", "3", &n).ok().stdout, text(&n));
    let perf = |name, value, line: &[&str]| with(name, value, line).ok().stderr.contains("per second");
    assert!(perf("LLAMA_ARG_PERF", "1", &n));
    assert!(!perf("LLAMA_ARG_PERF", "0", &n));
    assert!(!perf("LLAMA_ARG_NO_PERF", "1", &n));
    assert!(perf("LLAMA_ARG_NO_PERF", "1", &["-n", "8", "--perf"]));

    let ran = with("LLAMA_ARG_CTX_SIZE", "many", &n);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("'many' for 'LLAMA_ARG_CTX_SIZE'"), "{}", ran.stderr);
    let ran = with("LLAMA_ARG_MLOCK", "perhaps", &n);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("'perhaps' for 'LLAMA_ARG_MLOCK'"), "{}", ran.stderr);
    // bise once read this name, which nobody has.
    let ran = with("LLAMA_ARG_TEMP", "0", &n).ok();
    assert!(
        ran.stderr.contains("LLAMA_ARG_TEMP=0 is not understood: did you mean LLAMA_ARG_TEMPERATURE?"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_flags_of_llama_bench_are_those_of_bench() {
    let folder = Folder::new();
    for flag in flags("llama-bench") {
        for spelling in flag.spellings {
            let value = match spelling {
                "-m" | "--model" => "none.gguf",
                "-pg" => "1,1",
                "-o" | "--output" | "-oe" | "--output-err" => "md",
                "-hf" | "-hfr" | "--hf-repo" => "user/repo",
                "-mu" | "--model-url" => "https://127.0.0.1/m.gguf",
                "-lm" | "--load-mode" => "mmap",
                "-ctk" | "-ctv" | "--cache-type-k" | "--cache-type-v" => "f16",
                _ => "1",
            };
            let line = ["bench", "-m", "none.gguf", spelling];
            let ran = folder.bise(line.iter().chain([value; 1][..flag.n_values].iter()));
            match ran.code {
                1 => {}
                2 => assert_refused(&ran, spelling),
                code => assert!(code == 0 && spelling == "--version", "{spelling}: {}", ran.stderr),
            }
        }
    }
    let ran = folder
        .bise(["bench", "-p", "1", "-n", "0", "-r", "1", "-nkvo", "0", "--repack", "1", "-fa", "0,1"])
        .ok();
    let warned: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("has no effect")).collect();
    assert_eq!(warned.len(), 2, "{}", ran.stderr);
}

#[test]
fn words_without_a_flag_are_told_what_to_type() {
    let folder = Folder::new();
    folder.model();
    folder.write("notes", "x");
    for (line, words) in [
        (&["model.gguf"][..], "type `bise -m model.gguf`"),
        (&["gone.gguf"], "type `bise -m gone.gguf`"),
        (&["notes"], "type `bise -m notes`"),
        (&["server"], "`bise serve -m FILE.gguf`"),
        (&["download", "mistral"], "`bise pull NAME`"),
        (&["info", "model.gguf"], "bise inspect"),
        (&["insepct", "model.gguf"], "did you mean `bise inspect`?"),
        (&["Once upon a time"], "type `bise -p 'Once upon a time'`"),
        (&["-n", "3", "Once"], "type `bise -p Once`"),
        (&["-m", "model.gguf", "inspect"], "comes first: type `bise inspect -m model.gguf`"),
        (&["-m", "model.gguf", "Hello"], "type `bise -p Hello`"),
        (&["chat", "model.gguf"], "type `bise chat -m model.gguf`"),
        (&["tokenize", "Hello"], "type `bise tokenize -p Hello`"),
        (&["bench", "model.gguf"], "type `bise bench -m model.gguf`"),
        (&["perplexity", "wiki.txt"], "type `bise perplexity -f wiki.txt`"),
        (&["inspect", "model.gguf", "other"], "'other'"),
        (&["-c", "-1", "-p", "x"], "0"),
        (&["-p", "x", "--", "y"], "'y'"),
        (&[""], "''"),
    ] {
        let ran = folder.bise(line);
        assert_eq!(ran.code, 2, "{line:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(words), "{line:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{line:?}");
    }
}
