//! Proofs about a journal's records, made from its folder beside a running writer.
//!
//! Nothing of the tree is kept but what the segments say: each begins with the frontier of everything before it. The
//! root over any range of a proof is therefore found from the last segment that begins inside that range (or before it)
//! and the leaves behind, so a proof reads at most a segment or two for each of its elements, and holds one record. What
//! was found is checked before it is returned: a proof that does not hold is an error and never leaves.
//!
//! Records that were pruned are in the frontier of the first segment that is left, so proofs about what is left stay
//! possible; about what was pruned they are not.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Disk};
use crate::error::ReadError;
use crate::folder::Folder;
use crate::merkle::{
    Frontier, Hash, consistency_ranges, inclusion_ranges, lost_leaf, verify_consistency, verify_inclusion,
};
use crate::scan::{Event, Scan};
use crate::segment;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The records that the proof needs were pruned.
    #[error("couldn't prove it: records below {first} were pruned, and the proof needs records {from} to {to}")]
    Pruned {
        /// First record that the proof needs.
        from: u64,
        /// Behind the last one it needs.
        to: u64,
        /// First record that is left.
        first: u64,
    },
    /// The journal has fewer records.
    #[error("couldn't prove anything about {size} records: the journal has {records}")]
    Beyond {
        /// Records that were spoken of.
        size: u64,
        /// Records that there are, as far as was read.
        records: u64,
    },
    /// Records are damaged, and nothing in the journal says what the tree over them was.
    #[error("couldn't prove it: records among {from} to {to} are damaged; `journal verify` names them")]
    Damaged {
        /// First record of the stretch.
        from: u64,
        /// Behind the last one.
        to: u64,
    },
    /// The system refused.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Proves things about the journal in a folder. Any number may do so, also while it is written; about what is not
/// committed yet nothing should be proven.
#[derive(Clone, Debug)]
pub struct Proofs {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

/// Where a segment begins, and what the tree was there.
struct Border {
    segment: u32,
    tree: Frontier,
}

impl Proofs {
    /// For the journal in `folder`.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn open(folder: &Path) -> Result<Self, ReadError> {
        Self::open_on(disk::real(), folder)
    }

    /// As [`Proofs::open`], on another disk.
    ///
    /// # Errors
    /// As [`Proofs::open`].
    pub fn open_on(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, ReadError> {
        let proofs = Self { disk, folder: folder.to_path_buf() };
        proofs.segments()?;
        Ok(proofs)
    }

    /// The frontier of the tree over the first `size` records.
    ///
    /// # Errors
    /// When there are not so many, or the ones needed are pruned or damaged.
    pub fn frontier(&self, size: u64) -> Result<Frontier, ProofError> {
        self.subtree(0..size)
    }

    /// The proof that record `index` is in the tree of `size` records, for [`verify_inclusion`].
    ///
    /// # Errors
    /// As [`Proofs::frontier`]; also when `index` is not below `size`.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, ProofError> {
        if index >= size {
            return Err(ProofError::Beyond { size: index.saturating_add(1), records: size });
        }
        let root = self.frontier(size)?.root();
        let leaf = self.root(index..index + 1)?;
        let proof = self.roots(inclusion_ranges(index, size))?;
        if verify_inclusion(&leaf, index, size, &root, &proof) {
            return Ok(proof);
        }
        Err(ProofError::Damaged { from: index, to: size })
    }

    /// The proof that the tree of `to` records begins with the tree of `from` records, for [`verify_consistency`].
    /// Empty when that needs none.
    ///
    /// # Errors
    /// As [`Proofs::frontier`]; also when `from` is above `to`.
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, ProofError> {
        if from > to {
            return Err(ProofError::Beyond { size: from, records: to });
        }
        if from == 0 || from == to {
            return Ok(Vec::new());
        }
        let (old, new) = (self.frontier(from)?.root(), self.frontier(to)?.root());
        let proof = self.roots(consistency_ranges(from, to))?;
        if verify_consistency(from, &old, to, &new, &proof) {
            return Ok(proof);
        }
        Err(ProofError::Damaged { from, to })
    }

    fn roots(&self, ranges: Vec<Range<u64>>) -> Result<Vec<Hash>, ProofError> {
        ranges.into_iter().map(|range| self.root(range)).collect()
    }

    fn root(&self, range: Range<u64>) -> Result<Hash, ProofError> {
        match self.subtree(range.clone()) {
            Ok(tree) => Ok(tree.root()),
            // A whole subtree of what was pruned may be one of the nodes that are left of it.
            Err(pruned @ ProofError::Pruned { .. }) => {
                let oldest = self.oldest()?;
                oldest.and_then(|border| border.tree.node_over(&range)).ok_or(pruned)
            }
            Err(error) => Err(error),
        }
    }

