//! Journals to prove things about.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vedette_journal::{Frontier, Hash, Journal, Options, SEGMENT_BYTES_MIN, SigningKey, leaf};

pub(crate) const EPOCH: u64 = 77;
pub(crate) const ORIGIN: &str = "vedette/pump-7/77";

pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

/// A journal in small segments.
pub(crate) struct Sample {
    pub(crate) folder: TempDir,
    pub(crate) journal: Journal,
    pub(crate) notes: Vec<String>,
}

pub(crate) fn record(sequence: u64) -> Vec<u8> {
    format!("record {sequence} ").repeat(1 + sequence as usize % 9).into_bytes()
}

fn open(folder: &Path) -> Journal {
    Journal::open(folder, Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(EPOCH) }).unwrap().0
}

impl Sample {
    /// A journal of so many records, committed by tens.
    pub(crate) fn new(records: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path());
        let mut sample = Self { folder, journal, notes: Vec::new() };
        sample.grow(records);
        sample
    }

    /// The same, with a signed checkpoint every hundred records and at the end, closed.
    pub(crate) fn signed(records: u64) -> (TempDir, Vec<String>) {
        let mut sample = Self::new(0);
        for _ in 0..records / 100 {
            sample.grow(100);
            sample.sign();
        }
        sample.grow(records % 100);
        sample.sign();
        let Self { folder, journal, notes } = sample;
        journal.close().unwrap();
        (folder, notes)
    }

    pub(crate) fn grow(&mut self, records: u64) {
        for _ in 0..records {
            let sequence = self.journal.next_sequence();
            self.journal.append((sequence % 7) as u8, &record(sequence)).unwrap();
            if sequence % 10 == 9 {
                self.journal.commit().unwrap();
            }
        }
        self.journal.commit().unwrap();
    }

    pub(crate) fn sign(&mut self) {
        self.notes.push(self.journal.checkpoint(ORIGIN, &key()).unwrap().note);
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The root over a range of sample records.
pub(crate) fn root(range: Range<u64>) -> Hash {
    let mut frontier = Frontier::default();
    range.for_each(|sequence| frontier.push(leaf(&record(sequence))));
    frontier.root()
}

pub(crate) fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    segments
}

/// The segment and the offset at which the payload of a record stands.
pub(crate) fn find(folder: &Path, sequence: u64) -> (PathBuf, usize) {
    let payload = record(sequence);
    for path in segments(folder) {
        let bytes = fs::read(&path).unwrap();
        let whole = |at: &usize| {
            let head = &bytes[at - 20..*at];
            head[..4] == (payload.len() as u32).to_le_bytes() && head[8..16] == sequence.to_le_bytes()
        };
        let found = bytes.windows(payload.len()).enumerate().filter(|(_, window)| *window == payload);
        if let Some(at) = found.map(|(at, _)| at).find(|at| *at >= 20 && whole(at)) {
            return (path, at);
        }
    }
    panic!("record {sequence} is nowhere");
}

/// Flips a bit of the record's payload on the disk, where its segment has no parity (any more) to make it again from.
pub(crate) fn rot(folder: &Path, sequence: u64) {
    let (path, at) = find(folder, sequence);
    forget_parity(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 4;
    fs::write(&path, bytes).unwrap();
}

/// Removes the parity of a segment, if it has one.
pub(crate) fn forget_parity(segment: &Path) {
    let parity = segment.with_extension("par");
    if parity.exists() {
        fs::remove_file(parity).unwrap();
    }
}

pub(crate) fn reopen(folder: &Path) -> Journal {
    open(folder)
}
