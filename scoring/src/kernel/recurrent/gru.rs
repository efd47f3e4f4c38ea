//! The GRU cell, in both of ONNX's forms.

use super::super::Refused;
use super::super::dense::tile::{self, Bend, Matrix, Order};
use super::super::elementary::Function;
use super::super::elementary::approximate::{at_least, at_most};
use super::super::lanes::{Block, Isa, Lanes, WIDTH};
use super::activation::{self, Squash};
use super::{Cell, Recurrent, Size, pack};

/// A GRU layer.
pub(crate) type Gru = Recurrent<GruCell>;

/// Where the reset gate is applied (ONNX: linear_before_reset).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// To the hidden units, before they are multiplied: ONNX's default.
    BeforeProduct,
    /// To the product: PyTorch's way.
    AfterProduct,
}

/// A layer's numbers as the ONNX node has them; gates in the order z, r, h.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GruNumbers<'a> {
    /// How large it is.
    pub(crate) size: Size,
    /// W, `[ways, 3 hidden, inputs]`.
    pub(crate) weights: &'a [f32],
    /// R, `[ways, 3 hidden, hidden]`.
    pub(crate) recurrence: &'a [f32],
    /// B, `[ways, 6 hidden]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Two functions a way from [`activation::functions`]; empty for sigmoid, tanh.
    pub(crate) activations: &'a [Function],
    /// Gates are held within plus and minus this before they are bent.
    pub(crate) clip: Option<f32>,
    /// Where the reset gate is applied.
    pub(crate) reset: Reset,
}

/// One way's packed weights.
#[derive(Clone, Debug)]
pub(crate) struct GruCell {
    size: Size,
    of_input: Vec<Block>,
    bias: Vec<Block>,
    /// For z and r together, then for h.
    of_hidden: [Vec<Block>; 2],
    /// What is added to the product for h before it is reset; zeros in ONNX's default form.
    bias_of_product: Vec<Block>,
    squash: [Squash; 2],
    clip: Option<f32>,
    reset: Reset,
}

const GATES: [usize; 3] = [0, 1, 2];

impl Gru {
    /// Checks and packs the weights.
    pub(crate) fn new(numbers: GruNumbers<'_>) -> Result<Self, Refused> {
        let size = numbers.size;
        pack::check(size, GATES.len())?;
        let own = [Function::Sigmoid, Function::Tanh];
        let squashes = activation::of_each_way(numbers.activations, size.direction.ways(), own)?;
        let ways = squashes.into_iter().enumerate().map(|(way, squash)| cell(&numbers, way, squash));
        Ok(Recurrent { lanes: Lanes::detected(), size, ways: ways.collect::<Result<_, _>>()? })
    }
}

fn cell(numbers: &GruNumbers<'_>, way: usize, squash: [Squash; 2]) -> Result<GruCell, Refused> {
    let (size, ways) = (numbers.size, numbers.size.direction.ways());
    let Size { inputs, hidden, .. } = size;
    let weights = pack::share("weights (W)", numbers.weights, ways, way, 3 * hidden * inputs)?;
    let recurrence = pack::share("recurrence (R)", numbers.recurrence, ways, way, 3 * hidden * hidden)?;
    let mut bias = vec![0.0; 3 * hidden];
    let mut of_product = vec![0.0; hidden];
    if let Some(both) = numbers.bias {
        let (of_input, of_hidden) = pack::share("bias (B)", both, ways, way, 6 * hidden)?.split_at(3 * hidden);
        bias.copy_from_slice(of_input);
        // The hidden side's share of h's bias is reset with the product where the product is.
        let summed = match numbers.reset {
            Reset::BeforeProduct => 3 * hidden,
            Reset::AfterProduct => 2 * hidden,
        };
        bias.iter_mut().zip(&of_hidden[..summed]).for_each(|(sum, b)| *sum += b);
        of_product.copy_from_slice(&of_hidden[2 * hidden..]);
        if numbers.reset == Reset::BeforeProduct {
            of_product.fill(0.0);
        }
    }
    Ok(GruCell {
        size,
        of_input: pack::columns(size, inputs, &GATES, weights),
        bias: pack::rows(size, &GATES, &bias),
        of_hidden: [pack::columns(size, hidden, &[0, 1], recurrence), pack::columns(size, hidden, &[2], recurrence)],
        bias_of_product: pack::rows(size, &[0], &of_product),
        squash,
        clip: numbers.clip,
        reset: numbers.reset,
    })
}

