//! The model's way in: assignment → verify → fetch → trial → swap → report.
//!
//! # Constraints
//!
//! - Nothing unsigned ever runs: the fleet's key says what this device should run, the models' key says what is genuine;
//!   both must agree, and every step verifies again what it uses. Expiry stops installs, never scoring.
//! - Scoring never stops: a refused or broken model changes nothing about the one that runs.
//! - A step that was reached is journalled, then stored, and only then the next one begins. A crash repeats a step, and a
//!   model over which the agent dies three times is refused.
//!
//! # Rooms
//!
//! [`step`] decides (pure), [`store`] remembers, [`files`] keeps the model files, [`fetch`] brings them, `work` does a step.
//! This file drives: one step at a time, and a newer assignment drops a step that is not wanted any more.
//!
//! # Recovery
//!
//! At the start the last live models are loaded from their files, verified again. One that cannot be is ordered again and
//! the baseline scores until it is back.

pub mod fetch;
pub mod files;
pub mod refusal;
pub mod step;
pub mod store;
pub mod task;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vedette_protocol::assignment::Assignment;
use vedette_protocol::envelope;
use vedette_protocol::id::{DeviceId, Digest, StreamName};
use vedette_protocol::key::KeySet;
use vedette_protocol::message::{ArtifactRequest, Chunk};
use vedette_protocol::record::{Body, DeployStep};
use vedette_scoring::Model;

use crate::backoff;
use crate::clock::Clock;
use crate::config::{self, Registry};
use crate::recorder::{RecordError, Recorder};
use crate::scorer::Scorer;
use crate::state::State;
use fetch::{SEALED_BYTES_MAX, Wire};
use files::ModelFiles;
use refusal::{Refusal, open_assignment, open_manifest};
use step::Machine;
use store::{Found, Installed};
use task::{Failure, Reached, Work};
use work::Workshop;

/// Pieces that wait for the step that asked: it asks for one at a time. When full, the piece is dropped and asked again.
const CHUNKS: usize = 2;

/// Pause before a full recorder queue is tried again.
const RECORDER_BUSY: Duration = Duration::from_millis(100);

/// How the ways of this device's models stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Version of the assignment that was taken last, 0 before the first.
    pub assignment_version: u64,
    /// The latest step of each stream that has one.
    pub steps: Vec<DeployStep>,
    /// Why the last assignment was refused as a whole, until one is taken.
    pub refusal: Option<String>,
    /// Streams whose next step waits, and why.
    pub waiting: Vec<(StreamName, String)>,
}

/// The ends of the channels to `sync`.
#[derive(Debug)]
pub struct Link {
    /// Sealed assignments.
    pub assignments: mpsc::Receiver<Vec<u8>>,
    /// Pieces of files.
    pub chunks: mpsc::Receiver<Chunk>,
    /// Questions for pieces.
    pub requests: mpsc::Sender<ArtifactRequest>,
}

/// What deploy works with.
#[derive(Debug)]
pub struct Parts {
    /// This device.
    pub device: DeviceId,
    /// Limits.
    pub config: config::Deploy,
    /// Whom to believe and where files come from.
    pub registry: Registry,
    /// Where files are kept.
    pub state: State,
    /// What time it is.
    pub clock: Clock,
    /// Where steps are journalled.
    pub recorder: Recorder,
    /// Where models are swapped.
    pub scorer: Scorer,
    /// The program that runs a trial: this one.
    pub program: PathBuf,
}

/// What deploy remembers, with the models that were live.
#[derive(Debug)]
pub struct Opened {
    machine: Machine,
    /// The models to score with from the first sample on.
    pub live: BTreeMap<StreamName, Arc<Model>>,
    steps: Vec<DeployStep>,
}

impl Opened {
    /// How things stand before anything is done.
    #[must_use]
    pub fn view(&self) -> View {
        view(&self.machine, None)
    }
}

/// Reads what was stored and loads the live models, verifying each again. Blocks.
///
/// # Errors
/// When the state cannot be read.
pub fn open(config: &config::Config, registry: &Registry, state: &State) -> std::io::Result<Opened> {
    let stored = match store::load(&state.deploy())? {
        Found::Whole(stored) => stored,
        Found::Broken(aside) => {
            tracing::error!(file = %aside.display(), "what deploy remembered is rotten and was set aside: starting without models");
            store::Stored::default()
        }
    };
    let streams = config.streams.iter().map(|stream| stream.name.clone()).collect();
    let mut opened = Opened {
        machine: Machine::new(stored, streams, config.deploy.retry),
        live: BTreeMap::new(),
        steps: Vec::new(),
    };
    let files = ModelFiles::new(state.models());
    for (stream, slot) in opened.machine.stored().slots.clone() {
        let Some(live) = slot.live else { continue };
        match load_live(&files, &live, &registry.trust.models) {
            Ok(model) => {
                opened.live.insert(stream, Arc::new(model));
            }
            Err(why) => {
                tracing::error!(%stream, model = %live.model, %why, "couldn't load the live model; the baseline scores until it is fetched again");
                opened.steps.extend(opened.machine.lost(&stream, &why));
            }
        }
    }
    Ok(opened)
}

