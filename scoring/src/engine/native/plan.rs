//! The compiled graph and its run: a list of steps, the constants they read, the buffers they share.

use crate::engine::graph::{Kind, Values};
use crate::engine::{Numbers, Outputs};
use crate::kernel::Refused;

use super::distance::Distances;
use super::elementwise::{Cast, Unary};
use super::learned::Learned;
use super::matrix::{Dense, Product};
use super::movement::{Concat, Lookup, Pick};
use super::pair::{Behind, Pair, Reach, Select};
use super::quantized::{Centre, Dequantize, Measure, Quantize};
use super::reduce::{Arg, Normalise, Reduce, Running, Soften, Top};
use super::sequence::{Convolve, Recurrent};
use super::values::{Form, View};

/// Where numbers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The row that came in.
    Input,
    /// One of the runner's buffers.
    Buffer(usize),
    /// The same for all rows.
    Constant(usize),
}

/// What a step reads or writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) place: Place,
    /// Numbers of one row.
    pub(super) numbers: usize,
}

/// One operation of the plan.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kernel: Kernel,
    pub(super) inputs: Box<[Operand]>,
    pub(super) outputs: Box<[Operand]>,
}

/// What is computed; each holds all that was known when the plan was made.
#[derive(Debug)]
pub(super) enum Kernel {
    Unary(Unary),
    Cast(Cast),
    Pair(Pair),
    Select(Select),
    Dense(Dense),
    Product(Product),
    Pick(Pick),
    Concat(Concat),
    Lookup(Lookup),
    Reduce(Reduce),
    Arg(Arg),
    Soften(Soften),
    Normalise(Normalise),
    Top(Top),
    Learned(Learned),
    Recurrent(Recurrent),
    Convolve(Box<Convolve>),
    Quantize(Quantize),
    Dequantize(Dequantize),
    Centre(Centre),
    Measure(Measure),
    Distances(Distances),
    Running(Running),
}

/// Most outputs of one step.
pub(super) const STEP_OUTPUTS: usize = 3;

/// What a step finds: its inputs for some rows.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) rows: usize,
    pub(super) operands: &'a [Operand],
    pub(super) constants: &'a [Values],
    pub(super) buffers: &'a [Values],
    pub(super) row: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// Input number `i`; one that a step does not have is empty.
    pub(super) fn get(&self, i: usize) -> View<'a> {
        let Some(operand) = self.operands.get(i) else { return View::F32(&[]) };
        match operand.place {
            Place::Input => View::F32(self.row),
            Place::Buffer(b) => View::of(&self.buffers[b], self.rows * operand.numbers),
            Place::Constant(c) => View::of(&self.constants[c], operand.numbers),
        }
    }
}

impl Kernel {
    /// Computes `inputs.rows` rows into `out`. `scratch` holds at least [`Kernel::scratch`] numbers.
    pub(super) fn run(&self, inputs: Inputs<'_>, out: &mut [Values; STEP_OUTPUTS], scratch: &mut [f32]) {
        match self {
            Kernel::Unary(k) => k.run(inputs, &mut out[0]),
            Kernel::Cast(k) => k.run(inputs, &mut out[0]),
            Kernel::Pair(k) => k.run(inputs, &mut out[0]),
            Kernel::Select(k) => k.run(inputs, &mut out[0]),
            Kernel::Dense(k) => k.run(inputs, &mut out[0]),
            Kernel::Product(k) => k.run(inputs, &mut out[0], scratch),
            Kernel::Pick(k) => k.run(inputs, &mut out[0]),
            Kernel::Concat(k) => k.run(inputs, &mut out[0]),
            Kernel::Lookup(k) => k.run(inputs, &mut out[0]),
            Kernel::Reduce(k) => k.run(inputs, &mut out[0]),
            Kernel::Arg(k) => k.run(inputs, &mut out[0]),
            Kernel::Soften(k) => k.run(inputs, &mut out[0]),
            Kernel::Normalise(k) => k.run(inputs, &mut out[0]),
            Kernel::Top(k) => k.run(inputs, out),
            Kernel::Learned(k) => k.run(inputs, out, scratch),
            Kernel::Recurrent(k) => k.run(inputs, out, scratch),
            Kernel::Convolve(k) => k.run(inputs, &mut out[0], scratch),
            Kernel::Quantize(k) => k.run(inputs, &mut out[0]),
            Kernel::Dequantize(k) => k.run(inputs, &mut out[0]),
            Kernel::Centre(k) => k.run(inputs, &mut out[0]),
            Kernel::Measure(k) => k.run(inputs, out),
            Kernel::Distances(k) => k.run(inputs, &mut out[0]),
            Kernel::Running(k) => k.run(inputs, &mut out[0]),
        }
    }

