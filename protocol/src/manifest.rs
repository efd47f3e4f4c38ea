//! What a model is and needs, signed by the models role: artifact and self-test by digest, the contract between its
//! training and its telemetry, how its output becomes a decision, and what it may use. A manifest never changes; a
//! change is a new version. What people audit (data, metrics, author, reason) is the [`Lineage`], named by its digest.

mod check;
mod draft;
mod lineage;
mod selftest;
mod wire;

pub use check::ManifestError;
pub use draft::Draft;
pub use lineage::{Lineage, TrainingData};
pub use selftest::{SelfTest, Vector};

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ModelRef, ModelVersion, SignalName, Unit};
use crate::number::Finite64;

/// Bytes somewhere else, by what they hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many.
    pub length: u64,
}

impl Blob {
    /// Names these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), length: bytes.len() as u64 }
    }
}

/// One version of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name and version.
    pub model: ModelRef,
    /// The lowest version of this name that may still run: a device that saw this manifest refuses older ones.
    pub floor: ModelVersion,
    /// What its outputs mean.
    pub kind: ModelKind,
    /// The ONNX file, 1 byte to [`crate::limit::MAX_ARTIFACT_BYTES`].
    pub artifact: Blob,
    /// What it takes.
    pub contract: Contract,
    /// The graph's input.
    pub input: TensorSpec,
    /// How a score becomes a decision.
    pub calibration: Calibration,
    /// What it may use.
    pub limits: ModelLimits,
    /// The encoded [`SelfTest`].
    pub selftest: Blob,
    /// Digest of the encoded [`Lineage`].
    pub lineage: Digest,
    /// When it was signed, milliseconds since 1970 in UTC.
    pub issued_ms: i64,
    /// For a graph that takes one row at a time and keeps a state between rows; without it each window stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stateful: Option<Stateful>,
}

/// How a graph that takes one row at a time hands its state from row to row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stateful {
    /// The graph's state tensors, 1 to [`crate::limit::MAX_STATES`]; they begin as zeros.
    pub state: Vec<StateTensor>,
    /// Rows that run through the graph before its scores count, 0 to [`crate::limit::MAX_WINDOW_ROWS`].
    pub warm_rows: u32,
}

/// One state tensor: f32 numbers, of one shape on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateTensor {
    /// Name of the graph's input that takes it.
    pub input: String,
    /// Name of the graph's output that gives the next row's.
    pub output: String,
}

/// What a model's outputs mean. The texts are names of outputs of the ONNX graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// It rebuilds its window; the error is the score.
    Autoencoder {
        /// Shaped like the input.
        reconstruction: String,
    },
    /// It foretells the next row; the error is the score.
    Forecaster {
        /// One number a signal.
        forecast: String,
    },
    /// It gives the score itself.
    Score {
        /// One number a row.
        score: String,
        /// One number a signal, when the graph has that.
        contribution: Option<String>,
    },
}

/// The graph's input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name of the input.
    pub name: String,
    /// Shape without the batch axis: `[38]`, `[16, 38]` (rows, signals), `[38, 16]` (for convolutions) or `[608]`. Its
    /// product is rows × signals.
    pub shape: Vec<u32>,
}

/// What a model takes, and how raw telemetry is made into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// The signals in the model's order, 1 to [`crate::limit::MAX_SIGNALS`], each name once.
    pub signals: Vec<Signal>,
    /// Milliseconds between two rows, 1 ms to 7 days.
    pub sampling_ms: u64,
    /// Rows of a window, 1 to [`crate::limit::MAX_WINDOW_ROWS`].
    pub window: u32,
    /// Rows between two windows, 1 to `window`.
    pub hop: u32,
}

impl Contract {
    /// Raw rows that one window is made of: one more than the window when a signal looks back at the row before.
    #[must_use]
    pub fn raw_rows(&self) -> u32 {
        let looks_back = self.signals.iter().any(|signal| !matches!(signal.transform, Transform::None));
        self.window.saturating_add(u32::from(looks_back))
    }
}

/// One signal of a contract. In this order: fill, transform, `(x - center) / scale`, clip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name in the telemetry.
    pub name: SignalName,
    /// Its unit; a source that says another is refused.
    pub unit: Unit,
    /// What is done to the raw values.
    pub transform: Transform,
    /// Taken from the transformed value.
    pub center: Finite64,
    /// What it is then divided by, above 0.
    pub scale: Finite64,
    /// Largest size of the result, above 0.
    pub clip: Option<Finite64>,
    /// What stands for a value that is absent.
    pub fill: Fill,
    /// Rows with one identical value after which the signal counts as frozen, 2 or more; without it, never.
    pub frozen_after: Option<u32>,
}

/// What is done to raw values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Transform {
    /// Nothing.
    None = 0,
    /// The row before is taken away.
    Difference = 1,
    /// Growth of a counter per second. A fall is a restart: that row is absent.
    Rate = 2,
}

/// What stands for an absent value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// Nothing: the first absent value is a finding.
    None,
    /// The last value that was there.
    Hold {
        /// For at most this many rows, 1 or more; then it is a finding.
        limit: u32,
    },
    /// A fixed raw value.
    Constant {
        /// Which.
        value: Finite64,
        /// For at most this many rows, 1 or more; then it is a finding.
        limit: u32,
    },
}

/// How a score becomes a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    /// A smoothed score above this is over.
    pub threshold: Finite64,
    /// Rows of the moving mean over row scores, 1 to 4096.
    pub smooth: u32,
    /// Rows over the threshold one after another before there is an alarm, 1 to 4096.
    pub hold: u32,
    /// Mean squared residual per signal on the calibration data, each above 0; empty stands for 1 each.
    pub residual: Vec<Finite64>,
    /// Autoencoder: the residual is taken over this many last rows of the window, 0 for all.
    pub tail: u32,
}

/// What a model may use. More, and it is refused in its trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelLimits {
    /// Memory of a process that runs only this model, in bytes, 1 MiB to 4 GiB.
    pub memory_bytes: u64,
    /// From bytes to ready, in milliseconds, 1 ms to 10 min.
    pub load_ms: u64,
    /// One row, in microseconds, 1 µs to 60 s.
    pub row_us: u64,
}
