//! What an entry of the audit journal says. The encoding is a promise: kinds and fields are added, never renamed or removed.

use serde::{Deserialize, Serialize};
use vedette_protocol::id::{DeviceId, Digest, ModelName, ModelRef, ModelVersion, StreamName};
use vedette_protocol::manifest::Blob;

use crate::auth::Role;
use crate::registry::Fork;
use crate::view::{SlotView, Trial};

/// One entry: who changed what, and when by the registry's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unix ms.
    pub at: i64,
    /// `token:<name>`, `device:<id>`, `offline` or `registry`.
    pub by: String,
    /// What changed.
    pub change: Change,
}

/// A change of state. Carries all that [`crate::registry`] needs to make the state again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Change {
    /// A version of a model was admitted.
    Published(Box<Published>),
    /// An alias points to a version now.
    AliasSet {
        /// The model.
        name: ModelName,
        /// The alias.
        alias: ModelName,
        /// Where it points now.
        version: ModelVersion,
        /// Where it pointed before.
        previous: Option<ModelVersion>,
    },
    /// An alias is gone.
    AliasRemoved {
        /// The model.
        name: ModelName,
        /// The alias.
        alias: ModelName,
        /// Where it pointed.
        version: ModelVersion,
    },
    /// A device shall run this from now on.
    Assigned(Assigned),
    /// A device reported that it runs a version, after its own trial.
    Committed(DeviceStep),
    /// A device reported that it refused a version.
    Refused(DeviceStep),
    /// A device's first checkpoint came, and its key is the device's from now on.
    KeyPinned {
        /// The device.
        device: DeviceId,
        /// The Ed25519 public key, base64.
        key: String,
        /// The checkpoint, a signed note.
        note: String,
    },
    /// A device's log has two histories: nothing of it is taken any more.
    Quarantined(Box<Quarantined>),
    /// Somebody looked and lifted the quarantine of a device.
    Released {
        /// The device.
        device: DeviceId,
        /// Why, in their words.
        reason: String,
        /// Per epoch the sequence below which what is here may be of two histories.
        floors: Vec<(u64, u64)>,
    },
    /// A device said that records are gone for good, and its journal is taken without them.
    RecordsAbsent {
        /// The device.
        device: DeviceId,
        /// The epoch of its journal.
        epoch: u64,
        /// The first one.
        from: u64,
        /// The first behind the last one.
        below: u64,
        /// How many of that range.
        count: u64,
    },
    /// A token was made.
    TokenCreated {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// What it may do.
        role: Role,
        /// SHA-256 of the secret.
        hash: Digest,
    },
    /// A token is no longer valid.
    TokenRevoked {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// SHA-256 of the secret.
        hash: Digest,
    },
}

/// An admitted version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// `name@version`.
    pub model: ModelRef,
    /// Digest of the manifest's payload.
    pub manifest: Digest,
    /// The signed envelope around the manifest, as a file.
    pub envelope: Blob,
    /// The lineage, as a file.
    pub lineage: Blob,
    /// The ONNX file.
    pub artifact: Blob,
    /// The self-test vectors.
    pub selftest: Blob,
    /// `autoencoder`, `forecaster` or `score`.
    pub scoring: String,
    /// Lowest version of this name that may still run.
    pub floor: ModelVersion,
    /// The version it was made from.
    pub parent: Option<ModelVersion>,
    /// Who made it (lineage).
    pub author: String,
    /// Why (lineage).
    pub reason: String,
    /// What the trial measured.
    pub trial: Trial,
}

/// An assignment as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The device.
    pub device: DeviceId,
    /// Its version.
    pub version: u64,
    /// Why it was made.
    pub cause: AssignCause,
    /// Unix ms.
    pub issued_ms: i64,
    /// Unix ms.
    pub expires_ms: i64,
    /// Model per stream, by stream.
    pub slots: Vec<SlotView>,
    /// The signed envelope, base64.
    pub envelope: String,
}

/// Why an assignment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssignCause {
    /// Somebody asked for it.
    Asked,
    /// The one before, with the same slots, was about to expire.
    Renewed,
}

/// A device whose log has two histories, and both of them as far as they are here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The device.
    pub device: DeviceId,
    /// The epoch of the journal.
    pub epoch: u64,
    /// How it shows.
    pub fork: Fork,
    /// The same as a sentence.
    pub detail: String,
    /// What is here.
    pub held: Evidence,
    /// What came.
    pub offered: Evidence,
}

/// One of two histories: a signed checkpoint, a record, or the tree that our copies make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The key that the checkpoint was held against, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A checkpoint as it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// A record's bytes, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Records in our copies' tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its root in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// What a device reported about a version, and the record that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStep {
    /// The device.
    pub device: DeviceId,
    /// The stream.
    pub stream: StreamName,
    /// The model.
    pub model: ModelRef,
    /// The manifest's digest.
    pub manifest: Digest,
    /// `device/epoch/sequence`.
    pub record: String,
    /// Why, where it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
