//! The recorder's thread: orders in, journal records out.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vedette_journal::{AppendError, CommitError, Journal};
use vedette_protocol::cbor;
use vedette_protocol::id::Digest;
use vedette_protocol::record::{Body, Record};

use super::keeper::{Keeper, Pace};
use super::opening::{Closed, Opened, Opening};
use super::ring::Ring;
use super::signer::Signer;
use super::survey::footprint;
use super::{Ends, Order, RecordError, Report, Setting, Trouble};
use crate::clock::Clock;
use crate::ledger::Ledger;

/// How often a disk that refuses is asked again: with a fresh segment each time, so not more often.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// A record that somebody awaits: its sequence, and where to say so.
struct Waiting {
    sequence: u64,
    reply: oneshot::Sender<Result<u64, RecordError>>,
}

pub(super) struct Worker {
    pub(super) opening: Opening,
    /// `None` while the disk does not let it be opened.
    pub(super) journal: Option<Journal>,
    /// What is known of it then.
    pub(super) closed: Closed,
    pub(super) ring: Ring,
    pub(super) clock: Clock,
    pub(super) ends: Ends,
    pub(super) ledger: Arc<RwLock<Ledger>>,
    waiting: Vec<Waiting>,
    pub(super) retry_at: Option<Instant>,
    pub(super) state: Report,
    pub(super) config: Option<Digest>,
    /// `None`: everything stays.
    pub(super) keeper: Option<Keeper>,
    /// `None`: nothing is signed.
    pub(super) signer: Option<Signer>,
    /// How far the registry had the journal when this life began.
    pub(super) acknowledged_before: u64,
    pub(super) seen_by_chores: u64,
}

/// What came of waiting for orders.
enum Turn {
    Orders,
    Close,
}

impl Worker {
    /// Opens the journal, unless it is given, and reads what it says; begins in memory when the disk refuses.
    ///
    /// # Errors
    /// What will not mend itself.
    pub(super) fn open(
        opening: Opening,
        given: Option<Journal>,
        setting: Setting,
        ends: Ends,
        ledger: Arc<RwLock<Ledger>>,
    ) -> anyhow::Result<Self> {
        let Setting { device, clock, boot, keeping } = setting;
        let now = clock.now();
        let segment_bytes = opening.options.segment_bytes;
        let folder = opening.folder.clone();
        let mut worker = Self {
            opening,
            journal: None,
            closed: Closed::default(),
            ring: Ring::default(),
            clock,
            ends,
            ledger,
            waiting: Vec::new(),
            retry_at: None,
            state: Report::default(),
            config: None,
            keeper: keeping.clone().map(|keeping| Keeper::new(keeping, folder, segment_bytes, now)),
            signer: None,
            acknowledged_before: 0,
            seen_by_chores: 0,
        };
        let mut created = false;
        if let Some(journal) = given {
            worker.closed.epoch = journal.epoch();
            worker.begin_on(journal, None);
        } else {
            match worker.open_with_ballast()? {
                Opened::Open(journal, recovery) => {
                    created = recovery.created;
                    worker.closed.epoch = journal.epoch();
                    worker.begin_on(*journal, Some(recovery));
                }
                Opened::Refused(trouble, why) => worker.begin_closed(trouble, &why),
            }
        }
        if let Some(keeping) = keeping {
            let when = (keeping.checkpoint_records, keeping.checkpoint_interval);
            let (file, ends) = (keeping.state.log_key(), worker.ends.signer.clone());
            worker.signer = Some(Signer::new(file, &device, worker.epoch(), when, ends, now));
        }
        if let Some(boot) = boot {
            worker.tell_of_boot(boot, created);
        }
        worker.publish();
        Ok(worker)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.closed.epoch
    }

    pub(super) fn run(mut self) {
        loop {
            let turn = self.turn();
            let now = self.clock.now();
            let closing = matches!(turn, Turn::Close);
            if closing || self.retry_at.is_none_or(|at| now >= at) {
                self.write(now, closing);
            } else {
                self.refuse_waiting();
            }
            if !closing {
                self.chores(now);
            }
            self.publish();
            if closing {
                return self.end(now);
            }
        }
    }

    /// Waits for an order, but not beyond the next commit; takes what else waits, until the group is due.
    fn turn(&mut self) -> Turn {
        let first = match self.deadline() {
            None => self.ends.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.ends.inbox.recv_timeout(at.saturating_duration_since(self.clock.now())),
        };
        let mut next = match first {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => return Turn::Orders,
            Err(RecvTimeoutError::Disconnected) => return Turn::Close,
        };
        while let Some(order) = next {
            match order {
                Order::Finding(body) => {
                    self.take(*body);
                }
                Order::Append(body, reply) => self.take_awaited(*body, reply),
                Order::Close => return Turn::Close,
            }
            next = if self.is_due() { None } else { self.ends.inbox.try_recv().ok() };
        }
        Turn::Orders
    }

