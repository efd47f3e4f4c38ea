//! What quantisers write: `QuantizeLinear` and its like, products of whole numbers, and com.microsoft's own.

use crate::engine::graph::{Kind, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot, Source};
use crate::engine::native::elementwise::Cast;
use crate::engine::native::matrix::Dense;
use crate::engine::native::pair::{Binary, What};
use crate::engine::native::plan::Kernel;
use crate::engine::native::quantized::{Centre, Dequantize, Measure, Quantize, Scaling, bounds};
use crate::kernel::lanes::Lanes;

use super::arithmetic::meet;
use super::shuffle::{taken, transposed};

/// Below this all whole numbers are f32 numbers.
const EXACT: f32 = 16_777_216.0;
/// The largest distance of a number of 8 bits from its zero point.
const FARTHEST: f32 = 255.0;

/// Scales and zero points: one of each, or one for each number of a row.
type Grid = (Box<[f32]>, Box<[f32]>);

/// Known numbers of any kind, as f32.
fn known(builder: &Builder, at: &At<'_>, slot: &Slot) -> Result<Vec<f32>, Unfit> {
    match builder.known(slot) {
        Some(Values::F32(v)) => Ok(v.clone()),
        Some(Values::U8(v)) => Ok(v.iter().map(|n| f32::from(*n)).collect()),
        Some(Values::I8(v)) => Ok(v.iter().map(|n| f32::from(*n)).collect()),
        Some(Values::I64(v)) => Ok(v.iter().map(|n| *n as f32).collect()),
        Some(Values::F64(_) | Values::Text(_)) => Err(at.refused("is quantised by numbers of a wrong kind")),
        None => Err(at.unsupported("computes a scale or zero point from the data")),
    }
}

/// Scale and zero point as lists that fit a row: one number, or one for each number of the row.
fn grid(builder: &Builder, at: &At<'_>, shape: &[usize], i: usize) -> Result<Grid, Unfit> {
    let scale = known(builder, at, at.input(i)?)?;
    let zero = match at.optional(i + 1) {
        Some(slot) => known(builder, at, slot)?,
        None => vec![0.0; scale.len()],
    };
    if at.int_or("block_size", 0)? != 0 {
        return Err(at.unsupported("has a scale for each block"));
    }
    spread(at, shape, scale, zero)
}

fn spread(at: &At<'_>, shape: &[usize], scale: Vec<f32>, zero: Vec<f32>) -> Result<Grid, Unfit> {
    if scale.len() == 1 && zero.len() == 1 {
        return Ok((scale.into(), zero.into()));
    }
    let axis = at.axis(at.int_or("axis", 1)?, shape.len())?;
    let inner: usize = shape[axis + 1..].iter().product();
    if [scale.len(), zero.len()] != [shape[axis]; 2] {
        return Err(at.refused(&format!("has {} scales for shape {shape:?}", scale.len())));
    }
    let numbers = Builder::room(shape)?;
    let all = |list: &[f32]| (0..numbers).map(|i| list[i / inner % list.len()]).collect();
    Ok((all(&scale), all(&zero)))
}

pub(super) fn quantize(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let kind = at.optional(2).map_or(Kind::U8, |zero| zero.kind);
    let (scale, zero) = grid(builder, at, &x.shape, 1)?;
    Ok(vec![quantized(builder, at, &x, (scale, zero), (kind, Scaling::Divide))?])
}

fn quantized(
    builder: &mut Builder,
    at: &At<'_>,
    x: &Slot,
    (scale, zero): Grid,
    (kind, by): (Kind, Scaling),
) -> Result<Slot, Unfit> {
    if bounds(kind).is_none() || x.kind != Kind::F32 {
        return Err(at.unsupported(&format!("quantises {:?} to {kind:?}", x.kind)));
    }
    let kernel = Kernel::Quantize(Quantize { kind, scale, zero, by, lanes: Lanes::detected() });
    builder.emit_one(kernel, &[x], kind, &x.shape)
}

pub(super) fn dequantize(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (scale, zero) = grid(builder, at, &x.shape, 1)?;
    Ok(vec![dequantized(builder, at, &x, (scale, zero))?])
}

fn dequantized(builder: &mut Builder, at: &At<'_>, x: &Slot, (scale, zero): Grid) -> Result<Slot, Unfit> {
    if !matches!(x.kind, Kind::U8 | Kind::I8 | Kind::I32 | Kind::I16 | Kind::U16) {
        return Err(at.refused(&format!("dequantises numbers of kind {:?}", x.kind)));
    }
    builder.emit_one(Kernel::Dequantize(Dequantize { scale, zero }), &[x], Kind::F32, &x.shape)
}

