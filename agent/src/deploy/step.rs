//! The way of a model as a pure machine: assignments and outcomes go in, work and journal entries come out. The caller
//! stores [`Machine::stored`] before it begins the work that [`Machine::next`] names.
//!
//! ```text
//! Assigned ─verify─▶ Verified ─fetch─▶ Fetched ─try─▶ Tried ─swap─▶ Live
//!     └────────────────┴──────────────────┴─────────────┴─▶ Refused        (what ran goes on)
//! ```
//!
//! Every step verifies again what it needs (the manifest's seal, the files' digests), so a restart goes on at the stored
//! stage. A newer assignment supersedes an older one at any stage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use vedette_protocol::assignment::{self, Assignment};
use vedette_protocol::id::{Digest, ModelRef, ModelVersion, StreamName};
use vedette_protocol::limit::MAX_DETAIL_BYTES;
use vedette_protocol::record::{DeployStep, Stage, SwapReason};

use super::refusal::Refusal;
use super::store::{Installed, Order, Slot, Stored, Taken, Target};
use super::task::{Failure, Job, Reached, Task, Work};
use crate::backoff::Backoff;

/// Beginnings of one step without an answer before the model is refused: the agent died over it (as greenboot's three boots).
const ATTEMPTS_MAX: u32 = 3;

/// The longest wait before a fetch is tried again.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Refused assignments that are journalled, each once although the broker repeats it, until one is taken again: whoever
/// can send us nonsense cannot fill the journal with it.
const REFUSED_REMEMBERED: usize = 16;

/// The machine.
#[derive(Debug)]
pub struct Machine {
    stored: Stored,
    streams: BTreeSet<StreamName>,
    retry: Duration,
    waits: BTreeMap<StreamName, Wait>,
    refused: BTreeSet<Digest>,
}

#[derive(Debug)]
struct Wait {
    backoff: Backoff,
    until: Instant,
    why: String,
}

impl Machine {
    /// Goes on from what was stored, for a device with these streams; `retry` is the first wait after a failure.
    #[must_use]
    pub fn new(stored: Stored, streams: BTreeSet<StreamName>, retry: Duration) -> Self {
        Self { stored, streams, retry, waits: BTreeMap::new(), refused: BTreeSet::new() }
    }

    /// What to store.
    #[must_use]
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The version of the assignment that was taken last, 0 before the first.
    #[must_use]
    pub fn assignment_version(&self) -> u64 {
        self.stored.assignment.map_or(0, |taken| taken.version)
    }

    /// Why a stream's step waits, for people.
    pub fn waiting(&self) -> impl Iterator<Item = (&StreamName, &str)> {
        self.waits.iter().map(|(stream, wait)| (stream, wait.why.as_str()))
    }

    /// The latest step of each stream that has one.
    #[must_use]
    pub fn steps(&self) -> Vec<DeployStep> {
        self.stored.slots.iter().filter_map(|(stream, slot)| latest(stream, slot)).collect()
    }

    /// Takes an assignment whose seal is good and that is for this device; `digest` is its payload's, `now_ms` the wall.
    /// Returns the steps to journal. The same assignment again changes nothing.
    ///
    /// # Errors
    /// When it is older, a second of its version, or expired; [`Machine::refuse_once`] gives the steps to journal.
    pub fn assign(&mut self, assignment: &Assignment, digest: Digest, now_ms: i64) -> Result<Vec<DeployStep>, Refusal> {
        let version = assignment.version;
        if let Some(taken) = self.stored.assignment {
            if version < taken.version {
                return Err(Refusal::Older { version, known: taken.version });
            }
            if version == taken.version {
                return if digest == taken.digest { Ok(Vec::new()) } else { Err(Refusal::SameVersion { version }) };
            }
        }
        if assignment.expires_ms <= now_ms {
            return Err(Refusal::Expired { version, expires_ms: assignment.expires_ms });
        }
        self.stored.assignment = Some(Taken { version, digest });
        self.waits.clear();
        self.refused.clear();
        Ok(self.aim(assignment))
    }

    /// Sets each stream's target to what is assigned.
    fn aim(&mut self, assignment: &Assignment) -> Vec<DeployStep> {
        let mut steps = Vec::new();
        for stream in &self.streams {
            match assignment.slots.iter().find(|slot| slot.stream == *stream) {
                Some(wanted) => {
                    let slot = self.stored.slots.entry(stream.clone()).or_default();
                    if aim_at(slot, wanted) {
                        steps.extend(latest(stream, slot));
                    }
                }
                None => {
                    if let Some(slot) = self.stored.slots.get_mut(stream) {
                        slot.target = if slot.live.is_some() { Target::Remove } else { Target::Stay };
                    }
                }
            }
        }
        let strangers = assignment.slots.iter().filter(|slot| !self.streams.contains(&slot.stream));
        steps.extend(strangers.map(|slot| refused_step(slot, &Refusal::NoStream(slot.stream.clone()))));
        steps
    }

