//! Where a convolution's numbers lie: the arithmetic of padding, and the parts that the inner loops run.

use super::super::Refused;
use super::super::lanes::WIDTH;
use super::{ConvolutionNumbers, Padding, TransposedNumbers};

/// Most numbers of a row's laid-out input, of its output, and of its weights (256 MiB each).
const NUMBERS_MAX: usize = 1 << 26;

/// Largest stride of a transposed convolution, which has a part for each position within a stride.
const TRANSPOSED_STRIDE_MAX: usize = 4096;

/// An ordinary convolution of stride 1 over laid-out channels.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The first output position that it fills, and the step to its next one.
    pub(super) first: usize,
    pub(super) step: usize,
    /// Positions that it fills.
    pub(super) count: usize,
    /// For each tap of each of a group's channels: where the first position reads, from the group's beginning.
    pub(super) taps: Vec<usize>,
    /// A row of weights, one a tap, for each output channel.
    pub(super) weights: Vec<f32>,
}

/// How channels are laid out, and what is run over them.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    channels: usize,
    length: usize,
    pub(super) groups: usize,
    pub(super) output_length: usize,
    /// Each lane of a channel holds every `stride`th position from its own start on, `lane` numbers long.
    stride: usize,
    starts: Vec<usize>,
    lane: usize,
    /// Zeros before the first position.
    before: usize,
    pub(super) parts: Vec<Part>,
}

impl Layout {
    /// Numbers of a row that goes in.
    pub(super) fn input_numbers(&self) -> usize {
        self.channels * self.length
    }

    /// Numbers of a laid-out row.
    pub(super) fn scratch(&self) -> usize {
        self.channels * self.starts.len() * self.lane
    }

    /// Numbers of a laid-out group of channels.
    pub(super) fn group_scratch(&self) -> usize {
        self.channels / self.groups * self.starts.len() * self.lane
    }

    /// Lays a row out.
    pub(super) fn fill(&self, row: &[f32], scratch: &mut [f32]) {
        let of_channel = self.starts.len() * self.lane;
        for (channel, lanes) in row.chunks_exact(self.length).zip(scratch.chunks_exact_mut(of_channel)) {
            for (start, lane) in self.starts.iter().zip(lanes.chunks_exact_mut(self.lane)) {
                self.fill_lane(*start, channel, lane);
            }
        }
    }

    fn fill_lane(&self, start: usize, channel: &[f32], lane: &mut [f32]) {
        // Lane place i holds position i * stride + start - before.
        let zeros = self.before.saturating_sub(start).div_ceil(self.stride).min(lane.len());
        let (head, body) = lane.split_at_mut(zeros);
        head.fill(0.0);
        let from = (zeros * self.stride + start).saturating_sub(self.before);
        let numbers = channel.get(from..).unwrap_or_default();
        let held = numbers.len().div_ceil(self.stride).min(body.len());
        let (body, tail) = body.split_at_mut(held);
        if self.stride == 1 {
            body.copy_from_slice(&numbers[..held]);
        } else {
            body.iter_mut().zip(numbers.iter().step_by(self.stride)).for_each(|(place, x)| *place = *x);
        }
        tail.fill(0.0);
    }
}

fn too_large() -> Refused {
    Refused(format!("a convolution whose weights, input or output take more than {NUMBERS_MAX} numbers"))
}

/// A product that stays within the limit.
fn bounded(factors: &[usize]) -> Result<usize, Refused> {
    let product = factors.iter().try_fold(1_usize, |product, factor| product.checked_mul(*factor));
    product.filter(|product| *product <= NUMBERS_MAX).ok_or_else(too_large)
}

/// Checks what both directions share; returns the extent of the dilated kernel.
fn check(numbers: &ConvolutionNumbers<'_>, of_channel: usize) -> Result<usize, Refused> {
    let &ConvolutionNumbers { channels, length, outputs, kernel, groups, stride, dilation, weights, .. } = numbers;
    if [channels, length, outputs, kernel, groups, stride, dilation].contains(&0) {
        return Err(Refused(format!(
            "a convolution of {channels} channels of {length} to {outputs}, kernel {kernel}, groups {groups}, stride \
             {stride}, dilation {dilation}: none may be 0"
        )));
    }
    if channels % groups != 0 || outputs % groups != 0 {
        return Err(Refused(format!("a convolution of {channels} to {outputs} channels in {groups} groups")));
    }
    bounded(&[channels, length])?;
    if bounded(&[of_channel, kernel])? != weights.len() {
        return Err(Refused(format!("a convolution with {} weights for {of_channel} times {kernel}", weights.len())));
    }
    bounded(&[stride])?;
    bounded(&[kernel, dilation])?;
    Ok((kernel - 1) * dilation + 1)
}

/// Zeros before and after for an ordinary convolution.
fn zeros(padding: Padding, length: usize, stride: usize, extent: usize) -> Result<(usize, usize), Refused> {
    let same = || ((length.div_ceil(stride) - 1) * stride + extent).saturating_sub(length);
    let (before, after) = match padding {
        Padding::Given { before, after } => (before, after),
        Padding::Valid => (0, 0),
        Padding::SameUpper => (same() / 2, same() - same() / 2),
        Padding::SameLower => (same() - same() / 2, same() / 2),
    };
    bounded(&[before])?;
    bounded(&[after])?;
    Ok((before, after))
}

