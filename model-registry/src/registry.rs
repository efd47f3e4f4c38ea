//! The verbs of the registry. Each is one story: load, decide (the pure rules of [`crate::model`]), save.
//!
//! # Constraints
//!
//! - Every verb blocks (it ends in an fsync): callers on the runtime go through `spawn_blocking`.
//! - A change of state and its audit entry are one write ([`state`]); no change, no entry.
//! - What devices send in (journal records, births, statuses) are facts of theirs, not changes of ours: records are kept
//!   durably by id, births and statuses as last heard. A device whose facts contradict each other or what it signed is put
//!   into quarantine, and that is a change of ours.
//! - Nothing in here opens a socket. Whoever has to tell a device something listens to [`Registry::assignments_changed`].

pub mod anomalies;
mod apply;
pub mod assign;
mod audited;
mod checkpoint;
mod device_log;
pub mod devices;
mod error;
mod indexed;
pub mod ingest;
pub mod models;
mod progress;
mod proof;
pub mod push;
pub mod quarantine;
pub mod scored;
pub mod state;
pub mod tokens;

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::broadcast;
use vedette_protocol::id::{DeviceId, Digest};
use vedette_protocol::key::{SigningKey, Trust};

pub(crate) use self::audited::view as audit_view;
pub use self::checkpoint::Fork;
pub use self::error::Error;
pub use self::indexed::Received;
pub(crate) use self::indexed::read_record;
pub use self::ingest::{Batch, Ingested};
use self::state::State;
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config::Config;

/// What a verb returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Changed devices that a slow listener may lag behind; past that it is told so and asks for all. A device id is at most
/// 64 bytes, so 1024 of them are 64 KiB.
const CHANGES_KEPT: usize = 1024;

/// The keys that the registry works with.
pub struct Keys {
    /// Whose signatures count: the roles `models` and `fleet`.
    pub trust: Trust,
    /// Signs assignments; its public half must be in the role `fleet`.
    pub fleet: SigningKey,
}

/// What a device should run, as the publisher sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The device.
    pub device: DeviceId,
    /// The assignment's version.
    pub version: u64,
    /// The signed envelope: the payload of `down/assignment`.
    pub envelope: Vec<u8>,
}

/// The registry's verbs over its state. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    state: State,
    blobs: Blobs,
    keys: Keys,
    config: Config,
    changed: broadcast::Sender<DeviceId>,
}

impl Registry {
    /// Opens the state folder and the keys that `config` names.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or written, another registry holds it, or a key file is missing or unsafe; the message
    /// names the file and the way out.
    pub fn open(config: &Config, clock: Clock) -> anyhow::Result<Registry> {
        let keys = crate::config::load_keys(&config.keys)?;
        let state = State::open(&config.state, clock)?;
        let blobs = Blobs::open(&config.state.join("blobs"), config.http.max_artifact_bytes)
            .context("couldn't open the folder of artifacts")?;
        let (changed, _) = broadcast::channel(CHANGES_KEPT);
        Ok(Registry { inner: Arc::new(Inner { state, blobs, keys, config: config.clone(), changed }) })
    }

    /// The state: tokens, audit, and the one write.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// The artifacts, by digest.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Devices whose assignment changed, from now on. A receiver that lags asks [`Registry::all_assignments`].
    #[must_use]
    pub fn assignments_changed(&self) -> broadcast::Receiver<DeviceId> {
        self.inner.changed.subscribe()
    }

    /// The signed envelope of a manifest, by the digest of its payload; `None` when no version has it.
    ///
    /// # Errors
    ///
    /// The store or the file could not be read.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(version) = self.version_of_manifest(digest)? else {
            return Ok(None);
        };
        Ok(Some(self.inner.blobs.read_small(&version.published.envelope)?))
    }

    /// Largest file that may be uploaded, in bytes.
    #[must_use]
    pub fn max_artifact_bytes(&self) -> u64 {
        self.inner.config.http.max_artifact_bytes
    }

    fn now_ms(&self) -> i64 {
        self.inner.state.clock().now_ms()
    }
}
