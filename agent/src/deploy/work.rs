//! One step of a model's way, done: the network, the files, the child process and the scorer behind the pure machine.

use std::path::PathBuf;
use std::sync::Arc;

use vedette_protocol::id::Digest;
use vedette_protocol::limit::MAX_SELFTEST_BYTES;
use vedette_protocol::manifest::Manifest;
use vedette_protocol::record::SwapReason;
use vedette_scoring::Model;
use vedette_scoring::trial::{self, TrialError, TrialLimits};

use super::fetch::{FetchError, Fetcher, Http, Limits, SEALED_BYTES_MAX, Wire};
use super::files::{FileError, ModelFiles};
use super::refusal::{Refusal, open_manifest};
use super::store::Files;
use super::task::{Failure, Job, Reached, Task, Work};
use crate::config::{Deploy, Registry};
use crate::scorer::{Scorer, SwapError};

/// What all steps need.
#[derive(Debug)]
pub(super) struct Workshop {
    pub(super) registry: Registry,
    pub(super) limits: Deploy,
    pub(super) files: ModelFiles,
    pub(super) scorer: Scorer,
    /// The program that is run with `trial`: ourselves.
    pub(super) program: PathBuf,
}

impl Workshop {
    /// Does a step; `wire` is the way over the broker.
    pub(super) async fn perform(&self, work: Work, wire: Wire) -> Result<Reached, Failure> {
        let Work { stream, task } = work;
        match task {
            Task::Verify(job) => self.verify(&job, wire).await,
            Task::Fetch(job) => self.fetch(&job, wire).await,
            Task::Try(job) => self.try_out(&job).await,
            Task::Swap(job, reason) => {
                let model = self.load(&job).await?;
                let floor = model.manifest().floor;
                let row = self.scorer.swap(&stream, Some(Arc::new(model)), reason).await.map_err(unfit)?;
                tracing::info!(%stream, model = %job.model, row, "a new model scores from this row on");
                Ok(Reached::Live(floor))
            }
            Task::Remove => {
                let row = self.scorer.swap(&stream, None, SwapReason::Assigned).await.map_err(unfit)?;
                tracing::info!(%stream, row, "no model is assigned: the baseline scores from this row on");
                Ok(Reached::Removed)
            }
        }
    }

    fn fetcher(&self, wire: Wire) -> Result<Fetcher, Failure> {
        let limits = Limits { deadline: self.limits.fetch_deadline, stall: self.limits.fetch_stall };
        let http = Http::new(&self.registry).map_err(|error| Failure::Later(error.to_string()))?;
        Ok(Fetcher::new(http, wire, limits))
    }

    async fn verify(&self, job: &Job, wire: Wire) -> Result<Reached, Failure> {
        let manifest = match self.manifest(job) {
            Ok(manifest) => manifest,
            Err(_not_here_yet) => {
                let sealed = self
                    .fetcher(wire)?
                    .manifest(job.manifest)
                    .await
                    .map_err(|error| not_fetched(error, job.manifest))?;
                let manifest = self.open(&sealed, job).map_err(Failure::Refused)?;
                self.files
                    .keep_manifest(job.manifest, &sealed)
                    .map_err(|error| Failure::Later(format!("couldn't keep the manifest: {error}")))?;
                manifest
            }
        };
        for (bytes, limit) in [
            (manifest.artifact.length, self.limits.artifact_bytes_max),
            (manifest.selftest.length, MAX_SELFTEST_BYTES as u64),
        ] {
            if bytes > limit {
                return Err(Failure::Refused(Refusal::TooLarge { bytes, limit }));
            }
        }
        Ok(Reached::Verified(Files { artifact: manifest.artifact.digest, selftest: manifest.selftest.digest }))
    }

    async fn fetch(&self, job: &Job, wire: Wire) -> Result<Reached, Failure> {
        let manifest = self.manifest(job)?;
        let mut fetcher = self.fetcher(wire)?;
        for blob in [manifest.selftest, manifest.artifact] {
            fetcher.blob(&blob, &self.files).await.map_err(|error| not_fetched(error, blob.digest))?;
        }
        Ok(Reached::Fetched)
    }

