//! The built-in detector: needs no model, no training and no memory of more than some sums, so scoring never stops.
//!
//! Per signal three signs of change, each a distance in standard deviations, all of them causal:
//!
//! 1. the one-step error of an autoregression over the last 6 values, against its last 4000 errors;
//! 2. the value, against the last 1000 values;
//! 3. the mean of the last 30 values, against its last 4000.
//!
//! Their weighted mean is squashed to 0..1; a stream's score is its most anomalous signal's. A score that does not exceed
//! every score of the 300 rows before it is set to 0: one incident, one alarm.
//!
//! The idea and the windows come from trials on the NAB corpus (the weights too: it is no blind test), where this
//! gets what `tests/nab.rs` pins. A row costs constant time, about 0.1 µs a signal; a signal takes about 2 KiB.

mod abreast;
mod autoregression;
mod group;
mod rolling;
mod short;

use std::collections::VecDeque;

use crate::kernel::lanes::{Body, Isa, Lanes as Set};

use abreast::LANES;
use group::Group;

/// Version of the rules here; whoever changes a number that changes scores counts it up.
pub const VERSION: u32 = 2;

/// A row at or above this is an anomaly: the threshold with the best standard NAB score over the whole corpus.
pub const THRESHOLD: f32 = 0.5167;

const ERROR_ROWS: u32 = 4000;
const VALUE_ROWS: u32 = 1000;
const MEAN_ROWS: u32 = 4000;
/// Rows of the short mean: long enough to average noise out, short beside a day of 288 rows (NAB's five minutes).
const SHORT: usize = 30;
/// Rows that a sum must hold before it is held against anything, and before the autoregression knows its scale.
const WARM: f64 = 50.0;
/// One is squashed to 1 - 1/e of the way when a distance is this many deviations.
const ERROR_UNIT: f64 = 8.0;
const VALUE_UNIT: f64 = 8.0;
const MEAN_UNIT: f64 = 4.0;
/// Distances are cut here, so that one infinite quotient does not hide in the mean.
const DISTANCE_MAX: f64 = 1e6;
/// Rows after a peak in which only a higher peak counts.
const SUPPRESS: u64 = 300;
/// The autoregression works on values in units of this many deviations around their mean, and is started anew when they
/// have been further out than `REBASE` for [`WARM`] rows: a spike is no new scale.
const BASE_DEVIATIONS: f64 = 4.0;
const REBASE: f64 = 40.0;
/// A deviation below this part of the mean is the rounding of f32, not a deviation.
const ROUNDING: f64 = 1e-6;
const TINY: f64 = 1e-9;
/// Beyond this many units a score is 1.
const UNITS_MAX: f32 = 120.0;

/// The detector for one stream.
#[derive(Clone, Debug)]
pub struct Baseline {
    set: Set,
    signals: usize,
    groups: Box<[Group]>,
    /// Units of each signal in the rows of the last call: row by row, each padded to whole groups.
    units: Vec<f32>,
    scores: Vec<f32>,
    /// A row that came alone.
    row: Vec<f32>,
    peaks: Peaks,
}

impl Baseline {
    /// A detector that has seen nothing, for rows of `signals` numbers.
    pub fn new(signals: usize) -> Baseline {
        let groups = vec![Group::new(); signals.div_ceil(LANES)].into();
        Baseline {
            set: Set::detected(),
            signals,
            groups,
            units: Vec::new(),
            scores: Vec::new(),
            row: vec![f32::NAN; signals],
            peaks: Peaks::new(),
        }
    }

    /// Scores the next row, 0 (as always) to 1, then learns from it. What is not finite or not there counts as absent and scores 0.
    pub fn score(&mut self, values: &[f32]) -> f64 {
        let mut row = std::mem::take(&mut self.row);
        row.fill(f32::NAN);
        row.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        self.see(&row);
        self.row = row;
        self.scores.last().copied().map_or(0.0, f64::from)
    }

    /// The same for rows of exactly `signals` numbers, one after the other: the same scores, whatever comes together.
    pub(crate) fn see(&mut self, rows: &[f32]) {
        let stride = self.groups.len() * LANES;
        self.units.resize(rows.len() / self.signals.max(1) * stride, 0.0);
        let Baseline { groups, signals, units, .. } = self;
        self.set.run(Take { groups, rows, signals: *signals, units });
        self.scores.clear();
        for units in self.units.chunks_exact(stride.max(1)) {
            let peak = self.peaks.only_new(largest(units).min(UNITS_MAX));
            self.scores.push(squashed(peak));
        }
    }

    /// Scores of the rows of the last call.
    pub(crate) fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// What each signal scored in a row of the last call, 0 to 1, before suppression.
    pub(crate) fn signals_of(&self, row: usize) -> impl Iterator<Item = f32> {
        let from = row * self.groups.len() * LANES;
        self.units.get(from..from + self.signals).unwrap_or_default().iter().map(|units| squashed(*units))
    }

