//! The journal against a model that is a list: whatever is done in whatever order, what was committed stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use vedette_journal::{
    Checkpoint, Entry, Frontier, Journal, Proofs, Reader, Signed, SigningKey, leaf, stat, verify, verify_consistency,
};

use crate::folder::{SEGMENT_DATA_AT, contents, options, scratch, segment_files};

#[derive(Clone, Debug)]
enum Act {
    Append {
        kind: u8,
        payload: Vec<u8>,
    },
    Commit,
    /// The process ends and comes back.
    Reopen,
    /// The process ends, the tail is torn: garbage lies behind the last record.
    Tear {
        garbage: Vec<u8>,
    },
    Prune {
        permille: u64,
    },
    /// All records are committed and the tree is signed.
    Checkpoint,
    /// The process ends as it should and comes back.
    Close,
    /// Of one older segment, all payloads go but each `keep`th.
    Thin {
        permille: u64,
        keep: u64,
    },
    Read,
}

fn act() -> impl Strategy<Value = Act> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 900..1200),
        1 => (0..6000usize).prop_map(|length| vec![0xA1; length]),
    ];
    prop_oneof![
        10 => (any::<u8>(), payload).prop_map(|(kind, payload)| Act::Append { kind, payload }),
        4 => Just(Act::Commit),
        1 => Just(Act::Reopen),
        1 => prop::collection::vec(any::<u8>(), 1..300).prop_map(|garbage| Act::Tear { garbage }),
        1 => (0..1000u64).prop_map(|permille| Act::Prune { permille }),
        2 => Just(Act::Read),
        2 => Just(Act::Checkpoint),
        1 => Just(Act::Close),
        1 => (0..1000u64, 1..4u64).prop_map(|(permille, keep)| Act::Thin { permille, keep }),
    ]
}

type Record = (u64, u8, Vec<u8>);

/// The model: what is durable, and what waits.
#[derive(Default)]
struct Model {
    durable: Vec<Record>,
    waiting: Vec<Record>,
    /// Over `durable`.
    tree: Frontier,
    thinned: BTreeSet<u64>,
    pruned_below: u64,
    /// All that was ever signed.
    signed: Vec<Signed>,
}

impl Model {
    fn next(&self) -> u64 {
        (self.durable.len() + self.waiting.len()) as u64
    }

    fn commit(&mut self) {
        self.waiting.iter().for_each(|(_, _, payload)| self.tree.push(leaf(payload)));
        self.durable.append(&mut self.waiting);
    }

    /// Whether each signed tree is one that this log had when it was so long.
    fn check_signed(&self) {
        let mut tree = Frontier::default();
        let mut signed = self.signed.iter().peekable();
        for size in 0..=self.durable.len() {
            while let Some(one) = signed.next_if(|one| one.checkpoint.size == size as u64) {
                assert_eq!((one.checkpoint.root, &one.frontier), (tree.root(), &tree));
            }
            self.durable.get(size).iter().for_each(|(_, _, payload)| tree.push(leaf(payload)));
        }
        assert_eq!(signed.next(), None, "more was signed than is durable");
    }
}

fn reopen(folder: &Path, model: &mut Model) -> Journal {
    model.waiting.clear();
    let (journal, recovery) = Journal::open(folder, options(1)).unwrap();
    assert_eq!(recovery.epoch, 1);
    assert_eq!(recovery.next_sequence, model.next());
    assert_eq!(recovery.damage, []);
    assert_eq!(journal.tree(), &model.tree);
    journal
}

/// Writes garbage behind the last record of the newest segment.
fn tear(folder: &Path, garbage: &[u8]) {
    let path = segment_files(folder).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let end = end_of_records(&bytes);
    bytes.resize(bytes.len().max(end + garbage.len()), 0);
    bytes[end..end + garbage.len()].copy_from_slice(garbage);
    fs::write(&path, bytes).unwrap();
}

