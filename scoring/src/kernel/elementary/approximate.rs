//! The formulas themselves, one number at a time. Loops over them become vector code: no branch, no table, no call.
//!
//! Each is a reduction to a small interval, a polynomial there (constants fitted by `tests/training/polynomials.py`), and a
//! reconstruction with bit arithmetic on the exponent. Clamps are written as comparisons whose other side is the number itself,
//! so that NaN passes through.

use super::super::lanes::Isa;

/// exp(r) = 1 + r + r² p(r) for |r| <= ln(2) / 2.
const EXP: [f32; 5] = [0.5, 1.666657627e-1, 4.166685417e-2, 8.363214321e-3, 1.390131540e-3];
/// log(1 + f) = f - f²/2 + f³ p(f) for sqrt(1/2) <= 1 + f <= sqrt(2).
const LOG: [f32; 9] = [
    3.333333135e-1,
    -2.499999404e-1,
    2.000071406e-1,
    -1.666805744e-1,
    1.424932331e-1,
    -1.242014095e-1,
    1.167700067e-1,
    -1.151461080e-1,
    7.037678361e-2,
];
/// erf(x) = x + x p(x²) for |x| <= 1.
const ERF_NEAR: [f32; 7] =
    [1.283791661e-1, -3.761262596e-1, 1.128358543e-1, -2.685381286e-2, 5.188327748e-3, -8.010193706e-4, 7.853861462e-5];
/// erf(x) = 1 - exp(-x p(x)) for 0.9 <= x <= 4.
const ERF_FAR: [f32; 9] = [
    1.128666878,
    6.351191998e-1,
    1.061776876e-1,
    -2.354752272e-2,
    3.394852625e-3,
    -1.782689651e-4,
    -3.398840636e-5,
    7.040792752e-6,
    -4.070338377e-7,
];

/// 1.5 * 2²³: adding it to a small number leaves that number, rounded to an integer, in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln(2) in two parts; the first has so few bits that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_145_75;
const LN_2_LOW: f32 = 1.428_606_8e-6;
/// Where a float's exponent begins, and what stands in it for 2⁰.
const EXPONENT_SHIFT: u32 = 23;
const EXPONENT_BIAS: i32 = 127;

#[inline(always)]
fn horner<I: Isa, const N: usize>(isa: I, x: f32, coefficients: &[f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for c in coefficients[..N - 1].iter().rev() {
        sum = isa.mul_add(sum, x, *c);
    }
    sum
}

/// The larger; NaN when `x` is NaN.
#[inline(always)]
pub(crate) fn at_least(x: f32, low: f32) -> f32 {
    if x < low { low } else { x }
}

/// The smaller; NaN when `x` is NaN.
#[inline(always)]
pub(crate) fn at_most(x: f32, high: f32) -> f32 {
    if x > high { high } else { x }
}

/// 2ⁿ for -127 < n < 128.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(EXPONENT_BIAS) as u32) << EXPONENT_SHIFT)
}

/// `x = n ln(2) + r` with a whole `n` and `|r| <= ln(2) / 2`.
#[inline(always)]
fn reduce<I: Isa>(isa: I, x: f32) -> (i32, f32) {
    let shifted = isa.mul_add(x, std::f32::consts::LOG2_E, ROUNDER);
    let whole = shifted - ROUNDER;
    let rest = isa.mul_add(whole, -LN_2_LOW, isa.mul_add(whole, -LN_2_HIGH, x));
    ((shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32), rest)
}

/// exp(r) - 1 for the `r` of [`reduce`].
#[inline(always)]
fn exp_less_one_near<I: Isa>(isa: I, r: f32) -> f32 {
    isa.mul_add(r * r, horner(isa, r, &EXP), r)
}

