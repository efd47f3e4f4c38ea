//! ONNX protobuf to [`Graph`]. The file is parsed once, with the types of the crate that tract itself uses, and the same parse is
//! handed to tract when that engine is to run it.
//!
//! Everything here comes from outside. Sizes are multiplied with care, a tensor's bytes must be as many as its shape says, and
//! nothing is allocated that the file does not itself hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::Framework;

use super::graph::{Attribute, Graph, Input, Kind, Node, Tensor, Values, volume};
use super::{EngineError, one_line};

/// ONNX's number for "values lie in another file".
const EXTERNAL: i32 = 1;
/// How deep graphs may lie in graphs.
const DEPTH_MAX: usize = 8;

/// The file as it was parsed.
pub(super) type Proto = ModelProto;

/// Parses the file; nothing is looked at yet.
pub(super) fn parse(onnx: &[u8]) -> Result<ModelProto, EngineError> {
    let parser = tract_onnx::Onnx::default();
    parser.proto_model_for_read(&mut Cursor::new(onnx)).map_err(|e| EngineError::NotOnnx(one_line(&e.to_string())))
}

/// The graph in it.
pub(super) fn graph(proto: &ModelProto) -> Result<Graph, EngineError> {
    let inner = proto.graph.as_ref().ok_or_else(|| EngineError::NotOnnx("it holds no graph".into()))?;
    let mut graph = read_graph(inner, 0)?;
    for set in &proto.opset_import {
        graph.opsets.insert(domain(&set.domain).to_owned(), set.version);
    }
    Ok(graph)
}

/// ONNX's own domain has two names.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

fn read_graph(proto: &GraphProto, depth: usize) -> Result<Graph, EngineError> {
    if depth > DEPTH_MAX {
        return Err(EngineError::NotOnnx(format!("graphs lie in graphs more than {DEPTH_MAX} deep")));
    }
    let mut weights = BTreeMap::new();
    for tensor in &proto.initializer {
        if let Some(read) = read_tensor(tensor)? {
            weights.insert(tensor.name.clone(), read);
        }
    }
    let named: BTreeSet<&str> = proto.initializer.iter().map(|t| t.name.as_str()).collect();
    Ok(Graph {
        nodes: proto.node.iter().map(|n| read_node(n, depth)).collect::<Result<_, _>>()?,
        weights,
        inputs: proto.input.iter().filter(|i| !named.contains(i.name.as_str())).map(read_input).collect(),
        outputs: proto.output.iter().map(|o| o.name.clone()).collect(),
        opsets: BTreeMap::new(),
    })
}

fn read_input(proto: &ValueInfoProto) -> Input {
    let value = proto.r#type.as_ref().and_then(|t| t.value.as_ref());
    let tensor = value.map(|type_proto::Value::TensorType(tensor)| tensor);
    let size = |d: &Option<Dim>| match d {
        Some(Dim::DimValue(n)) => Some(*n),
        Some(Dim::DimParam(_)) | None => None,
    };
    let shape = tensor.and_then(|t| t.shape.as_ref());
    Input {
        name: proto.name.clone(),
        element: tensor.map(|t| t.elem_type),
        shape: shape.map(|s| s.dim.iter().map(|d| size(&d.value)).collect()),
    }
}

/// One node alone.
pub(super) fn node(proto: &NodeProto) -> Result<Node, EngineError> {
    read_node(proto, 0)
}

