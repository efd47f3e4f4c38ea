//! What the journal may keep, and what goes first when it is too much. Thinking only: [`next`] is given an account of the
//! segments and names one step; the recorder's keeper takes it, corrects the account and asks again.
//!
//! # Constraints
//!
//! - The newest segment is never touched; a class may therefore hold one segment more than its limit.
//! - What the registry has acknowledged goes first, oldest first, the class over its limit before others. What it has
//!   not goes last, only for the limit of its own class, never while something acknowledged of its class or of a less
//!   valuable one remains, and the step says so: then a counted `drop` record is written before.
//! - Room on the file system never costs unacknowledged records: when only such are left, new ones wait in memory.
//! - Age is time known to have passed: the differences of monotonic clocks, of the boots between at least their known
//!   part. The wall clock is not asked, so that no wrong year deletes anything. Age never costs unacknowledged records.
//! - A whole segment goes only when the registry has accepted a checkpoint behind it, else it is *thinned*: records go and
//!   their leaf hashes stay, so that every proof that may still be asked for can be made. The exception is a segment
//!   without records that the limit of class control cannot bear any longer.
//!
//! # Arithmetic
//!
//! Class control bears what is in the files beside records: headers (4.2 KB a segment) and the hashes of thinned records
//! (32 B each). Defaults: 48 MiB of anomalies at 350 B are 140,000 of them, two months of one in 40 s; 16 MiB of control are
//! the hashes of 500,000 thinned records, or 90,000 swaps.

#[cfg(test)]
mod model;

use std::time::Duration;

use vedette_protocol::id::BootId;
use vedette_protocol::record::Class;

/// Classes of records.
pub const CLASSES: usize = Class::ALL.len();

/// Limits of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassLimit {
    /// Bytes of records, at least a segment.
    pub bytes: u64,
    /// Acknowledged records older than this go; `None`: never for their age.
    pub age: Option<Duration>,
}

/// All limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// By class, in the order of [`Class::ALL`].
    pub classes: [ClassLimit; CLASSES],
    /// Room that the file system should have, bytes.
    pub free_bytes: u64,
}

/// A moment of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Which boot.
    pub boot: BootId,
    /// Time since it began, ns.
    pub monotonic_ns: u64,
}

/// The records of one class in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How many; the other fields mean nothing when there are none.
    pub records: u64,
    /// Their bytes in the file.
    pub bytes: u64,
    /// Lowest sequence.
    pub first: u64,
    /// Highest sequence.
    pub last: u64,
}

impl Held {
    /// Counts one more record.
    pub fn add(&mut self, sequence: u64, bytes: u64) {
        self.first = if self.records == 0 { sequence } else { self.first.min(sequence) };
        self.last = if self.records == 0 { sequence } else { self.last.max(sequence) };
        self.records += 1;
        self.bytes += bytes;
    }

    fn has_below(&self, sequence: u64) -> bool {
        self.records > 0 && self.first < sequence
    }
}

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Number of the segment.
    pub index: u32,
    /// Sequence of its first record.
    pub first: u64,
    /// Sequence behind its last record.
    pub next: u64,
    /// Length of its file, bytes.
    pub file_bytes: u64,
    /// By class, in the order of [`Class::ALL`].
    pub held: [Held; CLASSES],
    /// When its newest record was written, if that is known.
    pub newest: Option<Moment>,
}

impl Account {
    /// Of an empty segment.
    #[must_use]
    pub fn new(index: u32, first: u64) -> Self {
        Self { index, first, next: first, file_bytes: 0, held: [Held::default(); CLASSES], newest: None }
    }

    /// The records of a class.
    #[must_use]
    pub fn of(&self, class: Class) -> &Held {
        &self.held[class as usize]
    }

    /// Bytes of the file that are no records: headers, hashes of thinned records, damage.
    #[must_use]
    pub fn overhead(&self) -> u64 {
        self.file_bytes.saturating_sub(self.held.iter().map(|held| held.bytes).sum())
    }

    fn is_husk(&self) -> bool {
        self.held.iter().all(|held| held.records == 0)
    }
}

