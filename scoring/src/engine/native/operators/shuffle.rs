//! What moves numbers: each becomes one list of places, unless the numbers stay in their order.

use crate::engine::graph::{Kind, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot, Source};
use crate::engine::native::movement::{Concat, Lookup, NOWHERE, Part, Pick};
use crate::engine::native::plan::Kernel;

use super::arithmetic::{broadcast, places};
use super::reduce::along;

/// A step that takes each number of `shape` from the place that the list says.
fn picked(builder: &mut Builder, x: &Slot, shape: &[usize], places: Vec<u32>, fill: f64) -> Result<Slot, Unfit> {
    x.form()?;
    let kernel = Kernel::Pick(Pick::new(places, x.numbers(), fill));
    builder.emit_one(kernel, &[x], x.kind, shape)
}

/// Goes over all numbers of a tensor whose axis `i` has the places `axes[i]` (times its stride): the last axis fastest.
fn crossed(axes: &[Vec<Option<u32>>]) -> Vec<u32> {
    let mut places: Vec<Option<u32>> = vec![Some(0)];
    for axis in axes.iter().rev() {
        let add = |a: Option<u32>, b: Option<u32>| a.zip(b).map(|(a, b)| a + b);
        places = axis.iter().flat_map(|a| places.iter().map(move |p| add(*a, *p))).collect();
    }
    places.into_iter().map(|p| p.unwrap_or(NOWHERE)).collect()
}

/// Numbers between neighbours along each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// `x` with its axes in the order `order`.
pub(super) fn transposed(builder: &mut Builder, x: &Slot, order: &[usize]) -> Result<Slot, Unfit> {
    let shape: Vec<usize> = order.iter().map(|a| x.shape[*a]).collect();
    let long: Vec<usize> = order.iter().copied().filter(|a| x.shape[*a] != 1).collect();
    if long.is_sorted() {
        return x.reshaped(shape);
    }
    let strides = strides(&x.shape);
    let axis = |a: &usize| (0..x.shape[*a]).map(|i| Some((i * strides[*a]) as u32)).collect();
    let axes: Vec<Vec<Option<u32>>> = order.iter().map(axis).collect();
    picked(builder, x, &shape, crossed(&axes), 0.0)
}

pub(super) fn transpose(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?;
    let rank = x.shape.len();
    let order = match at.ints("perm")? {
        Some(list) => list.iter().map(|a| at.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank) {
        return Err(at.refused(&format!("has the order {order:?} for {rank} axes")));
    }
    Ok(vec![transposed(builder, x, &order)?])
}

/// Takes the places `taken` of one axis.
pub(super) fn taken(
    builder: &mut Builder,
    x: &Slot,
    axis: usize,
    taken: &[usize],
    shape: &[usize],
) -> Result<Slot, Unfit> {
    let strides = strides(&x.shape);
    if taken.iter().copied().eq(0..x.shape[axis]) {
        return x.reshaped(shape.to_vec());
    }
    let whole = |a: usize| (0..x.shape[a]).map(|i| Some((i * strides[a]) as u32)).collect::<Vec<_>>();
    let some = || taken.iter().map(|i| Some((i * strides[axis]) as u32)).collect();
    Builder::room(shape)?;
    let axes: Vec<_> = (0..x.shape.len()).map(|a| if a == axis { some() } else { whole(a) }).collect();
    picked(builder, x, shape, crossed(&axes), 0.0)
}

pub(super) fn slice(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let mut x = at.input(0)?.clone();
    let starts = at.listed(builder, "starts", 1)?.ok_or_else(|| at.refused("says not where to start"))?;
    let ends = at.listed(builder, "ends", 2)?.ok_or_else(|| at.refused("says not where to end"))?;
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = at.listed(builder, "axes", 3)?.unwrap_or(all);
    let steps = at.known_ints(builder, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(at.refused("has lists of different lengths"));
    }
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = at.axis(*axis, x.shape.len())?;
        let list = stepped(*start, *end, *step, x.shape[axis]).ok_or_else(|| at.refused("steps by 0"))?;
        let mut shape = x.shape.to_vec();
        shape[axis] = list.len();
        x = taken(builder, &x, axis, &list, &shape)?;
    }
    Ok(vec![x])
}

/// The places from `start` to `end` of an axis, as ONNX counts them.
fn stepped(start: i64, end: i64, step: i64, size: usize) -> Option<Vec<usize>> {
    let size = size as i64;
    let counted = |n: i64| if n < 0 { n.saturating_add(size) } else { n };
    if step == 0 {
        return None;
    }
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let (mut at, end) = (counted(start).clamp(low.max(0), high), counted(end).clamp(low, high));
    let mut places = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        places.push(usize::try_from(at).ok()?);
        at = at.saturating_add(step);
    }
    Some(places)
}

