//! An adapter as forward passes use it.

use std::fmt;

use bise_kernels::LowRankPair;
use twox_hash::XxHash3_128;

use super::error::AdapterError;
use super::low_rank::LowRank;
use super::shapes::Shapes;
use crate::budget::Reservation;
use crate::config::MistralConfig;
use crate::site::Site;

/// Adapters beside some of a model's matrices, ready to run.
///
/// It fits the model that it was checked against, and others of the same shapes. Numbers that 16 bits hold exactly are kept in 16 bits.
pub struct Adapter {
    name: String,
    /// In order of their sites.
    pub(super) parts: Vec<(Site, Part)>,
    shapes: Shapes,
    /// The most ranks that are computed together, for one row.
    pub(super) n_ranks: usize,
    fingerprint: u128,
    warnings: Vec<String>,
    /// Of its memory.
    reservation: Option<Reservation>,
}

/// The adapter of one matrix.
pub(super) struct Part {
    pub pair: LowRankPair,
    pub scale: f32,
}

impl Adapter {
    /// The adapter of `parts` for models of this configuration.
    pub(super) fn pack(
        name: String,
        config: &MistralConfig,
        parts: impl IntoIterator<Item = (Site, LowRank)>,
    ) -> Result<Adapter, AdapterError> {
        let mut packed: Vec<(Site, Part)> = Vec::new();
        for (site, part) in parts {
            part.check(&name, site, config)?;
            let pair = LowRankPair::try_new(part.rank, &part.a, &part.b).map_err(|_| {
                let n_bytes = 4 * (part.a.len() + part.b.len()) as u64;
                AdapterError::OutOfMemory { adapter: name.as_str().into(), tensor: site.to_string(), n_bytes }
            })?;
            packed.push((site, Part { pair, scale: part.scale }));
        }
        let mut parts = packed;
        parts.sort_by_key(|(site, _)| *site);
        if parts.is_empty() {
            return Err(AdapterError::Empty { adapter: name.as_str().into() });
        }
        if let Some(pair) = parts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let what = format!("{}.weight", pair[0].0);
            return Err(AdapterError::tensor(&name, what, "two parts for it", "one"));
        }
        let (n_ranks, fingerprint) = (n_ranks(&parts), fingerprint(&parts));
        let (shapes, warnings) = (Shapes::of(config), Vec::new());
        Ok(Adapter { name, parts, shapes, n_ranks, fingerprint, warnings, reservation: None })
    }

    /// What messages call it: its file, most often.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a user should know about its file, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Adds to [`Adapter::warnings`].
    pub fn warn(&mut self, lines: impl IntoIterator<Item = String>) {
        self.warnings.extend(lines);
    }

    /// Its parts, in order of layers, then projections. Each is a copy.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (Site, LowRank)> {
        self.parts.iter().map(|(site, Part { pair, scale })| {
            (*site, LowRank { rank: pair.rank(), scale: *scale, a: pair.to_a(), b: pair.to_b() })
        })
    }

    /// Where its parts are, with rank and scale, in the same order.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = (Site, usize, f32)> {
        self.parts.iter().map(|(site, part)| (*site, part.pair.rank(), part.scale))
    }

    /// Bytes that it takes.
    pub fn n_bytes(&self) -> usize {
        self.parts.iter().map(|(_, part)| part.pair.n_bytes() + size_of::<(Site, Part)>()).sum()
    }

    /// Keeps `reservation` as long as it is there.
    pub fn hold(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }

    /// Bytes of buffers that a pass takes for it besides, for each row.
    pub fn row_bytes(&self) -> usize {
        4 * self.n_ranks
    }

    /// Tells adapters of different content apart: XXH3 (128 bits) of sites, shapes, scales, formats and numbers. The name does not matter.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Whether it can be used with models of this configuration.
    pub fn fits(&self, config: &MistralConfig) -> bool {
        self.shapes == Shapes::of(config)
    }

    /// The number of the part at `site`.
    pub(super) fn part_at(&self, site: Site) -> Option<usize> {
        self.parts.binary_search_by_key(&site, |(site, _)| *site).ok()
    }
}

/// The most ranks of parts that share an input.
fn n_ranks(parts: &[(Site, Part)]) -> usize {
    let together = |a: &(Site, Part), b: &(Site, Part)| {
        a.0.layer == b.0.layer && a.0.expert == b.0.expert && a.0.projection.shares_input(b.0.projection)
    };
    let of = |part: &(Site, Part)| {
        parts.iter().filter(|other| together(part, other)).map(|(_, part)| part.pair.rank()).sum()
    };
    parts.iter().map(of).max().unwrap_or(0)
}

fn fingerprint(parts: &[(Site, Part)]) -> u128 {
    let mut hash = XxHash3_128::new();
    for (site, Part { pair, scale }) in parts {
        hash.write(site.to_string().as_bytes());
        for n in [pair.rank(), pair.k(), pair.n_rows()] {
            hash.write(&(n as u64).to_le_bytes());
        }
        hash.write(&scale.to_bits().to_le_bytes());
        for (format, bytes) in pair.stored() {
            hash.write(format.name().as_bytes());
            hash.write(bytes);
        }
    }
    hash.finish_128()
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("name", &self.name)
            .field("n_parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}
