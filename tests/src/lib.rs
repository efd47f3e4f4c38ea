//! The harness: starts the real programs on free ports in scratch folders, and waits for what it was promised.
//!
//! The stories in `tests/stories` and the demo live on it. Nothing here knows how the programs work inside: it types what
//! people type, reads what people read, and ends only what it started.

pub mod agent;
pub mod broker;
pub mod chaos_proxy;
pub mod loop_disk;
pub mod programs;
pub mod random;
pub mod registry;
pub mod sample;
pub mod sim_disk;
pub mod wait;

use std::path::{Path, PathBuf};

/// A folder of its own for one story, removed with everything in it when the story ends.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    /// Makes an empty folder under the system's temporary folder.
    ///
    /// # Errors
    /// When the temporary folder cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { dir: tempfile::Builder::new().prefix("vedette-").tempdir()? })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the folder behind for somebody to look at, and says where.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }
}

/// The folder of the tests' own data, found from this crate's place in the checkout.
#[must_use]
pub fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}
