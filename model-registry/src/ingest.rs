//! What devices say, taken in: topics parsed, payloads decoded within limits, records stored, answers sent.
//!
//! Constraints. Whatever comes in may be garbage, a lie about the sender, or a repetition; none of that may end anything.
//! A journal batch counts as received only when its records are durable, and only then is [`BatchAck`] published; the
//! PUBACK of MQTT says nothing. So nothing is lost when we, the broker or the way between dies: the device sends again.
//!
//! Group commit. While one group is being made durable the next gathers in the inbox; a group takes what waits, at
//! most `GROUP_MESSAGES_MAX`. Under load one sync of the disk serves many devices, alone a batch waits for nobody.
//!
//! Answers that find no room on the way out are dropped and counted: an acknowledgement comes again with the next batch,
//! a chunk is asked for again.

pub mod chunks;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vedette_protocol::{
    id::DeviceId,
    message::{ArtifactRequest, BatchAck, Birth, JournalBatch, Message as _, Status},
    topic::{Direction, Down, Topic, Up},
};

use crate::{
    mqtt::{Message, Outbox},
    registry::{Batch, Ingested, Registry},
};

/// Messages made durable together: 64 × 64 KiB = 4 MiB at most, a few milliseconds of disk.
const GROUP_MESSAGES_MAX: usize = 64;

/// Devices about which a complaint has been logged. Full: further ones are only counted.
const TOLD_DEVICES_MAX: usize = 1_024;

/// What has come in since the start. Counts only; read without order between them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Journal batches stored.
    pub batches: AtomicU64,
    /// Records that were new.
    pub records: AtomicU64,
    /// Records that had come before.
    pub duplicates: AtomicU64,
    /// Records whose id was taken by other bytes, of devices that were released from quarantine; the first stay.
    pub conflicts: AtomicU64,
    /// Batches of devices in quarantine, not taken.
    pub quarantined: AtomicU64,
    /// Messages thrown away: unknown topic, undecodable, or speaking for another device.
    pub garbage: AtomicU64,
    /// Batches, births and statuses that the registry could not store; the device sends them again.
    pub refused: AtomicU64,
    /// Answers that found no room on the way out.
    pub unanswered: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Whom ingest tells about what is not its own business.
#[derive(Clone, Debug)]
pub struct Desks {
    /// Devices that reported an older assignment than they should have.
    pub stale: mpsc::Sender<DeviceId>,
    /// Requests for chunks, with who asked.
    pub chunks: mpsc::Sender<(DeviceId, ArtifactRequest)>,
}

/// The room: what it needs, nothing of it shared with others except the tally.
pub struct Ingest {
    registry: Registry,
    outbox: Outbox,
    desks: Desks,
    tally: Arc<Tally>,
    told: HashSet<String>,
}

/// A message that makes sense.
#[derive(Debug)]
enum Said {
    Birth(Birth),
    Status(Status),
    Journal(JournalBatch),
    Request(DeviceId, ArtifactRequest),
}

