//! The ballast: a file of no content that is given up when the disk is full, so that the agent can mend itself (thinning
//! a segment and opening the index need some room), and made again when there is room.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

/// Bytes that are written at once where the file system cannot reserve.
const CHUNK: [u8; 4096] = [0x5A; 4096];

/// The file.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// Of `bytes` at `path`; 0: none, and one that is there goes.
    pub(super) fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is there in its full size.
    pub(super) fn is_there(&self) -> bool {
        self.path.metadata().map_or(self.bytes == 0, |metadata| metadata.len() == self.bytes)
    }

    /// Makes it. What could not be made whole is removed again.
    pub(super) fn make(&self) -> io::Result<()> {
        if self.bytes == 0 {
            return self.give_up().map(|_| ());
        }
        let made = File::create(&self.path).and_then(|file| {
            reserve(&file, self.bytes)?;
            file.sync_all()
        });
        if made.is_err() {
            self.give_up()?;
        }
        made
    }

    /// Removes it; whether there was one.
    pub(super) fn give_up(&self) -> io::Result<bool> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        // The blocks are free for others once the file system has written that they are.
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(true)
    }
}

/// Takes the blocks for real.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(file, bytes),
        Err(error) => Err(error.into()),
    }
}

fn fill(mut file: &File, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(CHUNK.len()).min(CHUNK.len());
        io::Write::write_all(&mut file, &CHUNK[..part])?;
        left -= part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_takes_its_blocks_and_gives_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path().join("ballast"), 1 << 20);
        assert!(!ballast.is_there());
        ballast.make().unwrap();
        assert!(ballast.is_there());
        assert!(dir.path().join("ballast").metadata().unwrap().blocks() * 512 >= 1 << 20);
        assert!(ballast.give_up().unwrap());
        assert!(!ballast.is_there() && !ballast.give_up().unwrap());
    }

    #[test]
    fn without_reserving_the_bytes_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        fill(&File::create(&path).unwrap(), 10_000).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 10_000);
    }

    #[test]
    fn a_ballast_of_nothing_takes_an_old_one_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        Ballast::new(path.clone(), 4096).make().unwrap();
        let none = Ballast::new(path.clone(), 0);
        assert!(!none.is_there());
        none.make().unwrap();
        assert!(none.is_there() && !path.exists());
    }
}
