//! A causal convolution one sample at a time: the last samples are kept in a ring, and each new one gives one output.
//!
//! The same sums in the same order as the whole convolution's, so a stream that began with zeros gives the bits of a row that
//! was padded with zeros before.

use super::super::Refused;
use super::super::dense::Panels;
use super::super::dense::tile::{self, Matrix};
use super::super::elementary::Function;
use super::super::lanes::{Block, Body, Isa, Lanes, WIDTH};
use super::ConvolutionNumbers;

/// Most samples a ring holds: its place is kept in an f32, which counts so far exactly.
const SAMPLES_MAX: usize = 1 << 24;

/// A causal convolution over a stream. Stride 1; padding and length of the numbers are not looked at.
#[derive(Clone, Debug)]
pub(crate) struct CausalConvolution {
    lanes: Lanes,
    channels: usize,
    kernel: usize,
    dilation: usize,
    /// Samples that the ring holds: as far as the kernel reaches.
    reach: usize,
    groups: Vec<Group>,
    after: Option<Function>,
}

#[derive(Clone, Debug)]
struct Group {
    panels: Panels,
    bias: Vec<Block>,
    bend: tile::Bend,
}

impl CausalConvolution {
    /// Checks and packs the weights.
    pub(crate) fn new(numbers: ConvolutionNumbers<'_>) -> Result<Self, Refused> {
        let ConvolutionNumbers { channels, outputs, kernel, groups, stride, dilation, .. } = numbers;
        if stride != 1 {
            return Err(Refused(format!(
                "a stream through a convolution of stride {stride}: only 1 gives an output a sample"
            )));
        }
        // The whole convolution's checks, over rows just long enough.
        let reach = kernel.saturating_sub(1).checked_mul(dilation).and_then(|far| far.checked_add(1));
        let Some(reach) = reach.filter(|reach| *reach <= SAMPLES_MAX) else {
            return Err(Refused(format!(
                "a stream through a convolution that reaches over more than {SAMPLES_MAX} samples"
            )));
        };
        let padding = super::Padding::Valid;
        super::Convolution::new(ConvolutionNumbers { length: reach, padding, ..numbers })?;
        let (bend, after) = super::super::dense::split(numbers.activation);
        let group = |group: usize| {
            let (inputs, outputs) = (channels / groups * kernel, outputs / groups);
            let weights = &numbers.weights[group * inputs * outputs..][..inputs * outputs];
            let mut bias = vec![[0.0; WIDTH]; outputs.div_ceil(WIDTH)];
            if let Some(numbers) = numbers.bias {
                bias.as_flattened_mut()[..outputs].copy_from_slice(&numbers[group * outputs..][..outputs]);
            }
            Ok(Group { panels: Panels::of_transposed(inputs, outputs, weights)?, bias, bend })
        };
        let groups = (0..groups).map(group).collect::<Result<_, _>>()?;
        Ok(CausalConvolution { lanes: Lanes::detected(), channels, kernel, dilation, reach, groups, after })
    }

    /// Numbers of the state: the ring's place, and its samples.
    pub(crate) fn state(&self) -> usize {
        1 + self.reach * self.channels
    }

    /// Numbers of scratch that [`CausalConvolution::step`] wants.
    pub(crate) fn scratch(&self) -> usize {
        self.channels * self.kernel
    }

    /// Numbers of an output.
    pub(crate) fn outputs(&self) -> usize {
        self.groups.iter().map(|group| group.panels.outputs()).sum()
    }

    /// One sample of all channels in, one output out, from `state` to `state` (zeros before the first sample). Does nothing
    /// when a slice is too short.
    pub(crate) fn step(&self, state: &mut [f32], input: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        let Some(([place], ring)) = state.get_mut(..self.state()).and_then(|s| s.split_first_chunk_mut()) else {
            return;
        };
        let Some(input) = input.get(..self.channels) else { return };
        let Some(taps) = scratch.get_mut(..self.scratch()) else { return };
        let Some(out) = out.get_mut(..self.outputs()) else { return };
        // A place that no run of ours wrote becomes one that exists: `as` holds it within usize.
        let newest = *place as usize % self.reach;
        ring[newest * self.channels..][..self.channels].copy_from_slice(input);
        self.gather(newest, ring, taps);
        self.lanes.run(Step { groups: &self.groups, taps, out });
        if let Some(function) = self.after {
            function.apply(self.lanes, out);
        }
        *place = ((newest + 1) % self.reach) as f32;
    }

    /// The samples under the kernel's taps, channel by channel.
    fn gather(&self, newest: usize, ring: &[f32], taps: &mut [f32]) {
        for k in 0..self.kernel {
            let ago = (self.kernel - 1 - k) * self.dilation;
            let sample = &ring[(newest + self.reach - ago) % self.reach * self.channels..][..self.channels];
            for (tap, x) in taps[k..].iter_mut().step_by(self.kernel).zip(sample) {
                *tap = *x;
            }
        }
    }
}

struct Step<'a> {
    groups: &'a [Group],
    taps: &'a [f32],
    out: &'a mut [f32],
}

impl Body for Step<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (mut taps, mut out) = (self.taps, self.out);
        for Group { panels, bias, bend } in self.groups {
            let matrix = Matrix { bias, bend: *bend, order: tile::Order::Whole, ..panels.matrix() };
            let (mine, rest) = taps.split_at(matrix.inputs);
            let (place, others) = out.split_at_mut(matrix.outputs);
            tile::product(isa, &matrix, 1, mine, place);
            (taps, out) = (rest, others);
        }
    }
}
