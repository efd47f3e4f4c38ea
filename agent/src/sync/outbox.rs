//! Which journal records are under way to the registry. Pure: the journal and the clock are the caller's.
//!
//! # Two lanes
//!
//! What is durable when a connection begins is its *backlog*; what comes later is *live* and goes first, so that news
//! never waits behind a week of history. The backlog is paced (records a second, and at most three quarters of the
//! window) and its batches are marked late. Control records that stand behind a burst of live ones are sent ahead of it,
//! without a span, and once more in their place. Not so in the backlog: what is sent out of order there would fill the
//! few ranges that an acknowledgement names, and hide that the live ones have come.
//!
//! # The cursor
//!
//! `acked` moves only when the registry says that it has everything below. What it says to hold beyond is not sent
//! again, as long as the list of those ranges has room. When no answer comes in time, sending goes back to the cursor
//! with a single batch and twice the patience, until one is answered: nothing is lost by any failure between the two
//! journals, and a silent registry costs one batch every few minutes.
//!
//! # A registry that refuses
//!
//! A device in quarantine keeps everything and sends one small batch every [`REFUSED_PAUSE`], to learn when it is over.

mod words;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vedette_protocol::message::BatchAck;

use super::pace::Pace;
use super::ranges::Ranges;
pub(super) use words::{Acked, Lane, Limits, Wanted};

/// The longest patience with a silent registry.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// Between two batches to a registry that takes nothing from this device.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// Ranges beyond the cursor that are known to be there: 64 x 16 B. When full, the lowest is forgotten; if sending goes
/// back over it, it is sent again.
pub(super) const HELD_RANGES_MAX: usize = 64;

/// Live records that are nearer than this to being sent are not worth overtaking: two batches.
const OVERTAKEN_MIN: u64 = 256;

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    lane: Lane,
    from: u64,
    end: u64,
    sent: Instant,
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Where its next batch begins.
    next: u64,
    /// The journal gave nothing there: not before this moment again.
    resume: Option<Instant>,
}

/// The window over the journal.
#[derive(Debug)]
pub(super) struct Outbox {
    epoch: u64,
    limits: Limits,
    /// The registry has everything below.
    acked: u64,
    /// Records below are durable and may be sent.
    committed: u64,
    /// Records below are backlog, from here on they are live.
    boundary: u64,
    live: Position,
    backlog: Position,
    pace: Pace,
    /// Live records below were looked through for such that go ahead.
    overtaken: u64,
    /// Since when one batch of those is without any answer.
    ahead: Option<Instant>,
    under_way: VecDeque<UnderWay>,
    held: Ranges,
    /// Nobody answered in time: one batch from the cursor, until somebody does.
    probing: bool,
    patience: Duration,
    /// When the cursor moved last, or the connection began.
    moved: Option<Instant>,
    /// The registry said that it has less than it once acknowledged; believed when it stays so.
    regressed: Option<(u64, Instant)>,
    refused: Option<String>,
    refused_until: Option<Instant>,
    resent: u64,
    late: u64,
}

