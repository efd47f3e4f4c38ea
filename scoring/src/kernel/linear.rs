//! `LinearRegressor` and `LinearClassifier`: a small matrix, and what the operator makes of its products.

use crate::kernel::Refused;
use crate::kernel::labels::Labels;
use crate::kernel::scores::{Transform, both, count, probit};

/// Columns of one linear model's output.
const COLUMNS_MAX: usize = 1 << 16;

/// Partial sums of a product: as many numbers as the widest register holds, added in one fixed order.
const LANES: usize = 16;

/// `sum(a[i] * b[i])`, always in the same order, whatever the machine.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    a_rest.iter().zip(b_rest).fold(sums[0], |sum, (a, b)| sum + a * b)
}

/// A matrix with one row of coefficients an output, and an intercept each.
#[derive(Clone, Debug)]
struct Products {
    features: usize,
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
}

impl Products {
    fn new(features: usize, columns: usize, coefficients: &[f32], intercepts: &[f32]) -> Result<Products, Refused> {
        if features == 0 || features.checked_mul(columns) != Some(coefficients.len()) {
            let length = coefficients.len();
            return Err(Refused(format!(
                "coefficients has {length} entries for {columns} outputs of {features} columns"
            )));
        }
        Ok(Products { features, coefficients: coefficients.to_vec(), intercepts: intercepts.to_vec() })
    }

    fn row(&self, row: &[f32], out: &mut [f32]) {
        let coefficients = self.coefficients.chunks_exact(self.features);
        for ((out, coefficients), intercept) in out.iter_mut().zip(coefficients).zip(&self.intercepts) {
            *out = dot(row, coefficients) + intercept;
        }
    }
}

/// `LinearRegressor`: `rows x targets` from `rows x features`.
#[derive(Clone, Debug)]
pub(crate) struct LinearRegressor {
    products: Products,
    targets: usize,
    transform: Transform,
}

/// `LinearRegressor`'s attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinearRegressorAttributes {
    /// `targets x features`.
    pub(crate) coefficients: Vec<f32>,
    /// One a target; any other number counts as none.
    pub(crate) intercepts: Vec<f32>,
    pub(crate) targets: i64,
    pub(crate) post_transform: Transform,
}

impl LinearRegressor {
    /// # Errors
    /// For coefficients that do not multiply out.
    pub(crate) fn new(features: usize, a: &LinearRegressorAttributes) -> Result<LinearRegressor, Refused> {
        let targets = count("targets", a.targets, COLUMNS_MAX)?;
        let zeros = vec![0.0; targets];
        let intercepts = if a.intercepts.len() == targets { &a.intercepts } else { &zeros };
        let products = Products::new(features, targets, &a.coefficients, intercepts)?;
        Ok(LinearRegressor { products, targets, transform: a.post_transform })
    }

    /// Columns of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.targets
    }

    /// `out[rows x outputs]` from `input[rows x features]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], out: &mut [f32]) {
        let rows_in = input.chunks_exact(self.products.features);
        for (row, out) in rows_in.zip(out.chunks_exact_mut(self.targets)).take(rows) {
            self.products.row(row, out);
            match out {
                [only] if self.transform == Transform::Probit => *only = probit(*only),
                [_] => {}
                _ => self.transform.apply(out),
            }
        }
    }
}

/// `LinearClassifier`: a label and `rows x outputs` scores from `rows x features`.
#[derive(Clone, Debug)]
pub(crate) struct LinearClassifier {
    products: Products,
    labels: Labels,
    /// One product and two labels: the scores are two.
    doubled: bool,
    transform: Transform,
}

/// `LinearClassifier`'s attributes; `multi_class` changes nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinearClassifierAttributes {
    /// `intercepts x features`.
    pub(crate) coefficients: Vec<f32>,
    /// One a class, or one for two classes: their number is the number of products.
    pub(crate) intercepts: Vec<f32>,
    /// `classlabels_ints` or `classlabels_strings`.
    pub(crate) labels: Labels,
    pub(crate) post_transform: Transform,
}

impl LinearClassifier {
    /// # Errors
    /// For coefficients that do not multiply out, or labels that are too few.
    pub(crate) fn new(features: usize, a: &LinearClassifierAttributes) -> Result<LinearClassifier, Refused> {
        let columns = count("the number of intercepts", a.intercepts.len() as i64, COLUMNS_MAX)?;
        if columns > 1 && a.labels.len() < columns {
            return Err(Refused(format!("{} class labels are too few for {columns} classes", a.labels.len())));
        }
        let products = Products::new(features, columns, &a.coefficients, &a.intercepts)?;
        let doubled = columns == 1 && a.labels.len() == 2;
        Ok(LinearClassifier { products, labels: a.labels.clone(), doubled, transform: a.post_transform })
    }

    /// Columns of the scores.
    pub(crate) fn outputs(&self) -> usize {
        if self.doubled { 2 } else { self.products.intercepts.len() }
    }

    /// What the labels of [`LinearClassifier::run`] mean.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// `labels[rows]` (as [`Labels::of`] gives them) and `scores[rows x outputs]` from `input[rows x features]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], labels: &mut [i64], scores: &mut [f32]) {
        let rows_in = input.chunks_exact(self.products.features);
        let outs = scores.chunks_exact_mut(self.outputs()).zip(labels.iter_mut());
        for (row, (scores, label)) in rows_in.zip(outs).take(rows) {
            self.products.row(row, scores);
            *label = self.finish(scores);
        }
    }

    fn finish(&self, scores: &mut [f32]) -> i64 {
        if self.products.intercepts.len() > 1 {
            let best = first_greatest(scores);
            self.transform.apply(scores);
            return self.labels.of(best);
        }
        let score = scores[0];
        match scores {
            [only] if self.transform == Transform::Probit => *only = probit(score),
            [negative, positive] => (*negative, *positive) = both(self.transform, 1.0 - score, score),
            _ => {}
        }
        let positive = usize::from(score > 0.0);
        if self.doubled { self.labels.of(positive) } else { positive as i64 }
    }
}

/// The first of the greatest numbers.
pub(crate) fn first_greatest(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if *x > row[best] {
            best = i;
        }
    }
    best
}
