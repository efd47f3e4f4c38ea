//! The far end of the device's line: hears everything that leaves the device, remembers it, and acknowledges it as a
//! registry does. What was heard here must be on the device for ever after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use vedette_journal::{Checkpoint, Hash, PublicKey, leaf, verify_consistency};
use vedette_protocol::cbor;
use vedette_protocol::limit::{MAX_HELD_RANGES, MAX_PACKET_BYTES};
use vedette_protocol::message::{BatchAck, Birth, Claim, JournalBatch, Message as _, Status};
use vedette_protocol::record::{Body, Dropped, Record};
use vedette_protocol::topic::{Direction, Down, Topic, Up};
use vedette_tests::wait;

use crate::device::DEVICE;

/// Messages that may wait to be sent: acknowledgements, one a batch.
const WAITING: usize = 4096;

/// Records that one batch may speak for: more than any journal of the suite has.
const SPAN_MAX: u64 = 10_000_000;

/// Where the end of everything heard so far is marked.
const MARK: &str = "fault/mark";

/// How long what is under way may take over the loopback.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Epoch and sequence of each record, and the hash of its bytes.
    pub(crate) records: BTreeMap<(u64, u64), Hash>,
    /// What the device said it has not any more, by epoch: `[from, below)` without the records in between.
    pub(crate) gone: BTreeSet<(u64, u64)>,
    /// Epoch and row of each anomaly.
    pub(crate) rows: BTreeSet<(u64, u64)>,
    /// What the device said it dropped.
    pub(crate) drops: Vec<Dropped>,
    /// How often the device said that its clock was set.
    pub(crate) clocks: u64,
    /// Records that came a second time with other bytes, rows that have two records, checkpoints that do not continue the
    /// one before.
    pub(crate) contradictions: Vec<String>,
    /// Signed checkpoints, by epoch.
    pub(crate) claims: Vec<(u64, Claim)>,
    /// Messages of the device that could not be read.
    pub(crate) garbage: Vec<String>,
    /// Status messages.
    pub(crate) statuses: u64,
    /// Whether the device was there when it last said so; `None` when it has not yet.
    pub(crate) online: Option<bool>,
    /// All batches.
    pub(crate) batches: u64,
    /// Records and checkpoints of the devices before this one.
    past: (u64, u64),
    upto: BTreeMap<u64, u64>,
    /// The last checkpoint that was believed, by epoch.
    accepted: BTreeMap<u64, Accepted>,
    marks: u64,
    broken: Option<String>,
}

/// A checkpoint that was believed, and whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accepted {
    size: u64,
    root: Hash,
    key: PublicKey,
}

/// A subscriber to one device, in a thread of its own.
pub(crate) struct Uplink {
    heard: Arc<Mutex<Heard>>,
    client: Client,
    marks: u64,
}

impl Uplink {
    /// Listens at the broker with this URL.
    ///
    /// # Errors
    /// When the broker does not take the subscription.
    pub(crate) fn listen(broker: &str) -> anyhow::Result<Self> {
        let (host, port) = broker.trim_start_matches("mqtt://").rsplit_once(':').context("a broker has a port")?;
        let mut options = MqttOptions::new("fault", host, port.parse()?);
        options.set_max_packet_size(2 * MAX_PACKET_BYTES, 2 * MAX_PACKET_BYTES);
        let (client, connection) = Client::new(options, WAITING);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (ear, answers) = (Arc::clone(&heard), client.clone());
        std::thread::spawn(move || hear(connection, &answers, &ear));
        client.subscribe(format!("vedette/v1/{DEVICE}/up/#"), QoS::AtLeastOnce)?;
        client.subscribe(MARK, QoS::AtLeastOnce)?;
        let mut uplink = Self { heard, client, marks: 0 };
        uplink.mark()?;
        Ok(uplink)
    }

