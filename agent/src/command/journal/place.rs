//! Which journal is meant, what lies beside it, and why it can't be read.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use vedette_journal::{Checkpoint, PublicKey, ReadError, SigningKey};

use crate::command::access::Trouble;

/// A key, or a file that a checkpoint is kept in, is no longer than this.
const SMALL_FILE_BYTES_MAX: u64 = 8 << 10;

/// A folder other than this device's.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// The journal in this folder (an agent's state, or its `journal`, also a copy) instead of this device's own
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
}

impl Folder {
    pub(super) fn place(&self) -> Option<Place> {
        self.folder.as_deref().map(Place::of_folder)
    }
}

/// Where a log is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A journal's folder.
    Folder(PathBuf),
    /// A bundle.
    Bundle(PathBuf),
}

impl Place {
    /// The journal of an agent's state.
    pub(crate) fn of_state(journal: PathBuf) -> Self {
        Self::Folder(journal)
    }

    fn of_folder(folder: &Path) -> Self {
        let inside = folder.join("journal");
        Self::Folder(if inside.is_dir() { inside } else { folder.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Bundle(path) => path,
        }
    }

    /// The folder, which is there.
    pub(super) fn folder(&self) -> Result<&Path, Trouble> {
        let path = self.path();
        match self {
            Self::Folder(_) if path.is_dir() => Ok(path),
            Self::Folder(_) | Self::Bundle(_) => Err(Trouble::NotFound(format!(
                "there is no journal in {}: the agent has never run here, or --folder names another place",
                path.display()
            ))),
        }
    }

    /// The key that the log's checkpoints are signed with, if it lies beside the folder as in an agent's state.
    pub(super) fn key(&self) -> Option<PublicKey> {
        let Self::Folder(folder) = self else { return None };
        SigningKey::load(&folder.with_file_name("log.key")).ok().map(|key| key.public())
    }
}

/// A public key: base64, a file that holds that, or the file of a signing key.
pub(super) fn key_of(text: &str) -> Result<PublicKey, Trouble> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    let held = match read_small(path) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Trouble::Usage(format!("--key {text:?} is neither the base64 of 32 bytes nor a file")));
        }
        Err(error) => return Err(Trouble::Usage(format!("couldn't read the key in {text}: {error}"))),
    };
    match held.trim().parse() {
        Ok(key) => Ok(key),
        Err(_) => SigningKey::load(path).map(|key| key.public()).map_err(|_| {
            Trouble::Usage(format!("{text} holds no key: the base64 of 32 bytes, or a device's log.key, is expected"))
        }),
    }
}

/// The checkpoint in a note that is kept in a file, and the note.
pub(super) fn checkpoint_in(file: &Path) -> Result<(String, Checkpoint), Trouble> {
    let note = read_small(file)
        .map_err(|error| Trouble::Usage(format!("couldn't read the checkpoint in {}: {error}", file.display())))?;
    match Checkpoint::read_unverified(&note) {
        Ok(checkpoint) => Ok((note, checkpoint)),
        Err(error) => Err(Trouble::Usage(format!("{}: {error}", file.display()))),
    }
}

fn read_small(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Why a journal can't be read, with the way out where the reason is that it is somebody else's.
pub(super) fn unreadable(folder: &Path, error: ReadError) -> Trouble {
    let path = match &error {
        ReadError::Io { path, source } if source.kind() == io::ErrorKind::PermissionDenied => path.clone(),
        _ => return Trouble::Failed(error.into()),
    };
    let owner = fs::metadata(&path).or_else(|_| fs::metadata(folder)).map(|found| found.uid());
    let we = rustix::process::geteuid().as_raw();
    match owner {
        Ok(owner) if owner != we => Trouble::Refused(format!(
            "couldn't read {}: it belongs to user {owner}, and this runs as user {we}; run it as that user or as root",
            path.display()
        )),
        Ok(_) | Err(_) => Trouble::Failed(error.into()),
    }
}
