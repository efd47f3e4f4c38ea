//! What a device's signed checkpoint is worth: the rules, pure.
//!
//! A device's log commits itself to what it holds by a signed checkpoint (size and Merkle root, RFC 6962). Two histories
//! under one name show in one of five ways: another key, a signature that is not the key's, one size with two roots, a
//! tree that does not continue the one before, or records here that do not make the root. Each is a [`Fork`] and puts the
//! device into quarantine. What merely cannot be used (unreadable, of another log) is [`Unsound`]: the checkpoint is
//! left aside and the records are taken.

use serde::{Deserialize, Serialize};
use vedette_journal::{Checkpoint, Frontier, Hash, NoteError, PublicKey, empty_root, lost_leaf, verify_consistency};
use vedette_protocol::id::{DeviceId, RecordId};
use vedette_protocol::message::Claim;

/// Leaves computed from our own copies in one step. At some 4 µs each (a look into the store and a hash) 200 ms; what is
/// left follows with the next batch.
const LEAVES_MAX: u64 = 50_000;

/// Two histories under one name, and how it shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum Fork {
    /// Another key signs than the one that was pinned.
    #[error("its log is signed by another key than the one pinned at its first checkpoint")]
    OtherKey,
    /// The pinned key did not sign this.
    #[error("its checkpoint names the pinned key, and the signature is not by it")]
    BadSignature,
    /// One size, two roots.
    #[error("its log has signed two different roots for its first {size} records")]
    OtherRoot {
        /// Records in the tree.
        size: u64,
    },
    /// The tree does not continue the accepted one.
    #[error("its log of {to} records does not continue the {from} that it had signed before")]
    NoContinuation {
        /// Records in the accepted tree.
        from: u64,
        /// Records in the offered tree.
        to: u64,
    },
    /// Our copies make another root than the signed one.
    #[error("records below {size} that it sent in are not those that its signed log holds")]
    CopiesDiffer {
        /// Records in the signed tree.
        size: u64,
    },
    /// One id, two records.
    #[error("it sent two different records as {record}")]
    Conflict {
        /// `device/epoch/sequence`.
        record: String,
    },
}

/// A checkpoint that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsound {
    #[error("its checkpoint cannot be read: {0}")]
    Unreadable(String),
    #[error("its checkpoint is of the log `{said}`, not of `{own}`")]
    OtherLog { said: String, own: String },
    #[error("its checkpoint is not signed by the key that came with it: {0}")]
    Unsigned(String),
    #[error("its checkpoint of {size} records came with a frontier that does not make its root")]
    Frontier { size: u64 },
}

/// What becomes of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It continues what is known: the tree is the new one. With `pins` its key is the first.
    Accepted { signed: Frontier, pins: bool },
    /// Nothing new, or for another base than the one here: the acknowledgement says which that is.
    Left,
    /// It cannot be used.
    Unsound(Unsound),
    /// It contradicts what is known.
    Fork(Fork),
}

/// Ranges of lost records that are tried as an explanation. Each costs one more computation of the tree.
const LOST_TRIED_MAX: usize = 16;

/// The name that a device's log signs under.
pub(crate) fn origin(device: &DeviceId, epoch: u64) -> String {
    format!("vedette/{device}/{epoch}")
}

/// The key of a claim; `None` when it has another length.
pub(crate) fn key_of(claim: &Claim) -> Option<PublicKey> {
    claim.key.0.as_slice().try_into().ok().map(PublicKey)
}

/// Judges a claim about the log named `own`, after what is pinned and accepted.
pub(crate) fn judge(claim: &Claim, own: &str, pinned: Option<&PublicKey>, tree: &Tree) -> Judged {
    match try_judge(claim, own, pinned, tree) {
        Ok(judged) | Err(judged) => judged,
    }
}

