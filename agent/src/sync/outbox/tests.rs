//! The outbox against a registry that loses, doubles, reorders and goes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use vedette_protocol::limit::MAX_HELD_RANGES;

use super::*;

const EPOCH: u64 = 7;
const TIMEOUT: Duration = Duration::from_secs(10);

fn limits(window: usize) -> Limits {
    Limits { window, ack_timeout: TIMEOUT, backlog_rate: 1_000_000 }
}

/// Connected, with so much backlog.
fn outbox(window: usize, backlog: u64, now: Instant) -> Outbox {
    let mut outbox = Outbox::new(EPOCH, 0, limits(window));
    outbox.committed(backlog);
    outbox.connected(now);
    outbox
}

fn ack(upto: u64, held: &[(u64, u64)]) -> BatchAck {
    BatchAck { held: held.to_vec(), ..BatchAck::new(EPOCH, upto) }
}

fn acknowledge(outbox: &mut Outbox, upto: u64, now: Instant) -> Acked {
    outbox.acknowledged(&ack(upto, &[]), now)
}

/// Lane and range of what is wanted.
fn wanted(outbox: &Outbox, now: Instant) -> Option<(Lane, u64, u64)> {
    outbox.wanted(now).map(|wanted| (wanted.lane, wanted.from, wanted.below))
}

/// Sends what is wanted up to `end`.
fn send(outbox: &mut Outbox, end: u64, now: Instant) -> Lane {
    let Wanted { lane, from, .. } = outbox.wanted(now).expect("something is wanted");
    outbox.sent(lane, from, end, (end - from) as usize, now);
    lane
}

#[test]
fn only_durable_records_are_sent_and_no_more_than_a_window() {
    let now = Instant::now();
    let mut outbox = outbox(3, 100, now);
    assert_eq!(wanted(&outbox, now), Some((Lane::Backlog, 0, 100)));
    send(&mut outbox, 10, now);
    assert_eq!(wanted(&outbox, now), Some((Lane::Backlog, 10, 100)));
    send(&mut outbox, 20, now);
    assert_eq!(wanted(&outbox, now), None, "the backlog's part of the window is full");
    outbox.committed(105);
    assert_eq!(send(&mut outbox, 105, now), Lane::Live);
    outbox.committed(110);
    assert_eq!(wanted(&outbox, now), None, "the window is full");
    assert_eq!(acknowledge(&mut outbox, 20, now), Acked::Moved(20));
    assert_eq!(send(&mut outbox, 110, now), Lane::Live);
    assert_eq!(send(&mut outbox, 100, now), Lane::Backlog);
    assert_eq!(acknowledge(&mut outbox, 110, now), Acked::Moved(110));
    assert_eq!(wanted(&outbox, now), None, "nothing more is durable");
    assert!(outbox.is_idle());
}

#[test]
fn nothing_is_sent_without_a_connection() {
    let now = Instant::now();
    let mut outbox = outbox(3, 100, now);
    outbox.disconnected();
    assert_eq!((wanted(&outbox, now), outbox.deadline(now)), (None, None));
}

#[test]
fn what_is_new_goes_before_what_has_waited_and_only_that_is_late() {
    let now = Instant::now();
    let mut outbox = outbox(4, 1000, now);
    assert_eq!(send(&mut outbox, 100, now), Lane::Backlog);
    outbox.committed(1003);
    assert_eq!(wanted(&outbox, now), Some((Lane::Live, 1000, 1003)));
    send(&mut outbox, 1003, now);
    assert_eq!(outbox.late(), 100);
    // The registry has the live ones; the cursor stays, and they are not sent again on the next connection.
    assert_eq!(outbox.acknowledged(&ack(100, &[(1000, 1003)]), now), Acked::Moved(100));
    assert_eq!((outbox.acked(), outbox.waiting(), outbox.held_ranges()), (100, 900, 1));
    outbox.disconnected();
    outbox.connected(now);
    assert_eq!(wanted(&outbox, now), Some((Lane::Backlog, 100, 1000)));
    send(&mut outbox, 1000, now);
    assert!(outbox.is_all_sent(), "the registry holds the rest");
    assert_eq!(acknowledge(&mut outbox, 1003, now), Acked::Moved(1003));
    assert_eq!(outbox.held_ranges(), 0);
}

