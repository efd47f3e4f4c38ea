//! The talk with the registry as a pure machine: what happened goes in, what to do comes out. No socket, no clock.
//!
//! On each connection: subscribe, say who we are (birth, retained), how we do (status), and send the journal from the
//! cursor. Status is repeated, and said at once when what runs has changed. Whatever arrives is decoded here: garbage is
//! counted and dropped.
//!
//! A packet larger than our limit ends the connection each time that it is delivered, and a retained one is delivered
//! on each connection. So after three in a row one subscription is given up, after each further one the next, until the
//! connection holds. What was given up is tried again every quarter of an hour, one at a time: once the registry has
//! published there again, the large packet is gone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vedette_protocol::id::DeviceId;
use vedette_protocol::message::{BatchAck, Chunk, Message as _};
use vedette_protocol::topic::{Direction, Down, Topic};

use super::claims::{Claims, Proven};
use super::outbox::{Acked, Outbox, Wanted};

/// Connections ended by a packet that is too large, in a row, before the first subscription is given up (reliability: a
/// retained message of this kind would otherwise keep the device away for ever).
pub(super) const TOO_LARGE_IN_A_ROW: u32 = 3;

/// A subscription that was given up is tried again after this.
const TRIED_AGAIN: Duration = Duration::from_secs(900);

/// One that is tried again and holds for so long is no danger any more.
const PROVEN: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// The broker let us in.
    Connected,
    /// The broker has answered the oldest subscription: for each topic whether it is heard.
    Subscribed(Vec<bool>),
    /// The connection is over because a packet was too large.
    TooLarge,
    /// The connection is over, or could not be made.
    Lost,
    /// A message arrived.
    Message { topic: String, payload: Vec<u8> },
    /// Journal records below this sequence are durable.
    Committed(u64),
    /// A checkpoint of this size was signed.
    Signed(u64),
    /// The proof that it continues what the registry has accepted is ready.
    Proven(Box<Proven>),
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
    /// The registry has accepted the checkpoint of this size.
    Accepted(u64),
    /// Hand an assignment (still sealed) to deploy.
    Assignment(Vec<u8>),
    /// Hand a piece of a file to deploy.
    Chunk(Chunk),
    /// Something arrived that is none of ours: log it the first time.
    Garbage(&'static str),
    /// The registry has more of this journal than this journal has.
    Ahead(u64),
    /// A subscription is given up: log it.
    GiveUp(Down),
    /// The broker does not let us hear this: log it.
    Unheard(Down),
}

/// A subscription that cost us connections.
#[derive(Clone, Copy, Debug)]
struct GivenUp {
    down: Down,
    again: Instant,
    /// It is being tried again, and is no danger when it holds until then.
    proven: Option<Instant>,
}

/// The state of the talk.
#[derive(Debug)]
pub(super) struct Session {
    device: DeviceId,
    pub(super) outbox: Outbox,
    pub(super) claims: Claims,
    connected: bool,
    status_interval: Duration,
    status_at: Option<Instant>,
    too_large_in_a_row: u32,
    given_up: Vec<GivenUp>,
    /// Subscriptions without an answer, in their order.
    subscribing: VecDeque<Vec<Down>>,
    unheard: Vec<Down>,
    garbage: u64,
    too_large: u64,
}

