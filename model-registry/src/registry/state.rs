//! The one write: a change goes into the audit journal, durably, and then into the store.
//!
//! # Constraints
//!
//! State and audit never part. The journal is the truth: an entry is durable before the store knows of it. The store's batch
//! carries `applied`, the first audit sequence that is not in it, in the same atomic write as the change itself. A crash
//! between the two leaves `applied` behind, and [`State::open`] (or the next change) applies what is missing. An entry
//! is applied by one function (`registry/apply.rs`) whether it is new or read again, so both ways end in the same state.
//!
//! # Operations
//!
//! A verb takes its [`Turn`]: one at a time loads, decides and saves. The fsync of the store comes after the turn, so that
//! verbs that wait for it do so together.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use vedette_journal::{PublicKey, Signed};

use super::{Result, apply};
use crate::audit::{AuditLog, Change, Entry};
use crate::clock::Clock;
use crate::store::{Store, Write, keys};

/// Entries applied in one batch while catching up; each is below 8 KiB, so a batch is below 2 MiB.
const CATCH_UP_ENTRIES: u64 = 256;

/// Audit journal, store and clock.
pub struct State {
    store: Store,
    log: Mutex<AuditLog>,
    audit_folder: PathBuf,
    /// First audit sequence that is not durable: what readers of the journal may see.
    audited: AtomicU64,
    clock: Clock,
    counts: Counts,
}

/// How much lies in the store, for the limits.
#[derive(Debug, Default)]
pub struct Counts {
    /// Journal records.
    pub records: AtomicU64,
    /// Devices.
    pub devices: AtomicU64,
}

impl State {
    /// Opens the state in `folder` and brings the store up to the audit journal.
    ///
    /// # Errors
    ///
    /// The folder cannot be written, another registry holds it, or the audit journal cannot be read.
    pub fn open(folder: &Path, clock: Clock) -> anyhow::Result<State> {
        std::fs::create_dir_all(folder).with_context(|| {
            format!("couldn't make the state folder {} (`state` in registry.toml)", folder.display())
        })?;
        let audit_folder = folder.join("audit");
        // The journal's lock comes first: it also keeps a second registry away from the store.
        let epoch = clock.now_ms().unsigned_abs();
        let log = AuditLog::open(&audit_folder, epoch)?;
        let (store, found) = Store::open(&folder.join("store"))?;
        let state = State {
            store,
            audited: AtomicU64::new(log.next_sequence()),
            log: Mutex::new(log),
            audit_folder,
            clock,
            counts: Counts { records: AtomicU64::new(found.records), devices: AtomicU64::new(found.devices) },
        };
        let replayed = state.turn().catch_up()?;
        if replayed > 0 {
            tracing::info!(entries = replayed, "the store was behind the audit journal and was brought up to it");
            state.store.sync()?;
        }
        Ok(state)
    }

    /// The store, to read.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How much lies in the store.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Durable audit entries from `from` on, oldest first.
    ///
    /// # Errors
    ///
    /// The journal could not be read.
    pub fn audit(&self, from: u64, limit: usize) -> Result<Vec<(u64, Entry)>> {
        let below = self.audited.load(Ordering::Acquire);
        Ok(crate::audit::list(&self.audit_folder, from, below, limit)?)
    }

    /// A signed checkpoint of all that is in the audit journal, and the key that signed it.
    ///
    /// # Errors
    ///
    /// The disk refused what must be durable before it is signed.
    pub fn checkpoint(&self) -> Result<(PublicKey, Signed)> {
        let mut turn = self.turn();
        Ok((turn.log.key(), turn.log.checkpoint()?))
    }

    /// The folder of the audit journal.
    #[must_use]
    pub fn audit_folder(&self) -> &Path {
        &self.audit_folder
    }

    /// Makes everything durable and ends the audit journal with a checkpoint of all of it. Nothing can be changed behind
    /// this.
    ///
    /// # Errors
    ///
    /// The disk refused.
    pub fn close(&self) -> anyhow::Result<()> {
        let mut turn = self.turn();
        self.store.sync()?;
        turn.log.close()
    }

    /// Waits for the turn to change the state. Nobody else changes it until the turn is dropped.
    pub fn turn(&self) -> Turn<'_> {
        // A verb that panicked left the store behind the journal at worst, and `save` catches up.
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { state: self, log }
    }

    /// Changes the state by one entry, durably.
    ///
    /// # Errors
    ///
    /// The disk refused.
    pub fn change(&self, mut turn: Turn<'_>, by: &str, change: Change) -> Result<()> {
        turn.save(by, vec![change], Write::default())?;
        drop(turn);
        Ok(self.store.sync()?)
    }
}

/// The right to change the state.
pub struct Turn<'a> {
    state: &'a State,
    log: MutexGuard<'a, AuditLog>,
}

impl Turn<'_> {
    /// Saves the changes with their audit entries, and `write` with them. The changes are durable when this returns;
    /// `write` is after [`Store::sync`]. No change, no entry.
    ///
    /// # Errors
    ///
    /// The disk refused.
    pub fn save(&mut self, by: &str, changes: Vec<Change>, mut write: Write) -> Result<()> {
        let at = self.state.clock.now_ms();
        let entries: Vec<Entry> = changes.into_iter().map(|change| Entry { at, by: by.to_owned(), change }).collect();
        self.save_entries(&entries, &mut write)?;
        self.state.store.write(write)?;
        Ok(())
    }

    /// As [`Turn::save`], with entries by several hands.
    ///
    /// # Errors
    ///
    /// The disk refused.
    pub fn save_all(&mut self, entries: &[Entry], mut write: Write) -> Result<()> {
        self.save_entries(entries, &mut write)?;
        self.state.store.write(write)?;
        Ok(())
    }

    fn save_entries(&mut self, entries: &[Entry], write: &mut Write) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.log.settle()?;
        self.catch_up()?;
        self.log.append(entries)?;
        let next = self.log.next_sequence();
        self.state.audited.store(next, Ordering::Release);
        for entry in entries {
            apply::apply(entry, write)?;
        }
        write.set(keys::APPLIED, next.to_be_bytes().to_vec());
        Ok(())
    }

    /// Applies the durable entries that the store does not have. Returns how many there were.
    fn catch_up(&mut self) -> anyhow::Result<u64> {
        let store = &self.state.store;
        let behind = store.get_number(keys::APPLIED).context("couldn't read the store")?.unwrap_or(0);
        let mut write = Write::default();
        let mut applied = behind;
        self.log.replay(behind, |sequence, entry| {
            apply::apply(&entry, &mut write)?;
            applied = sequence + 1;
            write.set(keys::APPLIED, applied.to_be_bytes().to_vec());
            if (applied - behind).is_multiple_of(CATCH_UP_ENTRIES) {
                store.write(std::mem::take(&mut write)).context("couldn't write the store")?;
            }
            Ok(())
        })?;
        if applied > behind {
            store.write(write).context("couldn't write the store")?;
        }
        Ok(applied - behind)
    }
}
