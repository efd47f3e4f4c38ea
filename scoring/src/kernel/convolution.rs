//! Convolution over time and its transpose, vectorised over time.
//!
//! A row's channels are first laid out with their padding, so that every tap of the kernel reads a plain run of numbers: a
//! strided convolution splits them by position modulo the stride; a transposed one is cut into parts, one for each position of
//! the output modulo the stride, each an ordinary convolution with its share of the taps. Then four output channels by sixteen
//! positions are summed in registers, from the bias, tap by tap in the order of the weights.

use super::Refused;
use super::dense::tile::{self, Bend};
use super::elementary::Function;
use super::lanes::{Block, Body, Isa, Lanes, WIDTH};

mod layout;
pub(crate) mod stream;

use layout::{Layout, Part};

/// Output channels of a tile.
const TILE_CHANNELS: usize = 4;

/// Zeros around a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// So many before the first position and after the last.
    Given {
        /// Before.
        before: usize,
        /// After.
        after: usize,
    },
    /// None at all (ONNX: VALID).
    Valid,
    /// As long as the input over the stride, an odd zero at the end.
    SameUpper,
    /// As long as the input over the stride, an odd zero at the beginning.
    SameLower,
}

/// A node's numbers, for both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvolutionNumbers<'a> {
    /// Channels that go in.
    pub(crate) channels: usize,
    /// Positions of each.
    pub(crate) length: usize,
    /// Channels that come out.
    pub(crate) outputs: usize,
    /// Taps of the kernel.
    pub(crate) kernel: usize,
    /// Groups of channels that do not see each other.
    pub(crate) groups: usize,
    /// Step between output positions (transposed: between input positions).
    pub(crate) stride: usize,
    /// Step between taps.
    pub(crate) dilation: usize,
    /// Zeros around the row (transposed: taken away from the output).
    pub(crate) padding: Padding,
    /// `[outputs, channels / groups, kernel]`; transposed: `[channels, outputs / groups, kernel]`.
    pub(crate) weights: &'a [f32],
    /// One number for each output channel.
    pub(crate) bias: Option<&'a [f32]>,
    /// What bends the sums.
    pub(crate) activation: Option<Function>,
}

/// What only a transposed convolution has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TransposedNumbers {
    /// Positions more at the end.
    pub(crate) output_padding: usize,
    /// The output's length, from which the padding then follows.
    pub(crate) output_length: Option<usize>,
}

/// A convolution of fixed shape.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    lanes: Lanes,
    layout: Layout,
    bias: Vec<f32>,
    bend: Bend,
    after: Option<Function>,
}

impl Convolution {
    /// An ordinary convolution.
    pub(crate) fn new(numbers: ConvolutionNumbers<'_>) -> Result<Self, Refused> {
        Convolution::of(&numbers, layout::plain(&numbers)?)
    }

    /// A transposed convolution.
    pub(crate) fn transposed(numbers: ConvolutionNumbers<'_>, more: TransposedNumbers) -> Result<Self, Refused> {
        Convolution::of(&numbers, layout::transposed(&numbers, more)?)
    }

    fn of(numbers: &ConvolutionNumbers<'_>, layout: Layout) -> Result<Self, Refused> {
        let bias = numbers.bias.map_or_else(|| vec![0.0; numbers.outputs], <[f32]>::to_vec);
        if bias.len() != numbers.outputs {
            return Err(Refused(format!(
                "a convolution with a bias of {} numbers for {} channels",
                bias.len(),
                numbers.outputs
            )));
        }
        let (bend, after) = super::dense::split(numbers.activation);
        Ok(Convolution { lanes: Lanes::detected(), layout, bias, bend, after })
    }

    /// Positions of each output channel.
    pub(crate) fn length(&self) -> usize {
        self.layout.output_length
    }

    /// Numbers of scratch that [`Convolution::run`] wants.
    pub(crate) fn scratch(&self) -> usize {
        self.layout.scratch()
    }