impl Cell for GruCell {
    const GATES: usize = GATES.len();
    const STATES: usize = 1;

    fn of_input(&self) -> Matrix<'_> {
        let (inputs, outputs) = (self.size.inputs, self.bias.len() * WIDTH);
        let (blocks, bias) = (&self.of_input, &self.bias);
        Matrix { inputs, outputs, blocks, bias, bend: Bend::Straight, order: Order::ByShape }
    }

    #[inline(always)]
    fn step<I: Isa>(&self, isa: I, gates: &[Block], now: &[f32], memory: &mut [Block], next: &mut [Block]) {
        match self.reset {
            Reset::AfterProduct => self.step_reset_after(isa, gates, now, next),
            Reset::BeforeProduct => self.step_reset_before(isa, gates, now, memory, next),
        }
    }
}

impl GruCell {
    #[inline(always)]
    fn step_reset_after<I: Isa>(&self, isa: I, gates: &[Block], now: &[f32], next: &mut [Block]) {
        let (starts, _) = gates.as_chunks::<3>();
        for (block, start) in starts.iter().enumerate() {
            let columns = [self.early(block, 0), self.early(block, 1), self.late(block)];
            let start_sums = [start[0], start[1], self.bias_of_product[block]];
            let [[update, reset, product]] = tile::sums::<I, 1, 3>(isa, [now], columns, [start_sums]);
            let reset = self.squash[0].bend(isa, self.clipped(reset));
            let mut new = start[2];
            for lane in 0..WIDTH {
                new[lane] = isa.mul_add(reset[lane], product[lane], new[lane]);
            }
            next[block] = self.mixed(isa, update, new, now, block);
        }
    }

    /// `memory` holds the hidden units after their reset, within this step only.
    #[inline(always)]
    fn step_reset_before<I: Isa>(
        &self,
        isa: I,
        gates: &[Block],
        now: &[f32],
        memory: &mut [Block],
        next: &mut [Block],
    ) {
        let (starts, _) = gates.as_chunks::<3>();
        for (block, start) in starts.iter().enumerate() {
            let columns = [self.early(block, 0), self.early(block, 1)];
            let [[update, reset]] = tile::sums::<I, 1, 2>(isa, [now], columns, [[start[0], start[1]]]);
            let (reset, units) = (self.squash[0].bend(isa, self.clipped(reset)), units(now, block));
            for lane in 0..WIDTH {
                memory[block][lane] = reset[lane] * units[lane];
            }
            next[block] = update;
        }
        let kept = &memory.as_flattened()[..now.len()];
        for (block, start) in starts.iter().enumerate() {
            let [[new]] = tile::sums::<I, 1, 1>(isa, [kept], [self.late(block)], [[start[2]]]);
            next[block] = self.mixed(isa, next[block], new, now, block);
        }
    }

    #[inline(always)]
    fn early(&self, block: usize, gate: usize) -> &[Block] {
        &self.of_hidden[0][(block * 2 + gate) * self.size.hidden..][..self.size.hidden]
    }

    #[inline(always)]
    fn late(&self, block: usize) -> &[Block] {
        &self.of_hidden[1][block * self.size.hidden..][..self.size.hidden]
    }

    /// The new hidden units: between what is new and what was, by the update gate.
    #[inline(always)]
    fn mixed<I: Isa>(&self, isa: I, update: Block, new: Block, now: &[f32], block: usize) -> Block {
        let update = self.squash[0].bend(isa, self.clipped(update));
        let new = self.squash[1].bend(isa, self.clipped(new));
        let mut mixed = units(now, block);
        for lane in 0..WIDTH {
            mixed[lane] = isa.mul_add(update[lane], mixed[lane] - new[lane], new[lane]);
        }
        mixed
    }

    #[inline(always)]
    fn clipped(&self, mut sum: Block) -> Block {
        if let Some(clip) = self.clip {
            sum.iter_mut().for_each(|x| *x = at_least(at_most(*x, clip), -clip));
        }
        sum
    }
}

/// A block of the hidden units, filled up with zeros.
#[inline(always)]
fn units(now: &[f32], block: usize) -> Block {
    let rest = &now[block * WIDTH..];
    match rest.first_chunk() {
        Some(whole) => *whole,
        None => {
            let mut block = [0.0; WIDTH];
            block[..rest.len()].copy_from_slice(rest);
            block
        }
    }
}