    fn deadline(&self) -> Option<Instant> {
        let write_at = self.retry_at.or_else(|| self.journal.as_ref()?.next_commit_at());
        let chores_at = self.keeper.as_ref().map(|keeper| keeper.due_at).filter(|_| self.journal.is_some());
        [write_at, chores_at].into_iter().flatten().min()
    }

    /// Whether the disk should be written to now. While it refuses, orders are taken until it is asked again.
    fn is_due(&self) -> bool {
        let now = self.clock.now();
        match self.retry_at {
            Some(at) => now >= at,
            None => self.journal.as_ref().is_some_and(|journal| journal.commit_due(now)),
        }
    }

    fn take_awaited(&mut self, body: Body, reply: oneshot::Sender<Result<u64, RecordError>>) {
        match self.take(body) {
            Some(sequence) if self.state.trouble.is_none() => self.waiting.push(Waiting { sequence, reply }),
            Some(_) | None => answer(reply, Err(RecordError::Disk(self.state.degraded.clone().unwrap_or_default()))),
        }
    }

    /// Appends a record to the group, behind those that wait; gives its sequence if it got one now.
    pub(super) fn take(&mut self, body: Body) -> Option<u64> {
        let record = Record { stamp: self.clock.stamp(), body };
        if self.ring.is_empty() {
            match self.append(&record) {
                Ok(sequence) => return Some(sequence),
                Err(NotNow::Waits) => {}
                Err(NotNow::Never) => return None,
            }
        }
        self.state.lost += self.ring.push(record);
        None
    }

    /// Appends a record before those that wait: the journal has just been opened, so there is room.
    pub(super) fn take_first(&mut self, body: Body) {
        let record = Record { stamp: self.clock.stamp(), body };
        if let Err(NotNow::Waits) = self.append(&record) {
            self.state.lost += self.ring.push(record);
        }
    }

