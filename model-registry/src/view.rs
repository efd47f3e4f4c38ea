//! What the API takes and answers, as JSON: shared by the handlers, the OpenAPI document and the `vedette` command.
//!
//! Times stand twice: `…_ms` in Unix milliseconds for programs, and RFC 3339 in UTC beside it for people. Ids and
//! digests are text. A field may be added; none is renamed or removed under `/api/v1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_protocol::id::{DeviceId, Digest, ModelName, ModelRef, ModelVersion, StreamName};
use vedette_protocol::manifest::{Lineage, Manifest};
use vedette_protocol::record::{ScoredBy, SwapReason};

use crate::auth::Role;

/// The answer of `GET /health`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`: the service answers.
    pub status: String,
    /// The version of this program.
    pub version: String,
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries, in the order the route names.
    pub items: Vec<T>,
    /// Pass as `cursor` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A model: a name, its versions counted, its aliases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelSummary {
    /// The model's name.
    #[schema(value_type = String)]
    pub name: ModelName,
    /// The highest version.
    #[schema(value_type = String)]
    pub latest: ModelVersion,
    /// How many versions there are.
    pub versions: u32,
    /// Aliases and the versions they point to.
    #[schema(value_type = BTreeMap<String, String>)]
    pub aliases: BTreeMap<String, ModelVersion>,
    /// When the highest version was pushed, RFC 3339.
    pub updated: String,
}

/// A version of a model, without the manifest's and lineage's insides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionSummary {
    /// `name@version`.
    #[schema(value_type = String)]
    pub model: ModelRef,
    /// `autoencoder`, `forecaster` or `score`.
    pub kind: String,
    /// Digest of the signed manifest's payload: what an assignment names.
    #[schema(value_type = String)]
    pub manifest: Digest,
    /// Digest of the ONNX file.
    #[schema(value_type = String)]
    pub artifact: Digest,
    /// Length of the ONNX file in bytes.
    pub artifact_bytes: u64,
    /// Digest of the self-test vectors.
    #[schema(value_type = String)]
    pub selftest: Digest,
    /// Digest of the lineage.
    #[schema(value_type = String)]
    pub lineage: Digest,
    /// Lowest version of this name that may still run.
    #[schema(value_type = String)]
    pub floor: ModelVersion,
    /// The version this one was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub parent: Option<ModelVersion>,
    /// Why this version was made (from the lineage).
    pub reason: String,
    /// Who made it (from the lineage).
    pub author: String,
    /// When it was pushed, Unix ms.
    pub pushed_ms: i64,
    /// When it was pushed, RFC 3339.
    pub pushed: String,
    /// The token that pushed it.
    pub pushed_by: String,
    /// What the trial before admission measured.
    pub trial: Trial,
}

/// What the trial before admission measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trial {
    /// The engine that ran it.
    pub engine: String,
    /// Self-test vectors that came out right (all of them).
    pub vectors: u32,
    /// Time to load, in microseconds.
    pub load_us: u64,
    /// Time per row, in nanoseconds.
    pub row_ns: u64,
    /// Peak memory of the trial's process, in bytes.
    pub memory_bytes: u64,
}

/// A version with all that was said about it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VersionDetail {
    /// The summary.
    #[serde(flatten)]
    pub summary: VersionSummary,
    /// The manifest's content: contract, calibration, limits.
    #[schema(value_type = Object)]
    pub content: Manifest,
    /// The lineage's content: data, hyper-parameters, metrics, who and why.
    #[schema(value_type = Object)]
    pub made: Lineage,
}

/// The body of a push.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// The signed envelope around the manifest, base64 (standard alphabet, padded).
    pub manifest: String,
    /// The lineage in the canonical CBOR whose digest the manifest names, base64.
    pub lineage: String,
}

/// The body of `PUT …/aliases/{alias}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// The version the alias shall point to.
    #[schema(value_type = String)]
    pub version: ModelVersion,
}

/// An uploaded file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobView {
    /// Its digest, `sha256:<hex>`.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
}

/// A device: what it runs, when it was last heard, how far its journal has come.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// The device.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// Whether its session with the broker lives, as its birth or last will said.
    pub online: bool,
    /// When it was last heard, Unix ms.
    pub last_seen_ms: i64,
    /// When it was last heard, RFC 3339.
    pub last_seen: String,
    /// The agent's version; empty while only journal records have come.
    pub agent_version: String,
    /// What each stream runs, as the device reported it.
    pub streams: Vec<StreamView>,
    /// The assignment it reported to hold; 0 is none.
    pub assignment_version: u64,
    /// The assignment it should hold; absent when none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_version: Option<u64>,
    /// How far each of its journals has been received.
    pub journals: Vec<JournalView>,
    /// The counters of its last status; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusView>,
}

/// What a stream of a device runs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamView {
    /// The stream.
    #[schema(value_type = String)]
    pub stream: StreamName,
    /// What scores it.
    #[schema(value_type = Object)]
    pub by: ScoredBy,
    /// The row it had reached.
    pub row: u64,
    /// The last step of a deployment: `assigned`, `verified`, `fetched`, `tried`, `live` or `refused`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The model that step was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stage_model: Option<ModelRef>,
    /// Why, when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How far one journal of a device has been received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalView {
    /// The journal's epoch.
    pub epoch: u64,
    /// First sequence that has not been received: everything below is stored.
    pub upto: u64,
    /// First sequence that the device had not written when it last reported; absent for older epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
}

/// The counters of a device's last status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// Rows scored since the agent's start.
    pub rows: u64,
    /// Anomalies found since the agent's start.
    pub anomalies: u64,
    /// Records dropped by the device's own limits since the agent's start.
    pub dropped: u64,
    /// Why the device is degraded; absent when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// The agent's memory in bytes.
    pub memory_bytes: u64,
    /// Seconds since the agent's start.
    pub uptime_s: u64,
}

