//! Bundles: a stretch of a journal as one file that proves itself, to hand to somebody who has nothing else.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic `VEDBUNDL` |
//! | 4 | format version, 1 |
//! | 8 | epoch |
//! | … | frames, each a head and a body |
//!
//! | head at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | what it is: see [`Tag`] |
//! | 1 | 1 | kind byte of a record |
//! | 2 | 2 | zeros |
//! | 4 | 4 | length of the body |
//! | 8 | 8 | sequence |
//! | 16 | 4 | CRC32C of the head so far |
//!
//! All integers are little-endian. The first frame is a tree: the frontier before the first record. A record's body is
//! its leaf (32 bytes) and its payload, so that an altered one is named, and not only noticed; records that were thinned
//! have the leaf alone. Trees (the journal's anchors) and notes (its signed checkpoints) stand where they stood. The last
//! frame names the end: its sequence is that of the next record, its body the SHA-256 of all bytes before it.

mod export;
mod read;

pub use export::{ExportError, Exported, export_bundle, export_bundle_on};
pub use read::{BundleError, verify_bundle, verify_bundle_against};

use crate::note::NOTE_BYTES_MAX;
use crate::record::PAYLOAD_BYTES_MAX;

const MAGIC: &[u8; 8] = b"VEDBUNDL";
const VERSION: u32 = 1;
const FRONT_BYTES: usize = 20;
const HEAD_BYTES: usize = 20;
const HASH_BYTES: usize = 32;
const LOST_BYTES: usize = 8;
/// A frontier has at most one node a bit.
const TREE_BYTES_MAX: usize = 64 * HASH_BYTES;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    /// A record: leaf, then payload.
    Record = b'R',
    /// A record of which the leaf alone was kept.
    Leaf = b'L',
    /// Lost records, from `sequence` up to the one before the number in the body (8 bytes).
    Lost = b'X',
    /// The frontier of the tree over `sequence` records.
    Tree = b'T',
    /// A signed checkpoint, as text.
    Note = b'N',
    /// Nothing follows.
    End = b'E',
}

impl Tag {
    fn of(byte: u8) -> Option<Self> {
        [Self::Record, Self::Leaf, Self::Lost, Self::Tree, Self::Note, Self::End]
            .into_iter()
            .find(|tag| *tag as u8 == byte)
    }

    fn allows(self, body: usize) -> bool {
        match self {
            Self::Record => (HASH_BYTES..=HASH_BYTES + PAYLOAD_BYTES_MAX).contains(&body),
            Self::Leaf | Self::End => body == HASH_BYTES,
            Self::Lost => body == LOST_BYTES,
            Self::Tree => body <= TREE_BYTES_MAX && body.is_multiple_of(HASH_BYTES),
            Self::Note => body <= NOTE_BYTES_MAX,
        }
    }
}
