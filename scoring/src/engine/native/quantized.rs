//! Numbers of 8 bits: into them, out of them, and products of them.
//!
//! A product of whole numbers is computed by the kernel for `f32`, exactly: no sum in it reaches 2^24 (whoever makes the step has
//! seen to that), and below all whole numbers are `f32` numbers. So there is one product kernel, and rounding happens only where ONNX has it.

use crate::engine::graph::{Kind, Values};
use crate::kernel::lanes::{Body, Isa, Lanes};

use super::plan::{Inputs, STEP_OUTPUTS};
use super::values::{View, f32s, u8s};

/// The smallest and largest number of a kind, as far as it is one that is quantised to.
pub(super) fn bounds(kind: Kind) -> Option<(f32, f32)> {
    match kind {
        Kind::U8 => Some((0.0, 255.0)),
        Kind::I8 => Some((-128.0, 127.0)),
        Kind::F32 | Kind::F64 | Kind::F16 | Kind::Bf16 | Kind::I64 | Kind::I32 | Kind::I16 | Kind::U16 | Kind::Bool => {
            None
        }
        Kind::Text => None,
    }
}

/// Added and taken away, it leaves an `f32` below 2^22 rounded to a whole number, ties to even.
const ROUNDING: f32 = 12_582_912.0;

/// `f32` to 8 bits: divided or multiplied, rounded, moved by the zero point, held within the bounds.
#[derive(Debug)]
pub(super) struct Quantize {
    pub(super) kind: Kind,
    /// One for all numbers of a row, or one for each.
    pub(super) scale: Box<[f32]>,
    pub(super) zero: Box<[f32]>,
    /// Whether numbers are divided by their scale, as `QuantizeLinear` has it, or multiplied.
    pub(super) by: Scaling,
    pub(super) lanes: Lanes,
}

/// What is done with a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaling {
    Divide,
    Multiply,
}

/// One pass over numbers.
struct Round<'a, T> {
    step: &'a Quantize,
    bounds: (f32, f32),
    x: &'a [f32],
    out: &'a mut [T],
    narrow: fn(f32) -> T,
}

impl<T> Body for Round<'_, T> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Quantize { scale, zero, by, .. } = self.step;
        let (low, high) = self.bounds;
        let one = |x: f32, scale: f32, zero: f32| {
            let scaled = if *by == Scaling::Divide { x / scale } else { x * scale };
            let held = scaled.max(low - zero).min(high - zero);
            (held + ROUNDING) - ROUNDING + zero
        };
        if let ([scale], [zero]) = (&**scale, &**zero) {
            self.x.iter().zip(self.out).for_each(|(x, out)| *out = (self.narrow)(one(*x, *scale, *zero)));
            return;
        }
        let n = scale.len();
        for (x, out) in self.x.chunks(n).zip(self.out.chunks_mut(n)) {
            for ((x, out), (scale, zero)) in x.iter().zip(out).zip(scale.iter().zip(zero)) {
                *out = (self.narrow)(one(*x, *scale, *zero));
            }
        }
    }
}

impl Quantize {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let x = inputs.get(0).f32();
        let Some(bounds) = bounds(self.kind) else { return };
        match out {
            Values::U8(out) => self.lanes.run(Round { step: self, bounds, x, out, narrow: |x| x as u8 }),
            Values::I8(out) => self.lanes.run(Round { step: self, bounds, x, out, narrow: |x| x as i8 }),
            Values::F32(_) | Values::F64(_) | Values::I64(_) | Values::Text(_) => {}
        }
    }
}

/// Whole numbers to `f32`: less their zero point, by their scale.
#[derive(Debug)]
pub(super) struct Dequantize {
    pub(super) scale: Box<[f32]>,
    pub(super) zero: Box<[f32]>,
}

