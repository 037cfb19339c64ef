//! `bise compare`: its numbers are those of llama-perplexity, and it says why models cannot be compared.

#![cfg(all(feature = "cli", feature = "compare", feature = "builtin-model"))]

mod cli_support;

use cli_support::Folder;
use serde_json::Value;

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kl_divergence.base");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/imatrix.txt");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tests/oracles/plain_f32.gguf");
const OTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tests/oracles/rope_linear.gguf");
const HALVES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tests/oracles/plain_f16.gguf");

fn near(value: &Value, expected: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("found {value}, expected {expected}"));
    assert!((found - expected).abs() <= 2e-3 * expected.abs(), "found {found}, expected {expected}");
}

#[test]
fn numbers_are_those_of_llama_perplexity() {
    let folder = Folder::new();
    let args = ["compare", MODEL, OTHER, HALVES, "-f", TEXT, "-c", "24", "--chunks", "10", "--no-escape"];
    let more = ["-p", "8", "-n", "2", "-r", "2", "--json", "--plot", "plot.svg"];
    let report: Value = serde_json::from_str(folder.bise(args.iter().chain(&more)).ok().text()).unwrap();
    assert_eq!((&report["n_positions"], &report["n_chunks"]), (&110.into(), &10.into()));
    assert_eq!(report["reference"], MODEL);
    let models = report["models"].as_array().unwrap();
    let [reference, other, halves] = models.as_slice() else { panic!("{report}") };
    // tests/golden/kl_divergence.txt
    near(&reference["perplexity"]["value"], 414.385619);
    near(&reference["perplexity"]["error"], 28.243498);
    assert!(reference["kl_divergence"].is_null());
    near(&other["perplexity"]["value"], 438.014533);
    near(&other["perplexity_ratio"]["value"], 1.057022);
    near(&other["kl_divergence"]["mean"], 0.031423);
    near(&other["kl_divergence"]["error"], 0.001609);
    near(&other["kl_divergence"]["99"], 0.074648);
    near(&other["kl_divergence"]["max"], 0.110075);
    near(&other["same_top"]["value"], 0.69091);
    near(&other["same_top"]["error"], 0.04426);
    near(&other["correlation"], 0.9445);
    near(&halves["perplexity"]["value"], 414.281516);
    assert_eq!(halves["same_top"]["value"], 1.0);
    assert_eq!(reference["file_bytes"], std::fs::metadata(MODEL).unwrap().len());
    near(&reference["bits_per_weight"], 32.0);
    assert!(halves["bits_per_weight"].as_f64().unwrap() < 17.0);
    for model in models {
        for speed in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
            let samples: Vec<f64> =
                model[speed]["samples"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert!(samples.len() == 2 && samples.iter().all(|x| *x > 0.0), "{model}");
            near(&model[speed]["median"], samples.iter().sum::<f64>() / 2.0);
        }
        assert!(model["memory_bytes"].as_u64().unwrap() > model["file_bytes"].as_u64().unwrap());
    }
    let svg = std::fs::read_to_string(folder.path("plot.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    // Two models have a divergence, three a perplexity.
    assert_eq!(svg.matches("<circle ").count(), 5);
    assert!(
        ["plain_f32", "rope_linear", "F16"].iter().all(|name| svg.contains(&format!(">{name}<"))),
        "{svg}"
    );
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn a_base_takes_the_place_of_the_first_model() {
    let folder = Folder::new();
    folder.write("plot.svg", "mine");
    let args = ["compare", OTHER, MODEL, "--kl-divergence-base", BASE, "-r", "0"];
    let ran = folder.bise(args).ok();
    let rows: Vec<&str> = ran.text().lines().collect();
    assert!(rows[0].starts_with("| model ") && rows[1].starts_with("| ---"), "{}", ran.text());
    let cells: Vec<&str> = rows[2].split('|').map(str::trim).collect();
    assert!(cells[1] == "rope_linear.gguf" && cells[5].starts_with("0.0314"), "{cells:?}");
    assert!(cells[8].starts_with("69.09%") && cells[9] == "–", "{cells:?}");
    // The model that the base was made with.
    let cells: Vec<&str> = rows[3].split('|').map(str::trim).collect();
    assert!(cells[5].contains("0.000000 ±") && cells[8].starts_with("100.00%"), "{cells:?}");
    assert!(ran.text().contains("110 positions") && ran.text().contains("not measured"), "{}", ran.text());
    let plot = folder.bise(args.iter().chain(&["--plot", "plot.svg"]));
    assert!(plot.error().contains("--force"), "{}", plot.stderr);
    assert_eq!(std::fs::read(folder.path("plot.svg")).unwrap(), b"mine");
}

#[test]
fn what_cannot_be_compared_is_named() {
    let folder = Folder::new();
    folder.write("short.txt", "Once");
    let tiny = folder.model();
    let tiny = tiny.to_str().unwrap();
    let ran = folder.bise(["compare", MODEL, tiny, "-f", TEXT]);
    for words in ["model.gguf", "plain_f32.gguf", "found 4096, expected 272"] {
        assert!(ran.error().contains(words), "{}", ran.stderr);
    }
    let ran = folder.bise(["compare", tiny, "--kl-divergence-base", BASE]);
    assert!(ran.error().contains("found 272, expected 4096"), "{}", ran.stderr);
    let ran = folder.bise(["compare", MODEL, OTHER, "-f", "short.txt"]);
    assert!(ran.error().contains("at least 1024"), "{}", ran.stderr);
    assert!(folder.bise(["compare", MODEL]).misuse().contains("--file"));
    let ran = folder.bise(["compare", MODEL, "--kl-divergence-base", BASE, "-c", "32"]);
    assert!(ran.misuse().contains("found 32, expected 24"), "{}", ran.stderr);
    assert!(folder.bise(["compare", "none.gguf", MODEL, "-f", TEXT]).error().contains("none.gguf"));
}

#[test]
fn what_is_read_is_not_overwritten_even_with_force() {
    let folder = Folder::new();
    for (name, original) in [("m.gguf", MODEL), ("t.txt", TEXT), ("b.base", BASE)] {
        folder.write(name, std::fs::read(original).unwrap());
        let text = if name == "b.base" { ["--kl-divergence-base", "b.base"] } else { ["-f", "t.txt"] };
        folder.write("t.txt", std::fs::read(TEXT).unwrap());
        folder.write("m.gguf", std::fs::read(MODEL).unwrap());
        let ran = folder.bise(["compare", OTHER, "m.gguf", "--plot", name, "--force"].iter().chain(&text));
        assert!(ran.error().contains(&format!("{name}: found a file that is read here")), "{}", ran.stderr);
        assert!(std::fs::read(folder.path(name)).unwrap() == std::fs::read(original).unwrap());
    }
}

#[test]
fn a_model_that_fails_is_named_and_the_others_are_compared() {
    let folder = Folder::new();
    let file = bise::gguf::GgufFile::open(MODEL).unwrap();
    let norm = file.require_tensor("output_norm.weight").unwrap().offset;
    let mut bad = std::fs::read(MODEL).unwrap();
    bad[norm..norm + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.write("bad.gguf", bad);
    let args = ["compare", MODEL, "bad.gguf", OTHER, "-f", TEXT, "-c", "24", "--chunks", "2", "-r", "0"];
    let ran = folder.bise(args);
    assert!(ran.error().contains("bad.gguf: ") && ran.stderr.contains("not finite"), "{}", ran.stderr);
    assert!(ran.stderr.contains("bise inspect --check-tensors"), "{}", ran.stderr);
    for name in ["| plain_f32.gguf", "| rope_linear.gguf"] {
        assert!(ran.text().contains(name), "{}", ran.text());
    }
    assert!(!ran.text().contains("bad.gguf"), "{}", ran.text());
    let ran = folder.bise(args.iter().chain(&["--json"]));
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!(
        (&report["failed"][0]["model"], report["models"].as_array().unwrap().len()),
        (&"bad.gguf".into(), 2)
    );
    // Nothing can be compared with it.
    let ran = folder.bise(["compare", "bad.gguf", MODEL, "-f", TEXT, "-c", "24", "-r", "0"]);
    assert!(ran.error().contains("bad.gguf: ") && ran.stdout.is_empty(), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_done_is_said_before_the_text_is_read() {
    let folder = Folder::new();
    let args = ["compare", MODEL, OTHER, "-f", TEXT, "-c", "24"];
    let ran = folder.bise(args.iter().chain(&["--plot", "none/x.svg"]));
    assert!(
        ran.error().contains("none/x.svg: cannot create the file") && ran.stdout.is_empty(),
        "{}",
        ran.stderr
    );
    for (flag, n) in [
        ("-p", "18446744073709551615"),
        ("-p", "100000000000"),
        ("-n", "18446744073709551615"),
        ("-r", "18446744073709551615"),
    ] {
        let ran = folder.bise(args.iter().chain(&[flag, n]));
        assert!(ran.code == 2 && ran.stderr.contains("expected a number from"), "{flag} {n}: {}", ran.stderr);
    }
    // What is drawn at the end fails when the table is there.
    let more = ["--chunks", "1", "-r", "0", "--plot", "/dev/full"];
    let ran = folder.bise(args.iter().chain(&more));
    assert!(
        ran.error().contains("/dev/full: cannot write") && ran.text().contains("| rope_linear"),
        "{}",
        ran.stderr
    );
}

#[test]
fn files_of_one_name_are_told_apart() {
    let folder = Folder::new();
    for (name, model) in [("a", MODEL), ("b", OTHER)] {
        std::fs::create_dir(folder.path(name)).unwrap();
        folder.write(&format!("{name}/m.gguf"), std::fs::read(model).unwrap());
    }
    let args = ["compare", "a/m.gguf", "b/m.gguf", "--kl-divergence-base", BASE, "--chunks", "1", "-r", "0"];
    let ran = folder.bise(args.iter().chain(&["--no-escape"])).ok();
    assert!(ran.text().contains("| a/m.gguf ") && ran.text().contains("| b/m.gguf "), "{}", ran.text());
    assert!(ran.stderr.contains("--no-escape has no effect"), "{}", ran.stderr);
}
