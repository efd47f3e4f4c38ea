//! The group: records in memory that wait for the commit which writes them all at once.

use std::collections::VecDeque;
use std::time::Instant;

use crate::error::AppendError;
use crate::merkle::{self, Hash};
use crate::record::{self, Draft, Mark, PAYLOAD_BYTES_MAX, Place, footprint};

/// Bytes of records that wait in memory while commits fail; at 300 bytes each some 14,000 records.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// Records that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Group {
    records: VecDeque<Waiting>,
    bytes: usize,
    since: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    kind: u8,
    payload: Box<[u8]>,
}

impl Group {
    /// Records that wait.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// When the oldest one came.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Bytes that the oldest one takes up in a segment.
    pub(crate) fn first_bytes(&self) -> Option<u64> {
        Some(footprint(self.records.front()?.payload.len()) as u64)
    }

    /// Takes a record, or says why not.
    pub(crate) fn push(&mut self, kind: u8, payload: &[u8], now: Instant) -> Result<(), AppendError> {
        let (bytes, max) = (payload.len(), PAYLOAD_BYTES_MAX);
        if bytes > max {
            return Err(AppendError::TooLong { bytes, max });
        }
        if self.bytes + footprint(bytes) > GROUP_BYTES_MAX {
            let waiting = self.records.len();
            return Err(AppendError::Full { waiting });
        }
        self.bytes += footprint(bytes);
        self.since.get_or_insert(now);
        let payload = payload.into();
        self.records.push_back(Waiting { kind, payload });
        Ok(())
    }

    /// Encodes as many of the oldest records as fit into `room` bytes from `offset` of the segment at `place`, the
    /// first of them as `sequence`. Returns how many.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, place: Place, offset: u64, room: u64, sequence: u64) -> usize {
        out.clear();
        let mut records = 0;
        for Waiting { kind, payload } in &self.records {
            if (out.len() + footprint(payload.len())) as u64 > room {
                break;
            }
            let mark = if records == 0 { Mark::First } else { Mark::Further };
            let draft = Draft { sequence: sequence + records as u64, kind: *kind, mark, payload };
            let offset = offset + out.len() as u64;
            record::encode(out, place, offset, &draft);
            records += 1;
        }
        records
    }

    /// The leaves of the oldest `records`.
    pub(crate) fn leaves(&self, records: usize) -> impl Iterator<Item = Hash> + '_ {
        self.records.iter().take(records).map(|waiting| merkle::leaf(&waiting.payload))
    }

    /// Drops the oldest `records`, which are durable now.
    pub(crate) fn forget(&mut self, records: usize) {
        for waiting in self.records.drain(..records) {
            self.bytes -= footprint(waiting.payload.len());
        }
        if self.records.is_empty() {
            self.since = None;
        }
    }
}
