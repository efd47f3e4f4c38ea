//! Pools over one axis, norms, and distances: each made of steps that are there already.

use crate::engine::graph::{Attribute, Graph, Kind, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot};
use crate::engine::native::distance::Distances;
use crate::engine::native::movement::{NOWHERE, Pick};
use crate::engine::native::pair::{Binary, What};
use crate::engine::native::plan::Kernel;
use crate::engine::native::reduce::{Along, Fold, Normalise, Reduce};

use super::arithmetic::meet;
use super::reduce::along;

/// Settings of a pool over one axis.
struct Window {
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
}

fn only(at: &At<'_>, name: &str, default: usize) -> Result<usize, Unfit> {
    match at.ints(name)? {
        None => Ok(default),
        Some([n]) => usize::try_from(*n).map_err(|_| at.refused(&format!("has {name} {n}"))),
        Some(_) => Err(at.unsupported("goes over several axes")),
    }
}

fn window(at: &At<'_>) -> Result<Window, Unfit> {
    if at.text_or("auto_pad", "NOTSET")? != "NOTSET" || at.int_or("ceil_mode", 0)? != 0 {
        return Err(at.unsupported("pads by itself"));
    }
    let (before, after) = match at.ints("pads")? {
        None => (0, 0),
        Some([before, after]) => (usize::try_from(*before).unwrap_or(0), usize::try_from(*after).unwrap_or(0)),
        Some(_) => return Err(at.unsupported("goes over several axes")),
    };
    let window = Window {
        kernel: only(at, "kernel_shape", 0)?,
        stride: only(at, "strides", 1)?,
        dilation: only(at, "dilations", 1)?,
        before,
        after,
    };
    if window.kernel == 0 || window.stride == 0 || window.dilation == 0 {
        return Err(at.refused("has a window of no size, or no step"));
    }
    Ok(window)
}

pub(super) fn pool(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (Kind::F32, [batch, channels, length]) = (x.kind, &*x.shape) else {
        return Err(at.unsupported(&format!("goes over a tensor of shape {:?}", x.shape)));
    };
    let Window { kernel, stride, dilation, before, after } = window(at)?;
    let refused = || at.refused("has a window that does not fit");
    let reach = (kernel - 1).checked_mul(dilation).and_then(|n| n.checked_add(1)).ok_or_else(refused)?;
    let padded = length.checked_add(before).and_then(|n| n.checked_add(after)).ok_or_else(refused)?;
    let places = (padded.checked_sub(reach).ok_or_else(refused)?) / stride + 1;
    let spread = [*batch, *channels, places, kernel];
    Builder::room(&spread)?;
    let position = |place: usize, tap: usize| {
        let at = (place * stride + tap * dilation).checked_sub(before)?;
        (at < *length).then_some(at)
    };
    let one = |line: usize| {
        (0..places)
            .flat_map(move |p| (0..kernel).map(move |k| position(p, k).map_or(NOWHERE, |i| (line * length + i) as u32)))
    };
    let list: Vec<u32> = (0..batch * channels).flat_map(one).collect();
    let is_mean = at.node.operator == "AveragePool";
    let fill = if is_mean { 0.0 } else { f64::NEG_INFINITY };
    let picked = builder.emit_one(Kernel::Pick(Pick::new(list, x.numbers(), fill)), &[&x], Kind::F32, &spread)?;
    let along = Along { outer: batch * channels * places, length: kernel, inner: 1 };
    let fold = if is_mean { Fold::Sum } else { Fold::Max };
    let shape = [*batch, *channels, places];
    let pooled = builder.emit_one(Kernel::Reduce(Reduce { fold, along }), &[&picked], Kind::F32, &shape)?;
    if !is_mean {
        return Ok(vec![pooled]);
    }
    let with_padding = at.int_or("count_include_pad", 0)? != 0;
    let inside = |p: usize| (0..kernel).filter(|k| position(p, *k).is_some()).count();
    let counts = (0..places).map(|p| if with_padding { kernel } else { inside(p) } as f32).collect();
    let counts = builder.floats(&[places], counts)?;
    Ok(vec![meet(builder, at, What::Compute(Binary::Div), &pooled, &counts)?])
}

pub(super) fn global_pool(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let [batch, channels, rest @ ..] = &*x.shape else { return Err(at.refused("pools no channels")) };
    let length: usize = rest.iter().product();
    if x.kind != Kind::F32 || length == 0 {
        return Err(at.unsupported("pools no f32 numbers"));
    }
    let mut shape = vec![*batch, *channels];
    shape.resize(x.shape.len(), 1);
    let fold = if at.node.operator == "GlobalAveragePool" { Fold::Mean } else { Fold::Max };
    let along = Along { outer: batch * channels, length, inner: 1 };
    Ok(vec![builder.emit_one(Kernel::Reduce(Reduce { fold, along }), &[&x], Kind::F32, &shape)?])
}

