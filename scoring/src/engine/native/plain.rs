//! The plain recurrent layer: one gate, one step after the other.

use crate::engine::graph::Values;
use crate::kernel::elementary::Function;
use crate::kernel::lanes::Lanes;
use crate::kernel::recurrent::{Direction, Size};

use super::plan::{Inputs, STEP_OUTPUTS};
use super::sequence::Beginning;
use super::values::f32s;

/// The layer as a step. Its inputs: the sequence, then the state to begin with, if any.
#[derive(Debug)]
pub(super) struct Plain {
    size: Size,
    steps: usize,
    /// A line of weights for each unit, way by way: of the input, of the units, and both biases added.
    of_input: Vec<f32>,
    of_hidden: Vec<f32>,
    bias: Vec<f32>,
    /// What bends the sums of each way.
    bends: Vec<Function>,
    begin: Option<Beginning>,
    lanes: Lanes,
}

impl Plain {
    /// `known` are the input's weights, the units' and both biases behind each other, as the node has them, of the right lengths.
    pub(super) fn new(
        size: Size,
        steps: usize,
        known: Vec<Vec<f32>>,
        bends: Vec<Function>,
        begin: Option<Beginning>,
    ) -> Plain {
        let mut known = known.into_iter();
        let (of_input, of_hidden) = (known.next().unwrap_or_default(), known.next().unwrap_or_default());
        let both = known.next().unwrap_or_default();
        let halves = both.chunks(2 * size.hidden).filter_map(|way| way.split_at_checked(size.hidden));
        let bias = halves.flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b)).collect();
        Plain { size, steps, of_input, of_hidden, bias, bends, begin, lanes: Lanes::detected() }
    }

    pub(super) fn work(&self) -> u64 {
        let weights = (self.of_input.len() + self.of_hidden.len()) as u64;
        weights.saturating_mul(self.steps as u64)
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut [Values; STEP_OUTPUTS]) {
        let (hidden, ways) = (self.size.hidden, self.size.direction.ways());
        let (state, whole) = (ways * hidden, self.steps * ways * hidden);
        let [every, last, _] = out;
        let rows = f32s(every, inputs.rows * whole).chunks_exact_mut(whole);
        let rows = rows.zip(f32s(last, inputs.rows * state).chunks_exact_mut(state));
        let sequences = inputs.get(0).f32().chunks_exact(self.steps * self.size.inputs);
        for (row, (x, (every, last))) in sequences.zip(rows).enumerate() {
            match self.begin.map(|b| (b, inputs.get(b.input).f32())) {
                Some((b, begin)) => {
                    let from = if b.constant { 0 } else { row * state };
                    if let Some(begin) = begin.get(from..from + state) {
                        last.copy_from_slice(begin);
                    }
                }
                None => last.fill(0.0),
            }
            for (way, last) in last.chunks_exact_mut(hidden).enumerate() {
                self.way(way, x, every, last);
            }
        }
    }

    /// Reads the sequence once; `now` is the state before and, in the end, the last one.
    fn way(&self, way: usize, x: &[f32], every: &mut [f32], now: &mut [f32]) {
        let (Size { inputs, hidden, direction }, ways) = (self.size, self.size.direction.ways());
        let backward = direction == Direction::Reverse || way == 1;
        let lines = way * hidden..(way + 1) * hidden;
        for step in 0..self.steps {
            let at = if backward { self.steps - 1 - step } else { step };
            let x = &x[at * inputs..(at + 1) * inputs];
            let from = (at * ways + way) * hidden;
            let next = &mut every[from..from + hidden];
            for (unit, next) in lines.clone().zip(next.iter_mut()) {
                let of_input = &self.of_input[unit * inputs..(unit + 1) * inputs];
                let of_hidden = &self.of_hidden[unit * hidden..(unit + 1) * hidden];
                let sum: f32 = x.iter().zip(of_input).map(|(x, w)| x * w).sum();
                *next = self.bias[unit] + sum + now.iter().zip(of_hidden).map(|(h, w)| h * w).sum::<f32>();
            }
            self.bends[way].apply(self.lanes, next);
            now.copy_from_slice(next);
        }
    }
}
