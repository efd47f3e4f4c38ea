//! The kernel function between a row and every support vector.

use crate::kernel::Refused;

/// Support vectors that are worked on together.
const LANES: usize = 16;
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
    fn finish(&self, values: &mut [f32]) {
        let Function { kernel, gamma, coef0, degree } = *self;
        match kernel {
            KernelType::Linear => {}
            KernelType::Rbf => values.iter_mut().for_each(|v| *v = (-gamma * *v).exp()),
            KernelType::Sigmoid => values.iter_mut().for_each(|v| *v = (gamma * *v + coef0).tanh()),
            KernelType::Poly if degree == 2.0 => values.iter_mut().for_each(|v| {
                let base = gamma * *v + coef0;
                *v = base * base;
            }),
            KernelType::Poly if degree == 3.0 => values.iter_mut().for_each(|v| {
                let base = gamma * *v + coef0;
                *v = base * base * base;
            }),
            KernelType::Poly => values.iter_mut().for_each(|v| *v = (gamma * *v + coef0).powf(degree)),
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
    blocks: Vec<[f32; LANES]>,
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
        let mut blocks = vec![[0.0; LANES]; vectors.div_ceil(LANES) * features];
        for (v, vector) in numbers.chunks_exact(features).enumerate() {
            for (f, x) in vector.iter().enumerate() {
                blocks[v / LANES * features + f][v % LANES] = *x;
            }
        }
        Ok(Likeness { function, features, vectors, blocks })
    }

    /// Numbers that [`Likeness::row`] wants: one a vector, and up to a whole block.
    pub(super) fn width(&self) -> usize {
        self.vectors.next_multiple_of(LANES)
    }

    /// `values[vectors]` for one row; what lies behind is undefined.
    pub(super) fn row(&self, row: &[f32], values: &mut [f32]) {
        let (chunks, _) = values.as_chunks_mut::<LANES>();
        for (block, sums) in self.blocks.chunks_exact(self.features).zip(chunks) {
            *sums = match self.function.kernel {
                KernelType::Rbf => distances(row, block),
                KernelType::Linear | KernelType::Poly | KernelType::Sigmoid => products(row, block),
            };
        }
        let known = self.vectors.min(values.len());
        self.function.finish(&mut values[..known]);
    }
}

fn distances(row: &[f32], block: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (x, vectors) in row.iter().zip(block) {
        for (sum, v) in sums.iter_mut().zip(vectors) {
            let d = x - v;
            *sum += d * d;
        }
    }
    sums
}

fn products(row: &[f32], block: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (x, vectors) in row.iter().zip(block) {
        for (sum, v) in sums.iter_mut().zip(vectors) {
            *sum += x * v;
        }
    }
    sums
}
