//! A model: a graph, and what its manifest says of it.
//!
//! What the graph sees is the window, row-major, oldest row first. An *autoencoder* sees all `contract.window` rows and gives
//! as many numbers back. A *forecaster* sees all rows but the last and gives one number per signal: the last row, which is
//! held against it; so `contract.window` is the graph's rows plus 1. (If the graph's input has room for the whole window it
//! gets that, and must not look at the last row.) A *score* graph sees all rows and gives one number, and
//! perhaps one contribution per signal.
//!
//! A **stateful** model (the manifest pairs the graph's state inputs and outputs) sees one row and the state that the row before
//! left. The state belongs to the [`Session`], not to the engine: it begins as zeros, goes from row to row, and only a session
//! of the same graph can take it over. A state that is no finite number is not taken: that row is a fault, and the next one
//! goes on from the state before.

mod residual;

use std::sync::Arc;

use vedette_protocol::{Calibration, Digest, Manifest, ModelKind, ScoredBy, TensorSpec};

use crate::engine::{BATCH_ROWS, EngineChoice, EngineError, EngineKind, Network, Outputs, Runner, Wanted, check_size};
use residual::{Residual, Scratch};

/// Why a model can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are not the ones that the manifest names.
    #[error("the artifact is {found}, the manifest of {model} names {expected}")]
    Artifact {
        /// Model, as `name@version`.
        model: String,
        /// What came.
        found: Digest,
        /// What was promised.
        expected: Digest,
    },
    /// The manifest contradicts itself.
    #[error("the manifest of {model} does not hold together: {problem}")]
    Manifest {
        /// Model, as `name@version`.
        model: String,
        /// What does not fit what.
        problem: String,
    },
    /// The graph can't be run, or is not the one that the manifest describes.
    #[error(transparent)]
    Graph(#[from] EngineError),
}

/// How output numbers become a score.
#[derive(Clone, Debug)]
enum Judge {
    /// Squared error per signal against the rows `from..to` of the window, over calibration residuals.
    Residual { from: usize, to: usize, residual: Residual },
    /// The graph says.
    Score { contribution: bool },
}

/// A loaded model, shared between the streams that it scores.
#[derive(Debug)]
pub struct Model {
    manifest: Manifest,
    by: ScoredBy,
    network: Network,
    judge: Judge,
    /// Numbers of a window, and how many of them (from the start) the graph sees.
    window: usize,
    seen: usize,
    signals: usize,
    /// Numbers of each state tensor; none: each window stands alone.
    state: Vec<usize>,
}

impl Model {
    /// Loads the graph in `onnx` as `manifest` describes it; `manifest_digest` is the digest of the manifest's signed payload.
    ///
    /// Takes milliseconds for what telemetry models are. A hostile graph can hang or abort the process: give one that
    /// nobody has tried to [`crate::trial::run`] first.
    ///
    /// # Errors
    /// [`LoadError`] names what was found and what was expected.
    pub fn load(manifest: &Manifest, manifest_digest: Digest, onnx: &[u8]) -> Result<Model, LoadError> {
        Self::load_with(manifest, manifest_digest, onnx, EngineChoice::Auto)
    }