impl Session {
    pub(super) fn new(device: DeviceId, outbox: Outbox, claims: Claims, status_interval: Duration) -> Self {
        Self {
            device,
            outbox,
            claims,
            connected: false,
            status_interval,
            status_at: None,
            too_large_in_a_row: 0,
            given_up: Vec::new(),
            subscribing: VecDeque::new(),
            unheard: Vec::new(),
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

    /// Why the talk is not what it should be, as a sentence.
    pub(super) fn degraded(&self) -> Option<String> {
        if let Some(why) = self.outbox.refused() {
            return Some(format!("the registry takes nothing from this device: {why}"));
        }
        if let Some(down) = self.unheard.first() {
            return Some(format!(
                "the broker does not let this device hear down/{}: is its access list right?",
                down.level()
            ));
        }
        let given_up = self.given_up.first()?;
        Some(format!("down/{} is not heard: packets there are too large and end the connection", given_up.down.level()))
    }

    /// The batch to send next, when there is a connection.
    pub(super) fn wanted(&self, now: Instant) -> Option<Wanted> {
        if self.connected { self.outbox.wanted(now) } else { None }
    }

    /// When to come back with [`Input::Tick`].
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.connected {
            return None;
        }
        let on_trial = self.given_up.iter().find_map(|given_up| given_up.proven);
        let again = on_trial.or_else(|| self.given_up.iter().map(|given_up| given_up.again).min());
        [self.status_at, self.outbox.deadline(now), self.claims.deadline(), again].into_iter().flatten().min()
    }

    /// One step.
    pub(super) fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Connected => self.welcome(now),
            Input::Subscribed(heard) => self.subscribed(&heard),
            Input::TooLarge => self.too_large_packet(now),
            Input::Lost => {
                self.too_large_in_a_row = 0;
                self.forget();
                Vec::new()
            }
            Input::Message { topic, payload } => self.message(&topic, payload, now),
            Input::Committed(below) => {
                self.outbox.committed(below);
                Vec::new()
            }
            Input::Signed(size) => {
                self.claims.signed(size);
                Vec::new()
            }
            Input::Proven(proven) => {
                self.claims.proved(*proven);
                Vec::new()
            }
            Input::Changed => self.say_status(now),
            Input::Tick => self.tick(now),
        }
    }

    fn welcome(&mut self, now: Instant) -> Vec<Action> {
        self.connected = true;
        self.outbox.connected(now);
        let given_up = |down: &Down| self.given_up.iter().any(|given_up| given_up.down == *down);
        let heard: Vec<Down> = Down::ALL.into_iter().filter(|down| !given_up(down)).collect();
        let mut actions = Vec::new();
        // MQTT knows no subscription to nothing.
        if !heard.is_empty() {
            self.subscribing.push_back(heard.clone());
            actions.push(Action::Subscribe(heard));
        }
        actions.push(Action::Birth);
        actions.extend(self.say_status(now));
        actions
    }

    fn subscribed(&mut self, heard: &[bool]) -> Vec<Action> {
        let asked = self.subscribing.pop_front().unwrap_or_default();
        let unheard: Vec<Down> =
            asked.into_iter().enumerate().filter(|(n, _)| heard.get(*n) != Some(&true)).map(|(_, down)| down).collect();
        self.unheard.extend(&unheard);
        unheard.into_iter().map(Action::Unheard).collect()
    }

    fn forget(&mut self) {
        self.connected = false;
        self.status_at = None;
        self.subscribing.clear();
        self.unheard.clear();
        self.given_up.iter_mut().for_each(|given_up| given_up.proven = None);
        self.outbox.disconnected();
        self.claims.forget();
    }

    fn too_large_packet(&mut self, now: Instant) -> Vec<Action> {
        let on_trial = self.given_up.iter_mut().find(|given_up| given_up.proven.is_some());
        let was_on_trial = on_trial.map(|given_up| given_up.again = now + TRIED_AGAIN).is_some();
        self.forget();
        self.too_large = self.too_large.saturating_add(1);
        if was_on_trial {
            return Vec::new();
        }
        self.too_large_in_a_row += 1;
        if self.given_up.is_empty() && self.too_large_in_a_row < TOO_LARGE_IN_A_ROW {
            return Vec::new();
        }
        self.too_large_in_a_row = 0;
        // What is retained by right is the first suspect.
        let suspect = Down::ALL.into_iter().find(|down| self.given_up.iter().all(|given_up| given_up.down != *down));
        let given_up = suspect.map(|down| GivenUp { down, again: now + TRIED_AGAIN, proven: None });
        self.given_up.extend(given_up);
        suspect.map(Action::GiveUp).into_iter().collect()
    }

    fn message(&mut self, topic: &str, payload: Vec<u8>, now: Instant) -> Vec<Action> {
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
                Ok(ack) => self.acknowledged(&ack, now),
                Err(_) => self.drop_garbage("an acknowledgement that cannot be read"),
            },
        }
    }

    fn acknowledged(&mut self, ack: &BatchAck, now: Instant) -> Vec<Action> {
        let refused = self.outbox.refused().is_some();
        let mut actions = match self.outbox.acknowledged(ack, now) {
            Acked::Moved(upto) => vec![Action::Cursor(upto)],
            Acked::Nothing => Vec::new(),
            Acked::Ahead(upto) => {
                let mut actions = self.drop_garbage("an acknowledgement of records that this journal never had");
                actions.push(Action::Ahead(upto));
                return actions;
            }
            Acked::Foreign => return self.drop_garbage("an acknowledgement of another journal"),
        };
        if ack.refused.is_some() {
            self.claims.forget();
        } else if self.claims.heard(ack.checkpoint) {
            actions.push(Action::Accepted(ack.checkpoint));
        }
        if refused != ack.refused.is_some() {
            actions.extend(self.say_status(now));
        }
        actions
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
        self.claims.expire(now);
        let mut actions = self.try_again(now);
        if self.status_at.is_some_and(|at| at <= now) {
            actions.extend(self.say_status(now));
        }
        actions
    }

    /// Tries a subscription again that was given up, and takes back what has proven harmless.
    fn try_again(&mut self, now: Instant) -> Vec<Action> {
        if !self.connected {
            return Vec::new();
        }
        self.given_up.retain(|given_up| given_up.proven.is_none_or(|proven| proven > now));
        if self.given_up.iter().any(|given_up| given_up.proven.is_some()) {
            return Vec::new();
        }
        let Some(due) = self.given_up.iter_mut().find(|given_up| given_up.again <= now) else { return Vec::new() };
        due.proven = Some(now + PROVEN);
        let heard = vec![due.down];
        self.subscribing.push_back(heard.clone());
        vec![Action::Subscribe(heard)]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::outbox::{Lane, Limits};
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn session() -> Session {
        let timeout = Duration::from_secs(10);
        let mut outbox = Outbox::new(7, 0, Limits { window: 4, ack_timeout: timeout, backlog_rate: 1_000_000 });
        outbox.committed(100);
        Session::new("box-17".parse().unwrap(), outbox, Claims::new(timeout), INTERVAL)
    }

    /// What is wanted, of the backlog.
    fn backlog(session: &Session, now: Instant) -> Option<(u64, u64)> {
        session.wanted(now).map(|wanted| {
            assert_eq!(wanted.lane, Lane::Backlog);
            (wanted.from, wanted.below)
        })
    }

    fn message(topic: &str, payload: &[u8]) -> Input {
        Input::Message { topic: topic.to_owned(), payload: payload.to_vec() }
    }

    #[test]
    fn a_connection_begins_with_subscribing_and_saying_what_runs() {
        let now = Instant::now();
        let mut session = session();
        assert_eq!(session.wanted(now), None, "nothing is sent without a connection");
        let actions = session.step(Input::Connected, now);
        assert_eq!(actions, [Action::Subscribe(Down::ALL.to_vec()), Action::Birth, Action::Status]);
        assert_eq!(backlog(&session, now), Some((0, 100)));
        assert_eq!(session.deadline(now), Some(now + INTERVAL));
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
        session.outbox.sent(Lane::Backlog, 0, 50, 50, now);
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
        assert_eq!(backlog(&session, now), Some((0, 100)), "the talk goes on");
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
        assert_eq!(connections, TOO_LARGE_IN_A_ROW + 2, "the second suspect after one more");
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
        session.outbox.sent(Lane::Backlog, 0, 50, 50, now);
        assert_eq!(backlog(&session, now), Some((50, 100)));
        session.step(Input::Lost, now);
        assert_eq!((backlog(&session, now), session.deadline(now)), (None, None));
        session.step(Input::Connected, now);
        assert_eq!(backlog(&session, now), Some((0, 100)));
    }

    #[test]
    fn a_topic_that_was_given_up_is_tried_again_later_and_comes_back_when_it_holds() {
        let mut now = Instant::now();
        let mut session = session();
        for _ in 0..TOO_LARGE_IN_A_ROW {
            session.step(Input::Connected, now);
            session.step(Input::TooLarge, now);
        }
        session.step(Input::Connected, now);
        assert!(session.degraded().unwrap().contains("down/assignment"));
        let again = |actions: &[Action]| actions.contains(&Action::Subscribe(vec![Down::Assignment]));
        assert!(!again(&session.step(Input::Tick, now + TRIED_AGAIN - INTERVAL)));
        now += TRIED_AGAIN;
        assert!(again(&session.step(Input::Tick, now)));
        // It is still there: one connection more, and not before the next quarter of an hour again.
        assert_eq!(session.step(Input::TooLarge, now), []);
        session.step(Input::Connected, now);
        assert!(!again(&session.step(Input::Tick, now + TRIED_AGAIN - INTERVAL)));
        now += TRIED_AGAIN;
        assert!(again(&session.step(Input::Tick, now)));
        // Now it is gone.
        session.step(Input::Tick, now + PROVEN);
        assert_eq!(session.degraded(), None);
        session.step(Input::Lost, now);
        assert_eq!(session.step(Input::Connected, now)[0], Action::Subscribe(Down::ALL.to_vec()));
    }
}
