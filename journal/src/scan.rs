//! Everything in a folder in the order in which it was written, one thing at a time: for those who check, copy or prove,
//! and want to know of what [`crate::Reader`] passes over in silence.

use std::path::Path;
use std::sync::Arc;
use std::vec;

use crate::disk::Disk;
use crate::error::ReadError;
use crate::folder::Folder;
use crate::merkle::{self, Frontier, Hash};
use crate::record::{self, Head, Mark};
use crate::segment::{self, Front, Opened};
use crate::survey;
use crate::walk::{self, Step, Walk};

/// A place in a folder that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Number of the segment.
    pub segment: u32,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
}

/// What comes next in a folder.
#[derive(Debug)]
pub(crate) enum Event {
    /// A segment begins.
    Segment { index: u32, front: Front },
    /// A record; its payload is in [`Scan::payload`].
    Record { sequence: u64, kind: u8 },
    /// Leaves of records whose payload was removed, from `sequence` on.
    Stubs { sequence: u64, leaves: Vec<Hash> },
    /// What the tree was here.
    Anchor(Frontier),
    /// A signed checkpoint; its text is in [`Scan::payload`].
    Note,
    /// Bytes that are nothing, with something valid behind them.
    Bad(Spot),
    /// A segment ends, and so many bytes behind its last record are nothing: an unfinished write, or records that are
    /// `lost`, nobody knows how many. `newest` when no other segment comes. Some pages before had rotted and were made
    /// again.
    End { torn: Spot, lost: bool, newest: bool, healed: Vec<Spot> },
    /// A segment of another epoch, passed over.
    Stranger { segment: u32, epoch: u64 },
}

/// A pass through a folder. Holds two open files and the memory of one record.
#[derive(Debug)]
pub(crate) struct Scan {
    folder: Folder,
    segments: vec::IntoIter<u32>,
    epoch: Option<u64>,
    /// The segment that comes next.
    ahead: Option<Opened>,
    walk: Option<Walk>,
    /// Records from here on stand in the next segment: after a failed sync they were written again.
    until: u64,
    head: Option<Head>,
    buffer: Vec<u8>,
}

impl Scan {
    /// A pass through everything from the segment `from` on.
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: &Path, from: u32) -> Result<Self, ReadError> {
        let folder = Folder::new(disk, folder);
        let mut segments = folder.segments().map_err(ReadError::at(folder.path()))?;
        let epoch = survey::epoch_of(&folder, &segments)?;
        segments.retain(|index| *index >= from);
        let segments = segments.into_iter();
        let mut scan =
            Self { folder, segments, epoch, ahead: None, walk: None, until: 0, head: None, buffer: Vec::new() };
        scan.look_ahead()?;
        Ok(scan)
    }

    /// Epoch of the journal, if a single header can be read.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Where it reads.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Bytes of the record or the note that came last.
    pub(crate) fn payload(&self) -> &[u8] {
        self.head.as_ref().map_or(&[], |head| walk::payload(head, &self.buffer))
    }

    /// What comes next, or `None` behind the last segment.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, ReadError> {
        loop {
            let Some(walk) = &mut self.walk else { return self.enter() };
            let index = walk.segment().index();
            let path = self.folder.segment(index);
            let spot = |offset, bytes| Spot { segment: index, offset, bytes };
            match walk.step(&mut self.buffer).map_err(ReadError::at(&path))? {
                Step::Record { head, .. } if head.next_sequence() > self.until => {}
                Step::Record { head, .. } => {
                    self.head = Some(head);
                    return Ok(Some(self.event(&head)));
                }
                Step::Bad { offset, bytes } => return Ok(Some(Event::Bad(spot(offset, bytes)))),
                Step::End { offset } => {
                    let segment = walk.segment();
                    let torn = segment.written_behind(offset).map_err(ReadError::at(&path))?;
                    let lost = segment.lost_end(offset, torn).map_err(ReadError::at(&path))?;
                    let healed = segment.healed().map(|(at, page)| spot(at, page.len() as u64)).collect();
                    self.walk = None;
                    let (torn, newest) = (spot(offset, lost.unwrap_or(torn)), self.ahead.is_none());
                    return Ok(Some(Event::End { torn, lost: lost.is_some(), newest, healed }));
                }
            }
        }
    }

    fn event(&self, head: &Head) -> Event {
        let sequence = head.sequence;
        match head.mark {
            Mark::First | Mark::Further => Event::Record { sequence, kind: head.kind },
            Mark::Stubs => Event::Stubs { sequence, leaves: record::hashes(self.payload()).collect() },
            Mark::Note => Event::Note,
            Mark::Anchor => match walk::anchor(head, &self.buffer) {
                Some(tree) => Event::Anchor(tree),
                // Not reached: the length of an anchor was checked with its head.
                None => Event::Stubs { sequence, leaves: Vec::new() },
            },
        }
    }

    /// Goes on to the next segment.
    fn enter(&mut self) -> Result<Option<Event>, ReadError> {
        let (Some(epoch), Some(opened)) = (self.epoch, self.ahead.take()) else { return Ok(None) };
        self.look_ahead()?;
        let (index, front) = (opened.index, opened.front.clone());
        if let Some(header) = front.header.filter(|header| header.epoch != epoch) {
            return Ok(Some(Event::Stranger { segment: index, epoch: header.epoch }));
        }
        let behind = self.ahead.as_ref().and_then(|ahead| ahead.front.header);
        self.until = behind.filter(|header| header.epoch == epoch).map_or(u64::MAX, |header| header.first_sequence);
        let first = front.header.map(|header| header.first_sequence);
        self.walk = Some(Walk::new(opened.into_segment(epoch), first));
        Ok(Some(Event::Segment { index, front }))
    }

    fn look_ahead(&mut self) -> Result<(), ReadError> {
        // One that the writer pruned since the listing is passed over.
        while self.ahead.is_none()
            && let Some(index) = self.segments.next()
        {
            self.ahead = segment::open(&self.folder, index)?;
        }
        Ok(())
    }
}

impl Event {
    /// The leaves that this adds to the tree, with the sequence of the first.
    pub(crate) fn leaves(self, payload: &[u8]) -> Option<(u64, Vec<Hash>)> {
        match self {
            Self::Record { sequence, .. } => Some((sequence, vec![merkle::leaf(payload)])),
            Self::Stubs { sequence, leaves } => Some((sequence, leaves)),
            Self::Segment { .. }
            | Self::Anchor(_)
            | Self::Note
            | Self::Bad(_)
            | Self::End { .. }
            | Self::Stranger { .. } => None,
        }
    }
}
