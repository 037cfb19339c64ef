//! Texts made from formats: `'%s' % x` and `'{}'.format(x)`.

mod braces;
mod field;
mod percent;

pub(super) use braces::braces;
pub(super) use percent::percent;
