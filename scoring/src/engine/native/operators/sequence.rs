//! `LSTM`, `GRU`, and `Conv` and `ConvTranspose` over one axis.

use crate::engine::graph::Kind;
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot, Source};
use crate::engine::native::plan::Kernel;
use crate::engine::native::sequence::{Beginning, Convolve, Layer, Recurrent, Taps};
use crate::kernel::convolution::{Padding, TransposedNumbers};
use crate::kernel::recurrent::activation::functions;
use crate::kernel::recurrent::gru::{Gru, GruNumbers, Reset};
use crate::kernel::recurrent::lstm::{Lstm, LstmNumbers};
use crate::kernel::recurrent::{Direction, Sequence, Size};

/// An input whose numbers must be known; `None` = it is not given.
fn weights<'b>(builder: &'b Builder, at: &At<'_>, i: usize) -> Result<Option<&'b [f32]>, Unfit> {
    let Some(slot) = at.optional(i) else { return Ok(None) };
    match builder.known_floats(slot) {
        Some(list) => Ok(Some(list)),
        None => Err(at.unsupported(&format!("computes its input {i} from the data"))),
    }
}

pub(super) fn recurrent(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let is_lstm = at.node.operator == "LSTM";
    let x = at.input(0)?.clone();
    let (Kind::F32, [steps, rows, inputs]) = (x.kind, &*x.shape) else {
        return Err(at.refused(&format!("reads a sequence of shape {:?}", x.shape)));
    };
    if at.int_or("layout", 0)? != 0 {
        return Err(at.unsupported("has its batch first"));
    }
    if let Some(lengths) = at.known_ints(builder, 4)?
        && lengths.iter().any(|n| usize::try_from(*n) != Ok(*steps))
    {
        return Err(at.unsupported("reads sequences of different lengths"));
    }
    let direction = match at.text_or("direction", "forward")? {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        other => return Err(at.refused(&format!("reads in direction {other}"))),
    };
    let ways = direction.ways();
    let weighed = at.input(1)?.shape.clone();
    let gates = if is_lstm { 4 } else { 3 };
    let hidden = match (&*weighed, at.int("hidden_size")?) {
        ([_, all, _], None) => all / gates,
        (_, Some(hidden)) => usize::try_from(hidden).unwrap_or(0),
        (_, None) => 0,
    };
    if *weighed != [ways, gates * hidden, *inputs] || hidden == 0 || *inputs == 0 || *steps == 0 || *rows == 0 {
        return Err(at.refused(&format!("has weights of shape {weighed:?} for {inputs} inputs and {hidden} units")));
    }
    let size = Size { inputs: *inputs, hidden, direction };
    let layer = layer(builder, at, size, is_lstm)?;
    let sequence = Sequence { steps: *steps, rows: *rows };
    let state = [ways, *rows, hidden];
    let (begin, slots) = beginnings(at, &x, &state, is_lstm)?;
    let step = Recurrent { layer, size, sequence, hidden: begin[0], cell: begin[1] };
    if step.scratch().is_none_or(|n| Builder::room(&[n]).is_err()) {
        return Err(at.refused("is larger than a row may be"));
    }
    let every: &[usize] = &[*steps, ways, *rows, hidden];
    let mut outputs = vec![(Kind::F32, every), (Kind::F32, &state[..])];
    if is_lstm {
        outputs.push((Kind::F32, &state[..]));
    }
    builder.emit(Kernel::Recurrent(step), &slots.iter().collect::<Vec<_>>(), &outputs)
}

/// The states to begin with, and all slots that the step reads.
fn beginnings(
    at: &At<'_>,
    x: &Slot,
    state: &[usize],
    is_lstm: bool,
) -> Result<([Option<Beginning>; 2], Vec<Slot>), Unfit> {
    let mut slots = vec![x.clone()];
    let mut begin = [None, None];
    for (i, input) in [5, 6].into_iter().enumerate().take(if is_lstm { 2 } else { 1 }) {
        let Some(slot) = at.optional(input) else { continue };
        if *slot.shape != *state || slot.kind != Kind::F32 {
            return Err(at.refused(&format!("begins with a state of shape {:?}, not {state:?}", slot.shape)));
        }
        begin[i] = Some(Beginning { input: slots.len(), constant: matches!(slot.source, Source::Constant(_)) });
        slots.push(slot.clone());
    }
    Ok((begin, slots))
}

