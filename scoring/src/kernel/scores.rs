//! What becomes of raw scores: the `post_transform` that trees, linear models and vector machines share.

use crate::kernel::Refused;

/// `post_transform`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Transform {
    #[default]
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// By the name of operator sets 1 to 4.
    pub(crate) fn named(name: &str) -> Option<Transform> {
        match name {
            "NONE" => Some(Transform::None),
            "LOGISTIC" => Some(Transform::Logistic),
            "SOFTMAX" => Some(Transform::Softmax),
            "SOFTMAX_ZERO" => Some(Transform::SoftmaxZero),
            "PROBIT" => Some(Transform::Probit),
            _ => None,
        }
    }

    /// By the number of operator set 5, as ONNX Runtime counts. The operator's text has SOFTMAX as 1 and LOGISTIC as 2, but a model
    /// is judged by what the reference gives for it.
    pub(crate) fn numbered(number: i64) -> Option<Transform> {
        match number {
            0 => Some(Transform::None),
            1 => Some(Transform::Logistic),
            2 => Some(Transform::Softmax),
            3 => Some(Transform::SoftmaxZero),
            4 => Some(Transform::Probit),
            _ => None,
        }
    }

    /// In place over one row of at least two scores.
    pub(crate) fn apply(self, row: &mut [f32]) {
        match self {
            Transform::None => {}
            Transform::Logistic => row.iter_mut().for_each(|s| *s = logistic(*s)),
            Transform::Softmax => softmax(row),
            Transform::SoftmaxZero => softmax_zero(row),
            Transform::Probit => row.iter_mut().for_each(|s| *s = probit(*s)),
        }
    }
}

/// The two scores of two classes, from the one of the second: through LOGISTIC if that is the transform, else `other` and the score.
pub(crate) fn both(transform: Transform, other: f32, score: f32) -> (f32, f32) {
    match transform {
        Transform::Logistic => (logistic(-score), logistic(score)),
        // Nobody says what the second one is.
        Transform::Probit => (probit(score), 0.0),
        Transform::None | Transform::Softmax | Transform::SoftmaxZero => (other, score),
    }
}

/// `1 / (1 + e^-x)`, from the side where nothing overflows.
pub(crate) fn logistic(x: f32) -> f32 {
    let v = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - v } else { v }
}

/// The normal distribution's quantile, by Winitzki's closed form of the inverse error function with a = 0.147.
pub(crate) fn probit(p: f32) -> f32 {
    const A: f32 = 0.147;
    let x = 2.0 * p - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f32::consts::PI * A) + 0.5 * log;
    let root = (-v + (v * v - log / A).sqrt()).sqrt();
    std::f32::consts::SQRT_2 * if x < 0.0 { -root } else { root }
}

fn largest(row: &[f32]) -> f32 {
    row.iter().fold(f32::MIN, |most, s| if *s > most { *s } else { most })
}

fn softmax(row: &mut [f32]) {
    let most = largest(row);
    let mut sum = 0.0;
    for s in row.iter_mut() {
        *s = (*s - most).exp();
        sum += *s;
    }
    row.iter_mut().for_each(|s| *s /= sum);
}

/// Softmax over the scores that are not zero; a zero stays one.
fn softmax_zero(row: &mut [f32]) {
    const ZERO: f32 = 1e-7;
    let most = largest(row);
    let of_zero = (-most).exp();
    let mut sum = 0.0;
    for s in row.iter_mut() {
        if s.abs() > ZERO {
            *s = (*s - most).exp();
            sum += *s;
        } else {
            *s *= of_zero;
        }
    }
    row.iter_mut().for_each(|s| *s /= sum);
}

/// A number of columns, rows or whatever a file counts, as a size that is at least 1 and at most `most`.
pub(crate) fn count(name: &str, value: i64, most: usize) -> Result<usize, Refused> {
    match usize::try_from(value) {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        Ok(_) | Err(_) => Err(Refused(format!("{name} is {value}: it must be 1 to {most}"))),
    }
}
