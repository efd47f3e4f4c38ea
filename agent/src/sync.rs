//! The talk with the registry over the broker: says what runs, sends the journal, brings assignments and pieces of files.
//!
//! # Constraints
//!
//! - The journal is the outbox: what is sent is read from it, below what is durable, and the cursor moves only when the
//!   registry has said that it has everything below. A PUBACK moves nothing.
//! - Nothing that arrives can keep the device away: garbage is counted and dropped, too large packets cost a subscription.
//! - Each connection is new (see [`crate::mqtt`]); what was under way is sent again, and the registry drops doubles by
//!   the records' ids.
//!
//! # Rooms
//!
//! `step` decides (pure) with `outbox`, `batch` reads the journal, `report` says how we do. This file drives them.
//!
//! # Recovery
//!
//! The cursor file may be behind, missing or rotten: then records are sent again. When the journal is a new one (another
//! epoch), it is sent from its beginning.

mod batch;
mod outbox;
mod report;
mod step;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vedette_journal::{Cursor, CursorFile};
use vedette_protocol::id::DeviceId;
use vedette_protocol::limit::MAX_PACKET_BYTES;
use vedette_protocol::message::{ArtifactRequest, Chunk, Message};
use vedette_protocol::topic::{Down, Topic, Up};

use crate::backoff::{self, Backoff};
use crate::clock::Clock;
use crate::config::{self, Broker};
use crate::deploy;
use crate::mqtt::{self, Event, Events, Lost, PublishError, Publisher, Retain, Will};
use crate::recorder::Recorder;
use crate::scorer::Board;
use crate::state::State;
use batch::Batches;
use outbox::Outbox;
use report::Reporter;
use step::{Action, Input, Session};

pub(crate) use report::resident_bytes;

/// The first wait before connecting again; it doubles up to `sync.reconnect_cap`.
const RECONNECT_FIRST: Duration = Duration::from_secs(1);

/// A connection that held this long was a good one: the next wait is short again.
const STABLE: Duration = Duration::from_secs(30);

/// The cursor is stored at most this often: losing it only sends records again, and flash wears.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);

/// Pause when the queue to the broker is full.
const QUEUE_FULL: Duration = Duration::from_millis(50);

/// How the talk stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Whether there is a connection now.
    pub connected: bool,
    /// The registry has every record of this journal below this sequence.
    pub acked: u64,
    /// Connections made since the start.
    pub connections: u64,
    /// Batches sent once more because no acknowledgement came.
    pub resent: u64,
    /// Messages that were none of ours.
    pub garbage: u64,
    /// Connections ended by a packet that was too large.
    pub too_large: u64,
    /// Why the last connection ended, or could not be made.
    pub lost: Option<String>,
}

/// The ends of the channels to `deploy`.
#[derive(Debug)]
pub struct Link {
    /// Sealed assignments. When full, one is dropped: the registry repeats it.
    pub assignments: mpsc::Sender<Vec<u8>>,
    /// Pieces of files. When full, one is dropped: deploy asks again.
    pub chunks: mpsc::Sender<Chunk>,
    /// Questions for pieces.
    pub requests: mpsc::Receiver<ArtifactRequest>,
}

/// What sync works with.
#[derive(Debug)]
pub struct Parts {
    /// This device.
    pub device: DeviceId,
    /// Times and sizes.
    pub config: config::Sync,
    /// The broker.
    pub broker: Broker,
    /// Where the cursor is kept.
    pub state: State,
    /// What time it is.
    pub clock: Clock,
    /// Whose journal is sent.
    pub recorder: Recorder,
    /// What each stream runs.
    pub board: Arc<Board>,
    /// How the models' ways stand.
    pub deploy: watch::Receiver<deploy::View>,
}

/// Runs until asked to stop.
pub async fn run(parts: Parts, link: Link, view: watch::Sender<View>, stop: CancellationToken) {
    let mut driver = Driver::new(parts, link, view);
    tokio::select! {
        () = stop.cancelled() => {}
        () = driver.run() => {}
    }
    driver.store_cursor().await;
}

struct Driver {
    device: DeviceId,
    config: config::Sync,
    broker: Broker,
    clock: Clock,
    session: Session,
    batches: Option<Batches>,
    reporter: Reporter,
    deploy: watch::Receiver<deploy::View>,
    committed: watch::Receiver<u64>,
    running: watch::Receiver<u64>,
    link: Link,
    view: watch::Sender<View>,
    cursor: CursorFile,
    epoch: u64,
    /// When an acknowledged position that is not stored yet should be.
    cursor_due: Option<Instant>,
    queue_full: bool,
    garbage_told: bool,
}

