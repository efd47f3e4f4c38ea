//! Holds a journal on the disk against what was heard of it: every record byte for byte, every signed checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use vedette_journal::{Checkpoint, Frontier, Hash, PublicKey, Reader, leaf, lost_leaf};
use vedette_protocol::message::Claim;

use crate::table::Row;
use crate::uplink::Heard;

/// What the local interface promised: records of this epoch below this sequence are on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    pub(crate) epoch: u64,
    pub(crate) below: u64,
}

/// What the journal must still have of what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Everything: there is room.
    All,
    /// What was not: the rest may have made room.
    Unacknowledged,
}

/// A journal as it lies on the disk.
struct Found {
    epoch: Option<u64>,
    records: BTreeMap<u64, Hash>,
    /// Sequence of the first one; those before were pruned.
    first: u64,
    doubled: u64,
}

/// Counts in `row` what was heard or promised and is not in the journal, or is there otherwise. What is missing is taken out
/// of `heard`, so that it counts once.
///
/// # Errors
/// When the journal cannot be read.
pub(crate) fn check(
    journal: &Path,
    keeps: Keeps,
    heard: &mut Heard,
    promise: Option<Promise>,
    row: &mut Row,
) -> anyhow::Result<()> {
    let found = read(journal)?;
    row.wrong += found.doubled + heard.contradictions.len() as u64 + heard.garbage.len() as u64;
    row.misses.extend(heard.contradictions.drain(..).chain(heard.garbage.drain(..)).take(3));
    let mut lost = BTreeSet::new();
    for ((epoch, sequence), hash) in &heard.records {
        match (found.epoch == Some(*epoch)).then(|| found.records.get(sequence)).flatten() {
            Some(there) if there == hash => {}
            Some(_) => row.wrong += 1,
            None if found.epoch == Some(*epoch) && is_excused(*epoch, *sequence, keeps, heard) => {}
            None => {
                lost.insert((*epoch, *sequence));
            }
        }
    }
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        let (there, end) = (found.first, found.records.last_key_value().map_or(0, |(sequence, _)| *sequence));
        row.misses.push(format!("lost among {} to {}; the journal has {there} to {end}", first.1, last.1));
    }
    row.lost += lost.len() as u64;
    heard.records.retain(|key, _| !lost.contains(key));
    if let Some(promise) = promise {
        row.lost += keep(promise, keeps, &found, &lost, heard);
    }
    claims(&found, heard, row)?;
    the_log_itself(journal, found.epoch, heard, row)
}

/// What the local interface promised counts as heard from now on; gives how much of it is not there.
fn keep(promise: Promise, keeps: Keeps, found: &Found, lost: &BTreeSet<(u64, u64)>, heard: &mut Heard) -> u64 {
    let there = (found.epoch == Some(promise.epoch)).then_some(&found.records);
    let mut missing = 0;
    for sequence in 0..promise.below {
        let key = (promise.epoch, sequence);
        match there.and_then(|records| records.get(&sequence)) {
            Some(hash) => {
                heard.records.entry(key).or_insert(*hash);
            }
            None => missing += u64::from(!lost.contains(&key) && !is_excused(key.0, sequence, keeps, heard)),
        }
    }
    missing
}

/// Where there is no room for all, a record may be gone that was acknowledged, or of which the device said so.
fn is_excused(epoch: u64, sequence: u64, keeps: Keeps, heard: &Heard) -> bool {
    match keeps {
        Keeps::All => false,
        Keeps::Unacknowledged => sequence < heard.acknowledged(epoch) || heard.gone.contains(&(epoch, sequence)),
    }
}

/// Takes in what is in the journal and was not heard: the end of a life that had no time to send it.
///
/// # Errors
/// When the journal cannot be read.
pub(crate) fn overhear(journal: &Path, heard: &mut Heard) -> anyhow::Result<()> {
    let mut reader = Reader::open(journal, 0)?;
    while let Some(entry) = reader.next()? {
        heard.remember(entry.epoch, entry.sequence, &entry.payload);
    }
    Ok(())
}

