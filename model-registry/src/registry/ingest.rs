//! Taking in the records of the devices' journals: idempotent by record id, durable before the answer.
//!
//! # Constraints
//!
//! - A record is kept as its bytes came, for ever, under its id. The same id again is counted and not written. The same
//!   id with other bytes is never taken: two histories under one name put the device into quarantine
//!   (`super::checkpoint`), and nothing of it is taken until somebody has looked.
//! - A record that cannot be read is kept as well: a newer agent may say things that this registry learns later. It only
//!   cannot be found by what it says.
//! - `upto` is the first sequence that is neither here nor, as the device says, gone for good. Records beyond a hole are
//!   kept and named in the answer. What is gone for good is counted, and an audit entry says so.
//! - Records, their keys, how far the journal has come, the signed tree, and the audit entries of what they mean are one
//!   write. A batch is taken whole or, when it shows two histories, not at all.
//!
//! # Group commit
//!
//! All batches that wait are one write and one fsync: [`Registry::ingest_group`].

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use vedette_protocol::id::{DeviceId, RecordId};
use vedette_protocol::limit::MAX_HELD_RANGES;
use vedette_protocol::message::Claim;

use super::checkpoint::{self, Fork, Judged};
use super::device_log::{DeviceLog, Taken};
use super::indexed::{Kept, Received};
use super::progress::{Progress, runs};
use super::quarantine::Standing;
use super::{Error, Registry, Result};
use crate::audit::{Change, Entry, Evidence};

/// Journal records kept. Measured with 200,000 anomalies: 1,007 bytes of disk each with their keys, and 189 MB of memory
/// in all, because sled's memory follows its contents; so this is 1.2 GB of disk and some 1.1 GB of memory. When it is
/// reached nothing more is taken in: the devices are not acknowledged and keep their evidence, and the log says so.
pub(crate) const RECORDS_MAX: u64 = 1_200_000;

/// Sequences that one batch may speak for: a record a millisecond for 49 days. A batch that claims more is not believed
/// about what is gone.
const SPAN_MAX: u64 = 1 << 32;

/// One batch of a device's journal.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The device.
    pub device: DeviceId,
    /// The epoch of its journal.
    pub epoch: u64,
    /// Sequence and record bytes, ascending.
    pub records: Vec<(u64, Vec<u8>)>,
    /// `[from, below)`: all that it speaks for; what is not in `records` is gone for good.
    pub span: Option<(u64, u64)>,
    /// The records waited for the connection.
    pub late: bool,
    /// What the device's log commits itself to.
    pub claim: Option<Claim>,
}

impl Batch {
    /// Records that speak only for themselves.
    #[must_use]
    pub const fn new(device: DeviceId, epoch: u64, records: Vec<(u64, Vec<u8>)>) -> Self {
        Self { device, epoch, records, span: None, late: false, claim: None }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// First sequence that is neither stored nor gone for good. What `down/ack` says.
    pub upto: u64,
    /// Records that were new.
    pub new: u64,
    /// Records that were here already.
    pub duplicate: u64,
    /// Records that were here already with other bytes, as a release of the device has accepted; the first ones stay.
    pub conflicting: u64,
    /// Sequences that are gone for good, new by this batch.
    pub absent: u64,
    /// The longest settled ranges `[from, below)` beyond `upto`, ascending, at most [`MAX_HELD_RANGES`].
    pub held: Vec<(u64, u64)>,
    /// Tree size of the last accepted checkpoint.
    pub checkpoint: u64,
    /// Why nothing is taken from this device.
    pub refused: Option<String>,
    /// Why the checkpoint that came along was left aside.
    pub unsound: Option<String>,
}

/// What a group has decided so far, before any of it is written.
#[derive(Default)]
struct Group {
    kept: Kept,
    logs: BTreeMap<(DeviceId, u64), Open>,
    standings: BTreeMap<DeviceId, Standing>,
    /// What came of the last checkpoint of a device: why it was left aside, or nothing.
    claims: BTreeMap<DeviceId, Option<String>>,
}

/// A journal of a device while its batches are decided.
struct Open {
    before: DeviceLog,
    log: DeviceLog,
    taken: Taken,
}

/// A batch that shows two histories, and both of them.
struct Forked {
    fork: Fork,
    held: Evidence,
    offered: Evidence,
}

/// A batch that may be taken: what the journal is then.
struct Taking {
    log: DeviceLog,
    new: Vec<u64>,
    done: Ingested,
    /// First and last behind of what is gone for good.
    gone: Option<(u64, u64)>,
    /// The checkpoint was accepted, and pins its key.
    pins: bool,
    claimed: bool,
}

impl Registry {
    /// Takes in one batch of records, durably. See [`Registry::ingest_group`].
    ///
    /// # Errors
    ///
    /// The store is full or could not be written; nothing may be acknowledged.
    pub fn ingest(&self, device: &DeviceId, epoch: u64, records: Vec<(u64, Vec<u8>)>) -> Result<Ingested> {
        let results = self.ingest_group(vec![Batch::new(device.clone(), epoch, records)])?;
        Ok(results.into_iter().next().unwrap_or_default())
    }