/// A message that does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Garbage {
    #[error("its topic is none of ours")]
    Topic,
    #[error("its {what} cannot be read: {why}")]
    Payload { what: &'static str, why: String },
    #[error("its {what} speaks for another device, {named}")]
    Sender { what: &'static str, named: DeviceId },
}

/// What one group of messages asks of the store, in the order it came.
#[derive(Debug, Default)]
struct Group {
    births: Vec<Birth>,
    statuses: Vec<Status>,
    batches: Vec<Batch>,
}

/// What became of a group.
#[derive(Debug, Default)]
struct Outcome {
    stored: Vec<(DeviceId, u64, Ingested)>,
    stale: Vec<DeviceId>,
    refused: Vec<(DeviceId, String)>,
}

impl Ingest {
    /// Makes the room; [`Ingest::run`] is its life.
    #[must_use]
    pub fn new(registry: Registry, outbox: Outbox, desks: Desks, tally: Arc<Tally>) -> Self {
        Self { registry, outbox, desks, tally, told: HashSet::new() }
    }

    /// Takes in messages until `shutdown` or the end of the session's driver. What was not acknowledged comes again.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Message>, shutdown: CancellationToken) {
        let mut waiting = Vec::with_capacity(GROUP_MESSAGES_MAX);
        loop {
            let taken = tokio::select! {
                taken = inbox.recv_many(&mut waiting, GROUP_MESSAGES_MAX) => taken,
                () = shutdown.cancelled() => return,
            };
            if taken == 0 {
                return;
            }
            let group = self.sort(&mut waiting);
            let registry = self.registry.clone();
            match tokio::task::spawn_blocking(move || store(&registry, group)).await {
                Ok(outcome) => self.answer(outcome),
                // The verb panicked: nothing is acknowledged, so nothing is lost.
                Err(error) => tracing::error!(%error, "couldn't store a group of device messages"),
            }
        }
    }

    /// Reads the messages; requests go to their desk at once, the rest becomes one group.
    fn sort(&mut self, waiting: &mut Vec<Message>) -> Group {
        let mut group = Group::default();
        for message in waiting.drain(..) {
            match read(&message) {
                Ok(Said::Birth(birth)) => group.births.push(birth),
                Ok(Said::Status(status)) => group.statuses.push(status),
                Ok(Said::Journal(batch)) => group.batches.push(batch_of(batch)),
                Ok(Said::Request(device, request)) => {
                    if self.desks.chunks.try_send((device, request)).is_err() {
                        count(&self.tally.unanswered, 1);
                    }
                }
                Err(garbage) => {
                    count(&self.tally.garbage, 1);
                    self.complain(level_3(&message.topic), &garbage.to_string());
                }
            }
        }
        group
    }

    fn answer(&mut self, outcome: Outcome) {
        for (device, ack) in acknowledgements(&outcome.stored, &self.tally) {
            if self.outbox.try_publish(&Topic::down(&device, Down::Ack), ack.encode()).is_err() {
                count(&self.tally.unanswered, 1);
            }
        }
        for device in outcome.stale {
            if self.desks.stale.try_send(device).is_err() {
                count(&self.tally.unanswered, 1);
            }
        }
        for (device, why) in outcome.refused {
            count(&self.tally.refused, 1);
            self.complain(device.as_str(), &why);
        }
    }

    /// Logs a device's first complaint; the tally has them all.
    fn complain(&mut self, device: &str, why: &str) {
        if self.told.len() < TOLD_DEVICES_MAX && self.told.insert(device.to_owned()) {
            tracing::warn!(device, why, "threw a message away; further ones of this device are only counted");
        }
    }
}

/// Who the topic says is speaking, whether or not that is a device id; cut, because it goes into a log.
fn level_3(topic: &str) -> &str {
    let name = topic.split('/').nth(2).unwrap_or("?");
    name.char_indices().nth(64).map_or(name, |(cut, _)| &name[..cut])
}

/// Topic and payload to a message of a device about itself.
fn read(message: &Message) -> Result<Said, Garbage> {
    let topic: Topic = message.topic.parse().map_err(|_| Garbage::Topic)?;
    let Direction::Up(up) = topic.direction else { return Err(Garbage::Topic) };
    let what = up.level();
    let unread = |why: vedette_protocol::DecodeError| Garbage::Payload { what, why: why.to_string() };
    let own = |named: &DeviceId| {
        if *named == topic.device { Ok(()) } else { Err(Garbage::Sender { what, named: named.clone() }) }
    };
    match up {
        Up::Birth => {
            let birth = Birth::decode(&message.payload).map_err(unread)?;
            own(&birth.device).map(|()| Said::Birth(birth))
        }
        Up::Status => {
            let status = Status::decode(&message.payload).map_err(unread)?;
            own(&status.device).map(|()| Said::Status(status))
        }
        Up::Journal => {
            let batch = JournalBatch::decode(&message.payload).map_err(unread)?;
            own(&batch.device).map(|()| Said::Journal(batch))
        }
        Up::Request => {
            let request = ArtifactRequest::decode(&message.payload).map_err(unread)?;
            Ok(Said::Request(topic.device, request))
        }
    }
}

fn batch_of(batch: JournalBatch) -> Batch {
    let JournalBatch { device, epoch, records, span, late, checkpoint } = batch;
    let records = records.into_iter().map(|(sequence, bytes)| (sequence, bytes.0)).collect();
    Batch { device, epoch, records, span, late, claim: checkpoint }
}

/// Stores a group: one durable write for all batches; births and statuses as last heard. Blocks.
fn store(registry: &Registry, group: Group) -> Outcome {
    let mut outcome = Outcome::default();
    for birth in &group.births {
        let noted = registry.note_birth(birth).and_then(|()| behind(registry, &birth.device, birth.assignment_version));
        outcome.note(&birth.device, noted.map(|behind| behind && birth.online));
    }
    for status in &group.statuses {
        let noted =
            registry.note_status(status).and_then(|()| behind(registry, &status.device, status.assignment_version));
        outcome.note(&status.device, noted);
    }
    store_batches(registry, group.batches, &mut outcome);
    outcome
}

