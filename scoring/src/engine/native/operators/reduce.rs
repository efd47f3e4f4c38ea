//! What goes along an axis: sums and their like, the largest, softmax, normalisation.

use crate::engine::graph::{Kind, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot};
use crate::engine::native::pair::{Binary, What};
use crate::engine::native::plan::Kernel;
use crate::engine::native::reduce::{Along, Arg, Fold, Normalise, Reduce, Running, Soften, Top};
use crate::engine::native::values::Form;
use crate::kernel::lanes::Lanes;
use crate::kernel::softmax::Softmax;

use super::arithmetic::meet;
use super::shuffle::transposed;

/// The row seen along one axis; the batch of one counts as an axis like others.
pub(super) fn along(shape: &[usize], axis: usize) -> Along {
    let (outer, rest) = shape.split_at(axis);
    let (length, inner) = rest.split_first().map_or((1, 1), |(length, inner)| (*length, inner.iter().product()));
    Along { outer: outer.iter().product(), length, inner }
}

pub(super) fn reduce(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let fold = match at.node.operator.as_str() {
        "ReduceSum" => Fold::Sum,
        "ReduceMean" => Fold::Mean,
        "ReduceMax" => Fold::Max,
        "ReduceMin" => Fold::Min,
        "ReduceProd" => Fold::Product,
        "ReduceSumSquare" => Fold::SumOfSquares,
        "ReduceL1" => Fold::SumOfAbsolutes,
        "ReduceL2" => Fold::Root,
        "ReduceLogSum" => Fold::LogOfSum,
        "ReduceLogSumExp" => Fold::LogOfSumOfExps,
        _ => return Err(at.unsupported("is no sum")),
    };
    let x = at.input(0)?.clone();
    let rank = x.shape.len();
    let keep = at.int_or("keepdims", 1)? != 0;
    let named = at.listed(builder, "axes", 1)?.unwrap_or_default();
    let mut axes = named.iter().map(|a| at.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() {
        if at.int_or("noop_with_empty_axes", 0)? != 0 {
            return Ok(vec![x]);
        }
        axes = (0..rank).collect();
    }
    let whole = matches!(fold, Fold::Root | Fold::LogOfSum | Fold::LogOfSumOfExps);
    if !matches!(x.form()?, Form::F32 | Form::F64 | Form::I64) || (x.form()? == Form::I64 && whole) {
        return Err(at.unsupported(&format!("goes over numbers of kind {:?}", x.kind)));
    }
    let shape: Vec<usize> = if keep {
        (0..rank).map(|a| if axes.contains(&a) { 1 } else { x.shape[a] }).collect()
    } else {
        (0..rank).filter(|a| !axes.contains(a)).map(|a| x.shape[a]).collect()
    };
    let (x, along) = gathered(builder, &x, &axes)?;
    if along.length == 0 {
        return Err(at.unsupported("goes over no numbers"));
    }
    Ok(vec![builder.emit_one(Kernel::Reduce(Reduce { fold, along }), &[&x], x.kind, &shape)?])
}

/// `x` with the axes beside each other, as one.
fn gathered(builder: &mut Builder, x: &Slot, axes: &[usize]) -> Result<(Slot, Along), Unfit> {
    let rank = x.shape.len();
    let (Some(first), Some(last)) = (axes.first(), axes.last()) else {
        return Ok((x.clone(), Along { outer: x.numbers(), length: 1, inner: 1 }));
    };
    let length = |axes: &[usize]| axes.iter().map(|a| x.shape[*a]).product::<usize>();
    // Axes of one number between them part nothing.
    let together = (*first..=*last).all(|a| axes.contains(&a) || x.shape[a] == 1);
    if together {
        let outer = x.shape[..*first].iter().product();
        let inner = x.shape[last + 1..].iter().product();
        return Ok((x.clone(), Along { outer, length: length(axes), inner }));
    }
    let others: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
    let order: Vec<usize> = others.iter().chain(axes).copied().collect();
    let moved = transposed(builder, x, &order)?;
    Ok((moved, Along { outer: length(&others), length: length(axes), inner: 1 }))
}

pub(super) fn arg(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    x.form()?;
    let axis = at.axis(at.int_or("axis", 0)?, x.shape.len())?;
    let mut shape = x.shape.to_vec();
    if at.int_or("keepdims", 1)? != 0 {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    let along = along(&x.shape, axis);
    if along.length == 0 {
        return Err(at.unsupported("goes over no numbers"));
    }
    let last = at.int_or("select_last_index", 0)? != 0;
    let kernel = Kernel::Arg(Arg { along, largest: at.node.operator == "ArgMax", last });
    Ok(vec![builder.emit_one(kernel, &[x], Kind::I64, &shape)?])
}

pub(super) fn top(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let axis = at.axis(at.int_or("axis", -1)?, x.shape.len())?;
    let k = match at.int("k")? {
        Some(k) => k,
        None => at.known_ints(builder, 1)?.and_then(|list| list.first().copied()).unwrap_or(-1),
    };
    let along = along(&x.shape, axis);
    let k = usize::try_from(k).ok().filter(|k| *k > 0 && *k <= along.length);
    let k = k.ok_or_else(|| at.refused(&format!("wants more of {} numbers than there are, or none", along.length)))?;
    if !matches!(x.form()?, Form::F32 | Form::F64 | Form::I64) {
        return Err(at.unsupported("sorts numbers of a narrow kind"));
    }
    let mut shape = x.shape.to_vec();
    shape[axis] = k;
    let kernel = Kernel::Top(Top { along, k, largest: at.int_or("largest", 1)? != 0 });
    builder.emit(kernel, &[x], &[(x.kind, &shape), (Kind::I64, &shape)])
}

pub(super) fn running(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let axis = at.known_ints(builder, 1)?.and_then(|list| list.first().copied());
    let axis = at.axis(axis.ok_or_else(|| at.refused("names no axis"))?, x.shape.len())?;
    if !matches!(x.form()?, Form::F32 | Form::F64 | Form::I64) || x.numbers() == 0 {
        return Err(at.unsupported(&format!("adds up numbers of kind {:?}", x.kind)));
    }
    let kernel = Kernel::Running(Running {
        along: along(&x.shape, axis),
        inclusive: at.int_or("exclusive", 0)? == 0,
        backward: at.int_or("reverse", 0)? != 0,
    });
    Ok(vec![builder.emit_one(kernel, &[&x], x.kind, &x.shape)?])
}

pub(super) fn softmax(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    /// From here on along one axis; before, along all from that axis on.
    const ONE_AXIS: i64 = 13;
    let x = at.input(0)?;
    if x.form()? != Form::F32 {
        return Err(at.unsupported("goes over numbers that are no f32"));
    }
    let default = if at.opset < ONE_AXIS { 1 } else { -1 };
    let axis = at.axis(at.int_or("axis", default)?, x.shape.len())?;
    let mut along = along(&x.shape, axis);
    if at.opset < ONE_AXIS {
        along = Along { length: along.length * along.inner, inner: 1, ..along };
    }
    if along.length == 0 {
        return Err(at.unsupported("goes over no numbers"));
    }
    let form = if at.node.operator == "LogSoftmax" { Softmax::LogShare } else { Softmax::Share };
    let kernel = Kernel::Soften(Soften { along, form, lanes: Lanes::detected() });
    Ok(vec![builder.emit_one(kernel, &[x], x.kind, &x.shape)?])
}

pub(super) fn layer_normalization(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let axis = at.axis(at.int_or("axis", -1)?, x.shape.len())?;
    let length: usize = x.shape[axis..].iter().product();
    if x.form()? != Form::F32 || at.wants(1) || at.wants(2) || length == 0 {
        return Err(at.unsupported("is asked for more than the normalised numbers"));
    }
    let known = |i: usize, default: f32| -> Result<Box<[f32]>, Unfit> {
        let Some(slot) = at.optional(i) else { return Ok(vec![default; length].into()) };
        let list = builder.known_floats(slot).ok_or_else(|| at.unsupported("computes its scale from the data"))?;
        match list.len() {
            1 => Ok(vec![list[0]; length].into()),
            n if n == length => Ok(list.into()),
            n => Err(at.refused(&format!("has {n} numbers to scale {length}"))),
        }
    };
    let (scale, offset) = (known(1, 1.0)?, known(2, 0.0)?);
    let kernel = Kernel::Normalise(Normalise { length, epsilon: at.float_or("epsilon", 1e-5)?, scale, offset });
    Ok(vec![builder.emit_one(kernel, &[x], x.kind, &x.shape)?])
}

pub(super) fn batch_normalization(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    if at.int_or("training_mode", 0)? != 0 || at.wants(1) || x.kind != Kind::F32 {
        return Err(at.unsupported("is in training mode"));
    }
    let known = |i: usize| -> Result<Vec<f32>, Unfit> {
        let list = builder.known_floats(at.input(i)?);
        list.map(<[f32]>::to_vec).ok_or_else(|| at.unsupported("computes its scale from the data"))
    };
    let (scale, offset, mean, variance) = (known(1)?, known(2)?, known(3)?, known(4)?);
    let epsilon = at.float_or("epsilon", 1e-5)?;
    let channels = scale.len();
    let mut shape = vec![channels];
    shape.resize(x.shape.len().saturating_sub(1), 1);
    if [offset.len(), mean.len(), variance.len()] != [channels; 3] || x.shape.get(1) != Some(&channels) {
        return Err(at.refused("has another number of channels than its scale"));
    }
    let factor = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let mut result = x;
    for (with, list) in [(Binary::Sub, mean), (Binary::Mul, factor), (Binary::Add, offset)] {
        let constant = builder.constant(Kind::F32, &shape, Values::F32(list))?;
        result = meet(builder, at, What::Compute(with), &result, &constant)?;
    }
    Ok(vec![result])
}
