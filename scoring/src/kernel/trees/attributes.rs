//! What an ONNX file says about an ensemble of trees, as it stands there: names, order and defaults are those of ai.onnx.ml.
//! Lists that the file leaves out are empty.

use crate::kernel::labels::Labels;
use crate::kernel::scores::Transform;

/// The nodes of `TreeEnsembleRegressor` and `TreeEnsembleClassifier`, one entry a node in every list.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeLists {
    pub(crate) nodes_treeids: Vec<i64>,
    pub(crate) nodes_nodeids: Vec<i64>,
    pub(crate) nodes_featureids: Vec<i64>,
    /// `BRANCH_LEQ`, `BRANCH_LT`, `BRANCH_GTE`, `BRANCH_GT`, `BRANCH_EQ`, `BRANCH_NEQ` or `LEAF`.
    pub(crate) nodes_modes: Vec<String>,
    /// `nodes_values`, or `nodes_values_as_tensor` rounded by [`threshold`].
    pub(crate) nodes_values: Vec<f32>,
    pub(crate) nodes_truenodeids: Vec<i64>,
    pub(crate) nodes_falsenodeids: Vec<i64>,
    /// Empty, or one entry a node: 1 sends a missing value to the true side.
    pub(crate) nodes_missing_value_tracks_true: Vec<i64>,
}

/// `target_*` of the regressor, `class_*` of the classifier: what a leaf adds to which column.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeightLists {
    pub(crate) treeids: Vec<i64>,
    pub(crate) nodeids: Vec<i64>,
    pub(crate) ids: Vec<i64>,
    pub(crate) weights: Vec<f32>,
}

/// `TreeEnsembleRegressor`, operator sets 1 to 4.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegressorAttributes {
    pub(crate) nodes: NodeLists,
    pub(crate) targets: WeightLists,
    pub(crate) n_targets: i64,
    /// Empty, or one a target.
    pub(crate) base_values: Vec<f32>,
    pub(crate) aggregate_function: Aggregate,
    pub(crate) post_transform: Transform,
}

/// `TreeEnsembleClassifier`, operator sets 1 to 4.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClassifierAttributes {
    pub(crate) nodes: NodeLists,
    pub(crate) classes: WeightLists,
    /// `classlabels_int64s` or `classlabels_strings`.
    pub(crate) labels: Labels,
    /// Empty, one a class, or a single one with two classes.
    pub(crate) base_values: Vec<f32>,
    pub(crate) post_transform: Transform,
}

/// `TreeEnsemble`, operator set 5: branches and leaves are numbered apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnsembleAttributes {
    pub(crate) tree_roots: Vec<i64>,
    pub(crate) nodes_featureids: Vec<i64>,
    /// 0 `BRANCH_LEQ`, 1 `BRANCH_LT`, 2 `BRANCH_GTE`, 3 `BRANCH_GT`, 4 `BRANCH_EQ`, 5 `BRANCH_NEQ`, 6 `BRANCH_MEMBER`.
    pub(crate) nodes_modes: Vec<u8>,
    pub(crate) nodes_splits: Vec<f32>,
    pub(crate) nodes_truenodeids: Vec<i64>,
    pub(crate) nodes_trueleafs: Vec<i64>,
    pub(crate) nodes_falsenodeids: Vec<i64>,
    pub(crate) nodes_falseleafs: Vec<i64>,
    pub(crate) nodes_missing_value_tracks_true: Vec<i64>,
    /// The sets of the `BRANCH_MEMBER` nodes in their order, each ended by a NaN.
    pub(crate) membership_values: Vec<f32>,
    pub(crate) leaf_targetids: Vec<i64>,
    pub(crate) leaf_weights: Vec<f32>,
    pub(crate) n_targets: i64,
    pub(crate) aggregate_function: Aggregate,
    pub(crate) post_transform: Transform,
}

/// One tree of a merged forest: a regressor of one tree and one target, and what each of its `targets.weights` becomes.
#[derive(Clone, Debug, Default)]
pub(crate) struct MergedTree {
    pub(crate) nodes: NodeLists,
    pub(crate) targets: WeightLists,
    /// One number for each entry of `targets.weights`, in that order.
    pub(crate) mapped: Vec<f32>,
}

/// How the trees' numbers become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Aggregate {
    #[default]
    Sum,
    Average,
    Min,
    Max,
}

impl Aggregate {
    /// By the name of operator sets 1 to 4.
    pub(crate) fn named(name: &str) -> Option<Aggregate> {
        match name {
            "SUM" => Some(Aggregate::Sum),
            "AVERAGE" => Some(Aggregate::Average),
            "MIN" => Some(Aggregate::Min),
            "MAX" => Some(Aggregate::Max),
            _ => None,
        }
    }

    /// By the number of operator set 5.
    pub(crate) fn numbered(number: i64) -> Option<Aggregate> {
        match number {
            0 => Some(Aggregate::Average),
            1 => Some(Aggregate::Sum),
            2 => Some(Aggregate::Min),
            3 => Some(Aggregate::Max),
            _ => None,
        }
    }
}

/// A threshold in double precision as the f32 that splits f32 numbers at the same place: rounded towards minus infinity, since
/// `x <= t` and `x > t` hold for an f32 exactly when they hold with the largest f32 that is not above `t`.
///
/// Only good for the modes LEQ and GT; the others have no such number unless `t` is an f32 already.
pub(crate) fn threshold(t: f64) -> f32 {
    let near = t as f32;
    if f64::from(near) > t { near.next_down() } else { near }
}
