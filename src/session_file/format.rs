//! The layout of a session file. All numbers are little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 216 | the header, which ends in a checksum of its own |
//! | 4 · n_tokens | the tokens read |
//! | 4 · n_vocab, or 0 | the logits after the last of them, f32 |
//! | 24, or 0 | the state of the generation |
//! | n_pages · n_layers · page | keys and values: pages from the first that is kept to that of the last token, all layers of one after the other |
//! | 8 | XXH3 (64 bits) of all bytes before it |
//!
//! Pages are as they lie in memory, so [`VERSION`] changes with their layout. Positions of the last page behind the last token are zeros.

use bise_kernels::kv_page::{CacheType, PAGE_LEN};
use bise_models::{RopeConfig, RopeScaling};
use twox_hash::XxHash3_64;

use crate::generation::GenerationState;

/// What a session file begins with.
pub(super) const MAGIC: [u8; 8] = *b"bisesess";
/// The version of sessions without adapters.
pub(super) const VERSION: u32 = 1;
/// The version of sessions with adapters, which programs that know none must not read.
pub(super) const VERSION_WITH_ADAPTERS: u32 = 2;
/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 216;
/// Bytes of the checksum at the end.
pub(super) const CHECKSUM_BYTES: usize = 8;
/// Bytes of the state of a generation.
pub(super) const STATE_BYTES: usize = 24;
/// Random numbers that a generation may have drawn. They are drawn again when it is resumed, which takes about a second for so many.
const MAX_DRAWN: u64 = 1 << 30;
/// Bytes of the model's name.
const NAME_BYTES: usize = 96;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub fingerprint: u128,
    /// The model's name, for messages.
    pub model: String,
    pub k_type: CacheType,
    pub v_type: CacheType,
    pub window: Option<usize>,
    pub rope: RopeConfig,
    /// What tells its adapters and their scales from others, shortened; 0 for none.
    pub adapters: u64,
    pub n_tokens: usize,
    /// The number of the first page kept.
    pub first_page: usize,
    pub has_logits: bool,
    pub has_state: bool,
}

/// Why bytes are no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Foreign,
    Version(u32),
    Damaged(&'static str),
}

impl Header {
    /// Pages that follow.
    pub fn n_pages(&self) -> Option<usize> {
        self.n_tokens.div_ceil(PAGE_LEN).checked_sub(self.first_page)
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self, n_vocab: usize, n_layers: usize, page_bytes: usize) -> Option<u64> {
        let tokens = self.n_tokens.checked_mul(4)?;
        let logits = if self.has_logits { 4 * n_vocab } else { 0 };
        let state = if self.has_state { STATE_BYTES } else { 0 };
        let pages = self.n_pages()?.checked_mul(n_layers.checked_mul(page_bytes)?)?;
        let parts = [tokens, logits, state, pages, CHECKSUM_BYTES];
        let bytes = parts.into_iter().try_fold(HEADER_BYTES, usize::checked_add)?;
        u64::try_from(bytes).ok()
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut name = [0; NAME_BYTES];
        let n = self.model.floor_char_boundary(NAME_BYTES);
        name[..n].copy_from_slice(&self.model.as_bytes()[..n]);
        let RopeConfig { n_dims, base, scaling, attn_factor } = &self.rope;
        let (kind, factor, original_ctx, betas, log_multiplier) = match *scaling {
            RopeScaling::None => (0, 0.0, 0, [0.0; 2], 0.0),
            RopeScaling::Linear { factor } => (1, factor, 0, [0.0; 2], 0.0),
            RopeScaling::Yarn { factor, original_ctx, beta_fast, beta_slow, log_multiplier } => {
                (2, factor, original_ctx, [beta_fast, beta_slow], log_multiplier)
            }
        };
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend(MAGIC);
        let version = if self.adapters == 0 { VERSION } else { VERSION_WITH_ADAPTERS };
        out.extend(version.to_le_bytes());
        out.extend((PAGE_LEN as u32).to_le_bytes());
        out.extend(self.fingerprint.to_le_bytes());
        out.extend([number(self.k_type), number(self.v_type)]);
        out.extend([u8::from(self.has_logits), u8::from(self.has_state)]);
        out.extend((*n_dims as u32).to_le_bytes());
        let counts = [self.window.unwrap_or(0), self.n_tokens, self.first_page, original_ctx];
        counts.into_iter().for_each(|count| out.extend((count as u64).to_le_bytes()));
        out.extend(u32::to_le_bytes(kind));
        for float in [*base, *attn_factor, factor, betas[0], betas[1], log_multiplier] {
            out.extend(float.to_le_bytes());
        }
        if self.adapters != 0 {
            out.extend(self.adapters.to_le_bytes());
        }
        out.resize(HEADER_BYTES - NAME_BYTES - CHECKSUM_BYTES, 0);
        out.extend(name);
        out.extend(XxHash3_64::oneshot(&out).to_le_bytes());
        out.try_into().expect("as many bytes as a header has")
    }