/// The layout of an ordinary convolution.
pub(super) fn plain(numbers: &ConvolutionNumbers<'_>) -> Result<Layout, Refused> {
    let &ConvolutionNumbers { channels, length, outputs, kernel, groups, stride, dilation, .. } = numbers;
    let of_group = channels / groups.max(1);
    let extent = check(numbers, bounded(&[outputs, of_group])?)?;
    let (before, after) = zeros(numbers.padding, length, stride, extent)?;
    let Some(reach) = (before + length + after).checked_sub(extent) else {
        return Err(Refused(format!("a convolution whose kernel reaches over {extent} of {length} positions")));
    };
    let output_length = reach / stride + 1;
    bounded(&[outputs, output_length])?;
    let mut starts: Vec<usize> = (0..kernel).map(|k| k * dilation % stride).collect();
    starts.sort_unstable();
    starts.dedup();
    let lane = output_length.next_multiple_of(WIDTH) + (extent - 1) / stride;
    bounded(&[channels, starts.len(), lane])?;
    let tap = |channel: usize, k: usize| {
        let slot = starts.partition_point(|start| *start < k * dilation % stride);
        (channel * starts.len() + slot) * lane + k * dilation / stride
    };
    let taps =
        (0..of_group).flat_map(|channel| (0..kernel).map(move |k| (channel, k))).map(|(c, k)| tap(c, k)).collect();
    let part = Part { first: 0, step: 1, count: output_length, taps, weights: numbers.weights.to_vec() };
    Ok(Layout { channels, length, groups, output_length, stride, starts, lane, before, parts: vec![part] })
}

/// Output length and what is cut off before it, for a transposed convolution.
fn cut(numbers: &ConvolutionNumbers<'_>, more: TransposedNumbers, extent: usize) -> Result<(usize, usize), Refused> {
    let &ConvolutionNumbers { length, stride, padding, .. } = numbers;
    bounded(&[more.output_padding])?;
    let full = bounded(&[stride, length - 1])? + extent + more.output_padding;
    let wanted = match (more.output_length, padding) {
        (Some(wanted), _) => wanted,
        (None, Padding::SameUpper | Padding::SameLower) => bounded(&[length, stride])?,
        (None, Padding::Valid) => full,
        (None, Padding::Given { before, after }) => {
            bounded(&[before])?;
            bounded(&[after])?;
            return match full.checked_sub(before + after) {
                Some(0) | None => {
                    Err(Refused(format!("a transposed convolution whose padding leaves nothing of {full}")))
                }
                Some(output_length) => Ok((output_length, before)),
            };
        }
    };
    let spare = full.saturating_sub(wanted);
    let before = match padding {
        Padding::SameUpper => spare / 2,
        Padding::Given { .. } | Padding::Valid | Padding::SameLower => spare - spare / 2,
    };
    if wanted == 0 {
        return Err(Refused("a transposed convolution with an output length of 0".to_owned()));
    }
    Ok((wanted, before))
}

/// The layout of a transposed convolution.
pub(super) fn transposed(numbers: &ConvolutionNumbers<'_>, more: TransposedNumbers) -> Result<Layout, Refused> {
    let &ConvolutionNumbers { channels, length, outputs, groups, stride, .. } = numbers;
    let extent = check(numbers, bounded(&[channels, outputs / groups.max(1)])?)?;
    if stride > TRANSPOSED_STRIDE_MAX {
        return Err(Refused(format!(
            "a transposed convolution of stride {stride}: at most {TRANSPOSED_STRIDE_MAX} is supported"
        )));
    }
    let (output_length, cut) = cut(numbers, more, extent)?;
    bounded(&[outputs, output_length])?;
    // The tap farthest back reads so many places before the first.
    let before = (extent - 1) / stride;
    let lane = before + (output_length + cut).div_ceil(stride).max(length) + WIDTH + 1;
    bounded(&[channels, lane])?;
    let parts = (0..stride.min(output_length)).map(|first| part(numbers, first, first + cut, before, lane));
    let parts = parts.map(|part| Part { count: (output_length - part.first).div_ceil(stride), ..part }).collect();
    Ok(Layout { channels, length, groups, output_length, stride: 1, starts: vec![0], lane, before, parts })
}

/// The taps that reach output positions `reached + j stride`, of which `first` is the first that exists.
fn part(numbers: &ConvolutionNumbers<'_>, first: usize, reached: usize, before: usize, lane: usize) -> Part {
    let &ConvolutionNumbers { channels, outputs, kernel, groups, stride, dilation, weights, .. } = numbers;
    let (of_group, out_of_group) = (channels / groups, outputs / groups);
    let reaching: Vec<usize> = (0..kernel).filter(|k| k * dilation % stride == reached % stride).collect();
    let mut taps = Vec::with_capacity(of_group * reaching.len());
    for channel in 0..of_group {
        for k in &reaching {
            // Positions j reads input j - (k dilation - reached % stride) / stride, counted from reached / stride.
            taps.push(channel * lane + before + reached / stride - (k * dilation - reached % stride) / stride);
        }
    }
    let mut rows = Vec::with_capacity(outputs * taps.len());
    for output in 0..outputs {
        let (group, within) = (output / out_of_group, output % out_of_group);
        for channel in group * of_group..(group + 1) * of_group {
            rows.extend(reaching.iter().map(|k| weights[(channel * out_of_group + within) * kernel + k]));
        }
    }
    Part { first, step: stride, count: 0, taps, weights: rows }
}
