//! What every graph is asked before an engine sees it: size, node count, operator sets, external files, its input and its outputs.

use std::collections::BTreeSet;

use vedette_protocol::TensorSpec;
use vedette_protocol::limit::MAX_ARTIFACT_BYTES;

use super::graph::{Attribute, Graph, Input, Node};
use super::{EngineError, NumberKind, Port, Wanted};

/// Most nodes of a graph, subgraphs included: an isolation forest of 500 trees as scikit-learn's converter writes it has 15,000.
const NODES_MAX: usize = 20_000;
/// ONNX's number for f32.
const FLOAT: i32 = 1;
/// The newest operator set of each domain whose rules are known here.
const OPSETS_KNOWN: [(&str, i64); 2] = [("", 25), ("ai.onnx.ml", 5)];

/// Whether a file may be that large; before anything reads it.
pub(crate) fn size(onnx: &[u8]) -> Result<(), EngineError> {
    let (found, limit) = (onnx.len() as u64, MAX_ARTIFACT_BYTES);
    if found > limit { Err(EngineError::TooLarge { found, limit }) } else { Ok(()) }
}

/// All nodes, those of subgraphs too.
pub(super) fn all_nodes(graph: &Graph) -> Vec<&Node> {
    let mut nodes = Vec::new();
    let mut open = vec![graph];
    while let Some(graph) = open.pop() {
        for node in &graph.nodes {
            nodes.push(node);
            for attribute in node.attributes.values() {
                match attribute {
                    Attribute::Graphs(graphs) => open.extend(graphs),
                    Attribute::Float(_)
                    | Attribute::Int(_)
                    | Attribute::Text(_)
                    | Attribute::Tensor(_)
                    | Attribute::Floats(_)
                    | Attribute::Ints(_)
                    | Attribute::Texts(_)
                    | Attribute::Other => {}
                }
            }
        }
    }
    nodes
}

/// Refuses what no engine is asked to look at.
pub(super) fn look_over(graph: &Graph) -> Result<(), EngineError> {
    let nodes = all_nodes(graph).len();
    if nodes == 0 {
        return Err(EngineError::NotOnnx("it holds no graph with nodes".into()));
    }
    within(nodes, NODES_MAX)?;
    for (domain, known) in OPSETS_KNOWN {
        let Some(found) = graph.opsets.get(domain).filter(|found| **found > known) else { continue };
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        return Err(EngineError::NewerOperators { domain: domain.to_owned(), found: *found, known });
    }
    Ok(())
}

/// Whether that many nodes are allowed.
pub(super) fn within(found: usize, limit: usize) -> Result<(), EngineError> {
    if found > limit { Err(EngineError::TooManyNodes { found, limit }) } else { Ok(()) }
}

/// The graph's one input, which takes f32 numbers.
fn only_input(graph: &Graph) -> Result<&Input, EngineError> {
    let [input] = graph.inputs.as_slice() else {
        return Err(EngineError::Input(format!(
            "the graph has {} inputs ({}), it must have one",
            graph.inputs.len(),
            names(graph)
        )));
    };
    match input.element {
        Some(FLOAT) => Ok(input),
        Some(other) => Err(EngineError::Input(format!(
            "input `{}` of the graph does not take f32 numbers (ONNX type {other})",
            input.name
        ))),
        None => Err(EngineError::Input(format!("input `{}` of the graph is no tensor", input.name))),
    }
}

fn names(graph: &Graph) -> String {
    list(graph.inputs.iter().map(|i| i.name.as_str()))
}

/// Whether the graph's input is the one that the manifest describes.
pub(super) fn input(graph: &Graph, spec: &TensorSpec) -> Result<(), EngineError> {
    if let [input] = graph.inputs.as_slice()
        && input.name != spec.name
    {
        return Err(EngineError::Input(format!(
            "the manifest's input `{}` is not in the graph, which has {}",
            spec.name,
            names(graph)
        )));
    }
    fits(only_input(graph)?, spec)
}

