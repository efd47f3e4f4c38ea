//! The score ledger: which model scored which rows of a stream, for every row and not only for anomalies.
//!
//! # Constraints
//!
//! - A row of a stream has one number and one scorer for ever; after a crash no number is used again.
//! - `who-scored` answers for every row in logarithmic time; memory grows by [`ENTRY_BYTES`] a swap, not by row.
//! - The ledger is a view of the journal's swap records: nothing else is stored, and it is rebuilt by reading them.
//!
//! # Layout
//!
//! A swap record says "rows `first_row .. first_row + reserved` of `stream` belong to `by`". Per stream the entries
//! are kept ascending by `first_row`, without overlap; a scorer's name and digests are kept once and referred to.
//!
//! # Operations
//!
//! - *Swap*: a record with a greater `first_row` ends the entry before it at that row. If that entry is left without
//!   a row (swapped twice before a sample came) it goes.
//! - *Extend*: a record with the `first_row` and scorer of the newest entry gives that entry a new `reserved`: more while
//!   it runs (written when half of a reservation is used, so that scoring never waits for the disk), exactly the rows
//!   scored when the agent stops.
//! - *Who scored row r*: binary search for the last entry that begins at or before r; it answers if r is inside.
//!
//! # Recovery
//!
//! After a clean stop the newest entry ends at the last row scored, and rows go on without a hole. After a crash it
//! ends at its reservation: the next row is the reserved end, and up to one reservation of numbers was never
//! used. The ledger cannot tell which of these were scored before the crash; its answer says so ([`Answer::exact`]).
//! Before records are removed by age or size, each stream's newest entry is written once more ([`Ledger::resting_below`]);
//! for the rows before it `who-scored` answers as far back as the journal reaches.
//! A row that left the device in a record had its swap record before it in the same journal, so it is always covered.

use std::collections::BTreeMap;
use std::path::Path;

use vedette_journal::Reader;
use vedette_protocol::id::StreamName;
use vedette_protocol::record::{Body, EngineKind, Record, RecordKind, ScoredBy, Swap, SwapReason};

/// Rows that a swap record promises ahead. At 1 row/s one record in 9 h, at 100k rows/s three a second.
pub const RESERVED_ROWS: u64 = 65_536;

/// What one swap costs in memory, bytes.
pub const ENTRY_BYTES: usize = size_of::<Entry>();

/// Entries kept per stream: a swap every hour for seven years. Beyond it the oldest is forgotten (the journal has it).
pub const ENTRIES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    first_row: u64,
    rows: u64,
    sequence: u64,
    /// Of the newest record that speaks of it.
    latest: u64,
    wall_ms: i64,
    by: u32,
    reason: SwapReason,
    engine: Option<EngineKind>,
    exact: bool,
}

impl Entry {
    fn end(&self) -> u64 {
        self.first_row.saturating_add(self.rows)
    }
}

/// Who scored a run of rows, since when and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The scorer: a model with its digests, or the baseline.
    pub by: ScoredBy,
    /// First row of the run.
    pub first_row: u64,
    /// First row after the run; of the newest entry the end of its reservation.
    pub end_row: u64,
    /// Sequence of the swap record in the journal.
    pub sequence: u64,
    /// When the swap was recorded, Unix ms UTC.
    pub since_ms: i64,
    /// Why it was swapped in.
    pub reason: SwapReason,
    /// What runs its graph, if it is a model and the record says so.
    pub engine: Option<EngineKind>,
    /// Whether this is the newest entry of its stream.
    pub newest: bool,
    /// Whether `end_row` is where scoring ended, and not a promise.
    pub exact: bool,
}

/// The ledger of all streams of one journal epoch.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    streams: BTreeMap<StreamName, Vec<Entry>>,
    scorers: Vec<ScoredBy>,
}

