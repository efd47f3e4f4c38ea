//! What the leaves add up to, row by row, always in the order of the trees in the file: a row's sum is the same to the last bit
//! whether it is scored alone or among others, and the same as ONNX Runtime's on one thread.

use std::array::from_fn;
use std::ops::Range;

use super::attributes::Aggregate;
use super::forest::{Forest, Way};
use super::layout::Laid;
use super::planted::{Planted, Weight};
use crate::kernel::lanes::{Block, Body, Isa, Lanes, WIDTH};

/// The leaves' numbers, by place in the forest.
enum Leaves {
    /// Every leaf adds one number, always to this column: by place, and by place in the ballots' ends.
    Single {
        column: usize,
        values: Vec<f32>,
        at_ends: Vec<f32>,
    },
    Many {
        leaf: Vec<u32>,
        ranges: Vec<Range<u32>>,
        weights: Vec<Weight>,
    },
}

/// A forest and what its leaves say.
pub(super) struct Stand {
    forest: Forest,
    leaves: Leaves,
    columns: usize,
    aggregate: Aggregate,
    lanes: Lanes,
}

/// One row's numbers, and for each whether any leaf spoke (1) or none (0).
pub(super) struct Tally<'a> {
    pub(super) scores: &'a mut [f32],
    pub(super) spoke: &'a mut [f32],
}

impl Tally<'_> {
    /// The column's number; 0 as long as no leaf spoke.
    pub(super) fn value(&self, column: usize) -> f32 {
        if self.has(column) { self.scores[column] } else { 0.0 }
    }

    pub(super) fn has(&self, column: usize) -> bool {
        self.spoke[column] > 0.0
    }

    pub(super) fn add(&mut self, column: usize, value: f32) {
        self.scores[column] += value;
    }
}

impl Aggregate {
    fn start(self) -> f32 {
        match self {
            Aggregate::Sum | Aggregate::Average => 0.0,
            Aggregate::Min => f32::INFINITY,
            Aggregate::Max => f32::NEG_INFINITY,
        }
    }

    #[inline(always)]
    fn fold(self, so_far: f32, leaf: f32) -> f32 {
        match self {
            Aggregate::Sum | Aggregate::Average => so_far + leaf,
            Aggregate::Min => {
                if leaf < so_far {
                    leaf
                } else {
                    so_far
                }
            }
            Aggregate::Max => {
                if leaf > so_far {
                    leaf
                } else {
                    so_far
                }
            }
        }
    }
}

impl Leaves {
    fn of(planted: &Planted, leaf: Vec<u32>, ends: &[u32], columns: usize) -> Leaves {
        let first = planted.weights.first().map_or(0, |w| w.column);
        // With one column a leaf's first weight is all that counts.
        let single = columns == 1
            || (planted.leaves.iter().all(|r| r.len() == 1) && planted.weights.iter().all(|w| w.column == first));
        if !single {
            return Leaves::Many { leaf, ranges: planted.leaves.clone(), weights: planted.weights.clone() };
        }
        let value = |leaf: &u32| {
            let range = planted.leaves.get(*leaf as usize)?;
            planted.weights.get(range.start as usize).map(|w| w.value)
        };
        let values: Vec<f32> = leaf.iter().map(|l| value(l).unwrap_or(0.0)).collect();
        let at_ends = ends.iter().map(|end| values[*end as usize]).collect();
        Leaves::Single { column: first as usize, values, at_ends }
    }
}

impl Stand {
    pub(super) fn new(planted: &Planted, laid: Laid, columns: usize, aggregate: Aggregate) -> Stand {
        let leaves = Leaves::of(planted, laid.leaf, laid.forest.ballots.ends(), columns);
        Stand { forest: laid.forest, leaves, columns, aggregate, lanes: Lanes::detected() }
    }