/// Within 2 units in the last place; subnormal results too, infinity from 88.73 on, 0 below -103.98.
#[inline(always)]
pub(crate) fn exp<I: Isa>(isa: I, x: f32) -> f32 {
    let (n, r) = reduce(isa, at_least(at_most(x, 89.0), -104.5));
    // In two factors, because 2ⁿ alone leaves the range of normal numbers at both ends.
    let half = n >> 1;
    (1.0 + exp_less_one_near(isa, r)) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// exp(x) - 1 without loss near zero, within 3 units in the last place.
#[inline(always)]
pub(crate) fn exp_less_one<I: Isa>(isa: I, x: f32) -> f32 {
    let (n, r) = reduce(isa, at_least(at_most(x, 89.0), -30.0));
    // 2ⁿ as twice 2ⁿ⁻¹: n is 128 just below the largest result.
    let scale = power_of_two(n.wrapping_sub(1));
    2.0 * isa.mul_add(exp_less_one_near(isa, r), scale, scale - 0.5)
}

/// Within 2 units in the last place; negative numbers give NaN, zeros negative infinity, subnormal numbers their logarithm.
#[inline(always)]
pub(crate) fn log<I: Isa>(isa: I, x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let normal = if subnormal { x * 33_554_432.0 } else { x };
    let shift = if subnormal { -25.0 } else { 0.0 };
    // Counted from sqrt(1/2), so that the fraction lies between it and sqrt(2).
    let above = normal.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits()) as i32;
    let exponent = (above >> EXPONENT_SHIFT) as f32 + shift;
    let fraction =
        f32::from_bits((above & 0x007f_ffff).wrapping_add(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) as u32);
    let f = fraction - 1.0;
    let square = f * f;
    let cubic = isa.mul_add(exponent, LN_2_LOW, square * f * horner(isa, f, &LOG));
    let sum = isa.mul_add(exponent, LN_2_HIGH, isa.mul_add(square, -0.5, cubic) + f);
    let infinite = if x == f32::INFINITY { x } else { sum };
    let zero = if x == 0.0 { f32::NEG_INFINITY } else { infinite };
    if x >= 0.0 { zero } else { f32::NAN }
}

/// log(1 + u) for 0 <= u <= 1, without loss near zero.
#[inline(always)]
fn log_one_more<I: Isa>(isa: I, u: f32) -> f32 {
    let sum = 1.0 + u;
    let kept = sum - 1.0;
    // What rounding took from u is put back in proportion (W. Kahan's way, as told by D. Goldberg, 1991, theorem 4).
    if kept == 0.0 { u } else { log(isa, sum) * (u / kept) }
}

/// 1 / (1 + exp(-x)), within 3 units in the last place.
#[inline(always)]
pub(crate) fn sigmoid<I: Isa>(isa: I, x: f32) -> f32 {
    // For a negative x as exp(x) / (1 + exp(x)): nothing overflows on the way to small results.
    let small = exp(isa, -x.abs());
    (if x < 0.0 { small } else { 1.0 }) / (1.0 + small)
}

/// Within 3 units in the last place.
#[inline(always)]
pub(crate) fn tanh<I: Isa>(isa: I, x: f32) -> f32 {
    // From 9.02 on the result rounds to 1.
    let twice = 2.0 * at_most(x.abs(), 10.0);
    let (n, r) = reduce(isa, twice);
    let scale = power_of_two(n);
    let grown = isa.mul_add(exp_less_one_near(isa, r), scale, scale - 1.0);
    (grown / (grown + 2.0)).copysign(x)
}

/// Within 4 units in the last place.
#[inline(always)]
pub(crate) fn erf<I: Isa>(isa: I, x: f32) -> f32 {
    // From 3.93 on the result rounds to 1.
    let size = at_most(x.abs(), 4.0);
    let near = isa.mul_add(size, horner(isa, size * size, &ERF_NEAR), size);
    let far = 1.0 - exp(isa, -size * horner(isa, size, &ERF_FAR));
    (if size < 0.95 { near } else { far }).copysign(x)
}

/// x Φ(x), by the error function. Within 1e-6 of 1 + |x|: far below zero the sum 1 + erf cancels, as it does elsewhere.
#[inline(always)]
pub(crate) fn gelu<I: Isa>(isa: I, x: f32) -> f32 {
    0.5 * x * (1.0 + erf(isa, x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The older approximation of [`gelu`] by the hyperbolic tangent (D. Hendrycks and K. Gimpel, 2016).
#[inline(always)]
pub(crate) fn gelu_tanh<I: Isa>(isa: I, x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_56;
    let inner = SQRT_2_OVER_PI * isa.mul_add(0.044_715 * x * x, x, x);
    0.5 * x * (1.0 + tanh(isa, inner))
}

/// log(1 + exp(x)), within 4 units in the last place.
#[inline(always)]
pub(crate) fn softplus<I: Isa>(isa: I, x: f32) -> f32 {
    at_least(x, 0.0) + log_one_more(isa, exp(isa, -x.abs()))
}