fn load_live(files: &ModelFiles, live: &Installed, models: &KeySet) -> Result<Model, String> {
    let sealed = files.read_manifest(live.manifest, SEALED_BYTES_MAX as u64).map_err(|e| e.to_string())?;
    // What runs may go on below a floor that came later: the floor stops installs, scoring never stops.
    let manifest = open_manifest(&sealed, &live.model, live.manifest, models, None).map_err(|e| e.to_string())?;
    work::load(files, &manifest, live.manifest).map_err(|failure| match failure {
        Failure::Refused(refusal) => refusal.to_string(),
        Failure::Later(why) | Failure::Rotten(why) => why,
    })
}

/// Runs until asked to stop.
///
/// # Errors
/// When the recorder has stopped before.
pub async fn run(
    parts: Parts,
    opened: Opened,
    link: Link,
    view: watch::Sender<View>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Parts { device, config, registry, state, clock, recorder, scorer, program } = parts;
    let files = ModelFiles::new(state.models());
    let fleet = registry.trust.fleet.clone();
    let workshop = Arc::new(Workshop { registry, limits: config, files, scorer, program });
    let mut driver = Driver {
        device,
        fleet,
        machine: opened.machine,
        state,
        clock,
        recorder,
        workshop,
        view,
        refusal: None,
        expired: None,
    };
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = driver.run(opened.steps, link) => ended,
    }
}

/// A step that is being done.
struct Running {
    work: Work,
    chunks: mpsc::Sender<Chunk>,
    outcome: Pin<Box<dyn Future<Output = Result<Reached, Failure>> + Send>>,
}

struct Driver {
    device: DeviceId,
    fleet: KeySet,
    machine: Machine,
    state: State,
    clock: Clock,
    recorder: Recorder,
    workshop: Arc<Workshop>,
    view: watch::Sender<View>,
    refusal: Option<String>,
    /// An assignment that had expired by our clock: tried again when the clock is set.
    expired: Option<Vec<u8>>,
}

impl Driver {
    async fn run(&mut self, steps: Vec<DeployStep>, mut link: Link) -> anyhow::Result<()> {
        self.journal(steps).await?;
        let mut running: Option<Running> = None;
        let mut clock_set = self.clock.changes();
        loop {
            if running.is_none() {
                running = self.begin(&link.requests).await?;
            }
            self.publish();
            tokio::select! {
                Some(sealed) = link.assignments.recv() => {
                    self.take(&sealed).await?;
                    running = running.filter(|running| self.machine.wants(&running.work));
                }
                Some(chunk) = link.chunks.recv() => {
                    if let Some(running) = &running && running.chunks.try_send(chunk).is_err() {
                        tracing::debug!("a piece of a file came that nobody waits for");
                    }
                }
                (work, outcome) = ended(&mut running) => {
                    running = None;
                    self.end(&work, outcome).await?;
                }
                () = until(self.machine.deadline()) => {}
                Ok(()) = clock_set.changed(), if self.expired.is_some() => {
                    let sealed = self.expired.take().unwrap_or_default();
                    self.take(&sealed).await?;
                    running = running.filter(|running| self.machine.wants(&running.work));
                }
            }
        }
    }

    /// Stores that the next step begins, and begins it.
    async fn begin(&mut self, requests: &mpsc::Sender<ArtifactRequest>) -> anyhow::Result<Option<Running>> {
        loop {
            let work = match self.machine.next(self.clock.now()) {
                None => return Ok(None),
                Some(Ok(work)) => work,
                Some(Err(refused)) => {
                    self.journal(vec![refused]).await?;
                    self.save().await;
                    continue;
                }
            };
            if let Some(why) = self.save().await {
                self.end(&work, Err(Failure::Later(why))).await?;
                continue;
            }
            let (chunks, arriving) = mpsc::channel(CHUNKS);
            let wire = Wire { requests: requests.clone(), chunks: arriving };
            let (workshop, task) = (Arc::clone(&self.workshop), work.clone());
            let outcome = Box::pin(async move { workshop.perform(task, wire).await });
            return Ok(Some(Running { work, chunks, outcome }));
        }
    }

    async fn end(&mut self, work: &Work, outcome: Result<Reached, Failure>) -> anyhow::Result<()> {
        if let Err(failure) = &outcome {
            tell(work, failure);
        }
        let settled = matches!(outcome, Ok(Reached::Live(_) | Reached::Removed));
        let step = self.machine.done(work, outcome, self.clock.now(), backoff::draw());
        self.journal(step.into_iter().collect()).await?;
        let unsaved = self.save().await;
        if settled && unsaved.is_none() {
            self.sweep().await;
        }
        Ok(())
    }

