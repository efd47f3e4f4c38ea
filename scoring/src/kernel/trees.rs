//! Ensembles of trees: `TreeEnsembleRegressor`, `TreeEnsembleClassifier`, `TreeEnsemble` and merged forests.
//!
//! Attributes → [`planted`] (checked, links resolved) → [`layout`] (every mode one comparison, flat, breadth first) → [`forest`]
//! (eight walks in lock step, or [`ballot`]: all questions at once) → [`tally`] (sums in the file's order) → what the operator makes of them, here and in [`verdict`].
//!
//! What ONNX leaves open is done as ONNX Runtime does it: a column that no leaf speaks for stays 0 even with a base value, a
//! single target takes no transform but PROBIT, and two classes follow the rules in [`verdict`].
//!
//! Nothing is bounded by hope: every node's child lies in the array, every feature in the row, circles and missing children are
//! refused, a walk takes as many steps as the tree is deep.

mod attributes;
mod ballot;
mod forest;
mod layout;
mod planted;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;

pub(crate) use attributes::{
    Aggregate, ClassifierAttributes, EnsembleAttributes, MergedTree, NodeLists, RegressorAttributes, WeightLists,
    threshold,
};

use super::Refused;
use super::labels::Labels;
use super::scores::{Transform, count, probit};
use planted::Planted;
use tally::{Stand, Tally};
use verdict::Verdict;

/// Columns of one ensemble's output.
const COLUMNS_MAX: usize = 1 << 16;

/// Trees that give numbers: `rows x outputs` from `rows x features`.
pub(crate) struct Trees {
    stand: Stand,
    aggregate: Aggregate,
    /// Empty, or one a column.
    base_values: Vec<f32>,
    transform: Transform,
}

impl Trees {
    /// `TreeEnsembleRegressor` over rows of `features` numbers.
    ///
    /// # Errors
    /// One sentence about the first thing that cannot be run.
    pub(crate) fn regressor(features: usize, a: &RegressorAttributes) -> Result<Trees, Refused> {
        let columns = count("n_targets", a.n_targets, COLUMNS_MAX)?;
        if ![0, columns].contains(&a.base_values.len()) {
            return Err(Refused(format!("base_values has {} entries for {columns} targets", a.base_values.len())));
        }
        let planted = Planted::from_lists(&a.nodes, &a.targets, features, columns)?;
        Ok(Trees {
            base_values: a.base_values.clone(),
            ..Trees::from_planted(planted, features, columns, a.aggregate_function, a.post_transform)?
        })
    }

    /// `TreeEnsemble` of operator set 5.
    ///
    /// # Errors
    /// As [`Trees::regressor`].
    pub(crate) fn ensemble(features: usize, a: &EnsembleAttributes) -> Result<Trees, Refused> {
        let columns = count("n_targets", a.n_targets, COLUMNS_MAX)?;
        let planted = Planted::from_ensemble(a, features, columns)?;
        Trees::from_planted(planted, features, columns, a.aggregate_function, a.post_transform)
    }

    /// The sum over regressors of one tree and one target each, whose numbers went through a map of their own before they were
    /// added: an isolation forest as skl2onnx writes it.
    ///
    /// In that graph each tree `i` is a chain
    /// `Gather(x, columns, axis 1)` (all columns in order, or a subset: the caller renumbers `nodes_featureids`) →
    /// `TreeEnsembleRegressor` (one tree, `n_targets` 1, each leaf's weight is its own node number) → twice `Cast` to int64 →
    /// `LabelEncoder` (`keys_int64s` → `values_floats`) → `Reshape` to `[-1, 1]`, once for the leaf's depth `d`, once for the
    /// number of training rows `n` in it; then elementwise `Equal`/`Greater`/`Cast`/`Mul`/`Add`/`Max`/`Log`/`Div` with
    /// scalar constants compute `d + c(n) - 1`, and one `Sum` over all trees takes the results. What follows (`Div`, `Neg`,
    /// `Pow`, `Neg`, `Add` for the scores, `Less`, `Cast`, `Mul`, `Add` for the label) is no business of the forest.
    ///
    /// So everything between a tree and the `Sum` is a function of the leaf alone: run those nodes once over the column of
    /// `targets.weights`, as if these were rows, and pass the result as [`MergedTree::mapped`]. Trees are added in the order of
    /// the `Sum`'s inputs.
    ///
    /// # Errors
    /// As [`Trees::regressor`], or for a list of mapped numbers that is not as long as the weights.
    pub(crate) fn merged(features: usize, trees: &[MergedTree]) -> Result<Trees, Refused> {
        let mut all = Planted::default();
        for (i, tree) in trees.iter().enumerate() {
            if tree.mapped.len() != tree.targets.weights.len() {
                let (mapped, weights) = (tree.mapped.len(), tree.targets.weights.len());
                return Err(Refused(format!(
                    "tree {i} of a merged forest has {mapped} mapped numbers for {weights} leaves"
                )));
            }
            let targets = WeightLists { weights: tree.mapped.clone(), ..tree.targets.clone() };
            all.append(Planted::from_lists(&tree.nodes, &targets, features, 1)?)?;
        }
        Trees::from_planted(all, features, 1, Aggregate::Sum, Transform::None)
    }

