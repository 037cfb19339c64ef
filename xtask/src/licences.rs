//! The licences of everything that a program for some target is made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One text: the crates in order of their names, each with its licence files. Crates whose files are equal share them.
///
/// # Errors
/// Cargo fails, or a crate names no licence.
pub fn third_party(target: &str) -> Result<String> {
    let args = ["metadata", "--format-version=1", "--locked", "--filter-platform", target];
    let output = Command::new(env!("CARGO")).args(args).output().context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut by_text: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in linked(&metadata)? {
        let name = format!("{} {}", text(package, "name")?, text(package, "version")?);
        let licence = package["license"].as_str().unwrap_or("see below");
        let files = licence_files(package)?;
        ensure!(package["license"].is_string() || !files.is_empty(), "{name}: names no licence");
        by_text.entry(files).or_default().push(format!("{name} ({licence})"));
    }
    let mut sections: Vec<(Vec<String>, String)> =
        by_text.into_iter().map(|(text, names)| (names, text)).collect();
    sections.sort();
    let mut all = String::from("bise is built from these crates, besides its own.\n");
    for (names, text) in sections {
        write!(all, "\n{}\n{}\n\n{text}", "-".repeat(80), names.join("\n"))?;
    }
    Ok(all)
}

/// The packages that end up in the program: what `bise` depends on, but for building and testing; not those of this repository.
fn linked(metadata: &Value) -> Result<Vec<&Value>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages: HashMap<&str, &Value> = metadata["packages"]
        .as_array()
        .context("cargo metadata: no packages")?
        .iter()
        .map(|package| Ok((text(package, "id")?, package)))
        .collect::<Result<_>>()?;
    let nodes = list(&metadata["resolve"]["nodes"]);
    let mut dependencies: HashMap<&str, Vec<&str>> = HashMap::new();
    for node in &nodes {
        let dependencies = dependencies.entry(text(node, "id")?).or_default();
        for dependency in node["deps"].as_array().into_iter().flatten() {
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                dependencies.push(text(dependency, "pkg")?);
            }
        }
    }
    let root = packages.iter().find(|(_, package)| package["name"] == "bise").context("no package bise")?.0;
    let (mut seen, mut next) = (BTreeSet::new(), vec![*root]);
    while let Some(id) = next.pop() {
        if seen.insert(id) {
            next.extend(dependencies.get(id).into_iter().flatten());
        }
    }
    // A source is where it was downloaded from.
    let linked = seen.iter().map(|id| packages[id]).filter(|package| package["source"].is_string());
    Ok(linked.filter(|package| !is_proc_macro(package)).collect())
}

fn is_proc_macro(package: &Value) -> bool {
    package["targets"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|target| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "proc-macro")))
}

/// The texts of a package's licence files.
fn licence_files(package: &Value) -> Result<String> {
    let folder = Path::new(text(package, "manifest_path")?).parent().context("a manifest in no folder")?;
    let mut names: Vec<String> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            let name = name.to_ascii_uppercase();
            ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
                .iter()
                .any(|word| name.starts_with(word))
        })
        .collect();
    names.sort();
    let mut all = String::new();
    for name in names {
        let path = folder.join(&name);
        if path.is_file() {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            writeln!(all, "{}\n", text.replace("\r\n", "\n").trim())?;
        }
    }
    Ok(all)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("cargo metadata: no {key}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_linked_is_listed_and_nothing_else() {
        let all = super::third_party("x86_64-unknown-linux-gnu").unwrap();
        let line =
            |name: &str| all.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains(" ("));
        for linked in ["clap", "half", "indexmap", "jiff", "memmap2", "regex-automata", "serde_json"] {
            assert!(line(linked), "{linked}");
        }
        // Test tools, procedural macros, other systems, and ourselves.
        for other in ["proptest", "criterion", "clap_derive", "windows-sys", "bise-kernels", "zip"] {
            assert!(!line(other), "{other}");
        }
        assert!(all.contains("Permission is hereby granted"));
    }
}
