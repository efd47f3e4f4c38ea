//! The talk with the registry as a pure machine: what happened goes in, what to do comes out. No socket, no clock.
//!
//! On each connection: subscribe, say who we are (birth, retained), how we do (status), and send the journal from the
//! cursor. Status is repeated, and said at once when what runs has changed. Whatever arrives is decoded here: garbage is
//! counted and dropped, and a packet larger than our limit, which ends the connection each time that it is delivered,
//! makes us give up one subscription after the other until the connection holds.

use std::time::{Duration, Instant};

use vedette_protocol::id::DeviceId;
use vedette_protocol::message::{BatchAck, Chunk, Message as _};
use vedette_protocol::topic::{Direction, Down, Topic};

use super::outbox::{Acked, Outbox};

/// Connections ended by a packet that is too large, in a row, before a subscription is given up (reliability: a retained
/// message of this kind would otherwise keep the device away for ever).
const TOO_LARGE_IN_A_ROW: u32 = 3;

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// The broker let us in.
    Connected,
    /// The connection is over because a packet was too large.
    TooLarge,
    /// The connection is over, or could not be made.
    Lost,
    /// A message arrived.
    Message { topic: String, payload: Vec<u8> },
    /// Journal records below this sequence are durable.
    Committed(u64),
    /// What runs, or how a model's way in stands, has changed.
    Changed,
    /// Time has passed.
    Tick,
}

/// What to do, in this order.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Subscribe to these.
    Subscribe(Vec<Down>),
    /// Say who we are.
    Birth,
    /// Say how we do.
    Status,
    /// The registry has everything below: store the cursor.
    Cursor(u64),
    /// Hand an assignment (still sealed) to deploy.
    Assignment(Vec<u8>),
    /// Hand a piece of a file to deploy.
    Chunk(Chunk),
    /// Something arrived that is none of ours: log it the first time.
    Garbage(&'static str),
    /// A subscription is given up (or, `None`, all are tried again): log it.
    GiveUp(Option<Down>),
}

/// The state of the talk.
#[derive(Debug)]
pub(super) struct Session {
    device: DeviceId,
    pub(super) outbox: Outbox,
    connected: bool,
    status_interval: Duration,
    status_at: Option<Instant>,
    too_large_in_a_row: u32,
    given_up: Option<Down>,
    garbage: u64,
    too_large: u64,
}

impl Session {
    pub(super) fn new(device: DeviceId, outbox: Outbox, status_interval: Duration) -> Self {
        Self {
            device,
            outbox,
            connected: false,
            status_interval,
            status_at: None,
            too_large_in_a_row: 0,
            given_up: None,
            garbage: 0,
            too_large: 0,
        }
    }

    pub(super) fn connected(&self) -> bool {
        self.connected
    }

    /// Messages that were none of ours.
    pub(super) fn garbage(&self) -> u64 {
        self.garbage
    }

    /// Connections ended by a packet that was too large.
    pub(super) fn too_large(&self) -> u64 {
        self.too_large
    }

    /// The records to send next, when there is a connection.
    pub(super) fn wanted(&self) -> Option<(u64, u64)> {
        if self.connected { self.outbox.wanted() } else { None }
    }

