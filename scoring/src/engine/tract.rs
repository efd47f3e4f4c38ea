//! tract behind the door of [`super`]. **The one file that names it.**
//!
//! Constraints, all measured with tract 0.23.9:
//!
//! * A graph is data from outside: it is looked over before tract sees it (size, node count, operators, external files),
//!   and every call into tract is fenced with `catch_unwind`. That does not stop a graph from aborting, hanging or eating
//!   memory: a graph that nobody has tried goes through [`crate::trial`] first.
//! * Loading costs about n^2.2 in the nodes, hence `NODES_MAX`.
//! * A reused state carries the hidden state of LSTM, GRU and Scan from one window into the next, so recurrent graphs get a
//!   fresh state for every run; others keep theirs, which saves a fifth of the time.
//! * A symbolic batch axis makes many rows at once cheap, but a single one dear where the graph scales and scores by itself (PCA
//!   5.3 instead of 3.4 us, dense autoencoder 15.6 instead of 14.0), and convolutions and attention slow at any size: so a plan
//!   for one row always, and beside it one for any number of rows, or for [`BATCH_ROWS`] with the latter. The second plan is used
//!   only if it gave the first one's answers on probe rows: a graph that fixes its batch (or mixes rows) runs one by one.
//! * tract allocates while it runs: 37 times a row for the PCA of the tests, 77 and 78 for the dense and convolutional
//!   autoencoders, 325 for the LSTM, 690 for the forest; in batches of 64 below 13 a row, but for the forest, which has none.
//!   Around it nothing allocates (`tests/promises/allocations.rs`).

use std::collections::BTreeSet;
use std::fmt;
use std::io::Cursor;

use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::*;
use vedette_protocol::TensorSpec;
use vedette_protocol::limit::MAX_ARTIFACT_BYTES;

use super::{BATCH_ROWS, EngineError, Outputs, RunError, Wanted, fenced, one_line};

