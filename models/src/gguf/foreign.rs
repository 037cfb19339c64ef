//! What a file is when it is not GGUF, told by its first bytes: what people download by mistake, and what to do
//! about each.

use std::path::Path;

use crate::printable::printable;

/// A file of another kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign {
    /// What it is, as the object of "found".
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

fn foreign(found: impl Into<String>, advice: impl Into<String>) -> Foreign {
    Foreign { found: found.into(), advice: advice.into() }
}

const CONVERT: &str =
    "convert the model with `bise convert FOLDER -o FILE.gguf`, or download a GGUF of the same model";
const PICKLE: &str = "download the safetensors of the same model and convert them with `bise convert FOLDER -o FILE.gguf`, or download a GGUF";
const OTHER: &str = "download a GGUF of the same model";
const DOWNLOAD: &str = "download the file again, from its /resolve/ (not /blob/) address";
const UNPACK: &str = "unpack it first";

/// How much of a text file is looked at.
const MAX_TEXT: usize = 64 << 10;

/// Signatures at the start of a file, what they mean and what to do.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"\x04\x22\x4d\x18", "an LZ4 archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\x89HDF\r\n\x1a\n", "a Keras (HDF5) file", OTHER),
    (b"\x93NUMPY", "a NumPy array", OTHER),
    (b"\x7fELF", "a program", "give the model it comes with (a llamafile can be unpacked with unzip)"),
    (b"MZ", "a program", "give the model it comes with (a llamafile can be unpacked with unzip)"),
    (b"%PDF-", "a PDF document", DOWNLOAD),
];

/// The file formats of ggml before GGUF, by their magic: `ggml`, `ggmf`, `ggjt` (models) and `ggla` (LoRA).
const BEFORE_GGUF: [[u8; 4]; 4] = [*b"ggml", *b"ggmf", *b"ggjt", *b"ggla"];

/// What `bytes` are, those of the file at `path`. `None` where nothing is recognized.
pub(super) fn identify(bytes: &[u8], path: &Path) -> Option<Foreign> {
    let old = |magic: &[u8; 4]| {
        let reversed: Vec<u8> = magic.iter().rev().copied().collect();
        bytes.starts_with(&reversed) || bytes.get(..4).is_some_and(|b| b.eq_ignore_ascii_case(magic))
    };
    if let Some(magic) = BEFORE_GGUF.iter().find(|magic| old(magic)) {
        let magic = printable(magic).to_uppercase();
        let advice = "the format was given up in August 2023: download the model as GGUF";
        return Some(foreign(format!("a {magic} file, from before GGUF"), advice));
    }
    if let Some((_, found, advice)) = SIGNATURES.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return Some(foreign(*found, *advice));
    }
    zip(bytes)
        .or_else(|| safetensors(bytes))
        .or_else(|| pickle(bytes))
        .or_else(|| onnx(bytes, path))
        .or_else(|| imatrix(bytes))
        .or_else(|| other_binary(bytes))
        .or_else(|| text(bytes))
        .or_else(|| piece(path))
}

/// Zip archives: PyTorch's checkpoints and NumPy's `.npz` are some.
fn zip(bytes: &[u8]) -> Option<Foreign> {
    bytes.starts_with(b"PK\x03\x04").then(|| {
        let name_len = bytes.get(26..28).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
        let first = bytes.get(30..30 + name_len).unwrap_or_default();
        if first.ends_with(b"/data.pkl") || first.ends_with(b"/version") || first.starts_with(b"archive/") {
            foreign("a PyTorch checkpoint", PICKLE)
        } else if first.ends_with(b".npy") {
            foreign("NumPy arrays (.npz)", OTHER)
        } else {
            foreign("a zip archive", UNPACK)
        }
    })
}

/// A length, then a JSON object of that length.
fn safetensors(bytes: &[u8]) -> Option<Foreign> {
    let header_len = u64::from_le_bytes(*bytes.first_chunk()?);
    let starts_object =
        bytes.get(8) == Some(&b'{') && matches!(bytes.get(9), Some(b'"' | b' ' | b'}' | b'\n'));
    (starts_object && (2..1 << 30).contains(&header_len)).then(|| foreign("a safetensors file", CONVERT))
}