/// The same; an early end is an `Err`.
fn try_judge(claim: &Claim, own: &str, pinned: Option<&PublicKey>, tree: &Tree) -> Result<Judged, Judged> {
    let unsound = |why| Judged::Unsound(why);
    let unreadable = |why: String| unsound(Unsound::Unreadable(why));
    let said = Checkpoint::read_unverified(&claim.note).map_err(|error| unreadable(error.to_string()))?;
    if said.origin != own {
        return Err(unsound(Unsound::OtherLog { said: said.origin, own: own.to_owned() }));
    }
    let key = key_of(claim).ok_or_else(|| unreadable("its key is not 32 bytes".to_owned()))?;
    if pinned.is_some_and(|pinned| *pinned != key) {
        return Err(Judged::Fork(Fork::OtherKey));
    }
    let checkpoint = Checkpoint::open(&claim.note, &key).map_err(|error| unsigned(&error, pinned.is_some()))?;
    let (from, to) = (tree.size(), checkpoint.size);
    if to == from && to > 0 && checkpoint.root != tree.signed.root() {
        return Err(Judged::Fork(Fork::OtherRoot { size: to }));
    }
    // Smaller: an old message that comes again. Another base: the device has not heard how far we are.
    if to <= from || claim.from != from {
        return Ok(Judged::Left);
    }
    let from_root = if from == 0 { empty_root() } else { tree.signed.root() };
    let proof: Vec<Hash> = claim.proof.iter().map(|digest| Hash(*digest.as_bytes())).collect();
    if from > 0 && !verify_consistency(from, &from_root, to, &checkpoint.root, &proof) {
        return Err(Judged::Fork(Fork::NoContinuation { from, to }));
    }
    let nodes = claim.frontier.iter().map(|digest| Hash(*digest.as_bytes())).collect();
    let signed = Frontier::from_parts(to, nodes).filter(|frontier| frontier.root() == checkpoint.root);
    let signed = signed.ok_or_else(|| unsound(Unsound::Frontier { size: to }))?;
    Ok(Judged::Accepted { signed, pins: pinned.is_none() })
}

/// Before a key is pinned, a bad signature proves nothing about anybody.
fn unsigned(error: &NoteError, pinned: bool) -> Judged {
    if pinned { Judged::Fork(Fork::BadSignature) } else { Judged::Unsound(Unsound::Unsigned(error.to_string())) }
}

/// The tree of one journal of a device, as far as it has signed it and as far as our own copies make it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// The last accepted checkpoint; empty before the first.
    pub(crate) note: String,
    /// Its tree.
    #[serde(with = "frontier_text")]
    pub(crate) signed: Frontier,
    /// Where our own computation begins: a signed tree that was taken over, because records below it are absent here.
    #[serde(with = "frontier_text")]
    pub(crate) adopted: Frontier,
    /// The last tree in which both agreed, or the one that was taken over.
    #[serde(with = "frontier_text")]
    base: Frontier,
    /// How far our own copies have been added to that; at most as large as `signed`.
    #[serde(with = "frontier_text")]
    own: Frontier,
    /// The largest signed tree that our own copies made.
    pub(crate) matched: u64,
}

/// What an own copy's leaf is.
pub(crate) enum Copy {
    Leaf(Hash),
    Absent,
}

impl Tree {
    /// Records in the last accepted tree.
    pub(crate) fn size(&self) -> u64 {
        self.signed.size()
    }

    /// The tree that our own copies make so far.
    pub(crate) fn own(&self) -> &Frontier {
        &self.own
    }

    /// Takes over an accepted checkpoint.
    pub(crate) fn accept(&mut self, note: &str, signed: Frontier) {
        note.clone_into(&mut self.note);
        self.signed = signed;
    }

    /// Whether our copy of the record is proven to be what the device's signed log holds.
    pub(crate) fn covers(&self, sequence: u64) -> bool {
        (self.adopted.size()..self.matched).contains(&sequence)
    }

