//! Time: the only room that asks the system what time it is.
//!
//! A stamp is `(boot id, time since boot, wall time, quality)`. Intervals are measured since boot and go on during
//! suspend; wall time may be wrong on a box without a battery clock, so it carries a quality and never orders records.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use vedette_protocol::id::BootId;
use vedette_protocol::time::{Quality, Stamp};

/// Where Linux says which boot this is.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// No agent of this source ran before 2026-01-01T00:00:00Z: an earlier wall clock is wrong (Unix ms UTC).
const WALL_FLOOR_MS: i64 = 1_767_225_600_000;

/// What time it is, for this boot.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot: BootId,
    started: Instant,
}

impl Clock {
    /// Reads which boot this is.
    ///
    /// # Errors
    /// When the kernel does not tell (no `/proc`).
    pub fn start() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(BOOT_ID_FILE).with_context(|| format!("couldn't read {BOOT_ID_FILE}"))?;
        let boot = text
            .trim()
            .replace('-', "")
            .parse()
            .with_context(|| format!("couldn't read the boot id in {BOOT_ID_FILE}"))?;
        Ok(Self { boot, started: Instant::now() })
    }

    /// Which boot this is.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Now, with everything that a record says about its time.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let (wall_ms, quality) = judge(system_ms());
        Stamp { boot: self.boot, monotonic_ns: self.monotonic_ns(), wall_ms, quality }
    }

    /// Wall time now, Unix ms UTC; never before the floor.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        judge(system_ms()).0
    }

    /// Time since boot, ns; suspend counts.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        let t = clock_gettime(ClockId::Boottime);
        u64::try_from(t.tv_sec)
            .unwrap_or(0)
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0))
    }

    /// The moment, for measuring intervals inside the program.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// How long the program has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Now on the timers' own scale, which tests can stop.
#[must_use]
pub fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

fn system_ms() -> i64 {
    let t = clock_gettime(ClockId::Realtime);
    t.tv_sec.saturating_mul(1000).saturating_add(t.tv_nsec / 1_000_000)
}

/// Wall time and how much it is worth, from what the system says (Unix ms UTC).
fn judge(system_ms: i64) -> (i64, Quality) {
    if system_ms < WALL_FLOOR_MS { (WALL_FLOOR_MS, Quality::Floor) } else { (system_ms, Quality::System) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_clock_before_the_floor_is_raised_and_says_so() {
        assert_eq!(judge(0), (WALL_FLOOR_MS, Quality::Floor));
        assert_eq!(judge(WALL_FLOOR_MS + 1), (WALL_FLOOR_MS + 1, Quality::System));
    }

    #[test]
    fn time_since_boot_goes_forward_and_the_boot_is_one() {
        let (a, b) = (Clock::start().unwrap(), Clock::start().unwrap());
        let (first, second) = (a.stamp(), b.stamp());
        assert!(second.monotonic_ns >= first.monotonic_ns);
        assert_eq!(first.boot, second.boot);
    }
}
