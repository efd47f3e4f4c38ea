//! The seal on a view that was closed: a digest over every file of its folder. sled trusts its files more than a disk deserves (a
//! wrong length becomes an allocation, a wrong page a silent hole), so it is only shown files that are byte for byte the ones
//! that it closed.

use std::fs::{DirEntry, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context as _, ensure};
use vedette_protocol::id::{Digest, Hasher};

/// The file's name in the view's folder.
const SEAL: &str = "seal";

/// Where a seal is written before it counts.
const NEW_SEAL: &str = "seal.new";

/// Files of a view: sled makes four, and one for each value beyond a quarter of a segment.
const FILES_MAX: usize = 64;

/// Bytes read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Seals a view that was closed.
///
/// # Errors
/// When its files cannot be read, are too many or too long, or the seal cannot be written.
pub(super) fn put(folder: &Path, bytes_max: u64) -> anyhow::Result<()> {
    let digest = digest(folder, bytes_max)?;
    let new = folder.join(NEW_SEAL);
    // Not synced: a power cut that takes it or the files behind it makes them differ, and that is noticed.
    std::fs::write(&new, digest.to_string()).with_context(|| format!("couldn't write {}", new.display()))?;
    std::fs::rename(&new, folder.join(SEAL)).with_context(|| format!("couldn't rename {}", new.display()))
}

/// Takes the seal off, which must be whole: from here on the view can change.
///
/// # Errors
/// When there is none, or the files are not those that were sealed.
pub(super) fn take(folder: &Path, bytes_max: u64) -> anyhow::Result<()> {
    let path = folder.join(SEAL);
    let length = std::fs::metadata(&path).with_context(|| "it was not closed")?.len();
    ensure!(length <= 200, "its seal is none");
    let sealed = std::fs::read(&path).with_context(|| format!("couldn't read {}", path.display()))?;
    ensure!(sealed == digest(folder, bytes_max)?.to_string().as_bytes(), "its files are not those that were closed");
    std::fs::remove_file(&path).with_context(|| format!("couldn't delete {}", path.display()))
}

/// The digest over names, lengths and contents of all files but the seal.
fn digest(folder: &Path, bytes_max: u64) -> anyhow::Result<Digest> {
    let mut files = Vec::new();
    list(folder, "", &mut files)?;
    files.sort();
    let (mut hasher, mut buffer, mut left) = (Hasher::new(), vec![0; BUFFER_BYTES], bytes_max);
    for name in files.iter().filter(|name| ![SEAL, NEW_SEAL].contains(&name.as_str())) {
        let path = folder.join(name);
        let mut file = File::open(&path).with_context(|| format!("couldn't read {}", path.display()))?;
        let length = file.metadata()?.len();
        left = left.checked_sub(length).with_context(|| format!("it is longer than {bytes_max} bytes"))?;
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&length.to_le_bytes());
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| format!("couldn't read {}", path.display())),
            }
        }
    }
    Ok(hasher.finish())
}

/// The regular files of a folder and of the folders in it, by their names below the first.
fn list(folder: &Path, within: &str, files: &mut Vec<String>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("couldn't read {}", folder.display()))?;
    for entry in entries {
        let entry: DirEntry = entry?;
        let name = entry.file_name().into_string().ok().context("a file in it has a name that is no text")?;
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(format!("{within}{name}"));
            ensure!(files.len() <= FILES_MAX, "it has more than {FILES_MAX} files");
        } else {
            ensure!(kind.is_dir() && within.is_empty(), "{name} in it is none of its files");
            list(&entry.path(), &format!("{name}/"), files)?;
        }
    }
    Ok(())
}
