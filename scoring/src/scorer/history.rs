//! The last raw rows of a stream, for a model to come.

use crate::sample::Sample;

#[derive(Clone, Debug)]
pub(super) struct History {
    signals: usize,
    values: Box<[f32]>,
    at_ms: Box<[i64]>,
    next: usize,
    len: usize,
}

impl History {
    pub(super) fn new(signals: usize, rows: usize) -> Self {
        History { signals, values: vec![f32::NAN; signals * rows].into(), at_ms: vec![0; rows].into(), next: 0, len: 0 }
    }

    pub(super) fn push(&mut self, sample: &Sample) {
        let row = &mut self.values[self.next * self.signals..(self.next + 1) * self.signals];
        row.fill(f32::NAN);
        row.iter_mut().zip(&sample.values).for_each(|(to, from)| *to = *from);
        self.at_ms[self.next] = sample.at_ms;
        self.next = (self.next + 1) % self.at_ms.len();
        self.len = (self.len + 1).min(self.at_ms.len());
    }

    /// The rows that are kept, oldest first.
    pub(super) fn samples(&self) -> impl Iterator<Item = Sample> {
        let rows = self.at_ms.len();
        (0..self.len).map(move |i| {
            let row = (self.next + rows - self.len + i) % rows;
            let values = self.values[row * self.signals..(row + 1) * self.signals].into();
            Sample { at_ms: self.at_ms[row], values }
        })
    }

    /// Makes room for `rows` rows; those there are stay.
    pub(super) fn keep_at_least(&mut self, rows: usize) {
        if rows <= self.at_ms.len() {
            return;
        }
        let mut larger = History::new(self.signals, rows);
        self.samples().for_each(|sample| larger.push(&sample));
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rows_come_back_in_order_and_survive_growing() {
        let mut history = History::new(1, 3);
        for i in 0..5 {
            history.push(&Sample { at_ms: i, values: [i as f32].into() });
        }
        let times = |h: &History| h.samples().map(|s| s.at_ms).collect::<Vec<_>>();
        assert_eq!(times(&history), [2, 3, 4]);
        history.keep_at_least(4);
        history.push(&Sample { at_ms: 5, values: [5.0].into() });
        assert_eq!(times(&history), [2, 3, 4, 5]);
    }
}