/// Most nodes of a graph, subgraphs included: 2000 take 4 s to load on a server core; the largest sane graph we saw has 300.
const NODES_MAX: usize = 2000;
/// How far a batch may differ from one row at a time, relative to 1 + the largest number of that output in that row: small
/// contributions beside large ones come from differences of large numbers, which round differently (1.6e-5 of themselves seen).
const BATCH_TOLERANCE: f32 = 2e-6;
/// ONNX's number for "values lie in another file".
const EXTERNAL: i32 = 1;
/// ONNX's number for f32.
const FLOAT: i32 = 1;
/// Operators that carry a state through tract's `Scan`.
const RECURRENT: [&str; 4] = ["LSTM", "GRU", "RNN", "Scan"];
/// Operators for which a symbolic batch axis was measured to be slower than a fixed one.
const FIXED_BATCH: [&str; 10] =
    ["Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "LSTM", "GRU", "RNN", "Scan", "Softmax", "Attention"];

type Plan = Arc<TypedRunnableModel>;

/// How several rows are run at once.
enum Batch {
    /// One after the other.
    No,
    /// A plan with a symbolic batch axis: for any number of rows, but slower for one than the single plan.
    Any(Plan),
    /// A plan of its own for exactly `BATCH_ROWS` rows.
    Full(Plan),
}

/// A loaded graph. Shared between threads; each runs it through a [`Runner`] of its own.
pub(crate) struct Engine {
    single: Plan,
    batch: Batch,
    recurrent: bool,
    shape: Vec<usize>,
    outputs: Vec<usize>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shape", &self.shape).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn load(onnx: &[u8], input: &TensorSpec, wanted: &[Wanted]) -> Result<Engine, EngineError> {
        fenced(|| Self::load_unfenced(onnx, input, wanted)).unwrap_or_else(|panic| Err(EngineError::Panicked(panic)))
    }

    /// Whether a graph may be that large; before anything reads it.
    pub(crate) fn check_size(onnx: &[u8]) -> Result<(), EngineError> {
        let (found, limit) = (onnx.len() as u64, MAX_ARTIFACT_BYTES);
        if found > limit { Err(EngineError::TooLarge { found, limit }) } else { Ok(()) }
    }

    fn load_unfenced(onnx: &[u8], input: &TensorSpec, wanted: &[Wanted]) -> Result<Engine, EngineError> {
        let loader = tract_onnx::onnx().with_ignore_value_info(true);
        let proto =
            loader.proto_model_for_read(&mut Cursor::new(onnx)).map_err(|e| EngineError::NotOnnx(sentence(&e)))?;
        let operators = look_over(&proto, |op| loader.op_register.0.contains_key(op))?;
        let graph = proto.graph.as_ref().ok_or_else(|| EngineError::NotOnnx("it holds no graph".into()))?;
        check_input(graph, input)?;
        let slots = find_outputs(graph, wanted)?;

        let has = |list: &[&str]| list.iter().any(|op| operators.contains(*op));
        let shape: Vec<usize> = input.shape.iter().map(|d| *d as usize).collect();
        let build = |rows: Rows| plan(&loader, &proto, rows, &shape, &slots);
        let single = build(Rows::Exactly(1)).map_err(|e| EngineError::Load(sentence(&e)))?;
        check_outputs(&single, wanted)?;
        let outputs = wanted.iter().map(|w| w.numbers).collect();
        let mut engine = Engine { single, batch: Batch::No, recurrent: has(&RECURRENT), shape: shape.clone(), outputs };
        let other = if has(&FIXED_BATCH) { Rows::Exactly(BATCH_ROWS) } else { Rows::Any };
        // A batch plan is a gift: whatever goes wrong with it, the single plan does the work.
        if let Ok(Ok(candidate)) = fenced(|| build(other))
            && engine.agrees(&candidate)
        {
            match other {
                Rows::Any => engine.batch = Batch::Any(candidate),
                Rows::Exactly(_) => engine.batch = Batch::Full(candidate),
            }
        }
        Ok(engine)
    }

    /// Whether `candidate` gives for a full batch what the single plan gives row by row.
    fn agrees(&self, candidate: &Plan) -> bool {
        let row: usize = self.shape.iter().product();
        let mut runner = Runner::new(self);
        let mut state = State::new(candidate, self.recurrent);
        let input: Vec<f32> = (0..row * BATCH_ROWS).map(|i| ((i * 7919) % 1000) as f32 / 1000.0).collect();
        let (mut one, mut many) = (Outputs::new(self.outputs.len()), Outputs::new(self.outputs.len()));
        many.clear();
        if state.run(&self.shape, &input, BATCH_ROWS, &self.outputs, &mut many).is_err() {
            return false;
        }
        let alone = input.chunks_exact(row).try_for_each(|x| runner.run_single(self, x, &mut one));
        let mut answers = one.values.iter().zip(&many.values).zip(&self.outputs);
        alone.is_ok()
            && answers.all(|((one, many), numbers)| {
                one.len() == many.len() && one.chunks(*numbers).zip(many.chunks(*numbers)).all(|(a, b)| near(a, b))
            })
    }

    /// Numbers of one row's input.
    pub(crate) fn row_numbers(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many outputs it was asked for.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Whether more rows at a time are done in one go.
    pub(crate) fn batches(&self) -> bool {
        !matches!(self.batch, Batch::No)
    }
}

/// What one thread needs to run an [`Engine`]: states and input tensors that are used again and again.
pub(crate) struct Runner {
    single: State,
    /// The plan for several rows, when there is one.
    many: Option<State>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl Runner {
    pub(crate) fn new(engine: &Engine) -> Runner {
        let many = match &engine.batch {
            Batch::Full(plan) | Batch::Any(plan) => Some(State::new(plan, engine.recurrent)),
            Batch::No => None,
        };
        Runner { single: State::new(&engine.single, engine.recurrent), many }
    }

    /// Runs the rows of `input`, row-major, at most [`BATCH_ROWS`] of them, and puts the numbers into `out`.
    pub(crate) fn run(&mut self, engine: &Engine, input: &[f32], out: &mut Outputs) -> Result<(), RunError> {
        out.clear();
        let row = engine.row_numbers();
        let rows = input.len() / row;
        let together = match engine.batch {
            Batch::No => false,
            Batch::Any(_) => rows > 1,
            Batch::Full(_) => rows == BATCH_ROWS,
        };
        if let (true, Some(many)) = (together, &mut self.many) {
            return many.run(&engine.shape, input, rows, &engine.outputs, out);
        }
        input.chunks_exact(row).try_for_each(|x| self.run_single(engine, x, out))
    }

    fn run_single(&mut self, engine: &Engine, row: &[f32], out: &mut Outputs) -> Result<(), RunError> {
        self.single.run(&engine.shape, row, 1, &engine.outputs, out)
    }
}

struct State {
    plan: Plan,
    /// `None` for recurrent graphs, and after a run that failed half way.
    state: Option<TypedSimpleState>,
    recurrent: bool,
    /// Kept and refilled while its number of rows stays the same.
    input: Option<Arc<Tensor>>,
}

impl State {
    fn new(plan: &Plan, recurrent: bool) -> State {
        State { plan: Arc::clone(plan), state: None, recurrent, input: None }
    }

    /// Appends the outputs of `rows` rows to `out`.
    fn run(
        &mut self,
        shape: &[usize],
        data: &[f32],
        rows: usize,
        wanted: &[usize],
        out: &mut Outputs,
    ) -> Result<(), RunError> {
        fenced(|| self.run_unfenced(shape, data, rows, wanted, out))
            .unwrap_or_else(|panic| Err(RunError(format!("the engine panicked: {panic}"))))
    }

    fn run_unfenced(
        &mut self,
        shape: &[usize],
        data: &[f32],
        rows: usize,
        wanted: &[usize],
        out: &mut Outputs,
    ) -> Result<(), RunError> {
        let input = self.fill(shape, data, rows).map_err(|e| RunError(sentence(&e)))?;
        // Taken out while it runs: if that fails or panics, the next run begins with a fresh one.
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.plan.spawn().map_err(|e| RunError(sentence(&e)))?,
        };
        let results = state.run(tvec!(TValue::from_const(input))).map_err(|e| RunError(sentence(&e)))?;
        if !self.recurrent {
            self.state = Some(state);
        }
        for ((result, numbers), into) in results.iter().zip(wanted).zip(&mut out.values) {
            let plain = result.try_as_plain_ram().map_err(|e| RunError(sentence(&e)))?;
            let slice = plain.as_slice::<f32>().map_err(|e| RunError(sentence(&e)))?;
            if slice.len() != numbers * rows {
                return Err(RunError(format!(
                    "an output gave {} numbers for {rows} rows, expected {}",
                    slice.len(),
                    numbers * rows
                )));
            }
            into.extend_from_slice(slice);
        }
        Ok(())
    }

    /// The input tensor with the data in it: the last one again if it has the size and nobody holds it.
    fn fill(&mut self, shape: &[usize], data: &[f32], rows: usize) -> TractResult<Arc<Tensor>> {
        if let Some(kept) = &mut self.input
            && kept.shape().first() == Some(&rows)
            && let Some(tensor) = Arc::get_mut(kept)
        {
            tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.copy_from_slice(data);
            return Ok(Arc::clone(kept));
        }
        let shape: TVec<usize> = std::iter::once(rows).chain(shape.iter().copied()).collect();
        let tensor = Arc::new(Tensor::from_shape(&shape, data)?);
        self.input = Some(Arc::clone(&tensor));
        Ok(tensor)
    }
}

/// Whether two answers for one row are the same but for rounding.
fn near(one: &[f32], many: &[f32]) -> bool {
    let largest = one.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
    let same = |a: &f32, b: &f32| (a - b).abs() <= BATCH_TOLERANCE * (1.0 + largest) || (a.is_nan() && b.is_nan());
    one.iter().zip(many).all(|(a, b)| same(a, b))
}

#[derive(Clone, Copy)]
enum Rows {
    Exactly(usize),
    Any,
}

fn plan(
    loader: &tract_onnx::Onnx,
    proto: &ModelProto,
    rows: Rows,
    shape: &[usize],
    outputs: &[usize],
) -> TractResult<Plan> {
    let mut model = loader.model_for_proto_model(proto)?;
    let first = match rows {
        Rows::Exactly(n) => n.to_dim(),
        Rows::Any => model.symbols.sym("vedette_rows").into(),
    };
    let dims: TVec<TDim> = std::iter::once(first).chain(shape.iter().map(|d| d.to_dim())).collect();
    model.set_input_fact(0, f32::fact(&*dims).into())?;
    let all = model.output_outlets()?.to_vec();
    // Positions come from the same list of the same file.
    let chosen: Vec<_> = outputs.iter().filter_map(|i| all.get(*i).copied()).collect();
    model.select_output_outlets(&chosen)?;
    model.into_optimized()?.into_runnable()
}

/// Refuses what is known to be hopeless; gives the operators used.
fn look_over(proto: &ModelProto, known: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, EngineError> {
    let mut operators = BTreeSet::new();
    let mut nodes = 0;
    let mut open: Vec<&GraphProto> = proto.graph.iter().collect();
    while let Some(graph) = open.pop() {
        nodes += graph.node.len();
        graph.initializer.iter().try_for_each(inside)?;
        for node in &graph.node {
            operators.insert(node.op_type.clone());
            for attribute in &node.attribute {
                attribute.t.iter().chain(&attribute.tensors).try_for_each(inside)?;
                open.extend(attribute.g.iter().chain(&attribute.graphs));
            }
        }
    }
    if nodes == 0 {
        return Err(EngineError::NotOnnx("it holds no graph with nodes".into()));
    }
    if nodes > NODES_MAX {
        return Err(EngineError::TooManyNodes { found: nodes, limit: NODES_MAX });
    }
    let unknown: Vec<String> = operators.iter().filter(|op| !known(op)).cloned().collect();
    if unknown.is_empty() { Ok(operators) } else { Err(EngineError::UnknownOperators(unknown)) }
}

fn inside(tensor: &TensorProto) -> Result<(), EngineError> {
    let external = tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty();
    if external { Err(EngineError::ExternalData(tensor.name.clone())) } else { Ok(()) }
}

fn check_input(graph: &GraphProto, spec: &TensorSpec) -> Result<(), EngineError> {
    let weights: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|i| !weights.contains(i.name.as_str())).collect();
    let names = || list(inputs.iter().map(|i| i.name.as_str()));
    let [input] = inputs.as_slice() else {
        return Err(EngineError::Input(format!(
            "the graph has {} inputs ({}), it must have one",
            inputs.len(),
            names()
        )));
    };
    if input.name != spec.name {
        return Err(EngineError::Input(format!(
            "the manifest's input `{}` is not in the graph, which has {}",
            spec.name,
            names()
        )));
    }
    let declared = input.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = declared else {
        return Err(EngineError::Input(format!("input `{}` of the graph is no tensor", spec.name)));
    };
    if tensor.elem_type != FLOAT {
        return Err(EngineError::Input(format!(
            "input `{}` of the graph does not take f32 numbers (ONNX type {})",
            spec.name, tensor.elem_type
        )));
    }
    let Some(shape) = &tensor.shape else { return Ok(()) };
    let sizes: Vec<Option<i64>> = shape
        .dim
        .iter()
        .map(|d| match &d.value {
            Some(Dim::DimValue(n)) => Some(*n),
            Some(Dim::DimParam(_)) | None => None,
        })
        .collect();
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

/// Positions of the wanted outputs among the graph's.
fn find_outputs(graph: &GraphProto, wanted: &[Wanted]) -> Result<Vec<usize>, EngineError> {
    let find = |w: &Wanted| {
        graph.output.iter().position(|o| o.name == w.name).ok_or_else(|| {
            let names = list(graph.output.iter().map(|o| o.name.as_str()));
            EngineError::Output(format!("the manifest's output `{}` is not in the graph, which has {names}", w.name))
        })
    };
    let slots = wanted.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let mut made: BTreeSet<&str> = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
    made.extend(graph.input.iter().map(|i| i.name.as_str()).chain(graph.initializer.iter().map(|t| t.name.as_str())));
    match graph.output.iter().find(|o| !made.contains(o.name.as_str())) {
        Some(nowhere) => Err(EngineError::Output(format!("output `{}` of the graph comes from no node", nowhere.name))),
        None => Ok(slots),
    }
}

fn check_outputs(plan: &Plan, wanted: &[Wanted]) -> Result<(), EngineError> {
    for (i, want) in wanted.iter().enumerate() {
        let fact = plan.model().output_fact(i).map_err(|e| EngineError::Load(sentence(&e)))?;
        if fact.datum_type != f32::datum_type() {
            return Err(EngineError::Output(format!(
                "output `{}` gives {:?} numbers, not f32",
                want.name, fact.datum_type
            )));
        }
        let found = fact.shape.as_concrete().map(|dims| dims.iter().product::<usize>());
        if found != Some(want.numbers) {
            return Err(EngineError::Output(format!(
                "output `{}` has shape [{}], the manifest needs {} numbers for one window",
                want.name,
                list(fact.shape.iter().map(|d| d.to_string())),
                want.numbers
            )));
        }
    }
    Ok(())
}

fn list<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

/// The complaint of the engine in one line.
fn sentence(error: &TractError) -> String {
    one_line(&error.chain().map(|e| e.to_string()).collect::<Vec<_>>().join(": "))
}