    /// From here on it can run: nothing is fused into it any more.
    pub(super) fn settle(&mut self) -> std::result::Result<(), Refused> {
        if let Kernel::Dense(dense) = self {
            dense.settle()?;
        } else if let Kernel::Convolve(convolve) = self {
            convolve.settle();
        }
        Ok(())
    }

    /// Takes up what stands behind it, if it can.
    pub(super) fn take_up(&mut self, behind: Behind<'_>) -> bool {
        if let Kernel::Dense(dense) = self {
            dense.take_up(behind)
        } else if let Kernel::Convolve(convolve) = self {
            convolve.take_up(behind)
        } else {
            false
        }
    }

    /// Numbers of scratch that it needs for `rows` rows.
    pub(super) fn scratch(&self, rows: usize) -> usize {
        match self {
            Kernel::Learned(k) => k.scratch(rows),
            Kernel::Product(k) => k.scratch(),
            Kernel::Recurrent(k) => k.scratch().unwrap_or(0),
            Kernel::Convolve(k) => k.scratch(),
            Kernel::Top(_)
            | Kernel::Unary(_)
            | Kernel::Cast(_)
            | Kernel::Pair(_)
            | Kernel::Select(_)
            | Kernel::Dense(_)
            | Kernel::Pick(_)
            | Kernel::Concat(_)
            | Kernel::Lookup(_)
            | Kernel::Reduce(_)
            | Kernel::Arg(_)
            | Kernel::Soften(_)
            | Kernel::Normalise(_)
            | Kernel::Quantize(_)
            | Kernel::Dequantize(_)
            | Kernel::Centre(_)
            | Kernel::Measure(_)
            | Kernel::Distances(_)
            | Kernel::Running(_) => 0,
        }
    }

    /// Bytes of lists of places in it, which grow with the numbers that pass through, not with the file.
    pub(super) fn held(&self) -> usize {
        if let Kernel::Pick(pick) = self {
            pick.held()
        } else if let Kernel::Pair(pair) = self {
            pair.reach.iter().map(Reach::held).sum()
        } else if let Kernel::Select(select) = self {
            select.reach.iter().map(Reach::held).sum()
        } else {
            0
        }
    }

    /// Multiplications of one row beyond one a number, where there are many.
    pub(super) fn work(&self) -> u64 {
        match self {
            Kernel::Dense(k) => k.work(),
            Kernel::Product(k) => k.work(),
            Kernel::Recurrent(k) => k.work(),
            Kernel::Convolve(k) => k.work(),
            Kernel::Learned(_)
            | Kernel::Top(_)
            | Kernel::Unary(_)
            | Kernel::Cast(_)
            | Kernel::Pair(_)
            | Kernel::Select(_)
            | Kernel::Pick(_)
            | Kernel::Concat(_)
            | Kernel::Lookup(_)
            | Kernel::Reduce(_)
            | Kernel::Arg(_)
            | Kernel::Soften(_)
            | Kernel::Normalise(_)
            | Kernel::Quantize(_)
            | Kernel::Dequantize(_)
            | Kernel::Centre(_)
            | Kernel::Measure(_)
            | Kernel::Distances(_)
            | Kernel::Running(_) => 0,
        }
    }
}