impl Outbox {
    pub(super) fn new(epoch: u64, acked: u64, limits: Limits) -> Self {
        let start = Position { next: acked, resume: None };
        Self {
            epoch,
            limits,
            acked,
            committed: acked,
            boundary: acked,
            live: start,
            backlog: start,
            pace: Pace::new(limits.backlog_rate),
            overtaken: 0,
            ahead: None,
            under_way: VecDeque::with_capacity(limits.window),
            held: Ranges::new(HELD_RANGES_MAX),
            probing: false,
            patience: limits.ack_timeout,
            moved: None,
            regressed: None,
            refused: None,
            refused_until: None,
            resent: 0,
            late: 0,
        }
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Records that the registry does not have, as far as we know.
    pub(super) fn waiting(&self) -> u64 {
        self.committed.saturating_sub(self.acked).saturating_sub(self.held.count())
    }

    /// Ranges beyond the cursor that the registry has.
    pub(super) fn held_ranges(&self) -> usize {
        self.held.len()
    }

    /// Batches sent once more because no acknowledgement came.
    pub(super) fn resent(&self) -> u64 {
        self.resent
    }

    /// Records sent as late since the start; those sent again count again.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Why the registry takes nothing from this device.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Everything below has been sent on this connection, or is in the registry.
    pub(super) fn sent_below(&self) -> u64 {
        match self.open(Lane::Backlog) {
            Some((from, _)) => from,
            None => self.open(Lane::Live).map_or(self.committed, |(from, _)| from),
        }
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_all_sent(&self) -> bool {
        self.open(Lane::Live).is_none() && self.open(Lane::Backlog).is_none()
    }

    /// Whether nothing waits for an answer either.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.is_all_sent()
    }

    /// Records below this sequence are durable now.
    pub(super) fn committed(&mut self, committed: u64) {
        self.committed = self.committed.max(committed);
    }

    /// A connection begins: what is durable now is its backlog, and nothing is under way.
    pub(super) fn connected(&mut self, now: Instant) {
        (self.boundary, self.overtaken, self.ahead) = (self.committed, 0, None);
        self.moved = Some(now);
        self.rewind();
    }

    /// The connection is over.
    pub(super) fn disconnected(&mut self) {
        self.moved = None;
        self.rewind();
    }

    /// The batch to send next.
    pub(super) fn wanted(&self, now: Instant) -> Option<Wanted> {
        let window = if self.refused.is_some() || self.probing { 1 } else { self.limits.window };
        if self.moved.is_none() || self.under_way.len() >= window || is_ahead(self.refused_until, now) {
            return None;
        }
        let want = |lane: Lane| {
            if is_ahead(self.position(lane).resume, now) {
                return None;
            }
            let (from, below) = self.open(lane)?;
            Some(Wanted { lane, from, below, small: self.refused.is_some() })
        };
        // An acknowledgement names a few ranges beyond the cursor at most: what surely has an answer begins at the cursor.
        if self.probing {
            return want(Lane::Backlog).or_else(|| want(Lane::Live));
        }
        want(Lane::Live).or_else(|| if self.backlog_may_go(now) { want(Lane::Backlog) } else { None })
    }

    /// The live records among which control records may be looked for, to be sent ahead.
    pub(super) fn overtakable(&self, now: Instant) -> Option<(u64, u64)> {
        let waits = self.ahead.is_some_and(|since| since + self.limits.ack_timeout > now);
        if self.moved.is_none() || self.refused.is_some() || self.probing || waits {
            return None;
        }
        let (from, _) = self.open(Lane::Live)?;
        let from = self.overtaken.max(from + OVERTAKEN_MIN);
        (from < self.committed).then_some((from, self.committed))
    }

    /// The live records below were looked through; whether some of them were sent ahead.
    pub(super) fn overtook(&mut self, below: u64, sent: bool, now: Instant) {
        self.overtaken = self.overtaken.max(below);
        self.ahead = sent.then_some(now);
    }

    fn backlog_may_go(&self, now: Instant) -> bool {
        // A quarter of the window is kept for live batches, unless there is only one place.
        let window = self.limits.window;
        let share = window - (window / 4).max(usize::from(window > 1));
        let under_way = self.under_way.iter().filter(|batch| batch.lane == Lane::Backlog).count();
        under_way < share && !is_ahead(self.pace.until(), now)
    }

    /// What a lane has left to send: from here, below there.
    fn open(&self, lane: Lane) -> Option<(u64, u64)> {
        let end = match lane {
            Lane::Live => self.committed,
            Lane::Backlog => self.boundary,
        };
        let (from, held) = self.held.open_from(self.position(lane).next.max(self.acked));
        (from < end).then(|| (from, held.map_or(end, |held| held.min(end))))
    }

    fn position(&self, lane: Lane) -> &Position {
        match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        }
    }

