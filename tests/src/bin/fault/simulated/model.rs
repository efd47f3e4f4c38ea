//! What must be in the journal, known from what it answered; and the comparison with what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use vedette_journal::{Damage, Frontier, Hash, Journal, Options, Reader, Recovery, Signed, leaf, lost_leaf};
use vedette_tests::sim_disk::SimDisk;

/// A promise that did not hold.
#[derive(Clone, Debug)]
pub(crate) enum Finding {
    /// Something acknowledged is not there.
    Lost(String),
    /// Something is there that was never written so, or that contradicts what was signed.
    Wrong(String),
    /// The journal did not open.
    Closed(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(what) | Self::Wrong(what) | Self::Closed(what) => f.write_str(what),
        }
    }
}

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) kind: u8,
    pub(crate) payload: Arc<[u8]>,
}

/// What is known of a journal from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Of the journal, once it was open.
    epoch: Option<u64>,
    /// What each acknowledged sequence is; one that was skipped, or lost before it was acknowledged, is none.
    known: Vec<Option<Draft>>,
    /// The tree over them.
    tree: Frontier,
    /// Signed checkpoints that were given out.
    pub(crate) signed: u64,
    /// Appended and not acknowledged, by sequence.
    drafts: BTreeMap<u64, Draft>,
    /// The highest next sequence that can be.
    reach: u64,
    /// The highest one that was asked to be skipped to: the segment that was begun for it may come back.
    skipped: u64,
    /// Sequences below were asked to be removed.
    pruned: u64,
    /// Sequences that were asked to be removed one by one.
    thinned: BTreeSet<u64>,
    /// An operation failed in this life of the disk, so that damage may be true.
    pub(crate) failed: bool,
}

/// A journal that was found as it has to be.
pub(crate) struct Found {
    pub(crate) journal: Journal,
    recovery: Recovery,
    records: BTreeMap<u64, Draft>,
    /// Leaves behind the acknowledged ones, as the journal's tree has them.
    leaves: Vec<Hash>,
}

