//! The recorder's thread: orders in, journal records out.

use std::ops::Range;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vedette_journal::{AppendError, Damage, Journal, Recovery};
use vedette_protocol::cbor;
use vedette_protocol::id::Digest;
use vedette_protocol::record::{Body, PreviousEnd, Record};

use super::opening::{Closed, Opened, Opening};
use super::ring::Ring;
use super::survey::{self, Survey};
use super::{Boot, Ends, Order, RecordError, Report, Setting, Trouble};
use crate::AGENT_VERSION;
use crate::clock::Clock;
use crate::ledger::Ledger;

/// How often a disk that refuses is asked again: with a fresh segment each time, so not more often.
const RETRY: Duration = Duration::from_secs(2);

/// A record that somebody awaits: its sequence, and where to say so.
struct Waiting {
    sequence: u64,
    reply: oneshot::Sender<Result<u64, RecordError>>,
}

pub(super) struct Worker {
    opening: Opening,
    /// `None` while the disk does not let it be opened.
    journal: Option<Journal>,
    /// What is known of it then.
    closed: Closed,
    ring: Ring,
    clock: Clock,
    ends: Ends,
    ledger: Arc<RwLock<Ledger>>,
    waiting: Vec<Waiting>,
    retry_at: Option<Instant>,
    state: Report,
    config: Option<Digest>,
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
        let Setting { device: _, clock, boot, keeping: _ } = setting;
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
        };
        let mut created = false;
        if let Some(journal) = given {
            worker.closed.epoch = journal.epoch();
            worker.begin_on(journal, None);
        } else {
            match worker.opening.open()? {
                Opened::Open(journal, recovery) => {
                    created = recovery.created;
                    worker.closed.epoch = journal.epoch();
                    worker.begin_on(*journal, Some(recovery));
                }
                Opened::Refused(trouble, why) => worker.begin_closed(trouble, &why),
            }
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
            self.publish();
            if closing {
                return self.end();
            }
        }
    }

    /// What can be done while the journal is closed: read it.
    fn begin_closed(&mut self, trouble: Trouble, why: &str) {
        self.closed = self.opening.closed();
        let survey = survey::read(&self.opening.disk, &self.opening.folder, self.closed.epoch, &[]);
        self.learn(survey);
        self.degrade(trouble, why.to_owned());
    }

    /// The journal is open, at the start or later: what recovery found and what its readers meet is journalled, once.
    fn begin_on(&mut self, mut journal: Journal, recovery: Option<Recovery>) {
        let epoch = journal.epoch();
        let survey = survey::read(&self.opening.disk, &self.opening.folder, epoch, &journal.segment_list());
        let damaged = recovery.iter().flat_map(damage).chain(survey.gaps.iter().cloned());
        let mut gaps: Vec<(Range<u64>, &str)> = Vec::new();
        for gap in damaged.filter(|gap| !survey.names(gap)) {
            if !gaps.iter().any(|(known, _)| *known == gap) {
                gaps.push((gap, "the disk does not hold what was written"));
            }
        }
        // The registry has records of this journal that are not here any more: their sequences are not given again.
        let (recovered, acknowledged) = (journal.next_sequence(), self.opening.acknowledged(epoch));
        if acknowledged > recovered {
            gaps.push((recovered..acknowledged, "the registry has them, and the disk has lost them"));
            if let Err(error) = journal.skip_to(acknowledged) {
                self.degrade(Trouble::of_commit(&error), error.to_string());
            }
        }
        self.learn(survey);
        self.journal = Some(journal);
        for (gap, reason) in gaps {
            self.take_first(Body::Gap { from: gap.start, to: gap.end, reason: reason.to_owned() });
        }
    }

    fn learn(&mut self, survey: Survey) {
        self.config = survey.config;
        *self.ledger.write().unwrap_or_else(PoisonError::into_inner) = survey.ledger;
    }

    /// Journals this start, and the configuration if it is another one than before.
    fn tell_of_boot(&mut self, boot: Boot, created: bool) {
        let previous = match (created, boot.previous_was_clean) {
            (true, _) => PreviousEnd::First,
            (false, true) => PreviousEnd::Clean,
            (false, false) => PreviousEnd::Unclean,
        };
        self.take(Body::Boot { agent_version: AGENT_VERSION.to_owned(), previous });
        if self.config != Some(boot.config) {
            self.take(Body::Config { digest: boot.config });
            self.config = Some(boot.config);
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
        self.retry_at.or_else(|| self.journal.as_ref()?.next_commit_at())
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
    fn take(&mut self, body: Body) -> Option<u64> {
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
    fn take_first(&mut self, body: Body) {
        let record = Record { stamp: self.clock.stamp(), body };
        if let Err(NotNow::Waits) = self.append(&record) {
            self.state.lost += self.ring.push(record);
        }
    }

    fn append(&mut self, record: &Record) -> Result<u64, NotNow> {
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

    fn open_again(&mut self, now: Instant) -> bool {
        match self.opening.open() {
            Ok(Opened::Open(journal, recovery)) if journal.epoch() == self.closed.epoch => {
                self.begin_on(*journal, Some(recovery));
                true
            }
            Ok(Opened::Open(..)) => {
                self.fail(now, Trouble::Failing, "the journal became readable only now and has another epoch than was believed at the start: restart the agent".to_owned());
                false
            }
            Ok(Opened::Refused(trouble, why)) => {
                self.fail(now, trouble, why);
                false
            }
            Err(error) => {
                self.fail(now, Trouble::Failing, error.to_string());
                false
            }
        }
    }

    fn commit(&mut self, now: Instant) {
        let Some(journal) = &mut self.journal else { return };
        match journal.commit() {
            Ok(committed) => {
                if self.retry_at.take().is_some() {
                    tracing::info!(
                        waited = self.state.held,
                        lost = self.state.lost,
                        "the journal can be written again"
                    );
                }
                (self.state.trouble, self.state.degraded) = (None, None);
                for waiting in self.waiting.drain(..) {
                    answer(waiting.reply, Ok(waiting.sequence));
                }
                self.ends.committed.send_if_modified(|known| std::mem::replace(known, committed) != committed);
                self.take_from_ring();
            }
            Err(error) => {
                self.fail(now, Trouble::of_commit(&error), error.to_string());
                self.refuse_waiting();
            }
        }
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
    fn fail(&mut self, now: Instant, trouble: Trouble, why: String) {
        self.degrade(trouble, why);
        self.retry_at = Some(now + RETRY);
    }

    fn degrade(&mut self, trouble: Trouble, why: String) {
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

    /// The last words.
    fn end(self) {
        if self.state.held > 0 {
            tracing::error!(
                records = self.state.held,
                why = self.state.degraded.unwrap_or_default(),
                "the agent ends while the disk refuses: what waited in memory is lost"
            );
        }
    }
}

/// Why a record has no sequence.
enum NotNow {
    /// There is no journal to take it, or no room in its group.
    Waits,
    /// It is lost, and counted.
    Never,
}

/// The ranges of sequences that recovery found damaged.
fn damage(recovery: &Recovery) -> impl Iterator<Item = Range<u64>> + '_ {
    if recovery.cut_bytes > 0 {
        tracing::warn!(bytes = recovery.cut_bytes, "the journal ended in an unfinished write, which was cut");
    }
    recovery.damage.iter().filter_map(|damage| match damage {
        Damage::Records { from, to, .. } => Some(*from..*to),
        // Nothing of the log itself is lost, or it is not known what.
        other => {
            tracing::error!(damage = ?other, "the journal is damaged");
            None
        }
    })
}

/// Answers somebody who may have gone.
fn answer(reply: oneshot::Sender<Result<u64, RecordError>>, result: Result<u64, RecordError>) {
    if reply.send(result).is_err() {
        tracing::debug!("whoever awaited a record has gone");
    }
}
