//! `SVMRegressor`, one-class machines included.

use super::likeness::{Function, KernelType, Likeness};
use crate::kernel::Refused;
use crate::kernel::linear::dot;

/// `SVMRegressor`'s attributes; its `post_transform` changes nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct SvmRegressorAttributes {
    pub(crate) kernel_type: KernelType,
    /// None, or gamma, coef0 and degree.
    pub(crate) kernel_params: Vec<f32>,
    /// `n_supports x features`; empty for a linear machine.
    pub(crate) support_vectors: Vec<f32>,
    pub(crate) n_supports: i64,
    pub(crate) coefficients: Vec<f32>,
    pub(crate) rho: Vec<f32>,
    pub(crate) one_class: i64,
}

#[derive(Clone, Debug)]
enum Machine {
    Vectors(Likeness),
    Linear,
}

/// One number a row; for a one-class machine 1 or -1.
#[derive(Clone, Debug)]
pub(crate) struct SvmRegressor {
    features: usize,
    machine: Machine,
    coefficients: Vec<f32>,
    rho: f32,
    one_class: bool,
}

impl SvmRegressor {
    /// # Errors
    /// For lists that do not fit rows of `features` numbers.
    pub(crate) fn new(features: usize, a: &SvmRegressorAttributes) -> Result<SvmRegressor, Refused> {
        let Some(rho) = a.rho.first().copied() else {
            return Err(Refused("SVMRegressor has no rho".into()));
        };
        let vectors = usize::try_from(a.n_supports).map_err(|_| Refused(format!("n_supports is {}", a.n_supports)))?;
        let (machine, wanted) = if vectors > 0 {
            let function = Function::new(a.kernel_type, &a.kernel_params)?;
            (Machine::Vectors(Likeness::new(function, features, vectors, &a.support_vectors)?), vectors)
        } else {
            (Machine::Linear, features)
        };
        if features == 0 || a.coefficients.len() != wanted {
            return Err(Refused(format!("coefficients has {} entries instead of {wanted}", a.coefficients.len())));
        }
        Ok(SvmRegressor { features, machine, coefficients: a.coefficients.clone(), rho, one_class: a.one_class != 0 })
    }

    /// Numbers of scratch for [`SvmRegressor::run`], whatever the rows.
    pub(crate) fn scratch(&self) -> usize {
        match &self.machine {
            Machine::Vectors(likeness) => likeness.width(),
            Machine::Linear => 0,
        }
    }

    /// `out[rows]` from `input[rows x features]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        if scratch.len() < self.scratch() {
            return;
        }
        for (row, out) in input.chunks_exact(self.features).zip(out).take(rows) {
            let product = match &self.machine {
                Machine::Vectors(likeness) => {
                    likeness.row(row, scratch);
                    dot(&scratch[..self.coefficients.len()], &self.coefficients)
                }
                Machine::Linear => dot(row, &self.coefficients),
            };
            let score = product + self.rho;
            *out = match self.one_class {
                true if score > 0.0 => 1.0,
                true => -1.0,
                false => score,
            };
        }
    }
}
