//! The state folder: where each room keeps its files, and the lock that one agent holds on it.
//!
//! Layout: `lock`, `clean` (the last life ended well), `journal/`, `index/`, `models/`, `deploy.cbor`, `cursor`, `clock`, `log.key`
//! (signs the journal), `ballast` (given up when the disk is full), `agent.sock`.
//!
//! The lock is on the folder itself, so that it can be taken on a disk that refuses; `lock` only says who holds it. The
//! kernel gives it back when the process ends, however it ends.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent holds the folder.
    #[error("another agent (pid {pid}) runs on the state folder {}: stop it, or give this one a folder of its own (`state` in the configuration)", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// What the other agent wrote into the lock.
        pid: String,
    },
    /// The folder cannot be made or written.
    #[error("couldn't write the state folder {}; `state` in the configuration must name a folder that this user may write", folder.display())]
    NotWritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The state folder's paths, and (when opened) its lock.
#[derive(Clone, Debug)]
pub struct State {
    folder: PathBuf,
    _lock: Option<Arc<File>>,
}

impl State {
    /// The paths alone, for those who only read.
    #[must_use]
    pub fn paths(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), _lock: None }
    }

    /// Makes the folder where it is missing and takes its lock, which is held until the last clone is dropped. Nothing
    /// need be written for that: a full or read-only disk does not keep an agent from starting on a folder that is there.
    ///
    /// # Errors
    /// When another agent holds the lock, or the folder cannot be made or entered.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let not_writable = |source| StateError::NotWritable { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(not_writable)?;
        let lock = File::open(folder).map_err(not_writable)?;
        let note = folder.join("lock");
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = std::fs::read_to_string(&note).unwrap_or_default().trim().to_owned();
                return Err(StateError::Locked { folder: folder.to_owned(), pid });
            }
            Err(errno) => return Err(not_writable(errno.into())),
        }
        let prepared = std::fs::create_dir_all(folder.join("models"))
            .and_then(|()| std::fs::write(note, format!("{}\n", std::process::id())));
        match prepared {
            Err(source) if !Self::may_come_back(&source) => return Err(not_writable(source)),
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "the state folder cannot be written now"),
            Ok(()) => {}
        }
        Ok(Self { folder: folder.to_owned(), _lock: Some(Arc::new(lock)) })
    }

    /// The disk refuses; not: the folder is somebody else's, or no folder.
    fn may_come_back(error: &io::Error) -> bool {
        !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory)
    }

    /// A life begins: whether the one before ended as it was asked to. Where the mark of that cannot be taken away, it
    /// will be believed again.
    #[must_use]
    pub fn begin(&self) -> bool {
        match std::fs::remove_file(self.clean()) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!(%error, "couldn't take away the mark of the last clean end");
                self.clean().exists()
            }
        }
    }

    /// This life ends as it was asked to, with everything written. Without room for the mark, the next one will say
    /// that this one ended badly.
    pub fn end(&self) {
        if let Err(error) = std::fs::write(self.clean(), b"") {
            tracing::warn!(%error, "couldn't mark this end as clean");
        }
    }

    fn clean(&self) -> PathBuf {
        self.folder.join("clean")
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The journal's folder.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// The index's folder.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// The folder of verified model files.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// How far the registry has acknowledged the journal.
    #[must_use]
    pub fn cursor(&self) -> PathBuf {
        self.folder.join("cursor")
    }

    /// The earliest that it can be.
    #[must_use]
    pub fn clock(&self) -> PathBuf {
        self.folder.join("clock")
    }

    /// What deploy knows: the assignment, each stream's stage and live model.
    #[must_use]
    pub fn deploy(&self) -> PathBuf {
        self.folder.join("deploy.cbor")
    }

    /// The key that signs the journal's checkpoints.
    #[must_use]
    pub fn log_key(&self) -> PathBuf {
        self.folder.join("log.key")
    }

    /// The file that is given up when the disk is full.
    #[must_use]
    pub fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// The local socket, unless the configuration names another.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_agent_on_one_folder_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path()).unwrap();
        let said = State::open(dir.path()).unwrap_err().to_string();
        assert!(said.contains(&std::process::id().to_string()) && said.contains("state"), "{said}");
        drop(first);
        State::open(dir.path()).unwrap();
    }

    #[test]
    fn an_end_is_clean_only_when_it_was_marked() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        assert!(!state.begin());
        state.end();
        assert!(state.begin());
        assert!(!state.begin());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        let said = State::open(&dir.path().join("file/state")).unwrap_err().to_string();
        assert!(said.contains("file/state"), "{said}");
    }
}
