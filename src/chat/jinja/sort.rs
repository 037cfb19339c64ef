//! Sorting by an order that may fail, and is paid for.

use std::cmp::Ordering;
use std::rc::Rc;

use super::fault::Fault;
use super::meter::Meter;

/// A stable sort whose comparison may fail.
pub(super) fn sort_by<T>(
    items: &mut Vec<T>,
    meter: &Rc<Meter>,
    order: impl Fn(&T, &T) -> Result<Option<Ordering>, Fault> + Copy,
) -> Result<(), Fault> {
    if items.len() < 2 {
        return Ok(());
    }
    meter.pay(items.len() / 4)?;
    let mut right = items.split_off(items.len() / 2);
    sort_by(items, meter, order)?;
    sort_by(&mut right, meter, order)?;
    let mut left = std::mem::take(items).into_iter().peekable();
    let mut right = right.into_iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let takes_right = order(b, a)? == Some(Ordering::Less);
        items.extend(if takes_right { right.next() } else { left.next() });
    }
    items.extend(left);
    items.extend(right);
    Ok(())
}
