//! Functions of one and two numbers, choices and casts.

use std::collections::VecDeque;

use crate::engine::graph::{Kind, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot, Source};
use crate::engine::native::elementwise::{Cast, Math, Unary};
use crate::engine::native::pair::{Binary, Pair, Question, Reach, Select, What};
use crate::engine::native::plan::Kernel;
use crate::engine::native::values::Form;

/// Largest constant that is written out in full so that it meets a tensor number by number.
const SPREAD_MAX: usize = 1 << 16;

pub(super) fn unary(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let math = match at.node.operator.as_str() {
        "Abs" => Math::Abs,
        "Neg" => Math::Neg,
        "Sqrt" => Math::Sqrt,
        "Exp" => Math::Exp,
        "Log" => Math::Log,
        "Reciprocal" => Math::Reciprocal,
        "Floor" => Math::Floor,
        "Ceil" => Math::Ceil,
        "Round" => Math::Round,
        "Sign" => Math::Sign,
        "Erf" => Math::Erf,
        "Relu" => Math::Relu,
        "LeakyRelu" => Math::Leaky(at.float_or("alpha", 0.01)?),
        "Elu" => Math::Elu(at.float_or("alpha", 1.0)?),
        "Selu" => Math::Selu(at.float_or("alpha", 1.673_263_2)?, at.float_or("gamma", 1.050_701)?),
        "Celu" => Math::Celu(at.float_or("alpha", 1.0)?),
        "ThresholdedRelu" => Math::Threshold(at.float_or("alpha", 1.0)?),
        "Mish" => Math::Mish,
        "IsInf" if at.int_or("detect_negative", 1)? == 1 && at.int_or("detect_positive", 1)? == 1 => Math::IsInfinite,
        "HardSigmoid" => Math::HardSigmoid(at.float_or("alpha", 0.2)?, at.float_or("beta", 0.5)?),
        "HardSwish" => Math::HardSwish,
        "Sigmoid" => Math::Sigmoid,
        "Tanh" => Math::Tanh,
        "Softplus" => Math::Softplus,
        "Softsign" => Math::Softsign,
        "Swish" => Math::Swish(at.float_or("alpha", 1.0)?),
        "Gelu" if at.text_or("approximate", "none")? == "tanh" => Math::GeluTanh,
        "Gelu" => Math::Gelu,
        "Not" => Math::Not,
        "IsNaN" => Math::IsNan,
        _ => return Err(at.unsupported("is no function of one number")),
    };
    Ok(vec![apply(builder, at, math, at.input(0)?)?])
}

/// `math` over all numbers of `x`.
pub(super) fn apply(builder: &mut Builder, at: &At<'_>, math: Math, x: &Slot) -> Result<Slot, Unfit> {
    let form = x.form()?;
    let allowed = match math {
        Math::Not => x.kind == Kind::Bool,
        Math::IsNan | Math::IsInfinite => matches!(form, Form::F32 | Form::F64),
        _ => matches!(form, Form::F32 | Form::F64) || (x.kind != Kind::Bool && math.of_integers()),
    };
    if !allowed {
        return Err(at.refused(&format!("can't be applied to numbers of kind {:?}", x.kind)));
    }
    let asks = matches!(math, Math::IsNan | Math::IsInfinite);
    let kind = if asks { Kind::Bool } else { x.kind };
    builder.emit_one(Kernel::Unary(Unary::new(math)), &[x], kind, &x.shape)
}

