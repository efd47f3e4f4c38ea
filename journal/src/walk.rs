//! Walking a segment that nobody writes meanwhile: record by record, and leaf by leaf.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use crate::header::DATA_AT;
use crate::merkle::{self, Frontier, Hash};
use crate::record::{self, HEAD_BYTES, Head, Mark};
use crate::segment::{Found, Segment};

/// One step of a walk through a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A valid record of any mark at this offset; its bytes are in the buffer.
    Record { offset: u64, head: Head },
    /// Bad bytes between valid ones.
    Bad { offset: u64, bytes: u64 },
    /// Nothing valid from here on.
    End { offset: u64 },
}

/// A walk over everything in a segment.
#[derive(Debug)]
pub(crate) struct Walk {
    segment: Segment,
    offset: u64,
    expected: Option<u64>,
}

impl Walk {
    pub(crate) fn new(segment: Segment, first_sequence: Option<u64>) -> Self {
        Self { segment, offset: DATA_AT, expected: first_sequence }
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn into_segment(self) -> Segment {
        self.segment
    }

    pub(crate) fn step(&mut self, buffer: &mut Vec<u8>) -> io::Result<Step> {
        let offset = self.offset;
        if let Found::Record(head) = self.segment.record_at(offset, self.expected, buffer)? {
            self.offset += record::footprint(head.payload_bytes) as u64;
            self.expected = Some(head.next_sequence());
            return Ok(Step::Record { offset, head });
        }
        match self.segment.next_valid(offset, self.expected, buffer)? {
            Some(next) => {
                self.offset = next;
                Ok(Step::Bad { offset, bytes: next - offset })
            }
            None => Ok(Step::End { offset }),
        }
    }
}

/// The payload of the record whose bytes are in `buffer`.
pub(crate) fn payload<'a>(head: &Head, buffer: &'a [u8]) -> &'a [u8] {
    &buffer[HEAD_BYTES..HEAD_BYTES + head.payload_bytes]
}

/// The frontier that an anchor holds.
pub(crate) fn anchor(head: &Head, buffer: &[u8]) -> Option<Frontier> {
    Frontier::from_parts(head.sequence, record::hashes(payload(head, buffer)).collect())
}

/// The leaves of a segment in order, one for each sequence, without a hole: from its first to the one before `until`.
#[derive(Debug)]
pub(crate) struct Leaves {
    walk: Walk,
    /// Sequence of the next leaf.
    next: u64,
    until: Option<u64>,
    /// Leaves of the last record that was read, from `known_from` on.
    known: VecDeque<Hash>,
    known_from: u64,
    ended: bool,
    buffer: Vec<u8>,
}

impl Leaves {
    /// The leaves from `first`, the segment's first sequence, up to `until`, which is where the next segment begins: what
    /// is missing up to there is lost, and what is behind was written twice. `None` ends with the last valid record.
    pub(crate) fn new(segment: Segment, first: u64, until: Option<u64>) -> Self {
        Self {
            walk: Walk::new(segment, Some(first)),
            next: first,
            until,
            known: VecDeque::new(),
            known_from: first,
            ended: false,
            buffer: Vec::new(),
        }
    }

    /// The next leaf with its sequence; without a hash when the record is lost.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Option<Hash>)>> {
        loop {
            let sequence = self.next;
            if self.until.is_some_and(|until| sequence >= until) {
                return Ok(None);
            }
            let missing = !self.known.is_empty() || self.known_from > sequence || self.ended && self.until.is_some();
            if missing {
                self.next += 1;
                let is_known = sequence >= self.known_from;
                let leaf = if is_known { self.known.pop_front() } else { None };
                self.known_from += u64::from(is_known && leaf.is_some());
                return Ok(Some((sequence, leaf)));
            }
            if self.ended {
                return Ok(None);
            }
            self.read_on()?;
        }
    }

    fn read_on(&mut self) -> io::Result<()> {
        match self.walk.step(&mut self.buffer)? {
            Step::Bad { .. } => {}
            Step::End { .. } => self.ended = true,
            Step::Record { head, .. } => {
                self.known_from = head.sequence;
                match head.mark {
                    Mark::Further | Mark::First => self.known.push_back(merkle::leaf(payload(&head, &self.buffer))),
                    Mark::Stubs => self.known.extend(record::hashes(payload(&head, &self.buffer))),
                    // Its sequence says how many were there before it.
                    Mark::Anchor | Mark::Note => {}
                }
            }
        }
        Ok(())
    }
}

/// A tree that grows again out of what the disk still holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regrowth {
    /// `None` until a frontier was met.
    pub(crate) tree: Option<Frontier>,
    /// Where the last frontier that was read stood.
    pub(crate) anchored: u64,
}

impl Regrowth {
    pub(crate) fn from(tree: Option<Frontier>) -> Self {
        let anchored = tree.as_ref().map_or(0, Frontier::size);
        Self { tree, anchored }
    }

    /// Takes the next valid record, of whatever mark. What is missing before it counts as lost, until an anchor says
    /// better.
    pub(crate) fn take(&mut self, head: &Head, buffer: &[u8]) {
        if head.mark == Mark::Anchor {
            self.adopt(anchor(head, buffer));
        }
        if head.sequence == 0 {
            self.tree.get_or_insert_default();
        }
        self.lose_below(head.sequence);
        let Some(tree) = &mut self.tree else { return };
        match head.mark {
            Mark::Further | Mark::First => tree.push(merkle::leaf(payload(head, buffer))),
            Mark::Stubs => record::hashes(payload(head, buffer)).for_each(|leaf| tree.push(leaf)),
            Mark::Anchor | Mark::Note => {}
        }
    }

    /// An anchor was on the disk before anything was signed over it, so it is right where it differs.
    fn adopt(&mut self, anchor: Option<Frontier>) {
        let Some(anchor) = anchor else { return };
        self.anchored = anchor.size();
        self.tree = Some(anchor);
    }

    /// Counts everything below `sequence` that did not come as lost.
    pub(crate) fn lose_below(&mut self, sequence: u64) {
        if let Some(tree) = &mut self.tree {
            lose(tree, tree.size()..sequence);
        }
    }
}

/// Adds leaves for records that are lost for good.
pub(crate) fn lose(tree: &mut Frontier, sequences: Range<u64>) {
    sequences.for_each(|sequence| tree.push(merkle::lost_leaf(sequence)));
}
