//! A real model of another maker, SmolLM2 with 135 million weights in Q4_1, against llama.cpp.

use std::path::{Path, PathBuf};

use bise::gguf::{GgufDataWriter, GgufFile, GgufWriter, TensorType, WriteError};
use bise::tokenizer::EncodeOptions;
use bise::{Engine, EngineOptions, Session, SessionOptions};
use bise_kernels::dequantize_row;
use serde_json::Value;

use super::{argmax, models};

/// What rounding activations to 8 bits, in blocks of 32, adds to the distance between the two likeliest tokens: the root
/// mean square over the 266 tokens of `greedy_f32.json`. Measured without this program, in `transformers`, with that
/// rounding before every matrix: 0.156. Any other noise, be it the order of a sum, draws these errors anew.
const NOISE: f64 = 0.16;

/// How far ahead a token may be and still be a near tie between two engines.
const NEAR_TIE: f64 = 0.1;

/// A model's answers to the ten prompts.
struct Case {
    prompt: String,
    ids: Vec<u32>,
    tokens: Vec<u32>,
    /// By how much the log-probability of each token beat the next one's.
    margins: Vec<f64>,
}

fn cases(json: &str) -> Vec<Case> {
    let golden: Value = serde_json::from_str(json).unwrap();
    let list = |case: &Value, key: &str| case[key].as_array().unwrap().clone();
    let ids = |case: &Value, key| list(case, key).iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let case = |case: &Value| Case {
        prompt: case["prompt"].as_str().unwrap().to_owned(),
        ids: ids(case, "ids"),
        tokens: ids(case, "tokens"),
        margins: list(case, "margins").iter().map(|margin| margin.as_f64().unwrap()).collect(),
    };
    golden["greedy"].as_array().unwrap().iter().map(case).collect()
}

fn file() -> PathBuf {
    models("SmolLM2-135M-Instruct.Q4_1.gguf")
}

fn session(path: &Path) -> Session {
    let engine = Engine::open_with(path, &EngineOptions::default()).unwrap();
    engine.session(&SessionOptions { n_ctx: 256, ..SessionOptions::default() }).unwrap()
}

/// Writes the model with its weights as f32.
fn in_f32(path: &Path) {
    let file = GgufFile::open(file()).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, TensorType::F32).unwrap();
    }
    let fill = |out: &mut GgufDataWriter<_>| {
        file.tensors().try_for_each(|info| {
            let mut weights = vec![0.0; info.shape.iter().product()];
            dequantize_row(info.tensor_type.format().unwrap(), &file.bytes(info), &mut weights);
            out.write(&weights.iter().flat_map(|weight| weight.to_le_bytes()).collect::<Vec<u8>>())
        })
    };
    writer.save::<WriteError>(path, fill).unwrap();
}

/// Reads a case's prompt and then its tokens, and shows the logits before each.
fn follow(session: &mut Session, case: &Case, mut each: impl FnMut(usize, &[f32])) {
    let options = EncodeOptions { add_special: true, parse_special: true };
    assert_eq!(session.engine().tokenizer().encode(&case.prompt, options), case.ids, "{:?}", case.prompt);
    session.clear();
    each(0, session.prefill(&case.ids).unwrap());
    for (i, &token) in case.tokens.iter().enumerate().take(case.tokens.len() - 1) {
        each(i + 1, session.decode(token).unwrap());
    }
}

/// Without quantized activations there is one answer: llama.cpp and this program give it for all ten prompts.
#[test]
#[ignore = "needs BISE_MODELS"]
fn smollm2_in_f32_goes_on_as_llama_cpp_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f32.gguf");
    in_f32(&path);
    let mut session = session(&path);
    for case in cases(include_str!("greedy_f32.json")) {
        let mut ours = Vec::new();
        follow(&mut session, &case, |_, logits| ours.push(argmax(logits)));
        assert_eq!(ours, case.tokens, "{:?}", case.prompt);
    }
}

/// In Q4_1 the answer is off by what 8 bits an activation cost, and no more.
#[test]
#[ignore = "needs BISE_MODELS"]
fn smollm2_is_as_near_to_f32_as_8_bit_activations_allow() {
    let mut session = session(&file());
    let (mut squares, mut n, mut n_flips) = (0.0, 0, 0);
    for case in cases(include_str!("greedy_f32.json")) {
        follow(&mut session, &case, |i, logits| {
            let right = case.tokens[i] as usize;
            let rival =
                (0..logits.len()).filter(|&id| id != right).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            // The rival here may be another than the one in f32; it is never nearer to the right token there.
            let error = f64::from(logits[right] - logits[rival.unwrap()]) - case.margins[i];
            squares += error * error;
            n += 1;
            if argmax(logits) as usize != right {
                n_flips += 1;
                assert!(
                    case.margins[i] < 3.0 * NOISE,
                    "{:?}, token {i}: ahead by {}",
                    case.prompt,
                    case.margins[i]
                );
            }
        });
    }
    let noise = (squares / f64::from(n)).sqrt();
    println!("margins are off by {noise:.3} (root mean square), {n_flips} of {n} tokens differ from f32");
    assert!(noise < 1.25 * NOISE, "{noise}");
}

/// 9 of 10 prompts go on as in llama.cpp, which rounds activations to 8 bits in its own way, and where one does not, the first
/// difference is a near tie in both.
///
/// Not met: 5 go on so, and the first differences are up to 0.125 here and 0.26 there. Nor does llama.cpp b11434 meet it against itself. The
/// answers of `greedy.json`, of its plain AVX-512 kernels, are on this many of the 10 prompts those of its AMX kernels: 6; of its build
/// for AVX2: 5 (and these two agree on 4); of the same weights in f32: 4; of `-fa off`: 5; of keys and values in f32: 6. Its noise is 0.163.
#[test]
#[ignore = "needs BISE_MODELS"]
fn smollm2_goes_on_as_llama_cpp_does() {
    let mut session = session(&file());
    let cases = cases(include_str!("greedy.json"));
    let (mut n_equal, mut n_far) = (0, 0);
    for case in &cases {
        let mut first = None;
        follow(&mut session, case, |i, logits| {
            let (ours, theirs) = (argmax(logits), case.tokens[i]);
            if ours != theirs && first.is_none() {
                let ahead = f64::from(logits[ours as usize] - logits[theirs as usize]);
                n_far += usize::from(ahead >= NEAR_TIE || case.margins[i] >= NEAR_TIE);
                first = Some((i, ours, theirs, ahead, case.margins[i]));
            }
        });
        let Some((i, ours, theirs, here, there)) = first else {
            n_equal += 1;
            continue;
        };
        println!(
            "{:?}, token {i}: {ours} rather than {theirs}, ahead by {here:.4} here, behind by {there:.4} there",
            case.prompt
        );
        assert!(here + there < 3.0 * std::f64::consts::SQRT_2 * NOISE, "{:?}", case.prompt);
    }
    println!("{n_equal} of {} prompts go on alike", cases.len());
    assert!(n_equal >= 9 && n_far == 0, "{n_equal} alike, {n_far} differ by more than a near tie");
}
