//! The same numbers under another shape, shapes as numbers, and constants.

use crate::engine::graph::{Kind, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot};

pub(super) fn same(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let mut made = vec![x.clone()];
    if at.wants(1) {
        // The mask of a dropout that drops nothing.
        made.push(builder.constant(Kind::Bool, &x.shape, Values::U8(vec![1; x.numbers()]))?);
    }
    Ok(made)
}

pub(super) fn reshape(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let asked = at.listed(builder, "shape", 1)?.ok_or_else(|| at.refused("says not which shape"))?;
    let zero_is_zero = at.int_or("allowzero", 0)? != 0;
    let mut shape = Vec::new();
    let mut open = None;
    for (axis, size) in asked.iter().enumerate() {
        match *size {
            -1 if open.is_none() => {
                open = Some(axis);
                shape.push(1);
            }
            0 if !zero_is_zero => {
                shape.push(*x.shape.get(axis).ok_or_else(|| at.refused("copies an axis that is not there"))?);
            }
            n => shape.push(usize::try_from(n).map_err(|_| at.refused(&format!("asks for the shape {asked:?}")))?),
        }
    }
    let known = Builder::room(&shape)?;
    if let Some(axis) = open {
        let numbers = x.numbers();
        if known == 0 || numbers % known != 0 {
            return Err(at.refused(&format!("{numbers} numbers can't take the shape {asked:?}")));
        }
        shape[axis] = numbers / known;
    }
    Ok(vec![x.reshaped(shape)?])
}

pub(super) fn flatten(_: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    // One more axis than there are: behind the last, too.
    let axis = at.axis(at.int_or("axis", 1)?, x.shape.len() + 1)?;
    let (outer, inner) = x.shape.split_at(axis);
    let shape = vec![outer.iter().product(), inner.iter().product()];
    Ok(vec![x.reshaped(shape)?])
}

pub(super) fn squeeze(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let named = at.listed(builder, "axes", 1)?;
    let axes = match named {
        Some(list) => list.iter().map(|a| at.axis(*a, x.shape.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..x.shape.len()).filter(|a| x.shape[*a] == 1).collect(),
    };
    if axes.iter().any(|a| x.shape[*a] != 1) {
        return Err(at.refused(&format!("squeezes axes {axes:?} of {:?}", x.shape)));
    }
    let shape = (0..x.shape.len()).filter(|a| !axes.contains(a)).map(|a| x.shape[a]).collect();
    Ok(vec![x.reshaped(shape)?])
}

pub(super) fn unsqueeze(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let named = at.listed(builder, "axes", 1)?.ok_or_else(|| at.refused("names no axes"))?;
    let rank = x.shape.len() + named.len();
    let mut axes = named.iter().map(|a| at.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.len() != named.len() {
        return Err(at.refused("names an axis twice"));
    }
    let mut sizes = x.shape.iter().copied();
    let shape = (0..rank).map(|a| if axes.contains(&a) { 1 } else { sizes.next().unwrap_or(1) }).collect();
    Ok(vec![x.reshaped(shape)?])
}

pub(super) fn shape(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    if at.node.operator == "Size" {
        return Ok(vec![builder.constant(Kind::I64, &[], Values::I64(vec![x.numbers() as i64]))?]);
    }
    let rank = x.shape.len() as i64;
    let place = |n: i64| (if n < 0 { n.saturating_add(rank) } else { n }).clamp(0, rank) as usize;
    let (start, end) = (place(at.int_or("start", 0)?), place(at.int_or("end", rank)?));
    let sizes: Vec<i64> = x.shape.get(start..end).unwrap_or_default().iter().map(|d| *d as i64).collect();
    Ok(vec![builder.constant(Kind::I64, &[sizes.len()], Values::I64(sizes))?])
}

pub(super) fn constant(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    if let Some(tensor) = at.tensor("value")? {
        return Ok(vec![builder.tensor(tensor)?]);
    }
    if let Some(n) = at.float("value_float")? {
        return Ok(vec![builder.floats(&[], vec![n])?]);
    }
    if let Some(n) = at.int("value_int")? {
        return Ok(vec![builder.constant(Kind::I64, &[], Values::I64(vec![n]))?]);
    }
    if let Some(list) = at.ints("value_ints")? {
        return Ok(vec![builder.constant(Kind::I64, &[list.len()], Values::I64(list.to_vec()))?]);
    }
    let list = at.floats("value_floats")?;
    if list.is_empty() {
        return Err(at.unsupported("holds no numbers"));
    }
    Ok(vec![builder.floats(&[list.len()], list.to_vec())?])
}

pub(super) fn constant_of_shape(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let asked = at.known_ints(builder, 0)?.ok_or_else(|| at.refused("says not which shape"))?;
    let sizes: Option<Vec<usize>> = asked.iter().map(|n| usize::try_from(*n).ok()).collect();
    let sizes = sizes.ok_or_else(|| at.refused(&format!("asks for the shape {asked:?}")))?;
    let numbers = Builder::room(&sizes)?;
    let Some(tensor) = at.tensor("value")? else {
        return Ok(vec![builder.floats(&sizes, vec![0.0; numbers])?]);
    };
    let repeated = match &tensor.values {
        Values::F32(v) => v.first().map(|x| Values::F32(vec![*x; numbers])),
        Values::F64(v) => v.first().map(|x| Values::F64(vec![*x; numbers])),
        Values::I64(v) => v.first().map(|x| Values::I64(vec![*x; numbers])),
        Values::U8(v) => v.first().map(|x| Values::U8(vec![*x; numbers])),
        Values::I8(v) => v.first().map(|x| Values::I8(vec![*x; numbers])),
        Values::Text(_) => None,
    };
    let values = repeated.ok_or_else(|| at.refused("has no value to repeat"))?;
    Ok(vec![builder.constant(tensor.kind, &sizes, values)?])
}

pub(super) fn range(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let mut bounds = Vec::new();
    for i in 0..3 {
        let slot = at.input(i)?;
        let known = builder.known(slot).ok_or_else(|| at.unsupported("computes its bounds from the data"))?;
        bounds.push(match known {
            Values::F32(v) => v.first().map(|n| f64::from(*n)),
            Values::F64(v) => v.first().copied(),
            Values::I64(v) => v.first().map(|n| *n as f64),
            Values::U8(_) | Values::I8(_) | Values::Text(_) => None,
        });
    }
    let [Some(start), Some(end), Some(step)] = bounds.as_slice() else { return Err(at.refused("has no bounds")) };
    let steps = ((end - start) / step).ceil().max(0.0);
    if !steps.is_finite() {
        return Err(at.refused("has no end"));
    }
    let numbers = Builder::room(&[steps as usize])?;
    let kind = at.input(0)?.kind;
    let list = (0..numbers).map(|i| start + i as f64 * step);
    let values = match kind {
        Kind::F32 => Values::F32(list.map(|n| n as f32).collect()),
        Kind::F64 => Values::F64(list.collect()),
        Kind::I64 | Kind::I32 => Values::I64(list.map(|n| n as i64).collect()),
        other => return Err(at.unsupported(&format!("counts in numbers of kind {other:?}"))),
    };
    Ok(vec![builder.constant(kind, &[numbers], values)?])
}