    /// Takes in batches with one write and one fsync; answers in their order.
    ///
    /// # Errors
    ///
    /// The store is full or could not be written; nothing may be acknowledged.
    pub fn ingest_group(&self, batches: Vec<Batch>) -> Result<Vec<Ingested>> {
        let state = self.state();
        let mut turn = state.turn();
        self.check_room(&batches)?;
        let now = self.now_ms();
        let mut group = Group::default();
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            results.push(self.take(batch, now, &mut group)?);
        }
        let Group { kept, logs, standings, claims } = group;
        let Kept { mut write, entries, .. } = kept;
        let mut new = 0;
        for ((device, epoch), open) in &logs {
            open.log.save(&open.before, device, *epoch, &mut write)?;
            new += open.taken.len() as u64;
        }
        let mut new_devices = 0;
        for device in standings.keys() {
            new_devices += self.note_records(device, claims.get(device), &mut write)?;
        }
        turn.save_all(&entries, write)?;
        drop(turn);
        state.counts().records.fetch_add(new, Ordering::Relaxed);
        state.counts().devices.fetch_add(new_devices, Ordering::Relaxed);
        state.store().sync()?;
        Ok(results)
    }

    fn check_room(&self, batches: &[Batch]) -> Result<()> {
        let stored = self.state().counts().records.load(Ordering::Relaxed);
        let coming: u64 = batches.iter().map(|batch| batch.records.len() as u64).sum();
        if stored + coming > RECORDS_MAX {
            return Err(Error::Full(format!(
                "the registry holds {stored} records of at most {RECORDS_MAX}: devices keep theirs until there is room"
            )));
        }
        Ok(())
    }

    fn take(&self, batch: Batch, now: i64, group: &mut Group) -> Result<Ingested> {
        let place = (batch.device.clone(), batch.epoch);
        let mut open = match group.logs.remove(&place) {
            Some(open) => open,
            None => {
                let log = self.device_log(&batch.device, batch.epoch)?;
                Open { before: log.clone(), log, taken: Taken::new() }
            }
        };
        let mut standing = match group.standings.remove(&batch.device) {
            Some(standing) => standing,
            None => self.standing(&batch.device)?,
        };
        let done = if standing.quarantine.is_some() {
            Ingested::default()
        } else {
            self.decide(batch, now, &mut open, &mut standing, group)?
        };
        let done = Ingested {
            upto: open.log.progress.upto,
            held: open.log.progress.longest(MAX_HELD_RANGES),
            checkpoint: open.log.tree.size(),
            refused: standing.quarantine.as_ref().map(|quarantine| quarantine.answer()),
            ..done
        };
        group.standings.insert(place.0.clone(), standing);
        group.logs.insert(place, open);
        Ok(done)
    }

    /// Decides a batch of a device in good standing, and adds to the group what follows.
    fn decide(
        &self,
        batch: Batch,
        now: i64,
        open: &mut Open,
        standing: &mut Standing,
        group: &mut Group,
    ) -> Result<Ingested> {
        let Batch { device, epoch, records, span, late, claim } = batch;
        let mut id = RecordId { device: device.clone(), epoch, sequence: 0 };
        let entry = |by: String, change| Entry { at: now, by, change };
        let taking = match self.weigh(&mut id, records, span, claim.as_ref(), open, standing)? {
            Ok(taking) => taking,
            Err(Forked { fork, held, offered }) => {
                tracing::error!(%device, epoch, %fork, "a device is in quarantine: its log has two histories");
                let change = standing.quarantine(&device, epoch, fork, held, offered, now);
                group.kept.entries.push(entry("registry".to_owned(), change));
                return Ok(Ingested::default());
            }
        };
        let Taking { mut log, new, done, gone, pins, claimed } = taking;
        if late {
            log.progress.late += done.new;
        }
        open.log = log;
        for sequence in new {
            id.sequence = sequence;
            if let Some(bytes) = open.taken.get(&sequence) {
                self.keep(&id, bytes, Received { at_ms: now, late }, &mut group.kept)?;
            }
        }
        if let Some(claim) = claim.as_ref().filter(|_| pins) {
            group.kept.entries.push(entry("registry".to_owned(), standing.pin(&device, claim)));
        }
        if let Some((from, below)) = gone {
            let change = Change::RecordsAbsent { device: device.clone(), epoch, from, below, count: done.absent };
            group.kept.entries.push(entry(format!("device:{device}"), change));
        }
        if claimed {
            group.claims.insert(device, done.unsound.clone());
        }
        Ok(done)
    }

