//! One step of a stream's way: what is to do, and how it ends.

use vedette_protocol::id::{Digest, ModelRef, ModelVersion, StreamName};
use vedette_protocol::record::SwapReason;

use super::refusal::Refusal;
use super::store::Files;

/// One step of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The stream.
    pub stream: StreamName,
    /// What to do for it.
    pub task: Task,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Get the manifest and verify it.
    Verify(Job),
    /// Get the files.
    Fetch(Job),
    /// Try the model in a child process.
    Try(Job),
    /// Load it and swap it in at the record boundary.
    Swap(Job, SwapReason),
    /// Go back to the baseline.
    Remove,
}

/// Which model, and the highest floor seen for its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The model.
    pub model: ModelRef,
    /// Its manifest's digest.
    pub manifest: Digest,
    /// The lowest version of this name that may still run, as far as this device has seen.
    pub floor: Option<ModelVersion>,
}

/// What a step reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The manifest is genuine; the model's files.
    Verified(Files),
    /// The files are here and hash right.
    Fetched,
    /// The trial passed.
    Tried,
    /// The model runs; its manifest's floor.
    Live(ModelVersion),
    /// The baseline runs.
    Removed,
}

/// Why a step did not reach anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This model will never run here.
    Refused(Refusal),
    /// Something around it failed; try again later.
    Later(String),
    /// A file that was here is not any more, or not the same: get it again.
    Rotten(String),
}