    /// What was heard so far.
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything: the device begins again from nothing.
    pub(crate) fn forget(&mut self) {
        let mut heard = self.heard();
        let (past, marks) = ((heard.records_in_all(), heard.checkpoints_in_all()), heard.marks);
        *heard = Heard { past, marks, ..Heard::default() };
    }

    /// A life of the device begins.
    pub(crate) fn life_begins(&mut self) {
        self.heard().online = None;
    }

    /// Waits until everything that left the device, which was killed, was heard: its last will comes behind it.
    ///
    /// # Errors
    /// When the broker does not pass it on.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while self.heard().online == Some(true) {
            self.unbroken()?;
            anyhow::ensure!(Instant::now() < deadline, "the broker does not say that the device is gone");
            wait::a_moment();
        }
        self.mark()
    }

    /// Waits until everything that the broker had was heard.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub(crate) fn mark(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        self.marks += 1;
        self.client.publish(MARK, QoS::AtLeastOnce, false, Vec::new())?;
        while self.heard().marks < self.marks {
            self.unbroken()?;
            anyhow::ensure!(Instant::now() < deadline, "the broker does not answer");
            wait::a_moment();
        }
        Ok(())
    }

    fn unbroken(&self) -> anyhow::Result<()> {
        match &self.heard().broken {
            Some(why) => anyhow::bail!("the line to the broker broke: {why}"),
            None => Ok(()),
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        if self.client.try_disconnect().is_err() {
            eprintln!("the line to the broker was down already");
        }
    }
}

fn hear(mut connection: Connection, client: &Client, heard: &Mutex<Heard>) {
    for event in connection.iter() {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let answer = heard.take(&message.topic, &message.payload);
                drop(heard);
                if let Some((topic, bytes)) = answer {
                    // A full queue costs one acknowledgement; the device sends the batch again.
                    if client.try_publish(topic, QoS::AtLeastOnce, false, bytes).is_err() {
                        continue;
                    }
                }
            }
            Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                heard.broken = Some(error.to_string());
                return;
            }
        }
    }
}

impl Heard {
    /// Takes one message; gives the answer to it.
    fn take(&mut self, topic: &str, payload: &[u8]) -> Option<(String, Vec<u8>)> {
        if topic == MARK {
            self.marks += 1;
            return None;
        }
        let topic: Topic = topic.parse().ok()?;
        let taken = match topic.direction {
            Direction::Up(Up::Birth) => Birth::decode(payload).map(|birth| {
                self.online = Some(birth.online);
                None
            }),
            Direction::Up(Up::Status) => Status::decode(payload).map(|_| {
                self.statuses += 1;
                None
            }),
            Direction::Up(Up::Journal) => JournalBatch::decode(payload).map(|batch| Some(self.batch(batch))),
            Direction::Up(Up::Request) | Direction::Down(_) => Ok(None),
        };
        match taken {
            Ok(answer) => {
                let answer = answer?;
                Some((Topic::down(&topic.device, Down::Ack).to_string(), answer.encode()))
            }
            Err(error) => {
                self.garbage.push(format!("{topic}: {error}"));
                None
            }
        }
    }

    /// How many records were heard, also before the last [`Uplink::forget`].
    pub(crate) fn records_in_all(&self) -> u64 {
        self.past.0 + self.records.len() as u64
    }

    /// How many checkpoints were heard, also before the last [`Uplink::forget`].
    pub(crate) fn checkpoints_in_all(&self) -> u64 {
        self.past.1 + self.claims.len() as u64
    }

    /// Everything of this epoch below the sequence was acknowledged.
    pub(crate) fn acknowledged(&self, epoch: u64) -> u64 {
        self.upto.get(&epoch).copied().unwrap_or(0)
    }

