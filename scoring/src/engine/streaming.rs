//! A graph that takes one row and a state and gives the next state, made into what every engine runs: a graph of one input.
//!
//! That input is the row and then the state tensors, one number after the other. A Gather and a Reshape for each of the graph's
//! own inputs, put before its first node, take it apart again. The state comes out as outputs like any other. So no engine
//! knows of state: whoever runs the graph hands the numbers from row to row, and a run leaves nothing behind in the engine.

use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto};
use vedette_protocol::{StateTensor, TensorSpec};

use super::graph::{Graph, Input};
use super::read::Proto;
use super::{EngineError, check};

/// Most numbers of all state tensors together: 256 KiB, 64 layers of an LSTM of 512.
const STATE_NUMBERS_MAX: usize = 65_536;
/// The input that takes it all, and what the nodes before the graph are called after.
const MERGED: &str = "vedette.row_and_state";
/// ONNX's numbers for f32 and i64, and for an attribute that is a whole number.
const FLOAT: i32 = 1;
const INT64: i32 = 7;
const ATTRIBUTE_INT: i32 = 2;

/// Makes the graph one of one input; gives that input and the size of each state tensor.
pub(super) fn merge(
    proto: &mut Proto,
    graph: &Graph,
    row: &TensorSpec,
    state: &[StateTensor],
) -> Result<(TensorSpec, Vec<usize>), EngineError> {
    check::inputs(graph, std::iter::once(row.name.as_str()).chain(state.iter().map(|s| s.input.as_str())))?;
    let row_shape: Vec<i64> = std::iter::once(1).chain(row.shape.iter().map(|d| i64::from(*d))).collect();
    let mut parts = vec![(row.name.clone(), row_shape)];
    for tensor in state {
        parts.push((tensor.input.clone(), state_shape(graph, &tensor.input)?));
    }
    check::fits(find(graph, &row.name)?, row)?;
    let sizes: Vec<usize> = parts.iter().map(|(_, shape)| size(shape)).collect();
    let total: usize = sizes.iter().sum();
    let inner = proto.graph.as_mut().ok_or_else(|| EngineError::NotOnnx("it holds no graph".into()))?;
    inner.input.retain(|input| parts.iter().all(|(name, _)| *name != input.name));
    inner.input.push(value_info(MERGED, &[1, total as i64]));
    let mut from = 0;
    let mut first = Vec::with_capacity(2 * parts.len());
    for ((name, shape), size) in parts.iter().zip(&sizes) {
        take_apart(inner, &mut first, name, shape, from..from + size);
        from += size;
    }
    inner.node.splice(0..0, first);
    let merged = TensorSpec { name: MERGED.to_owned(), shape: vec![u32::try_from(total).unwrap_or(u32::MAX)] };
    Ok((merged, sizes.into_iter().skip(1).collect()))
}

fn find<'a>(graph: &'a Graph, name: &str) -> Result<&'a Input, EngineError> {
    graph.inputs.iter().find(|input| input.name == name).ok_or_else(|| {
        let have = check::list(graph.inputs.iter().map(|input| input.name.as_str()));
        EngineError::Input(format!("the manifest's input `{name}` is not in the graph, which has {have}"))
    })
}

/// The shape of a state tensor; a size that the file leaves open is the batch's, which is 1.
fn state_shape(graph: &Graph, name: &str) -> Result<Vec<i64>, EngineError> {
    let input = find(graph, name)?;
    let said = |what: String| EngineError::Input(format!("state input `{name}` of the graph {what}"));
    if input.element != Some(FLOAT) {
        return Err(said("does not take f32 numbers".into()));
    }
    let sizes = input.shape.as_ref().ok_or_else(|| said("does not say its shape".into()))?;
    let shape: Vec<i64> = sizes.iter().map(|size| size.unwrap_or(1)).collect();
    let numbers = shape.iter().try_fold(1_usize, |product, size| {
        usize::try_from(*size).ok().filter(|size| *size > 0).and_then(|size| product.checked_mul(size))
    });
    match numbers {
        Some(numbers) if numbers <= STATE_NUMBERS_MAX => Ok(shape),
        Some(_) | None => Err(said(format!("has shape {shape:?}, a state may hold 1 to {STATE_NUMBERS_MAX} numbers"))),
    }
}

/// Of a shape that was checked.
fn size(shape: &[i64]) -> usize {
    shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).product()
}

/// The nodes that make an input of the graph from some numbers of the merged one.
fn take_apart(
    graph: &mut GraphProto,
    nodes: &mut Vec<NodeProto>,
    name: &str,
    shape: &[i64],
    numbers: std::ops::Range<usize>,
) {
    let (flat, places, sizes) =
        (format!("{MERGED}.{name}"), format!("{MERGED}.{name}.at"), format!("{MERGED}.{name}.shape"));
    graph.initializer.push(whole_numbers(&places, numbers.map(|n| n as i64).collect()));
    graph.initializer.push(whole_numbers(&sizes, shape.to_vec()));
    let axis = AttributeProto { name: "axis".to_owned(), r#type: ATTRIBUTE_INT, i: 1, ..Default::default() };
    nodes.push(node("Gather", [MERGED, &places], &flat, vec![axis]));
    nodes.push(node("Reshape", [&flat, &sizes], name, Vec::new()));
}

fn node(operator: &str, inputs: [&str; 2], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        name: format!("{output}.{operator}"),
        input: inputs.map(str::to_owned).into(),
        output: vec![output.to_owned()],
        attribute,
        ..Default::default()
    }
}

fn whole_numbers(name: &str, numbers: Vec<i64>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: INT64,
        dims: vec![numbers.len() as i64],
        int64_data: numbers,
        ..Default::default()
    }
}

fn value_info(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dim = |size: &i64| Dimension { value: Some(Dim::DimValue(*size)), ..Default::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}