    /// Takes or refuses an assignment.
    async fn take(&mut self, sealed: &[u8]) -> anyhow::Result<()> {
        let opened = match open_assignment(sealed, &self.device, &self.fleet) {
            Ok(opened) => opened,
            Err(refusal) => {
                let unbelieved = envelope::peek::<Assignment>(sealed).ok();
                return self.refuse(unbelieved.as_ref(), Digest::of(sealed), &refusal).await;
            }
        };
        self.clock.signed(opened.value.version, opened.value.issued_ms);
        match self.machine.assign(&opened.value, opened.digest, self.clock.wall_ms()) {
            Ok(steps) => {
                self.refusal = None;
                self.expired = None;
                self.journal(steps).await?;
                self.save().await;
                Ok(())
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Expired { .. }) {
                    self.expired = Some(sealed.to_vec());
                }
                self.refuse(Some(&opened.value), opened.digest, &refusal).await
            }
        }
    }

    async fn refuse(
        &mut self,
        assignment: Option<&Assignment>,
        digest: Digest,
        refusal: &Refusal,
    ) -> anyhow::Result<()> {
        let sentence = refusal.to_string();
        if self.refusal.as_ref() != Some(&sentence) {
            tracing::warn!(reason = %sentence, "an assignment is refused; what runs goes on");
        }
        self.refusal = Some(sentence);
        match assignment {
            Some(assignment) => {
                let steps = self.machine.refuse_once(assignment, digest, refusal);
                self.journal(steps).await
            }
            None => Ok(()),
        }
    }

    /// Journals steps in their order. A disk that refuses keeps the record in the recorder's memory, so we go on.
    async fn journal(&self, steps: Vec<DeployStep>) -> anyhow::Result<()> {
        for step in steps {
            tracing::info!(stream = %step.stream, model = %step.model, stage = ?step.stage, detail = step.detail.as_deref(), "deploy");
            loop {
                match self.recorder.append(Body::Deploy(step.clone())).await {
                    Ok(_) => break,
                    Err(RecordError::Busy) => tokio::time::sleep(RECORDER_BUSY).await,
                    Err(RecordError::Disk(why)) => {
                        tracing::warn!(%why, "a deploy step waits for the disk");
                        break;
                    }
                    Err(RecordError::Stopped) => return Err(RecordError::Stopped.into()),
                }
            }
        }
        Ok(())
    }

    /// Stores the machine's memory; why not, when it could not.
    async fn save(&self) -> Option<String> {
        let (path, stored) = (self.state.deploy(), self.machine.stored().clone());
        let saved = tokio::task::spawn_blocking(move || store::save(&path, &stored)).await;
        let error = saved.map_err(std::io::Error::other).and_then(|saved| saved).err()?;
        let why = format!("couldn't store {}: {error}", self.state.deploy().display());
        tracing::error!(%why, "the model's way waits");
        Some(why)
    }

    /// Removes the files of models that are neither live nor previous nor coming.
    async fn sweep(&self) {
        let (files, kept) = (self.workshop.files.clone(), self.machine.files());
        match tokio::task::spawn_blocking(move || files.sweep(&kept)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "removed files of models that are not needed any more"),
            Ok(Err(error)) => tracing::warn!(%error, "couldn't remove old model files"),
            Err(error) => tracing::warn!(%error, "couldn't remove old model files"),
        }
    }

    fn publish(&self) {
        let new = view(&self.machine, self.refusal.clone());
        self.view.send_if_modified(|old| {
            let changed = *old != new;
            *old = new;
            changed
        });
    }
}

fn view(machine: &Machine, refusal: Option<String>) -> View {
    let waiting = machine.waiting().map(|(stream, why)| (stream.clone(), why.to_owned())).collect();
    View { assignment_version: machine.assignment_version(), steps: machine.steps(), refusal, waiting }
}

fn tell(work: &Work, failure: &Failure) {
    match failure {
        Failure::Refused(refusal) => {
            tracing::warn!(stream = %work.stream, reason = %refusal, "a model is refused; what runs goes on")
        }
        Failure::Later(why) | Failure::Rotten(why) => {
            tracing::warn!(stream = %work.stream, %why, "a model's way in waits")
        }
    }
}

/// The outcome of the running step; never, when none runs.
async fn ended(running: &mut Option<Running>) -> (Work, Result<Reached, Failure>) {
    match running {
        Some(running) => (running.work.clone(), running.outcome.as_mut().await),
        None => std::future::pending().await,
    }
}

/// Until a moment; for ever, when there is none.
async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