/// Python's pickle, protocols 2 to 5: PyTorch's older checkpoints.
fn pickle(bytes: &[u8]) -> Option<Foreign> {
    let [0x80, 2..=5, opcode, ..] = bytes else { return None };
    matches!(opcode, b'}' | b']' | b'c' | b'(' | 0x8a | 0x8c | 0x95)
        .then(|| foreign("a PyTorch checkpoint (a Python pickle)", PICKLE))
}

/// A protocol buffer whose first field is a small version number, then the name of the producer.
fn onnx(bytes: &[u8], path: &Path) -> Option<Foreign> {
    let begins = matches!(bytes, [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..]);
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    let producer = match bytes {
        [_, _, 0x12, len, rest @ ..] => rest.get(..usize::from(*len)).is_some_and(is_word),
        _ => false,
    };
    (begins && (named || producer)).then(|| foreign("an ONNX file", OTHER))
}

fn is_word(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_graphic() || *b == b' ')
}

/// llama.cpp's importance matrix before it became GGUF: a count, then for each entry the length of a tensor's name
/// and the name.
fn imatrix(bytes: &[u8]) -> Option<Foreign> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (n_entries, name_len) = (number(0)?, number(4)? as usize);
    let name = bytes.get(8..8usize.checked_add(name_len)?)?;
    let sound = (1..1 << 20).contains(&n_entries) && (3..256).contains(&name_len);
    (sound && is_word(name) && name.contains(&b'.'))
        .then(|| foreign("an importance matrix (imatrix, old format)", "give the model that it was made for"))
}

fn other_binary(bytes: &[u8]) -> Option<Foreign> {
    if bytes.get(4..8) == Some(b"TFL3") {
        return Some(foreign("a TensorFlow Lite file", OTHER));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(foreign("a tar archive", UNPACK));
    }
    // Download managers reserve the space of a file before they fill it.
    let start = &bytes[..bytes.len().min(1 << 20)];
    (start.len() >= 4 && start.iter().all(|b| *b == 0)).then(|| {
        foreign("nothing but zeros", "the download never got to its beginning: download the file again")
    })
}

/// What servers and repositories send in place of a model.
fn text(bytes: &[u8]) -> Option<Foreign> {
    let start = &bytes[..bytes.len().min(MAX_TEXT)];
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character may be cut at the end of what is looked at.
        Err(e) if start.len() - e.valid_up_to() < 4 && bytes.len() > MAX_TEXT => {
            std::str::from_utf8(&start[..e.valid_up_to()]).expect("valid up to there")
        }
        Err(_) => return None,
    };
    if valid.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\x0c')) {
        return None;
    }
    let text = valid.trim_start();
    let lower = |n: usize| text.chars().take(n).collect::<String>().to_ascii_lowercase();
    if text.starts_with("version https://git-lfs.github.com/spec/")
        || text.starts_with("version https://hawser.github.com/spec/")
        || text.starts_with("# xet version")
    {
        let size = text.lines().find_map(|l| l.strip_prefix("size ").or(l.strip_prefix("filesize = ")));
        let stands =
            size.map_or(String::new(), |n| format!(", which stands for {} bytes", printable(n.as_bytes())));
        let advice = "fetch the model itself with `git lfs pull`, or download it from its /resolve/ address";
        return Some(foreign(format!("a git-lfs pointer{stands}"), advice));
    }
    if ["<!doctype html", "<html"].iter().any(|tag| lower(64).starts_with(tag))
        || (text.starts_with('<') && lower(2048).contains("<html"))
    {
        let advice = format!(
            "a server sent it in place of the model: {DOWNLOAD}, with a token if the model asks for one"
        );
        return Some(foreign("an HTML page", advice));
    }
    if text.starts_with("<?xml") || text.starts_with("<Error>") {
        return Some(foreign(
            "an XML document",
            format!("a server sent it in place of the model: {DOWNLOAD}"),
        ));
    }
    if text.starts_with(['{', '[']) && text[1..].trim_start().starts_with(['"', '{', '[', ']', '}']) {
        return Some(json(text));
    }
    if text.lines().any(|line| line.get(..5).is_some_and(|w| w.eq_ignore_ascii_case("from ")))
        && text.len() < 16384
    {
        let advice = "give the model that its FROM line names";
        return Some(foreign("an Ollama Modelfile", advice));
    }
    let line = text.lines().next().unwrap_or_default().trim_end();
    if line.is_empty() {
        return Some(foreign("an empty text", DOWNLOAD));
    }
    Some(foreign(format!("a text that begins \"{}\"", printable(line.as_bytes())), DOWNLOAD))
}

