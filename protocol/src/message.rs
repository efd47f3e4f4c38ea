//! Carried messages: CBOR maps with text keys. A field that the reader does not know is ignored, one that it needs and
//! does not find is refused. They are not signed: what must be believed inside them is (assignments, manifests) or is
//! checked by its digest (artifacts).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cbor::{self, Bytes, DecodeError};
use crate::id::{BootId, DeviceId, Digest, StreamName};
use crate::limit::{
    MAX_ACK_BYTES, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_BIRTH_BYTES, MAX_CHECKPOINT_BYTES, MAX_CHUNK_BYTES,
    MAX_CHUNK_DATA_BYTES, MAX_DETAIL_BYTES, MAX_FRONTIER_HASHES, MAX_HELD_RANGES, MAX_PROOF_HASHES, MAX_SMALL_BYTES,
    MAX_STATUS_BYTES, MAX_STREAMS,
};
use crate::record::{DeployStep, ScoredBy};
use crate::time::Stamp;

/// Bytes of an Ed25519 public key.
const PUBLIC_KEY_BYTES: usize = 32;

/// A message that crosses the broker.
pub trait Message: Serialize + DeserializeOwned {
    /// Largest encoding in bytes. Whoever sends keeps below it; whoever reads refuses what is longer.
    const MAX_BYTES: usize;

    /// The message as CBOR.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads the message.
    ///
    /// # Errors
    /// When the bytes are too long, no CBOR, or another message.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message: Self = cbor::decode(bytes, Self::MAX_BYTES)?;
        message.check()?;
        Ok(message)
    }

    /// Limits that the encoding alone does not hold.
    ///
    /// # Errors
    /// Names the limit.
    fn check(&self) -> Result<(), DecodeError>;
}

/// Who a device is and what it runs. Retained; with `online: false` and no streams also its last will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// The device, as in the topic.
    pub device: DeviceId,
    /// Whether it is there.
    pub online: bool,
    /// Which start of the machine.
    pub boot: BootId,
    /// Version of the agent, as it prints it.
    pub agent_version: String,
    /// The journal's life.
    pub epoch: u64,
    /// What each stream runs, at most [`MAX_STREAMS`].
    pub streams: Vec<StreamState>,
    /// Version of the assignment that the device follows, 0 for none.
    pub assignment_version: u64,
}

/// What one stream runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// The stream.
    pub stream: StreamName,
    /// Who scores it.
    pub by: ScoredBy,
    /// The last step of a model on its way in, without its detail in a birth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<DeployStep>,
    /// The next row to be scored.
    pub row: u64,
}

/// How a device does, said every now and then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The device, as in the topic.
    pub device: DeviceId,
    /// When this was said.
    pub stamp: Stamp,
    /// What each stream runs, at most [`MAX_STREAMS`].
    pub streams: Vec<StreamState>,
    /// Version of the assignment that the device follows, 0 for none.
    pub assignment_version: u64,
    /// The journal's life.
    pub epoch: u64,
    /// The sequence that the next record will have.
    pub next_sequence: u64,
    /// First sequence that the registry has not acknowledged.
    pub acked: u64,
    /// Rows scored since the agent started.
    pub rows: u64,
    /// Anomalies found since the agent started.
    pub anomalies: u64,
    /// Samples and anomalies dropped since the agent started.
    pub dropped: u64,
    /// Why it does less than it should, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// Resident memory of the agent in bytes.
    pub memory_bytes: u64,
    /// Seconds since the agent started.
    pub uptime_s: u64,
}

/// Records of a journal, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalBatch {
    /// The device, as in the topic.
    pub device: DeviceId,
    /// The journal's life.
    pub epoch: u64,
    /// Sequence and canonical bytes of each [`crate::Record`], strictly ascending by sequence, at most [`MAX_BATCH_RECORDS`].
    pub records: Vec<(u64, Bytes)>,
    /// `(from, below)`: the batch speaks for all sequences from `from` on and below `below`; those that are not in
    /// `records` are gone for good (rotten, dropped by a quota, or pruned). Without it it speaks only for its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<(u64, u64)>,
    /// The records waited for the connection: they are history, not news.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// What the device's log commits itself to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Claim>,
}

/// A signed checkpoint of a device's log, and the proof that it continues the last one that the registry accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The checkpoint (C2SP tlog-checkpoint in a C2SP signed note), at most [`MAX_CHECKPOINT_BYTES`].
    pub note: String,
    /// The device's Ed25519 public key, 32 bytes.
    pub key: Bytes,
    /// Tree size of the registry's last accepted checkpoint, 0 for none.
    pub from: u64,
    /// RFC 6962 consistency proof from `from` to the checkpoint's size, at most [`MAX_PROOF_HASHES`].
    pub proof: Vec<Digest>,
    /// Roots of the maximal complete subtrees at the checkpoint's size, largest first, at most [`MAX_FRONTIER_HASHES`].
    pub frontier: Vec<Digest>,
}

