//! Checking a log as it is read, in one pass and constant memory: each record adds its leaf, and whatever the log says
//! about itself (anchors, headers, signed checkpoints) or somebody else said of it must agree with the tree that grows.
//!
//! A hole makes the tree a guess (the lost leaves), until an anchor or a header behind it says what the tree was. What
//! the log says *after* it is held against the guess only if it agrees; what a signed checkpoint says always counts.

use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::merkle::{self, Frontier, Hash};
use crate::note::{NoteError, PublicKey};
use crate::past::Past;

/// Holes named one by one in a report; beyond that they are counted.
pub(crate) const GAPS_NAMED_MAX: usize = 64;

/// Lost leaves that a guess is made of: more than a segment of usual size can have held. A larger hole leaves the tree
/// unknown until the log says it.
const LOST_GUESSED_MAX: u64 = 1 << 20;

/// What a log's own hashes say about records, and what the records say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// One record is not what its hash says.
    #[error("record {sequence} was altered: its hash is another")]
    Record {
        /// Which one.
        sequence: u64,
    },
    /// The tree over the records is not what the log noted of it.
    #[error("records {from} to {to} were altered: the tree over the first {to} records is not the one the log noted")]
    Tree {
        /// Up to this record everything agreed.
        from: u64,
        /// Records in the tree that differs.
        to: u64,
    },
    /// A record stands where another one belongs.
    #[error("record {found} is out of order: it stands where record {expected} belongs")]
    Order {
        /// Sequence that comes next.
        expected: u64,
        /// Sequence of the record there.
        found: u64,
    },
    /// The bytes as a whole are not what was exported.
    #[error("the bundle was altered behind record {behind}: its checksum is another")]
    Checksum {
        /// Last record that was read.
        behind: u64,
    },
    /// A checkpoint in the log can't be read, though nothing damaged it.
    #[error("the checkpoint behind record {behind} is none: {error}")]
    Note {
        /// Where it stands.
        behind: u64,
        /// Why.
        error: NoteError,
    },
}

/// A checkpoint whose signature is not that of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint behind record {behind}: {error}")]
pub struct BadSignature {
    /// Where it stands.
    pub behind: u64,
    /// Why it is not believed.
    pub error: NoteError,
}

/// Two histories under one name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fork {
    /// Another root was signed for as many records.
    #[error(
        "{origin}: a signed checkpoint says that the first {size} records have the root {signed}, the log has {found}"
    )]
    Root {
        /// Who signed.
        origin: String,
        /// Records concerned.
        size: u64,
        /// The root that was signed.
        signed: Hash,
        /// The root of the log.
        found: Hash,
    },
    /// More records were signed than there are.
    #[error("{origin}: a signed checkpoint says that there were {size} records, the log ends before record {found}")]
    Shorter {
        /// Who signed.
        origin: String,
        /// Records that were signed.
        size: u64,
        /// Sequence at which the log ends.
        found: u64,
    },
}

/// What became of the checkpoint that the caller had from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Earlier {
    /// The log begins with what it says.
    Extended,
    /// It does not; [`Report::fork`](crate::Report::fork) says how.
    Forked,
    /// The log no longer has the records that it could be compared by: they were pruned or lost.
    Unknown {
        /// Records that the checkpoint is about.
        size: u64,
    },
    /// It is of another log.
    Stranger {
        /// Which one.
        origin: String,
    },
}

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub(crate) gaps: Vec<Range<u64>>,
    /// Records in all gaps.
    pub(crate) lost: u64,
    /// Gaps beyond the named ones.
    pub(crate) gaps_unnamed: u64,
    pub(crate) origin: Option<String>,
    pub(crate) checkpoints_checked: u64,
    pub(crate) checkpoints_unchecked: u64,
    /// Size of the largest checkpoint that agreed.
    pub(crate) covered: u64,
    pub(crate) mismatch: Option<Mismatch>,
    pub(crate) bad_signature: Option<BadSignature>,
    pub(crate) fork: Option<Fork>,
    pub(crate) earlier: Option<Earlier>,
}

/// What a log is held against.
#[derive(Clone, Debug, Default)]
pub struct Against<'a> {
    /// The key that signs the log's checkpoints; without one their signatures are not checked, only their roots.
    pub key: Option<&'a PublicKey>,
    /// A checkpoint from elsewhere that the log must begin with.
    pub earlier: Option<&'a Checkpoint>,
}