/// One of the plan's results.
#[derive(Clone, Debug)]
pub(crate) struct Result {
    pub(super) operand: Operand,
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
}

/// A buffer: its form and the numbers that one row needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) form: Form,
    pub(super) numbers: usize,
}

/// A compiled graph, shared between threads; each runs it through a [`Runner`] of its own.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) constants: Vec<Values>,
    pub(super) buffers: Vec<Buffer>,
    pub(crate) results: Vec<Result>,
    /// Numbers of one row that comes in.
    pub(super) row: usize,
    /// Rows that run together: as many as fit a small core's cache.
    pub(super) rows_max: usize,
}

/// What one thread needs: the buffers, allocated once.
#[derive(Debug)]
pub(crate) struct Runner {
    buffers: Vec<Values>,
    scratch: Vec<f32>,
}

impl Runner {
    pub(crate) fn new(plan: &Plan) -> Runner {
        let buffers = plan.buffers.iter().map(|b| b.form.zeros(b.numbers * plan.rows_max)).collect();
        let scratch = plan.steps.iter().map(|s| s.kernel.scratch(plan.rows_max)).max().unwrap_or(0);
        Runner { buffers, scratch: vec![0.0; scratch] }
    }

    /// Runs the rows of `input` and puts the results into `out`.
    pub(crate) fn run(&mut self, plan: &Plan, input: &[f32], out: &mut Outputs) {
        for rows in input.chunks(plan.row * plan.rows_max) {
            self.run_rows(plan, rows);
            for (result, into) in plan.results.iter().zip(&mut out.values) {
                self.hand_over(plan, result, rows, into);
            }
        }
    }

    fn run_rows(&mut self, plan: &Plan, row: &[f32]) {
        let rows = row.len() / plan.row;
        let mut out: [Values; STEP_OUTPUTS] = Default::default();
        for step in &plan.steps {
            // Taken out of the list while they are written, so that the inputs can be read from it: no copy, no allocation.
            for (slot, operand) in out.iter_mut().zip(&step.outputs) {
                if let Place::Buffer(b) = operand.place {
                    std::mem::swap(slot, &mut self.buffers[b]);
                }
            }
            let (operands, constants, buffers) = (&*step.inputs, &*plan.constants, &*self.buffers);
            step.kernel.run(Inputs { rows, operands, constants, buffers, row }, &mut out, &mut self.scratch);
            for (slot, operand) in out.iter_mut().zip(&step.outputs) {
                if let Place::Buffer(b) = operand.place {
                    std::mem::swap(slot, &mut self.buffers[b]);
                }
            }
        }
    }

    fn hand_over(&self, plan: &Plan, result: &Result, row: &[f32], into: &mut Numbers) {
        let rows = row.len() / plan.row;
        let operands = [result.operand];
        let inputs = Inputs { rows, operands: &operands, constants: &plan.constants, buffers: &self.buffers, row };
        // A constant is the same for each row.
        let times = if matches!(result.operand.place, Place::Constant(_)) { rows } else { 1 };
        for _ in 0..times {
            match (inputs.get(0), &mut *into) {
                (View::F32(v), Numbers::F32(into)) => into.extend_from_slice(v),
                (View::F64(v), Numbers::F32(into)) => into.extend(v.iter().map(|n| *n as f32)),
                (View::I64(v), Numbers::I64(into)) => into.extend_from_slice(v),
                (View::U8(v), Numbers::I64(into)) => into.extend(v.iter().map(|n| i64::from(*n))),
                (View::I8(v), Numbers::I64(into)) => into.extend(v.iter().map(|n| i64::from(*n))),
                (View::F32(_) | View::F64(_), Numbers::I64(_))
                | (View::I64(_) | View::U8(_) | View::I8(_), Numbers::F32(_)) => {}
            }
        }
    }
}
