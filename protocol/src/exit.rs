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
