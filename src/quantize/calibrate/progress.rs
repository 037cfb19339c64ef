//! How far a run is.

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CalibrateProgress {
    /// Layers that are done, the last matrix counted as one.
    pub layers: usize,
    /// How many there are.
    pub n_layers: usize,
    /// The part of all operations that is done, from 0 to 1.
    pub part: f64,
}
