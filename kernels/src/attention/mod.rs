//! `softmax(q·Kᵀ)·V` over pages of keys and values, without a matrix of scores.
//!
//! # The rule
//!
//! Within a page, for one query (`q` scaled beforehand) and the keys it may see:
//! `s_j = Σ_d q_d·k_jd` by fused multiply-add over the dimensions in order, from 0; `m = max s_j`; `p_j = exp(s_j − m)`;
//! `l = Σ p_j`, key `j` in lane `j % 16`, folded in the tree of the lanes; `acc_d = Σ_j p_j·v_jd` by fused multiply-add over the keys in
//! order, from 0. Keys it may not see are skipped: whatever lies in their slots has no influence.
//!
//! Pages fold in the order of positions: with `M` the larger of the two `m`, `a = exp(m − M)` of what is there and `b` of the page,
//! `l = fma(l_page, b, l·a)` and `acc = fma(acc_page, b, acc·a)`; the first page with a key is taken as it is. The output is `acc / l`.
//!
//! So the result does not depend on which queries travel together, nor on which thread does a page.

pub(crate) mod driver;
pub mod layout;
pub(crate) mod page;
pub(crate) mod partials;

pub use driver::{Attention, AttentionScratch, QuerySpan, attention};
pub use partials::{PageHead, Partials};
