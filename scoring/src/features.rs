//! From raw rows to the window that a model sees, as the manifest's contract says.
//!
//! Operations on one row, per signal of the contract, found in the stream's schema by name:
//!
//! 1. fill, when the raw value is absent (not there, NaN, infinite): the last one that was there or a constant, for as many
//!    rows in a row as the limit allows; beyond it the signal is *missing*: a finding, and the window begins anew, because a
//!    window has no holes;
//! 2. transform: the value itself, its difference to the row before, or its rate per second since it was last there (a
//!    filled row has rate 0). Both need a row before; the first row only primes them. A counter that fell, or whose time
//!    stood still, has no rate: that row counts as absent, and within the fill limit the last rate stands in;
//! 3. `(x - center) / scale`, clipped to ±clip, in f64, stored as f32.
//!
//! Layout: the ring holds every row twice, `window` rows apart, so that the last `window` rows always lie in one piece.
//! Nothing allocates after the start.

use std::sync::Arc;

use vedette_protocol::{Contract, Fill, Signal, SignalName, Transform, Unit};

use crate::sample::{Sample, Schema};

/// Why a model can't score a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractMismatch {
    /// The stream lacks signals.
    #[error("the model needs signal {}, which the stream does not have; it has {}", listed(.missing), listed(.have))]
    Signals {
        /// Signals of the contract that are not in the schema.
        missing: Vec<SignalName>,
        /// What the schema has.
        have: Vec<SignalName>,
    },
    /// A signal comes in another unit.
    #[error("the model needs signal `{signal}` in `{expected}`, the stream gives it in `{found}`")]
    Unit {
        /// Which.
        signal: SignalName,
        /// The stream's unit.
        found: Unit,
        /// The contract's unit.
        expected: Unit,
    },
}

/// Names that are listed in a message at most.
const LISTED: usize = 12;

/// The first names of a list, and how many more there are.
pub(crate) fn listed(list: &[impl std::fmt::Display]) -> String {
    let mut text = list.iter().take(LISTED).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if list.len() > LISTED {
        text.push_str(&format!(" and {} more", list.len() - LISTED));
    }
    text
}

/// How long each column of a stream has not changed: known before any model comes.
#[derive(Clone, Debug)]
pub(crate) struct Stillness {
    last: Box<[f32]>,
    rows: Box<[u32]>,
    absent: Box<[u32]>,
}

impl Stillness {
    pub(crate) fn new(signals: usize) -> Self {
        Stillness {
            last: vec![f32::NAN; signals].into(),
            rows: vec![0; signals].into(),
            absent: vec![0; signals].into(),
        }
    }

    pub(crate) fn see(&mut self, values: &[f32]) {
        for (i, (last, (rows, absent))) in
            self.last.iter_mut().zip(self.rows.iter_mut().zip(&mut self.absent)).enumerate()
        {
            let value = value_of(values, i);
            if !value.is_finite() {
                *absent = absent.saturating_add(1);
                continue;
            }
            *absent = 0;
            *rows = if value == *last { rows.saturating_add(1) } else { 1 };
            *last = value;
        }
    }

    /// Rows for which the column has had the value it has now.
    fn rows(&self, column: usize) -> u32 {
        self.rows.get(column).copied().unwrap_or(0)
    }

    /// Columns that have been absent for more than `limit` rows in a row.
    pub(crate) fn absent_for(&self, limit: u32) -> impl Iterator<Item = usize> {
        self.absent.iter().enumerate().filter(move |(_, rows)| **rows > limit).map(|(i, _)| i)
    }
}

fn value_of(values: &[f32], column: usize) -> f32 {
    values.get(column).copied().unwrap_or(f32::NAN)
}

/// One signal of the contract, tied to a column.
#[derive(Clone, Debug)]
struct Input {
    column: usize,
    signal: Signal,
    /// Last raw value that was there, and when.
    real: Option<(f64, i64)>,
    /// Raw value of the row before, filled or not.
    before: Option<f64>,
    last_rate: f64,
    absent: u32,
}

enum Value {
    /// Ready for the window.
    There(f32),
    /// First row of a difference or rate: nothing to compare with yet.
    Priming,
    /// Beyond what may be filled.
    Missing,
}

impl Input {
    fn new(column: usize, signal: Signal) -> Self {
        Input { column, signal, real: None, before: None, last_rate: 0.0, absent: 0 }
    }

    fn next(&mut self, sample: &Sample) -> Value {
        let raw = f64::from(value_of(&sample.values, self.column));
        let there = raw.is_finite();
        self.absent = if there { 0 } else { self.absent.saturating_add(1) };
        let used = if there { Some(raw) } else { self.filled() };
        let Some(used) = used else {
            (self.real, self.before) = (None, None);
            return Value::Missing;
        };
        let value = match self.signal.transform {
            Transform::None => Value::There(self.scaled(used)),
            Transform::Difference => {
                self.before.map_or(Value::Priming, |before| Value::There(self.scaled(used - before)))
            }
            Transform::Rate if there => self.rate(used, sample.at_ms),
            Transform::Rate if self.real.is_some() => Value::There(self.scaled(0.0)),
            Transform::Rate => Value::Priming,
        };
        self.before = Some(used);
        if there {
            self.real = Some((used, sample.at_ms));
        }
        value
    }

