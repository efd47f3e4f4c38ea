//! What goes to the registry: batches, claims, and the messages around them.

use std::time::Duration;

use vedette_protocol::message::{JournalBatch, Message};
use vedette_protocol::topic::{Topic, Up};

use super::super::batch::Asked;
use super::super::history::Read;
use super::super::outbox::{Lane, Wanted};
use super::super::step::Session;
use super::Driver;
use crate::mqtt::{PublishError, Publisher, Retain};

/// Before the journal is asked again for records that it could not give.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// Records of a batch that only asks whether the registry takes something again.
const SMALL_RECORDS: usize = 8;

/// Control records that are sent ahead at once: an acknowledgement names 16 ranges beyond the cursor.
const AHEAD_RECORDS: usize = 16;

/// Bytes of a batch that are left free for a claim: a note of 1 KiB, 130 hashes of 34 bytes, a key, names.
const CLAIM_BYTES: usize = 6 * 1024;

impl Driver {
    /// Sends what the window allows.
    pub(super) async fn send_batches(&mut self, publisher: &Publisher) {
        self.send_ahead(publisher).await;
        while let Some(wanted) = self.session.wanted(self.clock.now()) {
            let read = self.history.read(wanted.lane, self.asked(wanted)).await;
            let now = self.clock.now();
            let Read::Batch(mut batch) = read else {
                self.session.outbox.stalled(wanted.lane, now + READ_AGAIN);
                continue;
            };
            batch.message.late = wanted.lane == Lane::Backlog;
            batch.message.checkpoint = self.session.claims.due(self.session.outbox.sent_below()).cloned();
            if !self.publish(publisher, Up::Journal, Retain::No, &batch.message) {
                return;
            }
            if batch.message.checkpoint.is_some() {
                self.session.claims.sent(now);
            }
            self.session.outbox.sent(wanted.lane, wanted.from, batch.end, batch.message.records.len(), now);
        }
    }

    /// Sends control records that stand behind a burst of live ones, out of their order.
    async fn send_ahead(&mut self, publisher: &Publisher) {
        let now = self.clock.now();
        let Some((from, below)) = self.session.outbox.overtakable(now) else { return };
        let asked = Asked { from, below, committed: below, records_max: AHEAD_RECORDS, reserved_bytes: 0 };
        let Some((batch, looked)) = self.history.control(asked).await else { return };
        let sent = !batch.records.is_empty() && self.publish(publisher, Up::Journal, Retain::No, &batch);
        self.session.outbox.overtook(looked, sent, now);
    }

    fn asked(&self, wanted: Wanted) -> Asked {
        Asked {
            from: wanted.from,
            below: wanted.below,
            committed: *self.committed.borrow(),
            records_max: if wanted.small { SMALL_RECORDS } else { self.config.batch_records as usize },
            reserved_bytes: if self.session.claims.is_ready() { CLAIM_BYTES } else { 0 },
        }
    }

    /// Sends a claim, or the question that comes before it, in a batch without records when no other goes out.
    pub(super) fn send_claim(&mut self, publisher: &Publisher) {
        let Session { outbox, claims, .. } = &self.session;
        if !self.session.connected() || outbox.refused().is_some() || !outbox.is_all_sent() {
            return;
        }
        let claim = claims.due(outbox.sent_below()).cloned();
        if claim.is_none() && !(claims.should_ask() && outbox.is_idle()) {
            return;
        }
        let (acked, is_claim) = (outbox.acked(), claim.is_some());
        let batch = JournalBatch {
            span: Some((acked, acked)),
            checkpoint: claim,
            ..JournalBatch::new(self.device.clone(), self.epoch, Vec::new())
        };
        if self.publish(publisher, Up::Journal, Retain::No, &batch) {
            let now = self.clock.now();
            if is_claim { self.session.claims.sent(now) } else { self.session.claims.asked(now) }
        }
    }

    /// Begins the next proof.
    pub(super) fn prove(&mut self) {
        if self.prover.is_free()
            && let Some((from, _)) = self.session.claims.next_to_prove()
        {
            self.prover.begin(from);
        }
    }

    /// Queues a message; whether it was taken.
    pub(super) fn publish<M: Message>(&mut self, publisher: &Publisher, up: Up, retain: Retain, message: &M) -> bool {
        let bytes = message.encode();
        let topic = Topic::up(&self.device, up).to_string();
        if bytes.len() > M::MAX_BYTES {
            tracing::error!(%topic, bytes = bytes.len(), bytes_max = M::MAX_BYTES, "a message is too long to be sent");
            return false;
        }
        match publisher.publish(&topic, retain, bytes) {
            Ok(()) => {
                self.queue_full = None;
                true
            }
            Err(PublishError::Full) => {
                self.queue_full = self.queue_full.or(Some(self.clock.now()));
                false
            }
            Err(error @ PublishError::TooLong { .. }) => {
                tracing::error!(%topic, %error, "a message is too long to be sent");
                false
            }
        }
    }
}