pub(super) fn dynamic_quantize(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    if x.kind != Kind::F32 {
        return Err(at.refused("quantises numbers that are no f32"));
    }
    let kernel = Kernel::Measure(Measure { numbers: x.numbers(), lanes: Lanes::detected() });
    builder.emit(kernel, &[&x], &[(Kind::U8, &x.shape), (Kind::F32, &[]), (Kind::U8, &[])])
}

/// Numbers of 8 bits less their zero point, as f32.
fn centred(builder: &mut Builder, at: &At<'_>, x: &Slot, zero: Option<&Slot>) -> Result<Slot, Unfit> {
    if bounds(x.kind).is_none() {
        return Err(at.unsupported(&format!("multiplies numbers of kind {:?}", x.kind)));
    }
    let zero = match zero {
        Some(slot) => slot.clone(),
        None => builder.constant(Kind::U8, &[], Values::U8(vec![0]))?,
    };
    let constant = |slot: &Slot| matches!(slot.source, Source::Constant(_));
    if zero.numbers() != 1 {
        return Err(at.unsupported("has a zero point for each line"));
    }
    let (constant, constant_zero) = (constant(x), constant(&zero));
    let kernel = Kernel::Centre(Centre { numbers: x.numbers(), constant, constant_zero });
    builder.emit_one(kernel, &[x, &zero], Kind::F32, &x.shape)
}

/// Known weights of 8 bits less their zero points (one, or one a column): `inner` x `columns` whole numbers.
fn weights(builder: &Builder, at: &At<'_>, b: &Slot, zero: Option<&Slot>) -> Result<(usize, usize, Vec<f32>), Unfit> {
    let [inner, columns] = *b.shape else { return Err(at.unsupported("multiplies more than two matrices")) };
    if bounds(b.kind).is_none() || inner == 0 || columns == 0 {
        return Err(at.unsupported(&format!("multiplies numbers of kind {:?}", b.kind)));
    }
    let mut list = known(builder, at, b)?;
    let zeros = match zero {
        Some(slot) => known(builder, at, slot)?,
        None => vec![0.0],
    };
    if ![1, columns].contains(&zeros.len()) {
        return Err(at.refused(&format!("has {} zero points for {columns} columns", zeros.len())));
    }
    for line in list.chunks_mut(columns) {
        line.iter_mut().zip(zeros.iter().cycle()).for_each(|(w, zero)| *w -= zero);
    }
    Ok((inner, columns, list))
}

/// The exact product of whole numbers in f32 by known whole numbers; where its sums could leave the exact ones, in two halves.
fn product(
    builder: &mut Builder,
    at: &At<'_>,
    x: &Slot,
    (inner, columns): (usize, usize),
    weights: &[f32],
) -> Result<Slot, Unfit> {
    let [lines @ .., last] = &*x.shape else { return Err(at.refused("multiplies no matrix")) };
    if *last != inner {
        return Err(at.refused(&format!("multiplies shape {:?} by {inner} lines", x.shape)));
    }
    let mut shape = lines.to_vec();
    let count: usize = lines.iter().product();
    shape.push(columns);
    let largest = (0..columns).map(|c| weights.iter().skip(c).step_by(columns).map(|w| w.abs()).sum::<f32>());
    if largest.fold(0.0, f32::max) * FARTHEST < EXACT {
        let dense = Dense::new(inner, columns, count, weights).map_err(|e| at.refused(&e.to_string()))?;
        return builder.emit_one(Kernel::Dense(dense), &[x], Kind::F32, &shape);
    }
    let half = inner / 2;
    let axis = x.shape.len() - 1;
    let mut sum: Option<Slot> = None;
    for (from, to) in [(0, half), (half, inner)] {
        let mut part = x.shape.to_vec();
        part[axis] = to - from;
        let places: Vec<usize> = (from..to).collect();
        let part = taken(builder, x, axis, &places, &part)?;
        let part = product(builder, at, &part, (to - from, columns), &weights[from * columns..to * columns])?;
        let part = whole(builder, &part)?;
        sum = Some(match sum {
            Some(sum) => meet(builder, at, What::Compute(Binary::Add), &sum, &part)?,
            None => part,
        });
    }
    let sum = sum.ok_or_else(|| at.refused("multiplies nothing"))?;
    builder.emit_one(Kernel::Cast(Cast { to: Kind::F32 }), &[&sum], Kind::F32, &shape)
}

fn whole(builder: &mut Builder, x: &Slot) -> Result<Slot, Unfit> {
    builder.emit_one(Kernel::Cast(Cast { to: Kind::I32 }), &[x], Kind::I32, &x.shape)
}

