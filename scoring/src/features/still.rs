//! How long each column of a stream has not changed, and how long it has been absent: known before any model comes.

use crate::kernel::lanes::{Body, Isa, Lanes};

/// Whether a row has all its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// All are there and finite.
    Whole,
    /// Some are not.
    Holed,
}

impl Row {
    pub(crate) fn of(row: &[f32]) -> Row {
        if row.iter().all(|value| value.is_finite()) { Row::Whole } else { Row::Holed }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Stillness {
    set: Lanes,
    last: Box<[f32]>,
    rows: Box<[u32]>,
    absent: Box<[u32]>,
    some_absent: bool,
}

impl Stillness {
    pub(crate) fn new(signals: usize) -> Self {
        Stillness {
            set: Lanes::detected(),
            last: vec![f32::NAN; signals].into(),
            rows: vec![0; signals].into(),
            absent: vec![0; signals].into(),
            some_absent: false,
        }
    }

    /// Takes a row of as many numbers as there are columns; says whether all of them are there.
    pub(crate) fn see(&mut self, row: &[f32]) -> Row {
        let mut whole = false;
        self.set.run(See { row, last: &mut self.last, rows: &mut self.rows, whole: &mut whole });
        if !whole {
            self.see_some(row);
            return Row::Holed;
        }
        if std::mem::take(&mut self.some_absent) {
            self.absent.fill(0);
        }
        Row::Whole
    }

    #[cold]
    fn see_some(&mut self, row: &[f32]) {
        self.some_absent = true;
        let known = self.last.iter_mut().zip(self.rows.iter_mut().zip(&mut self.absent));
        for ((last, (rows, absent)), value) in known.zip(row) {
            if !value.is_finite() {
                *absent = absent.saturating_add(1);
                continue;
            }
            *absent = 0;
            *rows = if value == last { rows.saturating_add(1) } else { 1 };
            *last = *value;
        }
    }

    /// Rows for which the column has had the value it has now.
    pub(super) fn rows(&self, column: usize) -> u32 {
        self.rows.get(column).copied().unwrap_or(0)
    }

    /// Whether some column has had its value for as many rows as its limit says.
    pub(super) fn reaches(&self, limits: &[u32]) -> bool {
        self.rows.iter().zip(limits).fold(0, |some, (rows, limit)| some | u32::from(rows >= limit)) != 0
    }

    /// Columns that have been absent for more than `limit` rows in a row.
    pub(crate) fn absent_for(&self, limit: u32) -> impl Iterator<Item = usize> {
        let absent = if self.some_absent { &self.absent[..] } else { &[] };
        absent.iter().enumerate().filter(move |(_, rows)| **rows > limit).map(|(i, _)| i)
    }
}

/// Looks whether a row is whole, and if so takes it.
struct See<'a> {
    row: &'a [f32],
    last: &'a mut [f32],
    rows: &'a mut [u32],
    whole: &'a mut bool,
}

impl Body for See<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) {
        let holes = self.row.iter().fold(0, |some, value| some | u32::from(value.abs() > f32::MAX || value.is_nan()));
        *self.whole = holes == 0;
        if !*self.whole {
            return;
        }
        for ((last, rows), value) in self.last.iter_mut().zip(self.rows).zip(self.row) {
            let before = if value == last { *rows } else { 0 };
            *rows = before.min(u32::MAX - 1) + 1;
            *last = *value;
        }
    }
}