    /// Adds our own copies to the tree, up to the signed size or `upto`, and holds the roots against each other. Below
    /// `floor` our copies are known to be of two histories and are not asked; where one is absent the signed tree is
    /// taken over as it is.
    pub(crate) fn follow<E>(
        &mut self,
        upto: u64,
        floor: u64,
        mut copy: impl FnMut(u64) -> Result<Copy, E>,
    ) -> Result<Option<Fork>, E> {
        let size = self.size();
        if self.own.size() >= size {
            return Ok(None);
        }
        if self.own.size() < floor {
            self.adopt();
            return Ok(None);
        }
        let end = upto.min(size).min(self.own.size().saturating_add(LEAVES_MAX));
        while self.own.size() < end {
            match copy(self.own.size())? {
                Copy::Leaf(leaf) => self.own.push(leaf),
                Copy::Absent => {
                    self.adopt();
                    return Ok(None);
                }
            }
        }
        if self.own.size() < size {
            return Ok(None);
        }
        if self.own != self.signed {
            return Ok(Some(Fork::CopiesDiffer { size }));
        }
        self.matched = size;
        self.base.clone_from(&self.signed);
        Ok(None)
    }

    /// Whether the signed tree is the one of a log that lost records that are here: in its place, such a record counts as
    /// a lost one (unless something behind it had noted the tree already, so only the last ranges do). The signed tree is
    /// taken over then, because our copies cannot make it.
    pub(crate) fn agrees_without<E>(
        &mut self,
        lost: &[(u64, u64)],
        mut copy: impl FnMut(u64) -> Result<Copy, E>,
    ) -> Result<bool, E> {
        let touches = |range: &&(u64, u64)| range.0 < self.size() && range.1 > self.base.size();
        let lost: Vec<(u64, u64)> = lost.iter().filter(touches).copied().collect();
        for first in (0..lost.len()).rev().take(LOST_TRIED_MAX) {
            let mut tree = self.base.clone();
            while tree.size() < self.size() {
                let sequence = tree.size();
                let is_lost = lost[first..].iter().any(|(from, to)| (*from..*to).contains(&sequence));
                match copy(sequence)? {
                    Copy::Leaf(leaf) if !is_lost => tree.push(leaf),
                    Copy::Leaf(_) | Copy::Absent => tree.push(lost_leaf(sequence)),
                }
            }
            if tree == self.signed {
                self.adopt();
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn adopt(&mut self) {
        self.adopted.clone_from(&self.signed);
        self.base.clone_from(&self.signed);
        self.own.clone_from(&self.signed);
    }
}

/// A frontier in JSON: its size and its hashes in hexadecimal.
mod frontier_text {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use vedette_journal::{Frontier, Hash};

    pub(super) fn serialize<S: Serializer>(frontier: &Frontier, serializer: S) -> Result<S::Ok, S::Error> {
        let nodes: Vec<String> = frontier.nodes().iter().map(Hash::to_string).collect();
        (frontier.size(), nodes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Frontier, D::Error> {
        let (size, nodes) = <(u64, Vec<String>)>::deserialize(deserializer)?;
        let nodes = nodes.iter().map(|node| node.parse()).collect::<Result<_, _>>().map_err(D::Error::custom)?;
        Frontier::from_parts(size, nodes).ok_or_else(|| D::Error::custom("a frontier with the wrong number of hashes"))
    }
}

/// The fork that two records under one id are.
pub(crate) fn conflict(id: &RecordId) -> Fork {
    Fork::Conflict { record: id.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::convert::Infallible;

    use vedette_journal::{SigningKey, consistency_ranges, leaf};
    use vedette_protocol::cbor::Bytes;
    use vedette_protocol::id::Digest;

    use super::*;

    const OWN: &str = "vedette/box-1/7";

    /// A log of records that say their number, and `other` instead from `split` on.
    struct Log {
        leaves: Vec<Hash>,
        key: SigningKey,
    }

    impl Log {
        fn new(count: u64, split: u64) -> Log {
            let record = |n: u64| if n < split { format!("record {n}") } else { format!("other {n}") };
            let leaves = (0..count).map(|n| leaf(record(n).as_bytes())).collect();
            Log { leaves, key: SigningKey::from_seed(&[7; 32]) }
        }

        fn frontier(&self, from: u64, size: u64) -> Frontier {
            let mut frontier = Frontier::default();
            self.leaves[from as usize..size as usize].iter().for_each(|leaf| frontier.push(*leaf));
            frontier
        }

        fn claim(&self, origin: &str, from: u64, size: u64) -> Claim {
            let frontier = self.frontier(0, size);
            let checkpoint = Checkpoint { origin: origin.to_owned(), size, root: frontier.root() };
            let digest = |hash: &Hash| Digest::from_bytes(hash.0);
            let proof = consistency_ranges(from, size).into_iter();
            Claim {
                note: checkpoint.sign(&self.key),
                key: Bytes(self.key.public().0.to_vec()),
                from,
                proof: proof.map(|range| digest(&self.frontier(range.start, range.end).root())).collect(),
                frontier: frontier.nodes().iter().map(digest).collect(),
            }
        }

        fn tree(&self, size: u64) -> Tree {
            let mut tree = Tree::default();
            tree.accept("note", self.frontier(0, size));
            tree
        }

        fn copies(&self, tree: &mut Tree, upto: u64, floor: u64, absent: &[u64]) -> Option<Fork> {
            let copy = |n: u64| {
                let leaf = self.leaves[n as usize];
                Ok::<_, Infallible>(if absent.contains(&n) { Copy::Absent } else { Copy::Leaf(leaf) })
            };
            tree.follow(upto, floor, copy).unwrap()
        }
    }

    fn accepted(judged: &Judged) -> bool {
        matches!(judged, Judged::Accepted { .. })
    }

    #[test]
    fn the_first_checkpoint_pins_its_key_and_the_next_ones_continue_it() {
        let log = Log::new(100, 100);
        let key = log.key.public();
        let first = judge(&log.claim(OWN, 0, 10), OWN, None, &Tree::default());
        assert_eq!(first, Judged::Accepted { signed: log.frontier(0, 10), pins: true });
        for size in 11..=100 {
            let next = judge(&log.claim(OWN, 10, size), OWN, Some(&key), &log.tree(10));
            assert_eq!(next, Judged::Accepted { signed: log.frontier(0, size), pins: false });
        }
    }

    #[test]
    fn an_older_one_one_for_another_base_and_the_same_again_change_nothing() {
        let log = Log::new(100, 100);
        let key = log.key.public();
        for (from, size) in [(0, 10), (10, 20), (20, 20), (0, 30), (15, 30), (25, 30)] {
            assert_eq!(
                judge(&log.claim(OWN, from, size), OWN, Some(&key), &log.tree(20)),
                Judged::Left,
                "{from} {size}"
            );
        }
        assert_eq!(judge(&log.claim(OWN, 5, 10), OWN, None, &Tree::default()), Judged::Left);
        assert_eq!(judge(&log.claim(OWN, 0, 0), OWN, None, &Tree::default()), Judged::Left);
    }

    #[test]
    fn another_key_is_a_fork() {
        let log = Log::new(30, 30);
        let other = SigningKey::from_seed(&[8; 32]).public();
        let judged = judge(&log.claim(OWN, 10, 20), OWN, Some(&other), &log.tree(10));
        assert_eq!(judged, Judged::Fork(Fork::OtherKey));
    }

    #[test]
    fn a_signature_that_is_not_the_pinned_keys_is_a_fork_and_before_a_key_is_pinned_it_is_nothing() {
        let log = Log::new(30, 30);
        let key = log.key.public();
        let mut claim = log.claim(OWN, 10, 20);
        claim.note = claim.note.replace("\n20\n", "\n21\n");
        assert_eq!(judge(&claim, OWN, Some(&key), &log.tree(10)), Judged::Fork(Fork::BadSignature));
        claim.from = 0;
        assert!(matches!(judge(&claim, OWN, None, &Tree::default()), Judged::Unsound(Unsound::Unsigned(_))));
    }

    #[test]
    fn two_roots_for_one_size_are_a_fork() {
        let (log, clone) = (Log::new(30, 30), Log::new(30, 15));
        let judged = judge(&clone.claim(OWN, 10, 20), OWN, Some(&log.key.public()), &log.tree(20));
        assert_eq!(judged, Judged::Fork(Fork::OtherRoot { size: 20 }));
    }

    #[test]
    fn a_log_that_does_not_continue_the_accepted_one_is_a_fork() {
        let (log, clone) = (Log::new(30, 30), Log::new(30, 15));
        let key = log.key.public();
        let judged = judge(&clone.claim(OWN, 20, 25), OWN, Some(&key), &log.tree(20));
        assert_eq!(judged, Judged::Fork(Fork::NoContinuation { from: 20, to: 25 }));
        let continues = judge(&clone.claim(OWN, 15, 25), OWN, Some(&key), &log.tree(15));
        assert!(accepted(&continues), "they parted behind 15: {continues:?}");
        let mut unproven = log.claim(OWN, 20, 25);
        unproven.proof.pop();
        assert_eq!(
            judge(&unproven, OWN, Some(&key), &log.tree(20)),
            Judged::Fork(Fork::NoContinuation { from: 20, to: 25 })
        );
    }

    #[test]
    fn a_checkpoint_of_another_log_is_left_aside_by_name() {
        let log = Log::new(30, 30);
        for other in ["vedette/box-2/7", "vedette/box-1/8", "vedette/box-1"] {
            let judged = judge(&log.claim(other, 0, 20), OWN, None, &Tree::default());
            let Judged::Unsound(why @ Unsound::OtherLog { .. }) = judged else { panic!("{judged:?}") };
            assert!(why.to_string().contains(other) && why.to_string().contains(OWN), "{why}");
        }
    }

    #[test]
    fn a_note_that_is_none_and_a_frontier_that_does_not_make_the_root_are_left_aside() {
        let log = Log::new(30, 30);
        let claim = log.claim(OWN, 0, 20);
        for note in [String::new(), "garbage".to_owned(), "é".repeat(300), claim.note.replace('\n', "")] {
            let judged = judge(&Claim { note, ..claim.clone() }, OWN, None, &Tree::default());
            assert!(matches!(judged, Judged::Unsound(Unsound::Unreadable(_))), "{judged:?}");
        }
        let short = Claim { key: Bytes(vec![1; 31]), ..claim.clone() };
        assert!(matches!(judge(&short, OWN, None, &Tree::default()), Judged::Unsound(Unsound::Unreadable(_))));
        let unfit = |change: &dyn Fn(&mut Vec<Digest>)| {
            let mut claim = claim.clone();
            change(&mut claim.frontier);
            judge(&claim, OWN, None, &Tree::default())
        };
        let why = Judged::Unsound(Unsound::Frontier { size: 20 });
        assert_eq!(unfit(&|frontier| frontier.truncate(1)), why);
        assert_eq!(unfit(&|frontier| frontier.push(Digest::of(b"x"))), why);
        assert_eq!(unfit(&|frontier| frontier.reverse()), why);
    }

    #[test]
    fn our_own_copies_must_make_the_signed_root() {
        let (log, clone) = (Log::new(300, 300), Log::new(300, 150));
        let mut tree = log.tree(200);
        assert_eq!(log.copies(&mut tree, 120, 0, &[]), None, "not all are here yet");
        assert!(!tree.covers(100));
        assert_eq!(log.copies(&mut tree, 200, 0, &[]), None);
        assert!(tree.covers(0) && tree.covers(199) && !tree.covers(200));
        let mut tree = log.tree(200);
        assert_eq!(clone.copies(&mut tree, 250, 0, &[]), Some(Fork::CopiesDiffer { size: 200 }));
        let mut tree = log.tree(150);
        assert_eq!(clone.copies(&mut tree, 250, 0, &[]), None, "they parted behind it");
    }

    #[test]
    fn behind_an_absent_record_the_comparison_begins_again() {
        let log = Log::new(300, 300);
        let mut tree = log.tree(100);
        assert_eq!(log.copies(&mut tree, 300, 0, &[50]), None);
        assert!(!tree.covers(10) && !tree.covers(60));
        tree.accept("next", log.frontier(0, 200));
        assert_eq!(log.copies(&mut tree, 300, 0, &[50]), None);
        assert!(tree.covers(100) && tree.covers(199) && !tree.covers(99));
        let clone = Log::new(300, 250);
        tree.accept("third", log.frontier(0, 300));
        assert_eq!(clone.copies(&mut tree, 300, 0, &[50]), Some(Fork::CopiesDiffer { size: 300 }));
    }

    #[test]
    fn below_the_floor_of_a_release_no_copy_is_asked() {
        let (log, clone) = (Log::new(300, 300), Log::new(300, 50));
        let mut tree = log.tree(90);
        assert_eq!(clone.copies(&mut tree, 100, 100, &[]), None);
        tree.accept("next", log.frontier(0, 120));
        assert_eq!(clone.copies(&mut tree, 120, 100, &[]), None, "90 is still below the floor");
        tree.accept("third", log.frontier(0, 150));
        assert_eq!(log.copies(&mut tree, 150, 100, &[]), None);
        assert!(tree.covers(120) && !tree.covers(119));
    }

    #[test]
    fn a_log_that_lost_what_is_here_and_says_so_is_no_fork() {
        let log = Log::new(200, 200);
        let signed = |lost: &[(u64, u64)]| {
            let mut frontier = Frontier::default();
            for (n, leaf) in (0..).zip(&log.leaves) {
                let is_lost = lost.iter().any(|(from, to)| (*from..*to).contains(&n));
                frontier.push(if is_lost { lost_leaf(n) } else { *leaf });
            }
            frontier
        };
        let copy = |n: u64| Ok::<_, Infallible>(Copy::Leaf(log.leaves[n as usize]));
        for (really, said, explained) in [
            (&[(150, 160)][..], &[(150, 160)][..], true),
            (&[(150, 160)], &[(20, 30), (150, 160)], true),
            (&[(150, 160)], &[], false),
            (&[(150, 160)], &[(150, 159)], false),
            (&[(150, 160)], &[(20, 30)], false),
            (&[(120, 130), (150, 160)], &[(120, 130), (150, 160)], true),
        ] {
            let mut tree = log.tree(100);
            log.copies(&mut tree, 100, 0, &[]);
            tree.accept("next", signed(really));
            assert!(log.copies(&mut tree, 200, 0, &[]).is_some());
            assert_eq!(tree.agrees_without(said, copy).unwrap(), explained, "{really:?} {said:?}");
            assert!(!explained || !tree.covers(155) && tree.own().size() == 200);
        }
    }

    #[test]
    fn many_copies_are_followed_in_steps() {
        let log = Log::new(LEAVES_MAX + 10, u64::MAX);
        let mut tree = log.tree(LEAVES_MAX + 10);
        assert_eq!(log.copies(&mut tree, u64::MAX, 0, &[]), None);
        assert!(!tree.covers(0));
        assert_eq!(log.copies(&mut tree, u64::MAX, 0, &[]), None);
        assert!(tree.covers(0));
    }

    #[test]
    fn a_tree_comes_back_from_its_text() {
        let log = Log::new(300, 300);
        let mut tree = log.tree(77);
        log.copies(&mut tree, 50, 0, &[]);
        let text = serde_json::to_string(&tree).unwrap();
        assert_eq!(serde_json::from_str::<Tree>(&text).unwrap(), tree);
        assert!(serde_json::from_str::<Tree>(&text.replace("[77,", "[78,")).is_ok(), "as many bits");
        assert!(serde_json::from_str::<Tree>(&text.replace("[77,", "[79,")).is_err());
    }
}