    /// As [`load`](Self::load), with a say in which engine runs the graph.
    ///
    /// # Errors
    /// [`LoadError`] names what was found and what was expected.
    pub fn load_with(
        manifest: &Manifest,
        manifest_digest: Digest,
        onnx: &[u8],
        choice: EngineChoice,
    ) -> Result<Model, LoadError> {
        check_size(onnx)?;
        let found = Digest::of(onnx);
        if found != manifest.artifact.digest {
            let expected = manifest.artifact.digest;
            return Err(LoadError::Artifact { model: manifest.model.to_string(), found, expected });
        }
        let signals = manifest.contract.signals.len();
        let rows = manifest.contract.window as usize;
        let window = rows * signals;
        let contradiction = |problem: String| LoadError::Manifest { model: manifest.model.to_string(), problem };
        let (seen, wanted, judge) = match &manifest.kind {
            ModelKind::Autoencoder { reconstruction } => {
                let tail = match manifest.calibration.tail as usize {
                    0 => rows,
                    tail => tail.min(rows),
                };
                (
                    window,
                    vec![(reconstruction, window)],
                    residual_judge(rows - tail, rows, signals, &manifest.calibration),
                )
            }
            ModelKind::Forecaster { forecast } => {
                if rows < 2 {
                    return Err(contradiction(
                        "a forecaster's window has at least 2 rows: what it sees, and the row it forecasts".into(),
                    ));
                }
                let whole = numbers(&manifest.input) == window as u64;
                let seen = if whole { window } else { window - signals };
                (seen, vec![(forecast, signals)], residual_judge(rows - 1, rows, signals, &manifest.calibration))
            }
            ModelKind::Score { score, contribution } => {
                let contributions = contribution.iter().map(|c| (c, signals));
                (
                    window,
                    std::iter::once((score, 1)).chain(contributions).collect(),
                    Judge::Score { contribution: contribution.is_some() },
                )
            }
        };
        let shape = numbers(&manifest.input);
        if shape != seen as u64 {
            return Err(contradiction(format!(
                "input `{}` {:?} holds {shape} numbers, but the graph is to see {} rows of {signals} signals",
                manifest.input.name,
                manifest.input.shape,
                seen / signals.max(1)
            )));
        }
        let residuals = manifest.calibration.residual.len();
        if let Judge::Residual { .. } = &judge
            && residuals != 0
            && residuals != signals
        {
            return Err(contradiction(format!("calibration has {residuals} residuals for {signals} signals")));
        }
        let wanted: Vec<Wanted> =
            wanted.into_iter().map(|(name, numbers)| Wanted { name: name.clone(), numbers }).collect();
        let (network, state) = match &manifest.stateful {
            None => (Network::load_as(onnx, choice, &manifest.input, &wanted)?, Vec::new()),
            Some(stateful) => Network::load_stateful(onnx, choice, &manifest.input, &wanted, &stateful.state)?,
        };
        let by = ScoredBy::Model { model: manifest.model.clone(), artifact: found, manifest: manifest_digest };
        Ok(Model { manifest: manifest.clone(), by, network, judge, window, seen, signals, state })
    }

    /// What the model promises and needs.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Who this model is in the score ledger and in anomalies.
    pub fn scored_by(&self) -> &ScoredBy {
        &self.by
    }

    /// Which program runs the graph.
    pub fn engine(&self) -> EngineKind {
        self.network.engine()
    }

    /// Whether several windows at a time are computed in one go (else one after the other, with the same result).
    pub fn batches(&self) -> bool {
        self.network.batches() && !self.is_stateful()
    }

    /// Whether the graph takes one row at a time and keeps a state in between.
    pub fn is_stateful(&self) -> bool {
        !self.state.is_empty()
    }

    /// Whether a state of `other` is one of this model: the graph is the same, and so are the tensors that carry it.
    pub(crate) fn shares_state_with(&self, other: &Model) -> bool {
        let state = |model: &Model| model.manifest.stateful.as_ref().map(|stateful| stateful.state.clone());
        self.is_stateful()
            && self.manifest.artifact.digest == other.manifest.artifact.digest
            && state(self) == state(other)
    }

    /// Numbers of one window: rows times signals.
    pub fn window_numbers(&self) -> usize {
        self.window
    }

    /// Row scores, before smoothing, of windows as the graph is to see them (preprocessed), one after the other. A score that is
    /// no finite number is a fault of the model. For benchmarks and checks: streams are scored by
    /// [`StreamScorer`](crate::StreamScorer), which is this with a [`Session`] kept.
    pub fn row_scores(self: &Arc<Self>, windows: &[f32]) -> Vec<f32> {
        let mut session = Session::new(Arc::clone(self));
        let mut scores = Vec::with_capacity(windows.len() / self.window);
        for chunk in windows.chunks(self.window * BATCH_ROWS) {
            scores.extend_from_slice(session.run(chunk));
        }
        scores
    }
}

fn numbers(input: &TensorSpec) -> u64 {
    input.shape.iter().map(|d| u64::from(*d)).product()
}

fn residual_judge(from: usize, to: usize, signals: usize, calibration: &Calibration) -> Judge {
    let mut residuals: Vec<f64> = calibration.residual.iter().map(|r| r.get()).collect();
    if residuals.is_empty() {
        residuals = vec![1.0; signals];
    }
    Judge::Residual { from, to, residual: Residual::new(to - from, &residuals) }
}

/// One thread's use of a [`Model`]: keeps the engine's state and all buffers.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    runner: Runner,
    outputs: Outputs,
    /// What the graph sees, when that is not the whole window.
    seen: Vec<f32>,
    /// The state tensors, one after the other.
    state: Vec<f32>,
    scores: Vec<f32>,
    contributions: Vec<f32>,
    scratch: Scratch,
    fault: Option<String>,
}

