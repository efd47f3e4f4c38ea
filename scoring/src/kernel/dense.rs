//! Rows times a matrix, plus a bias, through an activation.
//!
//! Weights are packed once into panels of sixteen outputs, each panel running down the inputs, so that the inner loop reads one
//! stream. A tile of rows and panels is held in registers. Each output is one running sum over the inputs in their order,
//! starting from the bias (long inputs with few outputs: [`PARTS`] sums over [`PARTS`] quarters, added in order), and that order
//! depends on the layer's shape only, never on the number of rows: a row alone and a row among many give the same bits.

use super::Refused;
use super::elementary::Function;
use super::lanes::{Block, Body, Isa, Lanes, WIDTH};

pub(crate) mod tile;

use tile::{Bend, Matrix, Order};

/// Most numbers that packed weights may take (256 MiB): a matrix with one output grows sixteenfold when packed.
const PACKED_MAX: usize = 1 << 26;
/// Sums that long inputs with few outputs are cut into, so that additions need not wait for each other.
const PARTS: usize = 4;
/// From how many inputs on, and up to how many panels.
const PARTED_INPUTS_MIN: usize = 64;
const PARTED_PANELS_MAX: usize = 2;

/// A matrix in panels of sixteen columns: panel by panel, in each the rows of sixteen numbers, filled up with zeros.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    inputs: usize,
    outputs: usize,
    blocks: Vec<Block>,
}

impl Panels {
    /// Packs a matrix of `inputs` rows and `outputs` columns, row by row as ONNX has the right side of MatMul.
    pub(crate) fn new(inputs: usize, outputs: usize, matrix: &[f32]) -> Result<Self, Refused> {
        let mut panels = Panels::empty(inputs, outputs, matrix.len())?;
        pack(outputs, matrix, inputs, &mut panels.blocks);
        Ok(panels)
    }

    /// Packs the transpose of a matrix of `outputs` rows and `inputs` columns, as PyTorch has the weights of Linear.
    pub(crate) fn of_transposed(inputs: usize, outputs: usize, matrix: &[f32]) -> Result<Self, Refused> {
        let mut panels = Panels::empty(inputs, outputs, matrix.len())?;
        pack_transposed(matrix, inputs, &mut panels.blocks);
        Ok(panels)
    }

    /// Numbers of a product's row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// For bodies that multiply: no bias, not bent, in the order that the shape calls for.
    #[inline(always)]
    pub(super) fn matrix(&self) -> Matrix<'_> {
        let Panels { inputs, outputs, ref blocks } = *self;
        Matrix { inputs, outputs, blocks, bias: &[], bend: Bend::Straight, order: Order::ByShape }
    }

    fn empty(inputs: usize, outputs: usize, len: usize) -> Result<Self, Refused> {
        if inputs.checked_mul(outputs) != Some(len) {
            return Err(Refused(format!("a matrix of {inputs} inputs and {outputs} outputs has {len} numbers")));
        }
        Ok(Panels { inputs, outputs, blocks: vec![[0.0; WIDTH]; packed_blocks(inputs, outputs)?] })
    }
}

/// Blocks that a matrix takes when packed.
fn packed_blocks(inputs: usize, outputs: usize) -> Result<usize, Refused> {
    if inputs == 0 || outputs == 0 {
        return Err(Refused(format!("a matrix of {inputs} inputs and {outputs} outputs has no numbers")));
    }
    let packed = outputs.div_ceil(WIDTH).checked_mul(inputs);
    packed.filter(|blocks| *blocks <= PACKED_MAX / WIDTH).ok_or_else(|| {
        Refused(format!(
            "a matrix of {inputs} inputs and {outputs} outputs takes more than {PACKED_MAX} numbers packed"
        ))
    })
}

/// Sixteen columns at a time of a matrix whose rows have `outputs` numbers.
fn pack(outputs: usize, matrix: &[f32], inputs: usize, blocks: &mut [Block]) {
    for (panel, columns) in blocks.chunks_exact_mut(inputs).zip((0..outputs).step_by(WIDTH)) {
        let width = WIDTH.min(outputs - columns);
        for (block, row) in panel.iter_mut().zip(matrix.chunks_exact(outputs)) {
            block[..width].copy_from_slice(&row[columns..columns + width]);
            block[width..].fill(0.0);
        }
    }
}