impl Model {
    /// Sequences below are acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.known.len() as u64
    }

    /// A record was appended.
    pub(crate) fn appended(&mut self, sequence: u64, draft: Draft) {
        self.drafts.insert(sequence, draft);
        self.reach = self.reach.max(sequence + 1);
    }

    /// The journal says that everything below is durable.
    pub(crate) fn acknowledge(&mut self, below: u64) {
        while self.acknowledged() < below {
            let sequence = self.acknowledged();
            let draft = self.drafts.remove(&sequence);
            self.tree.push(leaf_of(sequence, draft.as_ref()));
            self.known.push(draft);
        }
        self.reach = self.reach.max(below);
    }

    /// The next sequence may be as high as this from now on.
    pub(crate) fn skip(&mut self, sequence: u64) {
        self.skipped = self.skipped.max(sequence);
    }

    /// Records below may be gone from now on.
    pub(crate) fn prune(&mut self, below: u64) {
        self.pruned = self.pruned.max(below);
    }

    /// This record may be gone from now on.
    pub(crate) fn thin(&mut self, sequence: u64) {
        self.thinned.insert(sequence);
    }

    /// The journal gave a checkpoint out: it must be of just the records that were acknowledged.
    pub(crate) fn sign(&mut self, signed: &Signed) -> Result<(), Finding> {
        let checkpoint = &signed.checkpoint;
        if (checkpoint.size, checkpoint.root) != (self.tree.size(), self.tree.root()) {
            return Err(Finding::Wrong(format!(
                "a checkpoint of size {} has another root than the log",
                checkpoint.size
            )));
        }
        self.signed += 1;
        Ok(())
    }

    /// Opens what is on the disk and compares.
    pub(crate) fn check(&self, disk: &SimDisk, folder: &Path, options: Options) -> Result<Found, Finding> {
        let shared = || Arc::new(disk.clone());
        let opened = Journal::open_on(shared(), folder, options);
        let (journal, recovery) = opened.map_err(|error| Finding::Closed(format!("it did not open: {error}")))?;
        if let Some(epoch) = self.epoch
            && (recovery.epoch != epoch || recovery.created)
        {
            return Err(Finding::Lost(format!("epoch {epoch} became {}", recovery.epoch)));
        }
        let (next, acknowledged) = (recovery.next_sequence, self.acknowledged());
        if next < acknowledged {
            return Err(Finding::Lost(format!("{acknowledged} were acknowledged and the next sequence is {next}")));
        }
        if next > self.reach.max(self.skipped) && !self.left_out(&recovery) {
            return Err(Finding::Wrong(format!("the next sequence is {next}, only {} were given", self.reach)));
        }
        let unread = |error| Finding::Closed(format!("it could not be read: {error}"));
        let mut reader = Reader::open_on(shared(), folder, 0).map_err(unread)?;
        let mut records = BTreeMap::new();
        while let Some(entry) = reader.next().map_err(unread)? {
            let draft = Draft { kind: entry.kind, payload: entry.payload.into() };
            if entry.sequence >= next {
                return Err(Finding::Wrong(format!(
                    "record {} is read, and {next} will be given again",
                    entry.sequence
                )));
            }
            if self.written(entry.sequence) != Some(&draft) {
                return Err(Finding::Wrong(format!("record {} was never written so", entry.sequence)));
            }
            if records.insert(entry.sequence, draft).is_some() {
                return Err(Finding::Wrong(format!("record {} came twice", entry.sequence)));
            }
        }
        let leaves = self.leaves(&journal, &records)?;
        let found = Found { journal, recovery, records, leaves };
        self.nothing_is_missing(&found)?;
        self.no_false_alarm(&found)?;
        Ok(found)
    }

    /// The end of a closed file whose sync failed can read as zeros. Nobody can tell it from rot that took acknowledged
    /// records, so recovery gives none of the sequences again that can have been there, and names them.
    fn left_out(&self, recovery: &Recovery) -> bool {
        self.failed
            && recovery.damage.iter().any(|damage| match damage {
                Damage::Records { from, to, .. } => *to == recovery.next_sequence && *from <= self.reach,
                _ => false,
            })
    }

    /// What a sequence was written as, if it was.
    fn written(&self, sequence: u64) -> Option<&Draft> {
        match self.known.get(usize::try_from(sequence).unwrap_or(usize::MAX)) {
            Some(known) => known.as_ref(),
            None => self.drafts.get(&sequence),
        }
    }

    fn nothing_is_missing(&self, found: &Found) -> Result<(), Finding> {
        for (sequence, known) in (0..).zip(&self.known) {
            let removed = sequence < self.pruned || self.thinned.contains(&sequence);
            if known.is_some() && !removed && !found.records.contains_key(&sequence) {
                let acknowledged = self.acknowledged();
                return Err(Finding::Lost(format!("record {sequence} of {acknowledged} acknowledged ones is gone")));
            }
        }
        Ok(())
    }

    /// The leaves behind the acknowledged ones for which the journal's tree is the tree of all; with them every checkpoint
    /// given out stays true, because their records are among the acknowledged ones. A record that was never acknowledged and
    /// is lost may count as itself, when the end of its group is there and vouches for it, or as lost.
    fn leaves(&self, journal: &Journal, records: &BTreeMap<u64, Draft>) -> Result<Vec<Hash>, Finding> {
        let (first, next) = (self.acknowledged(), journal.next_sequence());
        let lost: Vec<u64> = (first..next).filter(|sequence| !records.contains_key(sequence)).collect();
        for vouched in 0..=lost.len() {
            let known = |sequence: u64| match records.get(&sequence) {
                Some(draft) => Some(draft),
                None if lost[..vouched].contains(&sequence) => self.drafts.get(&sequence),
                None => None,
            };
            let leaves: Vec<_> = (first..next).map(|sequence| leaf_of(sequence, known(sequence))).collect();
            let mut tree = self.tree.clone();
            leaves.iter().for_each(|leaf| tree.push(*leaf));
            if tree == *journal.tree() {
                return Ok(leaves);
            }
        }
        let size = journal.tree().size();
        Err(Finding::Wrong(format!("the tree of size {size} over {next} records is not the tree of the log")))
    }

    /// A cut alone is no damage: a person would be told of rot that is none.
    fn no_false_alarm(&self, found: &Found) -> Result<(), Finding> {
        let alarm = found.recovery.damage.iter().find(|damage| match damage {
            Damage::Records { last_group, .. } => !last_group,
            _ => true,
        });
        match alarm {
            Some(damage) if !self.failed => Err(Finding::Wrong(format!("a cut was called damage: {damage:?}"))),
            Some(_) | None => Ok(()),
        }
    }

    /// A new life begins with what was found: the journal has it all, so it counts from here on.
    pub(crate) fn live_on(&mut self, found: &Found) {
        self.epoch = Some(found.recovery.epoch);
        for leaf in &found.leaves {
            self.tree.push(*leaf);
            self.known.push(found.records.get(&self.acknowledged()).cloned());
        }
        self.drafts.clear();
        self.reach = found.recovery.next_sequence;
    }
}

/// A record as a leaf, or the place of one that is not there.
fn leaf_of(sequence: u64, draft: Option<&Draft>) -> Hash {
    draft.map_or_else(|| lost_leaf(sequence), |draft| leaf(&draft.payload))
}
