//! LSTM and GRU over whole sequences, and one sample at a time.
//!
//! The part of every gate that hangs on the input is one matrix product over all steps at once. What remains of a step is done
//! sixteen hidden units at a time: the sums of all their gates run side by side in registers, are bent there, and become the
//! units' new state; no gate is ever written to memory. Hidden states are kept filled up to whole blocks of sixteen; the lanes
//! beyond the last unit have weights of zero and their state stays zero.
//!
//! State is the caller's: a run begins from what it is given (zeros when nothing is), and nothing is remembered between runs.
//! A sample at a time is a run of one step whose ends are the next one's beginnings.

use super::Refused;
use super::dense::tile::{self, Matrix};
use super::lanes::{Block, Body, Isa, Lanes, WIDTH};

pub(crate) mod activation;
pub(crate) mod gru;
pub(crate) mod lstm;
mod pack;

/// Which way a sequence is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From its first step on.
    Forward,
    /// From its last step back.
    Reverse,
    /// Both, by two sets of weights: forward first.
    Bidirectional,
}

impl Direction {
    /// Sets of weights: 1 or 2.
    pub(crate) fn ways(self) -> usize {
        match self {
            Direction::Forward | Direction::Reverse => 1,
            Direction::Bidirectional => 2,
        }
    }

    /// Whether the set of weights `way` reads from the last step back.
    fn is_backward(self, way: usize) -> bool {
        match self {
            Direction::Forward => false,
            Direction::Reverse => true,
            Direction::Bidirectional => way == 1,
        }
    }
}

/// Numbers that say how large a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Numbers of one step of one row.
    pub(crate) inputs: usize,
    /// Hidden units.
    pub(crate) hidden: usize,
    /// Which way it reads.
    pub(crate) direction: Direction,
}

impl Size {
    /// Blocks of sixteen that the hidden units take.
    fn blocks(self) -> usize {
        self.hidden.div_ceil(WIDTH)
    }
}

/// How much is run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// Steps of every row.
    pub(crate) steps: usize,
    /// Independent sequences side by side (ONNX: batch).
    pub(crate) rows: usize,
}

/// States that a run begins with, each `[ways, rows, hidden]`; nothing stands for zeros.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Begin<'a> {
    /// ONNX: initial_h.
    pub(crate) hidden: Option<&'a [f32]>,
    /// ONNX: initial_c; LSTM only.
    pub(crate) cell: Option<&'a [f32]>,
}

/// What of the results is wanted.
#[derive(Debug, Default)]
pub(crate) struct Results<'a> {
    /// ONNX: Y, `[steps, ways, rows, hidden]`.
    pub(crate) every: Option<&'a mut [f32]>,
    /// ONNX: Y_h, `[ways, rows, hidden]`.
    pub(crate) hidden: Option<&'a mut [f32]>,
    /// ONNX: Y_c, `[ways, rows, hidden]`; LSTM only.
    pub(crate) cell: Option<&'a mut [f32]>,
}

/// One set of weights: what a step makes of its gates and the state before it.
pub(crate) trait Cell {
    /// Gates of a unit.
    const GATES: usize;
    /// Numbers of a unit that live from step to step: the hidden one, and an LSTM's cell.
    const STATES: usize;

    /// The product that gives every gate its share of the input.
    fn of_input(&self) -> Matrix<'_>;

    /// One row's step. `gates` holds the input's share, block by block and in each gate by gate; `now` the hidden units before
    /// the step; `memory` a block for each block of units, kept from step to step; `next` takes the hidden units after it.
    fn step<I: Isa>(&self, isa: I, gates: &[Block], now: &[f32], memory: &mut [Block], next: &mut [Block]);
}

/// A layer of LSTM or GRU cells. See [`lstm::Lstm`] and [`gru::Gru`], which make them.
#[derive(Clone, Debug)]
pub(crate) struct Recurrent<C> {
    lanes: Lanes,
    size: Size,
    ways: Vec<C>,
}

impl<C: Cell> Recurrent<C> {
    /// The layer's size.
    pub(crate) fn size(&self) -> Size {
        self.size
    }

    /// Numbers of scratch that [`Recurrent::run`] wants; nothing when that is more than can be counted.
    pub(crate) fn scratch(&self, sequence: Sequence) -> Option<usize> {
        let gates = sequence.steps.checked_mul(C::GATES)?.checked_add(3)?;
        gates.checked_mul(sequence.rows)?.checked_mul(self.size.blocks())?.checked_mul(WIDTH)
    }

    /// Runs all steps of all rows. `input` is `[steps, rows, inputs]`. Does nothing when a slice is too short.
    pub(crate) fn run(
        &self,
        sequence: Sequence,
        input: &[f32],
        begin: Begin<'_>,
        scratch: &mut [f32],
        results: &mut Results<'_>,
    ) {
        if !self.fits(sequence, input, begin, scratch, results) {
            return;
        }
        for (way, cell) in self.ways.iter().enumerate() {
            let (size, scratch) = (self.size, scratch.as_chunks_mut().0);
            let results = Results {
                every: results.every.as_deref_mut(),
                hidden: results.hidden.as_deref_mut(),
                cell: results.cell.as_deref_mut(),
            };
            self.lanes.run(Pass { cell, size, way, sequence, input, begin, scratch, results });
        }
    }

    /// Numbers of the state that [`Recurrent::step`] keeps: hidden units, and behind them an LSTM's cells.
    pub(crate) fn state(&self) -> usize {
        C::STATES * self.size.hidden
    }

    /// Numbers of scratch that [`Recurrent::step`] wants.
    pub(crate) fn step_scratch(&self) -> Option<usize> {
        self.scratch(Sequence { steps: 1, rows: 1 })?.checked_add(self.state())
    }

