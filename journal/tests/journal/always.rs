//! The journal always starts: whatever is in its folder, `open` succeeds, and what is read is what was written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use vedette_journal::{Damage, Journal, Reader, SigningKey, stat};

use crate::folder::{options, scratch, segment_files};

/// What happens to a file while nobody looks.
#[derive(Clone, Debug)]
enum Harm {
    Flip { at: usize, bit: u8 },
    Zero { at: usize, length: usize },
    Garbage { at: usize, bytes: Vec<u8> },
    Cut { to: usize },
    Grow { bytes: usize },
    Move { from: usize, to: usize },
    CopyOver { other: usize },
    Remove,
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || prop_oneof![0..5000usize, 0..20_000usize];
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        2 => (at(), prop_oneof![1..64usize, 400..9000usize]).prop_map(|(at, length)| Harm::Zero { at, length }),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..200)).prop_map(|(at, bytes)| Harm::Garbage { at, bytes }),
        2 => at().prop_map(|to| Harm::Cut { to }),
        1 => (1..9000usize).prop_map(|bytes| Harm::Grow { bytes }),
        1 => (0..5usize, 0..5usize).prop_map(|(from, to)| Harm::Move { from, to }),
        1 => (0..4usize).prop_map(|other| Harm::CopyOver { other }),
        1 => Just(Harm::Remove),
    ]
}

