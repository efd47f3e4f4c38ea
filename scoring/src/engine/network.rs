//! The front: a loaded graph, whichever engine runs it, and what one thread needs to run it.

use vedette_protocol::{EngineKind, StateTensor, TensorSpec};

use super::graph::Kind;
use super::native::{self, Unfit};
use super::{BATCH_ROWS, EngineError, check, read, streaming, tract};

/// Which engine may run a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// Ours where it knows all operators, else tract.
    #[default]
    Auto,
    /// tract, for comparison.
    Tract,
    /// Ours or none.
    Native,
}

/// What an output's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// Numbers.
    F32,
    /// Labels and places.
    I64,
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// As the graph names it.
    pub name: String,
    /// What its numbers are.
    pub kind: NumberKind,
    /// Its shape for a batch of one row, the batch included.
    pub shape: Vec<usize>,
}

impl Port {
    /// Numbers of one row.
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Numbers of one output, the rows one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Numbers.
    F32(Vec<f32>),
    /// Labels and places.
    I64(Vec<i64>),
}

/// The numbers that came out, per output.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// In the order of [`Network::outputs`].
    pub values: Vec<Numbers>,
}

impl Outputs {
    /// Empty; grows to the most rows that were ever run together, then stays.
    pub fn new(outputs: &[Port]) -> Outputs {
        let empty = |port: &Port| match port.kind {
            NumberKind::F32 => Numbers::F32(Vec::new()),
            NumberKind::I64 => Numbers::I64(Vec::new()),
        };
        Outputs { values: outputs.iter().map(empty).collect() }
    }

    /// Output number `i`; empty if there is none or it holds whole numbers.
    pub fn floats(&self, i: usize) -> &[f32] {
        match self.values.get(i) {
            Some(Numbers::F32(numbers)) => numbers,
            Some(Numbers::I64(_)) | None => &[],
        }
    }

    /// Output number `i`; empty if there is none or it holds no whole numbers.
    pub fn integers(&self, i: usize) -> &[i64] {
        match self.values.get(i) {
            Some(Numbers::I64(numbers)) => numbers,
            Some(Numbers::F32(_)) | None => &[],
        }
    }

    pub(super) fn clear(&mut self) {
        for numbers in &mut self.values {
            match numbers {
                Numbers::F32(list) => list.clear(),
                Numbers::I64(list) => list.clear(),
            }
        }
    }
}

/// Why one run gave no numbers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub(super) String);

/// An output that is wanted and how many numbers it must hold for one row.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) numbers: usize,
}

#[derive(Debug)]
enum Engine {
    Native(native::Plan),
    Tract(tract::Engine),
}

/// A loaded graph. Shared between threads; each runs it through a [`Runner`] of its own.
#[derive(Debug)]
pub struct Network {
    engine: Engine,
    kind: EngineKind,
    input: Port,
    outputs: Vec<Port>,
}

impl Network {
    /// Loads a graph as it describes itself: all of its outputs, rows of the size that its input declares.
    ///
    /// A hostile graph can hang or abort the process: see [`crate::trial`].
    ///
    /// # Errors
    /// [`EngineError`] names what no engine can run.
    pub fn load(onnx: &[u8], choice: EngineChoice) -> Result<Network, EngineError> {
        check::size(onnx)?;
        let proto = read::parse(onnx)?;
        let graph = read::graph(&proto)?;
        check::look_over(&graph)?;
        let input = check::own_input(&graph)?;
        check::outputs(&graph, &[])?;
        let slots: Vec<usize> = (0..graph.outputs.len()).collect();
        Self::choose(proto, graph, choice, &input, &slots)
    }

    /// Loads a graph as a manifest describes it: only the wanted outputs.
    pub(crate) fn load_as(
        onnx: &[u8],
        choice: EngineChoice,
        input: &TensorSpec,
        wanted: &[Wanted],
    ) -> Result<Network, EngineError> {
        check::size(onnx)?;
        let proto = read::parse(onnx)?;
        let graph = read::graph(&proto)?;
        check::look_over(&graph)?;
        check::input(&graph, input)?;
        let slots = check::outputs(&graph, wanted)?;
        let network = Self::choose(proto, graph, choice, input, &slots)?;
        check::results(&network.outputs, wanted)?;
        Ok(network)
    }

    /// Loads a graph that keeps a state: its rows are the manifest's row and then the state tensors, and after the wanted
    /// outputs come the next states. Gives the size of each state.
    pub(crate) fn load_stateful(
        onnx: &[u8],
        choice: EngineChoice,
        row: &TensorSpec,
        wanted: &[Wanted],
        state: &[StateTensor],
    ) -> Result<(Network, Vec<usize>), EngineError> {
        check::size(onnx)?;
        let mut proto = read::parse(onnx)?;
        let graph = read::graph(&proto)?;
        check::look_over(&graph)?;
        let (input, sizes) = streaming::merge(&mut proto, &graph, row, state)?;
        let graph = read::graph(&proto)?;
        let next = state.iter().zip(&sizes).map(|(s, size)| Wanted { name: s.output.clone(), numbers: *size });
        let wanted: Vec<Wanted> = wanted.iter().cloned().chain(next).collect();
        let slots = check::outputs(&graph, &wanted)?;
        let network = Self::choose(proto, graph, choice, &input, &slots)?;
        check::results(&network.outputs, &wanted)?;
        Ok((network, sizes))
    }

