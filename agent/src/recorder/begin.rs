//! How the recorder begins on a journal, at the start or when the disk lets it later, and what it then says of the past.

use std::ops::Range;
use std::sync::PoisonError;
use std::time::Instant;

use vedette_journal::{CommitError, Damage, Journal, OpenError, Recovery};
use vedette_protocol::record::{Body, PreviousEnd};

use super::opening::{Closed, Opened};
use super::survey::{self, Survey};
use super::worker::{RETRY, Worker};
use super::{Boot, Trouble};
use crate::AGENT_VERSION;

/// Why sequences are left out.
pub(super) const LOST_AFTER_ACK: &str = "the registry has them, and the disk has lost them";

impl Worker {
    /// Opens the journal; on a full disk once more without the ballast.
    pub(super) fn open_with_ballast(&mut self) -> Result<Opened, OpenError> {
        match self.opening.open()? {
            Opened::Refused(Trouble::Full, why) => {
                let given_up = self.keeper.as_ref().is_some_and(|keeper| keeper.ballast.give_up().unwrap_or(false));
                if given_up { self.opening.open() } else { Ok(Opened::Refused(Trouble::Full, why)) }
            }
            opened @ (Opened::Open(..) | Opened::Refused(..)) => Ok(opened),
        }
    }

    /// What can be done while the journal is closed: read it.
    pub(super) fn begin_closed(&mut self, trouble: Trouble, why: &str) {
        self.closed = self.opening.closed();
        let survey = survey::read(&self.opening.disk, &self.opening.folder, self.closed.epoch, &[]);
        self.learn(survey);
        self.degrade(trouble, why.to_owned());
    }

    /// The journal is open, at the start or later: what recovery found and what its readers meet is journalled, once.
    /// `false`: the disk refused again, and the journal is closed.
    pub(super) fn begin_on(&mut self, mut journal: Journal, recovery: Option<Recovery>) -> bool {
        let epoch = journal.epoch();
        let survey = survey::read(&self.opening.disk, &self.opening.folder, epoch, &journal.segment_list());
        let damaged = recovery.iter().flat_map(damage).chain(survey.gaps.iter().cloned());
        let mut gaps: Vec<(Range<u64>, &str)> = Vec::new();
        for gap in damaged.filter(|gap| !survey.names(gap)) {
            if !gaps.iter().any(|(known, _)| *known == gap) {
                gaps.push((gap, "the disk does not hold what was written"));
            }
        }
        self.learn(survey);
        // The registry has records of this journal that are not here any more: their sequences are not given again.
        let (recovered, acknowledged) = (journal.next_sequence(), self.acknowledged());
        if acknowledged > recovered {
            match journal.skip_to(acknowledged) {
                Ok(()) => gaps.push((recovered..acknowledged, LOST_AFTER_ACK)),
                Err(error @ CommitError::SkipTooFar { .. }) => {
                    tracing::error!(%error, "the journal goes on behind the registry's copy of it, which will refuse it")
                }
                Err(error) => {
                    self.closed = Closed { epoch, next_sequence: recovered, committed: recovered };
                    self.degrade(Trouble::of_commit(&error), error.to_string());
                    return false;
                }
            }
        }
        self.journal = Some(journal);
        for (gap, reason) in gaps {
            self.take_first(Body::Gap { from: gap.start, to: gap.end, reason: reason.to_owned() });
        }
        true
    }

    fn learn(&mut self, mut survey: Survey) {
        self.config = survey.config;
        let noted = survey.ack.map_or(0, |(upto, _)| upto);
        self.acknowledged_before = self.opening.acknowledged(self.closed.epoch).max(noted);
        if let Some(keeper) = &mut self.keeper {
            keeper.learn(&mut survey, self.clock.now());
        }
        *self.ledger.write().unwrap_or_else(PoisonError::into_inner) = survey.ledger;
    }

    /// Journals this start, and the configuration if it is another one than before.
    pub(super) fn tell_of_boot(&mut self, boot: Boot, created: bool) {
        let previous = match (created, boot.previous_was_clean) {
            (true, _) => PreviousEnd::First,
            (false, true) => PreviousEnd::Clean,
            (false, false) => PreviousEnd::Unclean,
        };
        self.take(Body::Boot { agent_version: AGENT_VERSION.to_owned(), previous });
        if self.config != Some(boot.config) {
            self.take(Body::Config { digest: boot.config });
            self.config = Some(boot.config);
        }
    }

    /// Opens a journal that could not be opened before.
    pub(super) fn open_again(&mut self, now: Instant) -> bool {
        match self.opening.open() {
            Ok(Opened::Open(journal, recovery)) if journal.epoch() == self.closed.epoch => {
                let open = self.begin_on(*journal, Some(recovery));
                if !open {
                    self.retry_at = Some(now + RETRY);
                }
                open
            }
            Ok(Opened::Open(..)) => {
                self.fail(now, Trouble::Failing, "the journal became readable only now and has another epoch than was believed at the start: restart the agent".to_owned());
                false
            }
            Ok(Opened::Refused(trouble, why)) => {
                self.fail(now, trouble, why);
                false
            }
            Err(error) => {
                self.fail(now, Trouble::Failing, error.to_string());
                false
            }
        }
    }
}

/// The ranges of sequences that recovery found damaged.
fn damage(recovery: &Recovery) -> impl Iterator<Item = Range<u64>> + '_ {
    if recovery.cut_bytes > 0 {
        tracing::warn!(bytes = recovery.cut_bytes, "the journal ended in an unfinished write, which was cut");
    }
    recovery.damage.iter().filter_map(|damage| match damage {
        Damage::Records { from, to, .. } => Some(*from..*to),
        // Nothing of the log itself is lost, or it is not known what.
        other => {
            tracing::error!(damage = ?other, "the journal is damaged");
            None
        }
    })
}
