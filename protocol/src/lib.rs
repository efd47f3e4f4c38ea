//! The words of Vedette: everything that crosses a wire, is signed, or is written to be read by another program.
//!
//! No I/O, no clock, no thread: values and bytes in, values and bytes out. Three families live here:
//!
//! * *carried* messages ([`message`]): CBOR maps with text keys, unknown fields ignored, so that old and new programs talk;
//! * *signed or hashed* things ([`manifest`], [`assignment`], [`record`]): deterministic CBOR maps with small integer keys,
//!   refused unless re-encoding gives the same bytes ([`cbor::from_canonical`]), signed in an [`envelope`];
//! * *settings* ([`settings`]): TOML as people write it, strict, with errors that name the line and the nearest known key.
//!
//! Every limit stands in [`limit`] with its arithmetic. `vedette.cddl` beside this crate describes each message.

pub mod assignment;
pub mod cbor;
pub mod envelope;
pub mod exit;
pub mod id;
pub mod key;
pub mod limit;
pub mod manifest;
pub mod message;
pub mod number;
pub mod record;
pub mod settings;
pub mod time;
pub mod topic;

pub use assignment::{Assignment, Slot};
pub use cbor::DecodeError;
pub use envelope::{EnvelopeError, Opened};
pub use exit::Exit;
pub use id::{
    BootId, DeviceId, Digest, Hasher, IdError, ModelName, ModelRef, ModelVersion, RecordId, RowId, SignalName,
    StreamName, Unit,
};
pub use key::{KeyError, KeyId, KeySet, PublicKey, SigningKey, Trust};
pub use manifest::{
    Blob, Calibration, Contract, Draft, Fill, Lineage, Manifest, ManifestError, ModelKind, ModelLimits, SelfTest,
    Signal, StateTensor, Stateful, TensorSpec, TrainingData, Transform, Vector,
};
pub use number::{Finite32, Finite64};
pub use record::{
    Anomaly, Body, Cause, Contribution, DeployStep, Dropped, EngineKind, Record, RecordKind, ScoredBy, Stage, Swap,
    SwapReason, Verdict,
};
pub use settings::SettingsError;
pub use time::{Quality, Stamp};