/// Whether the graph has these inputs and no others.
pub(super) fn inputs<'a>(graph: &Graph, wanted: impl Iterator<Item = &'a str>) -> Result<(), EngineError> {
    let wanted: BTreeSet<&str> = wanted.collect();
    match graph.inputs.iter().find(|input| !wanted.contains(input.name.as_str())) {
        Some(extra) => Err(EngineError::Input(format!(
            "input `{}` of the graph is neither the row nor a state that the manifest names ({})",
            extra.name,
            list(wanted.into_iter())
        ))),
        None => Ok(()),
    }
}

/// Whether an input has the shape that the manifest says.
pub(super) fn fits(input: &Input, spec: &TensorSpec) -> Result<(), EngineError> {
    let Some(sizes) = &input.shape else { return Ok(()) };
    let expected: Vec<i64> = std::iter::once(1).chain(spec.shape.iter().map(|d| i64::from(*d))).collect();
    let fits = sizes.len() == expected.len()
        && sizes.iter().zip(&expected).all(|(found, want)| found.is_none_or(|f| f == *want));
    if fits {
        return Ok(());
    }
    let found = list(sizes.iter().map(|s| s.map_or("?".to_owned(), |n| n.to_string())));
    Err(EngineError::Input(format!(
        "input `{}` of the graph has shape [{found}], the manifest needs {expected:?} (batch first)",
        spec.name
    )))
}

/// The input as the graph itself describes it: batch first, whatever its size; every other size given.
pub(super) fn own_input(graph: &Graph) -> Result<TensorSpec, EngineError> {
    let input = only_input(graph)?;
    let sizes = input.shape.as_deref().and_then(|s| s.split_first()).map(|(_, rest)| rest);
    let fixed = |size: &Option<i64>| size.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let shape: Option<Vec<u32>> = sizes.and_then(|rest| rest.iter().map(fixed).collect());
    shape.map(|shape| TensorSpec { name: input.name.clone(), shape }).ok_or_else(|| {
        EngineError::Input(format!("input `{}` of the graph leaves sizes open behind the batch", input.name))
    })
}

/// Positions of the wanted outputs among the graph's.
pub(super) fn outputs(graph: &Graph, wanted: &[Wanted]) -> Result<Vec<usize>, EngineError> {
    let find = |w: &Wanted| {
        graph.outputs.iter().position(|o| *o == w.name).ok_or_else(|| {
            let names = list(graph.outputs.iter());
            EngineError::Output(format!("the manifest's output `{}` is not in the graph, which has {names}", w.name))
        })
    };
    let slots = wanted.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let mut made: BTreeSet<&str> = graph.nodes.iter().flat_map(|n| &n.outputs).map(String::as_str).collect();
    made.extend(graph.inputs.iter().map(|i| i.name.as_str()).chain(graph.weights.keys().map(String::as_str)));
    match graph.outputs.iter().find(|o| !made.contains(o.as_str())) {
        Some(nowhere) => Err(EngineError::Output(format!("output `{nowhere}` of the graph comes from no node"))),
        None => Ok(slots),
    }
}

/// Whether what comes out is what the manifest describes.
pub(super) fn results(found: &[Port], wanted: &[Wanted]) -> Result<(), EngineError> {
    for (port, want) in found.iter().zip(wanted) {
        if port.kind != NumberKind::F32 {
            return Err(EngineError::Output(format!("output `{}` gives {:?} numbers, not f32", want.name, port.kind)));
        }
        if port.numbers() != want.numbers {
            return Err(EngineError::Output(format!(
                "output `{}` has shape [{}], the manifest needs {} numbers for one window",
                want.name,
                list(port.shape.iter().map(usize::to_string)),
                want.numbers
            )));
        }
    }
    Ok(())
}

pub(super) fn list<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}
