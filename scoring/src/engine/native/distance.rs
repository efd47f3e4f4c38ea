//! Distances of rows to points that are known: what neighbours are looked for with.

use crate::engine::graph::Values;
use crate::kernel::lanes::{Body, Isa, Lanes};

use super::plan::Inputs;
use super::values::f32s;

/// Squared distances of a row to known points: blocks of points side by side, so that they become vectors.
#[derive(Clone, Debug)]
pub(super) struct Distances {
    columns: usize,
    points: usize,
    /// Block by block, in each column by column.
    blocks: Box<[[f32; BLOCK]]>,
    lanes: Lanes,
}

/// Points of one block.
const BLOCK: usize = 16;

impl Distances {
    /// `known` are the points, one after the other.
    pub(super) fn new(columns: usize, known: &[f32]) -> Distances {
        let points = known.len() / columns;
        let mut blocks = vec![[0.0; BLOCK]; points.div_ceil(BLOCK) * columns];
        for (i, point) in known.chunks_exact(columns).enumerate() {
            for (column, x) in point.iter().enumerate() {
                blocks[i / BLOCK * columns + column][i % BLOCK] = *x;
            }
        }
        Distances { columns, points, blocks: blocks.into(), lanes: Lanes::detected() }
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let x = inputs.get(0).f32();
        let out = f32s(out, inputs.rows * self.points);
        for (x, out) in x.chunks_exact(self.columns).zip(out.chunks_mut(self.points)) {
            self.lanes.run(Apart { x, blocks: &self.blocks, out });
        }
    }
}

struct Apart<'a> {
    x: &'a [f32],
    blocks: &'a [[f32; BLOCK]],
    out: &'a mut [f32],
}

impl Body for Apart<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (block, out) in self.blocks.chunks_exact(self.x.len()).zip(self.out.chunks_mut(BLOCK)) {
            let mut sums = [0.0; BLOCK];
            for (x, points) in self.x.iter().zip(block) {
                for (sum, point) in sums.iter_mut().zip(points) {
                    let apart = x - point;
                    *sum = isa.mul_add(apart, apart, *sum);
                }
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum);
        }
    }
}