pub(super) fn split(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let axis = at.axis(at.int_or("axis", 0)?, x.shape.len())?;
    let size = x.shape[axis];
    let parts = at.node.outputs.len();
    let lengths = match at.listed(builder, "split", 1)? {
        Some(list) => list.iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX)).collect(),
        None => {
            let each = size.div_ceil(parts.max(1));
            (0..parts).map(|i| each.min(size.saturating_sub(i * each))).collect::<Vec<_>>()
        }
    };
    let total = lengths.iter().try_fold(0_usize, |sum, n| sum.checked_add(*n));
    if total != Some(size) || lengths.len() < parts {
        return Err(at.refused(&format!("splits {size} into {lengths:?}")));
    }
    let mut made = Vec::new();
    let mut from = 0;
    for length in lengths {
        let list: Vec<usize> = (from..from + length).collect();
        let mut shape = x.shape.to_vec();
        shape[axis] = length;
        made.push(taken(builder, &x, axis, &list, &shape)?);
        from += length;
    }
    Ok(made)
}

pub(super) fn gather(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let (x, indices) = (at.input(0)?.clone(), at.input(1)?.clone());
    let axis = at.axis(at.int_or("axis", 0)?, x.shape.len())?;
    let shape: Vec<usize> =
        [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].into_iter().flatten().copied().collect();
    let size = x.shape[axis];
    if let Some(Values::I64(list)) = builder.known(&indices) {
        let list = list.iter().map(|i| at.axis(*i, size)).collect::<Result<Vec<_>, _>>()?;
        return Ok(vec![taken(builder, &x, axis, &list, &shape)?]);
    }
    if !matches!(indices.kind, Kind::I64 | Kind::I32) || size == 0 {
        return Err(at.refused("takes places that are no whole numbers"));
    }
    Ok(vec![looked_up(builder, (&x, axis), &indices, &shape)?])
}

/// Takes places along an axis that the data says.
pub(super) fn looked_up(
    builder: &mut Builder,
    (x, axis): (&Slot, usize),
    indices: &Slot,
    shape: &[usize],
) -> Result<Slot, Unfit> {
    x.form()?;
    let seen = along(&x.shape, axis);
    let constant = |slot: &Slot| matches!(slot.source, Source::Constant(_));
    let kernel = Kernel::Lookup(Lookup {
        outer: seen.outer,
        axis: seen.length,
        inner: seen.inner,
        indices: indices.numbers(),
        constant_indices: constant(indices),
        constant_numbers: constant(x),
    });
    builder.emit_one(kernel, &[x, indices], x.kind, shape)
}

pub(super) fn expand(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let asked = at.known_ints(builder, 1)?.ok_or_else(|| at.refused("says not which shape"))?;
    let sizes: Option<Vec<usize>> = asked.iter().map(|n| usize::try_from(*n).ok()).collect();
    let sizes = sizes.ok_or_else(|| at.refused(&format!("asks for the shape {asked:?}")))?;
    let shape = broadcast(at, &x.shape, &sizes)?;
    if Builder::room(&shape)? == x.numbers() {
        return Ok(vec![x.reshaped(shape)?]);
    }
    Ok(vec![picked(builder, &x, &shape, places(&x.shape, &shape), 0.0)?])
}

pub(super) fn tile(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let times = at.known_ints(builder, 1)?.ok_or_else(|| at.refused("says not how often"))?;
    let times: Option<Vec<usize>> = times.iter().map(|n| usize::try_from(*n).ok()).collect();
    let times =
        times.filter(|t| t.len() == x.shape.len()).ok_or_else(|| at.refused("repeats other axes than it has"))?;
    let sizes: Option<Vec<usize>> = x.shape.iter().zip(&times).map(|(s, t)| s.checked_mul(*t)).collect();
    let sizes = sizes.ok_or_else(|| at.refused("repeats more often than can be counted"))?;
    Builder::room(&sizes)?;
    let strides = strides(&x.shape);
    let axis = |a: usize| (0..sizes[a]).map(|i| Some((i % x.shape[a] * strides[a]) as u32)).collect();
    let axes: Vec<_> = (0..sizes.len()).map(axis).collect();
    Ok(vec![picked(builder, &x, &sizes, crossed(&axes), 0.0)?])
}

