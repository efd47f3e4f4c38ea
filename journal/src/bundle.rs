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

use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use crate::check::{Against, Check, Mismatch};
use crate::disk::{self, Disk};
use crate::error::ReadError;
use crate::merkle::{Frontier, Hash, leaf};
use crate::note::{NOTE_BYTES_MAX, PublicKey};
use crate::proofs::{ProofError, Proofs};
use crate::reader::Entry;
use crate::record::{PAYLOAD_BYTES_MAX, u32_at, u64_at};
use crate::scan::{Event, Scan};
use crate::verify::{Incomplete, Report};

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

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// First record in the bundle.
    pub first_sequence: u64,
    /// Behind the last one.
    pub next_sequence: u64,
    /// Records with their payload.
    pub records: u64,
    /// Records with their leaf alone.
    pub thinned: u64,
    /// Records that are lost.
    pub lost: u64,
    /// Signed checkpoints among them.
    pub checkpoints: u64,
}

/// Why nothing, or not all, was exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The journal has no record in the range.
    #[error("couldn't export records {} to {}: the journal has {first} to {next}", .range.start, .range.end)]
    NothingThere {
        /// What was asked for.
        range: Range<u64>,
        /// First record that is there.
        first: u64,
        /// Behind the last one.
        next: u64,
    },
    /// The tree before the first record can't be told.
    #[error(transparent)]
    Unproven(#[from] ProofError),
    /// The journal can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The bundle can't be written.
    #[error("couldn't write the bundle: {0}")]
    Write(#[source] io::Error),
}

/// Why something isn't a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It begins otherwise.
    #[error("couldn't verify it: it is not a bundle that `journal export` made")]
    NotABundle,
    /// A newer program made it.
    #[error("couldn't verify the bundle: format {0} is from a newer version of this program, update it")]
    FutureVersion(u32),
    /// It can't be read.
    #[error("couldn't read the bundle: {0}")]
    Io(#[from] io::Error),
}

/// Writes the records of `range` from the journal in `folder` into `out`, with what proves them. A range that begins
/// before the first record that is left begins with that one; one that ends behind the last ends with it.
///
/// # Errors
/// When there is nothing in the range, the journal can't be read, or the bundle can't be written.
pub fn export_bundle(folder: &Path, range: Range<u64>, out: &mut dyn Write) -> Result<Exported, ExportError> {
    export_bundle_on(disk::real(), folder, range, out)
}

/// As [`export_bundle`], on another disk.
///
/// # Errors
/// As [`export_bundle`].
pub fn export_bundle_on(
    disk: Arc<dyn Disk>,
    folder: &Path,
    range: Range<u64>,
    out: &mut dyn Write,
) -> Result<Exported, ExportError> {
    let stat = crate::recovery::stat_on(Arc::clone(&disk), folder)?;
    let (first, next) = (stat.first_sequence, stat.next_sequence);
    let (from, to) = (range.start.max(first), range.end.min(next));
    if from >= to {
        return Err(ExportError::NothingThere { range, first, next });
    }
    let tree = Proofs::open_on(Arc::clone(&disk), folder)?.frontier(from)?;
    let mut scan = Scan::new(disk, folder, 0)?;
    let exported =
        Exported { first_sequence: from, next_sequence: from, records: 0, thinned: 0, lost: 0, checkpoints: 0 };
    let mut export = Export { out, sum: Context::new(&SHA256), to, exported };
    export.begin(scan.epoch().unwrap_or(0), &tree).map_err(ExportError::Write)?;
    while let Some(event) = scan.next()? {
        export.take(event, scan.payload()).map_err(ExportError::Write)?;
    }
    export.end().map_err(ExportError::Write)
}

struct Export<'a> {
    out: &'a mut dyn Write,
    sum: Context,
    to: u64,
    exported: Exported,
}

