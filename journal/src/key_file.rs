//! Where a signing key is kept: one small file that only its owner may read, made durably when there is none.
//!
//! 64 hexadecimal digits, the key's seed, and a newline. Written under another name, synced, renamed, folder synced:
//! after a power cut the key is there as a whole or not at all, so no half key ever signs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::merkle::Hash;
use crate::note::{NoRandom, SigningKey};

/// A key file is 65 bytes; what is longer is none.
const READ_BYTES_MAX: u64 = 128;

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file is not a key, or was damaged. It is not replaced: what the key signed would be of no known device.
    #[error(
        "couldn't use the signing key in {}: it is damaged; put a copy of it back, or move it away and a new key is \
         made that the registry must be told to trust",
        path.display()
    )]
    Damaged {
        /// The key's file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
    /// The system refused.
    #[error("couldn't load or make the signing key {}: {source}", path.display())]
    Io {
        /// The key's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SigningKey {
    /// The key kept in the file at `path`.
    ///
    /// # Errors
    /// When there is none, it can't be read, or is damaged.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "others than its owner may use the signing key; set its mode to 0600");
        }
        let mut bytes = Vec::new();
        file.take(READ_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        match text.strip_suffix('\n').unwrap_or(text).parse::<Hash>() {
            Ok(seed) => Ok(Self::from_seed(&seed.0)),
            Err(_) => Err(KeyError::Damaged { path: path.to_path_buf() }),
        }
    }

    /// The key kept in the file at `path`, which is made with a new key when there is none.
    ///
    /// # Errors
    /// When the file can't be read or written, is damaged, or the system gives no random bytes.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
        let (key, seed) = Self::generate()?;
        store(path, &seed).map_err(|source| KeyError::Io { path: path.to_path_buf(), source })?;
        Ok(key)
    }
}

fn store(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let mut temporary = path.to_path_buf().into_os_string();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(format!("{}\n", Hash(*seed)).as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Io { .. })));
        let key = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(SigningKey::load_or_create(&path).unwrap().public(), key.public());
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let other = SigningKey::load_or_create(&folder.path().join("other.key")).unwrap();
        assert_ne!(other.public(), key.public());
    }

    #[test]
    fn a_half_written_key_of_before_a_power_cut_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        fs::write(folder.path().join("log.key.tmp"), "half").unwrap();
        SigningKey::load_or_create(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.key");
        for damaged in [&b""[..], b"00\n", &[0xff; 65], &[b'0'; 63], &[b'0'; 200]] {
            fs::write(&path, damaged).unwrap();
            let error = SigningKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("log.key"));
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }
}
