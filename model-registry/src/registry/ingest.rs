//! Taking in the records of the devices' journals: idempotent by record id, durable before the answer.

use vedette_protocol::id::DeviceId;

/// One batch of a device's journal.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The device.
    pub device: DeviceId,
    /// The epoch of its journal.
    pub epoch: u64,
    /// Sequence and record bytes, ascending.
    pub records: Vec<(u64, Vec<u8>)>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// First sequence that is not stored: all below are, durably. What `down/ack` says.
    pub upto: u64,
    /// Records that were new.
    pub new: u64,
    /// Records that were here already.
    pub duplicate: u64,
}

// impl Registry {
//   pub fn ingest(&self, device: &DeviceId, epoch: u64, records: Vec<(u64, Vec<u8>)>) -> Result<Ingested>
//   pub fn ingest_group(&self, batches: Vec<Batch>) -> Result<Vec<Ingested>>   // one fsync for all of them; same order
//   pub fn note_birth(&self, birth: &Birth) -> Result<()>
//   pub fn note_status(&self, status: &Status) -> Result<()>
//   pub fn desired_assignment(&self, device: &DeviceId) -> Result<Option<Desired>>
//   pub fn all_assignments(&self) -> Result<Vec<Desired>>
//   pub fn lineage(&self, digest: &Digest) -> Result<Option<Vec<u8>>>
//   blobs().open(&Digest) -> Result<Option<OpenBlob{ file: std::fs::File, length: u64 }>>, blobs().read_at(&Digest, offset, length) -> Result<Option<(u64 total, Vec<u8>)>>
// }
