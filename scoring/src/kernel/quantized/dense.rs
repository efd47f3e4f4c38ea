//! Products of whole numbers with known weights: MatMulInteger, QLinearMatMul, QGemm, and a dense layer between quantisations.

use super::super::Refused;
use super::super::dense::{Dense, Panels, RightSide};
use super::super::lanes::{Body, Isa, Lanes, WIDTH};
use super::{Eight, whole};

/// Below this every whole number is an f32.
const EXACT_BELOW: f64 = 16_777_216.0;

/// Weights as the ONNX node has them, held in f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightNumbers<'a> {
    /// Numbers of a row that goes in.
    pub(crate) inputs: usize,
    /// Numbers of a row that comes out.
    pub(crate) outputs: usize,
    /// `[inputs, outputs]`, or transposed.
    pub(crate) weights: &'a [f32],
    /// Which of the two.
    pub(crate) side: RightSide,
    /// Zero point of the weights: one, or one for each output. Empty for 0.
    pub(crate) zeros: &'a [f32],
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish<'a> {
    /// Times a scale: one, or one for each output.
    Scaled {
        /// Of the input times those of the weights.
        scales: &'a [f32],
    },
    /// Times a scale, then rounded, moved and held to eight bits.
    Requantised {
        /// Of the input times those of the weights over that of the output.
        scales: &'a [f32],
        /// The output's zero point.
        zero: f32,
        /// The output's kind.
        kind: Eight,
    },
}

/// ONNX Runtime's scales of the sums: `input * weights / output`, in that order; nothing for the output is no division.
pub(crate) fn scales(input: f32, weights: &[f32], output: Option<f32>) -> Vec<f32> {
    weights.iter().map(|weights| input * weights).map(|scale| output.map_or(scale, |output| scale / output)).collect()
}

/// A dense layer of whole numbers with a known zero point: QLinearMatMul, QGemm, or what a graph says by DequantizeLinear,
/// Gemm and QuantizeLinear.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedDense {
    sums: Sums,
    scales: Vec<f32>,
    /// Ends less the zero point, and the zero point; nothing where the scaled sums go out.
    requantised: Option<[f32; 3]>,
}

impl QuantizedDense {
    /// `zero` is the input's zero point; `bias` whole numbers in the scale of the sums.
    pub(crate) fn new(
        numbers: WeightNumbers<'_>,
        zero: f32,
        bias: Option<&[i32]>,
        finish: Finish<'_>,
    ) -> Result<Self, Refused> {
        let sums = Sums::new(numbers, zero, bias)?;
        let (scales, requantised) = match finish {
            Finish::Scaled { scales } => (scales, None),
            Finish::Requantised { scales, zero, kind } => {
                let (low, high) = kind.ends();
                (scales, Some([low - zero, high - zero, zero]))
            }
        };
        let scales = for_each_output("scales", scales, numbers.outputs)?;
        Ok(QuantizedDense { sums, scales, requantised })
    }

    /// `rows` rows of whole numbers in, numbers or whole numbers out.
    pub(crate) fn run(&self, rows: usize, input: &[f32], out: &mut [f32]) {
        self.sums.run(rows, input, out);
        let filled = rows.saturating_mul(self.scales.len()).min(out.len());
        let lanes = self.sums.lanes;
        lanes.run(Finished { scales: &self.scales, requantised: self.requantised, out: &mut out[..filled] });
    }
}

struct Finished<'a> {
    scales: &'a [f32],
    requantised: Option<[f32; 3]>,
    out: &'a mut [f32],
}

impl Body for Finished<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for row in self.out.chunks_mut(self.scales.len()) {
            match self.requantised {
                None => row.iter_mut().zip(self.scales).for_each(|(x, scale)| *x *= scale),
                Some([low, high, zero]) => {
                    row.iter_mut().zip(self.scales).for_each(|(x, scale)| *x = whole(*x * scale, low, high) + zero);
                }
            }
        }
    }
}

/// A product of whole numbers whose zero point is known only when it runs: MatMulInteger.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedProduct {
    sums: Sums,
    /// The sum of each output's weights.
    columns: Vec<f32>,
}

impl QuantizedProduct {
    /// Checks and packs the weights.
    pub(crate) fn new(numbers: WeightNumbers<'_>) -> Result<Self, Refused> {
        let sums = Sums::new(numbers, 0.0, None)?;
        let columns = sums.column_sums.iter().map(|sum| *sum as f32).collect();
        Ok(QuantizedProduct { sums, columns })
    }

    /// `rows` rows of whole numbers, less `zero`, times the weights.
    pub(crate) fn run(&self, rows: usize, zero: f32, input: &[f32], out: &mut [f32]) {
        self.sums.run(rows, input, out);
        if zero == 0.0 {
            return;
        }
        let rows = rows.min(input.len() / self.sums.inputs).min(out.len() / self.columns.len());
        for row in out[..rows * self.columns.len()].chunks_exact_mut(self.columns.len()) {
            row.iter_mut().zip(&self.columns).for_each(|(x, column)| *x -= zero * column);
        }
    }
}

