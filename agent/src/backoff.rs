//! How long to wait before something that failed is tried again: exponential with full jitter and a cap.
//!
//! A thousand devices that lost one broker come back spread over the whole wait instead of together (AWS Architecture
//! Blog, "Exponential Backoff And Jitter": full jitter needs the fewest calls of the variants).

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

/// Doublings after which the wait grows no more, whatever the cap: 2^20 x 100 ms is more than a day.
const DOUBLINGS_MAX: u32 = 20;

/// The wait between attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from 0 to `base` after the first failure, to twice that after the second, never more than `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// One more failure: how long to wait now; `draw` is random, uniform over all `u32`.
    pub fn failed(&mut self, draw: u32) -> Duration {
        part(self.next(), draw)
    }

    /// One more failure: the longest that the wait may be.
    fn next(&mut self) -> Duration {
        let ceiling = self.base.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        ceiling
    }

    /// It works again: the next failure waits as the first one did.
    pub fn worked(&mut self) {
        self.failures = 0;
    }
}

/// How long a connection that a whole fleet shares is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The first connection after a start waits a random part of this.
    pub start: Duration,
    /// After a good connection was lost, and once there has been none for [`OUTAGE`], the waits begin with a part of
    /// this (and double): all devices of a broker lose it in the same second. 30 s bring 10,000 devices back at 333 a
    /// second; brokers admit about 500.
    pub spread: Duration,
    /// Without a spread: the first wait; it doubles.
    pub base: Duration,
    /// No wait is longer.
    pub cap: Duration,
}

/// After this time without a connection we are one of many who wait for it.
pub const OUTAGE: Duration = Duration::from_secs(60);

/// A connection that held this long was a good one.
pub const STABLE: Duration = Duration::from_secs(30);

/// When to connect again. Pure: time and randomness are the caller's.
#[derive(Clone, Debug)]
pub struct Reconnect {
    waits: Waits,
    alone: Backoff,
    together: Backoff,
    /// Whether there ever was a good connection.
    was_good: bool,
}

impl Reconnect {
    /// Before the first connection.
    #[must_use]
    pub fn new(waits: Waits) -> Self {
        let (alone, together) = (Backoff::new(waits.base, waits.cap), Backoff::new(waits.spread, waits.cap));
        Self { waits, alone, together, was_good: false }
    }

    /// The wait before the first connection; `draw` is random, uniform over all `u32`.
    #[must_use]
    pub fn first(&self, draw: u32) -> Duration {
        part(self.waits.start, draw)
    }

    /// The wait after a connection was lost or could not be made. `outage` is the time since there was a good one (or
    /// since the start): zero when a good one (see [`STABLE`]) was lost just now.
    pub fn lost(&mut self, outage: Duration, draw: u32) -> Duration {
        if outage.is_zero() {
            self.alone.worked();
            self.together.worked();
            self.was_good = true;
        }
        let alone = self.alone.next();
        let ceiling = if self.was_good || outage > OUTAGE { alone.max(self.together.next()) } else { alone };
        part(ceiling, draw)
    }
}

/// A random part of a wait; `draw` is uniform over all `u32`.
#[must_use]
pub fn part(whole: Duration, draw: u32) -> Duration {
    whole.mul_f64(f64::from(draw) / f64::from(u32::MAX))
}