#[test]
fn the_backlog_keeps_its_pace_and_live_records_do_not_wait_for_it() {
    let start = Instant::now();
    let mut outbox = Outbox::new(EPOCH, 0, Limits { backlog_rate: 1000, ..limits(64) });
    outbox.committed(100_000);
    outbox.connected(start);
    let (mut now, mut sent) = (start, 0);
    while now < start + Duration::from_secs(10) {
        while let Some(wanted) = outbox.wanted(now) {
            sent = wanted.from + 128;
            outbox.sent(wanted.lane, wanted.from, sent, 128, now);
            acknowledge(&mut outbox, sent, now);
        }
        assert!(outbox.deadline(now).is_some_and(|next| next > now), "it comes back when the pace allows");
        now = outbox.deadline(now).unwrap();
    }
    assert!((10_000..=10_300).contains(&sent), "{sent} records in 10 s at 1000 a second");
    outbox.committed(100_001);
    let early = now - Duration::from_millis(1);
    outbox.sent(Lane::Backlog, sent, sent + 128, 128, early);
    assert_eq!(wanted(&outbox, early), Some((Lane::Live, 100_000, 100_001)));
}

#[test]
fn the_cursor_moves_only_on_an_acknowledgement_of_this_journal() {
    let now = Instant::now();
    let mut outbox = outbox(4, 50, now);
    send(&mut outbox, 50, now);
    assert_eq!(outbox.acknowledged(&BatchAck::new(8, 50), now), Acked::Foreign, "another epoch");
    assert_eq!(acknowledge(&mut outbox, 51, now), Acked::Ahead(51), "more than there is");
    assert_eq!(outbox.acked(), 0);
    assert_eq!(acknowledge(&mut outbox, 50, now), Acked::Moved(50));
    assert_eq!(acknowledge(&mut outbox, 50, now), Acked::Nothing, "twice is once");
}

#[test]
fn a_silent_registry_is_asked_again_with_one_batch_and_doubled_patience() {
    let now = Instant::now();
    let mut outbox = outbox(6, 40, now);
    for end in [10, 20, 30, 40] {
        send(&mut outbox, end, now);
    }
    outbox.expire(now + TIMEOUT - Duration::from_millis(1));
    assert_eq!(wanted(&outbox, now), None, "not yet");
    let later = now + TIMEOUT;
    outbox.expire(later);
    assert_eq!((wanted(&outbox, later), outbox.resent()), (Some((Lane::Backlog, 0, 40)), 4));
    send(&mut outbox, 10, later);
    assert_eq!(wanted(&outbox, later), None, "one batch until an answer comes");
    assert_eq!(outbox.deadline(later), Some(later + 2 * TIMEOUT));
    assert_eq!(acknowledge(&mut outbox, 10, later), Acked::Moved(10));
    send(&mut outbox, 20, later);
    assert_eq!(wanted(&outbox, later), Some((Lane::Backlog, 20, 40)), "the window is open again");
}

#[test]
fn patience_has_an_end() {
    let mut now = Instant::now();
    let mut outbox = outbox(1, 10, now);
    for _ in 0..20 {
        send(&mut outbox, 10, now);
        now = outbox.deadline(now).unwrap();
        outbox.expire(now);
    }
    send(&mut outbox, 10, now);
    assert_eq!(outbox.deadline(now), Some(now + PATIENCE_MAX));
}

#[test]
fn a_new_connection_sends_again_from_the_cursor() {
    let now = Instant::now();
    let mut outbox = outbox(4, 40, now);
    send(&mut outbox, 10, now);
    send(&mut outbox, 20, now);
    assert_eq!(acknowledge(&mut outbox, 10, now), Acked::Moved(10));
    outbox.connected(now);
    assert_eq!((wanted(&outbox, now), outbox.deadline(now)), (Some((Lane::Backlog, 10, 40)), None));
}

