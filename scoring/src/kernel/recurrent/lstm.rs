//! The LSTM cell, with peepholes and clipping as ONNX has them.

use super::super::Refused;
use super::super::dense::tile::{self, Bend, Matrix, Order};
use super::super::elementary::Function;
use super::super::elementary::approximate::{at_least, at_most};
use super::super::lanes::{Block, Isa, Lanes, WIDTH};
use super::activation::{self, Squash};
use super::{Cell, Recurrent, Size, pack};

/// An LSTM layer.
pub(crate) type Lstm = Recurrent<LstmCell>;

/// A layer's numbers as the ONNX node has them; gates in the order i, o, f, c.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LstmNumbers<'a> {
    /// How large it is.
    pub(crate) size: Size,
    /// W, `[ways, 4 hidden, inputs]`.
    pub(crate) weights: &'a [f32],
    /// R, `[ways, 4 hidden, hidden]`.
    pub(crate) recurrence: &'a [f32],
    /// B, `[ways, 8 hidden]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// P, `[ways, 3 hidden]`, of i, o and f.
    pub(crate) peepholes: Option<&'a [f32]>,
    /// Three functions a way from [`activation::functions`]; empty for sigmoid, tanh, tanh.
    pub(crate) activations: &'a [Function],
    /// Gates are held within plus and minus this before they are bent.
    pub(crate) clip: Option<f32>,
    /// ONNX: input_forget. The forget gate is 1 less the input gate.
    pub(crate) is_coupled: bool,
}

/// One way's packed weights.
#[derive(Clone, Debug)]
pub(crate) struct LstmCell {
    size: Size,
    of_input: Vec<Block>,
    bias: Vec<Block>,
    of_hidden: Vec<Block>,
    /// Three blocks for each block of units: i, o, f.
    peepholes: Option<Vec<Block>>,
    squash: [Squash; 3],
    clip: Option<f32>,
    is_coupled: bool,
}

const GATES: [usize; 4] = [0, 1, 2, 3];

impl Lstm {
    /// Checks and packs the weights.
    pub(crate) fn new(numbers: LstmNumbers<'_>) -> Result<Self, Refused> {
        let size = numbers.size;
        pack::check(size, GATES.len())?;
        let own = [Function::Sigmoid, Function::Tanh, Function::Tanh];
        let squashes = activation::of_each_way(numbers.activations, size.direction.ways(), own)?;
        let ways = squashes.into_iter().enumerate().map(|(way, squash)| cell(&numbers, way, squash));
        Ok(Recurrent { lanes: Lanes::detected(), size, ways: ways.collect::<Result<_, _>>()? })
    }
}

fn cell(numbers: &LstmNumbers<'_>, way: usize, squash: [Squash; 3]) -> Result<LstmCell, Refused> {
    let (size, ways) = (numbers.size, numbers.size.direction.ways());
    let Size { inputs, hidden, .. } = size;
    let weights = pack::share("weights (W)", numbers.weights, ways, way, 4 * hidden * inputs)?;
    let recurrence = pack::share("recurrence (R)", numbers.recurrence, ways, way, 4 * hidden * hidden)?;
    let mut bias = vec![0.0; 4 * hidden];
    if let Some(both) = numbers.bias {
        let (of_input, of_hidden) = pack::share("bias (B)", both, ways, way, 8 * hidden)?.split_at(4 * hidden);
        bias.iter_mut().zip(of_input.iter().zip(of_hidden)).for_each(|(sum, (a, b))| *sum = a + b);
    }
    let peepholes = match numbers.peepholes {
        Some(p) => Some(pack::rows(size, &[0, 1, 2], pack::share("peepholes (P)", p, ways, way, 3 * hidden)?)),
        None => None,
    };
    Ok(LstmCell {
        size,
        of_input: pack::columns(size, inputs, &GATES, weights),
        bias: pack::rows(size, &GATES, &bias),
        of_hidden: pack::columns(size, hidden, &GATES, recurrence),
        peepholes,
        squash,
        clip: numbers.clip,
        is_coupled: numbers.is_coupled,
    })
}

impl Cell for LstmCell {
    const GATES: usize = GATES.len();
    const STATES: usize = 2;

    fn of_input(&self) -> Matrix<'_> {
        let (inputs, outputs) = (self.size.inputs, self.bias.len() * WIDTH);
        let (blocks, bias) = (&self.of_input, &self.bias);
        Matrix { inputs, outputs, blocks, bias, bend: Bend::Straight, order: Order::ByShape }
    }

    #[inline(always)]
    fn step<I: Isa>(&self, isa: I, gates: &[Block], now: &[f32], memory: &mut [Block], next: &mut [Block]) {
        let (starts, _) = gates.as_chunks::<4>();
        for (block, start) in starts.iter().enumerate() {
            let columns = tile::cut(&self.of_hidden[block * 4 * now.len()..], now.len());
            let [[input, output, forget, new]] = tile::sums::<I, 1, 4>(isa, [now], columns, [*start]);
            let peep = self.peepholes.as_ref().map(|p| &p[block * 3..block * 3 + 3]);
            let cell = &mut memory[block];
            let input = self.gate(isa, input, peep.map(|p| &p[0]), cell);
            let forget =
                if self.is_coupled { one_less(input) } else { self.gate(isa, forget, peep.map(|p| &p[2]), cell) };
            let new = self.squash[1].bend(isa, self.clipped(new));
            for lane in 0..WIDTH {
                cell[lane] = isa.mul_add(forget[lane], cell[lane], input[lane] * new[lane]);
            }
            let output = self.gate(isa, output, peep.map(|p| &p[1]), cell);
            let seen = self.squash[2].bend(isa, *cell);
            for lane in 0..WIDTH {
                next[block][lane] = output[lane] * seen[lane];
            }
        }
    }
}

impl LstmCell {
    #[inline(always)]
    fn gate<I: Isa>(&self, isa: I, mut sum: Block, peephole: Option<&Block>, cell: &Block) -> Block {
        if let Some(peephole) = peephole {
            for lane in 0..WIDTH {
                sum[lane] = isa.mul_add(peephole[lane], cell[lane], sum[lane]);
            }
        }
        self.squash[0].bend(isa, self.clipped(sum))
    }

    #[inline(always)]
    fn clipped(&self, mut sum: Block) -> Block {
        if let Some(clip) = self.clip {
            sum.iter_mut().for_each(|x| *x = at_least(at_most(*x, clip), -clip));
        }
        sum
    }
}

#[inline(always)]
fn one_less(mut block: Block) -> Block {
    block.iter_mut().for_each(|x| *x = 1.0 - *x);
    block
}