    /// One sample in, the hidden units after it out, from `state` to `state` (zeros before the first sample). Only layers that
    /// read forward can, others need the sequence's end first; they and slices too short change nothing.
    pub(crate) fn step(&self, state: &mut [f32], input: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        let hidden = self.size.hidden;
        let Some(state) = state.get_mut(..self.state()) else { return };
        let Some((before, scratch)) = scratch.split_at_mut_checked(self.state()) else { return };
        let Some(out) = out.get_mut(..hidden).filter(|_| self.size.direction == Direction::Forward) else { return };
        before.copy_from_slice(state);
        let begin = Begin { hidden: before.get(..hidden), cell: before.get(hidden..2 * hidden) };
        let (units, cells) = state.split_at_mut(hidden);
        let cell = (!cells.is_empty()).then_some(cells);
        self.run(
            Sequence { steps: 1, rows: 1 },
            input,
            begin,
            scratch,
            &mut Results { hidden: Some(units), cell, every: None },
        );
        out.copy_from_slice(units);
    }

    fn fits(
        &self,
        sequence: Sequence,
        input: &[f32],
        begin: Begin<'_>,
        scratch: &[f32],
        results: &Results<'_>,
    ) -> bool {
        let Size { inputs, hidden, direction } = self.size;
        let Some(scratch_len) = self.scratch(sequence) else { return false };
        // Each is at most a few times the scratch, whose size was just counted.
        let input_len = sequence.steps.saturating_mul(sequence.rows).saturating_mul(inputs);
        let ends = sequence.rows.saturating_mul(hidden).saturating_mul(direction.ways());
        let holds = |slice: Option<&[f32]>, len: usize| slice.is_none_or(|s| s.len() >= len);
        scratch.len() >= scratch_len
            && input.len() >= input_len
            && holds(begin.hidden, ends)
            && holds(begin.cell, ends)
            && holds(results.every.as_deref(), ends.saturating_mul(sequence.steps))
            && holds(results.hidden.as_deref(), ends)
            && holds(results.cell.as_deref(), ends)
    }
}

/// One set of weights over a whole sequence.
struct Pass<'a, C> {
    cell: &'a C,
    size: Size,
    way: usize,
    sequence: Sequence,
    input: &'a [f32],
    begin: Begin<'a>,
    scratch: &'a mut [Block],
    results: Results<'a>,
}

impl<C: Cell> Body for Pass<'_, C> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let Sequence { steps, rows } = self.sequence;
        let blocks = self.size.blocks();
        let (gates, rest) = std::mem::take(&mut self.scratch).split_at_mut(steps * rows * C::GATES * blocks);
        let (memory, rest) = rest.split_at_mut(rows * blocks);
        let (mut now, rest) = rest.split_at_mut(rows * blocks);
        let mut next = &mut rest[..rows * blocks];
        self.fill(self.begin.hidden, now);
        self.fill(self.begin.cell, memory);
        tile::product(isa, &self.cell.of_input(), steps * rows, self.input, gates.as_flattened_mut());
        for turn in 0..steps {
            let step = if self.size.direction.is_backward(self.way) { steps - 1 - turn } else { turn };
            for row in 0..rows {
                let gates = &gates[(step * rows + row) * C::GATES * blocks..][..C::GATES * blocks];
                let before = &now[row * blocks..][..blocks].as_flattened()[..self.size.hidden];
                let memory = &mut memory[row * blocks..][..blocks];
                self.cell.step(isa, gates, before, memory, &mut next[row * blocks..][..blocks]);
            }
            self.keep_step(step, next);
            std::mem::swap(&mut now, &mut next);
        }
        self.keep_ends(now, memory);
    }
}

impl<C> Pass<'_, C> {
    /// This way's share of a slice `[ways, rows, hidden]`.
    fn share(&self) -> std::ops::Range<usize> {
        let len = self.sequence.rows * self.size.hidden;
        self.way * len..(self.way + 1) * len
    }

    fn fill(&self, from: Option<&[f32]>, states: &mut [Block]) {
        states.fill([0.0; WIDTH]);
        if let Some(from) = from {
            let places = states.chunks_exact_mut(self.size.blocks());
            for (place, row) in places.zip(from[self.share()].chunks_exact(self.size.hidden)) {
                place.as_flattened_mut()[..row.len()].copy_from_slice(row);
            }
        }
    }

    fn keep_step(&mut self, step: usize, states: &[Block]) {
        let (hidden, blocks) = (self.size.hidden, self.size.blocks());
        let len = self.sequence.rows * hidden;
        let start = (step * self.size.direction.ways() + self.way) * len;
        if let Some(every) = self.results.every.as_deref_mut() {
            copy_states(states, blocks, &mut every[start..start + len], hidden);
        }
    }

    fn keep_ends(&mut self, states: &[Block], memory: &[Block]) {
        let (share, hidden, blocks) = (self.share(), self.size.hidden, self.size.blocks());
        if let Some(place) = self.results.hidden.as_deref_mut() {
            copy_states(states, blocks, &mut place[share.clone()], hidden);
        }
        if let Some(place) = self.results.cell.as_deref_mut() {
            copy_states(memory, blocks, &mut place[share], hidden);
        }
    }
}

/// States without the lanes that fill them up.
fn copy_states(states: &[Block], blocks: usize, out: &mut [f32], hidden: usize) {
    for (out, row) in out.chunks_exact_mut(hidden).zip(states.chunks_exact(blocks)) {
        out.copy_from_slice(&row.as_flattened()[..hidden]);
    }
}

#[cfg(test)]
mod tests;