    /// Reads a header, or says why `bytes` (fewer where the file is shorter) are none.
    pub fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        let n = bytes.len().min(MAGIC.len());
        if bytes[..n] != MAGIC[..n] || bytes.is_empty() {
            return Err(HeaderError::Foreign);
        }
        let Some(mut rest) = bytes.get(MAGIC.len()..) else {
            return Err(HeaderError::Damaged("it ends in its header"));
        };
        let version = u32::from_le_bytes(take(&mut rest)?);
        if ![VERSION, VERSION_WITH_ADAPTERS].contains(&version) {
            return Err(HeaderError::Version(version));
        }
        let Some((checked, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(HeaderError::Damaged("it ends in its header"));
        };
        if bytes.len() != HEADER_BYTES {
            return Err(HeaderError::Damaged("it ends in its header"));
        }
        if XxHash3_64::oneshot(checked) != u64::from_le_bytes(*checksum) {
            return Err(HeaderError::Damaged("the checksum of its header is wrong"));
        }
        let odd = HeaderError::Damaged("its header makes no sense");
        if u32::from_le_bytes(take(&mut rest)?) as usize != PAGE_LEN {
            return Err(odd);
        }
        let fingerprint = u128::from_le_bytes(take(&mut rest)?);
        let [k_type, v_type, has_logits, has_state] = take(&mut rest)?;
        let n_dims = u32::from_le_bytes(take(&mut rest)?) as usize;
        let mut counts = [0; 4];
        for count in &mut counts {
            let read = u64::from_le_bytes(take(&mut rest)?);
            *count = usize::try_from(read).map_err(|_| HeaderError::Damaged("its header makes no sense"))?;
        }
        let [window, n_tokens, first_page, original_ctx] = counts;
        let kind = u32::from_le_bytes(take(&mut rest)?);
        let mut floats = [0.0; 6];
        for float in &mut floats {
            *float = f32::from_le_bytes(take(&mut rest)?);
        }
        let [base, attn_factor, factor, beta_fast, beta_slow, log_multiplier] = floats;
        let adapters = match version {
            VERSION => 0,
            _ => u64::from_le_bytes(take(&mut rest)?),
        };
        let scaling = match kind {
            0 => RopeScaling::None,
            1 => RopeScaling::Linear { factor },
            2 => RopeScaling::Yarn { factor, original_ctx, beta_fast, beta_slow, log_multiplier },
            _ => return Err(odd),
        };
        let name: [u8; NAME_BYTES] = take(&mut &checked[HEADER_BYTES - NAME_BYTES - CHECKSUM_BYTES..])?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let (Some(k_type), Some(v_type)) = (cache_type(k_type), cache_type(v_type)) else { return Err(odd) };
        Ok(Header {
            fingerprint,
            model: String::from_utf8_lossy(name).into_owned(),
            k_type,
            v_type,
            window: (window > 0).then_some(window),
            rope: RopeConfig { n_dims, base, scaling, attn_factor },
            adapters,
            n_tokens,
            first_page,
            has_logits: flag(has_logits).ok_or(HeaderError::Damaged("its header makes no sense"))?,
            has_state: flag(has_state).ok_or(odd)?,
        })
    }
}

/// The state of a generation.
pub(super) fn encode_state(state: &GenerationState) -> [u8; STATE_BYTES] {
    let GenerationState { seed, n_drawn, pending, mu } = *state;
    let flags = u32::from(pending.is_some()) | u32::from(mu.is_some()) << 1;
    let mut out = Vec::with_capacity(STATE_BYTES);
    out.extend(n_drawn.to_le_bytes());
    out.extend(seed.to_le_bytes());
    out.extend(flags.to_le_bytes());
    out.extend(pending.unwrap_or(0).to_le_bytes());
    out.extend(mu.unwrap_or(0.0).to_le_bytes());
    out.try_into().expect("as many bytes as a state has")
}

/// Reads the state of a generation; `None` where the bytes make no sense.
pub(super) fn decode_state(bytes: &[u8; STATE_BYTES]) -> Option<GenerationState> {
    let mut rest = &bytes[..];
    let n_drawn = u64::from_le_bytes(take(&mut rest).ok()?);
    let seed = u32::from_le_bytes(take(&mut rest).ok()?);
    let flags = u32::from_le_bytes(take(&mut rest).ok()?);
    let pending = u32::from_le_bytes(take(&mut rest).ok()?);
    let mu = f32::from_le_bytes(take(&mut rest).ok()?);
    let makes_sense = flags < 4 && mu.is_finite() && n_drawn <= MAX_DRAWN;
    makes_sense.then_some(GenerationState {
        seed,
        n_drawn,
        pending: (flags & 1 != 0).then_some(pending),
        mu: (flags & 2 != 0).then_some(mu),
    })
}

