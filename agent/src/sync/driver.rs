//! Connects, sends what was decided and hands on what came.

mod send;

use std::time::{Duration, Instant};

use tokio::sync::watch;
use vedette_journal::{Cursor, CursorFile, SKIP_RECORDS_MAX};
use vedette_protocol::id::DeviceId;
use vedette_protocol::limit::MAX_PACKET_BYTES;
use vedette_protocol::message::Message as _;
use vedette_protocol::topic::{Down, Topic, Up};

use super::claims::Claims;
use super::history::History;
use super::outbox::{Limits, Outbox};
use super::prover::{News, Prover};
use super::report::Reporter;
use super::step::{Action, Input, Session};
use super::{Link, Parts, View};
use crate::backoff::{self, Reconnect, Waits};
use crate::clock::Clock;
use crate::config::{self, Broker};
use crate::deploy;
use crate::mqtt::{self, Event, Events, KEEP_ALIVE, Lost, Publisher, Retain, Will};
use crate::recorder::Acknowledged;

/// The first wait before connecting again; it doubles up to `sync.reconnect_cap`.
const RECONNECT_FIRST: Duration = Duration::from_secs(1);

/// The cursor is stored at most this often: losing it only sends records again, and flash wears.
const CURSOR_INTERVAL: Duration = Duration::from_secs(1);

/// Pause when the queue to the broker is full.
const QUEUE_FULL: Duration = Duration::from_millis(50);

/// A broker that takes nothing for so long, and still answers pings, is left.
const QUEUE_STUCK: Duration = Duration::from_secs(60);

pub(super) struct Driver {
    device: DeviceId,
    config: config::Sync,
    broker: Broker,
    clock: Clock,
    session: Session,
    history: History,
    prover: Prover,
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
    /// Since when the queue to the broker is full.
    queue_full: Option<Instant>,
    garbage_told: bool,
}

impl Driver {
    pub(super) fn new(parts: Parts, link: Link, view: watch::Sender<View>) -> Self {
        let Parts { device, config, broker, state, clock, recorder, board, deploy } = parts;
        let epoch = recorder.epoch();
        let mut committed = recorder.committed();
        let durable = *committed.borrow_and_update();
        let cursor = CursorFile::new(state.cursor());
        let limits = Limits {
            window: config.window as usize,
            ack_timeout: config.ack_timeout,
            backlog_rate: config.backlog_rate,
        };
        let mut outbox = Outbox::new(epoch, stored_position(&cursor, epoch).min(durable), limits);
        outbox.committed(durable);
        let mut prover = Prover::new(&recorder);
        let mut claims = Claims::new(config.ack_timeout);
        claims.signed(prover.signed());
        Self {
            session: Session::new(device.clone(), outbox, claims, config.status_interval),
            history: History::new(recorder.journal(), &device, epoch),
            prover,
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
            queue_full: None,
            garbage_told: false,
        }
    }

    /// Connects again and again, with pauses.
    pub(super) async fn run(&mut self) {
        let mut reconnect = Reconnect::new(Waits {
            start: self.config.reconnect_initial_spread,
            spread: self.config.reconnect_spread,
            base: RECONNECT_FIRST,
            cap: self.config.reconnect_cap,
        });
        self.publish_view(None);
        tokio::time::sleep(reconnect.first(backoff::draw())).await;
        // Since when there was no good connection.
        let mut without = self.clock.now();
        loop {
            let began = self.clock.now();
            let (publisher, events) = mqtt::connect(self.options());
            let lost = self.talk(&publisher, events).await;
            let now = self.clock.now();
            if now.saturating_duration_since(began) >= backoff::STABLE {
                without = now;
            }
            let pause = reconnect.lost(now.saturating_duration_since(without), backoff::draw());
            tracing::warn!(broker = %self.broker, reason = %lost, pause_ms = pause.as_millis(), "not connected to the registry's broker; scoring goes on");
            let input = match &lost {
                Lost::TooLarge { .. } => Input::TooLarge,
                Lost::Refused(_) | Lost::Network(_) => Input::Lost,
            };
            for action in self.session.step(input, now) {
                self.act(action, &publisher);
            }
            self.queue_full = None;
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
            keep_alive: KEEP_ALIVE,
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
                    Event::Subscribed(heard) => Input::Subscribed(heard),
                    Event::Message { topic, payload } => Input::Message { topic, payload },
                    Event::Lost(lost) => return lost,
                },
                Ok(()) = self.committed.changed() => Input::Committed(*self.committed.borrow_and_update()),
                news = self.prover.news() => match news {
                    News::Signed => Input::Signed(self.prover.signed()),
                    News::Proven(proven) => Input::Proven(Box::new(proven)),
                    News::NotProven => continue,
                },
                Ok(()) = self.deploy.changed() => Input::Changed,
                Ok(()) = self.running.changed() => Input::Changed,
                Some(request) = self.link.requests.recv(), if self.session.connected() => {
                    self.publish(publisher, Up::Request, Retain::No, &request);
                    continue;
                }
                () = until(deadline) => Input::Tick,
            };
            let now = self.clock.now();
            for action in self.session.step(input, now) {
                self.act(action, publisher);
            }
            self.send_batches(publisher).await;
            self.send_claim(publisher);
            self.prove();
            if self.cursor_due.is_some_and(|due| due <= now) {
                self.store_cursor().await;
            }
            self.publish_view(None);
            if self.queue_full.is_some_and(|since| now.saturating_duration_since(since) >= QUEUE_STUCK) {
                return Lost::Network(format!("the broker took nothing for {} s", QUEUE_STUCK.as_secs()));
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let now = self.clock.now();
        let full = self.queue_full.map(|_| now + QUEUE_FULL);
        [self.session.deadline(now), self.cursor_due, full].into_iter().flatten().min()
    }

