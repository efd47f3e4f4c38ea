//! One-step-ahead prediction from the last six values, learnt as it goes (recursive least squares with forgetting).
//!
//! Haykin, "Adaptive Filter Theory", ch. 13 (exponentially weighted RLS); weights follow the last ~1000 rows. The inverse
//! correlation matrix is kept as `growth` times a symmetric matrix stored once: forgetting multiplies one number instead of 28,
//! and is worked into the matrix when [`Autoregression::settle`] is called, every few hundred rows.

use crate::kernel::lanes::Isa;

use super::abreast::{Abreast, LANES, Mask, bits, each, mask, only, pick, within};

/// Lagged values that predict the next one.
const LAGS: usize = 6;
/// Lags and a constant term.
const TERMS: usize = LAGS + 1;
/// Numbers of a symmetric matrix: row by row up to the diagonal.
const ENTRIES: usize = TERMS * (TERMS + 1) / 2;
/// Forgetting factor: memory of 1 / (1 - 0.999) = 1000 rows.
const FORGET: f64 = 0.999;
const REMEMBER: f64 = 1.0 / FORGET;
/// The gain's divisor is at least [`FORGET`] while the matrix is positive; below this it is not, and is started anew.
const SOUND: f64 = 0.99;
/// Diagonal of the inverse correlation matrix at the start: "know nothing".
const UNSURE: f64 = 100.0;
/// Above this the matrix is winding up (no excitation) and is started anew.
const WOUND_UP: f64 = 1e8;
/// Standardised values are held within this, and errors that teach within `TEACH_MAX`: one spike must not unlearn.
const VALUE_MAX: f64 = 50.0;
const TEACH_MAX: f64 = 3.0;

/// Where row `i`, column `j` of the matrix stands.
const fn entry(i: usize, j: usize) -> usize {
    if i >= j { i * (i + 1) / 2 + j } else { j * (j + 1) / 2 + i }
}

/// The predictors of some signals.
#[derive(Clone, Debug)]
pub(super) struct Autoregression {
    /// Newest first.
    lags: [Abreast; LAGS],
    seen: Abreast,
    weights: [Abreast; TERMS],
    inverse: [Abreast; ENTRIES],
    growth: Abreast,
}

/// What came of the next values.
pub(super) struct Predicted {
    /// The errors' sizes; 0 where a prediction was no number.
    pub(super) size: Abreast,
    /// The lanes that have an error: after six values.
    pub(super) of: Mask,
    /// The lanes that are no longer sound, for [`Autoregression::mend`].
    pub(super) broken: Mask,
}

impl Autoregression {
    pub(super) fn new() -> Self {
        let mut new = Autoregression {
            lags: [[0.0; LANES]; LAGS],
            seen: [0.0; LANES],
            weights: [[0.0; LANES]; TERMS],
            inverse: [[0.0; LANES]; ENTRIES],
            growth: [1.0; LANES],
        };
        (0..LANES).for_each(|lane| new.restart(lane));
        new
    }

    /// This signal's predictor knows nothing.
    pub(super) fn restart(&mut self, lane: usize) {
        self.lags.iter_mut().for_each(|lag| lag[lane] = 0.0);
        self.seen[lane] = 0.0;
        self.weights.iter_mut().for_each(|weight| weight[lane] = 0.0);
        self.weights[0][lane] = 1.0; // at first: tomorrow is like today
        self.unlearn(lane);
    }

    fn unlearn(&mut self, lane: usize) {
        self.inverse.iter_mut().for_each(|number| number[lane] = 0.0);
        (0..TERMS).for_each(|i| self.inverse[entry(i, i)][lane] = UNSURE);
        self.growth[lane] = 1.0;
    }

    /// The sizes of the prediction errors for the standardised values `x` of the lanes in `on`, which then learn.
    #[inline(always)]
    pub(super) fn error<I: Isa>(&mut self, isa: I, x: &Abreast, on: &Mask) -> Predicted {
        let x = each(|i| within(x[i], VALUE_MAX));
        let full = mask(|i| self.seen[i] >= LAGS as f64);
        let predicted = self.learn(isa, &x, &bits(|i| on[i] & full[i]));
        self.seen = each(|i| self.seen[i] + only(on[i] & !full[i], 1.0));
        predicted
    }

