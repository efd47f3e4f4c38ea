//! Our whole way from raw row to decision, as a device runs it (contract, window, graph, smoothing, contributions, and the built-in
//! baseline, which sees every row too), beside the graph alone on ready-made windows; one row at a time and 64 together.
//!
//! Every row's score is held against the committed reference first: a fast wrong answer is no figure.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use vedette_protocol::{Blob, Digest, Draft};
use vedette_scoring::replay::{self, Replay};
use vedette_scoring::{Decision, Model, Sample, Schema, Session, StreamScorer};

use crate::Effort;
use crate::measure::Timings;
use crate::ort::{self, Port, Runtime};
use crate::report::{Cell, Section};

/// Our scores and the reference may differ by this much on any row.
const TOLERANCE: f32 = 1e-5;
/// Rows scored together in the second measurement of each model.
const BATCH: usize = 64;
/// Both sides take turns after this many calls.
const TURN_CALLS: usize = 50;
/// Calls per side and model; a p99 of these rests on 60 calls.
const CALLS: usize = 6_000;
/// Calls before the clock counts, per side.
const WARM_UP_CALLS: usize = 200;

/// A model of `tests/data/models`.
struct Case {
    name: &'static str,
    /// Rows in its window.
    window: usize,
    /// Whether there is a file with a symbolic batch axis.
    batched: bool,
    /// Whether it tells contributions.
    contributes: bool,
}

const CASES: [Case; 5] = [
    Case { name: "pca", window: 1, batched: true, contributes: true },
    Case { name: "dense_ae", window: 16, batched: true, contributes: true },
    Case { name: "conv_ae", window: 32, batched: true, contributes: true },
    Case { name: "lstm_pred", window: 16, batched: true, contributes: true },
    Case { name: "iforest_dense", window: 1, batched: false, contributes: false },
];

/// The telemetry that all models score.
struct Rows {
    schema: Arc<Schema>,
    samples: Vec<Sample>,
}

/// What one model at one batch size took.
struct Measured {
    case: &'static Case,
    batch: usize,
    graph: Timings,
    peer: Option<Timings>,
    path: Timings,
}

/// Checks and measures all models.
pub(crate) fn run(runtime: Option<&Runtime>, effort: Effort) -> anyhow::Result<Section> {
    let rows = read_rows()?;
    let mut measured = Vec::new();
    let mut worst = 0.0_f32;
    for case in &CASES {
        let difference = check(case, &rows).with_context(|| format!("{} is not right", case.name))?;
        worst = worst.max(difference);
        for batch in [1, BATCH] {
            measured.push(measure(case, batch, &rows, runtime, effort)?);
        }
    }
    let peer = match runtime {
        Some(runtime) => format!("Peer: ONNX Runtime {}, one thread, its buffers bound once.", runtime.version()),
        None => "Peer skipped: VEDETTE_ORT does not name ONNX Runtime's library.".to_owned(),
    };
    let notes = vec![
        format!("Largest difference to the reference, over all rows of all models: {worst:.1e} (allowed {TOLERANCE:.0e})."),
        "ns are per row. Graph and peer run ready-made windows; ratio is our p50 over the peer's, below 1 we are faster.".to_owned(),
        "Path is a device's whole way from raw row to decision, the built-in baseline over all 38 signals included.".to_owned(),
        "The forest's graph fixes its batch at 1: at batch 64 both sides run it row by row.".to_owned(),
        peer,
    ];
    let columns = [
        "model",
        "batch",
        "graph rows/s",
        "p50 ns",
        "p99 ns",
        "peer rows/s",
        "peer p50",
        "peer p99",
        "ratio",
        "path rows/s",
        "path p50",
        "path p99",
    ];
    Ok(Section {
        title: "Scoring a server's telemetry, from raw row to decision, one thread",
        columns: columns.to_vec(),
        rows: measured.iter().map(line).collect(),
        notes,
    })
}