pub(super) fn pad(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let rank = x.shape.len();
    let pads = at.listed(builder, "pads", 1)?.ok_or_else(|| at.refused("says not how much"))?;
    let axes = match at.known_ints(builder, 3)? {
        Some(list) => list.iter().map(|a| at.axis(*a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(at.refused(&format!("has {} sizes for {} axes", pads.len(), axes.len())));
    }
    let fill = match at.optional(2).map(|slot| builder.known(slot)) {
        None => f64::from(at.float_or("value", 0.0)?),
        Some(Some(Values::F32(v))) => v.first().map_or(0.0, |n| f64::from(*n)),
        Some(Some(Values::I64(v))) => v.first().map_or(0.0, |n| *n as f64),
        Some(_) => return Err(at.unsupported("computes its padding from the data")),
    };
    let mut around = vec![(0, 0); rank];
    for (i, axis) in axes.iter().enumerate() {
        around[*axis] = (pads[i], pads[i + axes.len()]);
    }
    let mut sizes = Vec::new();
    for (size, (before, after)) in x.shape.iter().zip(&around) {
        let wide = (*size as i64).checked_add(*before).and_then(|n| n.checked_add(*after));
        let wide = wide.and_then(|n| usize::try_from(n).ok());
        sizes.push(wide.ok_or_else(|| at.refused("takes away more than there is"))?);
    }
    Builder::room(&sizes)?;
    let mode = at.text_or("mode", "constant")?;
    let strides = strides(&x.shape);
    let mut lists = Vec::new();
    for (axis, wide) in sizes.iter().enumerate() {
        let (size, before) = (x.shape[axis] as i64, around[axis].0);
        let place = |i: usize| -> Option<i64> {
            let at = i as i64 - before;
            match mode {
                _ if (0..size).contains(&at) => Some(at),
                "edge" if size > 0 => Some(at.clamp(0, size - 1)),
                "reflect" if size > 1 => Some(mirrored(at, size)),
                _ => None,
            }
        };
        let stride = strides[axis];
        lists.push((0..*wide).map(|i| place(i).map(|p| (p as usize * stride) as u32)).collect::<Vec<_>>());
    }
    match mode {
        "constant" | "edge" | "reflect" => Ok(vec![picked(builder, &x, &sizes, crossed(&lists), fill)?]),
        other => Err(at.unsupported(&format!("pads by the mode {other}"))),
    }
}

/// A place beyond the ends, mirrored at them without repeating them.
fn mirrored(at: i64, size: i64) -> i64 {
    let period = 2 * (size - 1);
    let at = at.rem_euclid(period);
    if at < size { at } else { period - at }
}

pub(super) fn triangle(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let k = at.known_ints(builder, 1)?.and_then(|list| list.first().copied()).unwrap_or(0);
    let upper = at.int_or("upper", 1)? != 0;
    let [.., lines, columns] = *x.shape else { return Err(at.refused("takes the triangle of no matrix")) };
    let keep = |i: usize| {
        let (line, column) = ((i / columns % lines) as i64, (i % columns) as i64);
        let distance = column - line;
        if upper { distance >= k } else { distance <= k }
    };
    let list = (0..x.numbers()).map(|i| if keep(i) { i as u32 } else { NOWHERE }).collect();
    let shape = x.shape.to_vec();
    Ok(vec![picked(builder, &x, &shape, list, 0.0)?])
}

pub(super) fn concat(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let first = at.input(0)?;
    let axis = at.axis(at.int_or("axis", 1)?, first.shape.len())?;
    let all: Vec<&Slot> = at.inputs().collect();
    joined(builder, at, &all, axis).map(|slot| vec![slot])
}

/// Tensors one after the other along `axis`; empty ones add nothing.
pub(super) fn joined(builder: &mut Builder, at: &At<'_>, all: &[&Slot], axis: usize) -> Result<Slot, Unfit> {
    let Some(first) = all.first() else { return Err(at.refused("joins nothing")) };
    let mut shape = first.shape.to_vec();
    shape[axis] = 0;
    let mut parts = Vec::new();
    let mut inputs = Vec::new();
    for slot in all {
        let others = |shape: &[usize]| (0..shape.len()).filter(|a| *a != axis).map(|a| shape[a]).collect::<Vec<_>>();
        if slot.kind != first.kind || slot.shape.len() != shape.len() || others(&slot.shape) != others(&shape) {
            return Err(at.refused(&format!("joins shapes {:?} and {:?}", first.shape, slot.shape)));
        }
        slot.form()?;
        let seen = along(&slot.shape, axis);
        shape[axis] = shape[axis].saturating_add(seen.length);
        if seen.length > 0 {
            parts.push(Part { length: seen.length * seen.inner, constant: matches!(slot.source, Source::Constant(_)) });
            inputs.push(*slot);
        }
    }
    let outer = shape[..axis].iter().product();
    if let [one] = inputs.as_slice() {
        return one.reshaped(shape);
    }
    builder.emit_one(Kernel::Concat(Concat { parts: parts.into(), outer }), &inputs, first.kind, &shape)
}