    pub(super) fn trees(&self) -> usize {
        self.forest.roots.len()
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn features(&self) -> usize {
        self.forest.features
    }

    /// Numbers of scratch that [`Stand::run`] wants: sixteen rows as the trees read them, then sixteen tallies.
    pub(super) fn scratch(&self, rows: usize) -> usize {
        let lanes = if rows < self.forest.rows_for_block { 1 } else { WIDTH };
        lanes * (self.forest.width() + 2 * self.columns)
    }

    /// Calls `finish` with every row's tally, in order. Does nothing if a buffer is too short.
    pub(super) fn run(
        &self,
        rows: usize,
        input: &[f32],
        scratch: &mut [f32],
        mut finish: impl FnMut(usize, Tally<'_>),
    ) {
        let features = self.forest.features;
        if scratch.len() < self.scratch(rows) || input.len() / features < rows {
            return;
        }
        let (least, mut row) = (self.forest.rows_for_block, 0);
        while row < rows {
            let count = (rows - row).min(WIDTH);
            if count >= least {
                let part = &input[row * features..(row + count) * features];
                self.block(count, part, scratch, |lane, tally| finish(row + lane, tally));
                row += count;
            } else {
                let part = &input[row * features..(row + 1) * features];
                self.row(part, scratch, |tally| finish(row, tally));
                row += 1;
            }
        }
    }

    fn block(&self, count: usize, rows: &[f32], scratch: &mut [f32], mut finish: impl FnMut(usize, Tally<'_>)) {
        let (block, tallies) = scratch.split_at_mut(WIDTH * self.forest.width());
        let (block, _) = block.as_chunks_mut::<WIDTH>();
        self.forest.load_block(rows, block);
        match &self.leaves {
            Leaves::Single { column, values, at_ends } => {
                let mut sums = [self.aggregate.start(); WIDTH];
                let (forest, aggregate) = (&self.forest, self.aggregate);
                self.lanes.run(Sums { forest, aggregate, block, values, at_ends, sums: &mut sums });
                for (lane, sum) in sums.into_iter().take(count).enumerate() {
                    finish(lane, self.only(*column, sum, tallies));
                }
            }
            Leaves::Many { .. } => {
                let each = 2 * self.columns;
                let tallies = &mut tallies[..count * each];
                self.clear(tallies);
                self.lanes.run(Tallies { stand: self, block, tallies });
                for (lane, tally) in tallies.chunks_exact_mut(each).enumerate() {
                    finish(lane, self.split(tally));
                }
            }
        }
    }

    fn row(&self, row: &[f32], scratch: &mut [f32], finish: impl FnOnce(Tally<'_>)) {
        let (copy, tally) = scratch.split_at_mut(self.forest.width());
        let row = if self.forest.mirrored {
            self.forest.load_row(row, copy);
            &*copy
        } else {
            row
        };
        match &self.leaves {
            Leaves::Single { column, values, .. } => {
                let mut sum = self.aggregate.start();
                for group in &self.forest.groups {
                    let ends = self.forest.walk_trees(group, row);
                    for end in ends.iter().take(group.trees) {
                        sum = self.aggregate.fold(sum, values[*end as usize]);
                    }
                }
                finish(self.only(*column, sum, tally));
            }
            Leaves::Many { .. } => {
                let tally = &mut tally[..2 * self.columns];
                self.clear(tally);
                for group in &self.forest.groups {
                    let ends = self.forest.walk_trees(group, row);
                    for end in ends.iter().take(group.trees) {
                        self.add(*end, tally);
                    }
                }
                finish(self.split(tally));
            }
        }
    }

    fn split<'a>(&self, tally: &'a mut [f32]) -> Tally<'a> {
        let (scores, spoke) = tally.split_at_mut(self.columns);
        Tally { scores, spoke: &mut spoke[..self.columns] }
    }

    /// A tally in which one column alone has a number.
    fn only<'a>(&self, column: usize, score: f32, tally: &'a mut [f32]) -> Tally<'a> {
        let tally = self.split(tally);
        tally.scores.fill(0.0);
        tally.spoke.fill(0.0);
        tally.scores[column] = score;
        tally.spoke[column] = 1.0;
        tally
    }

    fn clear(&self, tallies: &mut [f32]) {
        for tally in tallies.chunks_exact_mut(2 * self.columns) {
            tally.fill(0.0);
        }
    }

    fn add(&self, end: u32, tally: &mut [f32]) {
        let Leaves::Many { leaf, ranges, weights } = &self.leaves else { return };
        let (scores, spoke) = tally.split_at_mut(self.columns);
        let range = &ranges[leaf[end as usize] as usize];
        for weight in &weights[range.start as usize..range.end as usize] {
            let column = weight.column as usize;
            let so_far = if spoke[column] > 0.0 { scores[column] } else { self.aggregate.start() };
            scores[column] = self.aggregate.fold(so_far, weight.value);
            spoke[column] = 1.0;
        }
    }
}

/// A block of rows through all trees whose leaves add one number.
struct Sums<'a> {
    forest: &'a Forest,
    aggregate: Aggregate,
    block: &'a [Block],
    values: &'a [f32],
    at_ends: &'a [f32],
    sums: &'a mut Block,
}

impl Body for Sums<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) {
        for way in &self.forest.ways {
            let (ends, values) = match way {
                Way::Ask(ballot) => (self.forest.ballots.count(*ballot, self.block), self.at_ends),
                Way::Walk(root) => (self.forest.walk_block(*root, self.block), self.values),
            };
            let mut leaves = [0.0; WIDTH];
            for (leaf, end) in leaves.iter_mut().zip(ends) {
                *leaf = values[end as usize];
            }
            // One arm a tree, not one a leaf.
            match self.aggregate {
                Aggregate::Sum | Aggregate::Average => *self.sums = from_fn(|i| self.sums[i] + leaves[i]),
                Aggregate::Min => *self.sums = from_fn(|i| Aggregate::Min.fold(self.sums[i], leaves[i])),
                Aggregate::Max => *self.sums = from_fn(|i| Aggregate::Max.fold(self.sums[i], leaves[i])),
            }
        }
    }
}

/// A block of rows through all trees whose leaves add to several columns.
struct Tallies<'a> {
    stand: &'a Stand,
    block: &'a [Block],
    tallies: &'a mut [f32],
}

impl Body for Tallies<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _isa: I) {
        let (forest, each) = (&self.stand.forest, 2 * self.stand.columns);
        for way in &forest.ways {
            let ends = match way {
                Way::Ask(ballot) => {
                    let mut ends = forest.ballots.count(*ballot, self.block);
                    let places = forest.ballots.ends();
                    ends.iter_mut().for_each(|end| *end = places[*end as usize]);
                    ends
                }
                Way::Walk(root) => forest.walk_block(*root, self.block),
            };
            for (tally, end) in self.tallies.chunks_exact_mut(each).zip(ends) {
                self.stand.add(end, tally);
            }
        }
    }
}
