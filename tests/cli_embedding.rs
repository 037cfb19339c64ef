//! `bise embedding` takes the flags of llama-embedding and prints what it prints.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use bise::Engine;
use bise::embedding::{EmbedOptions, Pooling};
use cli_support::Folder;

const TEXTS: [&str; 2] = ["The cat sat by the fire.", "One day"];

fn embedding(args: &[&str]) -> String {
    let args = ["embedding", "-p", "The cat sat by the fire.\\nOne day"].iter().chain(args);
    Folder::new().bise(args).ok().text().to_owned()
}

fn expected(pooling: Pooling, normalize: bool) -> Vec<Vec<f32>> {
    let options = EmbedOptions { pooling: Some(pooling), normalize, ..EmbedOptions::default() };
    Engine::builtin().unwrap().embed(&TEXTS, &options).unwrap()
}

fn printed(vector: &[f32]) -> Vec<String> {
    vector.iter().map(|x| format!("{x:.7}")).collect()
}

#[test]
fn every_format_holds_the_same_vectors() {
    let vectors = expected(Pooling::Mean, true);
    let printed: Vec<Vec<String>> = vectors.iter().map(|vector| self::printed(vector)).collect();
    let raw = embedding(&["--pooling", "mean", "--embd-output-format", "raw"]);
    assert_eq!(raw, format!("{}\n{}\n", printed[0].join(" "), printed[1].join(" ")));
    let array = embedding(&["--pooling", "mean", "--embd-output-format", "array"]);
    assert_eq!(array, format!("[[{}],[{}]]\n", printed[0].join(","), printed[1].join(",")));

    let similarity: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
    for format in ["json", "json+"] {
        let json = embedding(&["--pooling", "mean", "--embd-output-format", format]);
        assert!(
            json.starts_with(
                "{\n  \"object\": \"list\",\n  \"data\": [\n    {\n      \"object\": \"embedding\","
            ),
            "{json}"
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        for (i, vector) in vectors.iter().enumerate() {
            let entry = &json["data"][i];
            assert_eq!((&entry["object"], &entry["index"]), (&"embedding".into(), &i.into()));
            let found: Vec<f64> =
                entry["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(found.len(), vector.len());
            assert!(found.iter().zip(vector).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-7));
        }
        let matrix = &json["cosineSimilarity"];
        assert_eq!(matrix.is_null(), format == "json");
        if format == "json+" {
            assert_eq!(matrix[1][1], 1.0);
            assert!((matrix[0][1].as_f64().unwrap() - f64::from(similarity)).abs() <= 0.005_001, "{matrix}");
        }
    }

    let summary = embedding(&["--pooling", "mean"]);
    let lines: Vec<&str> = summary.lines().collect();
    let beginning = |vector: &[f32]| vector[..16].iter().map(|x| format!("{x:9.6} ")).collect::<String>();
    assert_eq!(lines[0], format!("embedding 0: {}", beginning(&vectors[0])));
    assert_eq!(lines[1], format!("embedding 1: {}", beginning(&vectors[1])));
    assert_eq!(lines[2..6], ["", "cosine similarity matrix:", "", "The ca One da "]);
    assert_eq!(lines[6], format!("{:6.2} {similarity:6.2} The cat sa", 1.0));
    assert_eq!(lines[7], format!("{similarity:6.2} {:6.2} One day", 1.0));
    assert_eq!(lines.len(), 8);
}

#[test]
fn one_text_is_printed_whole_and_vectors_of_tokens_in_short() {
    let folder = Folder::new();
    let whole = folder.bise(["embedding", "-p", TEXTS[1], "--pooling", "last"]).ok();
    let vector = &expected(Pooling::Last, true)[1];
    let numbers: String = vector.iter().map(|x| format!("{x:9.6} ")).collect();
    assert_eq!(whole.text(), format!("embedding 0: {numbers}\n"));

    // The built-in model's file names no pooling.
    let tokens = folder.bise(["embedding", "-p", TEXTS[1]]).ok();
    assert!(tokens.stderr.contains("the file names no pooling"), "{}", tokens.stderr);
    let n = Engine::builtin().unwrap().embedding_tokens(TEXTS[1]).len();
    assert_eq!(tokens.text().lines().count(), n);
    let n_embd = vector.len();
    let last = format!(
        "embedding {}: {} ... {}",
        n - 1,
        numbers[..30].to_owned(),
        vector[n_embd - 3..].iter().map(|x| format!("{x:9.6} ")).collect::<String>()
    );
    assert_eq!(tokens.text().lines().last(), Some(last.as_str()));
    let raw =
        folder.bise(["embedding", "-p", TEXTS[1], "--pooling", "none", "--embd-output-format", "raw"]).ok();
    assert_eq!(raw.text().lines().last(), Some(printed(vector).join(" ").as_str()));
    let key = ["embedding", "-p", TEXTS[1], "--override-kv", "llama.pooling_type=int:3"];
    assert_eq!(folder.bise(key).ok().stdout, whole.stdout, "the file's pooling is used where it names one");
}

#[test]
fn norms_are_those_of_llama_embedding() {
    let raw = expected(Pooling::Last, false).remove(0);
    let numbers = |n: &str| -> Vec<f64> {
        let line = embedding(&["--pooling", "last", "--embd-output-format", "raw", "--embd-normalize", n]);
        line.lines().next().unwrap().split(' ').map(|x| x.parse().unwrap()).collect()
    };
    let raw: Vec<f64> = raw.iter().map(|x| f64::from(*x)).collect();
    let close = |n: &str, divisor: f64, tolerance: f64| {
        let found = numbers(n);
        let wrong = found.iter().zip(&raw).find(|(a, b)| (*a - *b / divisor).abs() > tolerance);
        assert!(wrong.is_none(), "--embd-normalize {n}: {wrong:?}");
    };
    let power = |p: i32| raw.iter().map(|x| x.abs().powi(p)).sum::<f64>().powf(1.0 / f64::from(p));
    close("-1", 1.0, 1e-6);
    close("0", raw.iter().fold(0.0_f64, |m, x| m.max(x.abs())) / 32760.0, 0.51);
    close("1", power(1), 1e-6);
    close("2", power(2), 1e-6);
    close("3", power(3), 1e-6);
    assert!(numbers("0").iter().all(|x| x.fract() == 0.0));
}

#[test]
fn texts_come_from_files_and_are_cut_at_the_separator() {
    let folder = Folder::new();
    folder.write("lines.txt", "The cat sat by the fire.\nOne day\n");
    let expected = embedding(&["--pooling", "mean", "--embd-output-format", "array"]);
    let run = |args: &[&str]| {
        let more = ["--pooling", "mean", "--embd-output-format", "array"];
        folder.bise(["embedding"].iter().chain(args).chain(&more)).ok().text().to_owned()
    };
    assert_eq!(run(&["-f", "lines.txt"]), expected);
    assert_eq!(run(&["-p", "The cat sat by the fire.<#>One day", "--embd-separator", "<#>"]), expected);
    assert_eq!(run(&["-p", "The cat sat by the fire.\tOne day", "--embd-separator", "\\t"]), expected);
    // Lines that are empty are texts too.
    assert_eq!(run(&["-p", "a\\n\\nb"]).matches("],[").count(), 2);
    // Nothing to cut at: one text.
    assert_eq!(run(&["-p", "a\\nb", "--embd-separator", ""]).matches('[').count(), 2);
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = Folder::new();
    let error = folder.bise(["embedding"]).misuse().to_owned();
    assert!(error.contains("there is no text: expected --prompt or --file"), "{error}");
    let long = format!("ok\n{}", "the cat sat ".repeat(40));
    let args = ["embedding", "-c", "32", "--sliding-window", "0", "--pooling", "mean", "-p", &long];
    let error = folder.bise(args).error().to_owned();
    assert!(error.contains("text 1: ") && error.contains("do not fit the context"), "{error}");
    for (args, word) in [
        (["--pooling", "rank"], "rank"),
        (["--embd-output-format", "xml"], "xml"),
        (["--embd-normalize", "much"], "much"),
        (["--attention", "non-causal"], "non-causal"),
        (["--rerank", "-v"], "'--rerank' is not supported"),
    ] {
        let ran = folder.bise(["embedding", "-p", "a"].iter().chain(&args));
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(word), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(
        folder.bise(["embedding", "-p", "a", "--attention", "causal"]).ok().stderr.matches("warning").count(),
        0
    );
    let elsewhere = folder.bise(["-p", "a", "--pooling", "mean"]);
    assert_eq!(elsewhere.code, 2);
    assert!(elsewhere.stderr.contains("it belongs to `bise embedding`"), "{}", elsewhere.stderr);
}