#[test]
fn a_late_acknowledgement_after_going_back_is_still_good() {
    let now = Instant::now();
    let mut outbox = outbox(4, 40, now);
    send(&mut outbox, 10, now);
    send(&mut outbox, 20, now);
    outbox.expire(now + TIMEOUT);
    assert_eq!(acknowledge(&mut outbox, 20, now + TIMEOUT), Acked::Moved(20));
    assert_eq!(wanted(&outbox, now + TIMEOUT), Some((Lane::Backlog, 20, 40)));
}

#[test]
fn a_registry_that_lost_records_gets_them_again_but_a_stale_answer_changes_nothing() {
    let now = Instant::now();
    let mut outbox = outbox(6, 40, now);
    send(&mut outbox, 20, now);
    assert_eq!(acknowledge(&mut outbox, 20, now), Acked::Moved(20));
    send(&mut outbox, 30, now);
    assert_eq!(acknowledge(&mut outbox, 5, now), Acked::Nothing);
    assert_eq!(acknowledge(&mut outbox, 30, now), Acked::Moved(30), "it was only late");
    send(&mut outbox, 40, now);
    assert_eq!(acknowledge(&mut outbox, 5, now), Acked::Nothing);
    outbox.expire(now + TIMEOUT);
    assert_eq!(wanted(&outbox, now + TIMEOUT), Some((Lane::Backlog, 5, 40)), "it really has no more");
}

#[test]
fn a_registry_that_lost_what_it_held_beyond_the_cursor_gets_it_again() {
    let now = Instant::now();
    let mut outbox = outbox(4, 20, now);
    outbox.committed(30);
    send(&mut outbox, 30, now);
    assert_eq!(outbox.acknowledged(&ack(0, &[(20, 30)]), now), Acked::Nothing);
    send(&mut outbox, 20, now);
    // It restarted from an older copy: the first twenty came, the others are gone.
    assert_eq!(acknowledge(&mut outbox, 20, now), Acked::Moved(20));
    assert_eq!(wanted(&outbox, now), None, "we believe that it has them");
    let later = outbox.deadline(now).unwrap();
    assert_eq!(later, now + TIMEOUT);
    outbox.expire(later);
    assert_eq!(wanted(&outbox, later), Some((Lane::Live, 20, 30)));
}

#[test]
fn a_device_in_quarantine_keeps_everything_and_asks_with_one_small_batch_every_five_minutes() {
    let now = Instant::now();
    let mut outbox = outbox(4, 100, now);
    send(&mut outbox, 50, now);
    let refusal = BatchAck { refused: Some("its log forks".to_owned()), ..ack(10, &[]) };
    assert_eq!(outbox.acknowledged(&refusal, now), Acked::Moved(10));
    assert_eq!((outbox.refused(), wanted(&outbox, now)), (Some("its log forks"), None));
    let mut at = now;
    for _ in 0..5 {
        let next = outbox.deadline(at).unwrap();
        assert_eq!(next - at, REFUSED_PAUSE);
        at = next;
        let asked = outbox.wanted(at).unwrap();
        assert!(asked.small && asked.from == 10);
        outbox.sent(asked.lane, 10, 18, 8, at);
        assert_eq!(outbox.wanted(at), None, "one");
        // Its answer begins the next pause, and stray ones do not make it longer.
        outbox.acknowledged(&refusal, at);
        outbox.acknowledged(&refusal, at + Duration::from_secs(100));
    }
    // Neither does a new connection make it shorter.
    outbox.connected(at);
    assert_eq!(outbox.wanted(at), None);
    assert_eq!(acknowledge(&mut outbox, 18, at), Acked::Moved(18));
    assert_eq!((outbox.refused(), wanted(&outbox, at)), (None, Some((Lane::Backlog, 18, 100))));
}

#[test]
fn a_lane_that_the_journal_gives_nothing_for_waits_and_the_other_goes_on() {
    let now = Instant::now();
    let mut outbox = outbox(4, 50, now);
    let again = now + Duration::from_secs(2);
    outbox.stalled(Lane::Backlog, again);
    assert_eq!((wanted(&outbox, now), outbox.deadline(now)), (None, Some(again)));
    outbox.committed(60);
    assert_eq!(send(&mut outbox, 60, now), Lane::Live);
    outbox.acknowledged(&ack(0, &[(50, 60)]), now);
    assert_eq!(wanted(&outbox, again), Some((Lane::Backlog, 0, 50)));
    assert_eq!(outbox.sent_below(), 0, "no checkpoint may say that it was sent");
}