    fn choose(
        proto: read::Proto,
        graph: super::graph::Graph,
        choice: EngineChoice,
        input: &TensorSpec,
        slots: &[usize],
    ) -> Result<Network, EngineError> {
        let shape: Vec<usize> = input.shape.iter().map(|d| *d as usize).collect();
        let port = Port {
            name: input.name.clone(),
            kind: NumberKind::F32,
            shape: std::iter::once(1).chain(shape.iter().copied()).collect(),
        };
        let unfit = match choice {
            EngineChoice::Tract => None,
            EngineChoice::Auto | EngineChoice::Native => match (native::compile(&graph, &shape, slots), choice) {
                (Ok(plan), _) => return Ok(Self::native(plan, port, &graph.outputs, slots)),
                (Err(Unfit::Refused(why)), _) => return Err(EngineError::Load(why)),
                (Err(Unfit::Unknown(operators)), EngineChoice::Native) => {
                    return Err(EngineError::UnknownOperators(operators));
                }
                (Err(Unfit::Unsupported(why)), EngineChoice::Native) => return Err(EngineError::Load(why)),
                (Err(unfit), _) => Some(unfit),
            },
        };
        let engine = tract::Engine::load(&proto, &graph, &shape, slots, choice).map_err(|e| both(unfit, e))?;
        let outputs = engine.outputs().to_vec();
        let kind = if engine.is_mixed() { EngineKind::Mixed } else { EngineKind::Tract };
        Ok(Network { engine: Engine::Tract(engine), kind, input: port, outputs })
    }

    fn native(plan: native::Plan, input: Port, names: &[String], slots: &[usize]) -> Network {
        let names = slots.iter().filter_map(|s| names.get(*s));
        let port = |(name, result): (&String, &native::Output)| Port {
            name: name.clone(),
            kind: match result.kind {
                Kind::F32 | Kind::F64 | Kind::F16 | Kind::Bf16 | Kind::Text => NumberKind::F32,
                Kind::I64 | Kind::I32 | Kind::I16 | Kind::I8 | Kind::U16 | Kind::U8 | Kind::Bool => NumberKind::I64,
            },
            shape: result.shape.clone(),
        };
        let outputs = names.zip(&plan.results).map(port).collect();
        Network { engine: Engine::Native(plan), kind: EngineKind::Native, input, outputs }
    }

    /// Which program runs the graph.
    pub fn engine(&self) -> EngineKind {
        self.kind
    }

    /// What it takes.
    pub fn input(&self) -> &Port {
        &self.input
    }

    /// What it gives.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Whether more rows at a time are done in one go.
    pub fn batches(&self) -> bool {
        match &self.engine {
            Engine::Native(_) => true,
            Engine::Tract(engine) => engine.batches(),
        }
    }
}

/// What neither engine can do: the operators that both lack, or what the second one said.
fn both(native: Option<Unfit>, tract: EngineError) -> EngineError {
    match (native, tract) {
        (Some(Unfit::Unknown(ours)), EngineError::UnknownOperators(theirs)) => {
            let shared: Vec<String> = theirs.iter().filter(|op| ours.contains(op)).cloned().collect();
            EngineError::UnknownOperators(if shared.is_empty() { theirs } else { shared })
        }
        (Some(Unfit::Unsupported(why)), EngineError::UnknownOperators(_) | EngineError::TooManyNodes { .. }) => {
            EngineError::Load(why)
        }
        (_, tract) => tract,
    }
}

#[derive(Debug)]
enum State {
    Native(native::Runner),
    Tract(Box<tract::Runner>),
}

/// What one thread needs to run a [`Network`].
#[derive(Debug)]
pub struct Runner(State);

impl Runner {
    /// Allocates all that the runs will need.
    pub fn new(network: &Network) -> Runner {
        Runner(match &network.engine {
            Engine::Native(plan) => State::Native(native::Runner::new(plan)),
            Engine::Tract(engine) => State::Tract(Box::new(tract::Runner::new(engine))),
        })
    }

    /// Runs the whole rows of `input` and puts their numbers into `out`, made for the same network.
    ///
    /// # Errors
    /// tract may fail on a row, and says how; the native engine never does.
    pub fn run(&mut self, network: &Network, input: &[f32], out: &mut Outputs) -> Result<(), RunError> {
        out.clear();
        match (&mut self.0, &network.engine) {
            (State::Native(runner), Engine::Native(plan)) => {
                runner.run(plan, input, out);
                Ok(())
            }
            (State::Tract(runner), Engine::Tract(engine)) => {
                let mut batches = input.chunks(engine.row_numbers() * BATCH_ROWS);
                batches.try_for_each(|rows| runner.run(engine, rows, out))
            }
            (State::Native(_), Engine::Tract(_)) | (State::Tract(_), Engine::Native(_)) => {
                Err(RunError("a runner runs the network that it was made for".into()))
            }
        }
    }
}
