//! Trees laid out for walking: one flat array, siblings side by side, breadth first.
//!
//! Every node asks `x <= threshold` and goes to `child` when it holds and to `child + 1` otherwise: no jump to mispredict. A leaf
//! asks for NaN, which never holds, and has its own place as `child + 1`, so that a walk may take more steps than the tree is
//! deep and several walks of unlike length can run in lock step. Eight do: eight rows through one tree, or eight trees over one
//! row. The steps of one walk wait for each other; those of eight do not. Small trees are not walked by blocks of rows at all
//! ([`super::ballot`]).

use super::ballot::{Ballot, Ballots};
use crate::kernel::lanes::{Block, WIDTH};

/// Walks that run in lock step: enough that a step's dependent loads hide behind the others'.
pub(super) const LANES: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) threshold: f32,
    /// Below the features: the value as it is. From there on: the value with NaN as minus infinity, which is always left.
    pub(super) feature: u32,
    pub(super) child: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Root {
    pub(super) node: u32,
    /// Steps to the deepest leaf.
    pub(super) depth: u32,
}

/// Eight trees that one row walks together; the last group repeats its last tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) nodes: [u32; LANES],
    pub(super) depth: u32,
    pub(super) trees: usize,
}

impl Group {
    pub(super) fn of(roots: &[Root]) -> Vec<Group> {
        roots.chunks(LANES).map(Group::from_roots).collect()
    }

    fn from_roots(roots: &[Root]) -> Group {
        let last = roots.len().saturating_sub(1);
        let nodes = std::array::from_fn(|lane| roots.get(lane.min(last)).map_or(0, |r| r.node));
        Group { nodes, depth: roots.iter().map(|r| r.depth).max().unwrap_or(0), trees: roots.len() }
    }
}

/// How a block of rows goes through a tree.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Ask(Ballot),
    Walk(Root),
}

/// Nodes and roots that lead nowhere outside: the layout makes it so.
#[derive(Clone, Debug)]
pub(super) struct Forest {
    pub(super) nodes: Vec<Node>,
    /// In the order of the file, in which sums are taken.
    pub(super) roots: Vec<Root>,
    /// The same roots, eight by eight, for one row.
    pub(super) groups: Vec<Group>,
    /// For each root how a block of rows goes through the tree.
    pub(super) ways: Vec<Way>,
    pub(super) ballots: Ballots,
    /// Rows from which on a block pays, which costs as much for one as for sixteen.
    pub(super) rows_for_block: usize,
    pub(super) features: usize,
    /// Some node reads the second copy of the features.
    pub(super) mirrored: bool,
}

impl Forest {
    /// From nodes that lead to leaves (`leaf` tells which they are), over rows of `features` numbers.
    pub(super) fn new(nodes: Vec<Node>, leaf: &[u32], roots: Vec<Root>, features: usize, mirrored: bool) -> Forest {
        let groups = Group::of(&roots);
        let mut ballots = Ballots::default();
        let way = |root: &Root| ballots.add(&nodes, leaf, root.node).map_or(Way::Walk(*root), Way::Ask);
        let ways: Vec<Way> = roots.iter().map(way).collect();
        let rows_for_block = rows_for_block(&roots, &ways);
        Forest { nodes, roots, groups, ways, ballots, rows_for_block, features, mirrored }
    }

    /// Numbers that one row takes as the trees read it.
    pub(super) fn width(&self) -> usize {
        if self.mirrored { 2 * self.features } else { self.features }
    }

    /// Up to sixteen rows, feature by feature, into `block`.
    pub(super) fn load_block(&self, rows: &[f32], block: &mut [Block]) {
        let (plain, mirror) = block.split_at_mut(self.features.min(block.len()));
        for (lane, row) in rows.chunks_exact(self.features).take(WIDTH).enumerate() {
            for (place, x) in plain.iter_mut().zip(row) {
                place[lane] = *x;
            }
        }
        for (place, x) in mirror.iter_mut().zip(plain.iter()) {
            *place = x.map(mirrored);
        }
    }

    /// One row with its second copy.
    pub(super) fn load_row(&self, row: &[f32], copy: &mut [f32]) {
        let (plain, mirror) = copy.split_at_mut(self.features.min(copy.len()));
        plain.copy_from_slice(row);
        for (place, x) in mirror.iter_mut().zip(row) {
            *place = mirrored(*x);
        }
    }

    /// The leaves that sixteen rows end in.
    #[inline(always)]
    pub(super) fn walk_block(&self, root: Root, block: &[Block]) -> [u32; WIDTH] {
        let mut ends = [0; WIDTH];
        for (half, ends) in ends.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            *ends = self.walk_rows(root, block, half * LANES);
        }
        ends
    }

    /// The leaves that eight rows end in, those from `lane` on.
    #[inline(always)]
    fn walk_rows(&self, root: Root, block: &[Block], lane: usize) -> [u32; LANES] {
        let nodes = self.nodes.as_slice();
        let mut at = [root.node; LANES];
        for _ in 0..root.depth {
            for (i, at) in at.iter_mut().enumerate() {
                let node = &nodes[*at as usize];
                let x = block[node.feature as usize][lane + i];
                *at = node.child.wrapping_add(u32::from(goes_right(x, node.threshold)));
            }
        }
        at
    }

    /// The leaves that one row ends in, in eight trees.
    #[inline(always)]
    pub(super) fn walk_trees(&self, group: &Group, row: &[f32]) -> [u32; LANES] {
        let nodes = self.nodes.as_slice();
        let mut at = group.nodes;
        for _ in 0..group.depth {
            for at in &mut at {
                let node = &nodes[*at as usize];
                *at = node.child.wrapping_add(u32::from(goes_right(row[node.feature as usize], node.threshold)));
            }
        }
        at
    }
}

/// By what was measured on x86-64 in cycles: a step of a walk 4, a question to sixteen rows 5, and 45 to find their leaves.
fn rows_for_block(roots: &[Root], ways: &[Way]) -> usize {
    let of_walk = |root: &Root| 4 * u64::from(root.depth) + 1;
    let of_block = |way: &Way| match way {
        Way::Ask(ballot) => 5 * u64::from(ballot.questions) + 45,
        Way::Walk(root) => WIDTH as u64 * of_walk(root),
    };
    let (one, block): (u64, u64) = (roots.iter().map(of_walk).sum(), ways.iter().map(of_block).sum());
    (block.div_ceil(one.max(1)) as usize).clamp(2, WIDTH)
}

fn mirrored(x: f32) -> f32 {
    if x.is_nan() { f32::NEG_INFINITY } else { x }
}

#[inline(always)]
fn goes_right(x: f32, threshold: f32) -> bool {
    // Not `x > threshold`: a NaN on either side goes right.
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    {
        !(x <= threshold)
    }
}
