//! Telemetry rows as a source gives them, and the schema that names their columns.

use std::collections::HashMap;

use vedette_protocol::limit::MAX_SIGNALS;
use vedette_protocol::{SignalName, Unit};

/// The ordered signals of a stream. `None` as unit means that the source does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    signals: Box<[(SignalName, Option<Unit>)]>,
    index: HashMap<SignalName, usize>,
}

/// Why a list of signals is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Nothing to score.
    #[error("a stream needs at least one signal")]
    Empty,
    /// One name, two columns.
    #[error("signal `{0}` stands there twice")]
    Twice(SignalName),
    /// More signals than a contract may name.
    #[error("{found} signals are too many, the limit is {MAX_SIGNALS}")]
    TooMany {
        /// Signals given.
        found: usize,
    },
}

impl Schema {
    /// A schema of 1 to 512 signals with different names.
    ///
    /// # Errors
    /// [`SchemaError`] says which rule is broken.
    pub fn new(signals: Vec<(SignalName, Option<Unit>)>) -> Result<Schema, SchemaError> {
        if signals.is_empty() {
            return Err(SchemaError::Empty);
        }
        if signals.len() > MAX_SIGNALS {
            return Err(SchemaError::TooMany { found: signals.len() });
        }
        let mut index = HashMap::with_capacity(signals.len());
        for (i, (name, _)) in signals.iter().enumerate() {
            if index.insert(name.clone(), i).is_some() {
                return Err(SchemaError::Twice(name.clone()));
            }
        }
        Ok(Schema { signals: signals.into(), index })
    }

    /// Number of signals, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.signals.len()
    }

    /// Position of a signal in every sample.
    pub fn index_of(&self, name: &SignalName) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Name of the signal at `index`.
    pub fn name(&self, index: usize) -> Option<&SignalName> {
        self.signals.get(index).map(|(name, _)| name)
    }

    /// Unit of the signal at `index`, if the source says.
    pub fn unit(&self, index: usize) -> Option<&Unit> {
        self.signals.get(index).and_then(|(_, unit)| unit.as_ref())
    }

    /// All signals in the order of the samples.
    pub fn signals(&self) -> &[(SignalName, Option<Unit>)] {
        &self.signals
    }
}

/// One row of telemetry.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was measured, Unix milliseconds UTC.
    pub at_ms: i64,
    /// One number per signal of the schema, in its order and its units; NaN where the source had none. A sample with fewer
    /// numbers than the schema has signals counts the rest as absent.
    pub values: Box<[f32]>,
}

/// Rows of one stream in one piece of memory, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    signals: usize,
    at_ms: Vec<i64>,
    values: Vec<f32>,
}

impl Rows {
    /// None yet, of a stream with this many signals, at least 1; with room for `rows` of them.
    pub fn new(signals: usize, rows: usize) -> Rows {
        let signals = signals.max(1);
        Rows { signals, at_ms: Vec::with_capacity(rows), values: Vec::with_capacity(rows * signals) }
    }

    /// None yet, of a stream with as many signals; allocates nothing.
    #[must_use]
    pub fn like(&self) -> Rows {
        Rows::new(self.signals, 0)
    }

    /// Adds a row; numbers that are not there count as absent, those beyond the signals are left out.
    pub fn push(&mut self, at_ms: i64, values: &[f32]) {
        let there = &values[..values.len().min(self.signals)];
        self.at_ms.push(at_ms);
        self.values.extend_from_slice(there);
        self.values.resize(self.at_ms.len() * self.signals, f32::NAN);
    }

    /// Adds `rows` of another list of the same signals, `later_ms` after their times.
    pub fn push_later(&mut self, other: &Rows, rows: std::ops::Range<usize>, later_ms: i64) {
        let Some(times) = other.at_ms.get(rows.clone()) else { return };
        self.at_ms.extend(times.iter().map(|at| at.saturating_add(later_ms)));
        self.values.extend_from_slice(&other.values[rows.start * other.signals..rows.end * other.signals]);
        self.values.resize(self.at_ms.len() * self.signals, f32::NAN);
    }

    /// Adds a row of numbers that come one by one, as many as there are signals. If one can't be had there is no new row.
    ///
    /// # Errors
    /// The first error of `values`.
    pub fn try_push<E>(&mut self, at_ms: i64, values: impl Iterator<Item = Result<f32, E>>) -> Result<(), E> {
        let before = self.values.len();
        for value in values.take(self.signals) {
            match value {
                Ok(value) => self.values.push(value),
                Err(error) => {
                    self.values.truncate(before);
                    return Err(error);
                }
            }
        }
        self.at_ms.push(at_ms);
        self.values.resize(self.at_ms.len() * self.signals, f32::NAN);
        Ok(())
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.at_ms.clear();
        self.values.clear();
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.at_ms.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.at_ms.is_empty()
    }

    /// The rows' times, Unix milliseconds UTC.
    pub fn times(&self) -> &[i64] {
        &self.at_ms
    }

    /// The numbers of a row.
    pub fn row(&self, row: usize) -> &[f32] {
        self.values.get(row * self.signals..(row + 1) * self.signals).unwrap_or_default()
    }

    /// Whether these are rows of a stream with this many signals.
    pub(crate) fn has_signals(&self, signals: usize) -> bool {
        self.signals == signals.max(1)
    }

    /// Some rows, to be looked at.
    pub(crate) fn part(&self, rows: std::ops::Range<usize>) -> Part<'_> {
        let values = &self.values[rows.start * self.signals..rows.end * self.signals];
        Part { signals: self.signals, at_ms: &self.at_ms[rows], values }
    }
}

/// Some rows of a stream, row by row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    signals: usize,
    pub(crate) at_ms: &'a [i64],
    pub(crate) values: &'a [f32],
}

impl<'a> Part<'a> {
    /// The numbers of a row.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.signals..(row + 1) * self.signals]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_as_many_numbers_as_there_are_signals() {
        let mut rows = Rows::new(2, 4);
        rows.push(1, &[1.0]);
        rows.push(2, &[2.0, 3.0, 4.0]);
        assert!(rows.row(0)[0] == 1.0 && rows.row(0)[1].is_nan());
        assert_eq!(rows.row(1), [2.0, 3.0]);
        let wrong = rows.try_push(3, [Ok(1.0), Err("no number")].into_iter());
        assert_eq!((wrong, rows.len()), (Err("no number"), 2));
        let mut later = Rows::new(2, 4);
        later.push_later(&rows, 1..2, 10);
        assert_eq!((later.times(), later.row(0)), (&[12][..], &[2.0, 3.0][..]));
        later.push_later(&rows, 1..3, 10);
        assert_eq!(later.len(), 1, "rows that are not there are not added");
    }
}
