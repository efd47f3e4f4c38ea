//! Models, their versions, and the files that they are made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_protocol::id::{Digest, ModelName, ModelRef, ModelVersion};
use vedette_protocol::manifest::{Lineage, Manifest};

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