    /// The steps to journal for an assignment that was refused as a whole: one a slot, the first time only.
    pub fn refuse_once(&mut self, assignment: &Assignment, digest: Digest, refusal: &Refusal) -> Vec<DeployStep> {
        if self.refused.len() == REFUSED_REMEMBERED || !self.refused.insert(digest) {
            return Vec::new();
        }
        assignment.slots.iter().map(|slot| refused_step(slot, refusal)).collect()
    }

    /// The next step to do, and counts its beginning: store before doing it. A model over which the agent died too often
    /// is refused here, with the step to journal.
    pub fn next(&mut self, now: Instant) -> Option<Result<Work, DeployStep>> {
        let waits = &self.waits;
        let ready = |stream: &StreamName| waits.get(stream).is_none_or(|wait| wait.until <= now);
        let found = self.stored.slots.iter_mut().find(|(stream, slot)| ready(stream) && unfinished(&slot.target));
        let (stream, slot) = found?;
        let order = match &mut slot.target {
            Target::Install(order) => order,
            Target::Remove => return Some(Ok(Work { stream: stream.clone(), task: Task::Remove })),
            Target::Stay => return None,
        };
        if order.attempts >= ATTEMPTS_MAX {
            refuse(order, &Refusal::Attempts(order.attempts));
            return latest(stream, slot).map(Err);
        }
        order.attempts += 1;
        let job = Job {
            model: order.model.clone(),
            manifest: order.manifest,
            floor: self.stored.floors.get(&order.model.name).copied(),
        };
        let task = match order.stage {
            Stage::Assigned => Task::Verify(job),
            Stage::Verified => Task::Fetch(job),
            Stage::Fetched => Task::Try(job),
            Stage::Tried => {
                let reason = swap_reason(slot.live.as_ref(), &job.model);
                Task::Swap(job, reason)
            }
            Stage::Live | Stage::Refused => return None,
        };
        Some(Ok(Work { stream: stream.clone(), task }))
    }

    /// When a waiting step may be tried again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = self
            .waits
            .iter()
            .filter(|(stream, _)| self.stored.slots.get(*stream).is_some_and(|slot| unfinished(&slot.target)));
        waiting.map(|(_, wait)| wait.until).min()
    }

    /// Whether a step that was begun is still what the stream needs.
    #[must_use]
    pub fn wants(&self, work: &Work) -> bool {
        let Some(slot) = self.stored.slots.get(&work.stream) else { return false };
        match (&work.task, &slot.target) {
            (Task::Verify(job) | Task::Fetch(job) | Task::Try(job) | Task::Swap(job, _), Target::Install(order)) => {
                order.manifest == job.manifest && !matches!(order.stage, Stage::Refused | Stage::Live)
            }
            (Task::Remove, Target::Remove) => true,
            (Task::Verify(_) | Task::Fetch(_) | Task::Try(_) | Task::Swap(..), Target::Stay | Target::Remove)
            | (Task::Remove, Target::Stay | Target::Install(_)) => false,
        }
    }

    /// A step has ended. Returns the step to journal, if one was reached. `draw` is random, uniform over all `u32`.
    pub fn done(
        &mut self,
        work: &Work,
        outcome: Result<Reached, Failure>,
        now: Instant,
        draw: u32,
    ) -> Option<DeployStep> {
        if !self.wants(work) {
            return None;
        }
        let slot = self.stored.slots.get_mut(&work.stream)?;
        let failure = match outcome {
            Ok(reached) => {
                self.waits.remove(&work.stream);
                let floor = advance(slot, reached);
                if let (Some(floor), Some(live)) = (floor, &slot.live) {
                    let known = self.stored.floors.entry(live.model.name.clone()).or_insert(floor);
                    *known = floor.max(*known);
                }
                return latest(&work.stream, slot);
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Refused(refusal) => {
                if let Target::Install(order) = &mut slot.target {
                    refuse(order, &refusal);
                }
                self.waits.remove(&work.stream);
                latest(&work.stream, slot)
            }
            Failure::Later(why) => {
                if let Target::Install(order) = &mut slot.target {
                    order.attempts = 0;
                }
                self.wait(&work.stream, why, now, draw);
                None
            }
            Failure::Rotten(why) => {
                if let Target::Install(order) = &mut slot.target {
                    (order.stage, order.attempts) = (Stage::Assigned, 0);
                }
                self.wait(&work.stream, why, now, draw);
                None
            }
        }
    }

    fn wait(&mut self, stream: &StreamName, why: String, now: Instant, draw: u32) {
        let retry = self.retry;
        let wait = self.waits.entry(stream.clone()).or_insert_with(|| Wait {
            backoff: Backoff::new(retry, RETRY_MAX),
            until: now,
            why: String::new(),
        });
        wait.until = now + wait.backoff.failed(draw);
        wait.why = why;
    }

    /// A live model could not be loaded at the start: it is ordered again, and the baseline runs until it is back.
    /// Returns the step to journal.
    pub fn lost(&mut self, stream: &StreamName, why: &str) -> Option<DeployStep> {
        let slot = self.stored.slots.get_mut(stream)?;
        let live = slot.live.take()?;
        if slot.target == Target::Stay {
            let detail = cut(&format!("its files have to be fetched again: {why}"));
            slot.target = Target::Install(Order { detail: Some(detail), ..new_order(live.model, live.manifest) });
        }
        if slot.target == Target::Remove {
            slot.target = Target::Stay;
        }
        latest(stream, slot)
    }

    /// Digests of all files that must be kept: what is live, was live before, or is on its way.
    #[must_use]
    pub fn files(&self) -> BTreeSet<Digest> {
        let mut kept = BTreeSet::new();
        for slot in self.stored.slots.values() {
            for installed in slot.live.iter().chain(&slot.previous) {
                kept.extend([installed.manifest, installed.files.artifact, installed.files.selftest]);
            }
            if let Target::Install(order) = &slot.target {
                kept.insert(order.manifest);
                kept.extend(order.files.iter().flat_map(|files| [files.artifact, files.selftest]));
            }
        }
        kept
    }
}