    /// Takes in one record.
    pub(crate) fn remember(&mut self, epoch: u64, sequence: u64, bytes: &[u8]) {
        let hash = leaf(bytes);
        match self.records.insert((epoch, sequence), hash) {
            Some(before) if before == hash => return,
            Some(_) => {
                self.contradictions.push(format!("record {epoch}/{sequence} came with other bytes than before"));
            }
            None => {}
        }
        match cbor::from_canonical::<Record>(bytes).map(|record| record.body) {
            Ok(Body::Anomaly(anomaly)) => {
                if !self.rows.insert((epoch, anomaly.row)) {
                    self.contradictions.push(format!("row {} has two records, one is {epoch}/{sequence}", anomaly.row));
                }
            }
            Ok(Body::Drop(dropped)) => self.drops.push(dropped),
            Ok(Body::Clock { .. }) => self.clocks += 1,
            Ok(_) => {}
            Err(error) => self.garbage.push(format!("record {epoch}/{sequence}: {error}")),
        }
    }

    fn batch(&mut self, batch: JournalBatch) -> BatchAck {
        let epoch = batch.epoch;
        self.batches += 1;
        let (from, below) = batch.span.unwrap_or_default();
        if below.saturating_sub(from) > SPAN_MAX {
            self.contradictions.push(format!("one batch speaks for all of {epoch}/{from} to {below}"));
            return BatchAck::new(epoch, self.acknowledged(epoch));
        }
        let mut speaks_for: BTreeSet<u64> = (from..below).collect();
        for (sequence, bytes) in &batch.records {
            speaks_for.remove(sequence);
            self.remember(epoch, *sequence, &bytes.0);
        }
        self.gone.extend(speaks_for.into_iter().map(|sequence| (epoch, sequence)));
        let mut upto = self.acknowledged(epoch);
        while self.records.contains_key(&(epoch, upto)) || self.gone.contains(&(epoch, upto)) {
            upto += 1;
        }
        self.upto.insert(epoch, upto);
        if let Some(claim) = batch.checkpoint {
            if let Err(why) = self.believe(epoch, &claim) {
                self.contradictions.push(format!("a checkpoint of epoch {epoch}: {why}"));
            }
            self.claims.push((epoch, claim));
        }
        let checkpoint = self.accepted.get(&epoch).map_or(0, |accepted| accepted.size);
        BatchAck { held: self.held(epoch, upto), checkpoint, ..BatchAck::new(epoch, upto) }
    }

    /// What is here beyond `upto`, as ranges, the first ones.
    fn held(&self, epoch: u64, upto: u64) -> Vec<(u64, u64)> {
        let mut held: Vec<(u64, u64)> = Vec::new();
        for (_, sequence) in self.records.range((epoch, upto)..=(epoch, u64::MAX)).map(|(key, _)| *key) {
            match held.last_mut() {
                Some(last) if last.1 == sequence => last.1 += 1,
                Some(_) | None => held.push((sequence, sequence + 1)),
            }
            if held.len() > MAX_HELD_RANGES {
                held.pop();
                break;
            }
        }
        held
    }

    /// Believes a checkpoint that continues the last one; an older one, or one whose proof begins elsewhere, is passed over.
    fn believe(&mut self, epoch: u64, claim: &Claim) -> Result<(), String> {
        let key = claim.key.0.as_slice().try_into().map(PublicKey).map_err(|_| "its key has not 32 bytes")?;
        let Checkpoint { size, root, .. } = Checkpoint::open(&claim.note, &key).map_err(|error| error.to_string())?;
        let new = Accepted { size, root, key };
        if let Some(last) = self.accepted.get(&epoch) {
            if last.key != key {
                return Err("another key signs".to_owned());
            }
            if size == last.size && root != last.root {
                return Err(format!("two roots for size {size}"));
            }
            if size <= last.size || claim.from != last.size {
                return Ok(());
            }
            let proof: Vec<Hash> = claim.proof.iter().map(|digest| Hash(*digest.as_bytes())).collect();
            if !verify_consistency(last.size, &last.root, size, &root, &proof) {
                return Err(format!("the proof from {} to {size} does not hold", last.size));
            }
        }
        self.accepted.insert(epoch, new);
        Ok(())
    }
}
