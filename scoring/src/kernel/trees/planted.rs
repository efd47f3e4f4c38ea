//! Trees as checked: every link resolved to a place in a list, every length right, every number usable. Whether the links run in
//! a circle is found when they are laid out.

use std::collections::HashMap;
use std::ops::Range;

use super::attributes::{EnsembleAttributes, NodeLists, WeightLists};
use crate::kernel::Refused;

/// Branches and leaves of one ensemble: five hundred trees of four thousand nodes, and small enough that every place fits 32 bits
/// after laying out.
pub(super) const NODES_MAX: usize = 1 << 21;

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Branch(u32),
    Leaf(u32),
}

/// What a branch asks of its feature. The thresholds are no NaN.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Leq(f32),
    Lt(f32),
    Gte(f32),
    Gt(f32),
    Eq(f32),
    Neq(f32),
    /// Ascending, each value once.
    Member(Vec<f32>),
}

#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) feature: u32,
    pub(super) test: Test,
    /// A missing value (NaN) counts as yes.
    pub(super) missing_is_yes: bool,
    pub(super) yes: Link,
    pub(super) no: Link,
}

/// What a leaf adds to one column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    pub(super) column: u32,
    pub(super) value: f32,
}

/// An ensemble whose every link leads to a branch or a leaf that exists.
#[derive(Clone, Debug, Default)]
pub(super) struct Planted {
    pub(super) branches: Vec<Branch>,
    /// Each leaf's part of `weights`, never empty.
    pub(super) leaves: Vec<Range<u32>>,
    pub(super) weights: Vec<Weight>,
    pub(super) roots: Vec<Link>,
}

fn refuse<T>(sentence: String) -> Result<T, Refused> {
    Err(Refused(sentence))
}

fn same_length(name: &str, length: usize, nodes: usize) -> Result<(), Refused> {
    if length == nodes { Ok(()) } else { refuse(format!("{name} has {length} entries for {nodes} nodes")) }
}

fn feature_of(id: i64, features: usize) -> Result<u32, Refused> {
    match u32::try_from(id) {
        Ok(f) if (f as usize) < features => Ok(f),
        Ok(_) | Err(_) => refuse(format!("a tree asks for feature {id} of {features}")),
    }
}

fn column_of(id: i64, columns: usize) -> Result<u32, Refused> {
    match u32::try_from(id) {
        Ok(c) if (c as usize) < columns => Ok(c),
        Ok(_) | Err(_) => refuse(format!("a leaf adds to column {id} of {columns}")),
    }
}

fn usable(name: &str, value: f32) -> Result<f32, Refused> {
    if value.is_nan() { refuse(format!("{name} has a NaN: nothing compares with it")) } else { Ok(value) }
}

fn finite(name: &str, value: f32) -> Result<f32, Refused> {
    if value.is_finite() { Ok(value) } else { refuse(format!("{name} has {value}: a leaf must add a finite number")) }
}

/// A node of operator sets 1 to 4, before its links are resolved.
enum Mode {
    Leaf,
    Test(fn(f32) -> Test),
}

fn mode_named(name: &str) -> Result<Mode, Refused> {
    Ok(match name {
        "LEAF" => Mode::Leaf,
        "BRANCH_LEQ" => Mode::Test(Test::Leq),
        "BRANCH_LT" => Mode::Test(Test::Lt),
        "BRANCH_GTE" => Mode::Test(Test::Gte),
        "BRANCH_GT" => Mode::Test(Test::Gt),
        "BRANCH_EQ" => Mode::Test(Test::Eq),
        "BRANCH_NEQ" => Mode::Test(Test::Neq),
        other => return refuse(format!("nodes_modes has {other:?}, which no operator set names")),
    })
}

/// Nodes by the tree and the number that the file gives them.
type Places = HashMap<(i64, i64), Link>;

impl Planted {
    /// From the lists of operator sets 1 to 4.
    pub(super) fn from_lists(
        nodes: &NodeLists,
        weights: &WeightLists,
        features: usize,
        columns: usize,
    ) -> Result<Planted, Refused> {
        check_lengths(nodes, weights)?;
        let places = places_of(nodes)?;
        let mut planted = Planted::default();
        planted.add_branches(nodes, &places, features)?;
        planted.add_roots(nodes, &places)?;
        planted.add_leaves(nodes, weights, &places, columns)?;
        Ok(planted)
    }

    fn add_branches(&mut self, nodes: &NodeLists, places: &Places, features: usize) -> Result<(), Refused> {
        for (i, mode) in nodes.nodes_modes.iter().enumerate() {
            let Mode::Test(test) = mode_named(mode)? else { continue };
            let tree = nodes.nodes_treeids[i];
            let link = |id: i64, name: &str| match places.get(&(tree, id)) {
                Some(link) => Ok(*link),
                None => refuse(format!("{name} leads to node {id}, which tree {tree} does not have")),
            };
            self.branches.push(Branch {
                feature: feature_of(nodes.nodes_featureids[i], features)?,
                test: test(usable("nodes_values", nodes.nodes_values[i])?),
                missing_is_yes: nodes.nodes_missing_value_tracks_true.get(i) == Some(&1),
                yes: link(nodes.nodes_truenodeids[i], "nodes_truenodeids")?,
                no: link(nodes.nodes_falsenodeids[i], "nodes_falsenodeids")?,
            });
        }
        Ok(())
    }

