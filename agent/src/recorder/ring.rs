//! Records that wait in memory while the disk refuses, and the account of those for which there was no room.
//!
//! Order is kept: what came first is written first. When it is full, anomalies are counted (by stream: first row, last
//! row, how many, the highest score) instead of kept, and the last part is reserved for records of class control. An
//! extension of a swap that waits is merged into it. The account is written as `drop` records when the disk is back.

use std::collections::{BTreeMap, VecDeque};

use vedette_protocol::cbor;
use vedette_protocol::id::StreamName;
use vedette_protocol::number::Finite32;
use vedette_protocol::record::{Body, Class, DropClass, Dropped, Record, SwapReason};

/// Bytes of records, as they are written: 4 MiB are some 12,000 anomalies. The journal's own group holds as much before.
pub const RING_BYTES_MAX: usize = 4 << 20;

/// The part of it that only records of class control may use: some 4,000 of them.
pub(super) const CONTROL_RESERVE_BYTES: usize = 512 << 10;

/// What a record costs beside its bytes: the place in the queue.
const RECORD_BYTES: usize = size_of::<(Record, usize)>();

/// What waits, and what did not find room.
#[derive(Debug, Default)]
pub(super) struct Ring {
    records: VecDeque<(Record, usize)>,
    bytes: usize,
    dropped: BTreeMap<(Option<StreamName>, DropClass), Dropped>,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Nothing waits, and nothing is to be accounted for.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.dropped.is_empty()
    }

    /// Takes a record; gives how many records were lost by that, 0 or 1.
    pub(super) fn push(&mut self, record: Record) -> u64 {
        if self.merge(&record) {
            return 0;
        }
        let bytes = cbor::to_canonical(&record).len() + RECORD_BYTES;
        let max = match record.body.kind().class() {
            Class::Control => RING_BYTES_MAX,
            Class::Anomaly | Class::Clip | Class::Telemetry => RING_BYTES_MAX - CONTROL_RESERVE_BYTES,
        };
        if self.bytes + bytes > max {
            return self.account(&record.body);
        }
        self.bytes += bytes;
        self.records.push_back((record, bytes));
        0
    }

    /// The oldest record.
    pub(super) fn pop(&mut self) -> Option<Record> {
        let (record, bytes) = self.records.pop_front()?;
        self.bytes -= bytes;
        Some(record)
    }

    /// Puts back what [`Ring::pop`] gave.
    pub(super) fn put_back(&mut self, record: Record) {
        let bytes = cbor::to_canonical(&record).len() + RECORD_BYTES;
        self.bytes += bytes;
        self.records.push_front((record, bytes));
    }

    /// One account of what was lost, once nothing waits before it. `sequence` stands for records that never got one.
    pub(super) fn pop_dropped(&mut self, sequence: u64) -> Option<Dropped> {
        if !self.records.is_empty() {
            return None;
        }
        let (_, mut dropped) = self.dropped.pop_first()?;
        if dropped.stream.is_none() {
            (dropped.first_row, dropped.last_row) = (sequence, sequence);
        }
        Some(dropped)
    }

    /// Puts back what [`Ring::pop_dropped`] gave.
    pub(super) fn put_back_dropped(&mut self, dropped: Dropped) {
        self.add(dropped);
    }

    /// An extension of the swap that waits last for its stream only makes that longer.
    fn merge(&mut self, record: &Record) -> bool {
        let Body::Swap(new) = &record.body else { return false };
        if new.reason != SwapReason::Extend {
            return false;
        }
        let last = self.records.iter_mut().rev().find_map(|(waiting, _)| {
            if let Body::Swap(swap) = &mut waiting.body
                && swap.stream == new.stream
            {
                Some(swap)
            } else {
                None
            }
        });
        match last {
            Some(last) if last.first_row == new.first_row && last.by == new.by => {
                last.reserved = new.reserved;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Counts a record that does not fit.
    fn account(&mut self, body: &Body) -> u64 {
        match body {
            Body::Anomaly(anomaly) => {
                self.add(Dropped {
                    stream: Some(anomaly.stream.clone()),
                    class: DropClass::Anomaly,
                    first_row: anomaly.row,
                    last_row: anomaly.row,
                    count: 1,
                    max: Some(anomaly.score),
                });
                1
            }
            // An account already: it is kept, and nothing but its record is lost.
            Body::Drop(dropped) => {
                self.add(dropped.clone());
                0
            }
            other => {
                let class = other.kind().class().dropped();
                self.add(Dropped { stream: None, class, first_row: 0, last_row: 0, count: 1, max: None });
                1
            }
        }
    }

    fn add(&mut self, more: Dropped) {
        let key = (more.stream.clone(), more.class);
        match self.dropped.get_mut(&key) {
            None => {
                self.dropped.insert(key, more);
            }
            Some(dropped) => {
                dropped.first_row = dropped.first_row.min(more.first_row);
                dropped.last_row = dropped.last_row.max(more.last_row);
                dropped.count = dropped.count.saturating_add(more.count);
                dropped.max = higher(dropped.max, more.max);
            }
        }
    }
}

fn higher(a: Option<Finite32>, b: Option<Finite32>) -> Option<Finite32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b > a { b } else { a }),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_protocol::id::Digest;
    use vedette_protocol::record::{Anomaly, Cause, ScoredBy, Swap};
    use vedette_protocol::time::{Quality, Stamp};

    use super::*;

    pub(in super::super) fn anomaly(row: u64, score: f32) -> Body {
        Body::Anomaly(Anomaly {
            stream: "s".parse().unwrap(),
            row,
            at_ms: 0,
            cause: Cause::Baseline,
            score: Finite32::saturating(score),
            threshold: Finite32::saturating(1.0),
            top: Vec::new(),
            by: ScoredBy::Baseline { version: 1 },
            input: Digest::of(&[]),
        })
    }

    pub(in super::super) fn swap(first_row: u64, reserved: u64, reason: SwapReason) -> Body {
        Body::Swap(Swap {
            stream: "s".parse().unwrap(),
            first_row,
            reserved,
            by: ScoredBy::Baseline { version: 1 },
            reason,
            engine: None,
        })
    }

    fn record(body: Body) -> Record {
        let boot = "00112233445566778899aabbccddeeff".parse().unwrap();
        Record { stamp: Stamp { boot, monotonic_ns: 1, wall_ms: 0, quality: Quality::None }, body }
    }

    #[test]
    fn what_waits_comes_out_in_its_order_and_what_is_lost_is_counted_to_the_last_one() {
        let mut ring = Ring::default();
        let generated = 100_000;
        let lost: u64 = (0..generated).map(|row| ring.push(record(anomaly(row, row as f32)))).sum();
        assert!(lost > 0 && ring.bytes <= RING_BYTES_MAX);
        assert_eq!(ring.pop_dropped(7), None, "not before what waits");
        let mut stored = 0;
        while let Some(Record { body: Body::Anomaly(anomaly), .. }) = ring.pop() {
            assert_eq!(anomaly.row, stored);
            stored += 1;
        }
        let dropped = ring.pop_dropped(7).unwrap();
        assert_eq!(stored + dropped.count, generated);
        assert_eq!((dropped.count, dropped.first_row, dropped.last_row), (lost, stored, generated - 1));
        assert_eq!(dropped.max.unwrap().get(), (generated - 1) as f32);
        assert!(ring.is_empty() && ring.bytes == 0);
    }

    #[test]
    fn an_account_that_does_not_fit_is_added_to_ours() {
        let mut ring = Ring { bytes: RING_BYTES_MAX, ..Ring::default() };
        let stream = Some("s".parse().unwrap());
        let run = Dropped { stream, class: DropClass::Anomaly, first_row: 3, last_row: 9, count: 5, max: None };
        assert_eq!(ring.push(record(Body::Drop(run))), 0);
        assert_eq!(ring.push(record(anomaly(12, 2.0))), 1);
        let dropped = ring.pop_dropped(0).unwrap();
        assert_eq!((dropped.count, dropped.first_row, dropped.last_row), (6, 3, 12));
    }

    #[test]
    fn a_flood_of_anomalies_leaves_room_for_what_happens_to_the_device() {
        let mut ring = Ring::default();
        let mut row = 0;
        while ring.push(record(anomaly(row, 1.0))) == 0 {
            row += 1;
        }
        for first_row in 0..1000 {
            assert_eq!(ring.push(record(swap(first_row, 1, SwapReason::Assigned))), 0);
        }
    }

    #[test]
    fn a_swap_that_goes_on_for_days_without_a_disk_is_one_record() {
        let mut ring = Ring::default();
        ring.push(record(swap(5, 100, SwapReason::Start)));
        for reserved in 101..50_000 {
            assert_eq!(ring.push(record(swap(5, reserved, SwapReason::Extend))), 0);
        }
        assert_eq!(ring.len(), 1);
        let Some(Record { body: Body::Swap(swap), .. }) = ring.pop() else { unreachable!() };
        assert_eq!((swap.reserved, swap.reason), (49_999, SwapReason::Start));
    }

    #[test]
    fn control_records_that_were_lost_are_counted_at_the_place_where_they_are_missing() {
        let mut ring = Ring { bytes: RING_BYTES_MAX, ..Ring::default() };
        let gap = || Body::Gap { from: 1, to: 2, reason: String::new() };
        assert_eq!(ring.push(record(gap())) + ring.push(record(gap())), 2);
        let dropped = ring.pop_dropped(77).unwrap();
        assert_eq!((dropped.class, dropped.count), (DropClass::Control, 2));
        assert_eq!((dropped.stream, dropped.first_row, dropped.last_row), (None, 77, 77));
    }
}
