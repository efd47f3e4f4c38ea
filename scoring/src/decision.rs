//! What is said about one row.

use vedette_protocol::limit::MAX_TOP;
use vedette_protocol::{Cause, Digest};

/// A signal's part in a score.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Share {
    /// Index of the signal in the stream's schema.
    pub signal: u16,
    /// Part of the summed contributions, 0 to 1.
    pub share: f32,
    /// The signal's raw value in this row, NaN when absent.
    pub value: f32,
}

/// The signals that contributed most, largest first: at most 8, in place.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Top {
    shares: [Share; MAX_TOP],
    len: u8,
}

impl Top {
    /// The shares, largest first.
    pub fn as_slice(&self) -> &[Share] {
        &self.shares[..usize::from(self.len)]
    }

    /// The largest of `contributions`, given as (schema index, contribution); what is not above 0 counts as 0.
    pub(crate) fn of(contributions: impl Iterator<Item = (usize, f32)>) -> Top {
        let mut top = Top::default();
        let mut sum = 0.0_f64;
        for (signal, contribution) in contributions {
            // An infinite contribution is as large as one can be.
            let share = if contribution > 0.0 { contribution.min(f32::MAX) } else { continue };
            sum += f64::from(share);
            top.insert(Share { signal: u16::try_from(signal).unwrap_or(u16::MAX), share, value: f32::NAN });
        }
        for share in &mut top.shares[..usize::from(top.len)] {
            share.share = (f64::from(share.share) / sum) as f32;
        }
        top
    }

    fn insert(&mut self, new: Share) {
        let len = usize::from(self.len);
        let place = self.as_slice().iter().position(|s| s.share < new.share).unwrap_or(len);
        if place >= MAX_TOP {
            return;
        }
        let end = (len + 1).min(MAX_TOP);
        self.shares.copy_within(place..end - 1, place + 1);
        self.shares[place] = new;
        self.len = end as u8;
    }

    pub(crate) fn with_values(mut self, values: &[f32]) -> Top {
        for share in &mut self.shares[..usize::from(self.len)] {
            share.value = values.get(usize::from(share.signal)).copied().unwrap_or(f32::NAN);
        }
        self
    }
}

/// The decision about one row of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The row's number in its stream.
    pub row: u64,
    /// When the row was measured, Unix milliseconds UTC.
    pub at_ms: i64,
    /// Who or what decided: the model, the built-in baseline, or a finding about the signals or the model itself.
    pub cause: Cause,
    /// The score that was held against the threshold: the model's after smoothing, or the baseline's. Finite. For a missing or
    /// frozen signal the number of such signals; for a model's fault the baseline's score.
    pub score: f32,
    /// This window's score before smoothing; the same as `score` when no model scored.
    pub row_score: f32,
    /// What `score` had to exceed.
    pub threshold: f32,
    /// Whether this row is over its threshold.
    pub over: bool,
    /// Whether this row is an anomaly to be recorded: over for the calibration's `hold` rows, or a finding.
    pub alarm: bool,
    /// Signals that contributed most.
    pub top: Top,
    /// For an alarm, the SHA-256 of what was looked at: the model's input window (f32 LE, row-major, as the graph saw it), or
    /// the raw row when no model scored it. `None` without an alarm.
    pub input: Option<Digest>,
}

impl Decision {
    /// Whether a model's score decided this row.
    pub fn by_model(&self) -> bool {
        match self.cause {
            Cause::Model => true,
            Cause::Baseline | Cause::Missing | Cause::Frozen | Cause::ModelFault => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_eight_come_first_and_share_the_whole_sum() {
        let parts = [1.0, 5.0, f32::NAN, 3.0, 0.0, 2.0, 4.0, -7.0, 1.0, 1.0, 1.0, 2.0];
        let top = Top::of(parts.into_iter().enumerate());
        let order: Vec<u16> = top.as_slice().iter().map(|s| s.signal).collect();
        assert_eq!(order, [1, 6, 3, 5, 11, 0, 8, 9]);
        assert!((top.as_slice()[0].share - 0.25).abs() < 1e-6); // 5 of 20
    }
}