/// The registry has a device's journal up to here: only this moves the device's cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAck {
    /// The journal's life.
    pub epoch: u64,
    /// First sequence that the registry does not have; everything below is durable there or known to be gone for good.
    pub upto: u64,
    /// `(from, below)`: what is durable there beyond `upto`, ascending, at most [`MAX_HELD_RANGES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<(u64, u64)>,
    /// Tree size of the last checkpoint that the registry accepted, 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub checkpoint: u64,
    /// Why the registry takes nothing more from this device, as a sentence, at most [`MAX_DETAIL_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl JournalBatch {
    /// Records that speak only for themselves.
    #[must_use]
    pub const fn new(device: DeviceId, epoch: u64, records: Vec<(u64, Bytes)>) -> Self {
        Self { device, epoch, records, span: None, late: false, checkpoint: None }
    }
}

impl BatchAck {
    /// Everything of `epoch` below `upto`, and nothing else.
    #[must_use]
    pub const fn new(epoch: u64, upto: u64) -> Self {
        Self { epoch, upto, held: Vec::new(), checkpoint: 0, refused: None }
    }
}

// The shape that serde asks for.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a device wants by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// The signed envelope of a manifest; the digest is the payload's.
    Manifest,
    /// An artifact or self-test; the digest is the bytes'.
    Blob,
}

/// A device asks for bytes over the broker, because HTTP does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRequest {
    /// Of what.
    pub digest: Digest,
    /// What kind of thing that is.
    pub want: Want,
    /// First byte wanted.
    pub offset: u64,
    /// Bytes wanted, 1 to [`MAX_CHUNK_DATA_BYTES`].
    pub length: u32,
}

/// The answer to an [`ArtifactRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Of what.
    pub digest: Digest,
    /// First byte of `bytes` in the whole.
    pub offset: u64,
    /// Bytes of the whole, 0 when unknown.
    pub total: u64,
    /// The bytes, at most [`MAX_CHUNK_DATA_BYTES`]; empty with an error.
    pub bytes: Bytes,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ChunkError>,
}

/// Why a device does not get its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkError {
    /// Nothing has that digest.
    NotFound,
    /// The offset lies beyond the end, or the length is 0 or too large.
    BadRange,
}

impl Message for Birth {
    const MAX_BYTES: usize = MAX_BIRTH_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("streams", self.streams.len(), MAX_STREAMS)
    }
}

impl Message for Status {
    const MAX_BYTES: usize = MAX_STATUS_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("streams", self.streams.len(), MAX_STREAMS)
    }
}

impl Message for JournalBatch {
    const MAX_BYTES: usize = MAX_BATCH_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("records", self.records.len(), MAX_BATCH_RECORDS)?;
        if !self.records.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(DecodeError::content("records are not strictly ascending by sequence"));
        }
        if let Some((from, below)) = self.span {
            let inside = |record: Option<&(u64, Bytes)>| record.is_none_or(|(n, _)| (from..below).contains(n));
            if from > below || !inside(self.records.first()) || !inside(self.records.last()) {
                return Err(DecodeError::content(format!("records are not within the span {from} to {below}")));
            }
        }
        self.checkpoint.as_ref().map_or(Ok(()), Claim::check)
    }
}

impl Claim {
    fn check(&self) -> Result<(), DecodeError> {
        at_most("bytes of a checkpoint", self.note.len(), MAX_CHECKPOINT_BYTES)?;
        at_most("hashes of a proof", self.proof.len(), MAX_PROOF_HASHES)?;
        at_most("hashes of a frontier", self.frontier.len(), MAX_FRONTIER_HASHES)?;
        if self.key.0.len() == PUBLIC_KEY_BYTES {
            Ok(())
        } else {
            Err(DecodeError::content(format!("a key of {} bytes instead of {PUBLIC_KEY_BYTES}", self.key.0.len())))
        }
    }
}

impl Message for BatchAck {
    const MAX_BYTES: usize = MAX_ACK_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("ranges held", self.held.len(), MAX_HELD_RANGES)?;
        at_most("bytes of a reason", self.refused.as_ref().map_or(0, String::len), MAX_DETAIL_BYTES)?;
        let mut floor = self.upto;
        for (from, below) in &self.held {
            if *from < floor || below <= from {
                return Err(DecodeError::content("ranges held are not ascending beyond what is acknowledged"));
            }
            floor = *below;
        }
        Ok(())
    }
}

impl Message for ArtifactRequest {
    const MAX_BYTES: usize = MAX_SMALL_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("bytes wanted", self.length as usize, MAX_CHUNK_DATA_BYTES)
    }
}

impl Message for Chunk {
    const MAX_BYTES: usize = MAX_CHUNK_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("bytes", self.bytes.len(), MAX_CHUNK_DATA_BYTES)
    }
}

fn at_most(what: &str, count: usize, limit: usize) -> Result<(), DecodeError> {
    if count <= limit { Ok(()) } else { Err(DecodeError::content(format!("{what}: {count} are more than {limit}"))) }
}
