//! The account of the journal's segments, kept up with what is written, and the room on its file system. Nothing is removed
//! here: [`super::chores`] does it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use vedette_journal::Journal;
use vedette_protocol::record::Class;
use vedette_protocol::time::Stamp;

use super::Keeping;
use super::ballast::Ballast;
use super::survey::Survey;
use crate::config::Retention;
use crate::retention::{self, Account, Action, CLASSES, Limits, Moment, Situation, Step};

/// How often the chores are looked at while records come, and while none do.
const CHORES_BUSY: Duration = Duration::from_secs(1);
const CHORES_IDLE: Duration = Duration::from_secs(10);

/// While segments are still to go: records come between.
const CHORES_UNFINISHED: Duration = Duration::from_millis(20);

/// A removal that failed is tried again after this, or ..
const STUCK: Duration = Duration::from_secs(60);

/// .. after this, when there was no room for it: that changes quickly.
const STUCK_WHEN_FULL: Duration = Duration::from_secs(1);

/// What is kept free beside a segment, so that a full disk is met before it is full: two files' metadata.
const SPARE_BYTES: u64 = 64 << 10;

/// A record that is appended and not committed yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    sequence: u64,
    bytes: u32,
    class: Class,
}

/// What is known of the journal's size.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) keeping: Keeping,
    pub(super) ballast: Ballast,
    pub(super) accounts: Vec<Account>,
    /// By class: records below are counted in drop records already.
    pub(super) dropped_below: [u64; CLASSES],
    /// The newest ack record: what it says, its sequence, and when it was written.
    pub(super) ack: (u64, u64, Instant),
    pub(super) due_at: Instant,
    stuck_until: Option<Instant>,
    pending: Vec<Pending>,
    newest: Option<Moment>,
    folder: PathBuf,
    segment_bytes: u64,
}

impl Keeper {
    pub(super) fn new(keeping: Keeping, folder: PathBuf, segment_bytes: u64, now: Instant) -> Self {
        let Retention { ballast_bytes, .. } = keeping.retention;
        Self {
            ballast: Ballast::new(keeping.state.ballast(), ballast_bytes),
            keeping,
            accounts: Vec::new(),
            dropped_below: [0; CLASSES],
            ack: (0, 0, now),
            due_at: now + CHORES_BUSY,
            stuck_until: None,
            pending: Vec::new(),
            newest: None,
            folder,
            segment_bytes,
        }
    }

    /// Takes over what the journal said at its opening.
    pub(super) fn learn(&mut self, survey: &mut Survey, now: Instant) {
        self.accounts = std::mem::take(&mut survey.accounts);
        self.dropped_below = survey.dropped_below;
        let (upto, sequence) = survey.ack.unwrap_or((0, 0));
        self.ack = (upto, sequence, now);
    }

    /// A record was appended.
    pub(super) fn appended(&mut self, sequence: u64, class: Class, bytes: u64, stamp: &Stamp) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.pending.push(Pending { sequence, bytes, class });
        self.newest = Some(Moment { boot: stamp.boot, monotonic_ns: stamp.monotonic_ns });
    }

    /// What was appended is on the disk now: it belongs to the segments that it is in.
    pub(super) fn settle(&mut self, journal: &Journal) {
        if journal.segments() != self.accounts.len() {
            self.follow(journal);
        }
        let committed = journal.committed();
        for pending in self.pending.extract_if(.., |pending| pending.sequence < committed) {
            let at = self.accounts.partition_point(|account| account.first <= pending.sequence);
            if let Some(account) = at.checked_sub(1).and_then(|at| self.accounts.get_mut(at)) {
                account.held[pending.class as usize].add(pending.sequence, u64::from(pending.bytes));
                account.next = account.next.max(pending.sequence + 1);
                account.newest = self.newest;
            }
        }
    }

    /// The journal has begun segments since.
    fn follow(&mut self, journal: &Journal) {
        let mut known = std::mem::take(&mut self.accounts).into_iter().peekable();
        for segment in journal.segment_list() {
            while known.next_if(|account| account.index < segment.index).is_some() {}
            let account = known.next_if(|account| account.index == segment.index);
            let account = account.unwrap_or_else(|| Account::new(segment.index, segment.first_sequence));
            self.accounts.push(Account { next: segment.next_sequence, file_bytes: segment.bytes, ..account });
        }
    }

    /// Room on the file system, bytes.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let file_system = rustix::fs::statvfs(&self.folder).ok()?;
        Some(file_system.f_bavail.saturating_mul(file_system.f_frsize))
    }

    /// The next thing to go, by `limits`.
    pub(super) fn next(&self, limits: &Limits, free_bytes: Option<u64>, view: View) -> Option<Step> {
        retention::next(&self.situation(limits, free_bytes, view))
    }

    /// The oldest segment, when it may go whatever the limits are.
    pub(super) fn oldest_to_spare(&self, view: View) -> Option<u32> {
        let limits = self.limits();
        match self.situation(&limits, None, view).whole_oldest() {
            Some(Action::Remove { index }) => Some(index),
            Some(Action::Thin { .. }) | None => None,
        }
    }

    fn situation<'a>(&'a self, limits: &'a Limits, free_bytes: Option<u64>, view: View) -> Situation<'a> {
        let View { acknowledged, proven, now } = view;
        let proven = if self.keeping.has_registry { proven } else { u64::MAX };
        Situation { segments: &self.accounts, limits, acknowledged, proven, free_bytes, now }
    }

    /// The limits of every day.
    pub(super) fn limits(&self) -> Limits {
        self.keeping.retention.limits
    }

    /// The limits when a commit found no room: there must be some for the next segment.
    pub(super) fn limits_when_full(&self) -> Limits {
        let limits = self.limits();
        Limits { free_bytes: limits.free_bytes.max(self.segment_bytes + SPARE_BYTES), ..limits }
    }

    /// Makes the ballast again when there is room for it and for the next segment.
    pub(super) fn mind_ballast(&self) {
        let room = self.limits_when_full().free_bytes + self.ballast.bytes();
        if self.ballast.is_there() || self.free_bytes().is_none_or(|free| free < room) {
            return;
        }
        match self.ballast.make() {
            Ok(()) => tracing::info!(bytes = self.ballast.bytes(), "the ballast is in its place"),
            Err(error) => tracing::warn!(%error, "couldn't make the ballast"),
        }
    }

    /// Bytes by class, hashes and headers with class control.
    pub(super) fn usage(&self) -> [u64; CLASSES] {
        Class::ALL.map(|class| retention::used(&self.accounts, class))
    }

    /// Bytes of all segments' files, the reserve of the newest included.
    pub(super) fn file_bytes(&self) -> u64 {
        self.accounts.iter().map(|account| account.file_bytes).sum()
    }

    /// When to look again.
    pub(super) fn rest(&mut self, now: Instant, pace: Pace) {
        self.due_at = now
            + match pace {
                Pace::Unfinished => CHORES_UNFINISHED,
                Pace::Busy => CHORES_BUSY,
                Pace::Idle => CHORES_IDLE,
            };
    }

    /// A removal failed.
    pub(super) fn stuck(&mut self, now: Instant, full: bool) {
        self.stuck_until = Some(now + if full { STUCK_WHEN_FULL } else { STUCK });
    }

    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.stuck_until.is_some_and(|until| now < until)
    }
}

/// How soon the chores are looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Unfinished,
    Busy,
    Idle,
}

/// What a step is judged by, beside the account.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) acknowledged: u64,
    pub(super) proven: u64,
    pub(super) now: Moment,
}