/// Sixteen rows at a time of a matrix whose rows have `inputs` numbers.
fn pack_transposed(matrix: &[f32], inputs: usize, blocks: &mut [Block]) {
    for (panel, rows) in blocks.chunks_exact_mut(inputs).zip(matrix.chunks(inputs * WIDTH)) {
        let width = rows.len() / inputs;
        for (input, block) in panel.iter_mut().enumerate() {
            for (lane, place) in block.iter_mut().enumerate() {
                *place = if lane < width { rows[lane * inputs + input] } else { 0.0 };
            }
        }
    }
}

/// A dense layer: `activation(x W + b)`.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    lanes: Lanes,
    weights: Panels,
    /// One block for each panel.
    bias: Vec<Block>,
    bend: Bend,
    /// An activation too large for the inner loops: a pass of its own over what came out.
    after: Option<Function>,
}

impl Dense {
    /// A layer of packed weights; no bias is a bias of zeros.
    pub(crate) fn new(weights: Panels, bias: Option<&[f32]>, activation: Option<Function>) -> Result<Self, Refused> {
        let outputs = weights.outputs;
        let mut blocks = vec![[0.0; WIDTH]; outputs.div_ceil(WIDTH)];
        if let Some(bias) = bias {
            if bias.len() != outputs {
                return Err(Refused(format!("a bias of {} numbers for {outputs} outputs", bias.len())));
            }
            blocks.as_flattened_mut()[..outputs].copy_from_slice(bias);
        }
        let (bend, after) = split(activation);
        Ok(Dense { lanes: Lanes::detected(), weights, bias: blocks, bend, after })
    }

    /// Numbers of a row that goes in.
    pub(crate) fn inputs(&self) -> usize {
        self.weights.inputs
    }

    /// Numbers of a row that comes out.
    pub(crate) fn outputs(&self) -> usize {
        self.weights.outputs
    }

    /// `rows` rows of [`Dense::inputs`] numbers to as many of [`Dense::outputs`].
    pub(crate) fn run(&self, rows: usize, input: &[f32], out: &mut [f32]) {
        self.lanes.run(Times { matrix: &self.matrix(), rows, left: input, out });
        if let Some(function) = self.after {
            let filled = rows.saturating_mul(self.outputs()).min(out.len());
            function.apply(self.lanes, &mut out[..filled]);
        }
    }

    /// For kernels that multiply inside a body of their own. Activations that do not bend are left to them.
    #[inline(always)]
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix { bias: &self.bias, bend: self.bend, ..self.weights.matrix() }
    }
}

/// What is done in the inner loops, and what after them.
pub(super) fn split(activation: Option<Function>) -> (Bend, Option<Function>) {
    match activation {
        None => (Bend::Straight, None),
        Some(Function::Relu) => (Bend::Relu, None),
        Some(function) => (Bend::Straight, Some(function)),
    }
}

/// How the right side of a [`Product`] lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RightSide {
    /// A row for each input, as in MatMul.
    Plain,
    /// A row for each output: the transpose is meant.
    Transposed,
}

/// Rows times a matrix that is not known beforehand (attention). The right side is packed anew at each run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    lanes: Lanes,
    inputs: usize,
    outputs: usize,
    right_side: RightSide,
}

impl Product {
    /// Rows of `inputs` numbers times a matrix with as many rows and `outputs` columns.
    pub(crate) fn new(inputs: usize, outputs: usize, right_side: RightSide) -> Result<Self, Refused> {
        packed_blocks(inputs, outputs)?;
        Ok(Product { lanes: Lanes::detected(), inputs, outputs, right_side })
    }

    /// Numbers of scratch that [`Product::run`] wants.
    pub(crate) fn scratch(&self) -> usize {
        self.outputs.div_ceil(WIDTH) * self.inputs * WIDTH
    }

    /// `out = left right`, with `rows` rows on the left.
    pub(crate) fn run(&self, rows: usize, left: &[f32], right: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let blocks = scratch.as_chunks_mut::<WIDTH>().0;
        let Some(blocks) = blocks.get_mut(..outputs.div_ceil(WIDTH) * inputs) else { return };
        let Some(right) = right.get(..inputs * outputs) else { return };
        match self.right_side {
            RightSide::Plain => pack(outputs, right, inputs, blocks),
            RightSide::Transposed => pack_transposed(right, inputs, blocks),
        }
        let matrix = Matrix { inputs, outputs, blocks, bias: &[], bend: Bend::Straight, order: Order::ByShape };
        self.lanes.run(Times { matrix: &matrix, rows, left, out });
    }
}

struct Times<'a> {
    matrix: &'a Matrix<'a>,
    rows: usize,
    left: &'a [f32],
    out: &'a mut [f32],
}

impl Body for Times<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        tile::product(isa, self.matrix, self.rows, self.left, self.out);
    }
}

#[cfg(test)]
mod tests;