    fn fill_limit(&self) -> u32 {
        match self.signal.fill {
            Fill::None => 0,
            Fill::Hold { limit } | Fill::Constant { limit, .. } => limit,
        }
    }

    fn filled(&self) -> Option<f64> {
        let value = match self.signal.fill {
            Fill::None => None,
            Fill::Hold { .. } => self.real.map(|(raw, _)| raw),
            Fill::Constant { value, .. } => Some(value.get()),
        };
        value.filter(|_| self.absent <= self.fill_limit())
    }

    fn rate(&mut self, raw: f64, at_ms: i64) -> Value {
        let Some((last, last_ms)) = self.real else { return Value::Priming };
        let seconds = at_ms.saturating_sub(last_ms) as f64 / 1000.0;
        if raw >= last && seconds > 0.0 {
            self.last_rate = (raw - last) / seconds;
        } else {
            self.absent = self.absent.saturating_add(1);
            if self.absent > self.fill_limit() {
                return Value::Missing;
            }
        }
        Value::There(self.scaled(self.last_rate))
    }

    fn scaled(&self, value: f64) -> f32 {
        let scaled = (value - self.signal.center.get()) / self.signal.scale.get();
        self.signal.clip.map_or(scaled, |clip| scaled.clamp(-clip.get(), clip.get())) as f32
    }
}

/// What the window is after a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Full, and this row is one to score.
    Ready,
    /// Full, but the hop lies between.
    Between,
    /// Not full yet.
    Warming,
}

/// The window of one stream for one model.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    inputs: Box<[Input]>,
    ring: Box<[f32]>,
    rows: usize,
    head: usize,
    filled: usize,
    hop: u32,
    since: u32,
    missing: Vec<u16>,
    frozen: Vec<u16>,
}

impl Features {
    /// Ties the contract's signals to the schema's columns.
    pub(crate) fn bind(contract: &Contract, schema: &Arc<Schema>) -> Result<Features, ContractMismatch> {
        let absent: Vec<SignalName> =
            contract.signals.iter().map(|s| &s.name).filter(|n| schema.index_of(n).is_none()).cloned().collect();
        if !absent.is_empty() {
            let have = schema.signals().iter().map(|(name, _)| name.clone()).collect();
            return Err(ContractMismatch::Signals { missing: absent, have });
        }
        let mut inputs = Vec::with_capacity(contract.signals.len());
        for signal in &contract.signals {
            let Some(column) = schema.index_of(&signal.name) else { continue };
            if let Some(found) = schema.unit(column).filter(|unit| **unit != signal.unit) {
                let (signal, found, expected) = (signal.name.clone(), found.clone(), signal.unit.clone());
                return Err(ContractMismatch::Unit { signal, found, expected });
            }
            inputs.push(Input::new(column, signal.clone()));
        }
        let (rows, signals) = (contract.window as usize, inputs.len());
        Ok(Features {
            ring: vec![0.0; 2 * rows * signals].into(),
            rows,
            head: 0,
            filled: 0,
            hop: contract.hop.max(1),
            since: 0,
            missing: Vec::with_capacity(signals),
            frozen: Vec::with_capacity(signals),
            inputs: inputs.into(),
        })
    }

    /// Takes the next row.
    pub(crate) fn push(&mut self, sample: &Sample, still: &Stillness) -> Window {
        let signals = self.inputs.len();
        let at = self.head * signals;
        let mut complete = true;
        self.missing.clear();
        self.frozen.clear();
        for (i, input) in self.inputs.iter_mut().enumerate() {
            match input.next(sample) {
                Value::There(value) => {
                    self.ring[at + i] = value;
                    self.ring[at + i + self.rows * signals] = value;
                }
                Value::Priming => complete = false,
                Value::Missing => {
                    complete = false;
                    self.missing.push(input.column as u16);
                }
            }
            if input.signal.frozen_after.is_some_and(|limit| still.rows(input.column) >= limit.max(2)) {
                self.frozen.push(input.column as u16);
            }
        }
        if !complete {
            (self.filled, self.since) = (0, 0);
            return Window::Warming;
        }
        self.head = (self.head + 1) % self.rows;
        self.filled = (self.filled + 1).min(self.rows);
        if self.filled < self.rows {
            return Window::Warming;
        }
        let due = self.since == 0;
        self.since = (self.since + 1) % self.hop;
        if due { Window::Ready } else { Window::Between }
    }

    /// The last `window` rows, oldest first, row-major; meaningful when the last push said so.
    pub(crate) fn window(&self) -> &[f32] {
        let signals = self.inputs.len();
        &self.ring[self.head * signals..(self.head + self.rows) * signals]
    }

    /// The next full window is one to score, wherever the hop was.
    pub(crate) fn restart_hop(&mut self) {
        self.since = 0;
    }

    /// Columns that were beyond their fill limit in the last row.
    pub(crate) fn missing(&self) -> &[u16] {
        &self.missing
    }

    /// Columns that have not changed for longer than the contract allows.
    pub(crate) fn frozen(&self) -> &[u16] {
        &self.frozen
    }

    /// Schema column of the contract's signal `i`.
    pub(crate) fn column(&self, i: usize) -> usize {
        self.inputs.get(i).map_or(0, |input| input.column)
    }
}