fn read(journal: &Path) -> anyhow::Result<Found> {
    let mut found = Found { epoch: None, records: BTreeMap::new(), first: 0, doubled: 0 };
    if !journal.exists() {
        return Ok(found);
    }
    let failed = || format!("couldn't read the journal in {}", journal.display());
    let mut reader = Reader::open(journal, 0).with_context(failed)?;
    while let Some(entry) = reader.next().with_context(failed)? {
        if found.records.is_empty() {
            found.first = entry.sequence;
        }
        found.epoch = Some(entry.epoch);
        found.doubled += u64::from(found.records.insert(entry.sequence, leaf(&entry.payload)).is_some());
    }
    Ok(found)
}

/// Every checkpoint that left the device must be the root of just these records.
fn claims(found: &Found, heard: &Heard, row: &mut Row) -> anyhow::Result<()> {
    let mut claims: Vec<(u64, &Claim)> = Vec::new();
    for (epoch, claim) in &heard.claims {
        if found.epoch == Some(*epoch) {
            let size = Checkpoint::read_unverified(&claim.note).context("a checkpoint is no note")?.size;
            claims.push((size, claim));
        }
    }
    // Without the first records the tree cannot be made from them alone.
    if found.first > 0 {
        return Ok(());
    }
    claims.sort_by_key(|(size, _)| *size);
    let mut tree = Frontier::default();
    for (size, claim) in claims {
        while tree.size() < size {
            let next = tree.size();
            tree.push(found.records.get(&next).copied().unwrap_or_else(|| lost_leaf(next)));
        }
        let key = claim.key.0.as_slice().try_into().map(PublicKey).context("a public key has 32 bytes")?;
        match Checkpoint::open(&claim.note, &key) {
            Ok(checkpoint) if checkpoint.root == tree.root() => {}
            Ok(checkpoint) => {
                row.wrong += 1;
                row.misses.push(format!("the checkpoint of size {} is not the root of the log", checkpoint.size));
            }
            Err(error) => {
                row.wrong += 1;
                row.misses.push(format!("a checkpoint is not signed as it should be: {error}"));
            }
        }
    }
    Ok(())
}

/// Says how many checkpoints were held against the log; none is a miss, because then nothing was proven.
pub(crate) fn count_checkpoints(heard: &Heard, row: &mut Row) {
    let checkpoints = heard.checkpoints_in_all();
    row.figures.push(format!("{checkpoints} checkpoints held against the log"));
    row.expect(checkpoints > 0, || "no signed checkpoint left the device".to_owned());
}

/// The journal's own proof: no checkpoint in it contradicts its records, none is signed falsely, none forks.
fn the_log_itself(journal: &Path, epoch: Option<u64>, heard: &Heard, row: &mut Row) -> anyhow::Result<()> {
    if !journal.exists() {
        return Ok(());
    }
    let key = heard.claims.iter().find(|(of, _)| epoch == Some(*of)).and_then(|(_, claim)| key_of(claim));
    let report = vedette_journal::verify(journal, key.as_ref(), &mut |_| {})
        .with_context(|| format!("couldn't verify the journal in {}", journal.display()))?;
    let harm = [
        report.mismatch.map(|harm| format!("{harm:?}")),
        report.bad_signature.map(|harm| format!("{harm:?}")),
        report.fork.map(|harm| format!("{harm:?}")),
    ];
    for harm in harm.into_iter().flatten() {
        row.wrong += 1;
        row.misses.push(format!("the log does not verify: {harm}"));
    }
    Ok(())
}

