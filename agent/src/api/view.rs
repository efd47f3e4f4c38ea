//! The answers as JSON. The commands print the same shapes, read from the socket or made from the journal.

use serde::{Deserialize, Serialize};
use vedette_protocol::id::{DeviceId, Digest, ModelRef, RecordId, StreamName};
use vedette_protocol::number::Finite32;
use vedette_protocol::record::{Cause, Contribution, DeployStep, EngineKind, ScoredBy, Stage, SwapReason, Verdict};
use vedette_protocol::time::format_ms;

use crate::index::{Found, Judgement};
use crate::recorder::Trouble;

/// One anomaly.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AnomalyView {
    /// `device/epoch/sequence`.
    pub record: RecordId,
    /// Its place in the device's journal.
    pub sequence: u64,
    /// When the row was sampled, RFC 3339.
    pub at: String,
    /// The same, Unix ms UTC.
    pub at_ms: i64,
    /// When it was recorded, RFC 3339.
    pub recorded_at: String,
    /// When it really was recorded, Unix ms UTC, where the clock was set since and that is known better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_corrected_ms: Option<i64>,
    /// The stream.
    pub stream: StreamName,
    /// The row.
    pub row: u64,
    /// What found it.
    pub cause: Cause,
    /// The score.
    pub score: Finite32,
    /// What it was held against.
    pub threshold: Finite32,
    /// The signals that contributed most, largest first.
    pub top: Vec<Contribution>,
    /// Who scored.
    pub by: ScoredBy,
    /// SHA-256 of the input window.
    pub input: Digest,
    /// What was said about it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictView>,
}

/// What somebody said about an anomaly.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct VerdictView {
    /// What.
    pub verdict: Verdict,
    /// Who.
    pub by: String,
    /// In their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When, RFC 3339.
    pub at: String,
}

impl From<Judgement> for VerdictView {
    fn from(judgement: Judgement) -> Self {
        let Judgement { verdict, by, note, at_ms } = judgement;
        Self { verdict, by, note, at: format_ms(at_ms) }
    }
}

impl AnomalyView {
    /// An anomaly of this device's journal.
    #[must_use]
    pub fn new(device: &DeviceId, epoch: u64, found: Found) -> Self {
        let Found { sequence, recorded_ms, corrected_ms, anomaly, judgement } = found;
        Self {
            record: RecordId { device: device.clone(), epoch, sequence },
            sequence,
            at: format_ms(anomaly.at_ms),
            at_ms: anomaly.at_ms,
            recorded_at: format_ms(recorded_ms),
            recorded_corrected_ms: corrected_ms,
            stream: anomaly.stream,
            row: anomaly.row,
            cause: anomaly.cause,
            score: anomaly.score,
            threshold: anomaly.threshold,
            top: anomaly.top,
            by: anomaly.by,
            input: anomaly.input,
            verdict: judgement.map(VerdictView::from),
        }
    }
}

/// What a person says, as it is sent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictAsked {
    /// What.
    pub verdict: Verdict,
    /// Who, 1 to 64 bytes.
    pub by: String,
    /// In their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Who scored a row.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WhoView {
    /// What was asked for, in full: `device/epoch/sequence`, or `device/epoch/stream#row`.
    pub record: String,
    /// The device.
    pub device: DeviceId,
    /// The stream.
    pub stream: StreamName,
    /// The row.
    pub row: u64,
    /// The scorer with its digests.
    pub by: ScoredBy,
    /// The run of rows that the row lies in.
    pub run: RunView,
    /// What else must be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A run of rows with one scorer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunView {
    /// The stream.
    pub stream: StreamName,
    /// The scorer in charge.
    pub by: ScoredBy,
    /// First row.
    pub first_row: u64,
    /// First row after it; of a run that goes on, the next row to come.
    pub end_row: u64,
    /// Whether `end_row` is where scoring ended or stands; else it is a promise that a crash cut off.
    pub exact: bool,
    /// When it began, RFC 3339.
    pub since: String,
    /// Why.
    pub reason: SwapReason,
    /// What runs its graph, if it is a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// The swap record.
    pub swap: RecordId,
    /// Whether it goes on: the agent is running, and this is what the stream runs.
    pub running: bool,
}

