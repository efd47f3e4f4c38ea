//! What the recorder does beside writing, now and then on its own thread: sign checkpoints, note how far the registry is,
//! remove what may not be kept, mind the ballast.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use vedette_journal::{CommitError, PruneError, Reader};
use vedette_protocol::cbor;
use vedette_protocol::record::{Body, Class, Dropped, Record};

use super::begin::LOST_AFTER_ACK;
use super::keeper::{Pace, View};
use super::survey::{class_of, footprint};
use super::trouble::Trouble;
use super::worker::Worker;
use crate::retention::{Action, CLASSES, Held, Limits, Moment, Step};

/// The registry's position is journalled when it has moved by this many records, or ..
const ACK_RECORDS: u64 = 4096;

/// .. after this time, if it has moved by more than the ack record itself: 144 small records a day at the most.
const ACK_INTERVAL: Duration = Duration::from_secs(600);

/// Segments that one turn of the chores thins or removes, so that records do not wait long.
const STEPS_A_TURN: usize = 2;

/// Segments that go at once when a commit found no room.
const STEPS_WHEN_FULL: usize = 8;

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Prune(#[from] PruneError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::Prune(error) => Trouble::of(&error.source) == Trouble::Full,
            Self::Commit(error) => Trouble::of_commit(error) == Trouble::Full,
            Self::Other(_) => false,
        }
    }
}

impl Worker {
    /// Does what is due.
    pub(super) fn chores(&mut self, now: Instant) {
        let Some(keeper) = &self.keeper else { return };
        if now < keeper.due_at || self.journal.is_none() {
            return;
        }
        let (limits, stuck) = (keeper.limits(), keeper.is_stuck(now));
        self.follow_registry();
        let mut taken = 0;
        if self.state.trouble.is_none() {
            self.note_ack(now, false);
            self.sign(now, false);
            if !stuck {
                taken = self.keep_within(&limits, STEPS_A_TURN, now);
            }
        }
        let committed = self.state.committed;
        let busy = std::mem::replace(&mut self.seen_by_chores, committed) != committed;
        if let Some(keeper) = &mut self.keeper {
            if self.state.trouble.is_none() && taken < STEPS_A_TURN {
                keeper.mind_ballast();
            }
            keeper.rest(
                now,
                if taken == STEPS_A_TURN {
                    Pace::Unfinished
                } else if busy {
                    Pace::Busy
                } else {
                    Pace::Idle
                },
            );
        }
    }

    /// The last chores of a life.
    pub(super) fn last_chores(&mut self, now: Instant) {
        self.note_ack(now, true);
        self.commit(now);
        self.sign(now, true);
    }

