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
        let ceiling = self.base.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        part(ceiling, draw)
    }

    /// It works again: the next failure waits as the first one did.
    pub fn worked(&mut self) {
        self.failures = 0;
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
}
