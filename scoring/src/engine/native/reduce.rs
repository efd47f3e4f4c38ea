//! Many numbers to one along an axis: sums and their like, the largest, softmax, layer normalisation, the first k.
//!
//! Each works on a row as `outer` x `length` x `inner` numbers and goes along the middle. The order of every sum is fixed by the
//! length alone.

use crate::engine::graph::Values;
use crate::kernel::lanes::Lanes;
use crate::kernel::softmax::Softmax;

use super::plan::{Inputs, STEP_OUTPUTS};
use super::values::{View, f32s, i64s};

/// A row's numbers, seen along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Along {
    pub(super) outer: usize,
    pub(super) length: usize,
    pub(super) inner: usize,
}

/// What many numbers become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Sum,
    Mean,
    Max,
    Min,
    Product,
    SumOfSquares,
    SumOfAbsolutes,
    Root,
    LogOfSum,
    LogOfSumOfExps,
}

/// Sums that run beside each other, so that they become vectors.
const LANES: usize = 8;

/// Sum of `f(x)` over a slice.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for x in whole {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    let [a, b, c, d, e, g, h, i] = lanes;
    ((a + e) + (c + h)) + ((b + g) + (d + i))
}

/// The largest; NaN if one is.
fn largest(x: impl Iterator<Item = f32>) -> f32 {
    x.fold(f32::NEG_INFINITY, |m, x| if x > m || x.is_nan() { x } else { m })
}

fn smallest(x: impl Iterator<Item = f32>) -> f32 {
    x.fold(f32::INFINITY, |m, x| if x < m || x.is_nan() { x } else { m })
}

/// The logarithm of a sum of exponentials, shifted by the largest so that none overflows.
fn log_sum_exp(x: impl Iterator<Item = f32> + Clone) -> f32 {
    let shift = largest(x.clone());
    if !shift.is_finite() {
        return shift;
    }
    shift + x.map(|x| (x - shift).exp()).sum::<f32>().ln()
}

/// Many numbers to one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reduce {
    pub(super) fold: Fold,
    pub(super) along: Along,
}

impl Reduce {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let n = inputs.rows * self.along.outer * self.along.inner;
        match (inputs.get(0), out) {
            (View::F32(x), Values::F32(out)) => {
                let out = &mut out[..n];
                if self.along.inner == 1 {
                    x.chunks(self.along.length).zip(out).for_each(|(x, out)| *out = self.slice(x));
                } else {
                    self.strided(x, out);
                }
            }
            (View::F64(x), Values::F64(out)) => {
                self.wide(x.iter().copied(), |i, y| out[i] = y);
            }
            (View::I64(x), Values::I64(out)) => self.integers(x, out),
            (_, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
        }
    }

    fn slice(&self, x: &[f32]) -> f32 {
        match self.fold {
            Fold::Sum => sum(x, |x| x),
            Fold::Mean => sum(x, |x| x) / x.len() as f32,
            Fold::SumOfSquares => sum(x, |x| x * x),
            Fold::SumOfAbsolutes => sum(x, f32::abs),
            Fold::Root => sum(x, |x| x * x).sqrt(),
            Fold::LogOfSum => sum(x, |x| x).ln(),
            Fold::Max => largest(x.iter().copied()),
            Fold::Min => smallest(x.iter().copied()),
            Fold::Product => x.iter().product(),
            Fold::LogOfSumOfExps => log_sum_exp(x.iter().copied()),
        }
    }

    fn strided(&self, x: &[f32], out: &mut [f32]) {
        let Along { length, inner, .. } = self.along;
        for (x, out) in x.chunks(length * inner).zip(out.chunks_mut(inner)) {
            for (i, out) in out.iter_mut().enumerate() {
                let column = x.iter().skip(i).step_by(inner).copied();
                *out = match self.fold {
                    Fold::Sum => column.sum(),
                    Fold::Mean => column.sum::<f32>() / length as f32,
                    Fold::SumOfSquares => column.map(|x| x * x).sum(),
                    Fold::SumOfAbsolutes => column.map(f32::abs).sum(),
                    Fold::Root => column.map(|x| x * x).sum::<f32>().sqrt(),
                    Fold::LogOfSum => column.sum::<f32>().ln(),
                    Fold::Max => largest(column),
                    Fold::Min => smallest(column),
                    Fold::Product => column.product(),
                    Fold::LogOfSumOfExps => log_sum_exp(column),
                };
            }
        }
    }