pub(super) fn clip(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let mut bounds = [at.float("min")?.map(f64::from), at.float("max")?.map(f64::from)];
    for (i, bound) in bounds.iter_mut().enumerate() {
        let Some(slot) = at.optional(i + 1) else { continue };
        let known = builder.known(slot).ok_or_else(|| at.unsupported("computes its bounds from the data"))?;
        *bound = first_number(known);
    }
    let [low, high] = bounds;
    let math = Math::Clip(low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
    Ok(vec![apply(builder, at, math, &x)?])
}

fn first_number(values: &Values) -> Option<f64> {
    match values {
        Values::F32(v) => v.first().map(|n| f64::from(*n)),
        Values::F64(v) => v.first().copied(),
        Values::I64(v) => v.first().map(|n| *n as f64),
        Values::U8(v) => v.first().map(|n| f64::from(*n)),
        Values::I8(v) => v.first().map(|n| f64::from(*n)),
        Values::Text(_) => None,
    }
}

/// The shape that two shapes meet in.
pub(super) fn broadcast(at: &At<'_>, a: &[usize], b: &[usize]) -> Result<Vec<usize>, Unfit> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        let lacking = rank - shape.len();
        if axis < lacking { 1 } else { shape[axis - lacking] }
    };
    let meet = |axis: usize| match (size(a, axis), size(b, axis)) {
        (a, b) if a == b => Some(a),
        (1, b) => Some(b),
        (a, 1) => Some(a),
        (_, _) => None,
    };
    let met: Option<Vec<usize>> = (0..rank).map(meet).collect();
    met.ok_or_else(|| at.refused(&format!("is given shapes {a:?} and {b:?}, which do not meet")))
}

/// For each number of `to` its place in `from`, which is spread over it.
pub(super) fn places(from: &[usize], to: &[usize]) -> Vec<u32> {
    let mut from: VecDeque<usize> = from.to_vec().into();
    while from.len() < to.len() {
        from.push_front(1);
    }
    let mut places = vec![0_u32];
    let mut stride = 1;
    for (from, to) in from.iter().zip(to).rev() {
        let step = if *from == 1 { 0 } else { stride };
        // Axes from the last to the first: what there is so far repeats inside of each.
        places = (0..*to).flat_map(|i| places.iter().map(move |p| p + (i * step) as u32)).collect();
        stride *= from;
    }
    places
}

/// How a result of `shape` reaches the numbers of `slot`.
fn reach(builder: &mut Builder, slot: &Slot, shape: &[usize]) -> Result<(Slot, Reach), Unfit> {
    let (numbers, wanted) = (slot.numbers(), Builder::room(shape)?);
    let constant = matches!(slot.source, Source::Constant(_));
    match (numbers == wanted, constant) {
        (_, true) if numbers == 1 => return Ok((slot.clone(), Reach::One)),
        (true, true) => return Ok((slot.clone(), Reach::Constant)),
        (true, false) => return Ok((slot.clone(), Reach::Same)),
        (false, _) => {}
    }
    let places = places(&slot.shape, shape);
    if let (Some(Values::F32(v)), true) = (builder.known(slot), wanted <= SPREAD_MAX) {
        let spread = places.iter().map(|p| v.get(*p as usize).copied().unwrap_or(0.0)).collect();
        return Ok((builder.constant(slot.kind, shape, Values::F32(spread))?, Reach::Constant));
    }
    Ok((slot.clone(), Reach::Table { places: places.into(), numbers, constant }))
}

pub(super) fn pair(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let what = match at.node.operator.as_str() {
        "Add" => What::Compute(Binary::Add),
        "Sub" => What::Compute(Binary::Sub),
        "Mul" => What::Compute(Binary::Mul),
        "Div" => What::Compute(Binary::Div),
        "Pow" => What::Compute(Binary::Pow),
        "Mod" if at.int_or("fmod", 0)? != 0 => What::Compute(Binary::Fmod),
        "Mod" => What::Compute(Binary::Mod),
        "PRelu" => What::Compute(Binary::Prelu),
        "Equal" => What::Ask(Question::Equal),
        "Less" => What::Ask(Question::Less),
        "LessOrEqual" => What::Ask(Question::LessOrEqual),
        "Greater" => What::Ask(Question::Greater),
        "GreaterOrEqual" => What::Ask(Question::GreaterOrEqual),
        "And" => What::Ask(Question::And),
        "Or" => What::Ask(Question::Or),
        "Xor" => What::Ask(Question::Xor),
        _ => return Err(at.unsupported("is no function of two numbers")),
    };
    let (a, mut b) = (at.input(0)?.clone(), at.input(1)?.clone());
    if what == What::Compute(Binary::Pow) && b.kind != a.kind {
        b = builder.emit_one(Kernel::Cast(Cast { to: a.kind }), &[&b], a.kind, &b.shape)?;
    }
    if let (What::Compute(Binary::Pow), Some([exponent]), Kind::F32) = (what, builder.known_floats(&b), a.kind)
        && a.shape.len() >= b.shape.len()
    {
        let math = Math::Power(*exponent);
        return Ok(vec![apply(builder, at, math, &a)?]);
    }
    Ok(vec![meet(builder, at, what, &a, &b)?])
}

