//! `Scaler`, `Normalizer`, `Imputer` and `Binarizer`: one number in, one number out, by column.

use crate::kernel::Refused;

/// `Scaler`: `(x - offset) * scale`, both as long as a row or single.
#[derive(Clone, Debug)]
pub(crate) struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Scaler {
    /// # Errors
    /// For lists that fit neither each other nor rows of `features` numbers.
    pub(crate) fn new(features: usize, offset: &[f32], scale: &[f32]) -> Result<Scaler, Refused> {
        let offset = spread("Scaler's offset", offset, features)?;
        Ok(Scaler { offset, scale: spread("Scaler's scale", scale, features)? })
    }

    /// `offset` and `scale`, one entry a column: for whoever folds them into the next operator.
    pub(crate) fn parts(&self) -> (&[f32], &[f32]) {
        (&self.offset, &self.scale)
    }

    /// `out[rows x features]` from `input[rows x features]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], out: &mut [f32]) {
        let features = self.offset.len();
        for (row, out) in input.chunks_exact(features).zip(out.chunks_exact_mut(features)).take(rows) {
            for (((out, x), offset), scale) in out.iter_mut().zip(row).zip(&self.offset).zip(&self.scale) {
                *out = (x - offset) * scale;
            }
        }
    }
}

/// One entry a column, from as many or from one for all.
fn spread(name: &str, list: &[f32], features: usize) -> Result<Vec<f32>, Refused> {
    match list {
        _ if features == 0 => Err(Refused(format!("{name} is for rows without columns"))),
        _ if list.len() == features => Ok(list.to_vec()),
        [one] => Ok(vec![*one; features]),
        _ => Err(Refused(format!("{name} has {} entries for {features} columns", list.len()))),
    }
}

/// `Normalizer`'s `norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    Max,
    L1,
    L2,
}

impl Norm {
    /// By the attribute's text.
    pub(crate) fn named(name: &str) -> Option<Norm> {
        match name {
            "MAX" => Some(Norm::Max),
            "L1" => Some(Norm::L1),
            "L2" => Some(Norm::L2),
            _ => None,
        }
    }
}

/// `Normalizer`: every row divided by its norm; a row whose norm is 0 stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normalizer {
    features: usize,
    norm: Norm,
}

impl Normalizer {
    /// # Errors
    /// For rows without columns.
    pub(crate) fn new(features: usize, norm: Norm) -> Result<Normalizer, Refused> {
        if features == 0 {
            return Err(Refused("Normalizer has rows without columns".into()));
        }
        Ok(Normalizer { features, norm })
    }

    /// `out[rows x features]` from `input[rows x features]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], out: &mut [f32]) {
        let features = self.features;
        for (row, out) in input.chunks_exact(features).zip(out.chunks_exact_mut(features)).take(rows) {
            match self.norm {
                // By the greatest number, not the greatest magnitude: so the reference has it.
                Norm::Max => divide(row, row.iter().fold(f32::MIN, |most, x| if *x > most { *x } else { most }), out),
                Norm::L1 => divide(row, row.iter().map(|x| x.abs()).sum(), out),
                Norm::L2 => divide(row, row.iter().map(|x| x * x).sum::<f32>().sqrt(), out),
            }
        }
    }
}

fn divide(row: &[f32], by: f32, out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(row) {
        *out = if by == 0.0 { *x } else { x / by };
    }
}

/// `Imputer`: one value, which may be NaN, is replaced by the column's.
#[derive(Clone, Debug)]
pub(crate) struct Imputer {
    replaced: f32,
    imputed: Vec<f32>,
}

impl Imputer {
    /// `imputed_value_floats` (one a column; of any other number the first counts for all) and `replaced_value_float`.
    ///
    /// # Errors
    /// Without imputed values or columns.
    pub(crate) fn new(features: usize, imputed: &[f32], replaced: f32) -> Result<Imputer, Refused> {
        let imputed = match imputed {
            [] => return Err(Refused("Imputer has no imputed_value_floats".into())),
            list if list.len() == features => list,
            [first, ..] => std::slice::from_ref(first),
        };
        Ok(Imputer { replaced, imputed: spread("Imputer's imputed_value_floats", imputed, features)? })
    }

    /// `out[rows x features]` from `input[rows x features]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], out: &mut [f32]) {
        let (features, any_nan) = (self.imputed.len(), self.replaced.is_nan());
        for (row, out) in input.chunks_exact(features).zip(out.chunks_exact_mut(features)).take(rows) {
            for ((out, x), imputed) in out.iter_mut().zip(row).zip(&self.imputed) {
                let replaced = *x == self.replaced || (any_nan && x.is_nan());
                *out = if replaced { *imputed } else { *x };
            }
        }
    }
}

/// `Binarizer`: 1 above the threshold, 0 otherwise. ONNX Runtime stops at a NaN; here it is not above, so 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binarizer {
    threshold: f32,
}

impl Binarizer {
    /// # Errors
    /// For a threshold that is NaN.
    pub(crate) fn new(threshold: f32) -> Result<Binarizer, Refused> {
        if threshold.is_nan() {
            return Err(Refused("Binarizer's threshold is NaN: nothing is above it".into()));
        }
        Ok(Binarizer { threshold })
    }

    /// `out` from as many numbers of `input`.
    pub(crate) fn run(&self, input: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(input) {
            *out = if *x > self.threshold { 1.0 } else { 0.0 };
        }
    }
}