fn layer(builder: &Builder, at: &At<'_>, size: Size, is_lstm: bool) -> Result<Layer, Unfit> {
    let refused = |e: crate::kernel::Refused| at.refused(&e.to_string());
    let missing = || at.refused("lacks its weights");
    let (of_input, recurrence) = (weights(builder, at, 1)?.ok_or_else(missing)?, weights(builder, at, 2)?);
    let (recurrence, bias) = (recurrence.ok_or_else(missing)?, weights(builder, at, 3)?);
    let names: Vec<&str> = at.texts("activations")?.iter().map(String::as_str).collect();
    let (alphas, betas) = (at.floats("activation_alpha")?, at.floats("activation_beta")?);
    let activations = functions(&names, alphas, betas).map_err(refused)?;
    let clip = at.float("clip")?;
    if is_lstm {
        let numbers = LstmNumbers {
            size,
            weights: of_input,
            recurrence,
            bias,
            peepholes: weights(builder, at, 7)?,
            activations: &activations,
            clip,
            is_coupled: at.int_or("input_forget", 0)? != 0,
        };
        return Ok(Layer::Lstm(Box::new(Lstm::new(numbers).map_err(refused)?)));
    }
    let reset = if at.int_or("linear_before_reset", 0)? != 0 { Reset::AfterProduct } else { Reset::BeforeProduct };
    let numbers = GruNumbers { size, weights: of_input, recurrence, bias, activations: &activations, clip, reset };
    Ok(Layer::Gru(Box::new(Gru::new(numbers).map_err(refused)?)))
}

/// One number of a list that has one for each spatial axis.
fn only(at: &At<'_>, name: &str, default: usize) -> Result<usize, Unfit> {
    match at.ints(name)? {
        None => Ok(default),
        Some([n]) => usize::try_from(*n).map_err(|_| at.refused(&format!("has {name} {n}"))),
        Some(list) => Err(at.refused(&format!("has {} {name} for one axis", list.len()))),
    }
}

fn padding(at: &At<'_>) -> Result<Padding, Unfit> {
    match at.text_or("auto_pad", "NOTSET")? {
        "NOTSET" => {}
        "VALID" => return Ok(Padding::Valid),
        "SAME_UPPER" => return Ok(Padding::SameUpper),
        "SAME_LOWER" => return Ok(Padding::SameLower),
        other => return Err(at.refused(&format!("pads by {other}"))),
    }
    let size = |n: &i64| usize::try_from(*n).map_err(|_| at.unsupported("takes away from its input"));
    match at.ints("pads")? {
        None => Ok(Padding::Given { before: 0, after: 0 }),
        Some([before, after]) => Ok(Padding::Given { before: size(before)?, after: size(after)? }),
        Some(list) => Err(at.refused(&format!("has {} pads for one axis", list.len()))),
    }
}

pub(super) fn convolution(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let shape = at.input(1)?.shape.clone();
    let (Kind::F32, [batch, channels, length], [first, second, kernel]) = (x.kind, &*x.shape, &*shape) else {
        return Err(at.unsupported(&format!("goes over a tensor of shape {:?}", x.shape)));
    };
    let is_transposed = at.node.operator == "ConvTranspose";
    let groups = usize::try_from(at.int_or("group", 1)?).unwrap_or(0);
    let stride = only(at, "strides", 1)?;
    if groups == 0 || stride == 0 || *batch != 1 {
        return Err(at.refused(&format!("has {groups} groups, stride {stride} and a batch of {batch}")));
    }
    let (channels, length, kernel) = (*channels, *length, *kernel);
    let outputs = if is_transposed { second.saturating_mul(groups) } else { *first };
    let weighed = weights(builder, at, 1)?.ok_or_else(|| at.refused("lacks its weights"))?.to_vec();
    let fits = if is_transposed { *first == channels } else { second.checked_mul(groups) == Some(channels) };
    if !fits {
        return Err(at.refused(&format!("has weights of shape {shape:?} for {channels} channels")));
    }
    let more = TransposedNumbers {
        output_padding: only(at, "output_padding", 0)?,
        output_length: match at.ints("output_shape")? {
            Some([n]) => Some(usize::try_from(*n).map_err(|_| at.refused("has a negative length"))?),
            Some(list) => return Err(at.refused(&format!("has {} lengths for one axis", list.len()))),
            None => None,
        },
    };
    let taps = Taps {
        channels,
        length,
        outputs,
        kernel,
        groups,
        stride,
        dilation: only(at, "dilations", 1)?,
        padding: padding(at)?,
        weights: weighed,
        bias: weights(builder, at, 2)?.map(<[f32]>::to_vec),
        transposed: is_transposed.then_some(more),
    };
    let step = Convolve::new(taps).map_err(|e| at.refused(&e.to_string()))?;
    Builder::room(&[step.scratch()])?;
    let [outputs, length] = step.shape();
    Ok(vec![builder.emit_one(Kernel::Convolve(Box::new(step)), &[&x], Kind::F32, &[1, outputs, length])?])
}