impl Export<'_> {
    fn begin(&mut self, epoch: u64, tree: &Frontier) -> io::Result<()> {
        let mut front = Vec::with_capacity(FRONT_BYTES);
        front.extend_from_slice(MAGIC);
        front.extend_from_slice(&VERSION.to_le_bytes());
        front.extend_from_slice(&epoch.to_le_bytes());
        self.write(&front)?;
        self.tree(tree)
    }

    fn take(&mut self, event: Event, payload: &[u8]) -> io::Result<()> {
        match event {
            Event::Record { sequence, kind } => {
                if self.reaches(sequence)? {
                    self.frame(Tag::Record, kind, sequence, &[&leaf(payload).0, payload])?;
                    self.exported.records += 1;
                }
                Ok(())
            }
            Event::Stubs { sequence, leaves } => {
                for (sequence, leaf) in (sequence..).zip(leaves) {
                    if self.reaches(sequence)? {
                        self.frame(Tag::Leaf, 0, sequence, &[&leaf.0])?;
                        self.exported.thinned += 1;
                    }
                }
                Ok(())
            }
            Event::Anchor(tree) => self.noted(&tree),
            Event::Segment { front, .. } => front.tree.map_or(Ok(()), |tree| self.noted(&tree)),
            Event::Note if self.is_inside() => {
                self.exported.checkpoints += 1;
                self.frame(Tag::Note, 0, self.exported.next_sequence, &[payload])
            }
            Event::Note | Event::Bad(_) | Event::End { .. } | Event::Stranger { .. } => Ok(()),
        }
    }

    fn end(mut self) -> io::Result<Exported> {
        self.lose_below(self.to)?;
        let sum = self.sum.clone().finish();
        self.frame(Tag::End, 0, self.to, &[sum.as_ref()])?;
        self.out.flush()?;
        Ok(self.exported)
    }

    /// Whether the next record is in the range, or just behind it: a checkpoint about the range may stand there.
    fn is_inside(&self) -> bool {
        let next = self.exported.next_sequence;
        next > self.exported.first_sequence && next <= self.to
    }

    /// Whether the record `sequence` is the next one to export; names what is missing before it.
    fn reaches(&mut self, sequence: u64) -> io::Result<bool> {
        if sequence < self.exported.next_sequence || sequence >= self.to {
            return Ok(false);
        }
        self.lose_below(sequence)?;
        self.exported.next_sequence = sequence + 1;
        Ok(true)
    }

    fn noted(&mut self, tree: &Frontier) -> io::Result<()> {
        if tree.size() <= self.exported.first_sequence || tree.size() > self.to {
            return Ok(());
        }
        self.lose_below(tree.size())?;
        // An older one was written twice and says nothing new.
        if tree.size() == self.exported.next_sequence { self.tree(tree) } else { Ok(()) }
    }

    fn lose_below(&mut self, sequence: u64) -> io::Result<()> {
        if sequence > self.exported.next_sequence {
            let from = std::mem::replace(&mut self.exported.next_sequence, sequence);
            self.exported.lost += sequence - from;
            self.frame(Tag::Lost, 0, from, &[&sequence.to_le_bytes()])?;
        }
        Ok(())
    }

    fn tree(&mut self, tree: &Frontier) -> io::Result<()> {
        let nodes: Vec<u8> = tree.nodes().iter().flat_map(|node| node.0).collect();
        self.frame(Tag::Tree, 0, tree.size(), &[&nodes])
    }

    fn frame(&mut self, tag: Tag, kind: u8, sequence: u64, body: &[&[u8]]) -> io::Result<()> {
        let length: usize = body.iter().map(|part| part.len()).sum();
        let mut head = [0; HEAD_BYTES];
        (head[0], head[1]) = (tag as u8, kind);
        head[4..8].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        head[8..16].copy_from_slice(&sequence.to_le_bytes());
        let sum = crc32c::crc32c(&head[..16]);
        head[16..].copy_from_slice(&sum.to_le_bytes());
        self.write(&head)?;
        body.iter().try_for_each(|part| self.write(part))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Verifies a bundle and shows every record to `visit` that is what its hash says. With a `key`, the checkpoints in it
/// must be signed by it.
///
/// # Errors
/// When it can't be read, is not a bundle, or is of a newer format. Whatever else is wrong is in the report.
pub fn verify_bundle(
    input: &mut dyn Read,
    key: Option<&PublicKey>,
    visit: &mut dyn FnMut(&Entry),
) -> Result<Report, BundleError> {
    verify_bundle_against(input, &Against { key, earlier: None }, visit)
}

/// As [`verify_bundle`], against more than a key.
///
/// # Errors
/// As [`verify_bundle`].
pub fn verify_bundle_against(
    input: &mut dyn Read,
    against: &Against<'_>,
    visit: &mut dyn FnMut(&Entry),
) -> Result<Report, BundleError> {
    let mut frames = Frames { input, sum: Context::new(&SHA256), body: Vec::new() };
    let epoch = frames.front()?;
    let mut pass =
        Pass { epoch, report: Report { epoch: Some(epoch), ..Report::default() }, against, check: None, hole: None };
    loop {
        let sum = frames.sum.clone();
        match frames.next()? {
            Next::Frame(head) => {
                if pass.take(head, &frames.body, sum, visit) {
                    break;
                }
            }
            Next::Garbled => {
                let behind = pass.behind();
                pass.check().mismatch(Mismatch::Checksum { behind });
                break;
            }
            Next::Nothing => {
                let at = pass.check().next();
                pass.report.incomplete.get_or_insert(Incomplete::Ends { at });
                break;
            }
        }
    }
    Ok(pass.conclude())
}

/// A frame's head.
#[derive(Clone, Copy, Debug)]
struct Head {
    tag: Tag,
    kind: u8,
    sequence: u64,
}

enum Next {
    Frame(Head),
    /// No frame looks like this.
    Garbled,
    /// The input ends, at a frame's border or within one.
    Nothing,
}

struct Frames<'a> {
    input: &'a mut dyn Read,
    /// Over everything that was read.
    sum: Context,
    body: Vec<u8>,
}

