//! What a program tells the shell.

use std::process::ExitCode;

/// How a command ended. The numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It could not.
    Failed = 1,
    /// The arguments or the configuration make no sense.
    Usage = 2,
    /// The named thing does not exist.
    NotFound = 3,
    /// A policy, a signature or a right says no.
    Refused = 4,
    /// The other side cannot be reached.
    Offline = 5,
    /// A log ends in an unfinished write; everything before it is whole.
    Torn = 10,
    /// Records of a log are missing, and the log is otherwise what it says.
    Gap = 11,
    /// A record or a tree of a log is not what its hashes say.
    HashMismatch = 12,
    /// A checkpoint of a log is not signed by the key that should have signed it.
    BadSignature = 13,
    /// A log contradicts a checkpoint that it once signed: two histories under one name.
    Fork = 14,
    /// A record of a log names a model that the log, or the list given, does not know.
    UnknownModel = 15,
    /// A bundle ends before, or begins behind, what it claims to hold.
    Incomplete = 16,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