/// Everything that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// All segments, ascending; the last one is the newest.
    pub segments: &'a [Account],
    /// What may be kept.
    pub limits: &'a Limits,
    /// The registry has all records below this sequence.
    pub acknowledged: u64,
    /// The registry has accepted a checkpoint of this size: no proof from a smaller one will be asked for.
    /// [`u64::MAX`] without a registry.
    pub proven: u64,
    /// Room on the file system, bytes; `None` when it could not be asked.
    pub free_bytes: Option<u64>,
    /// Now.
    pub now: Moment,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Remove the oldest segment.
    Remove {
        /// Its number.
        index: u32,
    },
    /// Remove the records of one class below a sequence from a segment and keep their hashes.
    Thin {
        /// Number of the segment.
        index: u32,
        /// The class.
        class: Class,
        /// First sequence that stays.
        below: u64,
    },
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The class has more bytes than it may.
    Bytes(Class),
    /// The class has records older than it may.
    Age(Class),
    /// The file system has too little room.
    Room,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// Whether it takes records that the registry does not have: they must be counted in a `drop` record before.
    pub unacknowledged: bool,
}

/// The next step, or `None` when all is within its limits or nothing more may go. Each step makes the account smaller, so
/// that asking again comes to an end.
#[must_use]
pub fn next(situation: &Situation<'_>) -> Option<Step> {
    // What is worth least goes first.
    for class in Class::ALL.into_iter().rev() {
        if situation.used(class) > situation.limits.classes[class as usize].bytes {
            let step = situation.for_bytes(class);
            if step.is_some() {
                return step;
            }
        }
        let step = situation.for_age(class);
        if step.is_some() {
            return step;
        }
    }
    situation.for_room()
}

/// Bytes of a class in all segments; class control bears what is no record, but for the newest segment's reserve.
#[must_use]
pub fn used(segments: &[Account], class: Class) -> u64 {
    let records: u64 = segments.iter().map(|account| account.of(class).bytes).sum();
    let full = segments.split_last().map_or(&[][..], |(_, older)| older);
    let overhead: u64 = if class == Class::Control { full.iter().map(Account::overhead).sum() } else { 0 };
    records + overhead
}

impl<'a> Situation<'a> {
    fn used(&self, class: Class) -> u64 {
        used(self.segments, class)
    }

    /// All but the newest.
    fn older(&self) -> &'a [Account] {
        self.segments.split_last().map_or(&[], |(_, older)| older)
    }

    fn for_bytes(&self, class: Class) -> Option<Step> {
        let reason = Reason::Bytes(class);
        let step = |action| Step { action, reason, unacknowledged: false };
        if class == Class::Control
            && let Some(action) = self.whole_oldest()
        {
            return Some(step(action));
        }
        if let Some(action) = self.acknowledged(class) {
            return Some(step(action));
        }
        // Class control is over its limit by hashes that no longer serve a record.
        if class == Class::Control
            && let Some(husk) = self.older().first().filter(|account| account.is_husk())
        {
            return Some(step(Action::Remove { index: husk.index }));
        }
        let worth_less = Class::ALL.into_iter().rev().take_while(|other| *other != class);
        if let Some(action) = worth_less.into_iter().find_map(|other| self.acknowledged(other)) {
            return Some(step(action));
        }
        let victim = self.older().iter().find(|account| account.of(class).records > 0)?;
        let action = Action::Thin { index: victim.index, class, below: victim.next };
        Some(Step { action, reason, unacknowledged: true })
    }

    /// The oldest acknowledged records of a class.
    fn acknowledged(&self, class: Class) -> Option<Action> {
        let victim = self.older().iter().find(|account| account.of(class).has_below(self.acknowledged))?;
        Some(self.without(victim, class))
    }

    /// Takes the acknowledged records of a class out of a segment: with the whole segment when nothing worth more is in it.
    fn without(&self, victim: &Account, class: Class) -> Action {
        let worth_more = Class::ALL.into_iter().take_while(|other| *other != class);
        let mut worth_more = worth_more.filter(|other| victim.of(*other).records > 0);
        match self.whole_oldest() {
            Some(whole @ Action::Remove { index }) if index == victim.index && worth_more.next().is_none() => whole,
            Some(_) | None => Action::Thin { index: victim.index, class, below: victim.next.min(self.acknowledged) },
        }
    }

    /// The oldest segment, when the registry has all of it and a checkpoint behind it.
    #[must_use]
    pub fn whole_oldest(&self) -> Option<Action> {
        let oldest = self.older().first()?;
        let acknowledged = oldest.is_husk() || oldest.next <= self.acknowledged;
        let free = acknowledged && oldest.next <= self.proven;
        free.then_some(Action::Remove { index: oldest.index })
    }

    fn for_age(&self, class: Class) -> Option<Step> {
        let limit = self.limits.classes[class as usize].age?;
        let ages = known_ages(self.segments, self.now);
        let mut aged = self.older().iter().zip(ages).filter(|(_, age)| *age > limit);
        let (victim, _) = aged.find(|(account, _)| account.of(class).has_below(self.acknowledged))?;
        let action = self.without(victim, class);
        Some(Step { action, reason: Reason::Age(class), unacknowledged: false })
    }

    fn for_room(&self) -> Option<Step> {
        if self.free_bytes? >= self.limits.free_bytes {
            return None;
        }
        let husk = self.older().first().filter(|account| account.is_husk()).and_then(|_| self.whole_oldest());
        let action = husk.or_else(|| Class::ALL.into_iter().rev().find_map(|class| self.acknowledged(class)))?;
        Some(Step { action, reason: Reason::Room, unacknowledged: false })
    }
}

