//! Weights of gates, from ONNX's order (gate by gate) to that of the inner loops: sixteen units at a time, all their gates.

use super::super::Refused;
use super::super::lanes::{Block, WIDTH};
use super::Size;

/// Most numbers that one layer's packed weights may take (256 MiB): few hidden units grow up to sixteenfold.
const PACKED_MAX: usize = 1 << 26;

/// The checked slice of one way out of `[ways, len]` numbers.
pub(super) fn share<'a>(
    name: &str,
    numbers: &'a [f32],
    ways: usize,
    way: usize,
    len: usize,
) -> Result<&'a [f32], Refused> {
    if ways.checked_mul(len) != Some(numbers.len()) {
        return Err(Refused(format!(
            "a recurrent layer whose {name} has {} numbers for {ways} times {len}",
            numbers.len()
        )));
    }
    Ok(&numbers[way * len..(way + 1) * len])
}

/// Refuses sizes of which nothing can be made.
pub(super) fn check(size: Size, gates: usize) -> Result<(), Refused> {
    let Size { inputs, hidden, .. } = size;
    if inputs == 0 || hidden == 0 {
        return Err(Refused(format!("a recurrent layer of {inputs} inputs and {hidden} hidden units has no numbers")));
    }
    let columns = hidden.div_ceil(WIDTH).checked_mul(gates * WIDTH);
    let packed = columns.and_then(|columns| inputs.checked_add(hidden)?.checked_mul(columns));
    match packed.filter(|numbers| *numbers <= PACKED_MAX) {
        Some(_) => Ok(()),
        None => Err(Refused(format!(
            "a recurrent layer of {inputs} inputs and {hidden} hidden units takes more than {PACKED_MAX} numbers packed"
        ))),
    }
}

/// Rows of weights for the gates `which`: `weights` is `[gates, hidden, inputs]`; what comes out is a column of `inputs` blocks
/// for each gate of each block of units.
pub(super) fn columns(size: Size, inputs: usize, which: &[usize], weights: &[f32]) -> Vec<Block> {
    let mut packed = Vec::with_capacity(size.blocks() * which.len() * inputs);
    for block in 0..size.blocks() {
        for gate in which {
            for input in 0..inputs {
                let weight = |unit: usize| weights[(gate * size.hidden + unit) * inputs + input];
                packed.push(lanes(size, block, weight));
            }
        }
    }
    packed
}

/// A block for each gate of each block of units, out of `[gates, hidden]` numbers.
pub(super) fn rows(size: Size, which: &[usize], numbers: &[f32]) -> Vec<Block> {
    let mut packed = Vec::with_capacity(size.blocks() * which.len());
    for block in 0..size.blocks() {
        for gate in which {
            packed.push(lanes(size, block, |unit| numbers[gate * size.hidden + unit]));
        }
    }
    packed
}

fn lanes(size: Size, block: usize, number: impl Fn(usize) -> f32) -> Block {
    std::array::from_fn(|lane| {
        let unit = block * WIDTH + lane;
        if unit < size.hidden { number(unit) } else { 0.0 }
    })
}
