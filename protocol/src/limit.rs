//! How large things may be, with the arithmetic, and what happens beyond: the larger thing is refused by name, never cut.

/// Bytes in a KiB.
const KIB: usize = 1024;

/// Largest retained MQTT message. Brokers keep retained messages in memory for ever: 10,000 devices × 2 topics × 8 KiB = 160 MiB.
pub const MAX_RETAINED_BYTES: usize = 8 * KIB;

/// Largest MQTT packet either side sends or accepts: the largest message (a journal batch, 64 KiB of payload) and its topic, with room to grow.
pub const MAX_PACKET_BYTES: usize = 96 * KIB;

/// Largest assignment payload. The longest slot is 210 bytes (stream 50, model 78, digest 35, framing): 16 × 210 = 3.3 KiB.
pub const MAX_ASSIGNMENT_BYTES: usize = 4 * KIB;

/// Most slots of an assignment: one for each stream that a device can have.
pub const MAX_SLOTS: usize = MAX_STREAMS;

/// Largest manifest payload: 512 signals × 120 bytes = 60 KiB. Manifests are never retained: they travel by HTTP or in chunks.
pub const MAX_MANIFEST_BYTES: usize = 64 * KIB;

/// Largest self-test: 256 KiB / 5 bytes a number ≈ 52,000 numbers, as 80 windows of 16 × 38.
pub const MAX_SELFTEST_BYTES: usize = 256 * KIB;

/// Largest lineage: 256 entries of 256 bytes.
pub const MAX_LINEAGE_BYTES: usize = 64 * KIB;

/// Largest journal record: an anomaly of 8 signals is below 1.5 KiB, a gap or note far below; the room is for later kinds.
pub const MAX_RECORD_BYTES: usize = 16 * KIB;

/// Largest model artifact, in bytes: what the smallest board (512 MiB) can hold on flash and map beside its work.
pub const MAX_ARTIFACT_BYTES: u64 = 256 * 1024 * 1024;

/// Most signatures of an envelope: more than any threshold that people can gather.
pub const MAX_SIGNATURES: usize = 8;

/// What an envelope adds to its payload: 8 signatures × (64 + 8 key id + 16 framing) + 16 < 1 KiB.
pub const MAX_ENVELOPE_OVERHEAD_BYTES: usize = KIB;

/// Deepest nesting of any CBOR that we read. Our own deepest is a manifest with 6.
pub const MAX_DEPTH: usize = 16;

/// Largest birth: 16 streams × 460 bytes = 7.2 KiB; it is retained.
pub const MAX_BIRTH_BYTES: usize = MAX_RETAINED_BYTES;

/// Largest status: as a birth, not retained, with room for a sentence on why it is degraded.
pub const MAX_STATUS_BYTES: usize = 16 * KIB;

/// Most streams of one device. Its longest state is 460 bytes without details (stream twice 96, model twice 150, three
/// digests 102, field names 110), so 16 fit into a retained birth of 8 KiB.
pub const MAX_STREAMS: usize = 16;

/// Largest journal batch, encoded.
pub const MAX_BATCH_BYTES: usize = 64 * KIB;

/// Most records of a journal batch: 64 KiB / 16 bytes, the smallest thinkable record.
pub const MAX_BATCH_RECORDS: usize = 4096;

/// Most ranges that an acknowledgement names beyond what it acknowledges: 16 × 18 bytes. Further ones are sent again.
pub const MAX_HELD_RANGES: usize = 16;

/// Largest acknowledgement: its numbers, [`MAX_HELD_RANGES`] × 19 bytes, a reason of [`MAX_DETAIL_BYTES`].
pub const MAX_ACK_BYTES: usize = KIB;

/// Largest checkpoint of a log: an origin of 96 bytes, twice, a size, a root and one signature are below 400.
pub const MAX_CHECKPOINT_BYTES: usize = KIB;

/// Most hashes of a proof in a log of 2^63 records: a consistency proof has at most 64 + 1.
pub const MAX_PROOF_HASHES: usize = 66;

/// Most complete subtrees that a log consists of: one for each bit of its size.
pub const MAX_FRONTIER_HASHES: usize = 64;

/// Largest artifact request: a few numbers and a digest.
pub const MAX_SMALL_BYTES: usize = 512;

/// Most data bytes of an artifact chunk.
pub const MAX_CHUNK_DATA_BYTES: usize = 48 * KIB;

/// Largest chunk message: the data, a digest, three numbers and their names.
pub const MAX_CHUNK_BYTES: usize = MAX_CHUNK_DATA_BYTES + KIB;

/// Most signals of a feature contract: 512 × 120 bytes fill a manifest.
pub const MAX_SIGNALS: usize = 512;

/// Most rows of a window.
pub const MAX_WINDOW_ROWS: u32 = 4096;

/// Most numbers of a window, rows × signals: 65,536 × 4 bytes = 256 KiB a stream.
pub const MAX_WINDOW_VALUES: u64 = 65_536;

/// State tensors of a stateful model: eight layers of an LSTM, which has two each.
pub const MAX_STATES: usize = 16;

/// Most contributions that an anomaly names.
pub const MAX_TOP: usize = 8;

/// Longest detail of a deploy step, in bytes. Births leave details out, a status carries them: 16 × (460 + 256) < 16 KiB.
pub const MAX_DETAIL_BYTES: usize = 256;

/// Longest note, reason or detail that a person or program writes into a record, in bytes.
pub const MAX_NOTE_BYTES: usize = 1024;