    /// The frontier of the leaves in `range` as a tree of their own.
    fn subtree(&self, range: Range<u64>) -> Result<Frontier, ProofError> {
        if range.is_empty() {
            return Ok(Frontier::default());
        }
        let segments = self.segments()?;
        let below = self.beginning_up_to(range.end, &segments)?;
        for segment in segments[..below].iter().rev() {
            let Some(border) = self.border(*segment)? else { continue };
            let begin = border.tree.size();
            if begin <= range.start {
                return self.grow(border.segment, begin, Frontier::default(), range);
            }
            if let Some(tree) = border.tree.behind(range.start) {
                return self.grow(border.segment, begin, tree, range);
            }
        }
        let (from, to) = (range.start, range.end);
        match self.oldest()? {
            Some(oldest) => Err(ProofError::Pruned { from, to, first: oldest.tree.size() }),
            None => Err(ProofError::Damaged { from, to }),
        }
    }

    /// How many of the segments begin at `sequence` or before, by halving; a damaged one counts with the one before it.
    fn beginning_up_to(&self, sequence: u64, segments: &[u32]) -> Result<usize, ReadError> {
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let mut readable = None;
            for position in (low..=middle).rev() {
                if let Some(border) = self.border(segments[position])? {
                    readable = Some((position, border));
                    break;
                }
            }
            match readable {
                Some((position, border)) if border.tree.size() > sequence => high = position,
                Some(_) | None => low = middle + 1,
            }
        }
        Ok(low)
    }

    /// Adds to `tree` the leaves up to the end of `range`, reading from `segment` on, which begins at record `begin`.
    fn grow(&self, segment: u32, begin: u64, tree: Frontier, range: Range<u64>) -> Result<Frontier, ProofError> {
        let mut growing = Growing { tree, next: begin, range, guessed: false };
        if growing.is_done() {
            return Ok(growing.tree);
        }
        let mut scan = Scan::new(Arc::clone(&self.disk), &self.folder, segment)?;
        while let Some(event) = scan.next()? {
            match event {
                Event::Anchor(noted) => growing.noted(&noted),
                Event::Segment { front, .. } => {
                    if let Some(noted) = front.tree {
                        growing.noted(&noted);
                    }
                }
                Event::Record { .. } | Event::Stubs { .. } => {
                    if let Some((sequence, leaves)) = event.leaves(scan.payload()) {
                        growing.add(sequence, leaves);
                    }
                }
                Event::Note | Event::Bad(_) | Event::End { .. } | Event::Stranger { .. } => {}
            }
            if growing.is_done() {
                return Ok(growing.tree);
            }
        }
        Err(ProofError::Beyond { size: growing.range.end, records: growing.next })
    }

    /// The first segment that says what the tree was at its beginning.
    fn oldest(&self) -> Result<Option<Border>, ProofError> {
        for segment in self.segments()? {
            if let Some(border) = self.border(segment)? {
                return Ok(Some(border));
            }
        }
        Ok(None)
    }

    /// What a segment's front says; `None` when it is damaged or gone.
    fn border(&self, segment: u32) -> Result<Option<Border>, ReadError> {
        let opened = segment::open(&Folder::new(Arc::clone(&self.disk), &self.folder), segment)?;
        Ok(opened.and_then(|opened| opened.front.base()).map(|tree| Border { segment, tree }))
    }

    fn segments(&self) -> Result<Vec<u32>, ReadError> {
        Folder::new(Arc::clone(&self.disk), &self.folder).segments().map_err(ReadError::at(&self.folder))
    }
}

/// A subtree that grows leaf by leaf.
struct Growing {
    tree: Frontier,
    /// Sequence of the next leaf; leaves before the range are passed over.
    next: u64,
    range: Range<u64>,
    /// Some leaves are lost, so the tree may be wrong until the journal says what it was.
    guessed: bool,
}

impl Growing {
    fn is_done(&self) -> bool {
        self.next >= self.range.end
    }

    fn add(&mut self, sequence: u64, leaves: Vec<Hash>) {
        for (sequence, leaf) in (sequence..).zip(leaves) {
            if sequence < self.next {
                continue;
            }
            self.lose_below(sequence);
            if self.next == sequence && !self.is_done() {
                self.push(leaf);
            }
        }
    }

    fn lose_below(&mut self, sequence: u64) {
        // Before the range nothing is counted, however far the sequence jumps.
        self.next = self.next.max(sequence.min(self.range.start));
        while self.next < sequence.min(self.range.end) {
            self.guessed = true;
            self.push(lost_leaf(self.next));
        }
    }

    fn push(&mut self, leaf: Hash) {
        if self.next >= self.range.start {
            self.tree.push(leaf);
        }
        self.next += 1;
    }

    /// What the journal says of the tree here; it fills holes before it.
    fn noted(&mut self, noted: &Frontier) {
        let size = noted.size();
        let news = size > self.next || size == self.next && self.guessed;
        if news && size <= self.range.end {
            if let Some(tree) = noted.behind(self.range.start) {
                (self.tree, self.next, self.guessed) = (tree, size, false);
            }
        } else if news {
            self.lose_below(size);
        }
    }
}