    /// The next rows see these values as their newest lag: in all lanes.
    #[inline(always)]
    pub(super) fn shift(&mut self, x: &Abreast) {
        for k in (1..LAGS).rev() {
            self.lags[k] = self.lags[k - 1];
        }
        self.lags[0] = each(|i| within(x[i], VALUE_MAX));
    }

    /// The same in these lanes only.
    #[cold]
    pub(super) fn shift_in(&mut self, x: &Abreast, on: &Mask) {
        for lane in (0..LANES).filter(|i| on[*i] != 0) {
            (1..LAGS).rev().for_each(|k| self.lags[k][lane] = self.lags[k - 1][lane]);
            self.lags[0][lane] = within(x[lane], VALUE_MAX);
        }
    }

    #[inline(always)]
    fn learn<I: Isa>(&mut self, isa: I, x: &Abreast, on: &Mask) -> Predicted {
        let mut predicted = self.weights[LAGS];
        for (weight, lag) in self.weights.iter().zip(&self.lags) {
            predicted = each(|i| isa.mul_add_f64(weight[i], lag[i], predicted[i]));
        }
        let error = each(|i| x[i] - predicted[i]);
        let mut projected = [[0.0; LANES]; TERMS];
        for (row, projected) in projected.iter_mut().enumerate() {
            *projected = self.inverse[entry(row, LAGS)];
            for (column, lag) in self.lags.iter().enumerate() {
                let number = &self.inverse[entry(row, column)];
                *projected = each(|i| isa.mul_add_f64(number[i], lag[i], projected[i]));
            }
        }
        let mut power = projected[LAGS];
        for (projected, lag) in projected.iter().zip(&self.lags) {
            power = each(|i| isa.mul_add_f64(projected[i], lag[i], power[i]));
        }
        let scale = each(|i| isa.mul_add_f64(self.growth[i], power[i], FORGET));
        // A NaN is neither above nor finite.
        let (positive, finite) = (mask(|i| scale[i] > SOUND), mask(|i| error[i].abs() < f64::INFINITY));
        let sound = bits(|i| positive[i] & finite[i]);
        let learns = bits(|i| on[i] & sound[i]);
        let step = each(|i| only(learns[i], self.growth[i] / scale[i]));
        let teach = each(|i| step[i] * within(error[i], TEACH_MAX));
        for (weight, projected) in self.weights.iter_mut().zip(&projected) {
            *weight = each(|i| isa.mul_add_f64(projected[i], teach[i], weight[i]));
        }
        for (row, of_row) in projected.iter().enumerate() {
            let gain = each(|i| -(step[i] * of_row[i]));
            for (column, of_column) in projected.iter().enumerate().take(row + 1) {
                let number = &mut self.inverse[entry(row, column)];
                *number = each(|i| isa.mul_add_f64(gain[i], of_column[i], number[i]));
            }
        }
        self.growth = each(|i| self.growth[i] * pick(learns[i], REMEMBER, 1.0));
        Predicted { size: each(|i| only(finite[i], error[i].abs())), of: *on, broken: bits(|i| on[i] & !sound[i]) }
    }

    /// Starts anew what is no longer sound.
    pub(super) fn mend(&mut self, broken: &Mask) {
        for lane in (0..LANES).filter(|i| broken[*i] != 0) {
            if self.weights.iter().all(|weight| weight[lane].is_finite()) {
                self.unlearn(lane);
            } else {
                self.restart(lane);
            }
        }
    }

    /// Works the growth of these lanes into their matrices, and starts those anew that are winding up.
    pub(super) fn settle(&mut self, of: &Mask) {
        for lane in (0..LANES).filter(|i| of[*i] != 0) {
            let growth = std::mem::replace(&mut self.growth[lane], 1.0);
            self.inverse.iter_mut().for_each(|number| number[lane] *= growth);
            // Positive definite matrices have their largest numbers on the diagonal, all positive; a NaN is neither.
            let sound = (0..TERMS).all(|i| (0.0..=WOUND_UP).contains(&self.inverse[entry(i, i)][lane]));
            if !sound {
                self.unlearn(lane);
            }
        }
    }
}