    /// When to come back with [`Input::Tick`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        if !self.connected {
            return None;
        }
        [self.status_at, self.outbox.deadline()].into_iter().flatten().min()
    }

    /// One step.
    pub(super) fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Connected => self.welcome(now),
            Input::TooLarge => self.too_large_packet(),
            Input::Lost => {
                self.too_large_in_a_row = 0;
                self.forget();
                Vec::new()
            }
            Input::Message { topic, payload } => self.message(&topic, payload),
            Input::Committed(below) => {
                self.outbox.committed(below);
                Vec::new()
            }
            Input::Changed => self.say_status(now),
            Input::Tick => self.tick(now),
        }
    }

    fn welcome(&mut self, now: Instant) -> Vec<Action> {
        self.connected = true;
        self.outbox.rewind();
        let heard = Down::ALL.into_iter().filter(|down| Some(*down) != self.given_up).collect();
        let mut actions = vec![Action::Subscribe(heard), Action::Birth];
        actions.extend(self.say_status(now));
        actions
    }

    fn forget(&mut self) {
        self.connected = false;
        self.status_at = None;
        self.outbox.rewind();
    }

    fn too_large_packet(&mut self) -> Vec<Action> {
        self.forget();
        self.too_large = self.too_large.saturating_add(1);
        self.too_large_in_a_row += 1;
        if self.too_large_in_a_row < TOO_LARGE_IN_A_ROW {
            return Vec::new();
        }
        self.too_large_in_a_row = 0;
        self.given_up = match self.given_up {
            None => Some(Down::Assignment),
            Some(Down::Assignment) => Some(Down::Chunk),
            Some(Down::Chunk) => Some(Down::Ack),
            Some(Down::Ack) => None,
        };
        vec![Action::GiveUp(self.given_up)]
    }

    fn message(&mut self, topic: &str, payload: Vec<u8>) -> Vec<Action> {
        let down = match topic.parse::<Topic>() {
            Ok(Topic { device, direction: Direction::Down(down) }) if device == self.device => down,
            Ok(_) | Err(_) => return self.drop_garbage("a topic that is not ours"),
        };
        match down {
            Down::Assignment => vec![Action::Assignment(payload)],
            Down::Chunk => match Chunk::decode(&payload) {
                Ok(chunk) => vec![Action::Chunk(chunk)],
                Err(_) => self.drop_garbage("a chunk that cannot be read"),
            },
            Down::Ack => match BatchAck::decode(&payload) {
                Ok(ack) => self.acknowledged(&ack),
                Err(_) => self.drop_garbage("an acknowledgement that cannot be read"),
            },
        }
    }

    fn acknowledged(&mut self, ack: &BatchAck) -> Vec<Action> {
        match self.outbox.acknowledged(ack.epoch, ack.upto) {
            Acked::Moved(upto) => vec![Action::Cursor(upto)],
            Acked::Nothing => Vec::new(),
            Acked::Foreign => self.drop_garbage("an acknowledgement of records that this journal never had"),
        }
    }

    fn drop_garbage(&mut self, what: &'static str) -> Vec<Action> {
        self.garbage = self.garbage.saturating_add(1);
        vec![Action::Garbage(what)]
    }

    fn say_status(&mut self, now: Instant) -> Vec<Action> {
        if !self.connected {
            return Vec::new();
        }
        self.status_at = Some(now + self.status_interval);
        vec![Action::Status]
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        self.outbox.expire(now);
        if self.status_at.is_some_and(|at| at <= now) { self.say_status(now) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn session() -> Session {
        let mut outbox = Outbox::new(7, 0, 4, Duration::from_secs(10));
        outbox.committed(100);
        Session::new("box-17".parse().unwrap(), outbox, INTERVAL)
    }

    fn message(topic: &str, payload: &[u8]) -> Input {
        Input::Message { topic: topic.to_owned(), payload: payload.to_vec() }
    }

    #[test]
    fn a_connection_begins_with_subscribing_and_saying_what_runs() {
        let now = Instant::now();
        let mut session = session();
        assert_eq!(session.wanted(), None, "nothing is sent without a connection");
        let actions = session.step(Input::Connected, now);
        assert_eq!(actions, [Action::Subscribe(Down::ALL.to_vec()), Action::Birth, Action::Status]);
        assert_eq!(session.wanted(), Some((0, 100)));
        assert_eq!(session.deadline(), Some(now + INTERVAL));
    }

    #[test]
    fn status_is_repeated_and_said_at_once_on_a_change() {
        let now = Instant::now();
        let mut session = session();
        assert_eq!(session.step(Input::Changed, now), [], "nobody would hear it");
        session.step(Input::Connected, now);
        assert_eq!(session.step(Input::Tick, now + INTERVAL / 2), []);
        assert_eq!(session.step(Input::Changed, now + INTERVAL / 2), [Action::Status]);
        assert_eq!(session.step(Input::Tick, now + INTERVAL), []);
        assert_eq!(session.step(Input::Tick, now + INTERVAL / 2 + INTERVAL), [Action::Status]);
    }

    #[test]
    fn an_acknowledgement_moves_the_cursor() {
        let now = Instant::now();
        let mut session = session();
        session.step(Input::Connected, now);
        session.outbox.sent(50, now);
        let ack = BatchAck::new(7, 50).encode();
        assert_eq!(session.step(message("vedette/v1/box-17/down/ack", &ack), now), [Action::Cursor(50)]);
        assert_eq!(session.step(message("vedette/v1/box-17/down/ack", &ack), now), []);
    }

    #[test]
    fn an_assignment_is_handed_on_unopened() {
        let mut session = session();
        let actions = session.step(message("vedette/v1/box-17/down/assignment", b"sealed"), Instant::now());
        assert_eq!(actions, [Action::Assignment(b"sealed".to_vec())]);
    }

    #[test]
    fn garbage_on_every_topic_is_counted_and_dropped() {
        let now = Instant::now();
        let mut session = session();
        session.step(Input::Connected, now);
        let foreign = BatchAck::new(8, 5).encode();
        let cases: [(&str, &[u8]); 6] = [
            ("vedette/v1/box-17/down/chunk", &[0xff; 40]),
            ("vedette/v1/box-17/down/ack", b"\xa1"),
            ("vedette/v1/box-17/down/ack", &foreign),
            ("vedette/v1/box-17/up/birth", b""),
            ("vedette/v1/box-18/down/assignment", b""),
            ("elsewhere", b""),
        ];
        for (topic, payload) in cases {
            let actions = session.step(message(topic, payload), now);
            assert!(matches!(actions[..], [Action::Garbage(_)]), "{topic}: {actions:?}");
        }
        assert_eq!((session.garbage(), session.connected()), (6, true));
        assert_eq!(session.wanted(), Some((0, 100)), "the talk goes on");
    }

    #[test]
    fn a_retained_packet_that_is_too_large_costs_one_subscription_and_not_the_device() {
        let now = Instant::now();
        let mut session = session();
        let poisoned = Down::Chunk;
        let mut connections = 0;
        loop {
            connections += 1;
            let actions = session.step(Input::Connected, now);
            let Some(Action::Subscribe(heard)) = actions.first() else { unreachable!() };
            if !heard.contains(&poisoned) {
                break;
            }
            session.step(Input::TooLarge, now);
            assert!(connections < 20, "it never comes through");
        }
        assert_eq!(connections, 2 * TOO_LARGE_IN_A_ROW + 1);
        assert_eq!(u64::from(connections) - 1, session.too_large());
    }

    #[test]
    fn losses_of_another_kind_give_up_nothing() {
        let now = Instant::now();
        let mut session = session();
        for _ in 0..10 {
            session.step(Input::Connected, now);
            session.step(Input::TooLarge, now);
            session.step(Input::Connected, now);
            session.step(Input::Lost, now);
        }
        assert_eq!(session.step(Input::Connected, now)[0], Action::Subscribe(Down::ALL.to_vec()));
    }

    #[test]
    fn what_was_under_way_is_sent_again_after_a_loss() {
        let now = Instant::now();
        let mut session = session();
        session.step(Input::Connected, now);
        session.outbox.sent(50, now);
        assert_eq!(session.wanted(), Some((50, 100)));
        session.step(Input::Lost, now);
        assert_eq!((session.wanted(), session.deadline()), (None, None));
        session.step(Input::Connected, now);
        assert_eq!(session.wanted(), Some((0, 100)));
    }
}
