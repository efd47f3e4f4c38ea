//! The journal: an append-only, checksummed log in a folder of segment files. It is the truth; whatever else knows
//! about the past (index, outbox, registry view) is a view of it or a cursor into it.
//!
//! # Constraints
//!
//! - One writer a folder (`flock` on `lock`), any number of readers, also in other processes and on a copied folder.
//! - What [`Journal::commit`] returned is on the disk: it survives a power cut at any byte of whatever comes later.
//! - No reader and no recovery ever returns a record that was not written just so at just that place: the checksum
//!   covers the record *and* its epoch, segment and offset, so a block that strayed is not believed.
//! - What [`Journal::checkpoint`] signed, the log never contradicts: the tree is on the disk before the key is asked.
//! - The journal always starts: no content of any file keeps [`Journal::open`] from succeeding, but a newer format.
//! - Opening needs the memory of one record and 48 bytes a segment, whatever the size, and reads one segment.
//! - A record has a sequence (from 0, rising) and the folder one epoch; together they name it for ever. A sequence is
//!   given twice only when its first record was cut as never committed; who knows better says [`Journal::skip_to`].
//! - Payloads are opaque, 0..=[`PAYLOAD_BYTES_MAX`] bytes; the kind byte is the caller's.
//!
//! # Layout
//!
//! `seg-XXXXXXXX.log`, numbered in hexadecimal, all integers little-endian. A segment is preallocated and therefore ends
//! in zeros; it is cut to its content when the next one begins, or when the journal is closed.
//!
//! | segment at | bytes | what |
//! |---|---|---|
//! | 0 | 128 | header |
//! | 128 | 3968 | frontier of the tree over all earlier records |
//! | 4096 | 128 | the header again, in a page of its own |
//! | 4224 | … | records, each beginning at a multiple of 8; the first is an anchor, but in the very first segment |
//!
//! | header at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `VEDETTEJ` |
//! | 8 | 4 | format version, 2 |
//! | 12 | 4 | number of the segment, as in its name |
//! | 16 | 8 | epoch |
//! | 24 | 8 | sequence of the first record |
//! | 32 | 32 | Merkle root over all earlier records |
//! | 64 | 8 | bytes reserved for the file |
//! | 72 | 52 | zeros, reserved |
//! | 124 | 4 | CRC32C of bytes 0..124 |
//!
//! | frontier at | bytes | what |
//! |---|---|---|
//! | 128 | 4 | number of nodes: the bits set in the first sequence |
//! | 132 | 32 each | the nodes, of the largest subtree first |
//! | … | … | zeros |
//! | 4092 | 4 | CRC32C of (epoch u64, segment u32, first sequence u64), then bytes 128..4092 |
//!
//! | record at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the payload |
//! | 4 | 4 | CRC32C of (epoch u64, segment u32, offset u64), then all bytes of the record but these four |
//! | 8 | 8 | sequence |
//! | 16 | 1 | kind |
//! | 17 | 1 | mark (so a record is never all zeros) |
//! | 18 | 2 | zeros, reserved |
//! | 20 | n | payload |
//! | 20+n | 0..=7 | zeros up to a multiple of 8, covered by the checksum |
//!
//! | mark | what | sequence | payload |
//! |---|---|---|---|
//! | `0xA1` | record, the first of its group | its own | the caller's |
//! | `0xA0` | record, a further one | its own | the caller's |
//! | `0xA8` | anchor | size of the tree, which is that of the next record | the frontier's nodes, 32 bytes each |
//! | `0xA9` | stubs | of the first of the records that were thinned | their leaves, 32 bytes each, up to 2048 |
//! | `0xAA` | note | of the next record | a signed checkpoint, text |
//!
//! Anchors and notes have no sequence of their own and are no leaves. Their kind is 1 when a group begins with them.
//!
//! Beside each finished segment lies its parity (`seg-XXXXXXXX.par`), from which a page that rots is made again; it is a
//! view of the segment, and its layout is in the source of `parity`.
//!
//! # Writing
//!
//! `append` puts a record into the *group* in memory; `commit` writes the group with one `pwrite` and one `fdatasync`.
//! It is due after a count of records or a time ([`Options`]); a caller that wants to acknowledge commits first. A new
//! segment is written under the name `seg-XXXXXXXX.tmp` with its front and preallocation, synced, renamed, and the folder
//! synced, before a record goes into it; all older segments are durable by then. After a failed write or sync the file is
//! never asked again (the kernel may have dropped the pages and say "done" the second time): the group, still in
//! memory, goes into a fresh segment. So a segment can end in records that were never committed and are given again at
//! the next one's beginning; whoever walks a segment stops there. A full disk is reported and the group kept; it is
//! bounded by [`GROUP_BYTES_MAX`], and beyond that `append` refuses.
//!
//! A segment that ends well gets its parity before the next one begins, one that ends in an error gets none.
//!
//! [`Journal::close`] commits, repeats the frontier until it stands in a page of its own, cuts the file and syncs. A file
//! that is shorter than what was reserved for it and none the less ends in zeros has lost something.
//!
//! # Reading
//!
//! A [`Reader`] walks record by record with `pread`. At a place that is no valid record it asks the segment's parity for the
//! rotten pages, once, and reads on in what that gives. If the place is still none, it looks for the next valid record
//! (every 8 bytes, with a sequence that can be true), then for a newer segment, else it is at the end for now and may be
//! asked again later. Records below the wanted sequence are passed over, thinned ones are counted
//! ([`Reader::thinned`]), damaged ones counted and named ([`Reader::skipped`], [`Reader::gaps`]).
//! A reader beside a live writer can see records that are written but not yet durable: what leaves the device is read with
//! [`Reader::next_below`] and the writer's [`Journal::committed`].
//!
//! # Recovery
//!
//! Only the newest segment can be torn, and only it is walked at open. What follows its last valid record is cut: zeros
//! are the preallocation, anything else is the torn tail and counted in [`Recovery::cut_bytes`]. An invalid stretch with
//! valid records behind it is damage: both sides are kept, the stretch is named in [`Recovery::damage`], and the segment
//! is not written again. If the damage lies in the last group it may be an unfinished write and not rot;
//! [`Damage::Records`] says so. Where the end of a closed file is damaged, or can't be read, as many sequences are left out
//! as can have been there. The last group is written over itself before the file is synced: after a failed sync in an
//! earlier life of the process the system may hold its pages for written. Damage in older segments is met by readers.
//!
//! A part that the disk refuses to read (`EIO`) is read as zeros, which makes it damage like any other. Pages that the
//! parity makes again are written back and named as [`Damage::Page`]; nothing of them is lost. A header is there
//! twice; if both are gone the epoch comes from the other segments and the records are still read. Files named as segments
//! in which nothing is ours are set aside (`….unreadable`) where they would be the newest; so is everything when no
//! segment has a header, and a new epoch begins.
//!
//! # Proof
//!
//! Leaf `i` of the tree (RFC 6962, SHA-256) is the payload of the record `i`; the tree of what is durable is
//! [`Journal::tree`]. Its frontier is written down in front of each segment (twice, in different pages), as an anchor
//! every 256 records, and before each checkpoint is signed; behind a checkpoint a further anchor follows as soon as the
//! log has come to another page. The signed note goes into the log with the next group, without a sync of its own.
//!
//! Recovery lets the tree grow again from the newest segment's frontier over its records. Behind a bad stretch it is not
//! known until the next anchor, which tells it without the lost records: whatever was signed stays true. Where no anchor
//! follows nothing was signed, and each lost record counts as the leaf [`lost_leaf`], as does a sequence that was left out.
//! If a segment's frontier is in neither of its places, the tree grows from the segments before it; and if none of them
//! has one, it stands on made-up nodes and [`Damage::Tree`] says that older checkpoints can't be followed.
//!
//! # Deleting
//!
//! [`Journal::prune_below`] removes whole segments, oldest first, never the newest, and syncs the folder. Each segment that
//! is left begins with the frontier over all before it, so proofs between trees that are not smaller hold on.
//! [`Journal::thin`] takes the payloads of single records out of an older segment: the segment is written anew under its
//! temporary name with stubs in their place, synced, and renamed over the old one. Leaves, anchors and notes stay.
//!
//! # Example
//!
//! ```
//! use vedette_journal::{Journal, Options, Reader};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let (mut journal, recovery) = Journal::open(folder, Options::new(1))?;
//! assert_eq!(recovery.next_sequence, 0);
//! let sequence = journal.append(3, b"an anomaly")?;
//! assert_eq!(journal.commit()?, sequence + 1); // durable now
//!
//! let mut reader = Reader::open(folder, 0)?;
//! while let Some(entry) = reader.next_below(journal.committed())? {
//!     assert_eq!((entry.sequence, entry.payload.as_slice()), (0, &b"an anomaly"[..]));
//! }
//! # Ok(())
//! # }
//! ```