/// The check of one log.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    against: Against<'a>,
    /// The tree so far; `None` while it is unknown.
    tree: Option<Frontier>,
    /// Sequence of the next record.
    next: u64,
    /// Leaves from here on are guesses, so a larger tree may be wrong; the highest number when none is.
    guessed_from: u64,
    /// Up to here the log has confirmed the tree.
    confirmed: u64,
    past: Past,
    /// The checkpoint in the log that spoke of the most records behind it.
    ahead: Option<Checkpoint>,
    /// How the log contradicts the checkpoint from elsewhere, if that one is of this log at all.
    earlier_fork: Option<Fork>,
    pub(crate) findings: Findings,
}

impl<'a> Check<'a> {
    /// Begins at record `first` with the tree over everything before it, if that is known.
    pub(crate) fn new(against: Against<'a>, first: u64, tree: Option<Frontier>) -> Self {
        let tree = tree.filter(|tree| tree.size() == first);
        let mut check = Self {
            against,
            past: Past::default(),
            next: first,
            guessed_from: u64::MAX,
            confirmed: first,
            ahead: None,
            earlier_fork: None,
            tree: None,
            findings: Findings::default(),
        };
        check.become_tree(tree);
        check.compare_earlier();
        check
    }

    /// Sequence of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The tree so far, as far as it is known.
    pub(crate) fn tree(&self) -> Option<&Frontier> {
        self.tree.as_ref()
    }

    /// Takes the leaf of record `sequence`. `false` when that one was there before, and nothing was added.
    pub(crate) fn leaf(&mut self, sequence: u64, leaf: Hash) -> bool {
        if sequence < self.next {
            if self.past.leaf(sequence).is_some_and(|before| before != leaf) {
                self.mismatch(Mismatch::Record { sequence });
            }
            return false;
        }
        self.lose_below(sequence);
        self.push(leaf);
        true
    }

    /// Takes what the log says about itself: the tree over the first records. It closes a hole.
    pub(crate) fn noted(&mut self, noted: Frontier) {
        let size = noted.size();
        if size < self.next {
            if self.is_sure(size) && self.past.root(size).is_some_and(|root| root != noted.root()) {
                self.mismatch(Mismatch::Tree { from: self.confirmed.min(size), to: size });
            }
            return;
        }
        if size > self.next {
            self.name_gap(self.next..size);
        }
        if self.tree.as_ref() == Some(&noted) {
            return self.confirm(size);
        }
        if self.tree.as_ref().is_some_and(|tree| tree.size() == size) && self.is_sure(size) {
            self.mismatch(Mismatch::Tree { from: self.confirmed, to: size });
        }
        self.next = size;
        self.confirm(size);
        self.become_tree(Some(noted));
        self.compare_earlier();
    }

    /// A hole up to `sequence`, of which nothing says what the tree was.
    pub(crate) fn lose_below(&mut self, sequence: u64) {
        if sequence <= self.next {
            return;
        }
        let gap = self.next..sequence;
        self.name_gap(gap.clone());
        self.guessed_from = self.guessed_from.min(gap.start);
        if gap.end - gap.start > LOST_GUESSED_MAX {
            self.become_tree(None);
            self.next = gap.end;
            return;
        }
        gap.for_each(|sequence| self.push(merkle::lost_leaf(sequence)));
    }