#[test]
fn control_records_are_looked_for_behind_a_live_burst_and_nowhere_else() {
    let now = Instant::now();
    let mut outbox = outbox(4, 10_000, now);
    assert_eq!(outbox.overtakable(now), None, "the backlog goes in its order");
    outbox.committed(10_000 + OVERTAKEN_MIN);
    assert_eq!(outbox.overtakable(now), None, "they are soon sent anyway");
    outbox.committed(12_000);
    assert_eq!(outbox.overtakable(now), Some((10_000 + OVERTAKEN_MIN, 12_000)));
    outbox.overtook(11_000, false, now);
    assert_eq!(outbox.overtakable(now), Some((11_000, 12_000)), "each is looked at once");
    outbox.overtook(11_500, true, now);
    assert_eq!(outbox.overtakable(now), None, "one batch ahead of the others without an answer");
    assert_eq!(wanted(&outbox, now), Some((Lane::Live, 10_000, 12_000)), "in their place they are sent again");
    outbox.acknowledged(&ack(0, &[(11_040, 11_041)]), now);
    assert_eq!(outbox.overtakable(now), Some((11_500, 12_000)));
    outbox.connected(now);
    assert_eq!(outbox.overtakable(now), None);
}

/// What a registry knows, by the rules of the wire.
#[derive(Clone, Default)]
struct Registry {
    stored: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    upto: u64,
}

impl Registry {
    fn take(&mut self, span: (u64, u64), records: &[u64]) {
        self.stored.extend(records);
        self.settled.extend(span.0..span.1);
        while self.settled.contains(&self.upto) {
            self.upto += 1;
        }
    }

    fn ack(&self) -> BatchAck {
        let mut held: Vec<(u64, u64)> = Vec::new();
        for n in self.settled.range(self.upto..) {
            match held.last_mut() {
                Some(last) if last.1 == *n => last.1 += 1,
                Some(_) | None => held.push((*n, n + 1)),
            }
        }
        held.truncate(MAX_HELD_RANGES);
        ack(self.upto, &held)
    }
}

struct World {
    random: u64,
    now: Instant,
    outbox: Outbox,
    committed: u64,
    /// Rotten, thinned or pruned.
    absent: BTreeSet<u64>,
    registry: Registry,
    backup: Registry,
    up: Vec<((u64, u64), Vec<u64>)>,
    down: Vec<BatchAck>,
    /// Whether the registry ever lost what it had acknowledged.
    lossy_registry: bool,
}

impl World {
    fn new(seed: u64, lossy_registry: bool) -> Self {
        let now = Instant::now();
        let mut world = Self {
            random: seed,
            now,
            outbox: Outbox::new(EPOCH, 0, limits(1 + (seed % 8) as usize)),
            committed: 0,
            absent: BTreeSet::new(),
            registry: Registry::default(),
            backup: Registry::default(),
            up: Vec::new(),
            down: Vec::new(),
            lossy_registry,
        };
        world.outbox.connected(now);
        world
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % limit
    }

    fn commit(&mut self, records: u64) {
        for n in self.committed..self.committed + records {
            if self.below(10) == 0 {
                self.absent.insert(n);
            }
        }
        self.committed += records;
        self.outbox.committed(self.committed);
    }

    fn send(&mut self) {
        let Some(Wanted { lane, from, below, .. }) = self.outbox.wanted(self.now) else { return };
        assert!(from >= self.outbox.acked() && below <= self.committed && from < below);
        let end = (from + 1 + self.below(20)).min(below);
        let records: Vec<u64> = (from..end).filter(|n| !self.absent.contains(n)).collect();
        self.outbox.sent(lane, from, end, records.len(), self.now);
        self.up.push(((from, end), records));
    }

    fn deliver_up(&mut self, at: usize) {
        let (span, records) = self.up.remove(at);
        self.registry.take(span, &records);
        self.down.push(self.registry.ack());
    }