/// A draw from the system's randomness; the middle when the system has none to give, so that a wait stays a wait.
#[must_use]
pub fn draw() -> u32 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(ring::error::Unspecified) => u32::MAX / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_cap_and_starts_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let longest: Vec<u64> = (0..5).map(|_| backoff.failed(u32::MAX).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 5, 5]);
        backoff.worked();
        assert_eq!(backoff.failed(u32::MAX).as_secs(), 1);
    }

    #[test]
    fn the_jitter_is_full_from_nothing_to_all() {
        let whole = Duration::from_secs(8);
        assert_eq!(part(whole, 0), Duration::ZERO);
        assert_eq!(part(whole, u32::MAX), whole);
    }

    #[test]
    fn many_failures_never_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(300));
        for _ in 0..100 {
            assert!(backoff.failed(u32::MAX) <= Duration::from_secs(300));
        }
    }

    /// A broker that admits so many connections a second (a bucket of one second), against so many clients.
    const CLIENTS: usize = 10_000;
    const RATE: f64 = 500.0;

    #[derive(Debug)]
    struct Herd {
        /// Seconds from the moment when the broker was there until everybody was in.
        all_in_s: f64,
        /// Attempts that reached the broker, a client.
        tries: f64,
        /// Attempts that reached the broker in its worst second.
        peak: usize,
    }

    struct Random(u64);

    impl Random {
        fn draw(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 32) as u32
        }
    }

    /// All clients wait `first` at time 0, the broker answers from `down_s` on, and whoever it does not admit waits `again`.
    fn herd<C>(
        mut clients: Vec<C>,
        down_s: f64,
        mut first: impl FnMut(&mut C, u32) -> Duration,
        mut again: impl FnMut(&mut C, Duration, u32) -> Duration,
    ) -> Herd {
        use std::cmp::Reverse;
        use std::collections::{BTreeMap, BinaryHeap};
        let mut random = Random(1);
        let mut due: BinaryHeap<Reverse<(Duration, usize)>> =
            clients.iter_mut().enumerate().map(|(n, c)| Reverse((first(c, random.draw()), n))).collect();
        let (mut tokens, mut filled, mut end, mut tries) = (RATE, down_s, down_s, 0);
        let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
        while let Some(Reverse((at, n))) = due.pop() {
            let at_s = at.as_secs_f64();
            if at_s >= down_s {
                tokens = (tokens + (at_s - filled) * RATE).min(RATE);
                filled = at_s;
                tries += 1;
                *seconds.entry((at_s - down_s) as u64).or_default() += 1;
                if tokens >= 1.0 {
                    tokens -= 1.0;
                    end = at_s;
                    continue;
                }
            }
            due.push(Reverse((at + again(&mut clients[n], at, random.draw()), n)));
        }
        let peak = seconds.values().copied().max().unwrap_or(0);
        let herd = Herd { all_in_s: end - down_s, tries: f64::from(tries) / CLIENTS as f64, peak };
        println!("{herd:?}");
        herd
    }

    fn waits(start_s: u64, spread_s: u64) -> Waits {
        Waits {
            start: Duration::from_secs(start_s),
            spread: Duration::from_secs(spread_s),
            base: Duration::from_secs(1),
            cap: Duration::from_secs(300),
        }
    }

    fn ours(spread_s: u64, down_s: f64) -> Herd {
        let clients = vec![Reconnect::new(waits(0, spread_s)); CLIENTS];
        herd(clients, down_s, |c, draw| c.lost(Duration::ZERO, draw), Reconnect::lost)
    }

    fn is_gentle(herd: &Herd) {
        assert!(herd.tries <= 1.1 && herd.peak as f64 <= RATE, "{herd:?}");
    }

    #[test]
    fn a_fleet_that_lost_its_broker_comes_back_below_its_rate() {
        let herd = ours(30, 0.0);
        is_gentle(&herd);
        assert!(herd.all_in_s <= 1.5 * CLIENTS as f64 / RATE, "{herd:?}");
        // Down for a while first: the later the return, the wider they are spread, up to the cap.
        for down_s in [2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 600.0] {
            let herd = ours(30, down_s);
            is_gentle(&herd);
            assert!(herd.all_in_s <= 300.0, "{down_s} s: {herd:?}");
        }
    }

    #[test]
    fn a_fleet_that_starts_at_once_comes_in_below_the_rate_when_the_start_is_spread() {
        let clients = vec![Reconnect::new(waits(30, 30)); CLIENTS];
        let herd = herd(clients, 0.0, |c, draw| c.first(draw), Reconnect::lost);
        is_gentle(&herd);
    }

    #[test]
    fn without_a_spread_the_broker_is_overrun() {
        let clients = vec![Backoff::new(Duration::from_secs(1), Duration::from_secs(300)); CLIENTS];
        let jitter = herd(clients.clone(), 0.0, |_, _| Duration::ZERO, |c, _, draw| c.failed(draw));
        assert!(jitter.tries > 4.0 && jitter.peak > 10_000, "{jitter:?}");
        let none = herd(clients, 0.0, |_, _| Duration::ZERO, |c, _, _| c.failed(u32::MAX));
        assert!(none.tries > 10.0 && none.all_in_s > 1000.0, "{none:?}");
        let short = ours(10, 0.0);
        assert!(short.peak as f64 > RATE, "{short:?}");
    }

    #[test]
    fn a_single_device_that_starts_before_its_broker_is_in_soon() {
        let mut reconnect = Reconnect::new(waits(10, 30));
        assert!(reconnect.first(u32::MAX) <= Duration::from_secs(10));
        let longest: Vec<u64> = (1..5).map(|n| reconnect.lost(Duration::from_secs(n), u32::MAX).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8]);
        assert_eq!(reconnect.lost(Duration::from_secs(61), u32::MAX).as_secs(), 30, "one of many by now");
        assert_eq!(reconnect.lost(Duration::from_secs(91), u32::MAX).as_secs(), 60);
    }

    #[test]
    fn no_wait_is_longer_than_the_cap() {
        let mut reconnect = Reconnect::new(Waits { cap: Duration::from_secs(1), ..waits(10, 30) });
        for n in 0..200 {
            assert!(reconnect.lost(Duration::from_secs(n), u32::MAX) <= Duration::from_secs(1));
        }
    }
}
