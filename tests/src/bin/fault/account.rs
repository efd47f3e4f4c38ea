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
    row.lost += lost.len() as u64;
    heard.records.retain(|key, _| !lost.contains(key));
    if let Some(promise) = promise {
        row.lost += keep(promise, &found, &lost, heard);
    }
    claims(&found, heard, row)
}

/// What the local interface promised counts as heard from now on; gives how much of it is not there.
fn keep(promise: Promise, found: &Found, lost: &BTreeSet<(u64, u64)>, heard: &mut Heard) -> u64 {
    let there = (found.epoch == Some(promise.epoch)).then_some(&found.records);
    let mut missing = 0;
    // What is gone from the front was excused or counted above, if it was heard.
    for sequence in found.first..promise.below {
        let key = (promise.epoch, sequence);
        match there.and_then(|records| records.get(&sequence)) {
            Some(hash) => {
                heard.records.entry(key).or_insert(*hash);
            }
            None => missing += u64::from(!lost.contains(&key) && !heard.gone.contains(&key)),
        }
    }
    missing
}

/// A record may be gone when the device said so, or when room was needed and it was acknowledged.
fn is_excused(epoch: u64, sequence: u64, keeps: Keeps, heard: &Heard) -> bool {
    let acknowledged = keeps == Keeps::Unacknowledged && sequence < heard.acknowledged(epoch);
    acknowledged || heard.gone.contains(&(epoch, sequence))
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
