//! What makes a journal smaller: whole segments removed, payloads of single records removed. Proofs hold on: each segment
//! begins with the frontier of all before it, and of a removed payload its leaf stays.

use std::sync::OnceLock;

use crate::disk::DiskFile;
use crate::error::PruneError;
use crate::folder::Folder;
use crate::header::Header;
use crate::merkle::{self, Hash};
use crate::parity;
use crate::reader::Entry;
use crate::record::{self, Draft, Head, Mark, Place, STUBS_MAX};
use crate::segment::{self, Front, Opened};
use crate::walk::{Step, Walk, payload};
use crate::writer::Journal;

/// Bytes that are put together before they are written.
const BUFFER_BYTES: usize = 128 << 10;

/// A segment in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number, as in its name.
    pub index: u32,
    /// Sequence of its first record.
    pub first_sequence: u64,
    /// Sequence behind its last record.
    pub next_sequence: u64,
    /// Length of its file and of its parity.
    pub bytes: u64,
}

/// What thinning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Records whose payload was removed.
    pub removed: u64,
    /// Bytes by which the file is shorter.
    pub freed_bytes: u64,
}

/// A segment as the writer knows it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) index: u32,
    /// Asked for once, as an older segment does not change but by thinning.
    figures: OnceLock<Figures>,
}

#[derive(Clone, Copy, Debug)]
struct Figures {
    first_sequence: Option<u64>,
    bytes: u64,
}

impl Known {
    pub(crate) fn new(index: u32) -> Self {
        Self { index, figures: OnceLock::new() }
    }

    fn figures(&self, folder: &Folder) -> Figures {
        *self.figures.get_or_init(|| self.look(folder))
    }

    fn look(&self, folder: &Folder) -> Figures {
        let opened = segment::open(folder, self.index).ok().flatten();
        let length = opened.as_ref().and_then(|opened| opened.length().ok()).unwrap_or(0);
        let parity = folder.disk.open_to_read(&folder.parity(self.index)).and_then(|file| file.length()).unwrap_or(0);
        let bytes = length + parity;
        let first_sequence = opened.and_then(|opened| opened.front.header).map(|header| header.first_sequence);
        Figures { first_sequence, bytes }
    }
}

impl Journal {
    /// The segments, oldest first. One that can't be read has the figures of its neighbours and no bytes. Of older ones
    /// the file is looked at once, so that this may be asked for often.
    pub fn segment_list(&self) -> Vec<SegmentInfo> {
        let mut list = Vec::with_capacity(self.segments.len());
        let mut next_sequence = self.committed();
        for known in self.segments.iter().rev() {
            // The newest one is still written to, or was cut only now.
            let figures = if list.is_empty() { known.look(&self.folder) } else { known.figures(&self.folder) };
            // One that was begun in vain and came back after a power cut may begin behind the next.
            let first_sequence = figures.first_sequence.unwrap_or(next_sequence).min(next_sequence);
            list.push(SegmentInfo { index: known.index, first_sequence, next_sequence, bytes: figures.bytes });
            next_sequence = first_sequence;
        }
        list.reverse();
        list
    }