    /// A commit found no room: what the agent keeps for that is given up. Whether there may be room now.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        let Some(keeper) = &self.keeper else { return false };
        let given_up = match keeper.ballast.give_up() {
            Ok(given_up) => given_up,
            Err(error) => {
                tracing::warn!(%error, "couldn't give up the ballast");
                false
            }
        };
        if given_up {
            tracing::warn!("the disk is full: the ballast was given up");
        }
        let limits = keeper.limits_when_full();
        let taken = self.keep_within(&limits, STEPS_WHEN_FULL, now);
        given_up || taken > 0
    }

    /// How far the registry has the journal, by its last word or what was stored of it.
    pub(super) fn acknowledged(&self) -> u64 {
        self.ends.acknowledged.borrow().upto.max(self.acknowledged_before)
    }

    /// It has records that this journal never had (the disk lost them and the stored position): their sequences are not
    /// given again.
    fn follow_registry(&mut self) {
        let acknowledged = self.acknowledged();
        let Some(journal) = &mut self.journal else { return };
        let from = journal.next_sequence();
        if acknowledged <= from {
            return;
        }
        match journal.skip_to(acknowledged) {
            Ok(()) => {
                self.take(Body::Gap { from, to: acknowledged, reason: LOST_AFTER_ACK.to_owned() });
            }
            Err(error) => tracing::error!(%error, "couldn't leave out the sequences that the registry has seen"),
        }
    }

    fn note_ack(&mut self, now: Instant, at_the_end: bool) {
        let upto = self.acknowledged();
        let Some(keeper) = &self.keeper else { return };
        let (noted, sequence, at) = keeper.ack;
        let by_time = at_the_end || now.saturating_duration_since(at) >= ACK_INTERVAL;
        // Its own acknowledgement is no news.
        let news = upto > noted && (noted == 0 || upto > sequence + 1);
        if !(news && (by_time || upto - noted >= ACK_RECORDS)) {
            return;
        }
        let taken = self.take(Body::Ack { epoch: self.epoch(), upto });
        if let (Some(sequence), Some(keeper)) = (taken, &mut self.keeper) {
            keeper.ack = (upto, sequence, now);
        }
    }

    fn sign(&mut self, now: Instant, at_the_end: bool) {
        let (Some(signer), Some(journal)) = (&mut self.signer, &mut self.journal) else { return };
        if let Err(error) = signer.sign(journal, now, at_the_end) {
            self.fail(now, Trouble::of_commit(&error), error.to_string());
        } else {
            self.committed();
        }
    }

    /// Takes up to `steps_max` steps towards `limits`; how many it took.
    fn keep_within(&mut self, limits: &Limits, steps_max: usize, now: Instant) -> usize {
        for taken in 0..steps_max {
            let view = self.view();
            let Some(keeper) = &self.keeper else { return taken };
            // A quota is used up although the file system is not full.
            let quota = self.state.trouble == Some(Trouble::Full) && taken == 0;
            let free_bytes = if quota { Some(0) } else { keeper.free_bytes() };
            let Some(step) = keeper.next(limits, free_bytes, view) else { return taken };
            let Err(error) = self.step(&step, view.acknowledged) else { continue };
            // Thinning needs room for its copy; to remove a whole segment needs none.
            let full = error.is_for_want_of_room();
            if full && self.spare_oldest(view) {
                continue;
            }
            tracing::error!(%error, "couldn't make the journal smaller");
            if let Some(keeper) = &mut self.keeper {
                keeper.stuck(now, full);
            }
            return taken;
        }
        steps_max
    }

    fn view(&self) -> View {
        let stamp = self.clock.stamp();
        View {
            acknowledged: self.acknowledged(),
            proven: self.ends.acknowledged.borrow().checkpoint,
            now: Moment { boot: stamp.boot, monotonic_ns: stamp.monotonic_ns },
        }
    }

    /// Removes the oldest segment, if the registry has all of it.
    fn spare_oldest(&mut self, view: View) -> bool {
        let oldest = self.keeper.as_ref().and_then(|keeper| keeper.oldest_to_spare(view));
        oldest.is_some_and(|index| self.remove(index).is_ok())
    }

    fn step(&mut self, step: &Step, acknowledged: u64) -> Result<(), Failure> {
        tracing::info!(action = ?step.action, reason = ?step.reason, unacknowledged = step.unacknowledged, "the journal is made smaller");
        match step.action {
            Action::Remove { index } => self.remove(index),
            Action::Thin { index, class, below } => {
                if step.unacknowledged {
                    self.count_lost(index, class, acknowledged)?;
                }
                self.thin(index, class, below)
            }
        }
    }

    /// Removes the oldest segment.
    fn remove(&mut self, index: u32) -> Result<(), Failure> {
        let Some(below) = self.account(index).map(|account| account.next) else { return Ok(()) };
        self.carry_swaps(below)?;
        let (Some(journal), Some(keeper)) = (&mut self.journal, &mut self.keeper) else { return Ok(()) };
        journal.prune_below(below)?;
        keeper.accounts.retain(|account| account.index != index);
        if journal.segments() > keeper.accounts.len() {
            return Err(Failure::Other(format!("segment {index} could not be told from the one behind it")));
        }
        Ok(())
    }

    /// Removes a class's records below a sequence from a segment.
    fn thin(&mut self, index: u32, class: Class, below: u64) -> Result<(), Failure> {
        if class == Class::Control {
            self.carry_swaps(below)?;
        }
        let (Some(journal), Some(keeper)) = (&mut self.journal, &mut self.keeper) else { return Ok(()) };
        let mut held = [Held::default(); CLASSES];
        let thinned = journal.thin(index, &mut |entry| {
            let of = class_of(entry.kind);
            let keep = of != class || entry.sequence >= below;
            if keep {
                held[of as usize].add(entry.sequence, footprint(entry.payload.len()));
            }
            keep
        })?;
        // One whose header is lost cannot be thinned: it is overhead from now on, and goes as a whole.
        if let Some(account) = keeper.accounts.iter_mut().find(|account| account.index == index) {
            account.held = held;
            account.file_bytes = account.file_bytes.saturating_sub(thinned.freed_bytes);
        }
        Ok(())
    }

    /// Journals, durably, what a segment loses that the registry does not have.
    fn count_lost(&mut self, index: u32, class: Class, acknowledged: u64) -> Result<(), Failure> {
        let (Some(account), Some(keeper)) = (self.account(index), &self.keeper) else { return Ok(()) };
        let from = account.first.max(acknowledged).max(keeper.dropped_below[class as usize]);
        let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
        let disk = Arc::clone(&self.opening.disk);
        let mut reader = Reader::open_on(disk, &self.opening.folder, from).map_err(|e| other(&e))?;
        let mut lost: Option<Dropped> = None;
        while let Some(entry) = reader.next_below(account.next).map_err(|e| other(&e))? {
            if class_of(entry.kind) == class && entry.sequence >= from {
                count(&mut lost, class, entry.sequence, &entry.payload);
            }
        }
        let Some(lost) = lost else { return Ok(()) };
        let below = lost.last_row + 1;
        let record = Record { stamp: self.clock.stamp(), body: Body::Drop(lost) };
        self.append(&record).map_err(|_| Failure::Other("there is no room for the drop record".to_owned()))?;
        self.commit_now()?;
        if let Some(keeper) = &mut self.keeper {
            keeper.dropped_below[class as usize] = below;
        }
        Ok(())
    }

    /// A stream's newest swap record must not go: row numbers would begin again. It is said once more.
    fn carry_swaps(&mut self, below: u64) -> Result<(), Failure> {
        let swaps = self.ledger.read().unwrap_or_else(PoisonError::into_inner).resting_below(below);
        if swaps.is_empty() {
            return Ok(());
        }
        for swap in swaps {
            let record = Record { stamp: self.clock.stamp(), body: Body::Swap(swap) };
            self.append(&record).map_err(|_| Failure::Other("there is no room to carry the swaps on".to_owned()))?;
        }
        self.commit_now()
    }

    fn commit_now(&mut self) -> Result<(), Failure> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.commit()?;
        self.committed();
        Ok(())
    }

    fn account(&self, index: u32) -> Option<crate::retention::Account> {
        self.keeper.as_ref()?.accounts.iter().find(|account| account.index == index).cloned()
    }
}

fn count(lost: &mut Option<Dropped>, class: Class, sequence: u64, payload: &[u8]) {
    let score = match cbor::from_canonical::<Record>(payload) {
        Ok(Record { body: Body::Anomaly(anomaly), .. }) => Some(anomaly.score),
        Ok(_) | Err(_) => None,
    };
    let lost = lost.get_or_insert(Dropped {
        stream: None,
        class: class.dropped(),
        first_row: sequence,
        last_row: sequence,
        count: 0,
        max: None,
    });
    lost.last_row = sequence;
    lost.count += 1;
    if score.is_some_and(|score| lost.max.is_none_or(|max| score > max)) {
        lost.max = score;
    }
}