impl Driver {
    fn new(parts: Parts, link: Link, view: watch::Sender<View>) -> Self {
        let Parts { device, config, broker, state, clock, recorder, board, deploy } = parts;
        let epoch = recorder.epoch();
        let mut committed = recorder.committed();
        let durable = *committed.borrow_and_update();
        let cursor = CursorFile::new(state.cursor());
        let mut outbox = Outbox::new(
            epoch,
            stored_position(&cursor, epoch).min(durable),
            config.window as usize,
            config.ack_timeout,
        );
        outbox.committed(durable);
        let batches = Batches::new(recorder.journal().clone(), device.clone(), epoch, config.batch_records as usize);
        Self {
            session: Session::new(device.clone(), outbox, config.status_interval),
            batches: Some(batches),
            running: board.changes(),
            reporter: Reporter { device: device.clone(), clock, recorder, board },
            device,
            config,
            broker,
            clock,
            deploy,
            committed,
            link,
            view,
            cursor,
            epoch,
            cursor_due: None,
            queue_full: false,
            garbage_told: false,
        }
    }

    /// Connects again and again, with pauses.
    async fn run(&mut self) {
        self.publish_view(None);
        tokio::time::sleep(backoff::part(self.config.reconnect_initial_spread, backoff::draw())).await;
        let mut backoff = Backoff::new(RECONNECT_FIRST, self.config.reconnect_cap);
        loop {
            let began = self.clock.now();
            let (publisher, events) = mqtt::connect(self.options());
            let lost = self.talk(&publisher, events).await;
            let now = self.clock.now();
            if now.saturating_duration_since(began) >= STABLE {
                backoff.worked();
            }
            let pause = backoff.failed(backoff::draw());
            tracing::warn!(broker = %self.broker, reason = %lost, pause_ms = pause.as_millis(), "not connected to the registry's broker; scoring goes on");
            let input = match &lost {
                Lost::TooLarge { .. } => Input::TooLarge,
                Lost::Refused(_) | Lost::Network(_) => Input::Lost,
            };
            for action in self.session.step(input, now) {
                if let Action::GiveUp(given_up) = action {
                    tracing::error!(
                        topic = given_up.map(Down::level),
                        "packets that are too large keep ending the connection: going on without this topic"
                    );
                }
            }
            self.publish_view(Some(lost.to_string()));
            tokio::time::sleep(pause).await;
        }
    }

    fn options(&self) -> mqtt::Options {
        let will =
            Will { topic: Topic::up(&self.device, Up::Birth).to_string(), payload: self.reporter.will().encode() };
        mqtt::Options {
            broker: self.broker.clone(),
            client_id: self.device.to_string(),
            will: Some(will),
            packet_bytes_max: MAX_PACKET_BYTES,
        }
    }

