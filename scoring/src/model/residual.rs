//! How far a graph's answer is from the truth, signal by signal, and what score that makes.

use crate::kernel::lanes::{Body, Isa, Lanes};

/// A residual this many times the calibration's counts as this many times.
const RESIDUAL_MAX: f64 = 1e4;
/// Sums that are added up side by side.
const SUMS: usize = 8;

/// Mean squared error per signal over some rows, in units of the calibration's.
#[derive(Clone, Debug)]
pub(super) struct Residual {
    set: Lanes,
    rows: usize,
    /// One over (rows times the calibration's residual), per signal.
    unit: Box<[f64]>,
}

/// Room for one window's sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    squares: Vec<f64>,
}

impl Residual {
    pub(super) fn new(rows: usize, calibration: &[f64]) -> Self {
        let unit = calibration.iter().map(|usual| 1.0 / (rows as f64 * usual)).collect();
        Residual { set: Lanes::detected(), rows, unit }
    }

    /// Appends the residuals, one per signal, and gives the score: not finite if one of them is not.
    pub(super) fn score(&self, truth: &[f32], answer: &[f32], scratch: &mut Scratch, residuals: &mut Vec<f32>) -> f32 {
        let signals = self.unit.len();
        scratch.squares.clear();
        scratch.squares.resize(signals, 0.0);
        let from = residuals.len();
        residuals.resize(from + signals, 0.0);
        let mut sum = 0.0;
        self.set.run(Sum {
            of: self,
            truth,
            answer,
            squares: &mut scratch.squares,
            residuals: &mut residuals[from..],
            sum: &mut sum,
        });
        (sum / signals as f64).ln_1p() as f32
    }
}

struct Sum<'a> {
    of: &'a Residual,
    truth: &'a [f32],
    answer: &'a [f32],
    squares: &'a mut [f64],
    residuals: &'a mut [f32],
    sum: &'a mut f64,
}

impl Body for Sum<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Sum { of, truth, answer, squares, residuals, sum } = self;
        let signals = of.unit.len();
        for (truth, answer) in truth.chunks_exact(signals).zip(answer.chunks_exact(signals)).take(of.rows) {
            for ((square, truth), answer) in squares.iter_mut().zip(truth).zip(answer) {
                let away = f64::from(*truth) - f64::from(*answer);
                *square = isa.mul_add_f64(away, away, *square);
            }
        }
        let mut sums = [0.0; SUMS];
        for ((squares, units), residuals) in
            squares.chunks(SUMS).zip(of.unit.chunks(SUMS)).zip(residuals.chunks_mut(SUMS))
        {
            for (((sum, square), unit), out) in sums.iter_mut().zip(squares).zip(units).zip(residuals) {
                let residual = square * unit;
                *out = residual as f32;
                let counted = if residual < RESIDUAL_MAX { residual } else { RESIDUAL_MAX };
                // NaN and infinity survive into the sum: they are a fault, not a large residual.
                *sum += counted + (residual - residual);
            }
        }
        *sum = sums.iter().sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(truth: &[f32], answer: &[f32]) -> (f32, Vec<f32>) {
        let mut residuals = Vec::new();
        let score = Residual::new(2, &[1.0, 0.5]).score(truth, answer, &mut Scratch::default(), &mut residuals);
        (score, residuals)
    }

    #[test]
    fn residuals_are_mean_squares_in_units_of_the_calibration() {
        let (score, residuals) = scored(&[0.0, 0.0, 2.0, 1.0], &[0.0, 0.0, 0.0, 0.0]);
        assert_eq!(residuals, [2.0, 1.0]);
        assert!((score - 1.5_f32.ln_1p()).abs() < 1e-6);
    }

    #[test]
    fn a_huge_residual_counts_as_the_most_and_one_that_is_no_number_is_a_fault() {
        let (score, _) = scored(&[1e9, 0.0, 0.0, 0.0], &[0.0; 4]);
        assert!((score - 5e3_f32.ln_1p()).abs() < 1e-4, "{score}");
        for answer in [f32::NAN, f32::INFINITY] {
            assert!(scored(&[0.0; 4], &[answer, 0.0, 0.0, 0.0]).0.is_nan());
        }
    }
}
