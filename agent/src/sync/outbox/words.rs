//! What is said to the outbox, and what it says.

use std::time::Duration;

/// How records are sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Limits {
    /// Batches under way at once.
    pub(in crate::sync) window: usize,
    /// After this a batch without an answer is sent again.
    pub(in crate::sync) ack_timeout: Duration,
    /// Records of the backlog a second.
    pub(in crate::sync) backlog_rate: u32,
}

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Lane {
    /// What came since the connection began.
    Live,
    /// What had waited for it.
    Backlog,
}

/// The batch to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Wanted {
    pub(in crate::sync) lane: Lane,
    /// Its first sequence.
    pub(in crate::sync) from: u64,
    /// The first sequence that is not its business.
    pub(in crate::sync) below: u64,
    /// Only to ask whether the registry takes something again.
    pub(in crate::sync) small: bool,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Acked {
    /// The cursor moved to this sequence.
    Moved(u64),
    /// Nothing new about the cursor.
    Nothing,
    /// The registry has more of this journal than this journal.
    Ahead(u64),
    /// It speaks of another journal: not ours.
    Foreign,
}