    /// `rows` rows of `[channels, length]` numbers to as many of `[outputs, Convolution::length]`.
    pub(crate) fn run(&self, rows: usize, input: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        let Some(scratch) = scratch.get_mut(..self.scratch()) else { return };
        let (row_in, row_out) = (self.layout.input_numbers(), self.bias.len() * self.length());
        let rows = rows.min(input.len() / row_in).min(out.len() / row_out);
        let (input, out) = (&input[..rows * row_in], &mut out[..rows * row_out]);
        for (row, out) in input.chunks_exact(row_in).zip(out.chunks_exact_mut(row_out)) {
            self.lanes.run(Row { convolution: self, row, scratch, out });
        }
        if let Some(function) = self.after {
            function.apply(self.lanes, out);
        }
    }
}

struct Row<'a> {
    convolution: &'a Convolution,
    row: &'a [f32],
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

impl Body for Row<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Convolution { layout, bias, bend, .. } = self.convolution;
        layout.fill(self.row, self.scratch);
        let per_group = bias.len() / layout.groups;
        let of_group = layout.group_scratch();
        for group in 0..layout.groups {
            let scratch = &self.scratch[group * of_group..][..of_group];
            let first = group * per_group;
            let out = &mut self.out[first * layout.output_length..][..per_group * layout.output_length];
            let bias = &bias[first..first + per_group];
            for part in &layout.parts {
                let weights = &part.weights[first * part.taps.len()..][..per_group * part.taps.len()];
                channels(isa, &Channels { part, weights, bias, bend: *bend, scratch }, out, layout.output_length);
            }
        }
    }
}

/// One group's channels in one part.
struct Channels<'a> {
    part: &'a Part,
    weights: &'a [f32],
    bias: &'a [f32],
    bend: Bend,
    scratch: &'a [f32],
}

#[inline(always)]
fn channels<I: Isa>(isa: I, job: &Channels<'_>, out: &mut [f32], length: usize) {
    let mut channel = 0;
    while channel + TILE_CHANNELS <= job.bias.len() {
        let out = &mut out[channel * length..][..TILE_CHANNELS * length];
        for at in (0..job.part.count).step_by(WIDTH) {
            positions::<I, TILE_CHANNELS, 1>(isa, job, channel, at, out, length);
        }
        channel += TILE_CHANNELS;
    }
    for channel in channel..job.bias.len() {
        let out = &mut out[channel * length..][..length];
        let mut at = 0;
        while at + 3 * WIDTH < job.part.count {
            positions::<I, 1, 4>(isa, job, channel, at, out, length);
            at += 4 * WIDTH;
        }
        for at in (at..job.part.count).step_by(WIDTH) {
            positions::<I, 1, 1>(isa, job, channel, at, out, length);
        }
    }
}

/// A tile of R channels by P blocks of positions from `at` on.
#[inline(always)]
fn positions<I: Isa, const R: usize, const P: usize>(
    isa: I,
    job: &Channels<'_>,
    channel: usize,
    at: usize,
    out: &mut [f32],
    length: usize,
) {
    let part = job.part;
    let rows = tile::cut::<f32, R>(&job.weights[channel * part.taps.len()..], part.taps.len());
    let mut start = [[[0.0; WIDTH]; P]; R];
    for (start, bias) in start.iter_mut().zip(&job.bias[channel..]) {
        *start = [[*bias; WIDTH]; P];
    }
    let mut sums = tile::held(isa, &start);
    let input = &job.scratch[at..];
    for (tap, offset) in part.taps.iter().enumerate() {
        let (blocks, _) = input[*offset..][..P * WIDTH].as_chunks::<WIDTH>();
        for p in 0..P {
            for r in 0..R {
                sums[r][p] = isa.add_scaled(sums[r][p], rows[r][tap], &blocks[p]);
            }
        }
    }
    for r in 0..R {
        for p in 0..P {
            let block = tile::bend(isa, job.bend, sums[r][p]);
            store(part, at + p * WIDTH, &block, &mut out[r * length..][..length]);
        }
    }
}

/// Writes the positions of a block that exist.
#[inline(always)]
fn store(part: &Part, at: usize, block: &Block, out: &mut [f32]) {
    let count = WIDTH.min(part.count - at);
    if part.step == 1 {
        let place = &mut out[part.first + at..][..count];
        match place.first_chunk_mut() {
            Some(whole) => *whole = *block,
            None => place.copy_from_slice(&block[..count]),
        }
        return;
    }
    let places = out[part.first + at * part.step..].iter_mut().step_by(part.step);
    for (place, x) in places.zip(&block[..count]) {
        *place = *x;
    }
}

#[cfg(test)]
mod tests;
