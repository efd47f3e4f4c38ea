//! Ensembles of trees: attributes as the file has them into the kernel's lists.

use crate::engine::graph::{Tensor, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot};
use crate::engine::native::learned::Learner;
use crate::kernel::scores::Transform;
use crate::kernel::trees::{
    Aggregate, ClassifierAttributes, EnsembleAttributes, NodeLists, RegressorAttributes, TreeClassifier, Trees,
    WeightLists, threshold,
};

use super::learned::{features, ints, labels, numbers, transform, verdicts};

/// A list of numbers, or a tensor of them: doubles are rounded by `narrow`.
fn list(at: &At<'_>, name: &str, narrow: fn(f64) -> f32) -> Result<Vec<f32>, Unfit> {
    match at.tensor(&format!("{name}_as_tensor"))? {
        Some(tensor) => floats(at, tensor, narrow),
        None => Ok(at.floats(name)?.to_vec()),
    }
}

fn floats(at: &At<'_>, tensor: &Tensor, narrow: fn(f64) -> f32) -> Result<Vec<f32>, Unfit> {
    match &tensor.values {
        Values::F32(list) => Ok(list.clone()),
        Values::F64(list) => Ok(list.iter().map(|n| narrow(*n)).collect()),
        Values::I64(_) | Values::U8(_) | Values::I8(_) | Values::Text(_) => {
            Err(at.refused("has no numbers in a tensor"))
        }
    }
}

fn plain(n: f64) -> f32 {
    n as f32
}

pub(super) fn node_lists(at: &At<'_>) -> Result<NodeLists, Unfit> {
    Ok(NodeLists {
        nodes_treeids: ints(at, "nodes_treeids")?,
        nodes_nodeids: ints(at, "nodes_nodeids")?,
        nodes_featureids: ints(at, "nodes_featureids")?,
        nodes_modes: at.texts("nodes_modes")?.to_vec(),
        nodes_values: list(at, "nodes_values", threshold)?,
        nodes_truenodeids: ints(at, "nodes_truenodeids")?,
        nodes_falsenodeids: ints(at, "nodes_falsenodeids")?,
        nodes_missing_value_tracks_true: ints(at, "nodes_missing_value_tracks_true")?,
    })
}

pub(super) fn weight_lists(at: &At<'_>, what: &str) -> Result<WeightLists, Unfit> {
    Ok(WeightLists {
        treeids: ints(at, &format!("{what}_treeids"))?,
        nodeids: ints(at, &format!("{what}_nodeids"))?,
        ids: ints(at, &format!("{what}_ids"))?,
        weights: list(at, &format!("{what}_weights"), plain)?,
    })
}

pub(super) fn regressor(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let name = at.text_or("aggregate_function", "SUM")?;
    let attributes = RegressorAttributes {
        nodes: node_lists(at)?,
        targets: weight_lists(at, "target")?,
        n_targets: at.int_or("n_targets", 1)?,
        base_values: list(at, "base_values", plain)?,
        aggregate_function: Aggregate::named(name).ok_or_else(|| at.refused(&format!("aggregates by {name}")))?,
        post_transform: transform(at)?,
    };
    let trees = Trees::regressor(columns, &attributes).map_err(|e| at.refused(&e.to_string()))?;
    let outputs = trees.outputs();
    numbers(builder, &x, (lines, outputs), Learner::Trees(Box::new(trees)))
}

pub(super) fn classifier(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let attributes = ClassifierAttributes {
        nodes: node_lists(at)?,
        classes: weight_lists(at, "class")?,
        labels: labels(at, "classlabels_int64s")?,
        base_values: list(at, "base_values", plain)?,
        post_transform: transform(at)?,
    };
    let trees = TreeClassifier::new(columns, &attributes).map_err(|e| at.refused(&e.to_string()))?;
    let outputs = trees.outputs();
    verdicts(builder, &x, (lines, outputs), Learner::TreeClassifier(Box::new(trees)))
}

/// Operator set 5.
pub(super) fn ensemble(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let tensor = |name: &str, narrow| match at.tensor(name)? {
        Some(tensor) => floats(at, tensor, narrow),
        None => Ok(Vec::new()),
    };
    let modes = match at.tensor("nodes_modes")?.map(|t| &t.values) {
        Some(Values::U8(list)) => list.clone(),
        Some(_) | None => return Err(at.refused("has no modes")),
    };
    let (aggregate, after) = (at.int_or("aggregate_function", 1)?, at.int_or("post_transform", 0)?);
    let attributes = EnsembleAttributes {
        tree_roots: ints(at, "tree_roots")?,
        nodes_featureids: ints(at, "nodes_featureids")?,
        nodes_modes: modes,
        nodes_splits: tensor("nodes_splits", threshold)?,
        nodes_truenodeids: ints(at, "nodes_truenodeids")?,
        nodes_trueleafs: ints(at, "nodes_trueleafs")?,
        nodes_falsenodeids: ints(at, "nodes_falsenodeids")?,
        nodes_falseleafs: ints(at, "nodes_falseleafs")?,
        nodes_missing_value_tracks_true: ints(at, "nodes_missing_value_tracks_true")?,
        membership_values: tensor("membership_values", plain)?,
        leaf_targetids: ints(at, "leaf_targetids")?,
        leaf_weights: tensor("leaf_weights", plain)?,
        n_targets: at.int_or("n_targets", 1)?,
        aggregate_function: Aggregate::numbered(aggregate).ok_or_else(|| at.refused("aggregates in no known way"))?,
        post_transform: Transform::numbered(after).ok_or_else(|| at.refused("has no known post_transform"))?,
    };
    let trees = Trees::ensemble(columns, &attributes).map_err(|e| at.refused(&e.to_string()))?;
    let outputs = trees.outputs();
    numbers(builder, &x, (lines, outputs), Learner::Trees(Box::new(trees)))
}