    /// Removes whole segments whose records all lie below `sequence`, oldest first, never the newest. Returns how many
    /// went.
    ///
    /// # Errors
    /// When a file can't be read or removed; those before it are gone.
    pub fn prune_below(&mut self, sequence: u64) -> Result<usize, PruneError> {
        let removable = self.removable_below(sequence);
        for _ in 0..removable {
            let index = self.segments[0].index;
            let path = self.folder.segment(index);
            self.folder.remove_leftover(&self.folder.parity(index));
            match self.folder.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PruneError::at(&path, error));
                }
                Ok(()) | Err(_) => drop(self.segments.remove(0)),
            }
        }
        if removable > 0 {
            self.folder.sync().map_err(|source| PruneError::at(self.folder.path(), source))?;
        }
        Ok(removable)
    }

    /// How many of the oldest segments end below `sequence`: all those in front of the last one that begins at or below
    /// it. One whose header is lost is taken along by its neighbours.
    fn removable_below(&self, sequence: u64) -> usize {
        let mut removable = 0;
        for (position, known) in self.segments.iter().enumerate().skip(1) {
            match known.figures(&self.folder).first_sequence {
                Some(first_sequence) if first_sequence <= sequence => removable = position,
                Some(_) => break,
                None => {}
            }
        }
        removable
    }

    /// Removes the payloads of those records of the segment `index` that `keep` does not want; their leaves stay, so that
    /// every proof stays as it was. The segment is written anew beside the old one and takes its name at once: readers
    /// that hold the old file open go on in it. The newest segment is never thinned. The copy needs room for as long as both
    /// are there: at most the segment's own length.
    ///
    /// # Errors
    /// When the disk fails or has no room for the shorter copy; the segment is then as it was.
    pub fn thin(&mut self, index: u32, keep: &mut dyn FnMut(&Entry) -> bool) -> Result<Thinned, PruneError> {
        let path = self.folder.segment(index);
        let failed = |source| PruneError::at(&path, source);
        let Ok(position) = self.segments.binary_search_by_key(&index, |known| known.index) else {
            return Ok(Thinned::default());
        };
        let Some(behind) = self.segments.get(position + 1) else {
            return Ok(Thinned::default());
        };
        let open = |index| segment::open(&self.folder, index).map_err(|error| failed(std::io::Error::other(error)));
        // What is behind the next segment's beginning was written again there, after a failed sync.
        let until = behind.figures(&self.folder).first_sequence;
        let Some(opened) = open(index)? else {
            return Ok(Thinned::default());
        };
        let Some(header) = opened.front.header.filter(|header| header.epoch == self.epoch) else {
            return Ok(Thinned::default());
        };
        let before = opened.length().map_err(failed)?;
        let thinned = self.rewrite(opened, &header, until.unwrap_or(u64::MAX), keep);
        let done = match thinned {
            Ok((0, _)) => Ok(Thinned::default()),
            Ok((removed, bytes)) => self
                .replace(header.place(), bytes)
                .map(|()| Thinned { removed, freed_bytes: before.saturating_sub(bytes) }),
            Err(error) => Err(error),
        };
        if !matches!(done, Ok(Thinned { removed: 1.., .. })) {
            self.folder.remove_leftover(&self.folder.temporary(index));
        }
        self.segments[position] = Known::new(index);
        self.uncut.retain(|(uncut, _)| *uncut != index);
        done.map_err(failed)
    }

    /// Gives the thinned copy, of `bytes`, the segment's name. The old parity goes first, durably: it is not the copy's.
    fn replace(&self, place: Place, bytes: u64) -> std::io::Result<()> {
        match self.folder.disk.remove(&self.folder.parity(place.segment)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => self.folder.sync()?,
        }
        self.folder.publish(place.segment)?;
        if let Ok(copy) = self.folder.open_to_read(place.segment) {
            parity::write(&self.folder, place, &*copy, bytes);
        }
        Ok(())
    }

    /// Writes the thinned copy under the temporary name, durable but for its name; returns how many payloads are gone
    /// and the copy's length.
    fn rewrite(
        &self,
        opened: Opened,
        header: &Header,
        until: u64,
        keep: &mut dyn FnMut(&Entry) -> bool,
    ) -> std::io::Result<(u64, u64)> {
        let Front { tree, .. } = opened.front.clone();
        let file = self.folder.disk.create(&self.folder.temporary(header.segment))?;
        let mut copy = Copy::new(&*file, header.place(), header.encode_front(tree.as_ref()));
        let mut walk = Walk::new(opened.into_segment(self.epoch), Some(header.first_sequence));
        let mut buffer = Vec::new();
        let mut removed = 0;
        loop {
            let head = match walk.step(&mut buffer)? {
                Step::Record { head, .. } if head.next_sequence() <= until => head,
                // Lost: the next record's sequence says so.
                Step::Record { .. } | Step::Bad { .. } => continue,
                Step::End { .. } => break,
            };
            let bytes = payload(&head, &buffer);
            match head.mark {
                Mark::Stubs => copy.stubs(head.sequence, record::hashes(bytes))?,
                Mark::Anchor | Mark::Note => copy.record(&head, bytes)?,
                Mark::First | Mark::Further => {
                    let Head { sequence, kind, .. } = head;
                    let entry = Entry { epoch: self.epoch, sequence, kind, payload: bytes.to_vec() };
                    if keep(&entry) {
                        copy.record(&head, bytes)?;
                    } else {
                        removed += 1;
                        copy.stubs(sequence, std::iter::once(merkle::leaf(bytes)))?;
                    }
                }
            }
        }
        let bytes = copy.finish()?;
        file.sync_all()?;
        Ok((removed, bytes))
    }
}

/// A segment on its way to the disk.
struct Copy<'a> {
    file: &'a dyn DiskFile,
    place: Place,
    /// Where `out` begins.
    offset: u64,
    out: Vec<u8>,
    stubs_from: u64,
    /// Leaves not yet written, of consecutive records.
    stubs: Vec<u8>,
}

impl<'a> Copy<'a> {
    fn new(file: &'a dyn DiskFile, place: Place, front: Vec<u8>) -> Self {
        Self { file, place, offset: 0, out: front, stubs_from: 0, stubs: Vec::new() }
    }

    fn stubs(&mut self, from: u64, leaves: impl Iterator<Item = Hash>) -> std::io::Result<()> {
        for (sequence, leaf) in (from..).zip(leaves) {
            let count = self.stubs.len() / leaf.0.len();
            if count == STUBS_MAX || self.stubs_from + count as u64 != sequence {
                self.flush_stubs()?;
            }
            if self.stubs.is_empty() {
                self.stubs_from = sequence;
            }
            self.stubs.extend_from_slice(&leaf.0);
        }
        Ok(())
    }

    fn record(&mut self, head: &Head, payload: &[u8]) -> std::io::Result<()> {
        self.flush_stubs()?;
        self.put(&Draft { sequence: head.sequence, kind: head.kind, mark: head.mark, payload })
    }

    fn flush_stubs(&mut self) -> std::io::Result<()> {
        if self.stubs.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.stubs);
        self.put(&Draft { sequence: self.stubs_from, kind: 0, mark: Mark::Stubs, payload: &payload })
    }

    fn put(&mut self, draft: &Draft<'_>) -> std::io::Result<()> {
        if self.out.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        let offset = self.offset + self.out.len() as u64;
        record::encode(&mut self.out, self.place, offset, draft);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.write_at(&self.out, self.offset)?;
        self.offset += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<u64> {
        self.flush_stubs()?;
        self.flush()?;
        Ok(self.offset)
    }
}
