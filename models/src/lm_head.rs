//! From hidden states to logits.

use std::ops::Range;

use crate::error::ForwardError;
use crate::linear::{Linear, Target};
use crate::rows::RowsMut;
use crate::scratch::Buffers;
use crate::site::{Projection, Site};
use crate::weights::Matrix;

/// The matrix that makes logits, `[n_vocab, n_embd]`.
#[derive(Clone, Copy)]
pub(crate) struct LmHead<'a> {
    pub w: &'a Matrix,
    /// Its place for hooks: one past the last layer.
    pub layer: usize,
}

impl LmHead<'_> {
    /// `logits = W · h` for the wanted rows from `first` on, as many as are computed at a time; returns which those are.
    pub fn logits(
        &self,
        linear: &mut Linear<'_>,
        s: &mut Buffers,
        first: usize,
    ) -> Result<Range<usize>, ForwardError> {
        let (n_vocab, d) = (self.w.view().n_rows(), self.w.view().k());
        let n = s.wanted[first..]
            .iter()
            .take_while(|wanted| !wanted.is_hidden)
            .count()
            .min(s.logits.len() / n_vocab);
        let rows = first..first + n;
        if n > 0 {
            linear.stream_to(self.layer);
            let site = Site { layer: self.layer, projection: Projection::Output, expert: None };
            let logits = Target { site, w: self.w, y: &mut s.logits[..n * n_vocab] };
            let h = RowsMut::new(&mut s.h[first * d..][..n * d], d);
            linear.project(h, &s.spans[rows.clone()], [logits])?;
        }
        Ok(rows)
    }
}