impl Frames<'_> {
    fn front(&mut self) -> Result<u64, BundleError> {
        let mut front = [0; FRONT_BYTES];
        if !self.read(&mut front)? || front[..8] != *MAGIC {
            return Err(BundleError::NotABundle);
        }
        match u32_at(&front, 8) {
            VERSION => Ok(u64_at(&front, 12)),
            version => Err(BundleError::FutureVersion(version)),
        }
    }

    fn next(&mut self) -> io::Result<Next> {
        let mut head = [0; HEAD_BYTES];
        if !self.read(&mut head)? {
            return Ok(Next::Nothing);
        }
        let length = u32_at(&head, 4) as usize;
        let whole = u32_at(&head, 16) == crc32c::crc32c(&head[..16]);
        let Some(tag) = Tag::of(head[0]).filter(|tag| whole && tag.allows(length)) else {
            return Ok(Next::Garbled);
        };
        let mut body = std::mem::take(&mut self.body);
        body.resize(length, 0);
        let whole = self.read(&mut body)?;
        self.body = body;
        Ok(if whole { Next::Frame(Head { tag, kind: head[1], sequence: u64_at(&head, 8) }) } else { Next::Nothing })
    }

    /// Fills `buffer`; `false` when the input ends before.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.input.read_exact(buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        self.sum.update(buffer);
        Ok(true)
    }
}

/// One pass over a bundle.
struct Pass<'a> {
    epoch: u64,
    report: Report,
    against: &'a Against<'a>,
    check: Option<Check<'a>>,
    /// Records that should have come and did not, the first stretch; what stands behind it.
    hole: Option<Range<u64>>,
}

