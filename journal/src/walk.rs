//! Walking a segment that nobody writes meanwhile, record by record.

use std::io;
use std::ops::Range;

use crate::header::DATA_AT;
use crate::merkle::{self, Frontier};
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