    /// A tree's root is its first node; its nodes stand together.
    fn add_roots(&mut self, nodes: &NodeLists, places: &Places) -> Result<(), Refused> {
        let mut seen = std::collections::HashSet::new();
        let mut last = None;
        for (tree, node) in nodes.nodes_treeids.iter().zip(&nodes.nodes_nodeids) {
            if last == Some(*tree) {
                continue;
            }
            if !seen.insert(*tree) {
                return refuse(format!("nodes_treeids comes back to tree {tree} after another one"));
            }
            last = Some(*tree);
            self.roots.extend(places.get(&(*tree, *node)));
        }
        Ok(())
    }

    /// Weights sorted by leaf, each leaf's in the order of the file.
    fn add_leaves(
        &mut self,
        nodes: &NodeLists,
        lists: &WeightLists,
        places: &Places,
        columns: usize,
    ) -> Result<(), Refused> {
        let leaves = nodes.nodes_modes.len() - self.branches.len();
        let mut of_leaf = vec![Vec::new(); leaves];
        for (i, (tree, node)) in lists.treeids.iter().zip(&lists.nodeids).enumerate() {
            let weight = Weight {
                column: column_of(lists.ids[i], columns)?,
                value: finite("the leaves' weights", lists.weights[i])?,
            };
            match places.get(&(*tree, *node)) {
                Some(Link::Leaf(leaf)) => of_leaf[*leaf as usize].push(weight),
                // Old converters gave branches weights too; nobody reads them.
                Some(Link::Branch(_)) => {}
                None => return refuse(format!("a weight is for node {node} of tree {tree}, which is not there")),
            }
        }
        for weights in of_leaf {
            self.add_leaf(weights.into_iter())?;
        }
        Ok(())
    }

    fn add_leaf(&mut self, weights: impl Iterator<Item = Weight>) -> Result<(), Refused> {
        let start = self.weights.len() as u32;
        self.weights.extend(weights);
        let end = self.weights.len() as u32;
        if start == end {
            return refuse("a leaf has no weight: it would add nothing".into());
        }
        self.leaves.push(start..end);
        Ok(())
    }

    /// From the lists of operator set 5.
    pub(super) fn from_ensemble(a: &EnsembleAttributes, features: usize, columns: usize) -> Result<Planted, Refused> {
        check_ensemble(a)?;
        let mut planted = Planted::default();
        for (target, weight) in a.leaf_targetids.iter().zip(&a.leaf_weights) {
            let value = finite("leaf_weights", *weight)?;
            planted.add_leaf(std::iter::once(Weight { column: column_of(*target, columns)?, value }))?;
        }
        let mut sets = a.membership_values.split(|v| v.is_nan());
        for i in 0..a.nodes_modes.len() {
            planted.branches.push(Branch {
                feature: feature_of(a.nodes_featureids[i], features)?,
                test: test_numbered(a.nodes_modes[i], a.nodes_splits[i], &mut sets)?,
                missing_is_yes: a.nodes_missing_value_tracks_true.get(i) == Some(&1),
                yes: link_numbered(a, a.nodes_truenodeids[i], a.nodes_trueleafs[i])?,
                no: link_numbered(a, a.nodes_falsenodeids[i], a.nodes_falseleafs[i])?,
            });
        }
        for root in &a.tree_roots {
            planted.roots.push(link_numbered(a, *root, 0)?);
        }
        Ok(planted)
    }

    /// All trees of both, the other's after these.
    pub(super) fn append(&mut self, other: Planted) -> Result<(), Refused> {
        let (branches, leaves, weights) =
            (self.branches.len() as u32, self.leaves.len() as u32, self.weights.len() as u32);
        let moved = |link: Link| match link {
            Link::Branch(b) => Link::Branch(b + branches),
            Link::Leaf(l) => Link::Leaf(l + leaves),
        };
        self.branches.extend(other.branches.into_iter().map(|b| Branch { yes: moved(b.yes), no: moved(b.no), ..b }));
        self.leaves.extend(other.leaves.into_iter().map(|l| l.start + weights..l.end + weights));
        self.weights.extend(other.weights);
        self.roots.extend(other.roots.into_iter().map(moved));
        limited("the merged trees' nodes", self.branches.len() + self.leaves.len())?;
        limited("the merged trees' weights", self.weights.len())
    }
}

fn limited(name: &str, length: usize) -> Result<(), Refused> {
    if length <= NODES_MAX { Ok(()) } else { refuse(format!("{name} number {length}, more than {NODES_MAX}")) }
}

