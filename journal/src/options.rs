//! How a journal is written: sizes and times, with their reasons.

use std::time::Duration;

/// Usual size of a segment: one anomaly a minute at some 300 bytes fills it in 2.4 days, and a lost block costs little.
pub const SEGMENT_BYTES: u64 = 1 << 20;
/// Smallest segment: what stands in front of the records takes 4224 bytes of it.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// Largest segment; recovery reads the newest one whole, at some 1 GiB/s.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// A group is due at this many records: 64 take the bytes written to the device per payload byte from 9.6 to 1.5 on ext4
/// with blocks of 1 KiB, and from 25 to 2.5 with blocks of 4 KiB, where 1.0 is the file system's own journal (measured with
/// 200-byte payloads on a loop device; a checkpoint signed with each group adds 0.03).
pub const COMMIT_RECORDS: u32 = 64;
/// A group is due at this age: the most that a power cut takes, and 345,600 small writes a day at the very worst.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(250);

/// How a journal is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of a segment in bytes, held within [`SEGMENT_BYTES_MIN`] and [`SEGMENT_BYTES_MAX`]. A single record that
    /// is longer than what a segment holds gets a longer one.
    pub segment_bytes: u64,
    /// Records after which a commit is due, at least 1.
    pub commit_records: u32,
    /// Age of the oldest waiting record at which a commit is due.
    pub commit_interval: Duration,
    /// Epoch of a journal that begins now; an existing one keeps its own. Must not repeat on this device.
    pub new_epoch: u64,
}

impl Options {
    /// The usual sizes: [`SEGMENT_BYTES`], [`COMMIT_RECORDS`], [`COMMIT_INTERVAL`].
    pub const fn new(new_epoch: u64) -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            commit_records: COMMIT_RECORDS,
            commit_interval: COMMIT_INTERVAL,
            new_epoch,
        }
    }
}
