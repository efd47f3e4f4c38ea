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

mod autoregression;
mod rolling;

use std::collections::VecDeque;

use autoregression::Autoregression;
use rolling::Rolling;

/// Version of the rules here; whoever changes a number that changes scores counts it up.
pub const VERSION: u32 = 1;

/// A row at or above this is an anomaly: the threshold with the best standard NAB score over the whole corpus.
pub const THRESHOLD: f32 = 0.5167;

const ERROR_ROWS: u32 = 4000;
const VALUE_ROWS: u32 = 1000;
const MEAN_ROWS: u32 = 4000;
/// Rows of the short mean: long enough to average noise out, short beside a day of 288 rows (NAB's five minutes).
const SHORT: usize = 30;
/// Rows that a sum must hold before it is held against anything, and before the autoregression knows its scale.
const WARM: u32 = 50;
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

/// The detector for one stream.
#[derive(Clone, Debug)]
pub struct Baseline {
    signals: Box<[SignalState]>,
    scores: Box<[f32]>,
    peaks: Peaks,
}

impl Baseline {
    /// A detector that has seen nothing, for rows of `signals` numbers.
    pub fn new(signals: usize) -> Baseline {
        Baseline {
            signals: vec![SignalState::new(); signals].into(),
            scores: vec![0.0; signals].into(),
            peaks: Peaks::new(),
        }
    }

    /// Scores the next row, 0 (as always) to 1, then learns from it. What is not finite or not there counts as absent and scores 0.
    pub fn score(&mut self, values: &[f32]) -> f64 {
        let mut largest = 0.0_f64;
        for (i, (state, score)) in self.signals.iter_mut().zip(&mut self.scores).enumerate() {
            let value = values.get(i).copied().filter(|v| v.is_finite());
            let one = value.map_or(0.0, |v| state.score(v));
            *score = one as f32;
            largest = largest.max(one);
        }
        self.peaks.only_new(largest)
    }

    /// What each signal scored in the last row, 0 to 1, before suppression.
    pub fn signal_scores(&self) -> &[f32] {
        &self.scores
    }
}

#[derive(Clone, Debug)]
struct SignalState {
    values: Rolling,
    means: Rolling,
    errors: Rolling,
    predictor: Autoregression,
    /// (centre, width) in which the predictor sees values.
    base: Option<(f64, f64)>,
    far_rows: u32,
    recent: [f32; SHORT],
    recent_sum: f64,
    next: usize,
    rows: usize,
}

/// How many deviations `x` is from the mean of what went before; 0 while too little did.
fn distance(x: f64, past: &Rolling) -> f64 {
    if past.rows() < WARM {
        return 0.0;
    }
    let (mean, deviation) = past.mean_and_deviation();
    (x - mean) / deviation.max(mean.abs() * ROUNDING).max(TINY)
}

impl SignalState {
    fn new() -> Self {
        SignalState {
            values: Rolling::new(VALUE_ROWS),
            means: Rolling::new(MEAN_ROWS),
            errors: Rolling::new(ERROR_ROWS),
            predictor: Autoregression::new(),
            base: None,
            far_rows: 0,
            recent: [0.0; SHORT],
            recent_sum: 0.0,
            next: 0,
            rows: 0,
        }
    }

    fn score(&mut self, value: f32) -> f64 {
        let x = f64::from(value);
        let surprise = self.surprise(x).max(0.0);
        let far = distance(x, &self.values).abs();
        let moved = self.moved(value).abs();
        self.values.push(x);
        let units = surprise.min(DISTANCE_MAX) / ERROR_UNIT
            + far.min(DISTANCE_MAX) / VALUE_UNIT
            + moved.min(DISTANCE_MAX) / MEAN_UNIT;
        1.0 - (-units / 3.0).exp()
    }

    /// Sign 1: the error of the prediction.
    fn surprise(&mut self, x: f64) -> f64 {
        if self.values.rows() < WARM {
            return 0.0;
        }
        let far = |(centre, width): (f64, f64)| ((x - centre) / width).abs() > REBASE;
        self.far_rows = if self.base.is_some_and(far) { self.far_rows + 1 } else { 0 };
        if self.base.is_none() || self.far_rows >= WARM {
            let (mean, deviation) = self.values.mean_and_deviation();
            let width = (deviation * BASE_DEVIATIONS).max(mean.abs() * ROUNDING).max(TINY);
            self.base = Some((mean, width));
            self.far_rows = 0;
            self.predictor = Autoregression::new();
        }
        let (centre, width) = self.base.unwrap_or((0.0, 1.0));
        let Some(error) = self.predictor.error((x - centre) / width) else { return 0.0 };
        let surprise = distance(error, &self.errors);
        self.errors.push(error);
        surprise
    }

    /// Sign 3: the short mean.
    fn moved(&mut self, value: f32) -> f64 {
        let old = std::mem::replace(&mut self.recent[self.next], value);
        self.recent_sum += f64::from(value) - f64::from(old); // `old` is 0 in the first round
        self.next += 1;
        if self.next == SHORT {
            self.next = 0;
            self.recent_sum = self.recent.iter().map(|v| f64::from(*v)).sum(); // rounding never piles up
        }
        self.rows = (self.rows + 1).min(SHORT);
        if self.rows < SHORT {
            return 0.0;
        }
        let mean = self.recent_sum / SHORT as f64;
        let moved = distance(mean, &self.means);
        self.means.push(mean);
        moved
    }
}

/// The largest scores of the last rows, falling: (row, score).
#[derive(Clone, Debug)]
struct Peaks {
    falling: VecDeque<(u64, f64)>,
    row: u64,
}

impl Peaks {
    fn new() -> Self {
        // One entry a row at most, and the row itself: never grows beyond.
        Peaks { falling: VecDeque::with_capacity(SUPPRESS as usize + 2), row: 0 }
    }

    /// `score` if it exceeds those of the last [`SUPPRESS`] rows, else 0.
    fn only_new(&mut self, score: f64) -> f64 {
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
        let error = baseline.signals[0].predictor.error(0.0);
        assert!(error.is_some_and(f64::is_finite));
    }

    #[test]
    fn constant_signals_of_any_size_stay_silent() {
        for value in [0.0, 1e-30, 3.3, -1e30, f32::MAX] {
            let mut baseline = Baseline::new(1);
            assert!((0..2000).all(|_| baseline.score(&[value]) < 0.01), "{value}");
        }
    }
}
