//! The header is that of the code, and the library exports what it says, nothing else.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use support::{Build, capi, prefix, stdout, succeed};

#[test]
fn the_header_is_that_of_the_code() {
    let config = cbindgen::Config::from_file(capi().join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_crate(capi())
        .generate()
        .expect("cbindgen reads the code")
        .write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = capi().join("include/bise.h");
    if std::env::var_os("BISE_UPDATE_HEADER").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert!(
        kept == made,
        "include/bise.h is not that of the code: BISE_UPDATE_HEADER=1 cargo test -p bise-capi --test header"
    );
}

/// Functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(capi().join("include/bise.h")).unwrap();
    let mut in_comment = false;
    let lines = header.lines().filter(|line| {
        let starts = line.trim_start().starts_with("/*");
        let is_comment = in_comment || starts;
        in_comment = is_comment && !line.contains("*/");
        !is_comment
    });
    let code = lines.collect::<Vec<_>>().join("\n");
    let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '(' || c == '*'));
    let functions = words.filter_map(|word| Some(word.split_once('(')?.0.trim_start_matches('*')));
    functions.filter(|name| name.starts_with("bise_")).map(str::to_owned).collect()
}

#[test]
fn the_library_exports_what_the_header_declares() {
    let declared = declared();
    assert!(declared.len() > 60 && declared.contains("bise_session_next"), "{declared:?}");
    let library = prefix().join("lib/libbise.so");
    let output =
        succeed(Command::new("nm").args(["--dynamic", "--defined-only", "--format=posix"]).arg(library));
    let exported: BTreeSet<String> =
        stdout(&output).lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect();
    assert_eq!(exported, declared);
}

#[test]
fn every_function_is_called_with_null() {
    let test = fs::read_to_string(capi().join("tests/c/null.c")).unwrap();
    let missing: Vec<_> = declared().into_iter().filter(|name| !test.contains(&format!("{name}("))).collect();
    // They take no pointer.
    let without = ["bise_abi_version", "bise_status_name", "bise_version"];
    assert_eq!(missing, without);
}

#[test]
fn both_headers_stand_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("alone.c", "#include <bise.h>\nint main(void) { return bise_abi_version() != BISE_ABI_VERSION; }\n"),
        ("alone_c.cpp", "#include <bise.h>\nint main() { return bise_abi_version() != BISE_ABI_VERSION; }\n"),
        ("alone.cpp", "#include <bise.hpp>\nint main() { return bise_abi_version() != BISE_ABI_VERSION; }\n"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        succeed(&mut support::command(&support::compile_file(&path, Build::Shared)));
    }
}

#[test]
fn the_library_has_a_name_with_its_major_version() {
    let library = prefix().join("lib/libbise.so");
    let output = succeed(Command::new("readelf").arg("--dynamic").arg(library));
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    assert!(stdout(&output).contains(&format!("[libbise.so.{major}]")), "{}", stdout(&output));
}

/// The C of the README, built by its command.
#[test]
fn the_readmes_program_runs() {
    let readme = fs::read_to_string(capi().join("README.md")).unwrap();
    let code =
        readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program in C");
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("readme_story.c");
    fs::write(&source, code).unwrap();
    let story = succeed(&mut support::command(&support::compile_file(&source, Build::Shared)));
    assert!(stdout(&story).contains("a kind boy named Hugo"), "{}", stdout(&story));
}