pub(super) fn matmul_integer(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let (a, b) = (at.input(0)?.clone(), at.input(1)?.clone());
    let (inner, columns, list) = weights(builder, at, &b, at.optional(3))?;
    let a = centred(builder, at, &a, at.optional(2))?;
    let product = product(builder, at, &a, (inner, columns), &list)?;
    let whole = whole(builder, &product)?;
    builder.also(&whole, product);
    Ok(vec![whole])
}

/// The product of two quantised matrices, scaled; `y` are the positions of its scale and zero point, without which it stays f32.
struct Scaled {
    bias: Option<Slot>,
    alpha: f32,
    y: usize,
}

fn scaled(builder: &mut Builder, at: &At<'_>, b: &Slot, how: Scaled) -> Result<Vec<Slot>, Unfit> {
    let a = at.input(0)?.clone();
    let (inner, columns, list) = weights(builder, at, b, at.optional(5))?;
    let a_scale = known(builder, at, at.input(1)?)?;
    let b_scale = known(builder, at, at.input(4)?)?;
    let ([a_scale], true) = (a_scale.as_slice(), [1, columns].contains(&b_scale.len())) else {
        return Err(at.unsupported("has a scale for each line"));
    };
    let centre = centred(builder, at, &a, at.optional(2))?;
    let mut sum = product(builder, at, &centre, (inner, columns), &list)?;
    if let Some(bias) = &how.bias {
        let bias = known(builder, at, bias)?;
        let bias = builder.floats(&[bias.len()], bias)?;
        sum = meet(builder, at, What::Compute(Binary::Add), &sum, &bias)?;
    }
    let factors: Vec<f32> = b_scale.iter().map(|b| how.alpha * a_scale * b).collect();
    let Some(y_scale) = at.optional(how.y) else {
        let constant = builder.floats(&[factors.len()], factors)?;
        return Ok(vec![meet(builder, at, What::Compute(Binary::Mul), &sum, &constant)?]);
    };
    let (y_scale, y_zero) = (known(builder, at, y_scale)?, at.optional(how.y + 1).cloned());
    let kind = y_zero.as_ref().map_or(a.kind, |zero| zero.kind);
    let zero = match &y_zero {
        Some(slot) => known(builder, at, slot)?,
        None => vec![0.0],
    };
    let ([y_scale], [zero]) = (y_scale.as_slice(), zero.as_slice()) else {
        return Err(at.unsupported("gives numbers with a scale for each column"));
    };
    let numbers = sum.numbers();
    let factors: Vec<f32> = factors.iter().map(|f| f / y_scale).collect();
    let (scale, zero): Grid = if factors.len() == 1 {
        (factors.into(), vec![*zero].into())
    } else {
        ((0..numbers).map(|i| factors[i % columns]).collect(), vec![*zero; numbers].into())
    };
    Ok(vec![quantized(builder, at, &sum, (scale, zero), (kind, Scaling::Multiply))?])
}

pub(super) fn qgemm(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let mut b = at.input(3)?.clone();
    if at.int_or("transA", 0)? != 0 || b.shape.len() != 2 {
        return Err(at.unsupported("multiplies its first matrix transposed"));
    }
    if at.int_or("transB", 0)? != 0 {
        b = transposed(builder, &b, &[1, 0])?;
    }
    let bias = at.optional(6).cloned();
    scaled(builder, at, &b, Scaled { bias, alpha: at.float_or("alpha", 1.0)?, y: 7 })
}

pub(super) fn qlinear_matmul(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let b = at.input(3)?.clone();
    scaled(builder, at, &b, Scaled { bias: None, alpha: 1.0, y: 6 })
}

/// `QLinearAdd` and `QLinearMul` of com.microsoft: out of 8 bits, one step, and back.
pub(super) fn qlinear_pair(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let (a, b) = (at.input(0)?.clone(), at.input(3)?.clone());
    let left = grid(builder, at, &a.shape, 1)?;
    let left = dequantized(builder, at, &a, left)?;
    let right = grid(builder, at, &b.shape, 4)?;
    let right = dequantized(builder, at, &b, right)?;
    let with = if at.node.operator == "QLinearMul" { Binary::Mul } else { Binary::Add };
    let result = meet(builder, at, What::Compute(with), &left, &right)?;
    let kind = at.optional(7).map_or(a.kind, |zero| zero.kind);
    let back = grid(builder, at, &result.shape, 6)?;
    Ok(vec![quantized(builder, at, &result, back, (kind, Scaling::Divide))?])
}