mod bundle;
mod check;
mod checkpoint;
mod clock;
mod cursor;
mod disk;
mod error;
mod file;
mod folder;
mod group;
mod header;
mod key_file;
mod merkle;
mod note;
mod options;
mod parity;
mod past;
mod proofs;
mod reader;
mod record;
mod recovery;
mod repair;
mod scan;
mod segment;
mod shrink;
mod survey;
mod tail;
mod verify;
mod walk;
mod writer;

pub use bundle::{
    BundleError, ExportError, Exported, export_bundle, export_bundle_on, verify_bundle, verify_bundle_against,
};
pub use check::{Against, BadSignature, Earlier, Fork, Mismatch};
pub use checkpoint::Checkpoint;
pub use cursor::{Cursor, CursorFile};
pub use disk::{Disk, DiskFile, Lock, RealDisk};
pub use error::{AppendError, CommitError, CursorError, OpenError, PruneError, ReadError};
pub use group::GROUP_BYTES_MAX;
pub use key_file::KeyError;
pub use merkle::{
    Frontier, Hash, NotAHash, consistency_ranges, empty_root, inclusion_ranges, leaf, lost_leaf, node,
    verify_consistency, verify_inclusion,
};
pub use note::{NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, NoRandom, NotAKey, NoteError, PublicKey, SigningKey};
pub use options::{COMMIT_INTERVAL, COMMIT_RECORDS, Options, SEGMENT_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use proofs::{ProofError, Proofs};
pub use reader::{Entry, Reader};
pub use record::PAYLOAD_BYTES_MAX;
pub use recovery::{Damage, Recovery, Stat, stat, stat_on};
pub use repair::{Mended, RepairError, Repaired, repair, repair_on};
pub use scan::Spot;
pub use shrink::{SegmentInfo, Thinned};
pub use verify::{Finding, Incomplete, Report, verify, verify_on};
pub use writer::{Journal, SKIP_RECORDS_MAX, Signed};
