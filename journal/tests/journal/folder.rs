//! Scratch folders and short ways to read them, shared by the journal's tests.

use std::fs;
use std::path::{Path, PathBuf};

use vedette_journal::{Options, Reader, SEGMENT_BYTES_MIN};

/// Where records begin in a segment; pinned here on purpose, see the byte table.
pub const SEGMENT_DATA_AT: usize = 4224;

/// A folder in memory where there is one: these tests are about bytes, not about the disk's speed.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// The smallest segments, so that a few records fill one.
pub fn options(new_epoch: u64) -> Options {
    Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(new_epoch) }
}

/// Everything from `from` on, as (sequence, kind, payload).
pub fn contents(folder: &Path, from: u64) -> Vec<(u64, u8, Vec<u8>)> {
    let mut reader = Reader::open(folder, from).unwrap();
    let mut all = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        all.push((entry.sequence, entry.kind, entry.payload));
    }
    all
}

/// The segment files, oldest first.
pub fn segment_files(folder: &Path) -> Vec<PathBuf> {
    files_named(folder, "log")
}

/// The parity files, oldest first.
pub fn parity_files(folder: &Path) -> Vec<PathBuf> {
    files_named(folder, "par")
}

fn files_named(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|there| there == extension))
        .collect();
    files.sort();
    files
}
