//! One-step-ahead prediction from the last six values, learnt as it goes (recursive least squares with forgetting).
//!
//! Haykin, "Adaptive Filter Theory", ch. 13 (exponentially weighted RLS); weights follow the last ~1000 rows.

/// Lagged values that predict the next one.
const LAGS: usize = 6;
/// Lags, a constant term, and one that is always 0: eight numbers fill vector registers, seven do not.
const TERMS: usize = LAGS + 2;
/// Forgetting factor: memory of 1 / (1 - 0.999) = 1000 rows.
const FORGET: f64 = 0.999;
const REMEMBER: f64 = 1.0 / FORGET;
/// Diagonal of the inverse correlation matrix at the start: "know nothing".
const UNSURE: f64 = 100.0;
/// Above this the matrix is winding up (no excitation) and is started anew.
const WOUND_UP: f64 = 1e8;
/// Standardised values are held within this, and errors that teach within `TEACH_MAX`: one spike must not unlearn.
const VALUE_MAX: f64 = 50.0;
const TEACH_MAX: f64 = 3.0;

/// The predictor of one signal.
#[derive(Clone, Debug)]
pub(super) struct Autoregression {
    /// Newest first, then the constant 1, then 0.
    terms: [f64; TERMS],
    seen: usize,
    weights: [f64; TERMS],
    inverse: [[f64; TERMS]; TERMS],
}

fn unsure() -> [[f64; TERMS]; TERMS] {
    let mut matrix = [[0.0; TERMS]; TERMS];
    // The last term stays 0 and must not grow.
    for (i, row) in matrix.iter_mut().enumerate().take(TERMS - 1) {
        row[i] = UNSURE;
    }
    matrix
}

impl Autoregression {
    pub(super) fn new() -> Self {
        let mut weights = [0.0; TERMS];
        weights[0] = 1.0; // at first: tomorrow is like today
        let mut terms = [0.0; TERMS];
        terms[LAGS] = 1.0;
        Autoregression { terms, seen: 0, weights, inverse: unsure() }
    }

    /// The size of the prediction error for the standardised value `x`, then learns from it. `None` until six values came.
    pub(super) fn error(&mut self, x: f64) -> Option<f64> {
        let x = x.clamp(-VALUE_MAX, VALUE_MAX);
        let error = (self.seen >= LAGS).then(|| self.learn(x));
        self.seen = (self.seen + 1).min(LAGS);
        self.terms.copy_within(0..LAGS - 1, 1);
        self.terms[0] = x;
        error
    }

    fn learn(&mut self, x: f64) -> f64 {
        let terms = self.terms;
        let predicted: f64 = self.weights.iter().zip(&terms).map(|(w, t)| w * t).sum();
        let error = x - predicted;
        let mut gain = [0.0; TERMS];
        for (row, t) in self.inverse.iter().zip(&terms) {
            gain.iter_mut().zip(row).for_each(|(g, p)| *g += p * t);
        }
        // The matrix is symmetric: terms times its rows are its rows times the terms.
        let projected = gain;
        let scale = FORGET + gain.iter().zip(&terms).map(|(g, t)| g * t).sum::<f64>();
        gain.iter_mut().for_each(|g| *g /= scale);
        let teach = error.clamp(-TEACH_MAX, TEACH_MAX);
        for (w, g) in self.weights.iter_mut().zip(&gain) {
            *w += g * teach;
        }
        for (row, g) in self.inverse.iter_mut().zip(&gain) {
            for (p, q) in row.iter_mut().zip(&projected) {
                *p = (*p - g * q) * REMEMBER;
            }
        }
        // Positive definite matrices have their largest numbers on the diagonal, all positive; a NaN is neither.
        let sound = (0..=LAGS).all(|i| (0.0..=WOUND_UP).contains(&self.inverse[i][i]));
        if !sound {
            self.inverse = unsure();
        }
        if !self.weights.iter().all(|w| w.is_finite()) {
            *self = Autoregression::new();
            return 0.0;
        }
        error.abs()
    }
}