    /// What a batch would make of the journal; `open` keeps the new records only if it may be taken.
    fn weigh(
        &self,
        id: &mut RecordId,
        records: Vec<(u64, Vec<u8>)>,
        span: Option<(u64, u64)>,
        claim: Option<&Claim>,
        open: &mut Open,
        standing: &Standing,
    ) -> Result<std::result::Result<Taking, Forked>> {
        let mut done = Ingested::default();
        let mut log = open.log.clone();
        let (mut new, mut sequences) = (Vec::new(), Vec::with_capacity(records.len()));
        let mut fork = None;
        for (sequence, bytes) in records {
            id.sequence = sequence;
            sequences.push(sequence);
            match self.held(id, &open.taken)? {
                Some(held) if held.bytes() == bytes => done.duplicate += 1,
                Some(_) if sequence < log.floor => done.conflicting += 1,
                Some(held) => {
                    let (held, offered) = (Evidence::record(held.bytes()), Evidence::record(&bytes));
                    fork = Some(Forked { fork: checkpoint::conflict(id), held, offered });
                    break;
                }
                None => {
                    log.progress.restored += u64::from(log.progress.is_settled(sequence));
                    new.push(sequence);
                    open.taken.insert(sequence, bytes);
                }
            }
        }
        let mut taking = Taking { log, new, done, gone: None, pins: false, claimed: claim.is_some() };
        taking.done.new = taking.new.len() as u64;
        if fork.is_none() {
            taking.gone = self.settle(id, &sequences, span, &open.taken, &mut taking)?;
            fork = self.hear_claim(id, claim, &open.taken, standing, &mut taking)?;
        }
        Ok(match fork {
            None => Ok(taking),
            Some(forked) => {
                taking.new.iter().for_each(|sequence| drop(open.taken.remove(sequence)));
                Err(forked)
            }
        })
    }

    /// Settles what came and what is gone for good. Returns the range that holds all that is gone.
    fn settle(
        &self,
        id: &RecordId,
        sequences: &[u64],
        span: Option<(u64, u64)>,
        taken: &Taken,
        taking: &mut Taking,
    ) -> Result<Option<(u64, u64)>> {
        let progress = &mut taking.log.progress;
        for (from, below) in runs(sequences.iter().copied()) {
            // Without room it is found below, once `upto` comes to it.
            progress.settle(from, below);
        }
        let mut gone: Option<(u64, u64)> = None;
        for (from, below, here) in self.unlisted(id, span, taken, progress)? {
            if progress.settle(from, below) && !here {
                taking.done.absent += below - from;
                gone = Some((gone.map_or(from, |gone| gone.0), below));
            }
        }
        progress.absent += taking.done.absent;
        let mut id = RecordId { sequence: progress.upto, ..id.clone() };
        while self.held(&id, taken)?.is_some() && id.sequence < u64::MAX {
            progress.settle(id.sequence, id.sequence + 1);
            id.sequence = progress.upto;
        }
        Ok(gone)
    }

    /// The parts of a span that are not settled, ascending, and whether they are here.
    fn unlisted(
        &self,
        id: &RecordId,
        span: Option<(u64, u64)>,
        taken: &Taken,
        progress: &Progress,
    ) -> Result<Vec<(u64, u64, bool)>> {
        let Some((from, below)) = span.filter(|(from, below)| below.saturating_sub(*from) <= SPAN_MAX) else {
            return Ok(Vec::new());
        };
        let mut parts = Vec::new();
        for (from, below) in progress.open(from, below) {
            let mut here = self.stored_within(&id.device, id.epoch, from, below)?;
            here.extend(taken.range(from..below).map(|(sequence, _)| *sequence));
            here.sort_unstable();
            let mut at = from;
            for (held_from, held_below) in runs(here) {
                parts.extend((at < held_from).then_some((at, held_from, false)));
                parts.push((held_from, held_below, true));
                at = held_below;
            }
            parts.extend((at < below).then_some((at, below, false)));
        }
        Ok(parts)
    }

    /// Holds our copies against what is signed, before and after the checkpoint that came along.
    fn hear_claim(
        &self,
        id: &RecordId,
        claim: Option<&Claim>,
        taken: &Taken,
        standing: &Standing,
        taking: &mut Taking,
    ) -> Result<Option<Forked>> {
        if let Some(fork) = self.follow(&mut taking.log, &id.device, id.epoch, taken)? {
            let offered = Evidence::checkpoint(&taking.log.tree.note, standing.key());
            return Ok(Some(Forked { fork, held: Evidence::copies(&taking.log.tree), offered }));
        }
        let Some(claim) = claim else { return Ok(None) };
        let offered = Evidence::checkpoint(&claim.note, checkpoint::key_of(claim));
        let own = checkpoint::origin(&id.device, id.epoch);
        match checkpoint::judge(claim, &own, standing.key().as_ref(), &taking.log.tree) {
            Judged::Accepted { signed, pins } => {
                taking.log.tree.accept(&claim.note, signed);
                taking.pins = pins;
                let fork = self.follow(&mut taking.log, &id.device, id.epoch, taken)?;
                let held = || Evidence::copies(&taking.log.tree);
                Ok(fork.map(|fork| Forked { fork, held: held(), offered }))
            }
            Judged::Left => {
                taking.claimed = false;
                Ok(None)
            }
            Judged::Unsound(why) => {
                taking.done.unsound = Some(why.to_string());
                Ok(None)
            }
            Judged::Fork(fork) => Ok(Some(Forked { fork, held: standing.evidence(&taking.log.tree), offered })),
        }
    }
}