    /// Takes a signed checkpoint that stands in the log.
    pub(crate) fn note(&mut self, note: &[u8]) {
        let behind = self.next;
        // What is no text has no signature either.
        let text = str::from_utf8(note).unwrap_or_default();
        let checkpoint = match Checkpoint::read_unverified(text) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return self.mismatch(Mismatch::Note { behind, error }),
        };
        if let Some(Err(error)) = self.against.key.map(|key| Checkpoint::open(text, key)) {
            self.findings.bad_signature.get_or_insert(BadSignature { behind, error });
            return;
        }
        self.findings.origin.get_or_insert_with(|| checkpoint.origin.clone());
        if checkpoint.size > self.next {
            if self.ahead.as_ref().is_none_or(|ahead| ahead.size < checkpoint.size) {
                self.ahead = Some(checkpoint);
            }
            return;
        }
        match self.root(checkpoint.size) {
            Some(root) => self.compare(&checkpoint, root),
            None => self.findings.checkpoints_unchecked += 1,
        }
    }

    /// The log ends here.
    pub(crate) fn end(&mut self) {
        if let Some(Checkpoint { origin, size, .. }) = self.ahead.take().filter(|ahead| ahead.size > self.next) {
            let found = self.next;
            self.findings.fork.get_or_insert(Fork::Shorter { origin, size, found });
        }
        let Some(earlier) = self.against.earlier else { return };
        let (origin, size) = (earlier.origin.clone(), earlier.size);
        if self.findings.origin.as_ref().is_some_and(|own| *own != origin) {
            self.findings.earlier = Some(Earlier::Stranger { origin });
            return;
        }
        if self.findings.earlier.is_none() && size > self.next {
            self.findings.earlier = Some(Earlier::Forked);
            self.earlier_fork = Some(Fork::Shorter { origin, size, found: self.next });
        }
        self.findings.earlier.get_or_insert(Earlier::Unknown { size });
        self.findings.fork = self.findings.fork.take().or_else(|| self.earlier_fork.take());
    }

    /// Goes on at record `sequence`, without a word about those before it.
    pub(crate) fn leap(&mut self, sequence: u64) {
        self.become_tree(None);
        self.next = sequence;
    }

    pub(crate) fn mismatch(&mut self, mismatch: Mismatch) {
        self.findings.mismatch.get_or_insert(mismatch);
    }

    fn push(&mut self, leaf: Hash) {
        self.next += 1;
        if let Some(tree) = &mut self.tree {
            self.past.push(leaf, tree);
            tree.push(leaf);
        }
        self.compare_earlier();
    }

    fn become_tree(&mut self, tree: Option<Frontier>) {
        self.past = Past::default();
        self.tree = tree;
    }

    fn name_gap(&mut self, gap: Range<u64>) {
        self.findings.lost = self.findings.lost.saturating_add(gap.end - gap.start);
        if let Some(last) = self.findings.gaps.last_mut().filter(|last| last.end == gap.start) {
            last.end = gap.end;
        } else if self.findings.gaps.len() < GAPS_NAMED_MAX {
            self.findings.gaps.push(gap);
        } else {
            self.findings.gaps_unnamed += 1;
        }
    }

    fn root(&self, size: u64) -> Option<Hash> {
        match &self.tree {
            Some(tree) if tree.size() == size => Some(tree.root()),
            Some(_) | None => self.past.root(size),
        }
    }

    /// Holds a believed checkpoint against the log's root for its size.
    fn compare(&mut self, checkpoint: &Checkpoint, found: Hash) {
        let Checkpoint { origin, size, root: signed } = checkpoint.clone();
        if signed == found {
            self.findings.checkpoints_checked += 1;
            self.findings.covered = self.findings.covered.max(size);
            if size == self.next {
                self.confirm(size);
            }
        } else if !self.is_sure(size) {
            self.findings.checkpoints_unchecked += 1;
        } else if self.against.key.is_some() {
            self.findings.fork.get_or_insert(Fork::Root { origin, size, signed, found });
        } else {
            self.mismatch(Mismatch::Tree { from: self.confirmed.min(size), to: size });
        }
    }

    /// Holds the checkpoint from elsewhere against the tree when that has just its size.
    fn compare_earlier(&mut self) {
        let Some(earlier) = self.against.earlier.filter(|earlier| earlier.size == self.next) else { return };
        let Some(found) = self.tree.as_ref().map(Frontier::root) else { return };
        let Checkpoint { origin, size, root: signed } = earlier.clone();
        if found == signed {
            self.findings.earlier = Some(Earlier::Extended);
            self.confirm(size);
        } else if self.is_sure(size) {
            self.findings.earlier = Some(Earlier::Forked);
            self.earlier_fork = Some(Fork::Root { origin, size, signed, found });
        }
    }

    /// The tree of the first `size` records, which is the whole one, is right.
    fn confirm(&mut self, size: u64) {
        (self.confirmed, self.guessed_from) = (size, u64::MAX);
    }

    fn is_sure(&self, size: u64) -> bool {
        size <= self.guessed_from
    }
}