    /// What each signal scored in the last row, 0 to 1, before suppression.
    pub fn signal_scores(&self) -> Vec<f32> {
        self.signals_of(self.scores.len().saturating_sub(1)).collect()
    }
}

/// Takes rows of `signals` numbers; writes their units, padded to whole groups. Group by group, so that a group's state
/// stays in the innermost cache for all rows.
struct Take<'a> {
    groups: &'a mut [Group],
    rows: &'a [f32],
    signals: usize,
    units: &'a mut [f32],
}

impl Body for Take<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Take { groups, rows, signals, units } = self;
        let stride = groups.len() * LANES;
        for (g, group) in groups.iter_mut().enumerate() {
            let (from, to) = (g * LANES, signals.min((g + 1) * LANES));
            for (row, units) in rows.chunks_exact(signals).zip(units.chunks_exact_mut(stride)) {
                let mut values = [0.0; LANES]; // a lane too many is a constant signal
                values.iter_mut().zip(&row[from..to]).for_each(|(to, from)| *to = *from);
                units[from..from + LANES].copy_from_slice(&group.step(isa, &values));
            }
        }
    }
}

fn largest(units: &[f32]) -> f32 {
    let mut largest = [0.0_f32; LANES];
    for units in units.chunks_exact(LANES) {
        for (largest, units) in largest.iter_mut().zip(units) {
            *largest = if *units > *largest { *units } else { *largest };
        }
    }
    largest.into_iter().fold(0.0, f32::max)
}

/// 0 for 0 units, towards 1 for many.
fn squashed(units: f32) -> f32 {
    if units > 0.0 { (1.0 - (-f64::from(units) / 3.0).exp()) as f32 } else { 0.0 }
}

/// The largest scores of the last rows, falling: (row, score).
#[derive(Clone, Debug)]
struct Peaks {
    falling: VecDeque<(u64, f32)>,
    row: u64,
}

impl Peaks {
    fn new() -> Self {
        // One entry a row at most, and the row itself: never grows beyond.
        Peaks { falling: VecDeque::with_capacity(SUPPRESS as usize + 2), row: 0 }
    }

    /// `score` if it exceeds those of the last [`SUPPRESS`] rows, else 0.
    fn only_new(&mut self, score: f32) -> f32 {
        while self.falling.front().is_some_and(|(row, _)| row + SUPPRESS < self.row) {
            self.falling.pop_front();
        }
        let highest = self.falling.front().map_or(0.0, |(_, score)| *score);
        while self.falling.back().is_some_and(|(_, last)| *last <= score) {
            self.falling.pop_back();
        }
        self.falling.push_back((self.row, score));
        self.row += 1;
        if score > highest { score } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(row: u32) -> f32 {
        (f64::from(row) * 0.2).sin() as f32
    }

    #[test]
    fn a_step_in_a_wave_alarms_once_and_names_its_signal() {
        let mut baseline = Baseline::new(3);
        let mut alarms = Vec::new();
        for row in 0..3000 {
            let step = if row >= 2000 { 8.0 } else { 0.0 };
            let score = baseline.score(&[wave(row), wave(row + 7) + step, 1.0]);
            if score >= f64::from(THRESHOLD) {
                alarms.push((row, baseline.signal_scores().to_vec()));
            }
        }
        assert!((2000..2010).contains(&alarms[0].0), "{alarms:?}");
        assert!(alarms.len() <= 3, "{alarms:?}");
        let scores = &alarms[0].1;
        assert!(scores[1] > scores[0] && scores[1] > scores[2]);
    }

    #[test]
    fn absent_and_infinite_values_neither_score_nor_poison() {
        let mut baseline = Baseline::new(1);
        for row in 0..500 {
            let value = if row % 7 == 0 {
                f32::NAN
            } else if row % 11 == 0 {
                f32::INFINITY
            } else {
                wave(row)
            };
            let score = baseline.score(&[value]);
            assert!((0.0..=1.0).contains(&score));
        }
        assert_eq!(baseline.score(&[]), 0.0);
        assert!(baseline.score(&[100.0]) > f64::from(THRESHOLD));
    }

    #[test]
    fn after_a_million_rows_it_still_sees_a_step() {
        let mut baseline = Baseline::new(1);
        let highest = (0..1_200_000).map(|row| baseline.score(&[wave(row)])).skip(5000).fold(0.0, f64::max);
        assert!(highest < f64::from(THRESHOLD), "{highest}");
        assert!(baseline.score(&[9.0]) >= f64::from(THRESHOLD));
    }

    #[test]
    fn constant_signals_of_any_size_stay_silent() {
        for value in [0.0, 1e-30, 3.3, -1e30, f32::MAX] {
            let mut baseline = Baseline::new(1);
            assert!((0..2000).all(|_| baseline.score(&[value]) < 0.01), "{value}");
        }
    }
}