fn store_batches(registry: &Registry, batches: Vec<Batch>, outcome: &mut Outcome) {
    if batches.is_empty() {
        return;
    }
    let names: Vec<(DeviceId, u64)> = batches.iter().map(|batch| (batch.device.clone(), batch.epoch)).collect();
    match registry.ingest_group(batches.clone()) {
        Ok(stored) => {
            let stored = names.into_iter().zip(stored).map(|((device, epoch), done)| (device, epoch, done));
            outcome.stored.extend(stored);
        }
        // One that cannot be stored must not hold up the others: each by itself.
        Err(error) if batches.len() > 1 => {
            tracing::debug!(%error, batches = batches.len(), "couldn't store a group, storing its batches one by one");
            batches.into_iter().for_each(|batch| store_batches(registry, vec![batch], outcome));
        }
        Err(error) => outcome.refused.extend(names.into_iter().map(|(device, _)| (device, error.to_string()))),
    }
}

/// Whether a device holds an older assignment than it should.
fn behind(registry: &Registry, device: &DeviceId, held: u64) -> crate::registry::Result<bool> {
    Ok(registry.desired_assignment(device)?.is_some_and(|desired| desired.version > held))
}

impl Outcome {
    fn note(&mut self, device: &DeviceId, noted: crate::registry::Result<bool>) {
        match noted {
            Ok(true) if !self.stale.contains(device) => self.stale.push(device.clone()),
            Ok(_) => {}
            Err(error) => self.refused.push((device.clone(), error.to_string())),
        }
    }
}

/// One acknowledgement per device and epoch: how far its journal is here now. The last word of a group is the newest.
fn acknowledgements(stored: &[(DeviceId, u64, Ingested)], tally: &Tally) -> Vec<(DeviceId, BatchAck)> {
    let mut newest: HashMap<(&DeviceId, u64), &Ingested> = HashMap::new();
    for (device, epoch, done) in stored {
        let counter = if done.refused.is_some() { &tally.quarantined } else { &tally.batches };
        count(counter, 1);
        count(&tally.records, done.new);
        count(&tally.duplicates, done.duplicate);
        count(&tally.conflicts, done.conflicting);
        newest.insert((device, *epoch), done);
    }
    let ack = |epoch, done: &Ingested| BatchAck {
        epoch,
        upto: done.upto,
        held: done.held.clone(),
        checkpoint: done.checkpoint,
        refused: done.refused.clone(),
    };
    newest.into_iter().map(|((device, epoch), done)| (device.clone(), ack(epoch, done))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(topic: &str, payload: Vec<u8>) -> Result<Said, Garbage> {
        read(&Message { topic: topic.to_owned(), payload })
    }

    fn batch(device: &str) -> Vec<u8> {
        JournalBatch::new(device.parse().unwrap(), 1, vec![]).encode()
    }

    #[test]
    fn a_device_speaks_only_for_itself() {
        assert!(matches!(said("vedette/v1/box-1/up/journal", batch("box-1")), Ok(Said::Journal(_))));
        let named = "box-2".parse().unwrap();
        let lie = said("vedette/v1/box-1/up/journal", batch("box-2")).unwrap_err();
        assert_eq!(lie, Garbage::Sender { what: "journal", named });
    }

    #[test]
    fn a_topic_that_is_none_of_ours_or_the_wrong_way_is_garbage() {
        for topic in ["vedette/v1/box-1/down/ack", "vedette/v1/BOX/up/journal", "", "a/b"] {
            assert_eq!(said(topic, batch("box-1")).unwrap_err(), Garbage::Topic, "{topic}");
        }
    }

    #[test]
    fn only_the_newest_acknowledgement_of_a_group_is_sent() {
        let done = |upto| Ingested { upto, new: 1, ..Ingested::default() };
        let device: DeviceId = "box-1".parse().unwrap();
        let stored = [(device.clone(), 1, done(5)), (device.clone(), 1, done(9)), (device.clone(), 2, done(1))];
        let tally = Tally::default();
        let mut sent = acknowledgements(&stored, &tally);
        sent.sort_unstable_by_key(|(_, ack)| ack.epoch);
        assert_eq!(sent, [(device.clone(), BatchAck::new(1, 9)), (device, BatchAck::new(2, 1))]);
        assert_eq!(tally.records.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_name_in_a_log_is_cut() {
        assert_eq!(level_3("vedette/v1/box/up"), "box");
        assert_eq!(level_3(&format!("a/b/{}", "é".repeat(100))).chars().count(), 64);
        assert_eq!(level_3("nothing"), "?");
    }
}