    fn deliver_down(&mut self, at: usize) {
        let ack = self.down.remove(at);
        assert_ne!(self.outbox.acknowledged(&ack, self.now), Acked::Foreign);
    }

    fn reconnect(&mut self) {
        // What was on its way may still come, or not.
        if self.below(2) == 0 {
            self.up.clear();
        }
        if self.below(2) == 0 {
            self.down.clear();
        }
        self.outbox.disconnected();
        self.outbox.connected(self.now);
    }

    fn pick(&mut self, of: usize) -> usize {
        let limit = of as u64;
        // In order mostly.
        if self.below(3) > 0 { 0 } else { self.below(limit) as usize }
    }

    fn chaos(&mut self) {
        match self.below(100) {
            0..=14 => {
                let records = 1 + self.below(40);
                self.commit(records);
            }
            15..=49 => self.send(),
            50..=64 if !self.up.is_empty() => {
                let at = self.pick(self.up.len());
                self.deliver_up(at);
            }
            65..=79 if !self.down.is_empty() => {
                let at = self.pick(self.down.len());
                self.deliver_down(at);
            }
            80..=83 if !self.up.is_empty() => drop(self.up.remove(0)),
            84..=86 if !self.down.is_empty() => drop(self.down.remove(0)),
            87..=89 if !self.up.is_empty() => self.up.push(self.up[0].clone()),
            90..=91 if !self.down.is_empty() => self.down.push(self.down[0].clone()),
            92..=94 => {
                self.now += Duration::from_millis(self.random % 15_000);
                self.outbox.expire(self.now);
            }
            95..=96 => self.reconnect(),
            97 => self.backup = self.registry.clone(),
            98 if self.lossy_registry => self.registry = self.backup.clone(),
            _ => {}
        }
    }

    fn check(&self) {
        assert!(self.outbox.under_way.len() <= self.outbox.limits.window);
        assert!(self.outbox.held_ranges() <= HELD_RANGES_MAX);
        if self.lossy_registry {
            return;
        }
        assert!(self.outbox.acked() <= self.registry.upto, "the cursor is beyond what the registry has");
        let settled = |from, below| (from..below).all(|n| self.registry.settled.contains(&n));
        assert!(settled(0, self.outbox.acked()));
        let mut at = self.outbox.acked();
        while at < self.committed {
            let (open, next) = self.outbox.held.open_from(at);
            assert!(settled(at, open), "{at} to {open} is not there");
            at = next.unwrap_or(self.committed);
        }
    }

    /// Nothing fails any more: how many batches until all is there.
    fn calm(&mut self) -> usize {
        let mut batches = 0;
        for _ in 0..200_000 {
            while !self.up.is_empty() {
                self.deliver_up(0);
            }
            while !self.down.is_empty() {
                self.deliver_down(0);
            }
            if self.outbox.acked() == self.committed && self.registry.upto == self.committed {
                return batches;
            }
            let before = self.up.len();
            self.send();
            batches += self.up.len() - before;
            if self.up.len() == before {
                self.now = self.outbox.deadline(self.now).expect("it waits for something").max(self.now);
                self.outbox.expire(self.now);
            }
        }
        panic!(
            "never done: cursor {}, registry {}, of {}: {:?}",
            self.outbox.acked(),
            self.registry.upto,
            self.committed,
            self.outbox
        );
    }
}

fn run(seed: u64, lossy_registry: bool) {
    let mut world = World::new(seed, lossy_registry);
    for _ in 0..600 {
        world.chaos();
        world.check();
    }
    if lossy_registry {
        // What it lost is only seen when it answers: something new makes it do so.
        world.commit(1);
    }
    world.calm();
    let there: BTreeSet<u64> = (0..world.committed).filter(|n| !world.absent.contains(n)).collect();
    assert_eq!(world.registry.stored, there, "seed {seed}");
}

#[test]
fn whatever_is_lost_doubled_or_out_of_order_in_the_end_all_is_there_and_the_cursor_never_lies() {
    for seed in 0..500 {
        run(seed, false);
    }
}

#[test]
fn a_registry_that_goes_back_to_an_old_copy_again_and_again_has_everything_in_the_end() {
    for seed in 0..500 {
        run(seed, true);
    }
}
