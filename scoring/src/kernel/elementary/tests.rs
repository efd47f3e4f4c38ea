//! Every formula against f64, over the whole range of f32.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

/// Numbers spread over all exponents and signs, and densely around where functions bend.
fn spread() -> Vec<f32> {
    let by_bits = (0..=u16::MAX).map(|high| f32::from_bits(u32::from(high) << 16 | 0x5a5a));
    let near = (-120_000..120_000).map(|i| i as f32 * 1e-3);
    by_bits.filter(|x| x.is_finite()).chain(near).collect()
}

/// The error function by its series, in f64 (A. & S. 7.1.6 near zero; the continued fraction 7.1.14 beyond).
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size < 3.0 {
        let (mut term, mut sum) = (size, size);
        for n in 1..120 {
            term *= 2.0 * size * size / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        return x.signum() * sum * 2.0 / std::f64::consts::PI.sqrt() * (-size * size).exp();
    }
    let tail = (1..60).rev().fold(size, |tail, n| size + f64::from(n) / 2.0 / tail);
    x.signum() * (1.0 - (-size * size).exp() / tail / std::f64::consts::PI.sqrt())
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Largest error in units of the last place of the right answer, and where.
fn worst(function: Function, lanes: Lanes, right: impl Fn(f64) -> f64) -> (f64, f32) {
    let points = spread();
    let mut got = points.clone();
    function.apply(lanes, &mut got);
    let mut worst = (0.0, 0.0);
    for (x, got) in points.into_iter().zip(got) {
        let want = right(f64::from(x));
        let rounded = want as f32;
        if rounded.is_nan() || rounded.is_infinite() {
            assert!(
                got.to_bits() == rounded.to_bits() || got.is_nan() && rounded.is_nan(),
                "{function:?}({x}) = {got}"
            );
            continue;
        }
        let place = f64::from(rounded.abs().max(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
        let error = (f64::from(got) - want).abs() / place;
        if !(error <= worst.0) {
            worst = (error, x);
        }
    }
    worst
}

#[test]
fn every_formula_is_within_its_stated_places_on_every_path() {
    let table: [(Function, f64, fn(f64) -> f64); 8] = [
        (Function::Exp, 2.0, f64::exp),
        (Function::Log, 2.0, f64::ln),
        (Function::Tanh, 3.0, f64::tanh),
        (Function::Sigmoid, 3.0, sigmoid),
        (Function::Erf, 4.0, erf),
        (Function::Softplus, 4.0, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        (Function::Elu { scale: 1.0 }, 3.0, |x| if x < 0.0 { x.exp_m1() } else { x }),
        (Function::Softsign, 2.0, |x| x / (1.0 + x.abs())),
    ];
    for (function, limit, right) in table {
        for lanes in [Lanes::detected(), Lanes::portable()] {
            let (error, at) = worst(function, lanes, right);
            println!("{function:?} {} {error:.2} at {at}", lanes.name());
            assert!(error <= limit, "{function:?} is {error} places off at {at} ({})", lanes.name());
        }
    }
}

#[test]
fn both_gelus_are_within_a_millionth() {
    let exact = |x: f64| 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt()));
    let by_tanh = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
    let points: Vec<f32> = spread().into_iter().filter(|x| x.abs() < 1e4).collect();
    for lanes in [Lanes::detected(), Lanes::portable()] {
        let (mut a, mut b) = (points.clone(), points.clone());
        Function::Gelu.apply(lanes, &mut a);
        Function::GeluTanh.apply(lanes, &mut b);
        for (at, x) in points.iter().map(|x| f64::from(*x)).enumerate() {
            assert!((f64::from(a[at]) - exact(x)).abs() <= 1e-6 * (1.0 + x.abs()), "gelu({x}) = {}", a[at]);
            assert!((f64::from(b[at]) - by_tanh(x)).abs() <= 1e-6 * (1.0 + x.abs()), "gelu({x}) = {} by tanh", b[at]);
        }
    }
}

fn on(function: Function, x: f32) -> f32 {
    let mut values = [x];
    function.apply(Lanes::detected(), &mut values);
    values[0]
}

#[test]
fn not_a_number_stays_and_infinities_have_their_limits() {
    const NONE: f32 = f32::INFINITY;
    let table = [
        (Function::Exp, 0.0, NONE),
        (Function::Log, f32::NAN, NONE),
        (Function::Tanh, -1.0, 1.0),
        (Function::Sigmoid, 0.0, 1.0),
        (Function::Erf, -1.0, 1.0),
        (Function::Softplus, 0.0, NONE),
        (Function::Relu, 0.0, NONE),
        (Function::LeakyRelu { slope: 0.5 }, -NONE, NONE),
        (Function::Elu { scale: 2.0 }, -2.0, NONE),
        (Function::HardSigmoid { slope: 0.2, offset: 0.5 }, 0.0, 1.0),
        (Function::Clip { low: -3.0, high: 4.0 }, -3.0, 4.0),
        (Function::Power { exponent: 0.5 }, NONE, NONE),
    ];
    for (function, below, above) in table {
        assert!(on(function, f32::NAN).is_nan(), "{function:?}");
        for (got, want) in [(on(function, -NONE), below), (on(function, NONE), above)] {
            assert!(got == want || got.is_nan() && want.is_nan(), "{function:?} gives {got} for {want}");
        }
    }
    assert_eq!(on(Function::Log, 0.0), -NONE);
    assert_eq!(on(Function::Log, -0.0), -NONE);
}

#[test]
fn a_number_has_the_same_bits_at_every_place_of_a_slice() {
    let points: Vec<f32> = (0..77).map(|i| i as f32 * 0.37 - 14.0).collect();
    for function in [Function::Exp, Function::Log, Function::Tanh, Function::Erf, Function::Softplus, Function::Gelu] {
        let mut together = points.clone();
        function.apply(Lanes::detected(), &mut together);
        for (x, there) in points.iter().zip(together) {
            assert_eq!(on(function, *x).to_bits(), there.to_bits(), "{function:?}({x})");
        }
    }
}

#[test]
fn the_simple_ones_are_what_they_say() {
    let table = [
        (Function::Abs, -2.5, 2.5),
        (Function::Negate, 1.5, -1.5),
        (Function::Reciprocal, 4.0, 0.25),
        (Function::Sqrt, 9.0, 3.0),
        (Function::LeakyRelu { slope: 0.25 }, -2.0, -0.5),
        (Function::ThresholdedRelu { threshold: 1.0 }, 1.0, 0.0),
        (Function::ThresholdedRelu { threshold: 1.0 }, 1.5, 1.5),
        (Function::Selu { scale: 2.0, gain: 3.0 }, 2.0, 6.0),
        (Function::HardSwish, 6.0, 6.0),
        (Function::HardSwish, -4.0, 0.0),
        (Function::Power { exponent: 2.0 }, -3.0, 9.0),
        (Function::Power { exponent: 3.0 }, -3.0, -27.0),
        (Function::Power { exponent: -1.0 }, 4.0, 0.25),
        (Function::Power { exponent: 1.0 }, 4.5, 4.5),
        (Function::Power { exponent: 1.5 }, 4.0, 8.0),
    ];
    for (function, x, want) in table {
        assert_eq!(on(function, x), want, "{function:?}({x})");
    }
    let mut bases = [2.0, 3.0];
    powers(&mut bases, &[-3.0, 2.0]);
    assert_eq!(bases, [0.125, 9.0]);
}
