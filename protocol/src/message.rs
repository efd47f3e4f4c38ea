//! Carried messages: CBOR maps with text keys. A field that the reader does not know is ignored, one that it needs and
//! does not find is refused. They are not signed: what must be believed inside them is (assignments, manifests) or is
//! checked by its digest (artifacts).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cbor::{self, Bytes, DecodeError};
use crate::id::{BootId, DeviceId, Digest, StreamName};
use crate::limit::{
    MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_BIRTH_BYTES, MAX_CHUNK_BYTES, MAX_CHUNK_DATA_BYTES, MAX_SMALL_BYTES,
    MAX_STATUS_BYTES, MAX_STREAMS,
};
use crate::record::{DeployStep, ScoredBy};
use crate::time::Stamp;

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
}

/// The registry has a device's journal up to here: only this moves the device's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAck {
    /// The journal's life.
    pub epoch: u64,
    /// First sequence that the registry does not have; everything below is durable there.
    pub upto: u64,
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
        let ascending = self.records.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if ascending { Ok(()) } else { Err(DecodeError::content("records are not strictly ascending by sequence")) }
    }
}

impl Message for BatchAck {
    const MAX_BYTES: usize = MAX_SMALL_BYTES;

    fn check(&self) -> Result<(), DecodeError> {
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