impl Session {
    /// A session without history.
    pub fn new(model: Arc<Model>) -> Session {
        let (runner, outputs) = (Runner::new(&model.network), Outputs::new(model.network.outputs()));
        Session {
            state: vec![0.0; model.state.iter().sum()],
            model,
            runner,
            outputs,
            seen: Vec::new(),
            scores: Vec::new(),
            contributions: Vec::new(),
            scratch: Scratch::default(),
            fault: None,
        }
    }

    /// The row scores, before smoothing, of 1 to [`BATCH_ROWS`] whole windows (more are ignored), NaN where the model failed.
    pub fn run(&mut self, windows: &[f32]) -> &[f32] {
        let window = self.model.window;
        let rows = (windows.len() / window).min(BATCH_ROWS);
        let windows = &windows[..rows * window];
        self.scores.clear();
        self.contributions.clear();
        self.fault = None;
        if self.model.is_stateful() {
            windows.chunks_exact(window).for_each(|one| self.run_alone(one));
            return &self.scores;
        }
        if !self.infer(windows) {
            if rows == 1 {
                self.scores.push(f32::NAN);
                self.contributions.resize(self.model.signals, 0.0);
            } else {
                // One of them may have upset the engine: the others still get their score.
                windows.chunks_exact(window).for_each(|one| self.run_alone(one));
            }
            return &self.scores;
        }
        self.judge(windows);
        &self.scores
    }

    fn run_alone(&mut self, window: &[f32]) {
        if self.infer(window) {
            self.judge(window);
        } else {
            self.scores.push(f32::NAN);
            self.contributions.resize(self.contributions.len() + self.model.signals, 0.0);
        }
    }

    /// Goes on from the state of a session of the same graph, if `other` is one; says whether it is.
    pub(crate) fn go_on_from(&mut self, other: &Session) -> bool {
        let same = self.model.shares_state_with(&other.model);
        if same {
            self.state.clone_from(&other.state);
        }
        same
    }

    /// Fills `outputs`; says whether that went well.
    fn infer(&mut self, windows: &[f32]) -> bool {
        let model = &self.model;
        let ran = if model.is_stateful() {
            self.seen.clear();
            self.seen.extend_from_slice(&windows[..model.seen]);
            self.seen.extend_from_slice(&self.state);
            let ran = self.runner.run(&model.network, &self.seen, &mut self.outputs);
            ran.map_err(|e| e.to_string()).and_then(|()| self.take_state())
        } else if model.seen == model.window {
            self.runner.run(&model.network, windows, &mut self.outputs).map_err(|e| e.to_string())
        } else {
            self.seen.clear();
            windows.chunks_exact(model.window).for_each(|w| self.seen.extend_from_slice(&w[..model.seen]));
            self.runner.run(&model.network, &self.seen, &mut self.outputs).map_err(|e| e.to_string())
        };
        ran.map_err(|e| self.fault = Some(e)).is_ok()
    }

    /// The state that the row left, for the next one.
    fn take_state(&mut self) -> Result<(), String> {
        let first = self.outputs.values.len() - self.model.state.len();
        let next = || (first..self.outputs.values.len()).flat_map(|output| self.outputs.floats(output));
        if next().count() != self.state.len() || !next().all(|number| number.is_finite()) {
            return Err("the state after the row is no finite number; it is not taken".to_owned());
        }
        let (outputs, state) = (&self.outputs, &mut self.state);
        let next = (first..outputs.values.len()).flat_map(|output| outputs.floats(output));
        state.iter_mut().zip(next).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    /// Appends scores and contributions for `windows` from `outputs`.
    fn judge(&mut self, windows: &[f32]) {
        let (window, signals) = (self.model.window, self.model.signals);
        let (first, second) = (self.outputs.floats(0), self.outputs.floats(1));
        match &self.model.judge {
            Judge::Score { contribution } => {
                self.scores.extend_from_slice(first);
                if *contribution {
                    self.contributions.extend_from_slice(second);
                }
            }
            Judge::Residual { from, to, residual } => {
                let answers = first.len() / (windows.len() / window);
                for (window, answer) in windows.chunks_exact(window).zip(first.chunks_exact(answers)) {
                    let truth = &window[from * signals..to * signals];
                    let answer = &answer[answer.len() - truth.len()..];
                    self.scores.push(residual.score(truth, answer, &mut self.scratch, &mut self.contributions));
                }
            }
        }
    }

    /// Row scores of the last run, NaN where the model failed.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// Contributions per signal, in the contract's order, of window `row` of the last run; empty when the graph gives none.
    pub fn contributions(&self, row: usize) -> &[f32] {
        let signals = self.model.signals;
        self.contributions.get(row * signals..(row + 1) * signals).unwrap_or_default()
    }

    /// Why the engine failed in the last run, if it did.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The model that this session runs.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}
