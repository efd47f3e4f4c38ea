//! Functions of one number, and numbers of one kind as numbers of another.

use crate::engine::graph::{Kind, Values};
use crate::kernel::elementary::Function;
use crate::kernel::lanes::Lanes;

use super::plan::Inputs;
use super::values::{Form, View, f32s, first_mut, i64s, u8s};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Math {
    Abs,
    Neg,
    Sqrt,
    Exp,
    Log,
    Reciprocal,
    Floor,
    Ceil,
    Round,
    Sign,
    Erf,
    Relu,
    /// With the slope below zero.
    Leaky(f32),
    /// With the factor below zero.
    Elu(f32),
    /// Factor below zero and factor of all.
    Selu(f32, f32),
    /// The factor inside of the exponential and before it.
    Celu(f32),
    /// Zero up to there.
    Threshold(f32),
    Mish,
    IsInfinite,
    /// Slope and offset.
    HardSigmoid(f32, f32),
    HardSwish,
    Sigmoid,
    Tanh,
    Softplus,
    Softsign,
    /// x times the sigmoid of so many x.
    Swish(f32),
    Gelu,
    /// Gelu by way of tanh.
    GeluTanh,
    /// Between two numbers.
    Clip(f64, f64),
    /// To a fixed power.
    Power(f32),
    Not,
    IsNan,
}

/// sqrt(1/2), for the normal distribution.
const HALF_ROOT: f64 = std::f64::consts::FRAC_1_SQRT_2;

impl Math {
    /// Whether whole numbers can be given to it.
    pub(super) fn of_integers(self) -> bool {
        matches!(self, Math::Abs | Math::Neg | Math::Sign | Math::Relu | Math::Clip(..))
    }

    /// The kernel that computes it for f32, where there is one.
    pub(super) fn function(self) -> Option<Function> {
        Some(match self {
            Math::Abs => Function::Abs,
            Math::Neg => Function::Negate,
            Math::Sqrt => Function::Sqrt,
            Math::Exp => Function::Exp,
            Math::Log => Function::Log,
            Math::Reciprocal => Function::Reciprocal,
            Math::Erf => Function::Erf,
            Math::Relu => Function::Relu,
            Math::Leaky(slope) => Function::LeakyRelu { slope },
            Math::Elu(scale) => Function::Elu { scale },
            Math::Selu(scale, gain) => Function::Selu { scale, gain },
            Math::Threshold(threshold) => Function::ThresholdedRelu { threshold },
            Math::HardSigmoid(slope, offset) => Function::HardSigmoid { slope, offset },
            Math::HardSwish => Function::HardSwish,
            Math::Sigmoid => Function::Sigmoid,
            Math::Tanh => Function::Tanh,
            Math::Softplus => Function::Softplus,
            Math::Softsign => Function::Softsign,
            Math::Gelu => Function::Gelu,
            Math::GeluTanh => Function::GeluTanh,
            Math::Clip(low, high) => Function::Clip { low: low as f32, high: high as f32 },
            Math::Power(exponent) => Function::Power { exponent },
            Math::Floor
            | Math::Ceil
            | Math::Round
            | Math::Sign
            | Math::Swish(_)
            | Math::Celu(_)
            | Math::Mish
            | Math::Not
            | Math::IsInfinite
            | Math::IsNan => return None,
        })
    }

    fn f64(self, x: f64) -> f64 {
        match self {
            Math::Abs => x.abs(),
            Math::Neg => -x,
            Math::Sqrt => x.sqrt(),
            Math::Exp => x.exp(),
            Math::Log => x.ln(),
            Math::Reciprocal => 1.0 / x,
            Math::Floor => x.floor(),
            Math::Ceil => x.ceil(),
            Math::Round => x.round_ties_even(),
            Math::Sign => f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)),
            Math::Erf => erf(x),
            Math::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Math::Leaky(slope) => {
                if x < 0.0 {
                    x * f64::from(slope)
                } else {
                    x
                }
            }
            Math::Elu(factor) => {
                if x < 0.0 {
                    f64::from(factor) * x.exp_m1()
                } else {
                    x
                }
            }
            Math::Selu(alpha, gamma) => f64::from(gamma) * if x > 0.0 { x } else { f64::from(alpha) * x.exp_m1() },
            Math::Celu(alpha) => {
                let alpha = f64::from(alpha);
                x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0)
            }
            Math::Threshold(low) => {
                if x > f64::from(low) {
                    x
                } else {
                    0.0
                }
            }
            Math::Mish => x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh(),
            Math::IsInfinite => f64::from(u8::from(x.is_infinite())),
            Math::HardSigmoid(slope, offset) => (f64::from(slope) * x + f64::from(offset)).clamp(0.0, 1.0),
            Math::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Math::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Math::Tanh => x.tanh(),
            Math::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Math::Softsign => x / (1.0 + x.abs()),
            Math::Swish(factor) => x / (1.0 + (-f64::from(factor) * x).exp()),
            Math::Gelu => 0.5 * x * (1.0 + erf(x * HALF_ROOT)),
            Math::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Math::Clip(low, high) => {
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            }
            Math::Power(exponent) => x.powf(f64::from(exponent)),
            Math::Not => f64::from(u8::from(x == 0.0)),
            Math::IsNan => f64::from(u8::from(x.is_nan())),
        }
    }

    fn i64(self, x: i64) -> i64 {
        match self {
            Math::Abs => x.wrapping_abs(),
            Math::Neg => x.wrapping_neg(),
            Math::Sign => x.signum(),
            Math::Relu => x.max(0),
            Math::Clip(low, high) => x.max(low as i64).min(high as i64),
            // Asked of `of_integers` before a step is made.
            other => other.f64(x as f64) as i64,
        }
    }

    /// `out[i] = f(x[i])` over a slice.
    fn over(self, lanes: Lanes, x: &[f32], out: &mut [f32]) {
        match (self.function(), self) {
            (Some(function), _) => {
                out.copy_from_slice(x);
                function.apply(lanes, out);
            }
            (None, Math::Floor) => each(x, out, f32::floor),
            (None, Math::Ceil) => each(x, out, f32::ceil),
            (None, other) => each(x, out, |x| other.f64(f64::from(x)) as f32),
        }
    }
}