/// Exact sums of products, plus a bias, as f32.
#[derive(Clone, Debug)]
struct Sums {
    lanes: Lanes,
    inputs: usize,
    column_sums: Vec<f64>,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Every sum on the way is exact in f32.
    Floats(Dense),
    /// Sums may need all of 32 bits; they wrap there, and round once to f32, as in ONNX Runtime.
    Integers {
        /// `[inputs, outputs]`.
        weights: Vec<i32>,
        /// One for each output.
        bias: Vec<i32>,
    },
}

impl Sums {
    fn new(numbers: WeightNumbers<'_>, zero: f32, bias: Option<&[i32]>) -> Result<Self, Refused> {
        let WeightNumbers { inputs, outputs, .. } = numbers;
        let centred = centred(numbers)?;
        let given = bias.map_or_else(|| vec![0; outputs], <[i32]>::to_vec);
        if given.len() != outputs {
            return Err(Refused(format!(
                "a quantised layer with a bias of {} numbers for {outputs} outputs",
                given.len()
            )));
        }
        let (mut column_sums, mut reach) = (vec![0.0_f64; outputs], vec![0.0_f64; outputs]);
        for row in centred.chunks_exact(outputs) {
            for (output, weight) in row.iter().enumerate() {
                column_sums[output] += f64::from(*weight);
                reach[output] += f64::from(weight.abs());
            }
        }
        // The input's zero point is folded into the bias: it meets every weight once. All of this is exact in f64.
        let bias: Vec<f64> =
            given.iter().zip(&column_sums).map(|(b, sum)| f64::from(*b) - f64::from(zero) * sum).collect();
        let is_exact = reach.iter().zip(&bias).all(|(reach, bias)| 255.0 * reach + bias.abs() < EXACT_BELOW);
        let form = if is_exact {
            let bias: Vec<f32> = bias.iter().map(|b| *b as f32).collect();
            Form::Floats(Dense::new(Panels::new(inputs, outputs, &centred)?, Some(&bias), None)?)
        } else {
            let bias = bias.iter().map(|b| *b as i64 as i32).collect();
            Form::Integers { weights: centred.iter().map(|w| *w as i32).collect(), bias }
        };
        Ok(Sums { lanes: Lanes::detected(), inputs, column_sums, form })
    }

    fn run(&self, rows: usize, input: &[f32], out: &mut [f32]) {
        match &self.form {
            Form::Floats(dense) => dense.run(rows, input, out),
            Form::Integers { weights, bias } => {
                let rows = input.chunks_exact(self.inputs).zip(out.chunks_exact_mut(bias.len())).take(rows);
                rows.for_each(|(row, out)| self.lanes.run(Counted { weights, bias, row, out }));
            }
        }
    }
}

/// Weights less their zero points, `[inputs, outputs]`.
fn centred(numbers: WeightNumbers<'_>) -> Result<Vec<f32>, Refused> {
    let WeightNumbers { inputs, outputs, weights, side, zeros } = numbers;
    if inputs == 0 || outputs == 0 || inputs.checked_mul(outputs) != Some(weights.len()) {
        return Err(Refused(format!("{} quantised weights for {inputs} inputs and {outputs} outputs", weights.len())));
    }
    let zeros = if zeros.is_empty() { &[0.0] } else { zeros };
    let zeros = for_each_output("zero points", zeros, outputs)?;
    let at = |input: usize, output: usize| match side {
        RightSide::Plain => input * outputs + output,
        RightSide::Transposed => output * inputs + input,
    };
    let places = (0..inputs).flat_map(|input| (0..outputs).map(move |output| (input, output)));
    Ok(places.map(|(input, output)| weights[at(input, output)] - zeros[output]).collect())
}

/// One number for all outputs, or one for each.
fn for_each_output(what: &str, numbers: &[f32], outputs: usize) -> Result<Vec<f32>, Refused> {
    match numbers {
        [one] => Ok(vec![*one; outputs]),
        many if many.len() == outputs => Ok(many.to_vec()),
        many => Err(Refused(format!("a quantised layer with {} {what} for {outputs} outputs", many.len()))),
    }
}

struct Counted<'a> {
    weights: &'a [i32],
    bias: &'a [i32],
    row: &'a [f32],
    out: &'a mut [f32],
}

impl Body for Counted<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let outputs = self.bias.len();
        for (first, out) in (0..outputs).step_by(WIDTH).zip(self.out.chunks_mut(WIDTH)) {
            let mut sums = [0_i32; WIDTH];
            sums[..out.len()].copy_from_slice(&self.bias[first..first + out.len()]);
            for (x, weights) in self.row.iter().zip(self.weights.chunks_exact(outputs)) {
                let x = *x as i32;
                for (sum, weight) in sums.iter_mut().zip(&weights[first..first + out.len()]) {
                    *sum = sum.wrapping_add(x.wrapping_mul(*weight));
                }
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
        }
    }
}
