//! Operators of ai.onnx.ml that tract lacks or gets wrong, as operators of its own that run our plans: a graph that mixes them with
//! what only tract knows loads too.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use crate::engine::graph::{Graph, Input, Kind};
use crate::engine::native::{self, Plan, Runner};
use crate::engine::network::{NumberKind, Outputs, Port};
use crate::engine::read;

/// What is taken over: operators of one input, a table of numbers.
const OURS: [&str; 13] = [
    "Scaler",
    "Normalizer",
    "Imputer",
    "Binarizer",
    "LinearRegressor",
    "LinearClassifier",
    "SVMRegressor",
    "SVMClassifier",
    "TreeEnsembleRegressor",
    "TreeEnsembleClassifier",
    "TreeEnsemble",
    "OneHotEncoder",
    "ZipMap",
];

/// Whether an operator is one that is taken over.
pub(super) fn is_ours(domain: &str, operator: &str) -> bool {
    domain == "ai.onnx.ml" && OURS.contains(&operator)
}

/// Puts our operators in the place of tract's.
pub(super) fn register(loader: &mut tract_onnx::Onnx) {
    for name in OURS {
        loader.op_register.insert(name, build);
    }
}

fn build(_: &ParsingContext, proto: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let mut node = read::node(proto).map_err(|e| format_err!("{e}"))?;
    node.inputs.truncate(1);
    let inputs = node.inputs.iter().map(|name| Input { name: name.clone(), element: None, shape: None }).collect();
    let outputs = node.outputs.clone();
    let graph = Graph { nodes: vec![node], inputs, outputs, ..Graph::default() };
    Ok((expand(Ours { graph: Arc::new(graph) }), vec![]))
}

/// A node of ours whose input is not yet known.
#[derive(Clone, Debug)]
struct Ours {
    graph: Arc<Graph>,
}

impl Ours {
    /// The plan for a table of that shape: lines first.
    fn plan(&self, shape: &[TDim]) -> TractResult<Plan> {
        let row = shape.iter().skip(1).map(|d| Ok(d.to_usize()?)).collect::<TractResult<Vec<_>>>()?;
        let outputs: Vec<usize> = (0..self.graph.outputs.len()).collect();
        native::compile(&self.graph, &row, &outputs).map_err(|unfit| format_err!("{unfit:?}"))
    }
}

fn datum(kind: Kind) -> DatumType {
    if kind == Kind::I64 { i64::datum_type() } else { f32::datum_type() }
}

impl Expansion for Ours {
    fn name(&self) -> StaticName {
        "Ours".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.graph.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        s.equals(&inputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, shape| {
            let plan = self.plan(&shape)?;
            for (result, output) in plan.results.iter().zip(outputs) {
                s.equals(&output.datum_type, datum(result.kind))?;
                s.equals(&output.shape, batched(&shape[0], &result.shape))?;
            }
            Ok(())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let plan = Arc::new(self.plan(&shape)?);
        model.wire_node(prefix, Planned { plan }, inputs)
    }
}

/// The shape of many rows of which one has `shape`.
fn batched(rows: &TDim, shape: &[usize]) -> TVec<TDim> {
    std::iter::once(rows.clone()).chain(shape.iter().skip(1).map(|d| d.to_dim())).collect()
}

/// A plan of ours as an operator.
#[derive(Clone, Debug)]
struct Planned {
    plan: Arc<Plan>,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }
}

impl Eq for Planned {}

impl Op for Planned {
    fn name(&self) -> StaticName {
        "Planned".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Planned {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = inputs.first().context("an input is missing")?;
        let rows = input.shape().first().copied().unwrap_or(1);
        let plain = input.try_as_plain_ram()?;
        let ports: Vec<Port> = self.plan.results.iter().map(port).collect();
        let mut out = Outputs::new(&ports);
        Runner::new(&self.plan).run(&self.plan, plain.as_slice::<f32>()?, &mut out);
        let mut results = tvec!();
        for (i, result) in self.plan.results.iter().enumerate() {
            let shape: TVec<usize> = std::iter::once(rows).chain(result.shape.iter().skip(1).copied()).collect();
            let tensor = match port(result).kind {
                NumberKind::F32 => Tensor::from_shape(&shape, out.floats(i))?,
                NumberKind::I64 => Tensor::from_shape(&shape, out.integers(i))?,
            };
            results.push(tensor.into_tvalue());
        }
        Ok(results)
    }
}

fn port(result: &native::Output) -> Port {
    let kind = if result.kind == Kind::I64 { NumberKind::I64 } else { NumberKind::F32 };
    Port { name: String::new(), kind, shape: result.shape.clone() }
}

impl TypedOp for Planned {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = inputs.first().context("an input is missing")?;
        let rows = input.shape.to_tvec().first().cloned().unwrap_or_else(|| 1.to_dim());
        let fact = |result: &native::Output| datum(result.kind).fact(batched(&rows, &result.shape));
        Ok(self.plan.results.iter().map(fact).collect())
    }

    as_op!();
}
