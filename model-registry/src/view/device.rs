//! Devices: what they run, ran and shall run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_protocol::id::{DeviceId, Digest, ModelRef, StreamName};
use vedette_protocol::record::{ScoredBy, SwapReason};

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
    /// Why nothing is taken from it and nothing new is sent to it; absent when it is not in quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<QuarantineView>,
    /// The Ed25519 public key that its log is signed with, base64; absent before its first checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why its last checkpoint could not be used; absent when it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_left: Option<String>,
}

/// Why nothing is taken from a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineView {
    /// Since when, RFC 3339.
    pub since: String,
    /// The epoch of the journal that has two histories.
    pub epoch: u64,
    /// How it shows, as a sentence.
    pub reason: String,
}

/// The last checkpoint of a device's journal that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// The journal's epoch.
    pub epoch: u64,
    /// Records in the signed tree.
    pub size: u64,
    /// Its Merkle root (RFC 6962, SHA-256), hexadecimal.
    pub root: String,
    /// From this record on, below `own_below`, the registry's own copies make the signed root.
    pub own_from: u64,
    /// First record behind those.
    pub own_below: u64,
    /// The key that signed it, base64.
    pub key: String,
    /// The checkpoint itself (C2SP signed note).
    pub note: String,
}

/// The tree that the registry's own copies make of the first records of a device's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeView {
    /// The journal's epoch.
    pub epoch: u64,
    /// Records in the tree.
    pub size: u64,
    /// Its Merkle root (RFC 6962, SHA-256), hexadecimal.
    pub root: String,
}

/// The body of `POST /devices/{device}/release`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Why, for the audit journal.
    pub reason: String,
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
    /// First sequence that has not been received: everything below is stored, or gone for good.
    pub upto: u64,
    /// First sequence that the device had not written when it last reported; absent for older epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// Records that the device said are gone for good.
    #[serde(default)]
    pub absent: u64,
    /// Records that came although they had been said to be gone.
    #[serde(default)]
    pub restored: u64,
    /// Records that had waited for the connection.
    #[serde(default)]
    pub late: u64,
    /// Records in the last signed tree that was accepted; 0 for none.
    #[serde(default)]
    pub checkpoint: u64,
    /// Records in the largest signed tree that the registry's own copies made.
    #[serde(default)]
    pub proven: u64,
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

/// A run of rows of a stream that one model (or the baseline) scored.
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
    /// First row of the run.
    pub first_row: u64,
    /// Why it came to run.
    #[schema(value_type = String)]
    pub reason: SwapReason,
    /// The swap record that says so: `device/epoch/sequence`.
    pub swap: String,
}

/// The query of `GET /devices/{device}/at`.
#[derive(Clone, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AtQuery {
    /// The time, RFC 3339.
    pub time: String,
}
