//! The order of columns.

use super::parts::Part;
use crate::convert::ConvertError;

/// Whether no column was given a group: compressed-tensors fills all with -1 then.
pub(super) fn is_unset(g_idx: &Part<'_>) -> Result<bool, ConvertError> {
    Ok(g_idx.integers()?.iter().all(|group| *group == -1))
}

/// Checks that column `i` is of group `i / group_len`.
pub(super) fn check_order(g_idx: &Part<'_>, n_in: usize, group_len: usize) -> Result<(), ConvertError> {
    let groups = g_idx.integers()?;
    g_idx.check_shape(&[n_in], "one group for each column")?;
    let in_order = |(i, group): (usize, &i64)| usize::try_from(*group) == Ok(i / group_len);
    match groups.iter().enumerate().position(|pair| !in_order(pair)) {
        None => Ok(()),
        Some(i) => Err(ConvertError::Unsupported {
            path: g_idx.path(),
            what: format!("{} (GPTQ with act-order, desc_act)", g_idx.what()),
            reason: format!(
                "column {i} belongs to group {} instead of {}, so that no block of 32 columns has one scale; \
                 take a checkpoint made with desc_act false, or convert the one that this was made from",
                groups[i],
                i / group_len
            ),
        }),
    }
}
