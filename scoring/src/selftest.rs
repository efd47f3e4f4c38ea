//! A manifest's self-test vectors against its model: known windows and the scores that the author saw.

use std::sync::Arc;

use vedette_protocol::SelfTest;

use crate::features::{Features, Row, Stillness, Window};
use crate::model::{Model, Session};
use crate::sample::Schema;

/// Why a model does not do what its author saw.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SelfTestError {
    /// Nothing to compare with.
    #[error("the self-test has no vectors: without one nobody knows whether the model computes what its author saw")]
    Empty,
    /// The window has the wrong size.
    #[error("self-test vector {vector} has {found} numbers, expected {rows} rows x {signals} signals = {}", rows * signals)]
    Size {
        /// Which vector, from 1.
        vector: usize,
        /// Numbers given.
        found: usize,
        /// Rows of a window, and one more if a signal is compared with the row before.
        rows: usize,
        /// Signals of the contract.
        signals: usize,
    },
    /// The window can't be filled from the rows.
    #[error("self-test vector {vector} does not fill a window: a value is absent or a counter falls in it")]
    NoWindow {
        /// Which vector, from 1.
        vector: usize,
    },
    /// No score came out.
    #[error("the model gives no number for self-test vector {vector}{}", why.as_deref().map(|w| format!(": {w}")).unwrap_or_default())]
    Fault {
        /// Which vector, from 1.
        vector: usize,
        /// What the engine said; `None` = it gave NaN or an infinity.
        why: Option<String>,
    },
    /// Another score came out.
    #[error("self-test vector {vector} scored {found}, the author saw {expected} (tolerance {tolerance})")]
    Score {
        /// Which vector, from 1.
        vector: usize,
        /// Row score here.
        found: f32,
        /// Row score of the author.
        expected: f32,
        /// Largest difference allowed.
        tolerance: f64,
    },
}

/// Scores every vector the way a stream's window is scored, and gives the largest difference to the author's scores.
///
/// # Errors
/// The first vector that is not as the author saw it.
pub fn check(model: &Arc<Model>, selftest: &SelfTest) -> Result<f64, SelfTestError> {
    let contract = &model.manifest().contract;
    let (rows, signals) = (contract.raw_rows() as usize, contract.signals.len());
    let tolerance = selftest.tolerance.get();
    let mut session = Session::new(Arc::clone(model));
    let mut largest = 0.0_f64;
    if selftest.vectors.is_empty() {
        return Err(SelfTestError::Empty);
    }
    for (vector, test) in (1..).zip(&selftest.vectors) {
        let found = test.window.len();
        let longer = model.is_stateful() && found.is_multiple_of(signals) && found > rows * signals;
        if found != rows * signals && !longer {
            return Err(SelfTestError::Size { vector, found, rows, signals });
        }
        if model.is_stateful() {
            session = Session::new(Arc::clone(model));
        }
        let numbers: Vec<f32> = test.window.iter().map(|n| n.get()).collect();
        let mut score = None;
        windows_of(model, &numbers, |window| score = session.run(window).first().copied());
        let (found, expected) = (score.ok_or(SelfTestError::NoWindow { vector })?, test.score.get());
        if !found.is_finite() {
            return Err(SelfTestError::Fault { vector, why: session.fault().map(str::to_owned) });
        }
        let difference = (f64::from(found) - f64::from(expected)).abs();
        if difference > tolerance {
            return Err(SelfTestError::Score { vector, found, expected, tolerance });
        }
        largest = largest.max(difference);
    }
    Ok(largest)
}

/// The preprocessed windows of raw rows, which come at the contract's sampling: one, or of a stateful model one a row.
fn windows_of(model: &Model, numbers: &[f32], mut each: impl FnMut(&[f32])) {
    let contract = &model.manifest().contract;
    let signals = contract.signals.iter().map(|s| (s.name.clone(), Some(s.unit.clone()))).collect();
    let Ok(schema) = Schema::new(signals).map(Arc::new) else { return };
    let still = Stillness::new(schema.len());
    let Ok(mut features) = Features::bind(contract, &schema) else { return };
    for (i, row) in (0_i64..).zip(numbers.chunks_exact(schema.len())) {
        let at_ms = i.saturating_mul(i64::try_from(contract.sampling_ms).unwrap_or(i64::MAX));
        let window = features.push(at_ms, row, Row::of(row), &still);
        if window != Window::Warming {
            each(features.window());
        }
    }
}