    fn from_planted(
        planted: Planted,
        features: usize,
        columns: usize,
        aggregate: Aggregate,
        transform: Transform,
    ) -> Result<Trees, Refused> {
        let laid = layout::lay(&planted, features)?;
        let stand = Stand::new(&planted, laid, columns, aggregate);
        Ok(Trees { stand, aggregate, base_values: Vec::new(), transform })
    }

    /// Columns of the input.
    pub(crate) fn features(&self) -> usize {
        self.stand.features()
    }

    /// Columns of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.stand.columns()
    }

    /// Numbers of scratch for [`Trees::run`] with up to `rows` rows.
    pub(crate) fn scratch(&self, rows: usize) -> usize {
        self.stand.scratch(rows)
    }

    /// `out[rows x outputs]` from `input[rows x features]`. A buffer that is too short leaves `out` as it was.
    pub(crate) fn run(&self, rows: usize, input: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        let columns = self.stand.columns();
        if out.len() / columns < rows {
            return;
        }
        self.stand
            .run(rows, input, scratch, |row, tally| self.finish(tally, &mut out[row * columns..(row + 1) * columns]));
    }

    fn finish(&self, mut tally: Tally<'_>, out: &mut [f32]) {
        let trees = self.stand.trees() as f32;
        for (column, out) in out.iter_mut().enumerate() {
            if self.aggregate == Aggregate::Average {
                tally.scores[column] /= trees;
            }
            tally.add(column, self.base_values.get(column).copied().unwrap_or(0.0));
            *out = tally.value(column);
        }
        match out {
            [only] if self.transform == Transform::Probit => *only = probit(*only),
            [_] => {}
            _ => self.transform.apply(out),
        }
    }
}

/// Trees that name a class: a label and `rows x classes` scores from `rows x features`.
pub(crate) struct TreeClassifier {
    stand: Stand,
    verdict: Verdict,
    labels: Labels,
}

impl TreeClassifier {
    /// `TreeEnsembleClassifier` over rows of `features` numbers.
    ///
    /// # Errors
    /// One sentence about the first thing that cannot be run.
    pub(crate) fn new(features: usize, a: &ClassifierAttributes) -> Result<TreeClassifier, Refused> {
        let columns = count("the number of class labels", a.labels.len() as i64, COLUMNS_MAX)?;
        let verdict = Verdict::new(&a.classes, columns, &a.base_values, a.post_transform)?;
        let planted = Planted::from_lists(&a.nodes, &a.classes, features, columns)?;
        let laid = layout::lay(&planted, features)?;
        let stand = Stand::new(&planted, laid, columns, Aggregate::Sum);
        Ok(TreeClassifier { stand, verdict, labels: a.labels.clone() })
    }

    /// Columns of the input.
    pub(crate) fn features(&self) -> usize {
        self.stand.features()
    }

    /// Columns of the scores.
    pub(crate) fn outputs(&self) -> usize {
        self.stand.columns()
    }

    /// What the labels of [`TreeClassifier::run`] mean.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Numbers of scratch for [`TreeClassifier::run`] with up to `rows` rows.
    pub(crate) fn scratch(&self, rows: usize) -> usize {
        self.stand.scratch(rows)
    }

    /// `labels[rows]` (as [`Labels::of`] gives them) and `scores[rows x outputs]`. A buffer that is too short leaves both as
    /// they were.
    pub(crate) fn run(&self, rows: usize, input: &[f32], scratch: &mut [f32], labels: &mut [i64], scores: &mut [f32]) {
        let columns = self.stand.columns();
        if scores.len() / columns < rows || labels.len() < rows {
            return;
        }
        self.stand.run(rows, input, scratch, |row, tally| {
            labels[row] = self.verdict.of(tally, &self.labels, &mut scores[row * columns..(row + 1) * columns]);
        });
    }
}
