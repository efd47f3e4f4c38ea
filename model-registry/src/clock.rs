//! The only caller of `now()` in the registry: everything else is handed the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment to measure durations from: it only goes forward, whatever happens to the wall clock.
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Where the registry's wall time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A time that a test sets: Unix milliseconds, UTC.
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// Unix milliseconds, UTC. A machine whose clock stands before 1970 reads 0.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_millis()).ok())
                .unwrap_or(0),
            Clock::Set(ms) => ms.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_reads_a_time_after_this_was_written() {
        assert!(Clock::System.now_ms() > 1_760_000_000_000);
    }

    #[test]
    fn a_set_clock_reads_what_was_set() {
        let clock = Clock::Set(Arc::new(AtomicI64::new(5)));
        assert_eq!(clock.now_ms(), 5);
    }
}