/// Each channel by its own mean and variance, then scaled.
pub(super) fn instance_normalization(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let [1, channels, rest @ ..] = &*x.shape else { return Err(at.unsupported("normalises no channels")) };
    let (channels, length) = (*channels, rest.iter().product::<usize>());
    if x.kind != Kind::F32 || length == 0 {
        return Err(at.unsupported("normalises no f32 numbers"));
    }
    let (scale, offset) = (vec![1.0; length].into(), vec![0.0; length].into());
    let kernel = Kernel::Normalise(Normalise { length, epsilon: at.float_or("epsilon", 1e-5)?, scale, offset });
    let mut result = builder.emit_one(kernel, &[&x], Kind::F32, &x.shape)?;
    let mut shape = vec![channels];
    shape.resize(x.shape.len() - 1, 1);
    for (with, i) in [(Binary::Mul, 1), (Binary::Add, 2)] {
        let factor = at.input(i)?.reshaped(shape.clone())?;
        result = meet(builder, at, What::Compute(with), &result, &factor)?;
    }
    Ok(vec![result])
}

/// Along one axis by its own length; a line of zeros stays one.
pub(super) fn lp_normalization(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let axis = at.axis(at.int_or("axis", -1)?, x.shape.len())?;
    let fold = match at.int_or("p", 2)? {
        1 => Fold::SumOfAbsolutes,
        2 => Fold::Root,
        p => return Err(at.refused(&format!("has the norm {p}"))),
    };
    if x.kind != Kind::F32 || x.shape[axis] == 0 {
        return Err(at.unsupported("normalises no f32 numbers"));
    }
    let mut shape = x.shape.to_vec();
    shape[axis] = 1;
    let kernel = Kernel::Reduce(Reduce { fold, along: along(&x.shape, axis) });
    let norm = builder.emit_one(kernel, &[&x], Kind::F32, &shape)?;
    let least = builder.constant(Kind::F32, &[], Values::F32(vec![f32::MIN_POSITIVE]))?;
    let norm = meet(builder, at, What::Compute(Binary::Max), &norm, &least)?;
    Ok(vec![meet(builder, at, What::Compute(Binary::Div), &x, &norm)?])
}

/// `Scan` in the one form that scikit-learn's converter writes: squared distances to known points, one after the other.
pub(super) fn scan(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let form = || at.unsupported("is no list of squared distances to known points");
    let Some(Attribute::Graphs(graphs)) = at.node.attributes.get("body") else { return Err(form()) };
    let [body] = graphs.as_slice() else { return Err(form()) };
    if !is_distance(body) || at.int_or("num_scan_inputs", 1)? != 1 {
        return Err(form());
    }
    let (x, points) = (at.input(0)?.clone(), at.input(1)?.clone());
    let (Kind::F32, [1, columns], [count, same]) = (x.kind, &*x.shape, &*points.shape) else { return Err(form()) };
    if columns != same || *columns == 0 || *count == 0 {
        return Err(form());
    }
    let known = builder.known_floats(&points).ok_or_else(form)?;
    let kernel = Kernel::Distances(Distances::new(*columns, known));
    let distances = builder.emit_one(kernel, &[&x], Kind::F32, &[*count, 1])?;
    Ok(vec![x, distances])
}

/// Whether a body is `next_out = next_in; out = sum((next_in - next)^2)`.
fn is_distance(body: &Graph) -> bool {
    let named = |operator: &str| body.nodes.iter().find(|n| n.operator == operator);
    let (Some(difference), Some(square)) = (named("Sub"), named("ReduceSumSquare")) else { return false };
    let copies: Vec<_> = body.nodes.iter().filter(|n| n.operator == "Identity").collect();
    let [state, point] = body.inputs.as_slice() else { return false };
    let [state_out, distance_out] = body.outputs.as_slice() else { return false };
    let copied = |from: &str, to: &str| copies.iter().any(|n| n.inputs == [from] && n.outputs == [to]);
    let rows = match square.attributes.get("axes") {
        Some(Attribute::Ints(axes)) => axes.as_slice() == [1],
        Some(_) | None => false,
    };
    let flat = matches!(square.attributes.get("keepdims"), Some(Attribute::Int(0)));
    body.nodes.len() == copies.len() + 2
        && rows
        && flat
        && difference.inputs == [state.name.as_str(), point.name.as_str()]
        && square.inputs == difference.outputs
        && copied(&state.name, state_out)
        && square.outputs.first().is_some_and(|o| copied(o, distance_out))
}
