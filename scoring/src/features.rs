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
//! [`input`] does that for any row, signal by signal; [`steady`] does it for the usual row, all signals at once.
//!
//! Layout: the ring holds every row twice, `window` rows apart, so that the last `window` rows always lie in one piece.
//! Nothing allocates after the start.

mod input;
mod steady;
mod still;

use std::sync::Arc;

use vedette_protocol::{Contract, SignalName, Unit};

use crate::sample::Schema;
use input::{Input, Value};
use steady::Steady;
pub(crate) use still::{Row, Stillness};

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
    steady: Steady,
    /// Rows for which a column of the stream may keep its value; the largest number: for ever.
    still_max: Box<[u32]>,
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
        let mut still_max = vec![u32::MAX; schema.len()];
        for input in &inputs {
            if let (Some(limit), Some(most)) = (frozen_after(input), still_max.get_mut(input.column)) {
                *most = limit;
            }
        }
        Ok(Features {
            steady: Steady::new(&inputs),
            still_max: still_max.into(),
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

    /// Takes the next row, which has a number for each column of the stream.
    pub(crate) fn push(&mut self, at_ms: i64, row: &[f32], is: Row, still: &Stillness) -> Window {
        let signals = self.inputs.len();
        let at = self.head * signals;
        self.missing.clear();
        self.frozen.clear();
        let slot = &mut self.ring[at..at + signals];
        let steady = is == Row::Whole && self.steady.take(at_ms, row, slot);
        let complete = steady || self.look_closely(at_ms, row);
        if still.reaches(&self.still_max) {
            let frozen = |input: &&Input| frozen_after(input).is_some_and(|limit| still.rows(input.column) >= limit);
            self.frozen.extend(self.inputs.iter().filter(frozen).map(|input| input.column as u16));
        }
        if !complete {
            (self.filled, self.since) = (0, 0);
            return Window::Warming;
        }
        self.ring.copy_within(at..at + signals, at + self.rows * signals);
        self.head = if self.head + 1 == self.rows { 0 } else { self.head + 1 };
        self.filled = (self.filled + 1).min(self.rows);
        if self.filled < self.rows {
            return Window::Warming;
        }
        let due = self.since == 0;
        self.since = if self.since + 1 == self.hop { 0 } else { self.since + 1 };
        if due { Window::Ready } else { Window::Between }
    }

    /// A row that is not like the one before; says whether all its features are there.
    fn look_closely(&mut self, at_ms: i64, row: &[f32]) -> bool {
        self.steady.leave(&mut self.inputs);
        let at = self.head * self.inputs.len();
        let mut complete = true;
        for (i, input) in self.inputs.iter_mut().enumerate() {
            match input.next(at_ms, row) {
                Value::There(value) => self.ring[at + i] = value,
                Value::Priming => complete = false,
                Value::Missing => {
                    complete = false;
                    self.missing.push(input.column as u16);
                }
            }
        }
        if complete {
            self.steady.come(at_ms, &self.inputs);
        }
        complete
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

/// Rows after which a signal that has not changed is frozen.
fn frozen_after(input: &Input) -> Option<u32> {
    input.signal.frozen_after.map(|limit| limit.max(2))
}