/// How long ago the newest record of each segment was written, at least. Of a boot that came later its whole known time has
/// passed since; how long the box was off is not known and not counted.
fn known_ages(segments: &[Account], now: Moment) -> Vec<Duration> {
    let (mut after, mut age_ns) = (now, 0_u64);
    let mut ages = Vec::with_capacity(segments.len());
    for account in segments.iter().rev() {
        if let Some(newest) = account.newest {
            let passed = if newest.boot == after.boot {
                after.monotonic_ns.saturating_sub(newest.monotonic_ns)
            } else {
                after.monotonic_ns
            };
            age_ns = age_ns.saturating_add(passed);
            after = newest;
        }
        ages.push(Duration::from_nanos(age_ns));
    }
    ages.reverse();
    ages
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIB: u64 = 1 << 20;

    fn boot(byte: u8) -> BootId {
        format!("{byte:02x}").repeat(16).parse().unwrap()
    }

    fn at(boot_byte: u8, hours: u64) -> Moment {
        Moment { boot: boot(boot_byte), monotonic_ns: hours * 3_600_000_000_000 }
    }

    fn limits(control: u64, anomaly: u64) -> Limits {
        let limit = |bytes| ClassLimit { bytes, age: None };
        Limits { classes: [limit(control), limit(anomaly), limit(0), limit(0)], free_bytes: 0 }
    }

    /// A segment of `records` control records and as many anomalies behind them, 1000 bytes each.
    fn segment(index: u32, first: u64, control: u64, anomalies: u64) -> Account {
        let mut account = Account::new(index, first);
        for n in 0..control + anomalies {
            let class = if n < control { Class::Control } else { Class::Anomaly };
            account.held[class as usize].add(first + n, 1000);
        }
        account.next = first + control + anomalies;
        account.file_bytes = 4224 + 1000 * (control + anomalies);
        account
    }

    fn situation<'a>(segments: &'a [Account], limits: &'a Limits, acknowledged: u64, proven: u64) -> Situation<'a> {
        Situation { segments, limits, acknowledged, proven, free_bytes: Some(u64::MAX), now: at(1, 0) }
    }

    fn four() -> Vec<Account> {
        (0..4).map(|n| segment(n, u64::from(n) * 100, 10, 90)).collect()
    }

    #[test]
    fn what_is_within_its_limits_stays() {
        let (segments, limits) = (four(), limits(MIB, MIB));
        assert_eq!(next(&situation(&segments, &limits, 400, 400)), None);
    }

    #[test]
    fn acknowledged_anomalies_go_first_and_the_control_records_beside_them_stay() {
        let (segments, limits) = (four(), limits(MIB, 300_000));
        let step = next(&situation(&segments, &limits, 250, 250)).unwrap();
        assert_eq!(step.action, Action::Thin { index: 0, class: Class::Anomaly, below: 100 });
        assert_eq!((step.reason, step.unacknowledged), (Reason::Bytes(Class::Anomaly), false));
    }

    #[test]
    fn of_a_segment_that_is_partly_acknowledged_only_that_part_goes() {
        let (segments, limits) = (four(), limits(MIB, 0));
        let step = next(&situation(&segments, &limits, 50, 50)).unwrap();
        assert_eq!(step.action, Action::Thin { index: 0, class: Class::Anomaly, below: 50 });
        assert!(!step.unacknowledged);
    }

    #[test]
    fn unacknowledged_anomalies_go_last_oldest_first_and_never_from_the_newest_segment() {
        let limits = limits(MIB, 0);
        let mut segments = four();
        let mut taken = Vec::new();
        while let Some(step) = next(&situation(&segments, &limits, 0, 0)) {
            assert!(step.unacknowledged);
            let Action::Thin { index, class: Class::Anomaly, .. } = step.action else {
                unreachable!("{step:?}");
            };
            taken.push(index);
            segments[index as usize].held[Class::Anomaly as usize] = Held::default();
        }
        assert_eq!(taken, [0, 1, 2]);
    }

    #[test]
    fn a_segment_of_nothing_better_goes_as_a_whole_once_the_registry_has_a_checkpoint_behind_it() {
        let segments = vec![segment(0, 0, 0, 100), segment(1, 100, 0, 100)];
        let limits = limits(MIB, 100_000);
        let go = |proven| next(&situation(&segments, &limits, 200, proven)).unwrap().action;
        assert_eq!(go(100), Action::Remove { index: 0 });
        assert_eq!(go(99), Action::Thin { index: 0, class: Class::Anomaly, below: 100 });
    }

    #[test]
    fn hashes_that_nobody_proves_with_are_removed_before_a_control_record_is_lost() {
        let husk = Account { file_bytes: 200_000, next: 100, ..Account::new(0, 0) };
        let segments = vec![husk, segment(1, 100, 100, 0), segment(2, 200, 1, 0)];
        let limits = limits(150_000, MIB);
        let step = next(&situation(&segments, &limits, 0, 0)).unwrap();
        assert_eq!((step.action, step.unacknowledged), (Action::Remove { index: 0 }, false));
    }

    #[test]
    fn room_never_costs_what_the_registry_does_not_have() {
        let (segments, limits) = (four(), Limits { free_bytes: MIB, ..limits(MIB, MIB) });
        let tight = |acknowledged| Situation { free_bytes: Some(0), ..situation(&segments, &limits, acknowledged, 0) };
        assert_eq!(next(&tight(0)), None);
        let step = next(&tight(150)).unwrap();
        assert_eq!(step.action, Action::Thin { index: 0, class: Class::Anomaly, below: 100 });
        assert_eq!(step.reason, Reason::Room);
    }

    #[test]
    fn age_is_what_is_known_to_have_passed_and_takes_only_what_is_acknowledged() {
        let mut segments = four();
        segments[0].newest = Some(at(1, 10));
        segments[1].newest = Some(at(2, 5));
        segments[2].newest = Some(at(2, 7));
        let ages = known_ages(&segments, at(3, 1));
        let hours: Vec<u64> = ages.iter().map(|age| age.as_secs() / 3600).collect();
        // Boot 3 runs for 1 h; boot 2 ran 2 h between its two records and had run 5 h before; boot 1 was before that.
        assert_eq!(hours, [8, 3, 1, 0]);

        let mut limits = limits(MIB, MIB);
        limits.classes[Class::Anomaly as usize].age = Some(Duration::from_secs(4 * 3600));
        let aged = |acknowledged| Situation { now: at(3, 1), ..situation(&segments, &limits, acknowledged, 0) };
        assert_eq!(next(&aged(0)), None);
        let step = next(&aged(400)).unwrap();
        assert_eq!(step.action, Action::Thin { index: 0, class: Class::Anomaly, below: 100 });
        assert_eq!(step.reason, Reason::Age(Class::Anomaly));
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_old() {
        let mut segments = four();
        segments[0].newest = Some(at(1, 1000));
        assert_eq!(known_ages(&segments, at(1, 0))[0], Duration::ZERO);
    }
}
