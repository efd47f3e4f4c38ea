//! Every reason for which this device refuses an assignment or a model, each with its sentence, and the checks that need
//! no file and no network.

use vedette_protocol::assignment::Assignment;
use vedette_protocol::envelope::{self, EnvelopeError, Opened};
use vedette_protocol::id::{DeviceId, Digest, ModelRef, ModelVersion, StreamName};
use vedette_protocol::key::KeySet;
use vedette_protocol::manifest::Manifest;
use vedette_protocol::time::format_ms;

/// A refusal; what ran before goes on.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Not signed by the fleet role, or not an assignment.
    #[error("the assignment is not to be believed: {0}")]
    AssignmentSeal(EnvelopeError),
    /// Signed, but for somebody else.
    #[error("assignment {version} is for device {audience}, and this is {device}")]
    OtherDevice {
        /// The assignment's version.
        version: u64,
        /// Whom it names.
        audience: DeviceId,
        /// Who we are.
        device: DeviceId,
    },
    /// An assignment from before the one that was taken.
    #[error("assignment {version} is older than {known}, which was taken before")]
    Older {
        /// The assignment's version.
        version: u64,
        /// The version that was taken.
        known: u64,
    },
    /// Two assignments of one version.
    #[error("another assignment with version {version} was taken before; a new one needs a higher version")]
    SameVersion {
        /// The version of both.
        version: u64,
    },
    /// Its time is over. Expiry stops installs, never scoring.
    #[error("assignment {version} expired at {}; what runs goes on", format_ms(*.expires_ms))]
    Expired {
        /// The assignment's version.
        version: u64,
        /// When, Unix ms UTC.
        expires_ms: i64,
    },
    /// A slot that this device does not have.
    #[error("this device has no stream {0}")]
    NoStream(StreamName),
    /// Not signed by the models role, or not a manifest.
    #[error("the manifest is not to be believed: {0}")]
    ManifestSeal(EnvelopeError),
    /// Another manifest than the one assigned.
    #[error("the manifest has the digest {got}, and {want} is assigned")]
    ManifestDigest {
        /// What came.
        got: Digest,
        /// What the assignment names.
        want: Digest,
    },
    /// The manifest of another model.
    #[error("the manifest is that of {got}, and {want} is assigned")]
    OtherModel {
        /// Whose it is.
        got: ModelRef,
        /// What the assignment names.
        want: ModelRef,
    },
    /// A version that may not run any more.
    #[error("{model} is below version {floor}, the lowest of this name that may still run")]
    BelowFloor {
        /// The assigned model.
        model: ModelRef,
        /// The lowest version allowed.
        floor: ModelVersion,
    },
    /// A file larger than this device takes.
    #[error("the model file has {bytes} bytes, more than the {limit} that this device takes (`deploy.artifact_max`)")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file with other bytes than the manifest names.
    #[error("a file of the model has the digest {got}, and the manifest names {want}")]
    WrongBytes {
        /// What came.
        got: Digest,
        /// What the manifest names.
        want: Digest,
    },
    /// A file that does not end where the manifest says.
    #[error("the file {digest} goes on behind the {length} bytes that the manifest names")]
    TooLong {
        /// The file.
        digest: Digest,
        /// Its length by the manifest.
        length: u64,
    },
    /// The model did not pass its trial.
    #[error("the trial failed: {0}")]
    Trial(String),
    /// The model does not fit the stream or cannot be loaded.
    #[error("it cannot run on this stream: {0}")]
    Unfit(String),
    /// The agent died over it again and again.
    #[error("{0} attempts ended without an answer")]
    Attempts(u32),
}

/// Opens an assignment and checks that it is the fleet's word for this device.
///
/// # Errors
/// When it is not.
pub fn open_assignment(bytes: &[u8], device: &DeviceId, fleet: &KeySet) -> Result<Opened<Assignment>, Refusal> {
    let opened = envelope::open::<Assignment>(bytes, fleet).map_err(Refusal::AssignmentSeal)?;
    if opened.value.audience != *device {
        let Assignment { version, audience, .. } = opened.value;
        return Err(Refusal::OtherDevice { version, audience, device: device.clone() });
    }
    Ok(opened)
}

/// Opens a manifest and checks that it is the assigned one and may run; `floor` is the highest floor seen for its name.
///
/// # Errors
/// When it is not.
pub fn open_manifest(
    bytes: &[u8],
    model: &ModelRef,
    digest: Digest,
    models: &KeySet,
    floor: Option<ModelVersion>,
) -> Result<Manifest, Refusal> {
    let opened = envelope::open::<Manifest>(bytes, models).map_err(Refusal::ManifestSeal)?;
    if opened.digest != digest {
        return Err(Refusal::ManifestDigest { got: opened.digest, want: digest });
    }
    let manifest = opened.value;
    if manifest.model != *model {
        return Err(Refusal::OtherModel { got: manifest.model, want: model.clone() });
    }
    let floor = floor.map_or(manifest.floor, |seen| seen.max(manifest.floor));
    if model.version < floor {
        return Err(Refusal::BelowFloor { model: model.clone(), floor });
    }
    Ok(manifest)
}
