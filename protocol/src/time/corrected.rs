//! Wall time, corrected later: what the boot and clock records of a journal say about the wall clock of each boot, and what
//! a stamp's wall clock ought to have shown.
//!
//! Time since boot never goes wrong, so one good reading of the wall clock is enough for a whole boot: the best reading
//! (highest quality, then the latest) gives the distance between both, and every stamp of that boot is moved onto it. So
//! corrected times of one boot rise as its records do, whatever the wall clock did meanwhile. The log is not touched.

use std::collections::BTreeMap;

use super::Stamp;
use crate::id::BootId;
use crate::record::{Body, Record};

/// Wall time and time since boot may drift apart by so much before it counts as a jump: far above what is lost between
/// reading the one and the other, far below what misleads a person, ms.
pub const JUMP_MS: i64 = 2_000;

/// Boots whose readings are kept: 1024 x about 120 B = 0.1 MB, three years of a
/// start a day. When full, the boot that was noted longest ago is forgotten, and
/// its stamps stand as they were written.
pub const BOOTS_MAX: usize = 1_024;

/// The best reading of the wall clock in each boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Corrections {
    boots: BTreeMap<BootId, Best>,
    noted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Best {
    reading: Stamp,
    noted: u64,
}

impl Corrections {
    /// Takes in a record; only boot and clock records say something about the clock. Tells whether something was learnt.
    pub fn note(&mut self, record: &Record) -> bool {
        match record.body {
            Body::Boot { .. } | Body::Clock { .. } => self.read(record.stamp),
            Body::Swap(_)
            | Body::Anomaly(_)
            | Body::Gap { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Verdict { .. }
            | Body::Ack { .. }
            | Body::Deploy(_) => false,
        }
    }

    /// Takes in a reading of the wall clock; tells whether it is a better one.
    pub fn read(&mut self, reading: Stamp) -> bool {
        let known = self.boots.get(&reading.boot).map(|best| best.reading);
        if known.is_some_and(|k| (k.quality, k.monotonic_ns) > (reading.quality, reading.monotonic_ns)) {
            return false;
        }
        self.noted += 1;
        self.boots.insert(reading.boot, Best { reading, noted: self.noted });
        if self.boots.len() > BOOTS_MAX {
            let oldest = self.boots.iter().min_by_key(|(_, best)| best.noted).map(|(boot, _)| *boot);
            self.boots.retain(|boot, _| Some(*boot) != oldest);
        }
        true
    }

    /// The readings, in the order in which they were noted: [`Corrections::read`] of each gives the same again.
    #[must_use]
    pub fn readings(&self) -> Vec<Stamp> {
        let mut best: Vec<&Best> = self.boots.values().collect();
        best.sort_unstable_by_key(|best| best.noted);
        best.into_iter().map(|best| best.reading).collect()
    }

    /// What the wall clock of this stamp ought to have shown, Unix ms UTC, when that is known better and differs by more
    /// than [`JUMP_MS`].
    #[must_use]
    pub fn corrected_ms(&self, stamp: &Stamp) -> Option<i64> {
        let best = self.boots.get(&stamp.boot)?.reading;
        if best.quality < stamp.quality {
            return None;
        }
        let wall_ms = extrapolated_ms(&best, stamp.monotonic_ns);
        (wall_ms.abs_diff(stamp.wall_ms) > JUMP_MS.unsigned_abs()).then_some(wall_ms)
    }
}

/// What the wall clock of a reading shows when the time since the same boot is `monotonic_ns`, Unix ms UTC.
#[must_use]
pub fn extrapolated_ms(reading: &Stamp, monotonic_ns: u64) -> i64 {
    let elapsed_ms = (i128::from(monotonic_ns) - i128::from(reading.monotonic_ns)).div_euclid(1_000_000);
    let wall_ms = i128::from(reading.wall_ms) + elapsed_ms;
    i64::try_from(wall_ms).unwrap_or(if wall_ms < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::PreviousEnd;
    use crate::time::Quality;

    const BOOT: BootId = BootId::from_bytes([7; 16]);

    /// A stamp `s` seconds after the boot.
    fn stamp(s: u64, wall_ms: i64, quality: Quality) -> Stamp {
        Stamp { boot: BOOT, monotonic_ns: s * 1_000_000_000, wall_ms, quality }
    }

    fn clock(stamp: Stamp) -> Record {
        Record { stamp, body: Body::Clock { old_ms: 0, new_ms: stamp.wall_ms, quality: stamp.quality } }
    }

    #[test]
    fn a_box_that_boots_in_1970_is_right_once_the_network_told_the_time() {
        let mut known = Corrections::default();
        let boot = Record {
            stamp: stamp(1, 1_000, Quality::Floor),
            body: Body::Boot { agent_version: "1".to_owned(), previous: PreviousEnd::First },
        };
        assert!(known.note(&boot));
        let early = stamp(60, 60_000, Quality::Floor);
        assert_eq!(known.corrected_ms(&early), None, "nothing better is known yet");
        assert!(known.note(&clock(stamp(600, 1_800_000_000_000, Quality::System))));
        assert_eq!(known.corrected_ms(&early), Some(1_800_000_000_000 - 540_000));
        assert_eq!(known.corrected_ms(&stamp(601, 1_800_000_001_000, Quality::System)), None, "it was right");
    }

    #[test]
    fn a_clock_that_goes_wrong_again_spoils_nothing() {
        let mut known = Corrections::default();
        known.note(&clock(stamp(10, 1_800_000_000_000, Quality::System)));
        assert!(!known.note(&clock(stamp(20, 5_000, Quality::Floor))), "a worse reading teaches nothing");
        assert_eq!(known.corrected_ms(&stamp(30, 15_000, Quality::Floor)), Some(1_800_000_020_000));
    }

    #[test]
    fn of_two_equal_readings_the_later_counts_whichever_is_read_first() {
        let (first, second) = (stamp(10, 1_000_000, Quality::System), stamp(20, 5_000_000, Quality::System));
        for order in [[first, second], [second, first]] {
            let mut known = Corrections::default();
            for reading in order {
                known.read(reading);
            }
            assert_eq!(known.corrected_ms(&stamp(15, 1_005_000, Quality::System)), Some(4_995_000));
        }
    }

    #[test]
    fn another_boot_and_a_better_stamp_are_left_alone() {
        let mut known = Corrections::default();
        known.read(stamp(10, 1_000_000, Quality::Floor));
        let other = Stamp { boot: BootId::from_bytes([8; 16]), ..stamp(11, 9, Quality::Floor) };
        assert_eq!(known.corrected_ms(&other), None);
        assert_eq!(known.corrected_ms(&stamp(12, 9_000_000, Quality::System)), None);
    }

    #[test]
    fn readings_make_the_same_again_and_boots_are_bounded() {
        let mut known = Corrections::default();
        for n in 0..BOOTS_MAX as u64 + 10 {
            let mut boot = [0; 16];
            // Not in the order of their names.
            boot[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            known.read(Stamp { boot: BootId::from_bytes(boot), monotonic_ns: 1, wall_ms: 0, quality: Quality::System });
        }
        assert_eq!(known.readings().len(), BOOTS_MAX);
        assert!(!known.boots.contains_key(&BootId::from_bytes([0; 16])), "the oldest went first");
        let mut again = Corrections::default();
        for reading in known.readings() {
            again.read(reading);
        }
        assert_eq!(again.readings(), known.readings());
    }

    #[test]
    fn no_time_is_too_far_to_reckon_with() {
        let far = Stamp { boot: BOOT, monotonic_ns: 0, wall_ms: i64::MAX, quality: Quality::Attested };
        assert_eq!(extrapolated_ms(&far, u64::MAX), i64::MAX);
        let early = Stamp { monotonic_ns: u64::MAX, wall_ms: i64::MIN, ..far };
        assert_eq!(extrapolated_ms(&early, 0), i64::MIN);
    }
}
