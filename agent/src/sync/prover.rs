//! Makes a claim of a signed checkpoint: the proof that it continues what the registry has accepted, on a thread that
//! may block. A proof that cannot be made is told once and holds up nothing.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use vedette_journal::{Hash, Proofs, Signed};
use vedette_protocol::cbor::Bytes;
use vedette_protocol::id::Digest;
use vedette_protocol::message::Claim;

use super::claims::Proven;
use crate::recorder::Recorder;

/// The newest checkpoint, and the proof that is being made.
#[derive(Debug)]
pub(super) struct Prover {
    journal: PathBuf,
    recorder: Recorder,
    signed: watch::Receiver<Option<Arc<Signed>>>,
    running: Option<JoinHandle<Result<Proven, String>>>,
    complained: bool,
}

impl Prover {
    pub(super) fn new(recorder: &Recorder) -> Self {
        Self {
            journal: recorder.journal().clone(),
            recorder: recorder.clone(),
            signed: recorder.checkpoint(),
            running: None,
            complained: false,
        }
    }

    /// Size of the newest checkpoint, 0 for none.
    pub(super) fn signed(&mut self) -> u64 {
        self.signed.borrow_and_update().as_ref().map_or(0, |signed| signed.checkpoint.size)
    }

    /// Whether another proof can be begun.
    pub(super) fn is_free(&self) -> bool {
        self.running.is_none()
    }

    /// Begins the proof from the tree of `from` records to the newest checkpoint.
    pub(super) fn begin(&mut self, from: u64) {
        let Some(signed) = self.signed.borrow().clone() else { return };
        let Some(key) = self.recorder.log_key() else { return };
        let journal = self.journal.clone();
        self.running = Some(tokio::task::spawn_blocking(move || {
            let proofs = Proofs::open(&journal).map_err(|error| error.to_string())?;
            let size = signed.checkpoint.size;
            let proof = proofs.consistency(from, size).map_err(|error| error.to_string())?;
            let claim = Claim {
                note: signed.note.clone(),
                key: Bytes(key.0.to_vec()),
                from,
                proof: digests(&proof),
                frontier: digests(signed.frontier.nodes()),
            };
            Ok(Proven { from, size, claim })
        }));
    }

    /// What has become of the newest checkpoint or of the proof.
    pub(super) async fn news(&mut self) -> News {
        let Self { signed, running, .. } = self;
        let ended = tokio::select! {
            Ok(()) = signed.changed() => return News::Signed,
            ended = end(running) => ended,
        };
        self.running = None;
        match ended {
            Ok(proven) => {
                self.complained = false;
                News::Proven(proven)
            }
            Err(why) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::error!(%why, "couldn't prove that the journal continues what the registry has accepted; records go on, further failures are not told");
                }
                News::NotProven
            }
        }
    }
}

/// What [`Prover::news`] tells.
#[derive(Debug)]
pub(super) enum News {
    /// There is a newer checkpoint.
    Signed,
    /// The proof is there.
    Proven(Proven),
    /// It cannot be made.
    NotProven,
}

async fn end(running: &mut Option<JoinHandle<Result<Proven, String>>>) -> Result<Proven, String> {
    match running {
        Some(running) => running.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

fn digests(hashes: &[Hash]) -> Vec<Digest> {
    hashes.iter().map(|hash| Digest::from_bytes(hash.0)).collect()
}