    fn position_mut(&mut self, lane: Lane) -> &mut Position {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        }
    }

    /// A batch that speaks for `[from, end)` and has so many records was handed to the broker.
    pub(super) fn sent(&mut self, lane: Lane, from: u64, end: u64, records: usize, now: Instant) {
        let position = self.position_mut(lane);
        (position.next, position.resume) = (position.next.max(end), None);
        self.under_way.push_back(UnderWay { lane, from, end, sent: now });
        if lane == Lane::Backlog {
            self.late = self.late.saturating_add(records as u64);
            self.pace.went(records, now);
        }
    }

    /// The journal gave nothing for the wanted batch: the lane waits.
    pub(super) fn stalled(&mut self, lane: Lane, until: Instant) {
        self.position_mut(lane).resume = Some(until);
    }

    /// The registry's answer.
    pub(super) fn acknowledged(&mut self, ack: &BatchAck, now: Instant) -> Acked {
        if ack.epoch != self.epoch {
            return Acked::Foreign;
        }
        if ack.upto > self.committed {
            return Acked::Ahead(ack.upto);
        }
        self.ahead = None;
        self.note_refusal(ack.refused.as_ref(), now);
        if ack.upto < self.acked {
            let since = self.regressed.map_or(now, |(_, since)| since);
            self.regressed = Some((ack.upto, since));
            return Acked::Nothing;
        }
        self.regressed = None;
        let moved = ack.upto > self.acked;
        self.acked = ack.upto;
        self.held.forget_below(ack.upto);
        for (from, below) in &ack.held {
            if let Some((from, below)) = self.held.insert((*from).max(ack.upto), (*below).min(self.committed)) {
                tracing::debug!(from, below, "forgot a range that the registry holds: there are too many");
            }
        }
        let before = self.under_way.len();
        let (held, acked) = (&self.held, self.acked);
        self.under_way.retain(|batch| !held.cover(batch.from.max(acked), batch.end));
        if moved || self.under_way.len() < before {
            (self.probing, self.patience) = (false, self.limits.ack_timeout);
        }
        if moved {
            self.moved = self.moved.map(|_| now);
            return Acked::Moved(ack.upto);
        }
        Acked::Nothing
    }

    fn note_refusal(&mut self, refused: Option<&String>, now: Instant) {
        match refused {
            Some(why) => {
                // Each answer to a probe begins a pause; stray ones do not make it longer.
                if !is_ahead(self.refused_until, now) {
                    self.refused_until = Some(now + REFUSED_PAUSE);
                }
                self.refused = Some(why.clone());
                self.rewind();
            }
            None => (self.refused, self.refused_until) = (None, None),
        }
    }

    /// When to come back with [`Outbox::expire`] or [`Outbox::wanted`].
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.moved?;
        let oldest = self.under_way.front().map(|oldest| oldest.sent + self.patience);
        let regressed = self.regressed.map(|(_, since)| since + self.patience);
        let stuck = self.stuck_since().map(|since| since + self.patience);
        let later = [self.pace.until(), self.refused_until, self.live.resume, self.backlog.resume];
        let later = later.into_iter().flatten().filter(|at| *at > now);
        [oldest, regressed, stuck].into_iter().flatten().chain(later).min()
    }

    /// Since when the first missing record is neither under way nor waiting to be sent: what the registry once said
    /// to hold it does not hold any more.
    fn stuck_since(&self) -> Option<Instant> {
        let comes = self.under_way.iter().any(|batch| (batch.from..batch.end).contains(&self.acked));
        let waits = [Lane::Backlog, Lane::Live].into_iter().filter_map(|lane| self.open(lane));
        let missing = self.acked < self.committed && !comes && !waits.into_iter().any(|(from, _)| from == self.acked);
        if missing && self.refused.is_none() { self.moved } else { None }
    }

    /// Goes back to the cursor when something has waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let over = |since: Instant| since + self.patience <= now;
        let regressed = self.regressed.filter(|(_, since)| over(*since));
        let stuck = self.stuck_since().is_some_and(over);
        let late = self.under_way.front().is_some_and(|oldest| over(oldest.sent));
        if regressed.is_none() && !stuck && !late {
            return;
        }
        // A regression that stood while a batch waited in vain is believed with it.
        if let Some((upto, _)) = self.regressed.take() {
            self.acked = upto;
            self.held.clear();
        }
        if stuck {
            self.held.clear();
        }
        self.moved = self.moved.map(|_| now);
        self.resent = self.resent.saturating_add(self.under_way.len() as u64);
        self.rewind();
        self.probing = true;
        self.patience = (self.patience * 2).min(PATIENCE_MAX.max(self.limits.ack_timeout));
    }

    /// Whatever was under way is not any more.
    fn rewind(&mut self) {
        self.backlog = Position { next: self.acked, resume: None };
        self.live = Position { next: self.boundary.max(self.acked), resume: None };
        self.under_way.clear();
    }
}

fn is_ahead(moment: Option<Instant>, now: Instant) -> bool {
    moment.is_some_and(|moment| moment > now)
}

#[cfg(test)]
mod tests;
