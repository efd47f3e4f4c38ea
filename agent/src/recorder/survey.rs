//! What the journal says at the start: read once, in the memory of one record, the ledger and an account a segment.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use vedette_journal::{Disk, Entry, Reader, SegmentInfo};
use vedette_protocol::cbor;
use vedette_protocol::id::Digest;
use vedette_protocol::record::{Body, Class, DropClass, Record, RecordKind};

use crate::ledger::Ledger;
use crate::retention::{Account, CLASSES, Moment};

/// Bytes of a record in a segment: a head of 20, padded to a multiple of 8.
pub(super) const fn footprint(payload_bytes: usize) -> u64 {
    (20 + payload_bytes).next_multiple_of(8) as u64
}

/// The class of an entry; what we do not know is kept longest.
pub(super) fn class_of(kind: u8) -> Class {
    RecordKind::from_code(kind).map_or(Class::Control, RecordKind::class)
}

/// Everything that the recorder must know of the past.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) ledger: Ledger,
    pub(super) accounts: Vec<Account>,
    /// Damaged ranges that the reader met.
    pub(super) gaps: Vec<Range<u64>>,
    /// Ranges that gap records name.
    pub(super) declared: Vec<Range<u64>>,
    /// The configuration that ran last.
    pub(super) config: Option<Digest>,
    /// How far the registry had this journal by its newest ack record, and that record's sequence.
    pub(super) ack: Option<(u64, u64)>,
    /// By class: records below are counted in drop records already.
    pub(super) dropped_below: [u64; CLASSES],
}

struct Walk {
    survey: Survey,
    epoch: u64,
    /// Behind the last entry.
    seen: u64,
    /// The account that the walk is in.
    at: usize,
    /// The last entry of that segment.
    last: Option<Entry>,
}

/// Reads the journal. What cannot be read is passed over: the journal always starts.
pub(super) fn read(disk: &Arc<dyn Disk>, folder: &Path, epoch: u64, segments: &[SegmentInfo]) -> Survey {
    let accounts = segments.iter().map(|segment| Account {
        next: segment.next_sequence,
        file_bytes: segment.bytes,
        ..Account::new(segment.index, segment.first_sequence)
    });
    let survey = Survey { accounts: accounts.collect(), ..Survey::default() };
    let mut walk = Walk { survey, epoch, seen: 0, at: 0, last: None };
    let mut from = 0;
    loop {
        match walk.on(disk, folder, from) {
            Ok(()) => return walk.survey,
            Err(error) => {
                let seen = walk.seen.max(from);
                let behind = segments.iter().map(|segment| segment.first_sequence).find(|first| *first > seen);
                tracing::error!(%error, resumes_at = behind, "a part of the journal cannot be read; its records count as lost for now");
                match behind {
                    Some(first) => from = first,
                    None => return walk.survey,
                }
            }
        }
    }
}

impl Walk {
    fn on(&mut self, disk: &Arc<dyn Disk>, folder: &Path, from: u64) -> anyhow::Result<()> {
        let mut reader = Reader::open_on(Arc::clone(disk), folder, from)?;
        while let Some(entry) = reader.next()? {
            self.take(entry);
        }
        self.leave_segment();
        self.survey.gaps.extend_from_slice(reader.gaps());
        Ok(())
    }

    fn take(&mut self, entry: Entry) {
        self.seen = entry.sequence + 1;
        let accounts = &self.survey.accounts;
        let within = |at: usize| accounts.get(at).is_none_or(|account| entry.sequence < account.next);
        if !within(self.at) {
            self.leave_segment();
            while self.survey.accounts.get(self.at).is_some_and(|account| entry.sequence >= account.next) {
                self.at += 1;
            }
        }
        let class = class_of(entry.kind);
        if let Some(account) = self.survey.accounts.get_mut(self.at) {
            account.held[class as usize].add(entry.sequence, footprint(entry.payload.len()));
        }
        if class == Class::Control {
            self.learn(&entry);
        }
        self.last = Some(entry);
    }

    /// The last record of a segment says how old it is.
    fn leave_segment(&mut self) {
        let Some(entry) = self.last.take() else { return };
        let Some(account) = self.survey.accounts.get_mut(self.at) else { return };
        if let Ok(record) = cbor::from_canonical::<Record>(&entry.payload) {
            account.newest = Some(Moment { boot: record.stamp.boot, monotonic_ns: record.stamp.monotonic_ns });
        }
    }

    fn learn(&mut self, entry: &Entry) {
        let survey = &mut self.survey;
        let record = match cbor::from_canonical::<Record>(&entry.payload) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(sequence = entry.sequence, %error, "a record cannot be understood; passed over");
                return;
            }
        };
        match record.body {
            Body::Swap(swap) => survey.ledger.note(entry.sequence, record.stamp.wall_ms, &swap),
            Body::Gap { from, to, .. } => declare(&mut survey.declared, from..to),
            Body::Config { digest } => survey.config = Some(digest),
            Body::Ack { epoch, upto } if epoch == self.epoch => survey.ack = Some((upto, entry.sequence)),
            // One of records that never had a sequence names its own.
            Body::Drop(dropped) if dropped.stream.is_none() && dropped.last_row < entry.sequence => {
                let below = &mut survey.dropped_below[class_of_drop(dropped.class) as usize];
                *below = (*below).max(dropped.last_row.saturating_add(1));
            }
            Body::Boot { .. }
            | Body::Anomaly(_)
            | Body::Clock { .. }
            | Body::Drop(_)
            | Body::Verdict { .. }
            | Body::Ack { .. }
            | Body::Deploy(_) => {}
        }
    }
}

const fn class_of_drop(class: DropClass) -> Class {
    match class {
        DropClass::Sample => Class::Telemetry,
        DropClass::Anomaly => Class::Anomaly,
        DropClass::Control => Class::Control,
        DropClass::Clip => Class::Clip,
    }
}

impl Survey {
    /// Whether a gap record names this range already.
    pub(super) fn names(&self, gap: &Range<u64>) -> bool {
        self.declared.iter().any(|known| known.start <= gap.start && gap.end <= known.end)
    }
}

/// Adds a range to those that are named; ones that touch become one.
fn declare(declared: &mut Vec<Range<u64>>, mut new: Range<u64>) {
    declared.retain(|known| {
        let apart = known.end < new.start || new.end < known.start;
        if !apart {
            new = known.start.min(new.start)..known.end.max(new.end);
        }
        apart
    });
    declared.push(new);
}