impl Dequantize {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        match inputs.get(0) {
            View::U8(x) => self.widen(x, out, |x| f32::from(*x)),
            View::I8(x) => self.widen(x, out, |x| f32::from(*x)),
            View::I64(x) => self.widen(x, out, |x| *x as f32),
            View::F32(x) => self.widen(x, out, |x| *x),
            View::F64(_) => {}
        }
    }

    fn widen<T>(&self, x: &[T], out: &mut Values, wide: impl Fn(&T) -> f32) {
        let out = f32s(out, x.len());
        if let ([scale], [zero]) = (&*self.scale, &*self.zero) {
            x.iter().zip(out).for_each(|(x, out)| *out = (wide(x) - zero) * scale);
            return;
        }
        let n = self.scale.len();
        for (x, out) in x.chunks(n).zip(out.chunks_mut(n)) {
            for ((x, out), (scale, zero)) in x.iter().zip(out).zip(self.scale.iter().zip(&self.zero)) {
                *out = (wide(x) - zero) * scale;
            }
        }
    }
}

/// Numbers of 8 bits less a zero point that the data gives: input 0 less input 1, as `f32`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Centre {
    /// Numbers of a row.
    pub(super) numbers: usize,
    /// Whether the numbers are the same for all rows, and whether their zero point is.
    pub(super) constant: bool,
    pub(super) constant_zero: bool,
}

impl Centre {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let n = self.numbers;
        let zero_at = |row: usize| {
            let i = if self.constant_zero { 0 } else { row };
            match inputs.get(1) {
                View::U8(zero) => zero.get(i).map_or(0.0, |z| f32::from(*z)),
                View::I8(zero) => zero.get(i).map_or(0.0, |z| f32::from(*z)),
                View::F32(_) | View::F64(_) | View::I64(_) => 0.0,
            }
        };
        let out = f32s(out, inputs.rows * n);
        for (row, out) in out.chunks_mut(n).enumerate() {
            let (zero, from) = (zero_at(row), if self.constant { 0 } else { row * n });
            match inputs.get(0) {
                View::U8(x) => x.iter().skip(from).zip(out).for_each(|(x, out)| *out = f32::from(*x) - zero),
                View::I8(x) => x.iter().skip(from).zip(out).for_each(|(x, out)| *out = f32::from(*x) - zero),
                View::F32(_) | View::F64(_) | View::I64(_) => {}
            }
        }
    }
}

/// `DynamicQuantizeLinear`: a scale and a zero point for each row, from its own smallest and largest number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub(super) numbers: usize,
    pub(super) lanes: Lanes,
}

/// A row with what it was measured to need.
struct Fit<'a> {
    x: &'a [f32],
    out: &'a mut [u8],
    scale: &'a mut f32,
    zero: &'a mut u8,
}

impl Body for Fit<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let low = self.x.iter().fold(0.0_f32, |m, x| m.min(*x));
        let high = self.x.iter().fold(0.0_f32, |m, x| m.max(*x));
        let scale = if high == low { 1.0 } else { (high - low) / 255.0 };
        let zero = (((0.0 - low / scale).clamp(0.0, 255.0)) + ROUNDING) - ROUNDING;
        for (x, out) in self.x.iter().zip(self.out) {
            let held = (x / scale).max(-zero).min(255.0 - zero);
            *out = ((held + ROUNDING) - ROUNDING + zero) as u8;
        }
        *self.scale = scale;
        *self.zero = zero as u8;
    }
}

impl Measure {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut [Values; STEP_OUTPUTS]) {
        let (x, n) = (inputs.get(0).f32(), self.numbers);
        let [out, scale, zero] = out;
        let (scale, zero) = (f32s(scale, inputs.rows), u8s(zero, inputs.rows));
        let rows = x.chunks(n).zip(u8s(out, x.len()).chunks_mut(n));
        for ((x, out), (scale, zero)) in rows.zip(scale.iter_mut().zip(zero)) {
            self.lanes.run(Fit { x, out, scale, zero });
        }
    }
}
