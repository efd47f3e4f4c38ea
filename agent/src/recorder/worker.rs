//! The recorder's thread: orders in, journal records out.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use vedette_journal::{AppendError, Journal};
use vedette_protocol::cbor;
use vedette_protocol::record::{Body, Record};

use super::{HELD_RECORDS_MAX, Order, RecordError, Report};
use crate::clock::Clock;
use crate::ledger::Ledger;

/// How often a refused commit is tried again: a fresh segment each time, so not more often.
const RETRY: Duration = Duration::from_secs(2);

/// A record that somebody awaits: its sequence, and where to say so.
struct Waiting {
    sequence: u64,
    reply: oneshot::Sender<Result<u64, RecordError>>,
}

pub(super) struct Worker {
    journal: Journal,
    clock: Clock,
    inbox: Receiver<Order>,
    ledger: Arc<RwLock<Ledger>>,
    waiting: Vec<Waiting>,
    held: VecDeque<Record>,
    retry_at: Option<Instant>,
    state: Report,
    committed: watch::Sender<u64>,
    report: watch::Sender<Report>,
}

/// What came of waiting for orders.
enum Turn {
    Orders,
    Close,
}

impl Worker {
    pub(super) fn new(
        journal: Journal,
        clock: Clock,
        inbox: Receiver<Order>,
        ledger: Arc<RwLock<Ledger>>,
        committed: watch::Sender<u64>,
        report: watch::Sender<Report>,
    ) -> Self {
        Self {
            journal,
            clock,
            inbox,
            ledger,
            waiting: Vec::new(),
            held: VecDeque::new(),
            retry_at: None,
            state: Report::default(),
            committed,
            report,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let turn = self.turn();
            let now = self.clock.now();
            let may_write = self.retry_at.is_none_or(|at| now >= at);
            let closing = matches!(turn, Turn::Close);
            if closing
                || (may_write && (!self.waiting.is_empty() || self.journal.commit_due(now) || self.retry_at.is_some()))
            {
                self.commit(now);
            } else if !may_write {
                self.refuse_waiting();
            }
            self.publish();
            if closing {
                return;
            }
        }
    }

    /// Waits for an order, but not beyond the next commit; takes what else waits, until the group is due.
    fn turn(&mut self) -> Turn {
        let first = match self.deadline() {
            None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.inbox.recv_timeout(at.saturating_duration_since(self.clock.now())),
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
            next = if self.journal.commit_due(self.clock.now()) { None } else { self.inbox.try_recv().ok() };
        }
        Turn::Orders
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry_at.or_else(|| self.journal.next_commit_at())
    }

    fn take_awaited(&mut self, body: Body, reply: oneshot::Sender<Result<u64, RecordError>>) {
        match self.take(body) {
            Some(sequence) => self.waiting.push(Waiting { sequence, reply }),
            None => answer(reply, Err(RecordError::Disk(self.state.degraded.clone().unwrap_or_default()))),
        }
    }

    /// Appends a record to the group, behind those that are held; gives its sequence if it got one now.
    fn take(&mut self, body: Body) -> Option<u64> {
        let record = Record { stamp: self.clock.stamp(), body };
        if self.held.is_empty() {
            match self.append(&record) {
                Ok(sequence) => return Some(sequence),
                Err(AppendError::Full { waiting }) => self.degrade(format!("{waiting} records wait for the disk")),
                Err(error) => return self.lose(&error),
            }
        }
        if self.held.len() < HELD_RECORDS_MAX {
            self.held.push_back(record);
        } else {
            self.state.lost += 1;
        }
        None
    }

    /// A record that can never be written (too long).
    fn lose(&mut self, error: &AppendError) -> Option<u64> {
        tracing::error!(error = %error, "a record is lost");
        self.state.lost += 1;
        None
    }

    fn append(&mut self, record: &Record) -> Result<u64, AppendError> {
        let kind = record.body.kind();
        let sequence = self.journal.append(kind as u8, &cbor::to_canonical(record))?;
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

    fn commit(&mut self, now: Instant) {
        match self.journal.commit() {
            Ok(committed) => {
                if self.retry_at.take().is_some() {
                    tracing::info!(held = self.held.len(), lost = self.state.lost, "the journal can be written again");
                }
                self.state.degraded = None;
                for waiting in self.waiting.drain(..) {
                    answer(waiting.reply, Ok(waiting.sequence));
                }
                self.committed.send_if_modified(|known| std::mem::replace(known, committed) != committed);
                self.take_held();
            }
            Err(error) => {
                self.degrade(error.to_string());
                self.retry_at = Some(now + RETRY);
                self.refuse_waiting();
            }
        }
    }

    /// After a successful commit: what was held goes into the group, in its order.
    fn take_held(&mut self) {
        while let Some(record) = self.held.pop_front() {
            match self.append(&record) {
                Ok(_) => {}
                Err(AppendError::Full { .. }) => return self.held.push_front(record),
                Err(error) => drop(self.lose(&error)),
            }
        }
    }

    fn refuse_waiting(&mut self) {
        let why = self.state.degraded.clone().unwrap_or_default();
        for waiting in self.waiting.drain(..) {
            answer(waiting.reply, Err(RecordError::Disk(why.clone())));
        }
    }

    fn degrade(&mut self, error: String) {
        if self.state.degraded.is_none() {
            tracing::error!(error = %error, "couldn't write the journal; scoring goes on, findings wait in memory");
        }
        self.state.degraded = Some(error);
        self.retry_at.get_or_insert(self.clock.now() + RETRY);
    }

    fn publish(&mut self) {
        self.state.next_sequence = self.journal.next_sequence();
        self.state.committed = self.journal.committed();
        self.state.held = self.held.len() as u64;
        let state = &self.state;
        self.report.send_if_modified(|known| {
            let changed = known != state;
            if changed {
                known.clone_from(state);
            }
            changed
        });
    }
}

/// Answers somebody who may have gone.
fn answer(reply: oneshot::Sender<Result<u64, RecordError>>, result: Result<u64, RecordError>) {
    if reply.send(result).is_err() {
        tracing::debug!("whoever awaited a record has gone");
    }
}
