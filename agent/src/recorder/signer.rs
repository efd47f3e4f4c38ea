//! When a checkpoint of the log is signed, and with which key. A checkpoint speaks for what is durable, and for nothing else.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use vedette_journal::{CommitError, Journal, KeyError, PublicKey, Signed, SigningKey};
use vedette_protocol::id::DeviceId;

/// How often a key that the disk does not give is asked for again.
const KEY_RETRY: Duration = Duration::from_secs(30);

/// The signer of one journal.
#[derive(Debug)]
pub(super) struct Signer {
    file: PathBuf,
    key: Option<SigningKey>,
    /// When to look for the key again; `None`: never.
    key_at: Option<Instant>,
    public: Arc<OnceLock<PublicKey>>,
    origin: String,
    records: u64,
    interval: Duration,
    signed: Option<u64>,
    /// When records came that no checkpoint speaks for.
    behind_since: Option<Instant>,
    out: watch::Sender<Option<Arc<Signed>>>,
}

/// What is told of checkpoints to the rest of the program.
#[derive(Clone, Debug)]
pub(super) struct SignerEnds {
    pub(super) public: Arc<OnceLock<PublicKey>>,
    pub(super) out: watch::Sender<Option<Arc<Signed>>>,
}

impl Signer {
    pub(super) fn new(
        file: PathBuf,
        device: &DeviceId,
        epoch: u64,
        (records, interval): (u32, Duration),
        ends: SignerEnds,
        now: Instant,
    ) -> Self {
        let SignerEnds { public, out } = ends;
        let mut signer = Self {
            file,
            key: None,
            key_at: Some(now),
            public,
            origin: format!("vedette/{device}/{epoch}"),
            records: u64::from(records),
            interval,
            signed: None,
            behind_since: None,
            out,
        };
        signer.look_for_key(now);
        signer
    }

    /// The size of the newest checkpoint.
    pub(super) fn signed(&self) -> Option<u64> {
        self.signed
    }

    /// Signs, when it is due or this is the end.
    ///
    /// # Errors
    /// When the disk refuses what is signed.
    pub(super) fn sign(&mut self, journal: &mut Journal, now: Instant, at_the_end: bool) -> Result<(), CommitError> {
        let behind = journal.committed().saturating_sub(self.signed.unwrap_or(0));
        if behind == 0 {
            self.behind_since = None;
            return Ok(());
        }
        let since = *self.behind_since.get_or_insert(now);
        let due =
            behind >= self.records || now.saturating_duration_since(since) >= self.interval || self.signed.is_none();
        if !due && !at_the_end {
            return Ok(());
        }
        self.look_for_key(now);
        let Some(key) = &self.key else { return Ok(()) };
        let signed = journal.checkpoint(&self.origin, key)?;
        self.signed = Some(signed.checkpoint.size);
        self.behind_since = None;
        self.out.send_replace(Some(Arc::new(signed)));
        Ok(())
    }

    fn look_for_key(&mut self, now: Instant) {
        if self.key.is_some() || self.key_at.is_none_or(|at| now < at) {
            return;
        }
        match SigningKey::load_or_create(&self.file) {
            Ok(key) => {
                self.public.get_or_init(|| key.public());
                self.key = Some(key);
            }
            Err(error @ KeyError::Io { .. }) => {
                tracing::warn!(%error, "the journal is not signed until there is a key");
                self.key_at = Some(now + KEY_RETRY);
            }
            Err(error) => {
                tracing::error!(%error, "the journal is not signed");
                self.key_at = None;
            }
        }
    }
}
