//! Making a bundle out of a journal's folder.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::{FRONT_BYTES, HEAD_BYTES, MAGIC, Tag, VERSION};
use crate::checkpoint::Checkpoint;
use crate::disk::{self, Disk};
use crate::error::ReadError;
use crate::merkle::{Frontier, leaf};
use crate::proofs::{ProofError, Proofs};
use crate::scan::{Event, Scan};

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
            Event::Note if self.is_about(payload) => {
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

    /// Whether a checkpoint speaks of records in the range and of none behind it. It stands behind what it is about,
    /// maybe behind the range.
    fn is_about(&self, note: &[u8]) -> bool {
        let checkpoint = Checkpoint::read_unverified(str::from_utf8(note).unwrap_or_default());
        checkpoint.is_ok_and(|checkpoint| (self.exported.first_sequence + 1..=self.to).contains(&checkpoint.size))
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