/// Where the records of an untorn segment end: by their lengths, since a payload may end in zeros too.
fn end_of_records(bytes: &[u8]) -> usize {
    let mut at = SEGMENT_DATA_AT;
    while let Some(head) = bytes.get(at..at + 20).filter(|head| head[17] != 0) {
        let payload = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        at += (20 + payload).next_multiple_of(8);
    }
    at
}

fn check_what_is_there(folder: &Path, model: &Model) {
    let found = contents(folder, 0);
    let first = stat(folder).unwrap().first_sequence;
    assert!(first <= model.pruned_below, "more was pruned than asked for: {first} > {}", model.pruned_below);
    let kept = model.durable[first as usize..].iter().filter(|record| !model.thinned.contains(&record.0));
    assert_eq!(found, kept.cloned().collect::<Vec<_>>());
}

/// What an outsider can check on the folder alone: the notes in it, and that each signed tree grew out of the one before.
fn check_proofs(folder: &Path, model: &Model, key: &SigningKey) {
    let report = verify(folder, Some(&key.public()), &mut |_| ()).unwrap();
    assert!(report.gaps.is_empty() && report.mismatch.is_none() && report.bad_signature.is_none(), "{report:?}");
    let first = stat(folder).unwrap().first_sequence;
    let proofs = Proofs::open(folder).unwrap();
    let signed = || model.signed.iter().map(|one| &one.checkpoint).filter(|one| one.size >= first);
    for (old, new) in signed().zip(signed().skip(1)) {
        let proof = proofs.consistency(old.size, new.size).unwrap();
        assert!(verify_consistency(old.size, &old.root, new.size, &new.root, &proof), "{old:?} {new:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_done_what_was_committed_stays(acts in prop::collection::vec(act(), 1..120)) {
        let folder = scratch();
        let mut model = Model::default();
        let mut journal = Some(reopen(folder.path(), &mut model));
        let mut follower = Reader::open(folder.path(), 0).unwrap();
        let mut followed = 0;
        let key = SigningKey::from_seed(&[7; 32]);
        for act in acts {
            let open = journal.as_mut().unwrap();
            match act {
                Act::Append { kind, payload } => {
                    prop_assert_eq!(open.append(kind, &payload).unwrap(), model.next());
                    model.waiting.push((model.next(), kind, payload));
                }
                Act::Commit => {
                    prop_assert_eq!(open.commit().unwrap(), model.next());
                    model.commit();
                }
                Act::Checkpoint => {
                    model.commit();
                    let signed = open.checkpoint("vedette/model/1", &key).unwrap();
                    prop_assert_eq!(&Checkpoint::open(&signed.note, &key.public()).unwrap(), &signed.checkpoint);
                    model.signed.push(signed);
                }
                Act::Close => {
                    model.commit();
                    journal.take().unwrap().close().unwrap();
                    journal = Some(reopen(folder.path(), &mut model));
                }
                Act::Thin { permille, keep } => {
                    let list = open.segment_list();
                    let info = list[list.len() * permille as usize / 1000];
                    let mut gone = BTreeSet::new();
                    let mut seen = Vec::new();
                    let thinned = open.thin(info.index, &mut |entry: &Entry| {
                        seen.push((entry.sequence, entry.kind, entry.payload.clone()));
                        entry.sequence.is_multiple_of(keep) || !gone.insert(entry.sequence)
                    });
                    prop_assert_eq!(thinned.unwrap().removed, gone.len() as u64);
                    if Some(&info) == list.last() {
                        prop_assert_eq!(&seen, &[]);
                    } else {
                        let there = &model.durable[info.first_sequence as usize..info.next_sequence as usize];
                        let there: Vec<_> = there.iter().filter(|record| !model.thinned.contains(&record.0)).cloned().collect();
                        prop_assert_eq!(seen, there);
                    }
                    model.thinned.append(&mut gone);
                }
                Act::Reopen => {
                    drop(journal.take());
                    journal = Some(reopen(folder.path(), &mut model));
                }
                Act::Tear { garbage } => {
                    drop(journal.take());
                    tear(folder.path(), &garbage);
                    journal = Some(reopen(folder.path(), &mut model));
                }
                Act::Prune { permille } => {
                    let below = model.durable.len() as u64 * permille / 1000;
                    open.prune_below(below).unwrap();
                    model.pruned_below = model.pruned_below.max(below);
                }
                Act::Read => {
                    while let Some(entry) = follower.next().unwrap() {
                        let passed = (followed.max(model.pruned_below)..entry.sequence).find(|n| !model.thinned.contains(n));
                        prop_assert!(entry.sequence >= followed && passed.is_none(), "{:?} is missing", passed);
                        let (sequence, kind, payload) = &model.durable[entry.sequence as usize];
                        prop_assert_eq!((*sequence, *kind), (entry.sequence, entry.kind));
                        prop_assert_eq!(payload, &entry.payload);
                        followed = entry.sequence + 1;
                    }
                    prop_assert_eq!(follower.position(), model.durable.len() as u64);
                    followed = follower.position();
                }
            }
            prop_assert_eq!(journal.as_ref().unwrap().committed(), model.durable.len() as u64);
            prop_assert_eq!(journal.as_ref().unwrap().tree(), &model.tree);
        }
        check_what_is_there(folder.path(), &model);
        model.check_signed();
        check_proofs(folder.path(), &model, &key);
        prop_assert_eq!(follower.skipped(), 0);
    }
}

/// What the disk can hold in place of the last group's missing part.
#[derive(Clone, Copy, Debug)]
enum Rest {
    /// The file ends.
    Nothing,
    /// The preallocated zeros.
    Zeros,
    /// Something that was there before.
    Garbage,
}

/// Two committed groups, a last one of which only the first `kept` bytes came to the disk, at every such byte.
#[test]
fn a_last_group_torn_at_any_byte_costs_nothing_before_it() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(3)).unwrap();
    let group = |from: u64| (from..from + 5).map(|n| (n, n as u8, vec![n as u8; n as usize * 3]));
    let mut all: Vec<Record> = Vec::new();
    let mut start = 0;
    for from in [0, 5, 10] {
        start = group_end(&all);
        all.extend(group(from));
        for (_, kind, payload) in group(from) {
            journal.append(kind, &payload).unwrap();
        }
        journal.commit().unwrap();
    }
    drop(journal);
    let path = segment_files(folder.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let end = group_end(&all);
    assert!(whole[end..].iter().all(|byte| *byte == 0) && whole[end - 8..end] != [0; 8]);

    let mut tries = 0;
    for kept in start..end {
        for rest in [Rest::Nothing, Rest::Zeros, Rest::Garbage] {
            let mut torn = whole.clone();
            match rest {
                Rest::Nothing => torn.truncate(kept),
                Rest::Zeros => torn[kept..].fill(0),
                Rest::Garbage => torn[kept..end].iter_mut().for_each(|byte| *byte ^= 0x5A),
            }
            fs::write(&path, &torn).unwrap();
            let (mut journal, recovery) = Journal::open(folder.path(), options(3)).unwrap();
            let here = format!("{kept} bytes kept, then {rest:?}");
            assert_eq!(recovery.damage, [], "{here}");
            let survivors = recovery.next_sequence as usize;
            assert!((10..15).contains(&survivors) || kept + 8 > end, "{here}: {survivors}");
            assert_eq!(contents(folder.path(), 0), all[..survivors], "{here}");
            journal.append(99, b"next").unwrap();
            journal.commit().unwrap();
            drop(journal);
            let last = contents(folder.path(), survivors as u64);
            assert_eq!(last, [(survivors as u64, 99, b"next".to_vec())], "{here}");
            tries += 1;
        }
    }
    println!("{tries} torn tails");
}

/// Where the records of `all` end in the first segment.
fn group_end(all: &[Record]) -> usize {
    let bytes = |record: &Record| (20 + record.2.len()).next_multiple_of(8);
    SEGMENT_DATA_AT + all.iter().map(bytes).sum::<usize>()
}