    /// One connection, until it is lost.
    async fn talk(&mut self, publisher: &Publisher, mut events: Events) -> Lost {
        loop {
            let deadline = self.deadline();
            let input = tokio::select! {
                event = events.next() => match event {
                    Event::Connected => {
                        tracing::info!(broker = %self.broker, "connected to the registry's broker");
                        self.view.send_modify(|view| view.connections += 1);
                        Input::Connected
                    }
                    Event::Message { topic, payload } => Input::Message { topic, payload },
                    Event::Lost(lost) => return lost,
                },
                Ok(()) = self.committed.changed() => Input::Committed(*self.committed.borrow_and_update()),
                Ok(()) = self.deploy.changed() => Input::Changed,
                Ok(()) = self.running.changed() => Input::Changed,
                Some(request) = self.link.requests.recv(), if self.session.connected() => {
                    self.publish(publisher, Up::Request, Retain::No, &request);
                    continue;
                }
                () = until(deadline) => Input::Tick,
            };
            self.queue_full = false;
            let now = self.clock.now();
            for action in self.session.step(input, now) {
                self.act(action, publisher);
            }
            if let Err(error) = self.send_batches(publisher).await {
                return Lost::Network(format!("couldn't read the journal: {error}"));
            }
            if self.cursor_due.is_some_and(|due| due <= now) {
                self.store_cursor().await;
            }
            self.publish_view(None);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let full = self.queue_full.then(|| self.clock.now() + QUEUE_FULL);
        [self.session.deadline(), self.cursor_due, full].into_iter().flatten().min()
    }

    fn act(&mut self, action: Action, publisher: &Publisher) {
        match action {
            Action::Subscribe(heard) => {
                let topics: Vec<String> =
                    heard.into_iter().map(|down| Topic::down(&self.device, down).to_string()).collect();
                let filters: Vec<&str> = topics.iter().map(String::as_str).collect();
                if let Err(error) = publisher.subscribe(&filters) {
                    tracing::warn!(%error, "couldn't subscribe");
                }
            }
            Action::Birth => {
                let birth = self.reporter.birth(&self.deploy.borrow());
                self.publish(publisher, Up::Birth, Retain::Yes, &birth);
            }
            Action::Status => {
                let status = self.reporter.status(&self.deploy.borrow(), self.session.outbox.acked());
                self.publish(publisher, Up::Status, Retain::No, &status);
            }
            Action::Cursor(upto) => {
                self.cursor_due = self.cursor_due.or(Some(self.clock.now() + CURSOR_INTERVAL));
                tracing::debug!(upto, "the registry has the journal up to here");
            }
            Action::Assignment(sealed) => {
                if self.link.assignments.try_send(sealed).is_err() {
                    tracing::warn!("too many assignments at once: one is dropped, the registry repeats it");
                }
            }
            Action::Chunk(chunk) => {
                if self.link.chunks.try_send(chunk).is_err() {
                    tracing::debug!("too many pieces of files at once: one is dropped and asked again");
                }
            }
            Action::Garbage(what) => {
                if !std::mem::replace(&mut self.garbage_told, true) {
                    tracing::warn!(
                        what,
                        "something that is none of ours came over the broker and is dropped; more of it is only counted"
                    );
                }
            }
            Action::GiveUp(_) => {}
        }
    }

    /// Sends what the window allows.
    async fn send_batches(&mut self, publisher: &Publisher) -> anyhow::Result<()> {
        while let Some((from, below)) = self.session.wanted() {
            let Some(mut batches) = self.batches.take() else { return Ok(()) };
            let read = tokio::task::spawn_blocking(move || {
                let batch = batches.read(from, below);
                (batches, batch)
            });
            let (batches, batch) = read.await?;
            self.batches = Some(batches);
            let Some(batch) = batch? else { return Ok(()) };
            if !self.publish(publisher, Up::Journal, Retain::No, &batch.message) {
                return Ok(());
            }
            self.session.outbox.sent(batch.end, self.clock.now());
        }
        Ok(())
    }

    /// Queues a message; whether it was taken.
    fn publish<M: Message>(&mut self, publisher: &Publisher, up: Up, retain: Retain, message: &M) -> bool {
        let bytes = message.encode();
        let topic = Topic::up(&self.device, up).to_string();
        if bytes.len() > M::MAX_BYTES {
            tracing::error!(%topic, bytes = bytes.len(), bytes_max = M::MAX_BYTES, "a message is too long to be sent");
            return false;
        }
        match publisher.publish(&topic, retain, bytes) {
            Ok(()) => true,
            Err(PublishError::Full) => {
                self.queue_full = true;
                false
            }
            Err(error @ PublishError::TooLong { .. }) => {
                tracing::error!(%topic, %error, "a message is too long to be sent");
                false
            }
        }
    }

    async fn store_cursor(&mut self) {
        if self.cursor_due.take().is_none() {
            return;
        }
        let (file, cursor) = (self.cursor.clone(), Cursor { epoch: self.epoch, sequence: self.session.outbox.acked() });
        match tokio::task::spawn_blocking(move || file.store(cursor)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "couldn't store the cursor: records may be sent again"),
            Err(error) => tracing::warn!(%error, "couldn't store the cursor: records may be sent again"),
        }
    }

    fn publish_view(&self, lost: Option<String>) {
        let session = &self.session;
        self.view.send_if_modified(|view| {
            let lost = if session.connected() { None } else { lost.or(view.lost.take()) };
            let new = View {
                connected: session.connected(),
                acked: session.outbox.acked(),
                connections: view.connections,
                resent: session.outbox.resent(),
                garbage: session.garbage(),
                too_large: session.too_large(),
                lost,
            };
            let changed = *view != new;
            *view = new;
            changed
        });
    }
}

/// How far the registry had this journal when that was stored last.
fn stored_position(file: &CursorFile, epoch: u64) -> u64 {
    match file.load() {
        Ok(Some(cursor)) if cursor.epoch == epoch => cursor.sequence,
        Ok(Some(_) | None) => 0,
        Err(error) => {
            tracing::warn!(%error, "couldn't read the cursor: the journal is sent again from its beginning, the registry drops doubles");
            0
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
