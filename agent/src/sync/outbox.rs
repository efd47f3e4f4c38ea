//! Which journal records are under way to the registry. Pure: the journal and the clock are the caller's.
//!
//! The cursor (`acked`) moves only when the registry says that it has everything below a sequence. Batches go out in
//! order, at most a window of them; when no acknowledgement comes in time, sending goes back to the cursor with a single
//! batch and twice the patience, until one is acknowledged. So nothing is lost by any failure between the two journals,
//! and a silent registry costs one batch every few minutes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The longest patience with a silent registry.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// The cursor moved to this sequence.
    Moved(u64),
    /// Nothing new.
    Nothing,
    /// It speaks of another journal, or of records that were never sent: not ours.
    Foreign,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    end: u64,
    sent: Instant,
}

/// The window over the journal.
#[derive(Debug)]
pub(super) struct Outbox {
    epoch: u64,
    /// The registry has everything below.
    acked: u64,
    /// Where the next batch begins.
    next: u64,
    /// Records below are durable and may be sent.
    committed: u64,
    under_way: VecDeque<UnderWay>,
    window: usize,
    window_max: usize,
    patience: Duration,
    ack_timeout: Duration,
    /// The registry said that it has less than it once acknowledged; believed when it stays so.
    regressed: Option<u64>,
    resent: u64,
}

impl Outbox {
    pub(super) fn new(epoch: u64, acked: u64, window: usize, ack_timeout: Duration) -> Self {
        Self {
            epoch,
            acked,
            next: acked,
            committed: acked,
            under_way: VecDeque::with_capacity(window),
            window,
            window_max: window,
            patience: ack_timeout,
            ack_timeout,
            regressed: None,
            resent: 0,
        }
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Batches sent once more because no acknowledgement came.
    pub(super) fn resent(&self) -> u64 {
        self.resent
    }

    /// Records below this sequence are durable now.
    pub(super) fn committed(&mut self, committed: u64) {
        self.committed = self.committed.max(committed);
    }

    /// The records to send next: from here, below there.
    pub(super) fn wanted(&self) -> Option<(u64, u64)> {
        (self.under_way.len() < self.window && self.next < self.committed).then_some((self.next, self.committed))
    }

    /// A batch that ends before `end` was handed to the broker.
    pub(super) fn sent(&mut self, end: u64, now: Instant) {
        self.next = self.next.max(end);
        self.under_way.push_back(UnderWay { end, sent: now });
    }

    /// The registry has everything of `epoch` below `upto`.
    pub(super) fn acknowledged(&mut self, epoch: u64, upto: u64) -> Acked {
        if epoch != self.epoch || upto > self.committed {
            return Acked::Foreign;
        }
        if upto < self.acked {
            self.regressed = Some(upto);
            return Acked::Nothing;
        }
        self.regressed = None;
        if upto == self.acked {
            return Acked::Nothing;
        }
        self.acked = upto;
        self.next = self.next.max(upto);
        self.under_way.retain(|batch| batch.end > upto);
        (self.window, self.patience) = (self.window_max, self.ack_timeout);
        Acked::Moved(upto)
    }

    /// When the oldest batch has waited too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.under_way.front().map(|oldest| oldest.sent + self.patience)
    }

