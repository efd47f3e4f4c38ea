//! Functions of one number over slices: the activations and the rest of the one-sided arithmetic.
//!
//! The formulas are ours, vectorised, the same for every instruction set ([`approximate`]), each within a few units in the last
//! place of the true value (its tests hold them against f64). NaN stays NaN, infinities and subnormal numbers are as in IEEE 754.

use super::lanes::{Block, Body, Isa, Lanes, WIDTH};

pub(crate) mod approximate;

/// A function of one number, with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    /// The absolute value.
    Abs,
    /// -x.
    Negate,
    /// 1 / x.
    Reciprocal,
    /// The square root; NaN below zero.
    Sqrt,
    /// The exponential function.
    Exp,
    /// The natural logarithm.
    Log,
    /// The error function.
    Erf,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// log(1 + exp(x)).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// x by the normal distribution's mass below x.
    Gelu,
    /// [`Function::Gelu`] approximated by the hyperbolic tangent.
    GeluTanh,
    /// The larger of x and 0.
    Relu,
    /// x, times `slope` below zero.
    LeakyRelu {
        /// ONNX: alpha.
        slope: f32,
    },
    /// x, and `scale * (exp(x) - 1)` below zero.
    Elu {
        /// ONNX: alpha.
        scale: f32,
    },
    /// `gain * x`, and `gain * scale * (exp(x) - 1)` below zero.
    Selu {
        /// ONNX: alpha.
        scale: f32,
        /// ONNX: gamma.
        gain: f32,
    },
    /// x above the threshold, else 0.
    ThresholdedRelu {
        /// ONNX: alpha.
        threshold: f32,
    },
    /// `slope * x + offset`, held between 0 and 1.
    HardSigmoid {
        /// ONNX: alpha.
        slope: f32,
        /// ONNX: beta.
        offset: f32,
    },
    /// x by HardSigmoid with slope 1/6 and offset 1/2.
    HardSwish,
    /// Held between two numbers.
    Clip {
        /// The smallest result.
        low: f32,
        /// The largest result.
        high: f32,
    },
    /// To a fixed power.
    Power {
        /// The power.
        exponent: f32,
    },
}

impl Function {
    /// Applies the function to every number, in place.
    pub(crate) fn apply(self, lanes: Lanes, values: &mut [f32]) {
        lanes.run(Apply { function: self, values });
    }

    #[inline(always)]
    fn apply_inside<I: Isa>(self, isa: I, values: &mut [f32]) {
        use approximate as a;
        match self {
            Function::Abs => each(isa, values, |_, x: f32| x.abs()),
            Function::Negate => each(isa, values, |_, x: f32| -x),
            Function::Reciprocal => each(isa, values, |_, x: f32| 1.0 / x),
            Function::Sqrt => each(isa, values, |_, x: f32| x.sqrt()),
            Function::Exp => each(isa, values, a::exp),
            Function::Log => each(isa, values, a::log),
            Function::Erf => each(isa, values, a::erf),
            Function::Tanh => each(isa, values, a::tanh),
            Function::Sigmoid => each(isa, values, a::sigmoid),
            Function::Softplus => each(isa, values, a::softplus),
            Function::Softsign => each(isa, values, |_, x: f32| x / (1.0 + x.abs())),
            Function::Gelu => each(isa, values, a::gelu),
            Function::GeluTanh => each(isa, values, a::gelu_tanh),
            Function::Relu => each(isa, values, |_, x| a::at_least(x, 0.0)),
            Function::LeakyRelu { slope } => each(isa, values, |_, x| if x < 0.0 { slope * x } else { x }),
            Function::Elu { scale } => each(isa, values, |i, x| elu(i, x, scale)),
            Function::Selu { scale, gain } => each(isa, values, |i, x| gain * elu(i, x, scale)),
            Function::ThresholdedRelu { threshold } => {
                each(isa, values, |_, x| if x <= threshold { 0.0 } else { x });
            }
            Function::HardSigmoid { slope, offset } => each(isa, values, |i, x| hard(i, x, slope, offset)),
            Function::HardSwish => each(isa, values, |i, x| x * hard(i, x, 1.0 / 6.0, 0.5)),
            Function::Clip { low, high } => each(isa, values, |_, x| a::at_most(a::at_least(x, low), high)),
            Function::Power { exponent } => power(isa, values, exponent),
        }
    }
}

/// `bases[i]` to the power `exponents[i]`, in place of the bases. By the platform's library: exact to its last place, not fast.
pub(crate) fn powers(bases: &mut [f32], exponents: &[f32]) {
    for (base, exponent) in bases.iter_mut().zip(exponents) {
        *base = base.powf(*exponent);
    }
}

struct Apply<'a> {
    function: Function,
    values: &'a mut [f32],
}

impl Body for Apply<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        self.function.apply_inside(isa, self.values);
    }
}

/// A function over a slice, block by block; the last block is filled up with zeros.
#[inline(always)]
fn each<I: Isa>(isa: I, values: &mut [f32], function: impl Fn(I, f32) -> f32 + Copy) {
    let (blocks, rest) = values.as_chunks_mut::<WIDTH>();
    for block in blocks {
        *block = over(isa, block, function);
    }
    if !rest.is_empty() {
        let mut block: Block = [0.0; WIDTH];
        block[..rest.len()].copy_from_slice(rest);
        rest.copy_from_slice(&over(isa, &block, function)[..rest.len()]);
    }
}

#[inline(always)]
fn over<I: Isa>(isa: I, block: &Block, function: impl Fn(I, f32) -> f32 + Copy) -> Block {
    let mut out = [0.0; WIDTH];
    for (out, x) in out.iter_mut().zip(block) {
        *out = function(isa, *x);
    }
    out
}

#[inline(always)]
fn elu<I: Isa>(isa: I, x: f32, scale: f32) -> f32 {
    let below = scale * approximate::exp_less_one(isa, approximate::at_most(x, 0.0));
    if x < 0.0 { below } else { x }
}

#[inline(always)]
fn hard<I: Isa>(isa: I, x: f32, slope: f32, offset: f32) -> f32 {
    approximate::at_least(approximate::at_most(isa.mul_add(x, slope, offset), 1.0), 0.0)
}

/// The powers that graphs really hold are single instructions.
#[inline(always)]
fn power<I: Isa>(isa: I, values: &mut [f32], exponent: f32) {
    if exponent == 2.0 {
        each(isa, values, |_, x| x * x);
    } else if exponent == 3.0 {
        each(isa, values, |_, x| x * x * x);
    } else if exponent == -1.0 {
        each(isa, values, |_, x| 1.0 / x);
    } else if exponent == 0.5 {
        // Adding zero turns -0 to 0, and a negative infinity to the power 1/2 is infinity: C's rules for powers.
        each(isa, values, |_, x| if x == f32::NEG_INFINITY { f32::INFINITY } else { (x + 0.0).sqrt() });
    } else if exponent != 1.0 {
        for x in values {
            *x = x.powf(exponent);
        }
    }
}

#[cfg(test)]
mod tests;