/// A model's life on this device.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ModelView {
    /// The model.
    pub model: ModelRef,
    /// SHA-256 of the ONNX file, once it scored here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Digest>,
    /// SHA-256 of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The runs of rows that it scored, oldest first.
    pub runs: Vec<RunView>,
    /// Its way in, oldest first.
    pub steps: Vec<StepView>,
}

/// A step of a model's way in.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StepView {
    /// When, RFC 3339.
    pub at: String,
    /// For which stream.
    pub stream: StreamName,
    /// How far.
    pub stage: Stage,
    /// Why, when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How the agent does.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StatusView {
    /// The device.
    pub device: DeviceId,
    /// Whether the agent runs; if not, this is from its journal.
    pub running: bool,
    /// Version of the agent.
    pub agent_version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// The journal's epoch.
    pub epoch: u64,
    /// The next record's sequence.
    pub next_sequence: u64,
    /// Records below this sequence are on the disk.
    pub committed: u64,
    /// Records below this sequence are in the registry; without a registry none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked: Option<u64>,
    /// Records that wait because the disk refuses.
    pub held: u64,
    /// Records lost because too many waited.
    pub lost: u64,
    /// What the journal takes up; of an agent that is down not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalView>,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// How the disk refuses, if it does: `full`, `read_only` or `failing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Trouble>,
    /// Whether queries come from the index.
    pub index_ready: bool,
    /// The talk with the registry; without one none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryView>,
    /// The streams.
    pub streams: Vec<StreamView>,
}

/// What the journal takes up, bytes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct JournalView {
    /// All its files, the reserve of the newest segment included.
    pub bytes: u64,
    /// Records of class control, with the headers and the hashes of removed records.
    pub control_bytes: u64,
    /// What those may take up.
    pub control_bytes_max: u64,
    /// Anomalies.
    pub anomaly_bytes: u64,
    /// What those may take up.
    pub anomaly_bytes_max: u64,
    /// Records that the newest signed checkpoint speaks for; none in this life yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
}

/// How the talk with the registry stands.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RegistryView {
    /// Whether there is a connection.
    pub connected: bool,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Records that the registry does not have.
    #[serde(default)]
    pub waiting: u64,
    /// Records sent as late since the start, because they had waited for the connection.
    #[serde(default)]
    pub late: u64,
    /// Batches sent once more because no acknowledgement came.
    #[serde(default)]
    pub resent: u64,
    /// Ranges of records that the registry has beyond the acknowledged ones.
    #[serde(default)]
    pub held_ranges: u64,
    /// Tree size of the last checkpoint that the registry accepted, 0 for none known.
    #[serde(default)]
    pub checkpoint: u64,
    /// Why the talk is not what it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// The assignment that was taken last.
    pub assignment_version: u64,
    /// Why the last assignment was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// How one stream does.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StreamView {
    /// The stream.
    pub stream: StreamName,
    /// The kind of source; empty when the agent is down.
    pub source: String,
    /// `running`, `ended` or what is in the way.
    pub doing: String,
    /// The scorer in charge.
    pub by: ScoredBy,
    /// What runs its graph; nothing for the baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why.
    pub reason: SwapReason,
    /// The next row's number.
    pub row: u64,
    /// Rows scored since the start.
    pub rows: u64,
    /// Rows over the threshold since the start.
    pub over: u64,
    /// Anomalies recorded since the start.
    pub anomalies: u64,
    /// Anomalies dropped since the start.
    pub dropped: u64,
    /// Samples refused since the start.
    pub rejected: u64,
    /// Rows with a missing or frozen signal since the start.
    pub signal_findings: u64,
    /// Rows for which the model gave no number since the start.
    pub model_faults: u64,
    /// Half of the samples had their decision within this many µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p50_us: Option<f64>,
    /// 99 % of them within this many µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p99_us: Option<f64>,
    /// The last step of a model on its way in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<DeployStep>,
}
