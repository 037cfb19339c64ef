//! How many rows a step of a dot product takes, and how far ahead they are prefetched.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The shape of a step of [`KernelTable::dot`](crate::KernelTable::dot): the same bits, at different speeds on different machines.
///
/// It is written `4/1024`: four rows at a time, prefetched 1024 bytes ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DotShape {
    /// Rows at a time: 4, or one for each lane of a register (any other number).
    pub rows: usize,
    /// How far ahead of its use a row is prefetched.
    pub prefetch_bytes: usize,
}

impl DotShape {
    /// A row for each lane of a register.
    pub const A_ROW_A_LANE: DotShape = DotShape { rows: 16, prefetch_bytes: 512 };
    /// Four rows, several blocks of each.
    pub const FOUR_ROWS: DotShape = DotShape { rows: 4, prefetch_bytes: 1024 };
    /// Four rows, prefetched further ahead.
    pub const FOUR_ROWS_FAR: DotShape = DotShape { rows: 4, prefetch_bytes: 2048 };

    /// This shape for rows that it fits; for others a row a lane.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fitting(self, fits: bool) -> DotShape {
        if self.rows == 4 && !fits { DotShape::A_ROW_A_LANE } else { self }
    }

    /// The shape for this machine: four rows where the first cache is too small for the streams of sixteen, and on AMD's cores whatever
    /// its size (Zen 5, with 48 KB: 1.49 times as fast, most of it by prefetching further).
    ///
    /// `BISE_DOT_SHAPE` overrides it, for measurements.
    pub fn detect() -> DotShape {
        static SHAPE: OnceLock<DotShape> = OnceLock::new();
        *SHAPE.get_or_init(|| {
            let forced = std::env::var("BISE_DOT_SHAPE").ok().and_then(|shape| shape.parse().ok());
            forced.unwrap_or_else(|| match first_cache_bytes() {
                Some(bytes) if bytes > 32 << 10 && is_amd() => DotShape::FOUR_ROWS_FAR,
                Some(bytes) if bytes > 32 << 10 => DotShape::A_ROW_A_LANE,
                _ => DotShape::FOUR_ROWS,
            })
        })
    }
}

impl fmt::Display for DotShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.rows, self.prefetch_bytes)
    }
}

impl FromStr for DotShape {
    type Err = String;

    fn from_str(s: &str) -> Result<DotShape, String> {
        let parts =
            s.split_once('/').and_then(|(rows, bytes)| Some((rows.parse().ok()?, bytes.parse().ok()?)));
        let (rows, prefetch_bytes) = parts.ok_or_else(|| format!("'{s}' is no shape such as 4/1024"))?;
        Ok(DotShape { rows, prefetch_bytes })
    }
}

/// Whether AMD made the CPU: `cpuid` says "AuthenticAMD".
fn is_amd() -> bool {
    // Miri has no `cpuid`.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let id = std::arch::x86_64::__cpuid(0);
        [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes) == [*b"Auth", *b"enti", *b"cAMD"]
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    false
}

/// Bytes of a core's first data cache, by `cpuid`: leaf 4 of Intel's, leaf 0x8000001d of AMD's.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn first_cache_bytes() -> Option<usize> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const DATA: u32 = 1;
    [(0, 4), (0x8000_0000, 0x8000_001d)].into_iter().find_map(|(first, leaf)| {
        if __cpuid(first).eax < leaf {
            return None;
        }
        (0..8).map(|i| __cpuid_count(leaf, i)).take_while(|c| c.eax & 31 != 0).find_map(|c| {
            let (kind, level) = (c.eax & 31, c.eax >> 5 & 7);
            let field = |low: u32, bits: u32| (c.ebx >> low & ((1 << bits) - 1)) as usize + 1;
            let bytes = field(22, 10) * field(12, 10) * field(0, 12) * (c.ecx as usize + 1);
            (kind == DATA && level == 1).then_some(bytes)
        })
    })
}

#[cfg(any(not(target_arch = "x86_64"), miri))]
fn first_cache_bytes() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_back() {
        for shape in [DotShape::A_ROW_A_LANE, DotShape::FOUR_ROWS, DotShape::FOUR_ROWS_FAR] {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        assert!("4x4".parse::<DotShape>().is_err());
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_first_cache_has_a_plausible_size() {
        // A virtual machine may hide it.
        if let Some(bytes) = first_cache_bytes() {
            assert!((8 << 10..=256 << 10).contains(&bytes), "{bytes} bytes");
        }
    }
}
