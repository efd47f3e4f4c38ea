//! The kernel function between a row and every support vector.

use crate::kernel::Refused;
use crate::kernel::elementary;
use crate::kernel::lanes::{Block, Body, Isa, Lanes, WIDTH};

/// Numbers in all support vectors: 256 MB.
const NUMBERS_MAX: usize = 1 << 26;

/// `kernel_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KernelType {
    #[default]
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

impl KernelType {
    /// By the attribute's text.
    pub(crate) fn named(name: &str) -> Option<KernelType> {
        match name {
            "LINEAR" => Some(KernelType::Linear),
            "POLY" => Some(KernelType::Poly),
            "RBF" => Some(KernelType::Rbf),
            "SIGMOID" => Some(KernelType::Sigmoid),
            _ => None,
        }
    }
}

/// The function and its `kernel_params`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    kernel: KernelType,
    gamma: f32,
    coef0: f32,
    degree: f32,
}

impl Function {
    pub(super) fn new(kernel: KernelType, params: &[f32]) -> Result<Function, Refused> {
        let (gamma, coef0, degree) = match *params {
            [] => (0.0, 0.0, 0.0),
            [gamma, coef0, degree, ..] => (gamma, coef0, degree),
            _ => return Err(Refused(format!("kernel_params has {} entries: it must be none or three", params.len()))),
        };
        if !(gamma.is_finite() && coef0.is_finite() && degree.is_finite()) {
            return Err(Refused("kernel_params has a number that is not finite".into()));
        }
        Ok(Function { kernel, gamma, coef0, degree })
    }

    /// From the distance (RBF) or the product (all others).
    fn finish(&self, lanes: Lanes, values: &mut [f32]) {
        let Function { kernel, gamma, coef0, degree } = *self;
        let (scale, offset) = match kernel {
            KernelType::Linear => return,
            KernelType::Rbf => (-gamma, 0.0),
            KernelType::Poly | KernelType::Sigmoid => (gamma, coef0),
        };
        values.iter_mut().for_each(|v| *v = scale * *v + offset);
        match kernel {
            KernelType::Linear => {}
            KernelType::Rbf => elementary::Function::Exp.apply(lanes, values),
            KernelType::Sigmoid => elementary::Function::Tanh.apply(lanes, values),
            KernelType::Poly if degree == 2.0 => values.iter_mut().for_each(|v| *v *= *v),
            KernelType::Poly if degree == 3.0 => values.iter_mut().for_each(|v| *v = *v * *v * *v),
            KernelType::Poly => values.iter_mut().for_each(|v| *v = v.powf(degree)),
        }
    }
}

/// Support vectors, ready to be compared with rows.
#[derive(Clone, Debug)]
pub(super) struct Likeness {
    function: Function,
    features: usize,
    vectors: usize,
    /// Block after block, in each feature after feature.
    blocks: Vec<Block>,
    lanes: Lanes,
}

impl Likeness {
    pub(super) fn new(
        function: Function,
        features: usize,
        vectors: usize,
        numbers: &[f32],
    ) -> Result<Likeness, Refused> {
        let length = vectors.checked_mul(features);
        if features == 0 || vectors == 0 || length != Some(numbers.len()) || numbers.len() > NUMBERS_MAX {
            let length = numbers.len();
            return Err(Refused(format!(
                "support_vectors has {length} entries for {vectors} vectors of {features} numbers"
            )));
        }
        let mut blocks = vec![[0.0; WIDTH]; vectors.div_ceil(WIDTH) * features];
        for (v, vector) in numbers.chunks_exact(features).enumerate() {
            for (f, x) in vector.iter().enumerate() {
                blocks[v / WIDTH * features + f][v % WIDTH] = *x;
            }
        }
        Ok(Likeness { function, features, vectors, blocks, lanes: Lanes::detected() })
    }

    /// Numbers that [`Likeness::row`] wants: one a vector, and up to a whole block.
    pub(super) fn width(&self) -> usize {
        self.vectors.next_multiple_of(WIDTH)
    }

    /// `values[vectors]` for one row; what lies behind is undefined.
    pub(super) fn row(&self, row: &[f32], values: &mut [f32]) {
        self.lanes.run(Row { likeness: self, row, values });
        let known = self.vectors.min(values.len());
        self.function.finish(self.lanes, &mut values[..known]);
    }
}

/// One row against all support vectors: distances or products.
struct Row<'a> {
    likeness: &'a Likeness,
    row: &'a [f32],
    values: &'a mut [f32],
}

impl Body for Row<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Likeness { function, features, blocks, .. } = self.likeness;
        let (chunks, _) = self.values.as_chunks_mut::<WIDTH>();
        for (block, sums) in blocks.chunks_exact(*features).zip(chunks) {
            *sums = match function.kernel {
                KernelType::Rbf => distances(isa, self.row, block),
                KernelType::Linear | KernelType::Poly | KernelType::Sigmoid => products(isa, self.row, block),
            };
        }
    }
}

#[inline(always)]
fn distances<I: Isa>(isa: I, row: &[f32], block: &[Block]) -> Block {
    let mut sums = [0.0; WIDTH];
    for (x, vectors) in row.iter().zip(block) {
        for (sum, v) in sums.iter_mut().zip(vectors) {
            let d = x - v;
            *sum = isa.mul_add(d, d, *sum);
        }
    }
    sums
}

#[inline(always)]
fn products<I: Isa>(isa: I, row: &[f32], block: &[Block]) -> Block {
    let mut sums = [0.0; WIDTH];
    for (x, vectors) in row.iter().zip(block) {
        for (sum, v) in sums.iter_mut().zip(vectors) {
            *sum = isa.mul_add(*x, *v, *sum);
        }
    }
    sums
}