    pub(super) fn append(&mut self, record: &Record) -> Result<u64, NotNow> {
        let Some(journal) = &mut self.journal else { return Err(NotNow::Waits) };
        let kind = record.body.kind();
        let payload = cbor::to_canonical(record);
        let sequence = match journal.append(kind as u8, &payload) {
            Ok(sequence) => sequence,
            Err(AppendError::Full { .. }) => return Err(NotNow::Waits),
            Err(error) => {
                tracing::error!(%error, "a record can never be written and is lost");
                self.state.lost += 1;
                return Err(NotNow::Never);
            }
        };
        if let Some(keeper) = &mut self.keeper {
            keeper.appended(sequence, kind.class(), footprint(payload.len()), &record.stamp);
        }
        match &record.body {
            Body::Swap(swap) => {
                let mut ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
                ledger.note(sequence, record.stamp.wall_ms, swap);
            }
            Body::Anomaly(_) => self.state.anomalies += 1,
            Body::Boot { .. }
            | Body::Gap { .. }
            | Body::Clock { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Verdict { .. }
            | Body::Ack { .. }
            | Body::Deploy(_) => {}
        }
        Ok(sequence)
    }

    /// Opens the journal if it is closed, and commits what is due.
    fn write(&mut self, now: Instant, closing: bool) {
        if self.journal.is_none() && !self.open_again(now) {
            return self.refuse_waiting();
        }
        let due = self.journal.as_ref().is_some_and(|journal| journal.commit_due(now));
        if closing || due || !self.waiting.is_empty() || self.retry_at.is_some() {
            self.commit(now);
        }
        // Whatever waited in memory went into a group of its own; at the end nobody comes back for it.
        if closing && self.retry_at.is_none() {
            self.commit(now);
        }
    }

    pub(super) fn commit(&mut self, now: Instant) {
        let Some(journal) = &mut self.journal else { return };
        let mut outcome = journal.commit();
        if let Err(CommitError::NoSpace { .. }) = outcome
            && self.make_room(now)
            && let Some(journal) = &mut self.journal
        {
            outcome = journal.commit();
        }
        match outcome {
            Ok(_) => {
                if self.retry_at.take().is_some() {
                    self.keeper.iter_mut().for_each(|keeper| keeper.rest(now, Pace::Unfinished));
                    tracing::info!(
                        waited = self.state.held,
                        lost = self.state.lost,
                        "the journal can be written again"
                    );
                }
                (self.state.trouble, self.state.degraded) = (None, None);
                self.committed();
                self.take_from_ring();
            }
            Err(error) => {
                self.fail(now, Trouble::of_commit(&error), error.to_string());
                self.refuse_waiting();
            }
        }
    }

    /// What was appended is on the disk: whoever waits for that is told.
    pub(super) fn committed(&mut self) {
        let Some(journal) = &self.journal else { return };
        let committed = journal.committed();
        if let Some(keeper) = &mut self.keeper {
            keeper.settle(journal);
        }
        for waiting in self.waiting.extract_if(.., |waiting| waiting.sequence < committed) {
            answer(waiting.reply, Ok(waiting.sequence));
        }
        self.ends.committed.send_if_modified(|known| std::mem::replace(known, committed) != committed);
    }

    /// After a successful commit: what waited goes into the group, in its order, and then the account of what was lost.
    fn take_from_ring(&mut self) {
        while let Some(record) = self.ring.pop() {
            if let Err(NotNow::Waits) = self.append(&record) {
                return self.ring.put_back(record);
            }
        }
        while let Some(journal) = &self.journal
            && let Some(dropped) = self.ring.pop_dropped(journal.next_sequence())
        {
            let record = Record { stamp: self.clock.stamp(), body: Body::Drop(dropped) };
            if let Err(NotNow::Waits) = self.append(&record)
                && let Body::Drop(dropped) = record.body
            {
                return self.ring.put_back_dropped(dropped);
            }
        }
    }

    fn refuse_waiting(&mut self) {
        let why = self.state.degraded.clone().unwrap_or_default();
        for waiting in self.waiting.drain(..) {
            answer(waiting.reply, Err(RecordError::Disk(why.clone())));
        }
    }

    /// The disk refuses; it is asked again later.
    pub(super) fn fail(&mut self, now: Instant, trouble: Trouble, why: String) {
        self.degrade(trouble, why);
        self.retry_at = Some(now + RETRY);
    }

    pub(super) fn degrade(&mut self, trouble: Trouble, why: String) {
        if self.state.trouble != Some(trouble) {
            tracing::error!(%trouble, why, "couldn't write the journal; scoring goes on, records wait in memory");
        }
        (self.state.trouble, self.state.degraded) = (Some(trouble), Some(format!("{trouble}: {why}")));
        self.retry_at.get_or_insert(self.clock.now() + RETRY);
    }

    fn publish(&mut self) {
        let (next_sequence, committed) = match &self.journal {
            Some(journal) => (journal.next_sequence(), journal.committed()),
            None => (self.closed.next_sequence, self.closed.committed),
        };
        self.state.next_sequence = next_sequence;
        self.state.committed = committed;
        let in_group =
            if self.state.trouble.is_some() && self.journal.is_some() { next_sequence - committed } else { 0 };
        self.state.held = self.ring.len() as u64 + in_group;
        if let Some(keeper) = &self.keeper {
            self.state.usage = keeper.usage();
            self.state.journal_bytes = keeper.file_bytes();
        }
        self.state.checkpoint = self.signer.as_ref().and_then(Signer::signed);
        self.ends.committed.send_if_modified(|known| std::mem::replace(known, committed) != committed);
        let state = &self.state;
        self.ends.report.send_if_modified(|known| {
            let changed = known != state;
            if changed {
                known.clone_from(state);
            }
            changed
        });
    }

    /// The last words: everything is on the disk and signed, or it is said what is not.
    fn end(mut self, now: Instant) {
        if self.state.trouble.is_none() && self.journal.is_some() {
            self.last_chores(now);
        }
        self.publish();
        if self.state.trouble.is_some() {
            tracing::error!(
                records = self.state.held,
                why = self.state.degraded.unwrap_or_default(),
                "the agent ends while the disk refuses: what waited in memory is lost"
            );
            return;
        }
        if let Some(Err(error)) = self.journal.take().map(Journal::close) {
            tracing::error!(%error, "couldn't close the journal; all of it is on the disk");
        }
    }
}

/// Why a record has no sequence.
pub(super) enum NotNow {
    /// There is no journal to take it, or no room in its group.
    Waits,
    /// It is lost, and counted.
    Never,
}

/// Answers somebody who may have gone.
fn answer(reply: oneshot::Sender<Result<u64, RecordError>>, result: Result<u64, RecordError>) {
    if reply.send(result).is_err() {
        tracing::debug!("whoever awaited a record has gone");
    }
}
