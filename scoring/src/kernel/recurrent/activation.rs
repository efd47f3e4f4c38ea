//! The functions that bend gates, and their names in ONNX.

use super::super::Refused;
use super::super::elementary::Function;
use super::super::elementary::approximate::{sigmoid, tanh};
use super::super::lanes::{Block, Isa, Lanes};

/// A gate's function: the two of every common layer are done in registers, others by a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Squash {
    Sigmoid,
    Tanh,
    Other(Function, Lanes),
}

impl Squash {
    pub(super) fn new(function: Function) -> Self {
        if function == Function::Sigmoid {
            Squash::Sigmoid
        } else if function == Function::Tanh {
            Squash::Tanh
        } else {
            Squash::Other(function, Lanes::detected())
        }
    }

    #[inline(always)]
    pub(super) fn bend<I: Isa>(self, isa: I, mut block: Block) -> Block {
        match self {
            Squash::Sigmoid => block.iter_mut().for_each(|x| *x = sigmoid(isa, *x)),
            Squash::Tanh => block.iter_mut().for_each(|x| *x = tanh(isa, *x)),
            Squash::Other(function, lanes) => function.apply(lanes, &mut block),
        }
        block
    }
}

/// The functions that a node's attributes `activations`, `activation_alpha` and `activation_beta` name, one after another. The
/// constants are taken in turn by the functions that have them; where they run out, ONNX's defaults stand.
pub(crate) fn functions(names: &[&str], alphas: &[f32], betas: &[f32]) -> Result<Vec<Function>, Refused> {
    let (mut alphas, mut betas) = (alphas.iter().copied(), betas.iter().copied());
    let mut constant = |default: f32| alphas.next().unwrap_or(default);
    let mut made = Vec::with_capacity(names.len());
    for name in names {
        made.push(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Function::Sigmoid,
            "tanh" => Function::Tanh,
            "relu" => Function::Relu,
            "softsign" => Function::Softsign,
            "softplus" => Function::Softplus,
            "leakyrelu" => Function::LeakyRelu { slope: constant(0.01) },
            "thresholdedrelu" => Function::ThresholdedRelu { threshold: constant(1.0) },
            "elu" => Function::Elu { scale: constant(1.0) },
            "hardsigmoid" => Function::HardSigmoid { slope: constant(0.2), offset: betas.next().unwrap_or(0.5) },
            _ => {
                return Err(Refused(format!(
                    "a recurrent layer with the activation {name}: known are Sigmoid, Tanh, Relu, Softsign, Softplus, \
                     LeakyRelu, ThresholdedRelu, Elu and HardSigmoid"
                )));
            }
        });
    }
    Ok(made)
}

/// The functions of each way: those given, or the layer's own where none are.
pub(super) fn of_each_way<const N: usize>(
    given: &[Function],
    ways: usize,
    own: [Function; N],
) -> Result<Vec<[Squash; N]>, Refused> {
    if given.is_empty() {
        return Ok(vec![own.map(Squash::new); ways]);
    }
    let (each, rest) = given.as_chunks::<N>();
    if each.len() != ways || !rest.is_empty() {
        return Err(Refused(format!("{} activations for {ways} times {N} gate functions", given.len())));
    }
    Ok(each.iter().map(|functions| functions.map(Squash::new)).collect())
}