    fn act(&mut self, action: Action, publisher: &Publisher) {
        match action {
            Action::Subscribe(heard) => self.subscribe(heard, publisher),
            Action::Birth => {
                let birth = self.reporter.birth(&self.deploy.borrow());
                self.publish(publisher, Up::Birth, Retain::Yes, &birth);
            }
            Action::Status => {
                let acked = self.session.outbox.acked();
                let status = self.reporter.status(&self.deploy.borrow(), acked, self.degraded());
                self.publish(publisher, Up::Status, Retain::No, &status);
            }
            Action::Cursor(upto) => {
                self.cursor_due = self.cursor_due.or(Some(self.clock.now() + CURSOR_INTERVAL));
                self.tell_recorder(upto);
            }
            Action::Accepted(_) => self.tell_recorder(self.session.outbox.acked()),
            Action::Ahead(upto) => {
                // Records of ours that we do not have: the recorder goes on behind them. An acknowledgement is not
                // signed, so a lie may cost some numbers and not all of them.
                let plausible = upto - self.session.outbox.acked() <= SKIP_RECORDS_MAX;
                tracing::error!(upto, plausible, "the registry has records of this journal that are not here any more");
                if plausible {
                    self.tell_recorder(upto);
                }
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
            Action::GiveUp(down) => tracing::error!(
                topic = down.level(),
                "packets that are too large keep ending the connection: going on without this topic for a while"
            ),
            Action::Unheard(down) => tracing::error!(
                topic = down.level(),
                "the broker does not let this device hear a topic: is its access list right?"
            ),
        }
    }

    fn tell_recorder(&self, upto: u64) {
        let checkpoint = self.session.claims.accepted();
        self.reporter.recorder.acknowledged(Acknowledged { upto, checkpoint });
    }

    fn subscribe(&self, heard: Vec<Down>, publisher: &Publisher) {
        let topics: Vec<String> = heard.into_iter().map(|down| Topic::down(&self.device, down).to_string()).collect();
        let filters: Vec<&str> = topics.iter().map(String::as_str).collect();
        if let Err(error) = publisher.subscribe(&filters) {
            tracing::warn!(%error, "couldn't subscribe");
        }
    }

    pub(super) async fn store_cursor(&mut self) {
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

    /// Why the talk is not what it should be.
    fn degraded(&self) -> Option<String> {
        self.session.degraded().or_else(|| self.history.trouble())
    }

    fn publish_view(&self, lost: Option<String>) {
        let Session { outbox, claims, .. } = &self.session;
        self.view.send_if_modified(|view| {
            let lost = if self.session.connected() { None } else { lost.or(view.lost.take()) };
            let new = View {
                connected: self.session.connected(),
                acked: outbox.acked(),
                waiting: outbox.waiting(),
                connections: view.connections,
                resent: outbox.resent(),
                late: outbox.late(),
                held_ranges: outbox.held_ranges() as u64,
                checkpoint: claims.accepted(),
                refused: outbox.refused().map(str::to_owned),
                degraded: self.degraded(),
                garbage: self.session.garbage(),
                too_large: self.session.too_large(),
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
