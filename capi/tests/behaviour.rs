//! What the header promises, checked from C and C++: plainly, under sanitizers, and (when asked for) under valgrind.
#![cfg(feature = "builtin-model")]

mod support;

use support::{Build, command, compile, run, stderr, stdout, succeed, valgrind};

/// Programs that check themselves.
const CHECKS: [&str; 6] = [
    "tests/c/null.c",
    "tests/c/hostile.c",
    "tests/c/sessions.c",
    "tests/c/saved.c",
    "tests/c/threads.c",
    "tests/c/exceptions.cpp",
];

const EXAMPLES: [&str; 5] = [
    "examples/generate.c",
    "examples/embed.c",
    "examples/cancel.c",
    "examples/together.c",
    "examples/story.cpp",
];

#[test]
fn checks_pass() {
    for source in CHECKS {
        succeed(&mut command(&compile(source, Build::Shared)));
    }
}

#[test]
fn checks_and_examples_are_clean_under_sanitizers() {
    for source in CHECKS.iter().chain(&EXAMPLES) {
        succeed(&mut command(&compile(source, Build::Sanitized)));
    }
}

/// So that the test above can fail.
#[test]
fn a_session_that_is_not_freed_is_reported() {
    let mut leak = command(&compile("tests/c/leak.c", Build::Sanitized));
    // Without frame pointers in the library, its callers are found in the slow way only.
    let output = run(leak.env("ASAN_OPTIONS", "detect_leaks=1:fast_unwind_on_malloc=0"));
    assert!(!output.status.success());
    assert!(stderr(&output).contains("LeakSanitizer: detected memory leaks"), "{}", stderr(&output));
    assert!(stderr(&output).contains("bise_session_new"), "{}", stderr(&output));
}

#[test]
fn decoding_allocates_nothing() {
    let output = succeed(&mut command(&compile("tests/c/allocations.c", Build::Shared)));
    print!("{}", stdout(&output));
}

#[test]
#[ignore = "takes minutes: .ci/full"]
fn checks_and_examples_are_clean_under_valgrind() {
    for source in CHECKS.iter().chain(&EXAMPLES) {
        succeed(&mut valgrind(&compile(source, Build::Shared)));
    }
    let output = run(&mut valgrind(&compile("tests/c/leak.c", Build::Shared)));
    assert_eq!(output.status.code(), Some(99), "{}", stderr(&output));
    // Valgrind has no AVX-512, whatever the machine has.
    let output = succeed(valgrind(&compile("examples/generate.c", Build::Shared)).args(["-o", "isa=avx2"]));
    assert!(stderr(&output).contains(", avx2\n"), "{}", stderr(&output));
}