fn line(measured: &Measured) -> Vec<Cell> {
    let three = |t: &Timings| [t.rate(), t.quantile_ns(0.5), t.quantile_ns(0.99)].map(|number| Cell::Number(number, 0));
    let mut cells = vec![Cell::text(measured.case.name), Cell::Number(measured.batch as f64, 0)];
    cells.extend(three(&measured.graph));
    match &measured.peer {
        None => cells.extend([const { Cell::Skipped("skipped") }; 4]),
        Some(peer) => {
            cells.extend(three(peer));
            cells.push(Cell::Number(measured.graph.quantile_ns(0.5) / peer.quantile_ns(0.5), 2));
        }
    }
    cells.extend(three(&measured.path));
    cells
}

/// Scores every row and gives the largest difference to the reference.
fn check(case: &Case, rows: &Rows) -> anyhow::Result<f32> {
    let path = models().join(format!("{}.ref.f32", case.name));
    let bytes = std::fs::read(&path).with_context(|| format!("couldn't read {}", path.display()))?;
    let (numbers, _) = bytes.as_chunks::<4>();
    let reference: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    ensure!(reference.len() + case.window == rows.samples.len() + 1, "the reference has {} scores", reference.len());
    let mut scorer = stream(rows, &load(case, 1)?)?;
    let mut worst = 0.0_f32;
    for (row, sample) in rows.samples.iter().enumerate() {
        let decision = scorer.score(row as u64, sample);
        let Some(expected) = (row + 1).checked_sub(case.window).and_then(|index| reference.get(index)) else {
            continue;
        };
        ensure!(decision.by_model(), "row {row} was not scored by the model: {:?}", decision.cause);
        let difference = (decision.row_score - expected).abs();
        ensure!(difference <= TOLERANCE, "row {row} scored {}, the reference is {expected}", decision.row_score);
        worst = worst.max(difference);
    }
    Ok(worst)
}

fn measure(
    case: &'static Case,
    batch: usize,
    rows: &Rows,
    runtime: Option<&Runtime>,
    effort: Effort,
) -> anyhow::Result<Measured> {
    let model = load(case, batch)?;
    let windows = Windows::new(case, batch, rows);
    let mut graph = Graph { session: Session::new(Arc::clone(&model)), windows: windows.clone(), gathered: Vec::new() };
    let mut peer = runtime.map(|runtime| Peer::new(case, windows, runtime)).transpose()?;
    let mut path = Path { scorer: stream(rows, &model)?, rows, batch, next: 0, decisions: Vec::with_capacity(batch) };
    let timings = || Timings::new(batch as u64);
    let mut measured = Measured { case, batch, graph: timings(), peer: runtime.map(|_| timings()), path: timings() };
    let calls = effort.of(if batch == 1 { CALLS } else { CALLS / 6 });
    for turn in 0..(WARM_UP_CALLS + calls).div_ceil(TURN_CALLS) {
        if turn * TURN_CALLS == WARM_UP_CALLS {
            // The first turns warmed caches and branch predictors of all sides.
            measured = Measured { case, batch, graph: timings(), peer: runtime.map(|_| timings()), path: timings() };
        }
        (0..TURN_CALLS).for_each(|_| measured.graph.time(|| graph.call()));
        if let (Some(peer), Some(timings)) = (&mut peer, &mut measured.peer) {
            (0..TURN_CALLS).try_for_each(|_| timings.time(|| peer.call()))?;
        }
        (0..TURN_CALLS).for_each(|_| measured.path.time(|| path.call()));
    }
    Ok(measured)
}

/// All rows as one run of numbers, from which windows are cut, one row further each.
#[derive(Clone)]
struct Windows {
    numbers: Arc<[f32]>,
    signals: usize,
    /// Numbers of a window.
    size: usize,
    batch: usize,
    next: usize,
}

impl Windows {
    fn new(case: &Case, batch: usize, rows: &Rows) -> Self {
        let signals = rows.schema.len();
        let numbers = rows.samples.iter().flat_map(|sample| sample.values.iter().copied()).collect();
        Self { numbers, signals, size: case.window * signals, batch, next: 0 }
    }

    /// The next window; begins again where a whole batch no longer fits.
    fn next(&mut self) -> &[f32] {
        let needed = self.size + (self.batch - 1) * self.signals;
        if self.next.is_multiple_of(self.batch) && self.next * self.signals + needed > self.numbers.len() {
            self.next = 0;
        }
        let start = self.next * self.signals;
        self.next += 1;
        &self.numbers[start..start + self.size]
    }
}