    /// Whatever the form, by way of `f64`.
    fn wide(&self, x: impl Iterator<Item = f64> + Clone, mut put: impl FnMut(usize, f64)) {
        let Along { length, inner, .. } = self.along;
        let all = x.clone().count();
        for i in 0..all / length {
            let first = i / inner * length * inner + i % inner;
            let column = x.clone().skip(first).step_by(inner).take(length);
            put(
                i,
                match self.fold {
                    Fold::Sum => column.sum(),
                    Fold::Mean => column.sum::<f64>() / length as f64,
                    Fold::SumOfSquares => column.map(|x| x * x).sum(),
                    Fold::SumOfAbsolutes => column.map(f64::abs).sum(),
                    Fold::Root => column.map(|x| x * x).sum::<f64>().sqrt(),
                    Fold::LogOfSum => column.sum::<f64>().ln(),
                    Fold::Max => column.fold(f64::NEG_INFINITY, f64::max),
                    Fold::Min => column.fold(f64::INFINITY, f64::min),
                    Fold::Product => column.product(),
                    Fold::LogOfSumOfExps => {
                        let shift = column.clone().fold(f64::NEG_INFINITY, f64::max);
                        if shift.is_finite() {
                            shift + column.map(|x| (x - shift).exp()).sum::<f64>().ln()
                        } else {
                            shift
                        }
                    }
                },
            );
        }
    }

    fn integers(&self, x: &[i64], out: &mut [i64]) {
        let Along { length, inner, .. } = self.along;
        for (i, out) in out.iter_mut().enumerate().take(x.len() / length) {
            let first = i / inner * length * inner + i % inner;
            let mut column = x.iter().skip(first).step_by(inner).take(length).copied();
            *out = match self.fold {
                Fold::Sum => column.fold(0, i64::wrapping_add),
                Fold::Mean => column.fold(0, i64::wrapping_add) / length as i64,
                Fold::SumOfSquares => column.fold(0, |sum, x| sum.wrapping_add(x.wrapping_mul(x))),
                Fold::SumOfAbsolutes => column.fold(0, |sum, x| sum.wrapping_add(x.wrapping_abs())),
                Fold::Max => column.fold(i64::MIN, i64::max),
                Fold::Min => column.fold(i64::MAX, i64::min),
                Fold::Product => column.fold(1, i64::wrapping_mul),
                // Refused when the step is made: they give no whole numbers.
                Fold::Root | Fold::LogOfSum | Fold::LogOfSumOfExps => column.next().unwrap_or(0),
            };
        }
    }
}

/// Where the largest or smallest is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arg {
    pub(super) along: Along,
    pub(super) largest: bool,
    /// Of several the last one.
    pub(super) last: bool,
}

impl Arg {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let n = inputs.rows * self.along.outer * self.along.inner;
        let out = i64s(out, n);
        match inputs.get(0) {
            View::F32(x) => self.find(x, out),
            View::F64(x) => self.find(x, out),
            View::I64(x) => self.find(x, out),
            View::U8(x) => self.find(x, out),
            View::I8(x) => self.find(x, out),
        }
    }

    fn find<T: Copy + PartialOrd>(&self, x: &[T], out: &mut [i64]) {
        let Along { length, inner, .. } = self.along;
        for (i, out) in out.iter_mut().enumerate() {
            let first = i / inner * length * inner + i % inner;
            let mut best = 0;
            let at = |place: usize| x.get(first + place * inner).copied();
            for place in 1..length {
                let (Some(kept), Some(new)) = (at(best), at(place)) else { break };
                let better = if self.largest { new > kept } else { new < kept };
                if better || (self.last && new == kept) {
                    best = place;
                }
            }
            *out = best as i64;
        }
    }
}

/// Softmax or its logarithm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Soften {
    pub(super) along: Along,
    pub(super) form: Softmax,
    pub(super) lanes: Lanes,
}