impl<'a> Pass<'a> {
    /// The check, begun at the start when nothing said where.
    fn check(&mut self) -> &mut Check<'a> {
        let against = self.against;
        self.check.get_or_insert_with(|| Check::new(against.clone(), 0, None))
    }

    fn behind(&mut self) -> u64 {
        self.check().next().saturating_sub(1)
    }

    /// Takes a frame, before which the bytes had the checksum `sum`. `true` at the end.
    fn take(&mut self, head: Head, body: &[u8], sum: Context, visit: &mut dyn FnMut(&Entry)) -> bool {
        let Head { tag, kind, sequence } = head;
        match tag {
            Tag::Tree => self.noted(sequence, body),
            Tag::Note => self.check().note(body),
            Tag::Lost => {
                if self.comes(sequence) {
                    self.check().lose_below(u64_at(body, 0));
                }
            }
            Tag::Leaf => {
                if let Some(kept) = first_hash(body)
                    && self.comes(sequence)
                {
                    self.report.thinned += u64::from(self.check().leaf(sequence, kept));
                }
            }
            Tag::Record => self.record(kind, sequence, body, visit),
            Tag::End => {
                self.end(sequence, body, sum);
                return true;
            }
        }
        false
    }

    fn next(&mut self) -> u64 {
        self.check().next()
    }

    fn record(&mut self, kind: u8, sequence: u64, body: &[u8], visit: &mut dyn FnMut(&Entry)) {
        let (Some(kept), Some(payload)) = (first_hash(body), body.get(HASH_BYTES..)) else { return };
        if !self.comes(sequence) {
            return;
        }
        let found = leaf(payload);
        if found != kept {
            self.check().mismatch(Mismatch::Record { sequence });
        }
        if self.check().leaf(sequence, kept) && found == kept {
            self.report.records += 1;
            visit(&Entry { epoch: self.epoch, sequence, kind, payload: payload.to_vec() });
        }
    }

    /// Whether record `sequence` may come now: it is the next one, or those before it are missing, which is kept in mind.
    fn comes(&mut self, sequence: u64) -> bool {
        let expected = self.next();
        if sequence < expected {
            let expected =
                self.hole.as_ref().filter(|hole| hole.contains(&sequence)).map_or(expected, |hole| hole.start);
            self.check().mismatch(Mismatch::Order { expected, found: sequence });
            return false;
        }
        if sequence > expected {
            self.hole.get_or_insert(expected..sequence);
            self.check().leap(sequence);
        }
        true
    }

    fn noted(&mut self, size: u64, body: &[u8]) {
        let tree = Frontier::from_parts(size, crate::record::hashes(body).collect());
        if self.check.is_none() {
            self.report.first_sequence = size;
            self.check = Some(Check::new(self.against.clone(), size, tree));
            return;
        }
        match tree {
            // Behind a hole a tree would close it in silence.
            Some(tree) if size <= self.next() => self.check().noted(tree),
            Some(_) => {
                let expected = self.next();
                self.hole.get_or_insert(expected..size);
                self.check().leap(size);
            }
            None => {
                let behind = self.behind();
                self.check().mismatch(Mismatch::Checksum { behind });
            }
        }
    }

    fn end(&mut self, sequence: u64, body: &[u8], sum: Context) {
        let next = self.next();
        if sequence > next {
            self.hole.get_or_insert(next..sequence);
            self.check().leap(sequence);
        }
        let behind = self.behind();
        let whole = first_hash(body).is_some_and(|hash| hash.0 == *sum.finish().as_ref());
        if !whole && self.hole.is_none() {
            self.check().mismatch(Mismatch::Checksum { behind });
        }
    }

    fn conclude(mut self) -> Report {
        if let Some(hole) = self.hole.take()
            && !matches!(self.check().findings.mismatch, Some(Mismatch::Order { .. }))
        {
            self.report.incomplete = Some(Incomplete::Removed(hole));
        }
        self.check().end();
        if let Some(check) = self.check.take() {
            self.report.conclude(check);
        }
        self.report
    }
}

fn first_hash(body: &[u8]) -> Option<Hash> {
    body.first_chunk().map(|bytes| Hash(*bytes))
}
