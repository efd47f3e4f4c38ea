//! Those who run a model: our engine, ONNX Runtime, and the arithmetic alone.

use anyhow::Context as _;
use vedette_scoring::{EngineChoice, Network, Outputs, Runner};

use super::bound::Dense;
use super::cases::Case;
use crate::ort::{self, Port, Runtime};
use crate::zoo::{self, Numbers};

/// One that takes the next rows at each call, so that no branch is known from the call before.
pub(crate) enum Contender<'a> {
    Ours(Box<Ours<'a>>),
    Peer(Peer<'a>),
    Bound(Bound<'a>),
}

impl Contender<'_> {
    /// Runs the next batch.
    pub(crate) fn call(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Ours(ours) => ours.call(),
            Self::Peer(peer) => peer.call(),
            Self::Bound(bound) => {
                bound.call();
                Ok(())
            }
        }
    }
}

/// The case's rows, a batch a turn.
struct Batches<'a> {
    rows: &'a [f32],
    numbers: usize,
    next: usize,
}

impl<'a> Batches<'a> {
    fn new(case: &'a Case, batch: usize) -> Self {
        Self { rows: &case.rows, numbers: batch * case.size(), next: 0 }
    }

    fn next(&mut self) -> &'a [f32] {
        if self.next + self.numbers > self.rows.len() {
            self.next = 0;
        }
        let start = self.next;
        self.next += self.numbers;
        &self.rows[start..self.next]
    }
}

/// One of our engines.
pub(crate) struct Ours<'a> {
    pub(crate) network: Network,
    runner: Runner,
    out: Outputs,
    batches: Batches<'a>,
}

impl<'a> Ours<'a> {
    pub(crate) fn new(case: &'a Case, batch: usize, choice: EngineChoice) -> anyhow::Result<Self> {
        let network = Network::load(&case.onnx, choice)?;
        let (runner, out) = (Runner::new(&network), Outputs::new(network.outputs()));
        Ok(Self { network, runner, out, batches: Batches::new(case, batch) })
    }

    fn call(&mut self) -> anyhow::Result<()> {
        self.runner.run(&self.network, self.batches.next(), &mut self.out)?;
        std::hint::black_box(&self.out);
        Ok(())
    }

    /// The last call's numbers of the output with this name.
    fn output(&self, name: &str) -> anyhow::Result<Numbers> {
        let place = self.network.outputs().iter().position(|port| port.name == name).context("an output is missing")?;
        Ok(match &self.out.values[place] {
            vedette_scoring::Numbers::F32(list) => Numbers::F32(list.clone()),
            vedette_scoring::Numbers::I64(list) => Numbers::I64(list.clone()),
        })
    }
}

/// ONNX Runtime.
pub(crate) struct Peer<'a> {
    session: ort::Session<'a>,
    outputs: Vec<Port>,
    batches: Batches<'a>,
}

impl<'a> Peer<'a> {
    pub(crate) fn new(case: &'a Case, batch: usize, runtime: &'a Runtime) -> anyhow::Result<Self> {
        let outputs = case.outputs(batch);
        let session = runtime.session(&case.onnx, &Self::input(case, batch), &outputs)?;
        Ok(Self { session, outputs, batches: Batches::new(case, batch) })
    }

    /// For [`apart`].
    pub(crate) fn exact(case: &'a Case, batch: usize, runtime: &'a Runtime) -> anyhow::Result<Self> {
        let outputs = case.outputs(batch);
        let session = runtime.exact_session(&case.onnx, &Self::input(case, batch), &outputs)?;
        Ok(Self { session, outputs, batches: Batches::new(case, batch) })
    }

    fn input(case: &Case, batch: usize) -> Port {
        Port::f32(&case.input, std::iter::once(batch).chain(case.row_shape.iter().copied()).collect())
    }

    fn call(&mut self) -> anyhow::Result<()> {
        self.session.input().copy_from_slice(self.batches.next());
        self.session.run()?;
        std::hint::black_box(&self.session);
        Ok(())
    }

    fn output(&self, place: usize) -> Numbers {
        match self.session.output(place) {
            ort::Numbers::F32(list) => Numbers::F32(list.into()),
            ort::Numbers::I64(list) => Numbers::I64(list.into()),
        }
    }
}

/// The largest difference between the two on the next batch.
pub(crate) fn apart(ours: &mut Ours<'_>, peer: &mut Peer<'_>) -> anyhow::Result<f32> {
    ours.call()?;
    peer.call()?;
    let mut largest = 0.0_f32;
    for (place, port) in peer.outputs.iter().enumerate() {
        largest = largest.max(zoo::difference(&ours.output(&port.name)?, &peer.output(place)));
    }
    Ok(largest)
}

/// Nothing but a dense model's products.
pub(crate) struct Bound<'a> {
    dense: Dense,
    size: usize,
    batches: Batches<'a>,
}

impl<'a> Bound<'a> {
    pub(crate) fn new(case: &'a Case, batch: usize) -> Option<Self> {
        let dense = (!case.widths.is_empty()).then(|| Dense::new(case.widths))?;
        Some(Self { dense, size: case.size(), batches: Batches::new(case, batch) })
    }

    fn call(&mut self) {
        for row in self.batches.next().chunks_exact(self.size) {
            std::hint::black_box(self.dense.run(row));
        }
    }
}
