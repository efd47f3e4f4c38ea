//! What is wrong with the disk, as far as somebody does something different about it.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use vedette_journal::{CommitError, OpenError};

/// How the disk refuses.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// No space is left, or a quota is used up.
    Full,
    /// The file system is mounted read-only, maybe by the kernel after an error.
    ReadOnly,
    /// Anything else: the device fails.
    Failing,
}

impl Trouble {
    /// What an error of the system says about the disk.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Failing,
        }
    }

    pub(super) fn of_commit(error: &CommitError) -> Self {
        match error {
            CommitError::NoSpace { .. } => Self::Full,
            CommitError::Io { source, .. } => Self::of(source),
            _ => Self::Failing,
        }
    }

    /// What keeps a journal from being opened, when it may be over by itself; `None` for what somebody must mend: another
    /// writer, a newer format, a folder that is not ours.
    pub(super) fn of_open(error: &OpenError) -> Option<Self> {
        match error {
            OpenError::NoSpace { .. } => Some(Self::Full),
            OpenError::NotWritable { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Some(Self::ReadOnly)
            }
            OpenError::Io { source, .. } => Some(Self::of(source)),
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the disk is read-only",
            Self::Failing => "the disk fails",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn full_read_only_and_failing_are_told_apart() {
        let of = |code| Trouble::of(&io::Error::from_raw_os_error(code));
        assert_eq!(
            [of(28), of(122), of(30), of(5)],
            [Trouble::Full, Trouble::Full, Trouble::ReadOnly, Trouble::Failing]
        );
    }

    #[test]
    fn a_journal_that_cannot_be_opened_is_waited_for_only_when_the_disk_may_come_back() {
        let error = |code| OpenError::NotWritable {
            folder: PathBuf::new(),
            owner: String::new(),
            source: io::Error::from_raw_os_error(code),
        };
        assert_eq!(Trouble::of_open(&error(30)), Some(Trouble::ReadOnly));
        assert_eq!(Trouble::of_open(&error(13)), None);
        assert_eq!(Trouble::of_open(&OpenError::Locked { folder: PathBuf::new(), holder: String::new() }), None);
        assert_eq!(Trouble::of_open(&OpenError::NoSpace { folder: PathBuf::new() }), Some(Trouble::Full));
    }
}