fn key_of(claim: &Claim) -> Option<PublicKey> {
    claim.key.0.as_slice().try_into().map(PublicKey).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_journal::{Journal, Options, SigningKey};
    use vedette_protocol::cbor::{self, Bytes};
    use vedette_protocol::id::BootId;
    use vedette_protocol::record::{Body, Record};
    use vedette_protocol::time::{Quality, Stamp};

    use super::*;

    /// A record of its own for each number.
    fn record(number: u64) -> Vec<u8> {
        let boot: BootId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let stamp = Stamp { boot, monotonic_ns: number, wall_ms: 0, quality: Quality::None };
        cbor::to_canonical(&Record { stamp, body: Body::Ack { epoch: 7, upto: number } })
    }

    /// What comes of checking a journal of ten records that were all heard, after `change`.
    fn checked(keeps: Keeps, promise: Option<Promise>, change: impl FnOnce(&mut Journal, &mut Heard)) -> Row {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), Options::new(7)).unwrap();
        let mut heard = Heard::default();
        for number in 0..10 {
            journal.append(9, &record(number)).unwrap();
            heard.remember(7, number, &record(number));
        }
        journal.commit().unwrap();
        change(&mut journal, &mut heard);
        let mut row = Row::default();
        check(dir.path(), keeps, &mut heard, promise, &mut row).unwrap();
        row
    }

    fn counts(row: &Row) -> (u64, u64) {
        (row.lost, row.wrong)
    }

    #[test]
    fn a_journal_that_has_all_that_was_heard_misses_nothing() {
        let row = checked(Keeps::All, Some(Promise { epoch: 7, below: 10 }), |_, _| {});
        assert_eq!((counts(&row), row.misses.len()), ((0, 0), 0), "{row:?}");
    }

    #[test]
    fn what_was_heard_and_is_not_there_is_lost_and_no_word_of_the_device_excuses_it() {
        let row = checked(Keeps::All, None, |_, heard| {
            heard.remember(7, 10, &record(10));
            heard.gone.insert((7, 10));
        });
        assert_eq!(counts(&row), (1, 0), "{row:?}");
    }

    #[test]
    fn where_there_is_no_room_the_device_may_say_that_it_is_gone() {
        let row = checked(Keeps::Unacknowledged, None, |_, heard| {
            heard.remember(7, 10, &record(10));
            heard.remember(7, 11, &record(11));
            heard.gone.insert((7, 10));
        });
        assert_eq!(counts(&row), (1, 0), "{row:?}");
    }

    #[test]
    fn what_was_promised_and_is_not_there_is_lost() {
        let row = checked(Keeps::All, Some(Promise { epoch: 7, below: 12 }), |_, _| {});
        assert_eq!(counts(&row), (2, 0), "{row:?}");
    }

    #[test]
    fn another_life_of_the_journal_has_lost_everything() {
        let row = checked(Keeps::All, None, |_, heard| {
            heard.records = std::mem::take(&mut heard.records).into_iter().map(|((_, n), h)| ((6, n), h)).collect();
        });
        assert_eq!(counts(&row), (10, 0), "{row:?}");
    }

    #[test]
    fn other_bytes_under_the_same_name_are_wrong() {
        let row = checked(Keeps::All, None, |_, heard| {
            heard.records.insert((7, 3), leaf(b"other"));
        });
        assert_eq!(counts(&row), (0, 1), "{row:?}");
        let row = checked(Keeps::All, None, |_, heard| heard.remember(7, 3, &record(4)));
        assert_eq!(counts(&row), (0, 2), "both what was heard before and what lies there: {row:?}");
    }

    #[test]
    fn a_checkpoint_over_other_records_or_with_another_signature_is_wrong() {
        let key = SigningKey::from_seed(&[1; 32]);
        let claim = |note, key: &SigningKey| {
            let key = Bytes(key.public().0.to_vec());
            (7, Claim { note, key, from: 0, proof: Vec::new(), frontier: Vec::new() })
        };
        let right = checked(Keeps::All, None, |journal, heard| {
            heard.claims.push(claim(journal.checkpoint("box/7", &key).unwrap().note, &key));
        });
        assert_eq!(counts(&right), (0, 0), "{right:?}");
        let other_records = checked(Keeps::All, None, |_, heard| {
            let checkpoint = Checkpoint { origin: "box/7".to_owned(), size: 5, root: leaf(b"other") };
            heard.claims.push(claim(checkpoint.sign(&key), &key));
        });
        assert_eq!(counts(&other_records), (0, 1), "{other_records:?}");
        let other_key = checked(Keeps::All, None, |journal, heard| {
            let note = journal.checkpoint("box/7", &key).unwrap().note;
            heard.claims.push(claim(note, &SigningKey::from_seed(&[2; 32])));
        });
        assert!(other_key.wrong >= 1, "{other_key:?}");
    }
}
