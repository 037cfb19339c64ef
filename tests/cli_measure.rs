//! `bise bench`, `bise perplexity` and `bise logits` with the built-in model.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;
use cli_support::Folder;
use serde_json::Value;

/// A `.npy` file of int32 ids.
fn npy(ids: &[i32]) -> Vec<u8> {
    let header = format!("{{'descr': '<i4', 'fortran_order': False, 'shape': ({},), }}\n", ids.len());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
    bytes
}

/// The rows of a `.npy` file of float32.
fn rows(bytes: &[u8], n_rows: usize, n_cols: usize) -> Vec<Vec<f32>> {
    let header = format!("'shape': ({n_rows}, {n_cols})");
    assert!(String::from_utf8_lossy(&bytes[..128]).contains(&header));
    let data = &bytes[bytes.len() - n_rows * n_cols * 4..];
    let floats: Vec<f32> = data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    floats.chunks(n_cols).map(<[f32]>::to_vec).collect()
}

const IDS: [i32; 12] = [1, 2721, 300, 301, 302, 303, 77, 1000, 2000, 3000, 4000, 4095];

#[test]
fn logits_are_the_same_for_any_chunk_and_source() {
    let folder = Folder::new();
    folder.write("ids.npy", npy(&IDS));
    folder.bise(["logits", "--ids", "ids.npy", "-o", "all.npy"]).ok();
    let all = std::fs::read(folder.path("all.npy")).unwrap();
    let parsed = rows(&all, IDS.len(), 4096);
    assert!(parsed.iter().flatten().all(|logit| logit.is_finite()));
    let list = IDS.map(|id| id.to_string()).join(",");
    for args in [&["--chunk", "1", "--ids", "ids.npy"][..], &["--chunk", "5", "-t", "1", "--tokens", &list]] {
        folder.bise(["logits", "-o", "again.npy"].iter().chain(args)).ok();
        assert!(std::fs::read(folder.path("again.npy")).unwrap() == all, "{args:?}");
    }
    // The first rows of a text are those of its beginning.
    folder.bise(["logits", "--tokens", &list[..list.find(",77").unwrap()], "-o", "head.npy"]).ok();
    let head = rows(&std::fs::read(folder.path("head.npy")).unwrap(), 6, 4096);
    assert_eq!(head[..], parsed[..6]);
}

#[test]
fn logits_of_a_text_are_those_of_its_tokens() {
    let folder = Folder::new();
    folder.write("text.txt", "Hello");
    folder.bise(["logits", "-f", "text.txt", "-o", "text.npy"]).ok();
    folder.bise(["logits", "--tokens", "1,2721", "-o", "ids.npy"]).ok();
    assert!(
        std::fs::read(folder.path("text.npy")).unwrap() == std::fs::read(folder.path("ids.npy")).unwrap()
    );
}

#[test]
fn ids_that_are_none_are_errors_and_leave_no_file() {
    let folder = Folder::new();
    folder.write("high.npy", npy(&[1, 4096]));
    folder.write("negative.npy", npy(&[-1]));
    folder.write("none.npy", npy(&[]));
    folder.write("text.npy", "no array");
    for (args, words) in [
        (&["--ids", "high.npy"][..], "found token 4096 at index 1"),
        (&["--ids", "negative.npy"], "negative.npy: found a negative number"),
        (&["--ids", "none.npy"], "none.npy: found no token"),
        (&["--ids", "text.npy"], "text.npy: not a .npy file"),
        (&["--ids", "missing.npy"], "missing.npy"),
        (&["--tokens", "9999"], "found token 9999"),
        (&["--tokens", "1,2,3,4", "-c", "3", "--sliding-window", "0"], "3"),
    ] {
        let ran = folder.bise(["logits", "-o", "out.npy"].iter().chain(args));
        assert!(ran.error().contains(words), "{args:?}: {}", ran.stderr);
        assert!(!folder.path("out.npy").exists());
    }
    assert!(folder.bise(["logits", "--tokens", "1", "-o", "no/such/folder.npy"]).error().contains("no/such"));
    assert_eq!(folder.bise(["logits", "--tokens", "1,x", "-o", "out.npy"]).code, 2);
    assert!(folder.bise(["logits", "-o", "out.npy"]).misuse().contains("expected --ids, --tokens or --file"));
}

#[test]
fn perplexity_prints_what_llama_perplexity_prints() {
    let folder = Folder::new();
    folder.write("text.txt", "Once upon a time, there was a little mouse. ".repeat(30));
    let ran = folder.bise(["perplexity", "-f", "text.txt", "-c", "64"]).ok();
    let (chunks, last) = ran.text().trim_end().rsplit_once('\n').unwrap();
    assert!(chunks.starts_with("[1]") && chunks.ends_with(','), "{chunks}");
    let last_chunk: f64 = chunks.trim_end_matches(',').rsplit_once(']').unwrap().1.parse().unwrap();
    let numbers = last.strip_prefix("Final estimate: PPL = ").expect(last);
    let (ppl, error) = numbers.split_once(" +/- ").unwrap();
    assert_eq!(ppl.parse::<f64>().unwrap(), last_chunk);
    assert!(last_chunk > 1.0 && error.parse::<f64>().unwrap() > 0.0);

    let limited = folder.bise(["perplexity", "-f", "text.txt", "-c", "64", "--chunks", "2"]).ok();
    assert!(chunks.starts_with(limited.text().lines().next().unwrap()));
}

