//! Steps over sequences: recurrent layers and convolutions over time. Each row is a sequence of its own, with a state of its own
//! that begins anew.

use std::fmt;

use crate::engine::graph::Values;
use crate::kernel::Refused;
use crate::kernel::convolution::{Convolution, ConvolutionNumbers, Padding, TransposedNumbers};
use crate::kernel::elementary::Function;
use crate::kernel::recurrent::gru::Gru;
use crate::kernel::recurrent::lstm::Lstm;
use crate::kernel::recurrent::{Begin, Results, Sequence, Size};

use super::pair::Behind;
use super::plan::{Inputs, STEP_OUTPUTS};
use super::values::f32s;

/// An LSTM or a GRU with its weights.
#[derive(Debug)]
pub(super) enum Layer {
    Lstm(Box<Lstm>),
    Gru(Box<Gru>),
}

/// A recurrent layer as a step. Its inputs: the sequence, then the states to begin with, if any.
#[derive(Debug)]
pub(super) struct Recurrent {
    pub(super) layer: Layer,
    pub(super) size: Size,
    pub(super) sequence: Sequence,
    /// Whether states to begin with come in, and which of them are the same for all rows.
    pub(super) hidden: Option<Beginning>,
    pub(super) cell: Option<Beginning>,
}

/// A state to begin with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// Which input.
    pub(super) input: usize,
    pub(super) constant: bool,
}

impl Recurrent {
    pub(super) fn scratch(&self) -> Option<usize> {
        match &self.layer {
            Layer::Lstm(k) => k.scratch(self.sequence),
            Layer::Gru(k) => k.scratch(self.sequence),
        }
    }

    pub(super) fn work(&self) -> u64 {
        let Size { inputs, hidden, .. } = self.size;
        let gates = (hidden as u64).saturating_mul(4).saturating_mul((inputs as u64).saturating_add(hidden as u64));
        gates.saturating_mul(self.sequence.steps as u64).saturating_mul(self.sequence.rows as u64)
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut [Values; STEP_OUTPUTS], scratch: &mut [f32]) {
        let ways = self.size.direction.ways();
        let Sequence { steps, rows } = self.sequence;
        let (state, whole) = (ways * rows * self.size.hidden, steps * ways * rows * self.size.hidden);
        let x = inputs.get(0).f32();
        let [every, hidden, cell] = out;
        let every = f32s(every, inputs.rows * whole).chunks_mut(whole.max(1));
        let mut hidden = f32s(hidden, inputs.rows * state).chunks_mut(state.max(1));
        let mut cell = f32s(cell, inputs.rows * state).chunks_mut(state.max(1));
        for (row, (x, every)) in x.chunks(steps * rows * self.size.inputs).zip(every).enumerate() {
            let begin = |beginning: Option<Beginning>| {
                let beginning = beginning?;
                let from = if beginning.constant { 0 } else { row * state };
                inputs.get(beginning.input).f32().get(from..from + state)
            };
            let begin = Begin { hidden: begin(self.hidden), cell: begin(self.cell) };
            let mut results = Results { every: Some(every), hidden: hidden.next(), cell: cell.next() };
            match &self.layer {
                Layer::Lstm(k) => k.run(self.sequence, x, begin, scratch, &mut results),
                Layer::Gru(k) => {
                    results.cell = None;
                    k.run(self.sequence, x, begin, scratch, &mut results);
                }
            }
        }
    }
}

/// What a convolution is made of, until it is known what bends its sums.
#[derive(Clone, Debug)]
pub(super) struct Taps {
    pub(super) channels: usize,
    pub(super) length: usize,
    pub(super) outputs: usize,
    pub(super) kernel: usize,
    pub(super) groups: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) padding: Padding,
    pub(super) weights: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    /// `None` for an ordinary convolution.
    pub(super) transposed: Option<TransposedNumbers>,
}

impl Taps {
    pub(super) fn convolution(&self, activation: Option<Function>) -> Result<Convolution, Refused> {
        let numbers = ConvolutionNumbers {
            channels: self.channels,
            length: self.length,
            outputs: self.outputs,
            kernel: self.kernel,
            groups: self.groups,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            weights: &self.weights,
            bias: self.bias.as_deref(),
            activation,
        };
        match self.transposed {
            None => Convolution::new(numbers),
            Some(more) => Convolution::transposed(numbers, more),
        }
    }
}

/// A convolution over time as a step.
pub(super) struct Convolve {
    kernel: Convolution,
    /// Gone when nothing is fused into it any more.
    taps: Option<Taps>,
    outputs: usize,
    work: u64,
}

impl fmt::Debug for Convolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Convolve").field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Convolve {
    pub(super) fn new(taps: Taps) -> Result<Convolve, Refused> {
        let kernel = taps.convolution(None)?;
        let positions = kernel.length().max(taps.length) as u64;
        let work = positions.saturating_mul(taps.weights.len() as u64);
        Ok(Convolve { kernel, outputs: taps.outputs, taps: Some(taps), work })
    }

    /// Channels and positions that come out.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.outputs, self.kernel.length()]
    }

    /// Takes up the activation that follows, if that is possible.
    pub(super) fn take_up(&mut self, behind: Behind<'_>) -> bool {
        let Behind::Function(function) = behind else { return false };
        let Some(Ok(kernel)) = self.taps.take().map(|taps| taps.convolution(Some(function))) else { return false };
        self.kernel = kernel;
        true
    }

    pub(super) fn settle(&mut self) {
        self.taps = None;
    }

    pub(super) fn scratch(&self) -> usize {
        self.kernel.scratch()
    }

    pub(super) fn work(&self) -> u64 {
        self.work
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values, scratch: &mut [f32]) {
        let numbers = inputs.rows * self.outputs * self.kernel.length();
        self.kernel.run(inputs.rows, inputs.get(0).f32(), scratch, f32s(out, numbers));
    }
}
