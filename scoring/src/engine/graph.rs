//! Our own plain picture of an ONNX graph: nodes, weights, ports. It knows neither the protobuf that it was read from nor an
//! engine, and every size in it has been checked: a tensor holds exactly as many numbers as its shape says.

use std::collections::BTreeMap;

/// A graph with its weights.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) weights: BTreeMap<String, Tensor>,
    /// Inputs that are no weights.
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<String>,
    /// Version of the operator set per domain; the default domain is the empty one.
    pub(crate) opsets: BTreeMap<String, i64>,
}

/// What a graph wants to be given.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    /// ONNX's number of the type; `None` = no tensor.
    pub(crate) element: Option<i32>,
    /// Sizes, `None` where the file leaves one open; no list = nothing is said.
    pub(crate) shape: Option<Vec<Option<i64>>>,
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Node {
    /// Empty for ONNX's own operators.
    pub(crate) domain: String,
    pub(crate) operator: String,
    pub(crate) name: String,
    /// An empty name stands for an input that is left out.
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// The operator as a message names it.
    pub(crate) fn title(&self) -> String {
        if self.domain.is_empty() { self.operator.clone() } else { format!("{}.{}", self.domain, self.operator) }
    }
}

/// A setting of a node.
#[derive(Debug)]
pub(crate) enum Attribute {
    Float(f32),
    Int(i64),
    Text(String),
    Tensor(Tensor),
    Graphs(Vec<Graph>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    /// A kind that no operator of ours takes.
    Other,
}

/// What a number is. Half-width floats are kept as `f32`, narrow integers as `i64`; the kind says what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    F64,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U16,
    U8,
    Bool,
    Text,
}

impl Kind {
    /// From ONNX's number for it.
    pub(crate) fn of(number: i32) -> Option<Kind> {
        Some(match number {
            1 => Kind::F32,
            2 => Kind::U8,
            3 => Kind::I8,
            4 => Kind::U16,
            5 => Kind::I16,
            6 => Kind::I32,
            7 => Kind::I64,
            8 => Kind::Text,
            9 => Kind::Bool,
            10 => Kind::F16,
            11 => Kind::F64,
            16 => Kind::Bf16,
            _ => return None,
        })
    }
}

/// Numbers (or texts) with a shape.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: Kind,
    pub(crate) values: Values,
}

/// The numbers of a tensor, in the form in which they are computed with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    /// Also booleans, as 0 and 1.
    U8(Vec<u8>),
    I8(Vec<i8>),
    Text(Vec<String>),
}

impl Default for Values {
    fn default() -> Self {
        Values::F32(Vec::new())
    }
}

impl Values {
    pub(crate) fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::I64(v) => v.len(),
            Values::U8(v) => v.len(),
            Values::I8(v) => v.len(),
            Values::Text(v) => v.len(),
        }
    }
}

/// How many numbers a shape holds, if that can be counted.
pub(crate) fn volume(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))
}
