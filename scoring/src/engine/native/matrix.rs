//! Products of matrices: by weights that are known when the graph is loaded, and of two that are not.

use crate::engine::graph::Values;
use crate::kernel::Refused;
use crate::kernel::dense::{self, Panels, RightSide};
use crate::kernel::elementary::Function;

use super::pair::Behind;
use super::plan::Inputs;
use super::values::f32s;

/// Lines of numbers by a fixed matrix, with what stands behind the product.
#[derive(Debug)]
pub(super) struct Dense {
    /// Lines of the matrix in one row.
    lines: usize,
    inputs: usize,
    outputs: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// May still take up what stands behind it.
    Open {
        weights: Panels,
        bias: Option<Box<[f32]>>,
        activation: Option<Function>,
    },
    Settled(dense::Dense),
    /// It could not be settled, and its graph is refused.
    Spoilt,
}

impl Dense {
    /// `weights` are `inputs` x `outputs` numbers.
    pub(super) fn new(inputs: usize, outputs: usize, lines: usize, weights: &[f32]) -> Result<Dense, Refused> {
        let weights = Panels::new(inputs, outputs, weights)?;
        Ok(Dense { lines, inputs, outputs, state: State::Open { weights, bias: None, activation: None } })
    }

    /// Takes up what follows, if that is possible.
    pub(super) fn take_up(&mut self, behind: Behind<'_>) -> bool {
        let State::Open { bias, activation, .. } = &mut self.state else { return false };
        if activation.is_some() {
            return false;
        }
        match behind {
            Behind::Function(function) => {
                *activation = Some(function);
                true
            }
            Behind::Added(_) if bias.is_some() => false,
            Behind::Added(added) => {
                *bias = match added.len() {
                    1 => Some(vec![added[0]; self.outputs].into()),
                    n if n == self.outputs => Some(added.into()),
                    // Written out for every line: the same for all of them?
                    n if n % self.outputs == 0 && repeats(added, self.outputs) => Some(added[..self.outputs].into()),
                    _ => None,
                };
                bias.is_some()
            }
        }
    }

    /// From here on it can run, and takes up nothing any more.
    pub(super) fn settle(&mut self) -> Result<(), Refused> {
        self.state = match std::mem::replace(&mut self.state, State::Spoilt) {
            State::Open { weights, bias, activation } => {
                State::Settled(dense::Dense::new(weights, bias.as_deref(), activation)?)
            }
            settled => settled,
        };
        Ok(())
    }

    pub(super) fn work(&self) -> u64 {
        (self.lines as u64).saturating_mul(self.inputs as u64).saturating_mul(self.outputs as u64)
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let lines = inputs.rows * self.lines;
        if let State::Settled(dense) = &self.state {
            dense.run(lines, inputs.get(0).f32(), f32s(out, lines * self.outputs));
        }
    }
}

/// Whether the numbers are the first `length` of them again and again.
fn repeats(numbers: &[f32], length: usize) -> bool {
    let (first, rest) = numbers.split_at(length);
    rest.chunks(length).all(|chunk| chunk == first)
}

/// Which of a row's matrices meet: where each begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meeting {
    pub(super) left: usize,
    pub(super) right: usize,
}

/// Products of matrices that both come from steps (or one of them from the left side of a constant).
#[derive(Debug)]
pub(super) struct Product {
    pub(super) lines: usize,
    pub(super) inner: usize,
    pub(super) columns: usize,
    pub(super) meetings: Box<[Meeting]>,
    /// Numbers of a row on each side; none = a constant.
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) kernel: dense::Product,
}

impl Product {
    pub(super) fn kernel(inner: usize, columns: usize) -> Result<dense::Product, Refused> {
        dense::Product::new(inner, columns, RightSide::Plain)
    }

    pub(super) fn work(&self) -> u64 {
        let one = (self.lines as u64).saturating_mul(self.inner as u64).saturating_mul(self.columns as u64);
        one.saturating_mul(self.meetings.len() as u64)
    }

    pub(super) fn scratch(&self) -> usize {
        self.kernel.scratch()
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values, scratch: &mut [f32]) {
        let (left, right) = (inputs.get(0).f32(), inputs.get(1).f32());
        let one = self.lines * self.columns;
        let out = f32s(out, inputs.rows * self.meetings.len() * one);
        let (lines, inner, columns) = (self.lines, self.inner, self.columns);
        for (row, out) in out.chunks_mut(one * self.meetings.len()).enumerate() {
            for (meeting, out) in self.meetings.iter().zip(out.chunks_mut(one)) {
                let (a, b) = (row * self.left + meeting.left, row * self.right + meeting.right);
                let (Some(a), Some(b)) = (left.get(a..a + lines * inner), right.get(b..b + inner * columns)) else {
                    return;
                };
                self.kernel.run(lines, a, b, scratch, out);
            }
        }
    }
}