impl Soften {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let x = inputs.get(0).f32();
        let out = f32s(out, x.len());
        let Along { length, inner, .. } = self.along;
        if inner == 1 {
            out.copy_from_slice(x);
            self.form.run(self.lanes, length, out);
            return;
        }
        for (x, out) in x.chunks(length * inner).zip(out.chunks_mut(length * inner)) {
            for i in 0..inner {
                let column = x.iter().skip(i).step_by(inner).copied();
                let total = log_sum_exp(column.clone());
                let results = out.iter_mut().skip(i).step_by(inner).zip(column);
                match self.form {
                    Softmax::LogShare => results.for_each(|(out, x)| *out = x - total),
                    Softmax::Share => results.for_each(|(out, x)| *out = (x - total).exp()),
                }
            }
        }
    }
}

/// Layer normalisation over `length` numbers, with scale and offset as constants behind.
#[derive(Clone, Debug)]
pub(super) struct Normalise {
    pub(super) length: usize,
    pub(super) epsilon: f32,
    pub(super) scale: Box<[f32]>,
    pub(super) offset: Box<[f32]>,
}

impl Normalise {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let x = inputs.get(0).f32();
        let out = f32s(out, x.len());
        for (x, out) in x.chunks(self.length).zip(out.chunks_mut(self.length)) {
            let mean = sum(x, |x| x) / self.length as f32;
            let variance = sum(x, |x| (x - mean) * (x - mean)) / self.length as f32;
            let factor = 1.0 / (variance + self.epsilon).sqrt();
            let constants = self.scale.iter().zip(&self.offset);
            for ((x, out), (scale, offset)) in x.iter().zip(out).zip(constants) {
                *out = (x - mean) * factor * scale + offset;
            }
        }
    }
}

/// The k largest or smallest and where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Top {
    pub(super) along: Along,
    pub(super) k: usize,
    pub(super) largest: bool,
}

impl Top {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut [Values; STEP_OUTPUTS]) {
        let [numbers, places, _] = out;
        match (inputs.get(0), numbers) {
            (View::F32(x), Values::F32(numbers)) => self.find(inputs.rows, x, numbers, places),
            (View::F64(x), Values::F64(numbers)) => self.find(inputs.rows, x, numbers, places),
            (View::I64(x), Values::I64(numbers)) => self.find(inputs.rows, x, numbers, places),
            (_, numbers) => debug_assert!(numbers.len() == 0, "forms are proven when a step is made"),
        }
    }

    /// By insertion into the sorted result: of equal ones the first comes first.
    fn find<T: Copy + PartialOrd>(&self, rows: usize, x: &[T], numbers: &mut [T], places: &mut Values) {
        let Along { outer, length, inner } = self.along;
        let k = self.k;
        let places = i64s(places, rows * outer * k * inner);
        for line in 0..rows * outer * inner {
            let (from, to) = (line / inner * length * inner + line % inner, line / inner * k * inner + line % inner);
            for place in 0..length {
                let Some(new) = x.get(from + place * inner).copied() else { return };
                let filled = place.min(k);
                let mut at = filled;
                while at > 0 {
                    let kept = numbers[to + (at - 1) * inner];
                    let better = if self.largest { new > kept } else { new < kept };
                    if !better {
                        break;
                    }
                    if at < k {
                        numbers[to + at * inner] = kept;
                        places[to + at * inner] = places[to + (at - 1) * inner];
                    }
                    at -= 1;
                }
                if at < k {
                    numbers[to + at * inner] = new;
                    places[to + at * inner] = place as i64;
                }
            }
        }
    }
}

/// Running sums along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) along: Along,
    /// Whether a number is in its own sum.
    pub(super) inclusive: bool,
    pub(super) backward: bool,
}

impl Running {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        match (inputs.get(0), out) {
            (View::F32(x), Values::F32(out)) => self.add(x, out, 0.0, |a, b| a + b),
            (View::F64(x), Values::F64(out)) => self.add(x, out, 0.0, |a, b| a + b),
            (View::I64(x), Values::I64(out)) => self.add(x, out, 0, i64::wrapping_add),
            (_, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
        }
    }

    fn add<T: Copy>(&self, x: &[T], out: &mut [T], nothing: T, plus: impl Fn(T, T) -> T) {
        let Along { length, inner, .. } = self.along;
        for (x, out) in x.chunks_exact(length * inner).zip(out.chunks_exact_mut(length * inner)) {
            for column in 0..inner {
                let mut sum = nothing;
                for step in 0..length {
                    let at = column + inner * if self.backward { length - 1 - step } else { step };
                    let after = plus(sum, x[at]);
                    out[at] = if self.inclusive { after } else { sum };
                    sum = after;
                }
            }
        }
    }
}
