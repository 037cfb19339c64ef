//! Dequantizing equals gguf-py 0.19, bit for bit: `fixtures/dequantize.py` made what it is compared with.

mod common;

use bise_kernels::Format;
use bise_kernels::dequantize::dequantize_row;
use common::{Random, map_halves};

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn blocks_of_random_bytes_and_extremes_equal_gguf_py() {
    for format in Format::ALL {
        let bytes = fixture(&format!("{format}.bin"));
        let expected: Vec<f32> =
            fixture(&format!("{format}.f32")).as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        let n_blocks = bytes.len() / format.block_bytes();
        assert!(n_blocks >= 17 && expected.len() == n_blocks * format.block_len(), "fixture of {format}");
        let mut found = vec![f32::NAN; expected.len()];
        dequantize_row(format, &bytes, &mut found);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{format}, weight {i}: found {found:e}, expected {expected:e}"
            );
        }
    }
}

#[test]
fn half_a_million_weights_of_each_format_have_the_checksum_of_gguf_py() {
    let digests = String::from_utf8(fixture("digests.txt")).unwrap();
    assert_eq!(digests.lines().count(), Format::ALL.len());
    for (line, format) in digests.lines().zip(Format::ALL) {
        let [name, n_blocks, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(name, format.name());
        let n_blocks: usize = n_blocks.parse().unwrap();
        let mut bytes = Random(0).bytes(n_blocks * format.block_bytes());
        map_halves(format, &mut bytes, |h| if h & 0x7c00 == 0x7c00 { h & 0xbfff } else { h });
        if format == Format::F32 {
            bytes.iter_mut().skip(3).step_by(4).filter(|b| **b & 0x7f == 0x7f).for_each(|b| *b &= 0xbf);
        }
        let mut weights = vec![f32::NAN; n_blocks * format.block_len()];
        dequantize_row(format, &bytes, &mut weights);
        let terms =
            weights.iter().enumerate().map(|(i, w)| (w.to_bits() as u64).wrapping_mul(2 * i as u64 + 1));
        let sum = terms.fold(0u64, u64::wrapping_add);
        assert_eq!(format!("{sum:016x}"), expected, "{format}");
    }
}

#[test]
#[should_panic(expected = "bytes of 256 Q4_K weights")]
fn a_row_of_another_length_is_refused() {
    dequantize_row(Format::Q4_K, &[0; 143], &mut [0.0; 256]);
}
