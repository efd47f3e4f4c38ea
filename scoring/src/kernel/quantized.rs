//! Numbers of eight bits: to them, from them, and products of them.
//!
//! Quantised tensors travel as f32 that hold whole numbers; so do the sums of their products. That loses nothing: every sum
//! whose parts stay below 2²⁴ is exact in f32, whatever the order, and runs on the same tiles as other products do. A layer's
//! constructor adds up what its weights can reach at most; layers that could reach further count in 32-bit integers instead
//! ([`dense`]). Rounding is half to even and everything saturates, as in ONNX Runtime, whose numbers these are.

use super::Refused;
use super::lanes::{Body, Isa, Lanes};

pub(crate) mod dense;

/// Whole numbers of eight bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eight {
    /// -128 to 127.
    Signed,
    /// 0 to 255.
    Unsigned,
}

impl Eight {
    /// The smallest and the largest.
    pub(crate) fn ends(self) -> (f32, f32) {
        match self {
            Eight::Signed => (-128.0, 127.0),
            Eight::Unsigned => (0.0, 255.0),
        }
    }
}

/// 1.5 * 2²³: a small number plus this, less this, is that number rounded half to even.
const ROUNDER: f32 = 12_582_912.0;

/// `x / scale` as a whole number less the zero point, held within `low` and `high`. NaN becomes `low`, as in ONNX Runtime.
#[inline(always)]
fn whole(x: f32, low: f32, high: f32) -> f32 {
    let held = if x > low { x } else { low };
    let held = if held < high { held } else { high };
    held + ROUNDER - ROUNDER
}

/// A linear scale, for a whole tensor or for each place of one axis: QuantizeLinear and DequantizeLinear.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    lanes: Lanes,
    kind: Eight,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// Neighbours in memory that share a scale.
    run: usize,
}

impl Scale {
    /// One scale and zero point (nothing: 0) for every number. `run` is how many neighbours share one where there are several:
    /// the product of the dimensions behind the axis.
    pub(crate) fn new(kind: Eight, scales: &[f32], zeros: Option<&[f32]>, run: usize) -> Result<Self, Refused> {
        let zeros = zeros.map_or_else(|| vec![0.0; scales.len()], <[f32]>::to_vec);
        if scales.is_empty() || zeros.len() != scales.len() || run == 0 {
            return Err(Refused(format!(
                "a quantisation with {} scales and {} zero points for runs of {run}",
                scales.len(),
                zeros.len()
            )));
        }
        Ok(Scale { lanes: Lanes::detected(), kind, scales: scales.to_vec(), zeros, run })
    }

    /// Numbers to whole numbers.
    pub(crate) fn quantize(&self, input: &[f32], out: &mut [f32]) {
        self.lanes.run(Each { scale: self, input, out, way: Way::Quantize });
    }

    /// Whole numbers to numbers. Those of 32 bits (biases) have passed through f32, as a cast would take them.
    pub(crate) fn dequantize(&self, input: &[f32], out: &mut [f32]) {
        self.lanes.run(Each { scale: self, input, out, way: Way::Dequantize });
    }
}

#[derive(Clone, Copy)]
enum Way {
    Quantize,
    Dequantize,
}

struct Each<'a> {
    scale: &'a Scale,
    input: &'a [f32],
    out: &'a mut [f32],
    way: Way,
}

impl Body for Each<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Scale { kind, scales, zeros, run, .. } = self.scale;
        let (low, high) = kind.ends();
        let way = self.way;
        let turn = move |x: f32, scale: f32, zero: f32| match way {
            Way::Quantize => whole(x / scale, low - zero, high - zero) + zero,
            Way::Dequantize => (x - zero) * scale,
        };
        if let ([scale], [zero]) = (&scales[..], &zeros[..]) {
            self.out.iter_mut().zip(self.input).for_each(|(out, x)| *out = turn(*x, *scale, *zero));
        } else if *run == 1 {
            for (out, input) in self.out.chunks_mut(scales.len()).zip(self.input.chunks(scales.len())) {
                for ((out, x), (scale, zero)) in out.iter_mut().zip(input).zip(scales.iter().zip(zeros)) {
                    *out = turn(*x, *scale, *zero);
                }
            }
        } else {
            let runs = self.out.chunks_mut(*run).zip(self.input.chunks(*run));
            for ((out, input), (scale, zero)) in runs.zip(scales.iter().zip(zeros).cycle()) {
                out.iter_mut().zip(input).for_each(|(out, x)| *out = turn(*x, *scale, *zero));
            }
        }
    }
}

/// Numbers to unsigned whole numbers by a scale of their own: DynamicQuantizeLinear. Returns the scale and the zero point.
///
/// The scale comes from all of `input`: rows run together share one, so a plan that promises a row the same bits in any company
/// runs this row by row.
pub(crate) fn quantize_by_range(lanes: Lanes, input: &[f32], out: &mut [f32]) -> (f32, f32) {
    let low = input.iter().fold(0.0_f32, |low, x| if *x < low { *x } else { low });
    let high = input.iter().fold(0.0_f32, |high, x| if *x > high { *x } else { high });
    let (_, most) = Eight::Unsigned.ends();
    let scale = if high == low { 1.0 } else { (high - low) / most };
    let zero = whole(-low / scale, 0.0, most);
    lanes.run(Dynamic { input, out, scale, zero });
    (scale, zero)
}

struct Dynamic<'a> {
    input: &'a [f32],
    out: &'a mut [f32],
    scale: f32,
    zero: f32,
}

impl Body for Dynamic<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (low, high) = Eight::Unsigned.ends();
        let (scale, zero) = (self.scale, self.zero);
        for (out, x) in self.out.iter_mut().zip(self.input) {
            *out = whole(*x / scale, low - zero, high - zero) + zero;
        }
    }
}

#[cfg(test)]
mod tests;