fn inflict(harm: &Harm, file: usize, folder: &Path) {
    let files = segment_files(folder);
    let Some(path) = files.get(file % files.len().max(1)) else { return };
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len();
    match harm {
        Harm::Flip { at, bit } => bytes.get_mut(at % length.max(1)).into_iter().for_each(|byte| *byte ^= 1 << bit),
        Harm::Zero { at, length } => bytes.iter_mut().skip(*at).take(*length).for_each(|byte| *byte = 0),
        Harm::Garbage { at, bytes: garbage } => {
            bytes.iter_mut().skip(*at).zip(garbage).for_each(|(byte, new)| *byte = *new)
        }
        Harm::Cut { to } => bytes.truncate(*to),
        Harm::Grow { bytes: more } => bytes.resize(length + more, 0),
        Harm::Move { from, to } if (from + 1) * 4096 <= length && (to + 1) * 4096 <= length => {
            bytes.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
        }
        Harm::Move { .. } => {}
        Harm::CopyOver { other } => bytes = fs::read(&files[other % files.len()]).unwrap(),
        Harm::Remove => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

/// A journal with all that there can be in one: groups, anchors, notes, stubs, several segments.
fn rich_journal(folder: &Path, close: bool) -> BTreeMap<u64, Vec<u8>> {
    let (mut journal, _) = Journal::open(folder, options(9)).unwrap();
    let key = SigningKey::from_seed(&[5; 32]);
    let mut written = BTreeMap::new();
    for n in 0..150u64 {
        let payload: Vec<u8> = (0..40 + n * 37 % 400).map(|i| (i * 7 + n) as u8).collect();
        written.insert(journal.append(3, &payload).unwrap(), payload);
        if n % 3 == 2 {
            journal.commit().unwrap();
        }
        if n % 40 == 39 {
            journal.checkpoint("vedette/rich/9", &key).unwrap();
        }
    }
    journal.commit().unwrap();
    let second = journal.segment_list()[1];
    journal.thin(second.index, &mut |entry| entry.sequence % 2 == 0).unwrap();
    (second.first_sequence..second.next_sequence).filter(|n| n % 2 != 0).for_each(|n| drop(written.remove(&n)));
    if close {
        journal.close().unwrap();
    }
    written
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happened_to_the_files_the_journal_opens_and_serves_nothing_wrong(
        harms in prop::collection::vec((harm(), 0..4usize), 1..6),
        close in any::<bool>(),
    ) {
        let folder = scratch();
        let written = rich_journal(folder.path(), close);
        harms.iter().for_each(|(harm, file)| inflict(harm, *file, folder.path()));
        prop_assert!(stat(folder.path()).is_ok());
        let (mut journal, recovery) = Journal::open(folder.path(), options(10)).unwrap();
        prop_assert!(recovery.epoch == 9 || recovery.created);
        prop_assert_eq!(journal.tree().size(), recovery.next_sequence);
        let next = journal.append(4, b"life goes on").unwrap();
        prop_assert_eq!(next, recovery.next_sequence);
        journal.commit().unwrap();
        let tree = journal.tree().clone();
        drop(journal);
        let mut reader = Reader::open(folder.path(), 0).unwrap();
        let mut last = None;
        while let Some(entry) = reader.next().unwrap() {
            prop_assert!(last < Some(entry.sequence));
            last = Some(entry.sequence);
            if entry.kind == 3 {
                prop_assert_eq!(written.get(&entry.sequence), Some(&entry.payload));
            }
        }
        prop_assert_eq!(last, Some(next));
        // What was found wrong is behind us: the next start is quiet about the tail, and the tree is the same.
        let (journal, again) = Journal::open(folder.path(), options(11)).unwrap();
        prop_assert_eq!((again.epoch, again.next_sequence), (recovery.epoch, next + 1));
        prop_assert_eq!(journal.tree(), &tree);
        prop_assert_eq!(again.damage, vec![]);
    }
}

#[test]
fn files_that_are_no_segments_are_set_aside_where_they_would_be_in_the_way() {
    let folder = scratch();
    let written = rich_journal(folder.path(), false);
    let name = |index: u32| folder.path().join(format!("seg-{index:08x}.log"));
    let count = segment_files(folder.path()).len() as u32;
    fs::write(name(count), b"").unwrap();
    fs::write(name(count + 3), vec![7; 9000]).unwrap();
    fs::write(name(u32::MAX), b"the end of all numbers").unwrap();
    fs::create_dir(name(count + 9)).unwrap();
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    rustix::fs::mknodat(rustix::fs::CWD, name(count + 12), fifo, mode, 0).unwrap();
    std::os::unix::fs::symlink("nowhere", name(count + 15)).unwrap();
    let (mut journal, recovery) = Journal::open(folder.path(), options(10)).unwrap();
    assert_eq!((recovery.epoch, recovery.next_sequence), (9, 150));
    let aside = recovery.damage.iter().filter(|damage| matches!(damage, Damage::SetAside { .. })).count();
    assert_eq!(aside, 5, "{recovery:?}");
    assert_eq!(fs::read(folder.path().join("seg-ffffffff.log.unreadable")).unwrap(), b"the end of all numbers");
    journal.append(3, b"on").unwrap();
    journal.commit().unwrap();
    let mut reader = Reader::open(folder.path(), 0).unwrap();
    let mut found = 0;
    while reader.next().unwrap().is_some() {
        found += 1;
    }
    assert_eq!((found, reader.skipped()), (written.len() + 1, 0));
}

#[test]
fn segments_of_another_journal_do_not_take_the_folder_over() {
    let (ours, theirs) = (scratch(), scratch());
    let written = rich_journal(ours.path(), false);
    let (mut journal, _) = Journal::open(theirs.path(), options(77)).unwrap();
    for _ in 0..400 {
        journal.append(3, &[0xFF; 300]).unwrap();
    }
    journal.commit().unwrap();
    let foreign = segment_files(theirs.path()).pop().unwrap();
    let to = ours.path().join(foreign.file_name().unwrap());
    assert!(!to.exists());
    fs::copy(&foreign, &to).unwrap();
    let (journal, recovery) = Journal::open(ours.path(), options(10)).unwrap();
    assert_eq!((recovery.epoch, recovery.next_sequence), (9, 150));
    assert!(matches!(recovery.damage[..], [Damage::SetAside { .. }]), "{recovery:?}");
    drop(journal);
    let mut reader = Reader::open(ours.path(), 0).unwrap();
    let mut found = 0;
    while reader.next().unwrap().is_some() {
        found += 1;
    }
    assert_eq!(found, written.len());
}

#[test]
fn what_was_set_aside_is_kept_when_it_happens_again() {
    let folder = scratch();
    let path = folder.path().join("seg-00000000.log");
    for content in [b"first", b"again"] {
        fs::write(&path, content).unwrap();
        drop(Journal::open(folder.path(), options(1)).unwrap());
        segment_files(folder.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    assert_eq!(fs::read(folder.path().join("seg-00000000.log.unreadable")).unwrap(), b"first");
    assert_eq!(fs::read(folder.path().join("seg-00000000.log.unreadable.1")).unwrap(), b"again");
}
