//! Which rows each step learns from.

use std::ops::Range;

use super::random::{keyed, uniform_below};

/// The order of rows: an epoch visits each of them once, a step takes the next ones, and the last step of an epoch what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Rows of an epoch.
    pub n_rows: usize,
    /// Rows of a step, but for the last one of an epoch.
    pub rows_per_step: usize,
    /// Chooses the order of each epoch; `None` keeps that of the file.
    pub shuffle: Option<u64>,
}

impl Order {
    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_rows.div_ceil(self.rows_per_step)
    }

    /// The epoch of step `step`, and the places in its order that the step visits. All from 0.
    pub fn places(&self, step: usize) -> (usize, Range<usize>) {
        let (epoch, step) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let first = step * self.rows_per_step;
        (epoch, first..(first + self.rows_per_step).min(self.n_rows))
    }

    /// All rows in the order of `epoch`.
    pub fn epoch(&self, epoch: usize) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.n_rows).collect();
        if let Some(seed) = self.shuffle {
            let mut rng = keyed(seed, &format!("epoch {epoch}"));
            // Fisher and Yates.
            for i in (1..rows.len()).rev() {
                rows.swap(i, uniform_below(&mut rng, i + 1));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_every_row_once() {
        let order = Order { n_rows: 10, rows_per_step: 4, shuffle: Some(7) };
        assert_eq!(order.steps_per_epoch(), 3);
        let visited = |epoch: usize| {
            let rows = order.epoch(epoch);
            let steps = (0..3).flat_map(|i| {
                let (of, places) = order.places(epoch * 3 + i);
                assert_eq!(of, epoch);
                rows[places].to_vec()
            });
            steps.collect::<Vec<_>>()
        };
        let (first, second) = (visited(0), visited(1));
        let sorted = |mut rows: Vec<usize>| {
            rows.sort();
            rows
        };
        assert_eq!(sorted(first.clone()), (0..10).collect::<Vec<_>>());
        assert_eq!(sorted(second.clone()), (0..10).collect::<Vec<_>>());
        assert_ne!(first, second);
        assert_eq!(first, visited(0));
    }

    #[test]
    fn the_order_of_the_file_can_be_kept() {
        let order = Order { n_rows: 5, rows_per_step: 8, shuffle: None };
        assert_eq!(order.epoch(3), [0, 1, 2, 3, 4]);
        assert_eq!(order.places(2), (2, 0..5));
    }

    #[test]
    fn every_row_can_come_first() {
        let first = |seed| Order { n_rows: 4, rows_per_step: 1, shuffle: Some(seed) }.epoch(0)[0];
        let mut counts = [0; 4];
        (0..4000).for_each(|seed| counts[first(seed)] += 1);
        // Five standard deviations of a binomial with p = 1/4.
        assert!(counts.iter().all(|n| (863..=1137).contains(n)), "{counts:?}");
    }
}
