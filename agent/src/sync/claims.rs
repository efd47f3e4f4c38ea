//! When a signed checkpoint of the journal goes to the registry. Pure: proving and sending are the caller's.
//!
//! A checkpoint is worth sending when it is newer than the last one that the registry accepted, and when all records
//! below its size were sent before it. The proof begins at the size that the registry named last on this connection; so
//! nothing is claimed before it has answered once, and a device that has nothing to send asks. At most one claim (or
//! question) is without an answer.

use std::time::{Duration, Instant};

use vedette_protocol::message::Claim;

/// The longest patience with a registry that does not accept.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// What goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    Question,
    Claim { size: u64 },
}

/// A checkpoint with its proof.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proven {
    pub(super) from: u64,
    pub(super) size: u64,
    pub(super) claim: Claim,
}

/// What is known about checkpoints on both sides.
#[derive(Debug)]
pub(super) struct Claims {
    /// Size of the newest checkpoint.
    signed: u64,
    /// What the registry accepted last, ever.
    accepted: u64,
    /// Whether it said so on this connection.
    heard: bool,
    proven: Option<Proven>,
    /// The proof that is being made, or that could not be made: not again.
    tried: Option<(u64, u64)>,
    out: Option<(Out, Instant)>,
    patience: Duration,
    ack_timeout: Duration,
}

impl Claims {
    pub(super) fn new(ack_timeout: Duration) -> Self {
        Self {
            signed: 0,
            accepted: 0,
            heard: false,
            proven: None,
            tried: None,
            out: None,
            patience: ack_timeout,
            ack_timeout,
        }
    }

    /// Size of the last checkpoint that the registry accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// A checkpoint of this size was signed.
    pub(super) fn signed(&mut self, size: u64) {
        self.signed = self.signed.max(size);
    }

    /// The connection is over, or the registry takes nothing: what was out is not any more.
    pub(super) fn forget(&mut self) {
        (self.heard, self.out) = (false, None);
    }

    /// The registry says which checkpoint it accepted last. Whether that is news.
    pub(super) fn heard(&mut self, checkpoint: u64) -> bool {
        let news = checkpoint != self.accepted;
        (self.accepted, self.heard) = (checkpoint, true);
        let answered = self.out.is_some_and(|(out, _)| match out {
            Out::Question => true,
            Out::Claim { size } => checkpoint >= size,
        });
        if answered {
            (self.out, self.patience) = (None, self.ack_timeout);
        }
        if self.proven.as_ref().is_some_and(|proven| proven.from != checkpoint) {
            self.proven = None;
        }
        news
    }

    /// The proof to make now: from the first size to the second.
    pub(super) fn next_to_prove(&mut self) -> Option<(u64, u64)> {
        let wanted = (self.accepted, self.signed);
        let busy = self.out.is_some() || self.proven.is_some() || self.tried == Some(wanted);
        if busy || !self.heard || self.signed <= self.accepted {
            return None;
        }
        self.tried = Some(wanted);
        Some(wanted)
    }

    /// A proof is ready.
    pub(super) fn proved(&mut self, proven: Proven) {
        if proven.from == self.accepted && proven.size > self.accepted {
            self.proven = Some(proven);
        } else {
            self.tried = None;
        }
    }

    /// Whether a claim may go out with a batch: then its bytes are left free.
    pub(super) fn is_ready(&self) -> bool {
        self.heard && self.out.is_none() && self.proven.is_some()
    }

    /// The claim that may go out when all records below `sent_below` were sent.
    pub(super) fn due(&self, sent_below: u64) -> Option<&Claim> {
        let proven = self.proven.as_ref().filter(|proven| proven.size <= sent_below)?;
        self.is_ready().then_some(&proven.claim)
    }

    /// The due claim was handed to the broker.
    pub(super) fn sent(&mut self, now: Instant) {
        if let Some(Proven { size, .. }) = self.proven.take() {
            (self.out, self.tried) = (Some((Out::Claim { size }, now)), None);
        }
    }