fn check_lengths(nodes: &NodeLists, weights: &WeightLists) -> Result<(), Refused> {
    let n = nodes.nodes_modes.len();
    limited("the nodes", n)?;
    same_length("nodes_treeids", nodes.nodes_treeids.len(), n)?;
    same_length("nodes_nodeids", nodes.nodes_nodeids.len(), n)?;
    same_length("nodes_featureids", nodes.nodes_featureids.len(), n)?;
    same_length("nodes_values", nodes.nodes_values.len(), n)?;
    same_length("nodes_truenodeids", nodes.nodes_truenodeids.len(), n)?;
    same_length("nodes_falsenodeids", nodes.nodes_falsenodeids.len(), n)?;
    let tracks = nodes.nodes_missing_value_tracks_true.len();
    if tracks > 0 {
        same_length("nodes_missing_value_tracks_true", tracks, n)?;
    }
    let w = weights.weights.len();
    limited("the leaves' weights", w)?;
    for (name, length) in
        [("ids", weights.ids.len()), ("treeids", weights.treeids.len()), ("nodeids", weights.nodeids.len())]
    {
        if length != w {
            return refuse(format!("the leaves' {name} have {length} entries for {w} weights"));
        }
    }
    Ok(())
}

/// Branches and leaves numbered in the order in which [`Planted`] lists them.
fn places_of(nodes: &NodeLists) -> Result<Places, Refused> {
    let mut places = Places::with_capacity(nodes.nodes_modes.len());
    let (mut branches, mut leaves) = (0, 0);
    for (i, mode) in nodes.nodes_modes.iter().enumerate() {
        let (tree, node) = (nodes.nodes_treeids[i], nodes.nodes_nodeids[i]);
        let (link, count) = match mode_named(mode)? {
            Mode::Leaf => (Link::Leaf(leaves), &mut leaves),
            Mode::Test(_) => (Link::Branch(branches), &mut branches),
        };
        *count += 1;
        if places.insert((tree, node), link).is_some() {
            return refuse(format!("tree {tree} has two nodes with the number {node}"));
        }
    }
    Ok(places)
}

fn check_ensemble(a: &EnsembleAttributes) -> Result<(), Refused> {
    let n = a.nodes_modes.len();
    limited("the nodes", n)?;
    same_length("nodes_featureids", a.nodes_featureids.len(), n)?;
    same_length("nodes_splits", a.nodes_splits.len(), n)?;
    same_length("nodes_truenodeids", a.nodes_truenodeids.len(), n)?;
    same_length("nodes_trueleafs", a.nodes_trueleafs.len(), n)?;
    same_length("nodes_falsenodeids", a.nodes_falsenodeids.len(), n)?;
    same_length("nodes_falseleafs", a.nodes_falseleafs.len(), n)?;
    let tracks = a.nodes_missing_value_tracks_true.len();
    if tracks > 0 {
        same_length("nodes_missing_value_tracks_true", tracks, n)?;
    }
    limited("leaf_weights", a.leaf_weights.len())?;
    limited("tree_roots", a.tree_roots.len())?;
    limited("membership_values", a.membership_values.len())?;
    if a.leaf_targetids.len() != a.leaf_weights.len() {
        return refuse(format!(
            "leaf_targetids has {} entries for {} leaves",
            a.leaf_targetids.len(),
            a.leaf_weights.len()
        ));
    }
    Ok(())
}

fn test_numbered<'a>(mode: u8, split: f32, sets: &mut impl Iterator<Item = &'a [f32]>) -> Result<Test, Refused> {
    let split = || usable("nodes_splits", split);
    Ok(match mode {
        0 => Test::Leq(split()?),
        1 => Test::Lt(split()?),
        2 => Test::Gte(split()?),
        3 => Test::Gt(split()?),
        4 => Test::Eq(split()?),
        5 => Test::Neq(split()?),
        6 => match sets.next() {
            Some(set) => Test::Member(ascending(set)),
            None => return refuse("membership_values has fewer sets than there are BRANCH_MEMBER nodes".into()),
        },
        other => return refuse(format!("nodes_modes has {other}: it must be 0 to 6")),
    })
}

fn ascending(set: &[f32]) -> Vec<f32> {
    let mut set = set.to_vec();
    set.sort_by(f32::total_cmp);
    // -0.0 and 0.0 are one value to a comparison.
    set.dedup_by(|a, b| a == b);
    set
}

fn link_numbered(a: &EnsembleAttributes, id: i64, is_leaf: i64) -> Result<Link, Refused> {
    let (name, count) = match is_leaf {
        0 => ("branch", a.nodes_modes.len()),
        _ => ("leaf", a.leaf_weights.len()),
    };
    match u32::try_from(id) {
        Ok(i) if (i as usize) < count => Ok(if is_leaf == 0 { Link::Branch(i) } else { Link::Leaf(i) }),
        Ok(_) | Err(_) => refuse(format!("a link leads to {name} {id} of {count}")),
    }
}
