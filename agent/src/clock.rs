//! Time: the only room that asks the system what time it is.
//!
//! # Constraints
//!
//! - A stamp is `(boot id, time since boot, wall time, quality)`. Intervals are measured since boot and go on during
//!   suspend; wall time may be wrong on a box without a battery clock, so it carries a quality and never orders records.
//! - The *floor* is the earliest that it can be: the newest of the build's time and the last signed time, plus what has
//!   passed since. Only signed times raise it. A network's clock must not: one bad answer would make everything expire.
//! - The system's wall clock is believed within the floor and [`WINDOW_MS`] behind it; elsewhere the floor stands in, with
//!   its quality, until the clock is set right. Nothing is deleted or refused for good because of what a clock says.
//!
//! # Operations
//!
//! [`Clock`] is a handle that is copied; what it points to lives as long as the process. [`watch::run`] looks at the clock every
//! second, journals its jumps ([`watch`]) and stores the floor, when a signed time has raised it and every hour.
//!
//! # Recovery
//!
//! The stored floor carries a digest; a file that cannot be read or does not hash right counts as none, and the build's
//! time stands. A signed time that was wrong is taken back by a newer signature with an earlier time.

pub mod floor;
pub mod watch;

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use vedette_protocol::id::BootId;
use vedette_protocol::time::Stamp;

use floor::Floor;
pub use floor::WINDOW_MS;

/// Where Linux says which boot this is.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// What time it is, for this boot.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    face: &'static Face,
}

#[derive(Debug)]
struct Face {
    boot: BootId,
    started: Instant,
    source: Source,
    floor: Mutex<Floor>,
    changed: tokio::sync::watch::Sender<u64>,
}

/// Where readings come from.
#[derive(Debug)]
enum Source {
    System,
    Set(Arc<SetTime>),
}

/// A time that a test sets; intervals go on by the system's.
#[derive(Debug, Default)]
pub struct SetTime {
    /// The wall clock, Unix ms UTC.
    pub wall_ms: AtomicI64,
    /// Time since boot, ns.
    pub monotonic_ns: AtomicU64,
}

impl Clock {
    /// Reads which boot this is.
    ///
    /// # Errors
    /// When the kernel does not tell (no `/proc`).
    pub fn start() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(BOOT_ID_FILE).with_context(|| format!("couldn't read {BOOT_ID_FILE}"))?;
        let boot = text.trim().parse().with_context(|| format!("couldn't read the boot id in {BOOT_ID_FILE}"))?;
        Ok(Self::new(boot, Source::System))
    }

    /// A clock that shows what a test sets.
    #[must_use]
    pub fn set(boot: BootId, time: Arc<SetTime>) -> Self {
        Self::new(boot, Source::Set(time))
    }

    fn new(boot: BootId, source: Source) -> Self {
        let face = Face {
            boot,
            started: Instant::now(),
            source,
            floor: Mutex::new(Floor::built()),
            changed: tokio::sync::watch::Sender::new(0),
        };
        // Every room holds a clock for as long as the process lives.
        Self { face: Box::leak(Box::new(face)) }
    }

    /// Goes on from the floor that was stored at `path`, if one was.
    pub fn load(&self, path: &Path) {
        match floor::load(path, self.face.boot, self.monotonic_ns()) {
            Ok(None) => {}
            Ok(Some(stored)) => *self.floor() = stored,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the stored time is not believed; the build's time stands"
                );
            }
        }
    }

    /// Takes in the time of a verified signature: it is not earlier than that. `order` rises with every signature of the
    /// signer, so that a newer one with an earlier time takes a wrong one back.
    pub fn signed(&self, order: u64, issued_ms: i64) {
        let now_ns = self.monotonic_ns();
        self.floor().signed(order, issued_ms, now_ns);
    }

    /// Which boot this is.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.face.boot
    }

    /// Now, with everything that a record says about its time.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let monotonic_ns = self.monotonic_ns();
        let (wall_ms, quality) = self.floor().judge(self.system_ms(), monotonic_ns);
        Stamp { boot: self.face.boot, monotonic_ns, wall_ms, quality }
    }

    /// Wall time now, Unix ms UTC, within the floor and [`WINDOW_MS`] behind it: what decides when something expires.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        self.stamp().wall_ms
    }

    /// The earliest that it can be now, Unix ms UTC.
    #[must_use]
    pub fn floor_ms(&self) -> i64 {
        let now_ns = self.monotonic_ns();
        self.floor().at(now_ns)
    }

    /// Time since boot, ns; suspend counts.
    #[must_use]
    pub fn monotonic_ns(&self) -> u64 {
        match &self.face.source {
            Source::Set(time) => time.monotonic_ns.load(Ordering::Relaxed),
            Source::System => {
                let t = clock_gettime(ClockId::Boottime);
                u64::try_from(t.tv_sec)
                    .unwrap_or(0)
                    .saturating_mul(1_000_000_000)
                    .saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0))
            }
        }
    }

    /// The moment, for measuring intervals inside the program.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// How long the program has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.face.started.elapsed()
    }

    /// Wakes whoever watches when the wall clock has jumped or its quality has changed.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.face.changed.subscribe()
    }

    fn tell_of_change(&self) {
        self.face.changed.send_modify(|changes| *changes += 1);
    }

    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.face.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the system's wall clock shows, Unix ms UTC. Through libc, so that a test can hold another clock before the
    /// whole program.
    fn system_ms(&self) -> i64 {
        match &self.face.source {
            Source::Set(time) => time.wall_ms.load(Ordering::Relaxed),
            Source::System => match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
            },
        }
    }
}

/// Now on the timers' own scale, which tests can stop.
#[must_use]
pub fn timer_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vedette_protocol::time::Quality;

    #[test]
    fn time_since_boot_goes_forward_and_the_boot_is_one() {
        let (a, b) = (Clock::start().unwrap(), Clock::start().unwrap());
        let (first, second) = (a.stamp(), b.stamp());
        assert!(second.monotonic_ns >= first.monotonic_ns);
        assert_eq!(first.boot, second.boot);
        assert_eq!(first.quality, Quality::System, "this machine's clock is right");
    }

    #[test]
    fn a_stored_floor_is_found_again_and_a_rotten_one_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, time) = (dir.path().join("clock"), Arc::new(SetTime::default()));
        let boot = BootId::from_bytes([1; 16]);
        let clock = Clock::set(boot, Arc::clone(&time));
        clock.signed(1, 1_800_000_000_000);
        let snapshot = *clock.floor();
        floor::save(&path, &snapshot, boot, clock.monotonic_ns()).unwrap();
        let again = Clock::set(boot, time);
        again.load(&path);
        assert_eq!(again.floor_ms(), 1_800_000_000_000);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let fresh = Clock::set(boot, Arc::new(SetTime::default()));
            fresh.load(&path);
            assert_eq!(fresh.floor_ms(), floor::BUILD_MS, "byte {at}");
        }
    }
}