/// Abramowitz and Stegun, formula 7.1.26: 1.5e-7 at most beside the truth.
fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let series =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (1.0 - series * (-x * x).exp()).copysign(x)
}

fn each<T: Copy, U>(x: &[T], out: &mut [U], f: impl Fn(T) -> U) {
    for (x, out) in x.iter().zip(out) {
        *out = f(*x);
    }
}

/// [`Math`] as a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unary {
    math: Math,
    lanes: Lanes,
}

impl Unary {
    pub(super) fn new(math: Math) -> Unary {
        Unary { math, lanes: Lanes::detected() }
    }

    /// The function, as a product would apply it.
    pub(super) fn function(&self) -> Option<Function> {
        self.math.function()
    }

    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        let math = self.math;
        match (inputs.get(0), out) {
            (View::F32(x), Values::F32(out)) => math.over(self.lanes, x, first_mut(out, x.len())),
            (View::F64(x), Values::F64(out)) => each(x, out, |x| math.f64(x)),
            (View::I64(x), Values::I64(out)) => each(x, out, |x| math.i64(x)),
            (View::I8(x), Values::I8(out)) => each(x, out, |x| math.i64(i64::from(x)) as i8),
            (View::F32(x), Values::U8(out)) => each(x, out, |x| math.f64(f64::from(x)) as u8),
            (View::F64(x), Values::U8(out)) => each(x, out, |x| math.f64(x) as u8),
            (View::U8(x), Values::U8(out)) if math == Math::Not => each(x, out, |x| u8::from(x == 0)),
            (View::U8(x), Values::U8(out)) => each(x, out, |x| math.i64(i64::from(x)) as u8),
            (_, out) => debug_assert!(out.len() == 0, "forms are proven when a step is made"),
        }
    }
}

/// Numbers of one kind as numbers of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    pub(super) to: Kind,
}

impl Cast {
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut Values) {
        match inputs.get(0) {
            View::F32(x) => self.floats(x, out, f64::from),
            View::F64(x) => self.floats(x, out, |x| x),
            View::I64(x) => self.integers(x, out, |x| x),
            View::U8(x) => self.integers(x, out, i64::from),
            View::I8(x) => self.integers(x, out, i64::from),
        }
    }

    fn floats<T: Copy>(&self, x: &[T], out: &mut Values, wide: impl Fn(T) -> f64) {
        let n = x.len();
        match Form::of(self.to) {
            Some(Form::F32) => each(x, f32s(out, n), |x| wide(x) as f32),
            Some(Form::F64) => {
                if let Values::F64(out) = out {
                    each(x, out, wide);
                }
            }
            Some(Form::I64) => each(x, i64s(out, n), |x| self.narrow(wide(x) as i64)),
            Some(Form::U8) if self.to == Kind::Bool => each(x, u8s(out, n), |x| u8::from(wide(x) != 0.0)),
            Some(Form::U8) => each(x, u8s(out, n), |x| wide(x) as i64 as u8),
            Some(Form::I8) => {
                if let Values::I8(out) = out {
                    each(x, out, |x| wide(x) as i64 as i8);
                }
            }
            None => {}
        }
    }

    fn integers<T: Copy>(&self, x: &[T], out: &mut Values, wide: impl Fn(T) -> i64) {
        let n = x.len();
        match Form::of(self.to) {
            Some(Form::F32 | Form::F64) => self.floats(x, out, |x| wide(x) as f64),
            Some(Form::I64) => each(x, i64s(out, n), |x| self.narrow(wide(x))),
            Some(Form::U8) if self.to == Kind::Bool => each(x, u8s(out, n), |x| u8::from(wide(x) != 0)),
            Some(Form::U8) => each(x, u8s(out, n), |x| wide(x) as u8),
            Some(Form::I8) => {
                if let Values::I8(out) = out {
                    each(x, out, |x| wide(x) as i8);
                }
            }
            None => {}
        }
    }

    /// A whole number within the width of the kind.
    fn narrow(&self, x: i64) -> i64 {
        match self.to {
            Kind::I32 => i64::from(x as i32),
            Kind::I16 => i64::from(x as i16),
            Kind::U16 => i64::from(x as u16),
            _ => x,
        }
    }
}