/// The rotary embedding in words.
pub(super) fn describe_rope(rope: &RopeConfig) -> String {
    let RopeConfig { n_dims, base, scaling, attn_factor } = rope;
    let scaling = match scaling {
        RopeScaling::None => "no scaling".to_owned(),
        RopeScaling::Linear { factor } => format!("linear scaling by {factor}"),
        RopeScaling::Yarn { factor, original_ctx, beta_fast, beta_slow, log_multiplier } => {
            format!("YaRN by {factor} from {original_ctx} (betas {beta_fast}, {beta_slow}; {log_multiplier})")
        }
    };
    let attn_factor = if *attn_factor == 1.0 { String::new() } else { format!(", factor {attn_factor}") };
    format!("{n_dims} dimensions, base {base}, {scaling}{attn_factor}")
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], HeaderError> {
    let (taken, rest) =
        bytes.split_first_chunk::<N>().ok_or(HeaderError::Damaged("it ends in its header"))?;
    *bytes = rest;
    Ok(*taken)
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// The number of a type of cache in a file.
fn number(cache_type: CacheType) -> u8 {
    match cache_type {
        CacheType::F32 => 0,
        CacheType::F16 => 1,
        CacheType::Q8_0 => 2,
        CacheType::Q4_0 => 3,
    }
}

fn cache_type(number: u8) -> Option<CacheType> {
    CacheType::ALL.into_iter().find(|cache_type| self::number(*cache_type) == number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            fingerprint: 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210,
            model: "Mistral 7B".into(),
            k_type: CacheType::Q8_0,
            v_type: CacheType::F16,
            window: Some(4096),
            rope: RopeConfig { n_dims: 128, base: 1e6, scaling: RopeScaling::None, attn_factor: 1.0 },
            adapters: 0,
            n_tokens: 70,
            first_page: 0,
            has_logits: true,
            has_state: false,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let yarn = RopeScaling::Yarn {
            factor: 4.0,
            original_ctx: 8192,
            beta_fast: 32.0,
            beta_slow: 1.0,
            log_multiplier: 0.5,
        };
        for scaling in [RopeScaling::None, RopeScaling::Linear { factor: 2.0 }, yarn] {
            let mut written = Header { window: None, ..header() };
            written.rope.scaling = scaling;
            assert_eq!(Header::decode(&written.encode()), Ok(written));
        }
        let adapted = Header { adapters: u64::MAX - 1, ..header() };
        assert_eq!(Header::decode(&adapted.encode()), Ok(adapted));
        let long = Header { model: "é".repeat(100), ..header() };
        assert_eq!(Header::decode(&long.encode()).unwrap().model, "é".repeat(48));
    }

    #[test]
    fn every_flipped_bit_and_every_missing_byte_is_noticed() {
        let bytes = header().encode();
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes;
                flipped[i] ^= 1 << bit;
                let error = Header::decode(&flipped).unwrap_err();
                match i {
                    0..8 => assert_eq!(error, HeaderError::Foreign),
                    8..12 => assert!(matches!(error, HeaderError::Version(_))),
                    _ => assert_eq!(error, HeaderError::Damaged("the checksum of its header is wrong")),
                }
            }
            let error = Header::decode(&bytes[..i]).unwrap_err();
            match i {
                0 => assert_eq!(error, HeaderError::Foreign),
                _ => assert_eq!(error, HeaderError::Damaged("it ends in its header")),
            }
        }
    }

    #[test]
    fn sizes_do_not_overflow() {
        let sane = header();
        let bytes = HEADER_BYTES + 4 * 70 + 4 * 1000 + 2 * 3 * 512 + CHECKSUM_BYTES;
        assert_eq!(sane.file_bytes(1000, 3, 512), Some(bytes as u64));
        let huge = Header { n_tokens: usize::MAX, ..header() };
        assert_eq!(huge.file_bytes(1000, 3, 512), None);
        let behind = Header { first_page: 3, ..header() };
        assert_eq!(behind.file_bytes(1000, 3, 512), None);
    }

    proptest! {
        /// A header with a checksum that is right, of bytes that are anything, is read or refused.
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES),
            is_ours in any::<bool>(),
        ) {
            if is_ours {
                bytes[..8].copy_from_slice(&MAGIC);
                let version = if bytes[8] % 2 == 0 { VERSION } else { VERSION_WITH_ADAPTERS };
                bytes[8..12].copy_from_slice(&version.to_le_bytes());
                bytes[12..16].copy_from_slice(&(PAGE_LEN as u32).to_le_bytes());
                bytes[32..36].iter_mut().for_each(|byte| *byte %= 5);
            }
            let end = HEADER_BYTES - CHECKSUM_BYTES;
            let checksum = XxHash3_64::oneshot(&bytes[..end]);
            bytes[end..].copy_from_slice(&checksum.to_le_bytes());
            if let Ok(header) = Header::decode(&bytes) {
                let _ = header.file_bytes(32000, 32, 1 << 18);
                let _ = describe_rope(&header.rope);
            }
        }
    }
}
