//! Anomalies, what people said of them, and who scored a row.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_protocol::id::{DeviceId, Digest, StreamName};
use vedette_protocol::record::ScoredBy;

use super::{RanView, VersionSummary};

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
    /// `model`, `baseline`, `missing`, `frozen` or `model_fault`.
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
    /// Whether it had waited at the device for the connection.
    #[serde(default)]
    pub late: bool,
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
    /// `false_alarm`, `confirmed` or `ignored`.
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
    /// The run of rows that it belongs to; absent when the device's swap record has not come yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RanView>,
    /// The version as this registry admitted it; absent for the baseline or a model that never came through here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionSummary>,
    /// How far the device's signature over its log reaches, about the record asked for or the swap record of the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedView>,
}

/// How far a device's signature over its log reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedView {
    /// Records in the last signed tree that was accepted; 0 for none.
    pub size: u64,
    /// Whether the record is among those whose copies here make a signed root.
    pub covered: bool,
}

/// A proof that a record is in the log that its device signed (RFC 6962): leaf, path and checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProofView {
    /// `device/epoch/sequence`.
    pub record: String,
    /// Number of the leaf: the record's sequence.
    pub index: u64,
    /// SHA-256 of a zero byte and the record's bytes, hexadecimal.
    pub leaf: String,
    /// Records in the signed tree.
    pub size: u64,
    /// Its root, hexadecimal.
    pub root: String,
    /// Audit path from the leaf to the root, hexadecimal.
    pub proof: Vec<String>,
    /// The key that signed it, base64.
    pub key: String,
    /// The checkpoint itself (C2SP signed note).
    pub note: String,
}
