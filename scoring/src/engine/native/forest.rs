//! Isolation forests as scikit-learn's converter writes them: thirty nodes a tree, folded into one ensemble.
//!
//! In such a graph each tree gives the number of the leaf that a row ends in, label encoders and some arithmetic make a path length
//! of it, and one `Sum` adds the trees. Everything between a tree and the sum is a function of the leaf alone, so it is computed
//! here once for every leaf, by the steps that the nodes would have become, over a column that holds all leaves.

use std::collections::BTreeMap;

use crate::engine::graph::{Attribute, Graph, Kind, Node, Values};
use crate::kernel::trees::{MergedTree, Trees};

use super::Unfit;
use super::attributes::At;
use super::build::{Builder, Slot};
use super::operators;

/// Fewest trees for which it is worth looking.
const TREES_MIN: usize = 2;
/// What may stand between a tree and the sum: each number of its result depends on one number of the tree's.
const BETWEEN: [&str; 22] = [
    "Cast",
    "LabelEncoder",
    "Reshape",
    "Identity",
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "Not",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Max",
    "Min",
    "Log",
    "Exp",
    "Neg",
    "Abs",
    "Sqrt",
    "Pow",
];

/// A sum of trees that one step can do.
#[derive(Debug)]
pub(super) struct Forest {
    /// Position of the `Sum` among the graph's nodes.
    pub(super) sum: usize,
    /// What the trees look at.
    pub(super) input: String,
    trees: Vec<MergedTree>,
}

impl Forest {
    /// The forest as a kernel for rows of so many features.
    pub(super) fn grown(&self, features: usize) -> Result<Trees, Unfit> {
        Trees::merged(features, &self.trees).map_err(|e| Unfit::Refused(e.to_string()))
    }

    /// Finds the sums of the graph that are nothing but trees.
    pub(super) fn all(graph: &Graph) -> Vec<Forest> {
        let sums: Vec<usize> = (0..graph.nodes.len())
            .filter(|i| graph.nodes[*i].operator == "Sum" && graph.nodes[*i].inputs.len() >= TREES_MIN)
            .collect();
        if sums.is_empty() {
            return Vec::new();
        }
        let mut makers = BTreeMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            node.outputs.iter().for_each(|output| {
                makers.insert(output.as_str(), i);
            });
        }
        let seeker = Seeker { graph, makers };
        sums.into_iter().filter_map(|sum| seeker.forest(sum)).collect()
    }
}

struct Seeker<'g> {
    graph: &'g Graph,
    /// Which node makes what.
    makers: BTreeMap<&'g str, usize>,
}

/// A branch of the sum: its tree and the nodes behind it, in order.
struct Branch<'g> {
    tree: &'g Node,
    behind: Vec<&'g Node>,
}

impl<'g> Seeker<'g> {
    fn forest(&self, sum: usize) -> Option<Forest> {
        let mut input = None;
        let mut trees = Vec::new();
        for name in &self.graph.nodes[sum].inputs {
            let branch = self.branch(name)?;
            let (from, columns) = self.columns(branch.tree)?;
            if *input.get_or_insert(from) != from {
                return None;
            }
            trees.push(self.merged(&branch, name, columns.as_deref())?);
        }
        Some(Forest { sum, input: input?.to_owned(), trees })
    }

    fn maker(&self, name: &str) -> Option<&'g Node> {
        self.makers.get(name).and_then(|i| self.graph.nodes.get(*i))
    }

    /// Walks from an input of the sum to its one tree.
    fn branch(&self, name: &'g str) -> Option<Branch<'g>> {
        let mut tree: Option<&'g Node> = None;
        let mut behind = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        // Second visit = all that it needs has been put before it.
        let mut open = vec![(name, false)];
        while let Some((name, again)) = open.pop() {
            let Some(node) = self.maker(name) else {
                // A weight, or the graph's input, which would not do.
                if self.graph.weights.contains_key(name) {
                    continue;
                }
                return None;
            };
            if again {
                behind.push(node);
                continue;
            }
            if node.operator == "TreeEnsembleRegressor" {
                if tree.is_some_and(|t| !std::ptr::eq(t, node)) {
                    return None;
                }
                tree = Some(node);
                continue;
            }
            if !BETWEEN.contains(&node.operator.as_str()) {
                return None;
            }
            if seen.insert(name) {
                open.push((name, true));
                open.extend(node.inputs.iter().filter(|i| !i.is_empty()).map(|i| (i.as_str(), false)));
            }
        }
        Some(Branch { tree: tree?, behind })
    }

    /// What a tree looks at, and which columns of it when a `Gather` stands before.
    fn columns(&self, tree: &'g Node) -> Option<(&'g str, Option<Vec<i64>>)> {
        let name = tree.inputs.first()?.as_str();
        let Some(gather) = self.maker(name).filter(|n| n.operator == "Gather" && n.domain.is_empty()) else {
            return Some((name, None));
        };
        let [from, indices] = gather.inputs.as_slice() else { return None };
        let axis = matches!(gather.attributes.get("axis"), Some(Attribute::Int(1)));
        match &self.graph.weights.get(indices)?.values {
            Values::I64(list) => axis.then(|| (from.as_str(), Some(list.clone()))),
            Values::F32(_) | Values::F64(_) | Values::U8(_) | Values::I8(_) | Values::Text(_) => None,
        }
    }

    /// The tree with what each of its leaves adds to the sum.
    fn merged(&self, branch: &Branch<'g>, name: &str, columns: Option<&[i64]>) -> Option<MergedTree> {
        let mut builder = Builder::default();
        let mut slots: BTreeMap<&'g str, Slot> = BTreeMap::new();
        let tree = branch.tree;
        let mut at = At::bare(self.graph, tree);
        let (mut nodes, targets) = operators::lists_of_one_tree(&mut at)?;
        let leaves = targets.weights.len();
        let mut column = builder.floats(&[leaves, 1], targets.weights.clone()).ok()?;
        slots.insert(tree.outputs.first()?, column.clone());
        for node in &branch.behind {
            let at = At::find(self.graph, node, &mut builder, &mut slots).ok()?;
            let made = operators::compile(&mut builder, &at).ok()?.into_iter().next()?;
            if *made.shape != [leaves, 1] && *made.shape != [leaves] {
                return None;
            }
            column = made.clone();
            slots.insert(node.outputs.first()?, made);
        }
        let result = slots.get(name).unwrap_or(&column);
        if result.kind != Kind::F32 || *result.shape != [leaves, 1] {
            return None;
        }
        let mapped = builder.known_floats(result)?.to_vec();
        if let Some(columns) = columns {
            for feature in &mut nodes.nodes_featureids {
                *feature = *columns.get(usize::try_from(*feature).ok()?)?;
            }
        }
        Some(MergedTree { nodes, targets, mapped })
    }
}
