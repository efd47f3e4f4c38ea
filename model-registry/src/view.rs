//! What the API takes and answers, as JSON: shared by the handlers, the OpenAPI document and the `vedette` command.
//!
//! Times stand twice: `…_ms` in Unix milliseconds for programs, and RFC 3339 in UTC beside it for people. Ids and
//! digests are text. A field may be added; none is renamed or removed under `/api/v1`.

mod anomaly;
mod device;
mod model;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Role;

pub use anomaly::{AnomalyQuery, AnomalyView, ProofView, SignalShare, SignedView, VerdictView, WhoScored};
pub use device::{
    AssignRequest, AssignmentView, AtQuery, CheckpointView, DeviceAt, DeviceView, JournalView, QuarantineView, RanView,
    ReleaseRequest, SlotView, StatusView, StreamView, TreeView,
};
pub use model::{AliasRequest, BlobView, ModelSummary, PushRequest, Trial, VersionDetail, VersionSummary};

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

/// The query of `GET /audit/proof`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditProofQuery {
    /// Entries in the tree of an earlier checkpoint, at least 1.
    pub from: u64,
}

/// A proof that the audit journal still begins with what an earlier checkpoint of it was about (RFC 6962).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditProofView {
    /// Entries in the earlier tree.
    pub from: u64,
    /// Entries in the tree now.
    pub size: u64,
    /// The consistency proof, hexadecimal.
    pub proof: Vec<String>,
    /// The key that signs, base64.
    pub key: String,
    /// The checkpoint of now (C2SP signed note).
    pub note: String,
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
