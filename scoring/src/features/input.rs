//! One signal of a contract, tied to a column: fill, transform, scale, one row at a time, whatever the row holds.

use vedette_protocol::{Fill, Signal, Transform};

#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) column: usize,
    pub(super) signal: Signal,
    /// Last raw value that was there, and when.
    pub(super) real: Option<(f64, i64)>,
    /// Raw value of the row before, filled or not.
    pub(super) before: Option<f64>,
    pub(super) last_rate: f64,
    pub(super) absent: u32,
}

pub(super) enum Value {
    /// Ready for the window.
    There(f32),
    /// First row of a difference or rate: nothing to compare with yet.
    Priming,
    /// Beyond what may be filled.
    Missing,
}

impl Input {
    pub(super) fn new(column: usize, signal: Signal) -> Self {
        Input { column, signal, real: None, before: None, last_rate: 0.0, absent: 0 }
    }

    pub(super) fn next(&mut self, at_ms: i64, row: &[f32]) -> Value {
        let raw = row.get(self.column).map_or(f64::NAN, |raw| f64::from(*raw));
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
            Transform::Rate if there => self.rate(used, at_ms),
            Transform::Rate if self.real.is_some() => Value::There(self.scaled(0.0)),
            Transform::Rate => Value::Priming,
        };
        self.before = Some(used);
        if there {
            self.real = Some((used, at_ms));
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