#[test]
fn perplexity_follows_from_the_logits() {
    let folder = Folder::new();
    folder.write("ids.npy", npy(&IDS));
    folder.bise(["logits", "--ids", "ids.npy", "-o", "all.npy"]).ok();
    let logits = rows(&std::fs::read(folder.path("all.npy")).unwrap(), IDS.len(), 4096);
    let surprise = |row: &[f32], id: i32| {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        sum.ln() - f64::from(row[id as usize])
    };
    let surprises: Vec<f64> = logits.iter().zip(&IDS[1..]).map(|(row, &id)| surprise(row, id)).collect();
    let mean = surprises.iter().sum::<f64>() / surprises.len() as f64;
    let ran = folder.bise(["perplexity", "--ids", "ids.npy", "-c", "12", "--all-positions"]).ok();
    let ppl: f64 = ran.text().split("PPL = ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((ppl / mean.exp() - 1.0).abs() < 1e-4, "{ppl} and {}", mean.exp());
}

#[test]
fn a_text_too_short_to_score_is_an_error() {
    let folder = Folder::new();
    folder.write("short.txt", "Hello");
    assert!(folder.bise(["perplexity", "-f", "short.txt"]).error().contains("at least 1024"));
    assert!(folder.bise(["perplexity"]).misuse().contains("--file"));
}

const BENCH: [&str; 9] = ["bench", "-p", "8,16", "-n", "4", "-r", "2", "-t", "1"];

#[test]
fn bench_prints_json_with_llama_benchs_fields() {
    let folder = Folder::new();
    let ran = folder.bise(BENCH.iter().chain(&["-o", "json", "-d", "0,8"])).ok();
    let rows: Vec<Value> = serde_json::from_str(ran.text()).unwrap();
    let tests: Vec<_> = rows
        .iter()
        .map(|r| (&r["n_prompt"], &r["n_gen"], &r["n_depth"]))
        .map(|(p, g, d)| (p.as_u64().unwrap(), g.as_u64().unwrap(), d.as_u64().unwrap()))
        .collect();
    assert_eq!(tests, [(8, 0, 0), (16, 0, 0), (0, 4, 0), (8, 0, 8), (16, 0, 8), (0, 4, 8)]);
    for row in &rows {
        for field in [
            "build_commit",
            "cpu_info",
            "backends",
            "model_filename",
            "model_type",
            "test_time",
            "type_k",
            "type_v",
        ] {
            assert!(row[field].is_string(), "{field}");
        }
        for field in
            ["model_size", "model_n_params", "n_batch", "n_ubatch", "n_threads", "avg_ns", "stddev_ns"]
        {
            assert!(row[field].is_u64(), "{field}");
        }
        let samples: Vec<f64> =
            row["samples_ts"].as_array().unwrap().iter().map(|ts| ts.as_f64().unwrap()).collect();
        assert_eq!(samples.len(), 2);
        assert!((row["avg_ts"].as_f64().unwrap() / (samples.iter().sum::<f64>() / 2.0) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn bench_prints_other_formats() {
    let folder = Folder::new();
    let table = folder.bise(BENCH).ok();
    let lines: Vec<&str> = table.text().lines().collect();
    assert!(lines[0].starts_with("| model ") && lines[1].starts_with("| ---"), "{}", table.text());
    assert_eq!(lines.iter().filter(|line| line.starts_with("| llama ")).count(), 3);
    let csv = folder.bise(BENCH.iter().chain(&["-o", "csv"])).ok();
    assert_eq!(csv.text().lines().count(), 4);
    assert!(csv.text().starts_with("build_commit,"));
    let jsonl = folder.bise(BENCH.iter().chain(&["-o", "jsonl"])).ok();
    assert!(jsonl.text().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn bench_decodes_sequences_together() {
    let folder = Folder::new();
    let ran = folder
        .bise([
            "bench",
            "-p",
            "0",
            "-n",
            "4",
            "-r",
            "1",
            "--parallel",
            "3",
            "-o",
            "jsonl",
            "-ctk",
            "f16,q8_0",
        ])
        .ok();
    let rows: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    for (row, kind) in rows.iter().zip(["f16", "q8_0"]) {
        assert_eq!((&row["n_parallel"], &row["type_k"]), (&Value::from(3), &Value::from(kind)));
        let rate = 12.0 * 1e9 / row["samples_ns"][0].as_f64().unwrap();
        assert!((row["avg_ts"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9);
    }
    assert!(folder.bise(["bench", "-p", "0", "-n", "0"]).misuse().contains("nothing to measure"));
}