/// Two operands as one step.
pub(super) fn meet(builder: &mut Builder, at: &At<'_>, what: What, a: &Slot, b: &Slot) -> Result<Slot, Unfit> {
    if a.kind != b.kind {
        return Err(at.refused(&format!("is given numbers of kinds {:?} and {:?}", a.kind, b.kind)));
    }
    a.form()?;
    let shape = broadcast(at, &a.shape, &b.shape)?;
    let kind = match what {
        What::Compute(_) if a.kind == Kind::Bool => return Err(at.refused("can't compute with truths")),
        What::Compute(_) => a.kind,
        What::Ask(_) => Kind::Bool,
    };
    let (a, left) = reach(builder, a, &shape)?;
    let (b, right) = reach(builder, b, &shape)?;
    let numbers = Builder::room(&shape)?;
    builder.emit_one(Kernel::Pair(Pair { what, reach: [left, right], numbers }), &[&a, &b], kind, &shape)
}

pub(super) fn many(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let with = match at.node.operator.as_str() {
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        _ => Binary::Add,
    };
    let inputs: Vec<Slot> = at.inputs().cloned().collect();
    let mut result = at.input(0)?.clone();
    for other in inputs.iter().skip(1) {
        result = meet(builder, at, What::Compute(with), &result, other)?;
    }
    if at.node.operator == "Mean" {
        let count = builder.constant(Kind::F32, &[], Values::F32(vec![inputs.len() as f32]))?;
        result = meet(builder, at, What::Compute(Binary::Div), &result, &count)?;
    }
    Ok(vec![result])
}

pub(super) fn choice(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let (asked, a, b) = (at.input(0)?, at.input(1)?, at.input(2)?);
    if asked.kind != Kind::Bool || a.kind != b.kind {
        return Err(at.refused("wants a truth and two of one kind"));
    }
    let shape = broadcast(at, &broadcast(at, &asked.shape, &a.shape)?, &b.shape)?;
    let (asked, first) = reach(builder, asked, &shape)?;
    let (a, second) = reach(builder, a, &shape)?;
    let (b, third) = reach(builder, b, &shape)?;
    let kernel = Kernel::Select(Select { reach: [first, second, third], numbers: Builder::room(&shape)? });
    Ok(vec![builder.emit_one(kernel, &[&asked, &a, &b], a.kind, &shape)?])
}

pub(super) fn cast(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let to = if at.node.operator == "CastLike" {
        at.input(1)?.kind
    } else {
        let number = at.int("to")?.ok_or_else(|| at.refused("says not what to cast to"))?;
        let kind = i32::try_from(number).ok().and_then(Kind::of);
        kind.ok_or_else(|| at.unsupported(&format!("casts to ONNX type {number}")))?
    };
    if x.kind == to {
        return Ok(vec![x.clone()]);
    }
    if let (Kind::F32, Some(floats)) = (to, builder.as_floats(x)) {
        return Ok(vec![floats]);
    }
    if x.kind == Kind::Text || to == Kind::Text {
        return Err(at.unsupported("casts texts"));
    }
    // Half numbers are computed with as f32 and not rounded in between, as ONNX Runtime does on processors without them.
    if x.form()? == Form::F32 && Form::of(to) == Some(Form::F32) {
        return Ok(vec![Slot { kind: to, ..x.clone() }]);
    }
    Ok(vec![builder.emit_one(Kernel::Cast(Cast { to }), &[x], to, &x.shape)?])
}