    /// Whether the registry should be asked which checkpoint it has, when nothing else makes it answer.
    pub(super) fn should_ask(&self) -> bool {
        !self.heard && self.out.is_none() && self.signed > self.accepted
    }

    /// It was asked.
    pub(super) fn asked(&mut self, now: Instant) {
        self.out = Some((Out::Question, now));
    }

    /// When to come back with [`Claims::expire`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.out.map(|(_, since)| since + self.patience)
    }

    /// What waited too long for an answer goes out again, each time with more patience.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.out = None;
            self.patience = (self.patience * 2).min(PATIENCE_MAX.max(self.ack_timeout));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_protocol::cbor::Bytes;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn proven(from: u64, size: u64) -> Proven {
        let claim =
            Claim { note: format!("{size}"), key: Bytes(vec![0; 32]), from, proof: Vec::new(), frontier: Vec::new() };
        Proven { from, size, claim }
    }

    #[test]
    fn a_claim_waits_for_the_registry_s_word_for_its_proof_and_for_its_records() {
        let now = Instant::now();
        let mut claims = Claims::new(TIMEOUT);
        claims.signed(100);
        assert_eq!(claims.next_to_prove(), None, "where does the proof begin?");
        claims.heard(40);
        assert_eq!(claims.next_to_prove(), Some((40, 100)));
        assert_eq!(claims.next_to_prove(), None, "one proof at a time");
        assert_eq!(claims.due(100), None);
        claims.proved(proven(40, 100));
        assert_eq!(claims.due(99), None, "a record below it was not sent yet");
        assert_eq!(claims.due(100).unwrap().from, 40);
        claims.sent(now);
        assert_eq!(claims.due(100), None, "one claim at a time");
        assert_eq!(claims.next_to_prove(), None);
        assert!(claims.heard(100));
        assert_eq!((claims.accepted(), claims.next_to_prove(), claims.deadline()), (100, None, None));
    }

    #[test]
    fn a_claim_without_an_answer_goes_out_again_with_more_patience_each_time() {
        let mut now = Instant::now();
        let mut claims = Claims::new(TIMEOUT);
        claims.signed(10);
        claims.heard(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(claims.next_to_prove(), Some((0, 10)));
            claims.proved(proven(0, 10));
            assert!(claims.due(10).is_some());
            claims.sent(now);
            claims.heard(0);
            let deadline = claims.deadline().unwrap();
            waits.push((deadline - now).as_secs());
            claims.expire(deadline - Duration::from_millis(1));
            assert!(claims.deadline().is_some(), "not yet");
            now = deadline;
            claims.expire(now);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_device_with_nothing_to_send_asks_once_a_connection() {
        let mut claims = Claims::new(TIMEOUT);
        assert!(!claims.should_ask(), "there is nothing to claim");
        claims.signed(10);
        assert!(claims.should_ask());
        claims.asked(Instant::now());
        assert!(!claims.should_ask());
        claims.heard(10);
        assert!(!claims.should_ask());
        claims.forget();
        assert!(!claims.should_ask(), "it has this one");
        claims.signed(11);
        assert!(claims.should_ask());
    }

    #[test]
    fn a_proof_from_another_size_than_the_registry_s_is_not_sent_and_one_that_failed_is_not_tried_again() {
        let mut claims = Claims::new(TIMEOUT);
        claims.signed(10);
        claims.heard(0);
        assert_eq!(claims.next_to_prove(), Some((0, 10)));
        claims.heard(7);
        claims.proved(proven(0, 10));
        assert_eq!(claims.due(10), None);
        assert_eq!(claims.next_to_prove(), Some((7, 10)));
        // It failed: nothing came back.
        assert_eq!(claims.next_to_prove(), None);
        claims.signed(12);
        assert_eq!(claims.next_to_prove(), Some((7, 12)), "the next checkpoint is tried");
    }

    #[test]
    fn a_registry_that_has_more_than_we_signed_is_left_alone() {
        let mut claims = Claims::new(TIMEOUT);
        claims.signed(10);
        claims.heard(20);
        assert_eq!(claims.next_to_prove(), None);
        assert!(!claims.should_ask());
    }
}