/// What shall run on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssignmentView {
    /// The device.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// Rises by one with each assignment of this device.
    pub version: u64,
    /// When it was signed, RFC 3339.
    pub issued: String,
    /// After this time a device no longer installs it (it goes on scoring with it), RFC 3339.
    pub expires: String,
    /// Model per stream, by stream.
    pub slots: Vec<SlotView>,
    /// The token that made it.
    pub by: String,
    /// The signed envelope, base64.
    pub envelope: String,
}

/// One stream of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    /// The stream.
    #[schema(value_type = String)]
    pub stream: StreamName,
    /// The model.
    #[schema(value_type = String)]
    pub model: ModelRef,
    /// The manifest's digest.
    #[schema(value_type = String)]
    pub manifest: Digest,
}

/// The body of `PUT /devices/{device}/assignment`: all streams of the device, not only those that change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignRequest {
    /// Stream name to `name@version` or `name@alias`. An empty map takes every model away.
    #[schema(value_type = BTreeMap<String, String>)]
    pub slots: BTreeMap<StreamName, String>,
}

/// What ran on a device at a time.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceAt {
    /// The device.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// The time asked for, RFC 3339.
    pub time: String,
    /// What ran, per stream that had started by then.
    pub streams: Vec<RanView>,
    /// The assignment in force then; absent when none had been made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentView>,
}

/// A stretch of a stream that one model (or the baseline) scored.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RanView {
    /// The stream.
    #[schema(value_type = String)]
    pub stream: StreamName,
    /// What scored it.
    #[schema(value_type = Object)]
    pub by: ScoredBy,
    /// Since when, by the device's clock, RFC 3339.
    pub since: String,
    /// First row of the stretch.
    pub first_row: u64,
    /// Why it came to run.
    #[schema(value_type = String)]
    pub reason: SwapReason,
    /// The journal record that says so: `device/epoch/sequence`.
    pub record: String,
}

/// An anomaly as its device recorded it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnomalyView {
    /// `device/epoch/sequence`.
    pub record: String,
    /// The device.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// The stream.
    #[schema(value_type = String)]
    pub stream: StreamName,
    /// The telemetry row.
    pub row: u64,
    /// Sample time, Unix ms.
    pub at_ms: i64,
    /// Sample time, RFC 3339.
    pub at: String,
    /// `model`, `baseline`, `missing`, `frozen` or `model-fault`.
    pub cause: String,
    /// The row's score.
    pub score: f32,
    /// The threshold it was held against.
    pub threshold: f32,
    /// The signals that made it, strongest first.
    pub top: Vec<SignalShare>,
    /// What scored it.
    #[schema(value_type = Object)]
    pub by: ScoredBy,
    /// Digest of the model's input window.
    #[schema(value_type = String)]
    pub input: Digest,
    /// When the registry stored it, RFC 3339.
    pub received: String,
    /// What people at the device said about it; absent when nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictView>,
}

/// A signal's part in an anomaly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SignalShare {
    /// The signal.
    pub signal: String,
    /// Its share of the summed contributions, 0 to 1.
    pub share: f32,
    /// Its raw value, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
}

/// What somebody said about an anomaly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// `false-alarm`, `confirmed` or `ignored`.
    pub verdict: String,
    /// Who.
    pub by: String,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The filter of `GET /anomalies`; all given conditions hold together.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AnomalyQuery {
    /// Only this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub device: Option<DeviceId>,
    /// Only this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub stream: Option<StreamName>,
    /// Only this model: `name` or `name@version`; `baseline` for the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only samples at or after this time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only samples before this time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Entries per page, 1 to 1000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which model scored a record or row, and where that model came from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhoScored {
    /// What was asked: `device/epoch/sequence` or `device/epoch/stream#row`.
    pub record: String,
    /// The device.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// The stream.
    #[schema(value_type = String)]
    pub stream: StreamName,
    /// The telemetry row.
    pub row: u64,
    /// What scored it.
    #[schema(value_type = Object)]
    pub by: ScoredBy,
    /// The stretch of rows that it belongs to; absent when the device's swap record has not come yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stretch: Option<RanView>,
    /// The version as this registry admitted it; absent for the baseline or a model that never came through here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionSummary>,
}

/// An entry of the audit journal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its sequence in the audit journal.
    pub sequence: u64,
    /// When, Unix ms.
    pub at_ms: i64,
    /// When, RFC 3339.
    pub at: String,
    /// Who: `token:<name>`, `device:<id>`, `offline` (a command on the registry's machine) or `registry`.
    pub by: String,
    /// What: an object with `kind` and the kind's own fields.
    #[schema(value_type = Object)]
    pub change: serde_json::Value,
}

/// The filter of `GET /audit`; entries come oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only entries with a sequence above this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Entries per page, 1 to 1000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The query of `GET /devices/{device}/at`.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AtQuery {
    /// The time, RFC 3339.
    pub time: String,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id: the first 16 hex digits of the SHA-256 of the secret.
    pub id: String,
    /// The name it was given.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Who made it.
    pub created_by: String,
}

/// The body of `POST /tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// A name for the audit log: 1 to 64 of `a-z 0-9 . _ -`.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// A token just made: the only time that its secret is shown.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token.
    #[serde(flatten)]
    pub view: TokenView,
    /// The secret: send as `Authorization: Bearer <token>`.
    pub token: String,
}

/// An error, RFC 9457 (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URN that names the kind of problem: `urn:vedette:problem:<kind>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and the way out.
    pub detail: String,
}