fn read_node(proto: &NodeProto, depth: usize) -> Result<Node, EngineError> {
    let mut attributes = BTreeMap::new();
    for attribute in &proto.attribute {
        attributes.insert(attribute.name.clone(), read_attribute(attribute, depth)?);
    }
    Ok(Node {
        domain: domain(&proto.domain).to_owned(),
        operator: proto.op_type.clone(),
        name: proto.name.clone(),
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
        attributes,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read_attribute(proto: &AttributeProto, depth: usize) -> Result<Attribute, EngineError> {
    // Numbers as the format has them: 1 float, 2 int, 3 string, 4 tensor, 5 graph, 6 to 10 lists of these.
    Ok(match proto.r#type {
        1 => Attribute::Float(proto.f),
        2 => Attribute::Int(proto.i),
        3 => Attribute::Text(text(&proto.s)),
        4 => match proto.t.as_ref().map(read_tensor).transpose()?.flatten() {
            Some(tensor) => Attribute::Tensor(tensor),
            None => Attribute::Other,
        },
        5 | 10 => {
            let graphs = proto.g.iter().chain(&proto.graphs);
            Attribute::Graphs(graphs.map(|g| read_graph(g, depth + 1)).collect::<Result<_, _>>()?)
        }
        6 => Attribute::Floats(proto.floats.clone()),
        7 => Attribute::Ints(proto.ints.clone()),
        8 => Attribute::Texts(proto.strings.iter().map(|s| text(s)).collect()),
        9 => {
            proto.tensors.iter().try_for_each(inside)?;
            Attribute::Other
        }
        _ => Attribute::Other,
    })
}

fn inside(tensor: &TensorProto) -> Result<(), EngineError> {
    let external = tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty();
    if external { Err(EngineError::ExternalData(tensor.name.clone())) } else { Ok(()) }
}

/// `None` for a kind of number that nothing here computes with (complex, 4 and 8 bit floats): only an engine that meets it minds.
fn read_tensor(proto: &TensorProto) -> Result<Option<Tensor>, EngineError> {
    inside(proto)?;
    let Some(kind) = Kind::of(proto.data_type) else { return Ok(None) };
    let shape: Option<Vec<usize>> = proto.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let volume = shape.as_deref().and_then(volume);
    let (Some(shape), Some(volume)) = (shape, volume) else {
        let (name, dims) = (&proto.name, &proto.dims);
        return Err(EngineError::NotOnnx(format!("the shape {dims:?} of tensor `{name}` does not multiply out")));
    };
    let values = if proto.raw_data.is_empty() { typed(proto, kind) } else { raw(&proto.raw_data, kind) };
    if values.len() != volume {
        return Err(EngineError::NotOnnx(format!(
            "tensor `{}` holds {} numbers, its shape {:?} needs {volume}",
            proto.name,
            values.len(),
            proto.dims
        )));
    }
    Ok(Some(Tensor { shape, kind, values }))
}

/// Little-endian numbers of `N` bytes each; bytes that are left over make the count wrong, which is refused.
fn split<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (whole, rest) = bytes.as_chunks::<N>();
    if rest.is_empty() { whole.iter().map(|b| number(*b)).collect() } else { Vec::new() }
}

fn raw(bytes: &[u8], kind: Kind) -> Values {
    match kind {
        Kind::F32 => Values::F32(split(bytes, f32::from_le_bytes)),
        Kind::F64 => Values::F64(split(bytes, f64::from_le_bytes)),
        Kind::F16 => Values::F32(split(bytes, |b| half(u16::from_le_bytes(b)))),
        Kind::Bf16 => Values::F32(split(bytes, |b| brain(u16::from_le_bytes(b)))),
        Kind::I64 => Values::I64(split(bytes, i64::from_le_bytes)),
        Kind::I32 => Values::I64(split(bytes, |b| i64::from(i32::from_le_bytes(b)))),
        Kind::I16 => Values::I64(split(bytes, |b| i64::from(i16::from_le_bytes(b)))),
        Kind::U16 => Values::I64(split(bytes, |b| i64::from(u16::from_le_bytes(b)))),
        Kind::I8 => Values::I8(split(bytes, i8::from_le_bytes)),
        Kind::U8 => Values::U8(bytes.to_vec()),
        Kind::Bool => Values::U8(bytes.iter().map(|b| u8::from(*b != 0)).collect()),
        Kind::Text => Values::Text(Vec::new()),
    }
}

fn typed(proto: &TensorProto, kind: Kind) -> Values {
    let small = &proto.int32_data;
    match kind {
        Kind::F32 => Values::F32(proto.float_data.clone()),
        Kind::F64 => Values::F64(proto.double_data.clone()),
        Kind::F16 => Values::F32(small.iter().map(|n| half(*n as u16)).collect()),
        Kind::Bf16 => Values::F32(small.iter().map(|n| brain(*n as u16)).collect()),
        Kind::I64 => Values::I64(proto.int64_data.clone()),
        Kind::I32 | Kind::I16 | Kind::U16 => Values::I64(small.iter().map(|n| i64::from(*n)).collect()),
        Kind::I8 => Values::I8(small.iter().map(|n| *n as i8).collect()),
        Kind::U8 => Values::U8(small.iter().map(|n| *n as u8).collect()),
        Kind::Bool => Values::U8(small.iter().map(|n| u8::from(*n != 0)).collect()),
        Kind::Text => Values::Text(proto.string_data.iter().map(|s| text(s)).collect()),
    }
}

/// The upper half of an `f32`.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from((bits >> 10) & 0x1f), f32::from(bits & 0x3ff) / 1024.0);
    match exponent {
        0 => sign * fraction * 2.0_f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * 2.0_f32.powi(exponent - 15),
    }
}
