//! The last raw rows of a stream, for a model to come.

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

    /// Takes a row of exactly as many numbers as there are signals.
    pub(super) fn push(&mut self, at_ms: i64, row: &[f32]) {
        self.values[self.next * self.signals..(self.next + 1) * self.signals].copy_from_slice(row);
        self.at_ms[self.next] = at_ms;
        self.next = if self.next + 1 == self.at_ms.len() { 0 } else { self.next + 1 };
        self.len = (self.len + 1).min(self.at_ms.len());
    }

    /// The rows that are kept, oldest first.
    pub(super) fn rows(&self) -> impl Iterator<Item = (i64, &[f32])> {
        let rows = self.at_ms.len();
        (0..self.len).map(move |i| {
            let row = (self.next + rows - self.len + i) % rows;
            (self.at_ms[row], &self.values[row * self.signals..(row + 1) * self.signals])
        })
    }

    /// Makes room for `rows` rows; those there are stay.
    pub(super) fn keep_at_least(&mut self, rows: usize) {
        if rows <= self.at_ms.len() {
            return;
        }
        let mut larger = History::new(self.signals, rows);
        self.rows().for_each(|(at_ms, row)| larger.push(at_ms, row));
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
            history.push(i, &[i as f32]);
        }
        let times = |h: &History| h.rows().map(|(at_ms, _)| at_ms).collect::<Vec<_>>();
        assert_eq!(times(&history), [2, 3, 4]);
        history.keep_at_least(4);
        history.push(5, &[5.0]);
        assert_eq!(times(&history), [2, 3, 4, 5]);
    }
}