/// Our engine on ready-made windows.
struct Graph {
    session: Session,
    windows: Windows,
    gathered: Vec<f32>,
}

impl Graph {
    fn call(&mut self) {
        // As the stream's scorer does it: windows are gathered side by side, then run.
        self.gathered.clear();
        for _ in 0..self.windows.batch {
            self.gathered.extend_from_slice(self.windows.next());
        }
        std::hint::black_box(self.session.run(&self.gathered));
    }
}

/// ONNX Runtime on the same windows.
struct Peer<'a> {
    session: ort::Session<'a>,
    windows: Windows,
    /// Runs of the graph a call: 1 when it takes a batch.
    runs: usize,
}

impl<'a> Peer<'a> {
    fn new(case: &Case, windows: Windows, runtime: &'a Runtime) -> anyhow::Result<Self> {
        let together = if case.batched { windows.batch } else { 1 };
        let signals = windows.signals;
        let shape = if case.window == 1 { vec![together, signals] } else { vec![together, case.window, signals] };
        let mut outputs = vec![Port::f32("score", vec![together, 1])];
        if case.contributes {
            outputs.push(Port::f32("contrib", vec![together, signals]));
        }
        let model = std::fs::read(onnx_path(case, windows.batch))?;
        let session = runtime.session(&model, &Port::f32("x", shape), &outputs)?;
        Ok(Self { session, runs: windows.batch / together, windows })
    }

    fn call(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            for input in self.session.input().chunks_exact_mut(self.windows.size) {
                input.copy_from_slice(self.windows.next());
            }
            self.session.run()?;
            std::hint::black_box(&self.session);
        }
        Ok(())
    }
}

/// Our whole way from raw row to decision.
struct Path<'a> {
    scorer: StreamScorer,
    rows: &'a Rows,
    batch: usize,
    next: usize,
    decisions: Vec<Decision>,
}

impl Path<'_> {
    fn call(&mut self) {
        if self.next + self.batch > self.rows.samples.len() {
            self.next = 0;
        }
        let samples = &self.rows.samples[self.next..self.next + self.batch];
        if let [sample] = samples {
            std::hint::black_box(self.scorer.score(self.next as u64, sample));
        } else {
            self.decisions.clear();
            self.scorer.score_batch(self.next as u64, samples, &mut self.decisions);
            std::hint::black_box(&self.decisions);
        }
        self.next += self.batch;
    }
}

fn models() -> PathBuf {
    vedette_tests::data_dir().join("models")
}

/// The graph's file: at batch 64 the one with a symbolic batch axis where there is one.
fn onnx_path(case: &Case, batch: usize) -> PathBuf {
    let folder = if batch > 1 && case.batched { models().join("batched") } else { models() };
    folder.join(format!("{}.onnx", case.name))
}

/// The model, as a device would have it from a signed manifest.
fn load(case: &Case, batch: usize) -> anyhow::Result<Arc<Model>> {
    let onnx = std::fs::read(onnx_path(case, batch))?;
    let path = models().join(format!("{}.toml", case.name));
    let draft = Draft::from_toml(&std::fs::read_to_string(&path)?, &path.display().to_string())?;
    let (manifest, _) = draft.finish(Blob::of(&onnx), Blob::of(b"no self-test: a benchmark"), 0)?;
    Ok(Arc::new(Model::load(&manifest, Digest::of(b"not signed: a benchmark"), &onnx)?))
}

fn stream(rows: &Rows, model: &Arc<Model>) -> anyhow::Result<StreamScorer> {
    let mut scorer = StreamScorer::new(Arc::clone(&rows.schema));
    scorer.swap(Some(Arc::clone(model)))?;
    Ok(scorer)
}

/// Reads the sample's test file as a device's replay would.
fn read_rows() -> anyhow::Result<Rows> {
    let mut options = replay::Options::new(0, 60_000);
    options.label = Some("label".to_owned());
    options.default_unit = Some("1".parse()?);
    let replay = Replay::open(&vedette_tests::sample::test_file(), &options)?;
    let schema = Arc::clone(replay.schema());
    let samples = replay.map(|row| Ok(row?.sample)).collect::<anyhow::Result<_>>()?;
    Ok(Rows { schema, samples })
}