    /// Goes back to the cursor when the oldest batch has waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            if let Some(upto) = self.regressed.take() {
                self.acked = upto;
            }
            self.resent = self.resent.saturating_add(self.under_way.len() as u64);
            self.rewind();
            self.window = 1;
            self.patience = (self.patience * 2).min(PATIENCE_MAX.max(self.ack_timeout));
        }
    }

    /// The connection is new: whatever was under way is not any more.
    pub(super) fn rewind(&mut self) {
        self.next = self.acked;
        self.under_way.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn outbox(window: usize, committed: u64) -> Outbox {
        let mut outbox = Outbox::new(7, 0, window, TIMEOUT);
        outbox.committed(committed);
        outbox
    }

    #[test]
    fn only_durable_records_are_sent_and_no_more_than_a_window() {
        let now = Instant::now();
        let mut outbox = outbox(2, 100);
        assert_eq!(outbox.wanted(), Some((0, 100)));
        outbox.sent(10, now);
        assert_eq!(outbox.wanted(), Some((10, 100)));
        outbox.sent(20, now);
        assert_eq!(outbox.wanted(), None, "the window is full");
        assert_eq!(outbox.acknowledged(7, 10), Acked::Moved(10));
        assert_eq!(outbox.wanted(), Some((20, 100)));
        outbox.sent(100, now);
        assert_eq!(outbox.acknowledged(7, 100), Acked::Moved(100));
        assert_eq!(outbox.wanted(), None, "nothing more is durable");
    }

    #[test]
    fn the_cursor_moves_only_on_an_acknowledgement_of_this_journal() {
        let mut outbox = outbox(4, 50);
        outbox.sent(50, Instant::now());
        assert_eq!(outbox.acknowledged(8, 50), Acked::Foreign, "another epoch");
        assert_eq!(outbox.acknowledged(7, 51), Acked::Foreign, "more than there is");
        assert_eq!(outbox.acked(), 0);
        assert_eq!(outbox.acknowledged(7, 50), Acked::Moved(50));
        assert_eq!(outbox.acknowledged(7, 50), Acked::Nothing, "twice is once");
    }

    #[test]
    fn a_silent_registry_is_asked_again_with_one_batch_and_doubled_patience() {
        let now = Instant::now();
        let mut outbox = outbox(4, 40);
        for end in [10, 20, 30, 40] {
            outbox.sent(end, now);
        }
        outbox.expire(now + TIMEOUT - Duration::from_millis(1));
        assert_eq!(outbox.wanted(), None, "not yet");
        outbox.expire(now + TIMEOUT);
        assert_eq!((outbox.wanted(), outbox.resent()), (Some((0, 40)), 4));
        outbox.sent(10, now + TIMEOUT);
        assert_eq!(outbox.wanted(), None, "one batch until an answer comes");
        assert_eq!(outbox.deadline(), Some(now + TIMEOUT + 2 * TIMEOUT));
        assert_eq!(outbox.acknowledged(7, 10), Acked::Moved(10));
        outbox.sent(20, now + TIMEOUT);
        assert_eq!(outbox.wanted(), Some((20, 40)), "the window is open again");
    }

    #[test]
    fn patience_has_an_end() {
        let mut now = Instant::now();
        let mut outbox = outbox(1, 10);
        for _ in 0..20 {
            outbox.sent(10, now);
            now = outbox.deadline().unwrap_or(now);
            outbox.expire(now);
        }
        outbox.sent(10, now);
        assert_eq!(outbox.deadline(), Some(now + PATIENCE_MAX));
    }

    #[test]
    fn a_new_connection_sends_again_from_the_cursor() {
        let now = Instant::now();
        let mut outbox = outbox(4, 40);
        outbox.sent(10, now);
        outbox.sent(20, now);
        assert_eq!(outbox.acknowledged(7, 10), Acked::Moved(10));
        outbox.rewind();
        assert_eq!((outbox.wanted(), outbox.deadline()), (Some((10, 40)), None));
    }

    #[test]
    fn a_late_acknowledgement_after_going_back_is_still_good() {
        let now = Instant::now();
        let mut outbox = outbox(4, 40);
        outbox.sent(10, now);
        outbox.sent(20, now);
        outbox.expire(now + TIMEOUT);
        assert_eq!(outbox.acknowledged(7, 20), Acked::Moved(20));
        assert_eq!(outbox.wanted(), Some((20, 40)));
    }

    #[test]
    fn a_registry_that_lost_records_gets_them_again_but_a_stale_answer_changes_nothing() {
        let now = Instant::now();
        let mut outbox = outbox(4, 40);
        outbox.sent(20, now);
        assert_eq!(outbox.acknowledged(7, 20), Acked::Moved(20));
        outbox.sent(30, now);
        assert_eq!(outbox.acknowledged(7, 5), Acked::Nothing);
        assert_eq!(outbox.acknowledged(7, 30), Acked::Moved(30), "it was only late");
        outbox.sent(40, now);
        assert_eq!(outbox.acknowledged(7, 5), Acked::Nothing);
        outbox.expire(now + TIMEOUT);
        assert_eq!(outbox.wanted(), Some((5, 40)), "it really has no more");
    }
}
