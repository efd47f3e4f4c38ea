//! Opening the journal, also on a disk that refuses, and what can be said of it while it is closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vedette_journal::{CursorFile, Disk, Journal, OpenError, Options, Recovery};

use super::trouble::Trouble;

/// How the journal is opened, now or later.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) options: Options,
    /// Where the acknowledged position is kept.
    pub(super) cursor: Option<PathBuf>,
}

/// What came of it.
pub(super) enum Opened {
    Open(Box<Journal>, Recovery),
    /// Not now, and it may be tried again.
    Refused(Trouble, String),
}

/// A journal that is read and not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Closed {
    /// Its epoch, or the one that it will begin with.
    pub(super) epoch: u64,
    pub(super) next_sequence: u64,
    /// What may leave the device: records below are on the disk for sure.
    pub(super) committed: u64,
}

impl Opening {
    /// Opens the journal.
    ///
    /// # Errors
    /// What will not mend itself: another writer, a newer format, somebody else's folder.
    pub(super) fn open(&self) -> Result<Opened, OpenError> {
        match Journal::open_on(Arc::clone(&self.disk), &self.folder, self.options.clone()) {
            Ok((journal, recovery)) => Ok(Opened::Open(Box::new(journal), recovery)),
            Err(error) => match Trouble::of_open(&error) {
                Some(trouble) => Ok(Opened::Refused(trouble, error.to_string())),
                None => Err(error),
            },
        }
    }

    /// What is known of a journal that could not be opened.
    pub(super) fn closed(&self) -> Closed {
        let new = Closed { epoch: self.options.new_epoch, ..Closed::default() };
        match vedette_journal::stat_on(Arc::clone(&self.disk), &self.folder) {
            Ok(stat) => {
                let Some(epoch) = stat.epoch else { return new };
                let next_sequence = stat.next_sequence;
                let committed = if self.newest_is_synced() { next_sequence } else { self.acknowledged(epoch) };
                Closed { epoch, next_sequence, committed }
            }
            Err(error) => {
                tracing::error!(%error, "the journal can be neither written nor read");
                new
            }
        }
    }

    /// How far the registry had the journal of this epoch when that was stored last; 0 when it is not known.
    pub(super) fn acknowledged(&self, epoch: u64) -> u64 {
        let Some(path) = &self.cursor else { return 0 };
        match CursorFile::on(Arc::clone(&self.disk), path).load() {
            Ok(Some(cursor)) if cursor.epoch == epoch => cursor.sequence,
            Ok(Some(_) | None) => 0,
            Err(error) => {
                tracing::warn!(%error, "it is not known how far the registry has the journal");
                0
            }
        }
    }

    /// Whether the newest segment's bytes are on the disk and not only in memory: a file system that was made read-only
    /// after an error refuses this, one that was mounted so does not.
    fn newest_is_synced(&self) -> bool {
        let Some(newest) = self.newest() else { return false };
        match self.disk.open_to_read(&newest).and_then(|file| file.sync_data()) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(file = %newest.display(), %error, "nothing of the journal is sent until it can be synced");
                false
            }
        }
    }

    fn newest(&self) -> Option<PathBuf> {
        let names = self.disk.list(&self.folder).ok()?;
        let segment = |name: &Path| name.extension().is_some_and(|extension| extension == "log");
        names.into_iter().map(PathBuf::from).filter(|name| segment(name)).max().map(|name| self.folder.join(name))
    }
}
