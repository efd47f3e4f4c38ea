//! tract behind the door of [`super`]. **With [`ml`], the one room that names its insides.**
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

mod ml;

use std::fmt;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::graph::Graph;
use super::network::{EngineChoice, NumberKind, Numbers, Outputs, Port, RunError};
use super::{BATCH_ROWS, EngineError, check, fenced, one_line};

/// Most nodes of a graph, subgraphs included: 2000 take 4 s to load on a server core; the largest sane graph we saw has 300.
const NODES_MAX: usize = 2000;
/// How far a batch may differ from one row at a time, relative to 1 + the largest number of that output in that row: small
/// contributions beside large ones come from differences of large numbers, which round differently (1.6e-5 of themselves seen).
const BATCH_TOLERANCE: f32 = 2e-6;
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
    /// Whether operators of ours are in it.
    mixed: bool,
    shape: Vec<usize>,
    outputs: Vec<Port>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shape", &self.shape).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

impl Engine {
    /// Loads the graph for rows of `shape`; `outputs` are positions among the graph's.
    pub(super) fn load(
        proto: &ModelProto,
        graph: &Graph,
        shape: &[usize],
        outputs: &[usize],
        choice: EngineChoice,
    ) -> Result<Engine, EngineError> {
        fenced(|| Self::load_unfenced(proto, graph, shape, outputs, choice))
            .unwrap_or_else(|panic| Err(EngineError::Panicked(panic)))
    }

    fn load_unfenced(
        proto: &ModelProto,
        graph: &Graph,
        shape: &[usize],
        slots: &[usize],
        choice: EngineChoice,
    ) -> Result<Engine, EngineError> {
        let mut loader = tract_onnx::onnx().with_ignore_value_info(true);
        let nodes = check::all_nodes(graph);
        let mixed = choice == EngineChoice::Auto && nodes.iter().any(|n| ml::is_ours(&n.domain, &n.operator));
        if mixed {
            ml::register(&mut loader);
        }
        check::within(nodes.len(), NODES_MAX)?;
        let mut unknown: Vec<String> = nodes
            .iter()
            .filter(|n| !loader.op_register.0.contains_key(n.operator.as_str()))
            .map(|n| n.title())
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() {
            return Err(EngineError::UnknownOperators(unknown));
        }
        let has = |list: &[&str]| nodes.iter().any(|n| list.contains(&n.operator.as_str()));
        let build = |rows: Rows| plan(&loader, proto, rows, shape, slots);
        let single = build(Rows::Exactly(1)).map_err(|e| EngineError::Load(sentence(&e)))?;
        let outputs = ports(&single, graph, slots)?;
        let shape = shape.to_vec();
        let recurrent = has(&RECURRENT);
        let mut engine = Engine { single, batch: Batch::No, recurrent, mixed, shape, outputs };
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
        let (mut one, mut many) = (Outputs::new(&self.outputs), Outputs::new(&self.outputs));
        if state.run(&self.shape, &input, BATCH_ROWS, &self.outputs, &mut many).is_err() {
            return false;
        }
        let alone = input.chunks_exact(row).try_for_each(|x| runner.run_single(self, x, &mut one));
        let mut answers = one.values.iter().zip(&many.values).zip(&self.outputs);
        alone.is_ok() && answers.all(|((one, many), port)| agree(one, many, port.numbers()))
    }

    /// Numbers of one row's input.
    pub(crate) fn row_numbers(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether operators of ours are in it.
    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// What it was asked for.
    pub(crate) fn outputs(&self) -> &[Port] {
        &self.outputs
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

    /// Runs the rows of `input`, row-major, at most [`BATCH_ROWS`] of them, and appends the numbers to `out`.
    pub(crate) fn run(&mut self, engine: &Engine, input: &[f32], out: &mut Outputs) -> Result<(), RunError> {
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
        wanted: &[Port],
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
        wanted: &[Port],
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
        for ((result, port), into) in results.iter().zip(wanted).zip(&mut out.values) {
            hand_over(result, port.numbers() * rows, rows, into)?;
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

/// Appends one result to the numbers of its output.
fn hand_over(result: &Tensor, expected: usize, rows: usize, into: &mut Numbers) -> Result<(), RunError> {
    let complain = |e: TractError| RunError(sentence(&e));
    let found = result.len();
    if found != expected {
        return Err(RunError(format!("an output gave {found} numbers for {rows} rows, expected {expected}")));
    }
    match into {
        Numbers::F32(into) => {
            let plain = result.try_as_plain_ram().map_err(complain)?;
            into.extend_from_slice(plain.as_slice::<f32>().map_err(complain)?);
        }
        Numbers::I64(into) => {
            let whole = result.cast_to::<i64>().map_err(complain)?;
            let plain = whole.try_as_plain_ram().map_err(complain)?;
            into.extend_from_slice(plain.as_slice::<i64>().map_err(complain)?);
        }
    }
    Ok(())
}

/// Whether two answers for the same rows are the same but for rounding.
fn agree(one: &Numbers, many: &Numbers, numbers: usize) -> bool {
    match (one, many) {
        (Numbers::F32(one), Numbers::F32(many)) => {
            one.len() == many.len() && one.chunks(numbers).zip(many.chunks(numbers)).all(|(a, b)| near(a, b))
        }
        (Numbers::I64(one), Numbers::I64(many)) => one == many,
        (Numbers::F32(_), Numbers::I64(_)) | (Numbers::I64(_), Numbers::F32(_)) => false,
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

/// What the wanted outputs give.
fn ports(plan: &Plan, graph: &Graph, slots: &[usize]) -> Result<Vec<Port>, EngineError> {
    let mut ports = Vec::new();
    for (i, name) in slots.iter().filter_map(|s| graph.outputs.get(*s)).enumerate() {
        let fact = plan.model().output_fact(i).map_err(|e| EngineError::Load(sentence(&e)))?;
        let whole = [TDim::datum_type(), bool::datum_type()].contains(&fact.datum_type);
        let kind = if fact.datum_type == f32::datum_type() {
            NumberKind::F32
        } else if whole || fact.datum_type.is_integer() {
            NumberKind::I64
        } else {
            let found = fact.datum_type;
            return Err(EngineError::Output(format!("output `{name}` gives {found:?} numbers, not f32")));
        };
        let shape = fact.shape.as_concrete().map(<[usize]>::to_vec).ok_or_else(|| {
            let sizes = check::list(fact.shape.iter().map(|d| d.to_string()));
            EngineError::Output(format!("output `{name}` has shape [{sizes}], whose sizes are not known"))
        })?;
        ports.push(Port { name: name.clone(), kind, shape });
    }
    Ok(ports)
}

/// The complaint of the engine in one line.
fn sentence(error: &TractError) -> String {
    one_line(&error.chain().map(|e| e.to_string()).collect::<Vec<_>>().join(": "))
}