fn json(text: &str) -> Foreign {
    if text.contains("\"weight_map\"") {
        return foreign("the index of a safetensors model", CONVERT);
    }
    if text.contains("application/vnd.ollama") || text.contains("application/vnd.docker") {
        let digest = text
            .split("\"mediaType\"")
            .find(|layer| layer.contains("application/vnd.ollama.image.model"))
            .and_then(|layer| layer.split('"').find(|word| word.starts_with("sha256:")));
        let blob = digest
            .map_or("blob".to_owned(), |d| format!("blobs/{}", printable(d.replace(':', "-").as_bytes())));
        return foreign("an Ollama manifest", format!("give the {blob} that it names, beside the manifests"));
    }
    let head = &text[..text.floor_char_boundary(4096)];
    if head.contains("\"error\"") || head.contains("\"message\"") {
        let body = printable(head.trim_end().as_bytes());
        return foreign(format!("an error that a server sent, {body}"), DOWNLOAD);
    }
    foreign("a JSON file", CONVERT)
}

/// Files that were cut up with `split` carry it in their names; only the first piece has a header.
fn piece(path: &Path) -> Option<Foreign> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (_, tail) = name.rsplit_once(".gguf")?;
    let is_piece = tail.starts_with("-split-")
        || tail.starts_with(".part")
        || tail.starts_with("-part-")
        || matches!(tail.as_bytes(), [b'.', b'0'..=b'9', b'0'..=b'9', ..] | [b'.', b'a'..=b'z', b'a'..=b'z']);
    is_piece.then(|| {
        foreign(
            "a piece of a file that was cut up",
            "join the pieces in order with cat, and give the whole file",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(bytes: &[u8], name: &str, found: &str, advice: &str) {
        let what = identify(bytes, Path::new(name)).unwrap_or_else(|| panic!("{found} is not recognized"));
        assert!(what.found.contains(found), "{} for {found}", what.found);
        assert!(what.advice.contains(advice), "{} for {advice}", what.advice);
        assert!(!what.found.contains(['\n', '\x1b']) && !what.advice.contains(['\n', '\x1b']));
    }

    #[test]
    fn what_is_downloaded_in_place_of_a_model_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4368439584\n";
        is(pointer, "m.gguf", "a git-lfs pointer, which stands for 4368439584 bytes", "git lfs pull");
        is(b"# xet version 0\nfilesize = 12\n", "m.gguf", "git-lfs pointer", "git lfs pull");
        is(b"<!DOCTYPE html>\n<html class=\"\">", "m.gguf", "an HTML page", "/resolve/");
        is(b"\xef\xbb\xbf  <html>", "m.gguf", "an HTML page", "/resolve/");
        is(b"<!-- x --><head></head><HTML>", "m.gguf", "an HTML page", "/resolve/");
        is(b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "m.gguf", "an XML document", "server");
        is(
            b"{\"error\":\"Repository not found\"}",
            "m.gguf",
            "{\"error\":\"Repository not found\"}",
            "/resolve/",
        );
        is(b"{\n  \"architectures\": [\"MistralForCausalLM\"]\n}", "config.json", "a JSON file", "convert");
        is(b"{\"metadata\": {}, \"weight_map\": {}}", "i.json", "index of a safetensors model", "convert");
        is(b"Entry not found", "m.gguf", "a text that begins \"Entry not found\"", "/resolve/");
        is(b"a\x0c\ttext\nof lines", "m.gguf", "a text that begins", "/resolve/");
        is(b"# mine\nFROM ./m.gguf\nPARAMETER temperature 1\n", "Modelfile", "Ollama Modelfile", "FROM");
        let manifest =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
            "config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:aa"},
            "layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:bb","size":1}]}"#;
        is(manifest, "latest", "an Ollama manifest", "blobs/sha256-bb");
        is(&[0; 4096], "m.gguf", "nothing but zeros", "again");
    }

    #[test]
    fn other_formats_are_named() {
        let header = br#"{"__metadata__":{"format":"pt"}}"#;
        let safetensors = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        is(&safetensors, "m.safetensors", "a safetensors file", "convert");
        let zip = |name: &[u8]| {
            [b"PK\x03\x04", &[0; 22][..], &(name.len() as u16).to_le_bytes(), &[0; 2], name].concat()
        };
        is(&zip(b"archive/data.pkl"), "m.bin", "a PyTorch checkpoint", "convert");
        is(&zip(b"consolidated.00/data.pkl"), "m.pth", "a PyTorch checkpoint", "convert");
        is(&zip(b"weights.npy"), "m.npz", "NumPy arrays", "GGUF");
        is(&zip(b"mistral.gguf"), "m.zip", "a zip archive", "unpack");
        is(b"PK\x03\x04", "m.zip", "a zip archive", "unpack");
        is(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "m.bin", "a PyTorch checkpoint", "convert");
        is(b"\x80\x04\x95\x10\0\0\0", "m.pkl", "a PyTorch checkpoint", "convert");
        is(b"\x08\x08\x12\x07pytorch\x1a\x05", "model.onnx", "an ONNX file", "GGUF");
        is(b"\x08\x07\x12\x07pytorch", "model", "an ONNX file", "GGUF");
        is(b"lmgg\0\x7d\0\0", "m.bin", "a GGML file", "download");
        is(b"tjgg\x03\0\0\0", "m.bin", "a GGJT file", "download");
        is(b"fmgg\x01\0\0\0", "m.bin", "a GGMF file", "download");
        is(b"algg\x01\0\0\0", "m.bin", "a GGLA file", "download");
        is(b"GGML", "m.bin", "a GGML file", "download");
        is(b"\x1f\x8b\x08\0", "m.gguf.gz", "a gzip archive", "unpack");
        is(b"\x28\xb5\x2f\xfd\0", "m.gguf.zst", "a Zstandard archive", "unpack");
        is(b"\x93NUMPY\x01\0", "m.npy", "a NumPy array", "GGUF");
        is(b"\x89HDF\r\n\x1a\n", "m.h5", "HDF5", "GGUF");
        is(b"\x7fELF\x02", "m.llamafile", "a program", "unzip");
        let tar = [&b"dir/m.gguf"[..], &[0; 247], b"ustar\x0000"].concat();
        is(&tar, "m.tar", "a tar archive", "unpack");
        let dat = [&224_u32.to_le_bytes()[..], &19_u32.to_le_bytes(), b"blk.0.attn_q.weight\x01\0"].concat();
        is(&dat, "imatrix.dat", "an importance matrix", "the model");
        is(&[7, 250, 1, 255, 3], "m.gguf-split-b", "a piece of a file", "cat");
        is(&[7, 250, 1, 255, 3], "m.gguf.part2of2", "a piece of a file", "cat");
        is(&[7, 250, 1, 255, 3], "m.Q8_0.gguf.ab", "a piece of a file", "cat");
    }

    #[test]
    fn anything_else_is_left_to_the_reader() {
        for bytes in [&[0xff, 0xfe, 0x00, 0x01, 0x02][..], b"", b"G\x01", b"GGUF"] {
            let what = identify(bytes, Path::new("m.gguf"));
            assert!(what.is_none() || bytes == b"GGUF" || bytes.is_empty(), "{what:?}");
        }
        // No start of a file makes it panic.
        for n in 0..300 {
            for byte in [0, 8, b'{', b'<', b'P', 0x80, 0xc3] {
                let _ = identify(&vec![byte; n], Path::new(""));
            }
        }
    }
}
