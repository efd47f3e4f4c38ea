//! What a verb may answer instead of success.

/// Why a verb did nothing. The message is for whoever asked: it names the thing and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thing asked for is not here.
    #[error("{0}")]
    NotFound(String),
    /// What was sent cannot be read as what it should be.
    #[error("{0}")]
    BadRequest(String),
    /// It collides with what is already here.
    #[error("{0}")]
    Conflict(String),
    /// It was understood, and a rule refuses it.
    #[error("{0}")]
    Refused(String),
    /// It is larger than a limit allows.
    #[error("{0}")]
    TooLarge(String),
    /// A named limit of the registry is reached.
    #[error("{0}")]
    Full(String),
    /// The registry could not do its work; nobody outside can help that.
    #[error("{0:#}")]
    Internal(#[from] anyhow::Error),
}

impl From<sled::Error> for Error {
    fn from(error: sled::Error) -> Error {
        Error::Internal(anyhow::Error::new(error).context("couldn't use the store"))
    }
}