impl Ledger {
    /// Rebuilds the ledger from a journal folder; records that cannot be decoded are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn read(journal: &Path) -> anyhow::Result<Self> {
        let mut ledger = Self::default();
        let mut reader = Reader::open(journal, 0)?;
        while let Some(entry) = reader.next()? {
            if entry.kind != RecordKind::Swap as u8 {
                continue;
            }
            match vedette_protocol::cbor::from_canonical::<Record>(&entry.payload) {
                Ok(Record { stamp, body: Body::Swap(swap) }) => ledger.note(entry.sequence, stamp.wall_ms, &swap),
                Ok(_) | Err(_) => {
                    tracing::warn!(sequence = entry.sequence, "a swap record cannot be read; passed over")
                }
            }
        }
        Ok(ledger)
    }

    /// Takes in one swap record, in journal order. A record that begins before the newest entry is ignored: this
    /// agent never writes one.
    pub fn note(&mut self, sequence: u64, wall_ms: i64, swap: &Swap) {
        let by = self.scorer(&swap.by);
        let entries = self.streams.entry(swap.stream.clone()).or_default();
        if let Some(last) = entries.last_mut() {
            if swap.first_row < last.first_row {
                tracing::warn!(stream = %swap.stream, first_row = swap.first_row, "a swap record goes back in rows; ignored");
                return;
            }
            if swap.first_row == last.first_row && by == last.by {
                // A running entry only ever grows; the last word of a clean stop is fewer rows.
                last.exact = swap.reserved < last.rows || (last.exact && swap.reserved == last.rows);
                last.latest = sequence;
                last.rows = swap.reserved;
                return;
            }
            let rows = swap.first_row - last.first_row;
            last.exact |= rows < last.rows;
            last.rows = last.rows.min(rows);
            if last.rows == 0 {
                entries.pop();
            }
        }
        if entries.len() >= ENTRIES_MAX {
            entries.remove(0);
        }
        let Swap { first_row, reserved: rows, reason, engine, .. } = *swap;
        entries.push(Entry { first_row, rows, sequence, latest: sequence, wall_ms, by, reason, engine, exact: false });
    }

    /// The first row number of a stream that was never promised to a scorer: where scoring goes on after a start.
    #[must_use]
    pub fn next_row(&self, stream: &StreamName) -> u64 {
        self.streams.get(stream).and_then(|e| e.last()).map_or(0, Entry::end)
    }

    /// The newest entry of each stream whose records all lie below `sequence`, as a record that says the same again: what
    /// must be written before those records go, or rows would be numbered from 0.
    #[must_use]
    pub fn resting_below(&self, sequence: u64) -> Vec<Swap> {
        let newest = self.streams.iter().filter_map(|(stream, entries)| Some((stream, entries.last()?)));
        let resting = newest.filter(|(_, entry)| entry.latest < sequence);
        let swap = |(stream, entry): (&StreamName, &Entry)| {
            Some(Swap {
                stream: stream.clone(),
                first_row: entry.first_row,
                reserved: entry.rows,
                by: self.scorers.get(entry.by as usize)?.clone(),
                reason: SwapReason::Extend,
                engine: entry.engine,
            })
        };
        resting.filter_map(swap).collect()
    }

    /// Who scored a row, if anyone was to.
    #[must_use]
    pub fn who_scored(&self, stream: &StreamName, row: u64) -> Option<Answer> {
        let entries = self.streams.get(stream)?;
        let at = entries.partition_point(|e| e.first_row <= row).checked_sub(1)?;
        let entry = entries.get(at)?;
        (row < entry.end()).then(|| self.answer(entry, at + 1 == entries.len())).flatten()
    }

    /// All runs of a stream, oldest first.
    pub fn runs<'a>(&'a self, stream: &StreamName) -> impl Iterator<Item = Answer> + 'a {
        let entries = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
        entries.iter().enumerate().filter_map(move |(at, e)| self.answer(e, at + 1 == entries.len()))
    }

    /// The streams that ever had a scorer.
    pub fn streams(&self) -> impl Iterator<Item = &StreamName> {
        self.streams.keys()
    }

    fn answer(&self, entry: &Entry, newest: bool) -> Option<Answer> {
        Some(Answer {
            by: self.scorers.get(entry.by as usize)?.clone(),
            first_row: entry.first_row,
            end_row: entry.end(),
            sequence: entry.sequence,
            since_ms: entry.wall_ms,
            reason: entry.reason,
            engine: entry.engine,
            newest,
            exact: entry.exact,
        })
    }

    fn scorer(&mut self, by: &ScoredBy) -> u32 {
        let at = self.scorers.iter().position(|known| known == by).unwrap_or_else(|| {
            self.scorers.push(by.clone());
            self.scorers.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vedette_protocol::id::Digest;

    fn stream(name: &str) -> StreamName {
        name.parse().unwrap()
    }

    fn model(version: u32) -> ScoredBy {
        let text = format!("server@{version}");
        ScoredBy::Model {
            model: text.parse().unwrap(),
            artifact: Digest::of(text.as_bytes()),
            manifest: Digest::of(version.to_string().as_bytes()),
        }
    }

    fn baseline() -> ScoredBy {
        ScoredBy::Baseline { version: 1 }
    }

    fn swap(first_row: u64, reserved: u64, by: ScoredBy, reason: SwapReason) -> Swap {
        Swap { stream: stream("s"), first_row, reserved, by, reason, engine: None }
    }

    fn by_at(ledger: &Ledger, row: u64) -> Option<ScoredBy> {
        ledger.who_scored(&stream("s"), row).map(|a| a.by)
    }

    #[test]
    fn each_row_has_the_scorer_of_its_run_and_the_swap_row_is_the_new_ones() {
        let mut ledger = Ledger::default();
        ledger.note(1, 1000, &swap(0, 65_536, baseline(), SwapReason::Start));
        ledger.note(5, 2000, &swap(100, 65_536, model(1), SwapReason::Assigned));
        ledger.note(9, 3000, &swap(250, 65_536, model(2), SwapReason::Assigned));
        assert_eq!(by_at(&ledger, 0), Some(baseline()));
        assert_eq!(by_at(&ledger, 99), Some(baseline()));
        assert_eq!(by_at(&ledger, 100), Some(model(1)));
        assert_eq!(by_at(&ledger, 249), Some(model(1)));
        assert_eq!(by_at(&ledger, 250), Some(model(2)));
        let run = ledger.who_scored(&stream("s"), 120).unwrap();
        assert_eq!((run.first_row, run.end_row, run.sequence, run.since_ms, run.newest), (100, 250, 5, 2000, false));
    }

    #[test]
    fn rows_beyond_the_reservation_and_other_streams_have_no_answer() {
        let mut ledger = Ledger::default();
        ledger.note(1, 0, &swap(10, 5, baseline(), SwapReason::Start));
        assert_eq!(by_at(&ledger, 9), None);
        assert!(by_at(&ledger, 14).is_some());
        assert_eq!(by_at(&ledger, 15), None);
        assert!(ledger.who_scored(&stream("other"), 0).is_none());
    }

    #[test]
    fn after_a_crash_rows_go_on_behind_the_reservation_and_after_a_clean_stop_without_a_hole() {
        let mut ledger = Ledger::default();
        ledger.note(1, 0, &swap(0, RESERVED_ROWS, baseline(), SwapReason::Start));
        assert_eq!(ledger.next_row(&stream("s")), RESERVED_ROWS);
        assert!(!ledger.who_scored(&stream("s"), 5).unwrap().exact);
        ledger.note(2, 0, &swap(0, 777, baseline(), SwapReason::Extend));
        assert_eq!(ledger.next_row(&stream("s")), 777);
        assert!(ledger.who_scored(&stream("s"), 5).unwrap().exact);
        assert_eq!(ledger.next_row(&stream("new")), 0);
    }

    #[test]
    fn extending_keeps_since_when_and_why() {
        let mut ledger = Ledger::default();
        ledger.note(1, 1000, &swap(0, 10, model(1), SwapReason::Assigned));
        ledger.note(7, 9000, &swap(0, 20, model(1), SwapReason::Extend));
        let run = ledger.who_scored(&stream("s"), 15).unwrap();
        assert_eq!((run.since_ms, run.sequence, run.reason, run.end_row), (1000, 1, SwapReason::Assigned, 20));
    }

    #[test]
    fn a_scorer_that_never_scored_a_row_leaves_no_run() {
        let mut ledger = Ledger::default();
        ledger.note(1, 0, &swap(0, 10, baseline(), SwapReason::Start));
        ledger.note(2, 0, &swap(0, 10, model(1), SwapReason::Assigned));
        assert_eq!(by_at(&ledger, 0), Some(model(1)));
        assert_eq!(ledger.runs(&stream("s")).count(), 1);
    }

    #[test]
    fn a_swap_that_goes_back_in_rows_changes_nothing() {
        let mut ledger = Ledger::default();
        ledger.note(1, 0, &swap(50, 10, model(1), SwapReason::Start));
        ledger.note(2, 0, &swap(20, 10, model(2), SwapReason::Assigned));
        assert_eq!(by_at(&ledger, 25), None);
        assert_eq!(by_at(&ledger, 55), Some(model(1)));
    }

    #[test]
    fn what_is_said_again_before_its_record_goes_gives_the_same_next_row() {
        let mut ledger = Ledger::default();
        ledger.note(1, 0, &swap(0, 100, baseline(), SwapReason::Start));
        ledger.note(5, 0, &swap(40, 300, model(1), SwapReason::Assigned));
        assert!(ledger.resting_below(5).is_empty());
        let again = ledger.resting_below(6);
        assert_eq!(again, [swap(40, 300, model(1), SwapReason::Extend)]);
        ledger.note(9, 0, &again[0]);
        assert!(ledger.resting_below(9).is_empty(), "once is enough");
        let mut later = Ledger::default();
        later.note(9, 0, &again[0]);
        assert_eq!((later.next_row(&stream("s")), by_at(&later, 50)), (340, Some(model(1))));
    }

    #[test]
    fn any_row_of_a_thousand_swaps_is_answered_as_a_linear_search_does() {
        let mut ledger = Ledger::default();
        let mut truth = Vec::new();
        let mut row = 0;
        for i in 0..1000_u32 {
            let length = u64::from(i * 7919 % 13) + 1;
            ledger.note(u64::from(i), 0, &swap(row, RESERVED_ROWS, model(i % 5 + 1), SwapReason::Assigned));
            // Neighbours differ, so that each swap is a run of its own.
            truth.extend(std::iter::repeat_n(model(i % 5 + 1), usize::try_from(length).unwrap()));
            row += length;
        }
        for (row, by) in truth.iter().enumerate() {
            assert_eq!(by_at(&ledger, u64::try_from(row).unwrap()).as_ref(), Some(by), "row {row}");
        }
        const { assert!(ENTRY_BYTES <= 48, "a swap costs some bytes, not a record") };
    }
}