    async fn try_out(&self, job: &Job) -> Result<Reached, Failure> {
        let manifest = self.manifest(job)?;
        let limits = TrialLimits {
            memory_bytes: manifest.limits.memory_bytes.min(self.limits.trial_memory_bytes),
            cpu: self.limits.trial_deadline,
            wall: self.limits.trial_deadline,
        };
        let (files, program, digest) = (self.files.clone(), self.program.clone(), job.manifest);
        let report = blocking(move || {
            let selftest = files.read_blob(&manifest.selftest).map_err(rotten)?;
            drop(files.read_blob(&manifest.artifact).map_err(rotten)?);
            let artifact = files.blob(manifest.artifact.digest);
            trial::run(&program, &["trial"], &manifest, digest, &artifact, &selftest, limits).map_err(failed)
        });
        let report = report.await?;
        tracing::info!(model = %job.model, load_ms = report.load_ms, row_p99_ns = report.row_p99_ns, memory_bytes = report.memory_bytes, "the trial passed");
        Ok(Reached::Tried)
    }

    async fn load(&self, job: &Job) -> Result<Model, Failure> {
        let manifest = self.manifest(job)?;
        let (files, digest) = (self.files.clone(), job.manifest);
        blocking(move || load(&files, &manifest, digest)).await
    }

    /// The manifest, from its file, its seal and everything else verified just now.
    fn manifest(&self, job: &Job) -> Result<Manifest, Failure> {
        let sealed = self.files.read_manifest(job.manifest, SEALED_BYTES_MAX as u64).map_err(rotten)?;
        self.open(&sealed, job).map_err(Failure::Refused)
    }

    fn open(&self, sealed: &[u8], job: &Job) -> Result<Manifest, Refusal> {
        open_manifest(sealed, &job.model, job.manifest, &self.registry.trust.models, job.floor)
    }
}

/// Loads a model from its file; the bytes that are hashed are the bytes that are loaded.
pub(super) fn load(files: &ModelFiles, manifest: &Manifest, digest: Digest) -> Result<Model, Failure> {
    let onnx = files.read_blob(&manifest.artifact).map_err(rotten)?;
    Model::load(manifest, digest, &onnx).map_err(|error| Failure::Refused(Refusal::Unfit(error.to_string())))
}

/// Runs what blocks or computes beside the runtime's workers; a panic in it is the model's fault.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            Err(Failure::Refused(Refusal::Unfit("the engine panicked over it".to_owned())))
        }
        Err(_cancelled) => Err(Failure::Later("the agent is stopping".to_owned())),
    }
}

fn rotten(error: FileError) -> Failure {
    Failure::Rotten(error.to_string())
}

fn unfit(error: SwapError) -> Failure {
    match error {
        SwapError::UnknownStream(_) | SwapError::Mismatch { .. } => Failure::Refused(Refusal::Unfit(error.to_string())),
        SwapError::NotRecordable | SwapError::Stopped => Failure::Later(error.to_string()),
    }
}

fn failed(error: TrialError) -> Failure {
    match error {
        TrialError::Start { .. } => Failure::Later(error.to_string()),
        TrialError::Refused { .. }
        | TrialError::TimedOut { .. }
        | TrialError::OutOfMemory { .. }
        | TrialError::Panicked { .. }
        | TrialError::Lost { .. } => Failure::Refused(Refusal::Trial(error.to_string())),
    }
}

fn not_fetched(error: FetchError, want: Digest) -> Failure {
    match error {
        FetchError::WrongBytes { got } => Failure::Refused(Refusal::WrongBytes { got, want }),
        FetchError::TooLong { limit } => Failure::Refused(Refusal::TooLong { digest: want, length: limit }),
        FetchError::NotFound(_)
        | FetchError::Forbidden { .. }
        | FetchError::Unreachable(_)
        | FetchError::Deadline(_)
        | FetchError::Disk(_) => Failure::Later(error.to_string()),
    }
}
