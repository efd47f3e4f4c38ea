//! The leaves' numbers, in the form in which they are added up.

use std::ops::Range;

use super::planted::{Link, Planted, Weight};

/// Branches that are looked at to find which column a tree is for; a file may name one tree many times.
const VISITS_MAX: usize = 1 << 22;

/// The leaves' numbers, by place in the forest.
pub(super) enum Leaves {
    /// Every leaf adds one number, and all leaves of a tree to the same column.
    One(Ones),
    Many {
        leaf: Vec<u32>,
        ranges: Vec<Range<u32>>,
        weights: Vec<Weight>,
    },
}

/// One number a leaf.
pub(super) struct Ones {
    /// By tree: the position in `used`.
    pub(super) slots: Vec<u32>,
    /// The columns that trees add to.
    pub(super) used: Vec<u32>,
    /// By place.
    pub(super) values: Vec<f32>,
    /// By place in the ballots' ends.
    pub(super) at_ends: Vec<f32>,
}

impl Leaves {
    /// `leaf` tells which leaf a place is, `ends` are the ballots' places.
    pub(super) fn of(planted: &Planted, leaf: Vec<u32>, ends: &[u32], columns: usize) -> Leaves {
        let Some(of_tree) = columns_by_tree(planted, columns) else {
            return Leaves::Many { leaf, ranges: planted.leaves.clone(), weights: planted.weights.clone() };
        };
        let mut used = of_tree.clone();
        used.sort_unstable();
        used.dedup();
        let slots = of_tree.iter().map(|c| used.partition_point(|u| u < c) as u32).collect();
        let value = |leaf: &u32| first_weight(planted, *leaf).map_or(0.0, |w| w.value);
        let values: Vec<f32> = leaf.iter().map(value).collect();
        let at_ends = ends.iter().map(|end| values[*end as usize]).collect();
        Leaves::One(Ones { slots, used, values, at_ends })
    }
}

fn first_weight(planted: &Planted, leaf: u32) -> Option<&Weight> {
    planted.weights.get(planted.leaves.get(leaf as usize)?.start as usize)
}

/// Each tree's column; None if some leaf adds more than one number, or a tree's leaves add to several columns.
fn columns_by_tree(planted: &Planted, columns: usize) -> Option<Vec<u32>> {
    if columns == 1 {
        // A leaf's first weight is all that counts.
        return Some(vec![0; planted.roots.len()]);
    }
    let first = planted.weights.first()?.column;
    if planted.leaves.iter().any(|range| range.len() != 1) {
        return None;
    }
    if planted.weights.iter().all(|w| w.column == first) {
        return Some(vec![first; planted.roots.len()]);
    }
    let mut search = Search { planted, seen: vec![usize::MAX; planted.branches.len()], visits: 0 };
    planted.roots.iter().enumerate().map(|(tree, root)| search.column(tree, *root)).collect()
}

struct Search<'a> {
    planted: &'a Planted,
    /// The tree in which a branch was looked at last.
    seen: Vec<usize>,
    visits: usize,
}

impl Search<'_> {
    fn column(&mut self, tree: usize, root: Link) -> Option<u32> {
        let (mut open, mut column) = (vec![root], None);
        while let Some(link) = open.pop() {
            self.visits += 1;
            match link {
                _ if self.visits > VISITS_MAX => return None,
                Link::Leaf(leaf) => {
                    let own = first_weight(self.planted, leaf)?.column;
                    if *column.get_or_insert(own) != own {
                        return None;
                    }
                }
                Link::Branch(branch) => {
                    let before = std::mem::replace(&mut self.seen[branch as usize], tree);
                    let branch = &self.planted.branches[branch as usize];
                    if before != tree {
                        open.extend([branch.yes, branch.no]);
                    }
                }
            }
        }
        column
    }
}