/// Sets a slot's target to what is assigned; whether that is something new.
fn aim_at(slot: &mut Slot, wanted: &assignment::Slot) -> bool {
    if slot.live.as_ref().is_some_and(|live| live.manifest == wanted.manifest) {
        slot.target = Target::Stay;
        return false;
    }
    if let Target::Install(order) = &mut slot.target
        && order.manifest == wanted.manifest
        && order.stage != Stage::Refused
    {
        order.attempts = 0;
        return false;
    }
    slot.target = Target::Install(new_order(wanted.model.clone(), wanted.manifest));
    true
}

fn new_order(model: ModelRef, manifest: Digest) -> Order {
    Order { model, manifest, stage: Stage::Assigned, attempts: 0, files: None, detail: None }
}

fn unfinished(target: &Target) -> bool {
    match target {
        Target::Stay => false,
        Target::Remove => true,
        Target::Install(order) => !matches!(order.stage, Stage::Refused | Stage::Live),
    }
}

/// Writes down what a step reached; the manifest's floor when the model is live.
fn advance(slot: &mut Slot, reached: Reached) -> Option<ModelVersion> {
    let order = match &mut slot.target {
        Target::Install(order) => order,
        Target::Remove | Target::Stay => {
            if reached == Reached::Removed {
                slot.previous = slot.live.take().or(slot.previous.take());
                slot.target = Target::Stay;
            }
            return None;
        }
    };
    order.attempts = 0;
    order.detail = None;
    match reached {
        Reached::Verified(files) => (order.stage, order.files) = (Stage::Verified, Some(files)),
        Reached::Fetched => order.stage = Stage::Fetched,
        Reached::Tried => order.stage = Stage::Tried,
        Reached::Live(floor) => {
            if let Some(files) = order.files {
                let live = Installed { model: order.model.clone(), manifest: order.manifest, files };
                slot.previous = slot.live.replace(live).or(slot.previous.take());
                slot.target = Target::Stay;
            }
            return Some(floor);
        }
        Reached::Removed => {}
    }
    None
}

fn refuse(order: &mut Order, refusal: &Refusal) {
    order.stage = Stage::Refused;
    order.detail = Some(cut(&refusal.to_string()));
}

/// A lower version of the same name is a rollback.
fn swap_reason(live: Option<&Installed>, model: &ModelRef) -> SwapReason {
    match live {
        Some(live) if live.model.name == model.name && model.version < live.model.version => SwapReason::Rollback,
        Some(_) | None => SwapReason::Assigned,
    }
}

fn latest(stream: &StreamName, slot: &Slot) -> Option<DeployStep> {
    let step = |model: &ModelRef, manifest, stage, detail| DeployStep {
        stream: stream.clone(),
        model: model.clone(),
        manifest,
        stage,
        detail,
    };
    match (&slot.target, &slot.live) {
        (Target::Install(order), _) => Some(step(&order.model, order.manifest, order.stage, order.detail.clone())),
        (Target::Stay | Target::Remove, Some(live)) => Some(step(&live.model, live.manifest, Stage::Live, None)),
        (Target::Stay | Target::Remove, None) => None,
    }
}

fn refused_step(slot: &assignment::Slot, refusal: &Refusal) -> DeployStep {
    DeployStep {
        stream: slot.stream.clone(),
        model: slot.model.clone(),
        manifest: slot.manifest,
        stage: Stage::Refused,
        detail: Some(cut(&refusal.to_string())),
    }
}

/// A detail is a sentence of bounded length.
fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_DETAIL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
