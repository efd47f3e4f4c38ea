//! The state folder: where each room keeps its files, and the lock that one agent holds on it.
//!
//! Layout: `lock`, `clean` (the last life ended well), `journal/`, `index/`, `models/`, `deploy.cbor`, `cursor`, `clock`, `agent.sock`. Opening it proves
//! that it can be written; the kernel gives the lock back when the process ends, however it ends.

use std::fs::File;
use std::io::{self, Write as _};
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

    /// Makes the folder where it is missing and takes the lock; it is held until the last clone is dropped.
    ///
    /// # Errors
    /// When another agent holds the lock, or the folder cannot be written.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let not_writable = |source| StateError::NotWritable { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder.join("models")).map_err(not_writable)?;
        let path = folder.join("lock");
        let mut file =
            File::options().create(true).read(true).write(true).truncate(false).open(&path).map_err(not_writable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                return Err(StateError::Locked { folder: folder.to_owned(), pid });
            }
            Err(errno) => return Err(not_writable(errno.into())),
        }
        file.set_len(0).map_err(not_writable)?;
        writeln!(file, "{}", std::process::id()).map_err(not_writable)?;
        Ok(Self { folder: folder.to_owned(), _lock: Some(Arc::new(file)) })
    }

    /// A life begins: whether the one before ended as it was asked to.
    ///
    /// # Errors
    /// When the mark of that end cannot be taken away.
    pub fn begin(&self) -> Result<bool, StateError> {
        match std::fs::remove_file(self.clean()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StateError::NotWritable { folder: self.folder.clone(), source }),
        }
    }

    /// This life ends as it was asked to, with everything written.
    ///
    /// # Errors
    /// When that cannot be marked.
    pub fn end(&self) -> anyhow::Result<()> {
        std::fs::write(self.clean(), b"")
            .map_err(|source| StateError::NotWritable { folder: self.folder.clone(), source }.into())
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
        assert!(!state.begin().unwrap());
        state.end().unwrap();
        assert!(state.begin().unwrap());
        assert!(!state.begin().unwrap());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        let said = State::open(&dir.path().join("file/state")).unwrap_err().to_string();
        assert!(said.contains("file/state"), "{said}");
    }
}
