//! How a command fails: one sentence for people, one exit code for scripts.

use std::{fmt, io};

use reqwest::StatusCode;
use vedette_protocol::exit::Exit;

use crate::view::Problem;

/// A command's failure. An empty message is not printed: the reader of our output went away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the process ends with.
    pub exit: Exit,
    /// "couldn't X: Y", naming the thing, the place and the way out.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Something went wrong that no other code describes.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }

    /// What was typed or written down cannot be understood.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    /// A file or an entry is not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, message: message.into() }
    }

    /// A rule says no.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, message: message.into() }
    }

    /// The registry cannot be reached.
    #[must_use]
    pub fn offline(message: impl Into<String>) -> Self {
        Self { exit: Exit::Offline, message: message.into() }
    }

    /// A file that could not be read or written: 3 when it is missing, 1 otherwise.
    #[must_use]
    pub fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let message = format!("couldn't {doing} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound => Self::not_found(message),
            _ => Self::failed(message),
        }
    }

    /// Standard output failed; a closed pipe (`| head`) is the reader's choice and no failure.
    #[must_use]
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Ok, message: String::new() },
            _ => Self::failed(format!("couldn't write the output: {error}")),
        }
    }

    /// What the registry answered, with its own words when it sent a problem document.
    #[must_use]
    pub fn answered(status: StatusCode, body: &[u8]) -> Self {
        let exit = exit_of(status);
        let message = match serde_json::from_slice::<Problem>(body) {
            Ok(problem) if problem.detail.is_empty() => {
                format!("the registry answered: {} ({})", problem.title, status.as_u16())
            }
            Ok(problem) => format!("the registry answered: {} ({})", problem.detail, status.as_u16()),
            Err(_) => format!("the registry answered {status} without an explanation"),
        };
        Self { exit, message }
    }
}

/// 404 is not found; what a rule forbids is refused; what we asked wrongly is usage; the rest failed.
fn exit_of(status: StatusCode) -> Exit {
    match status {
        StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::CONFLICT
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Exit::Refused,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_the_registrys_words_and_gets_its_exit_code() {
        let body = br#"{"type":"urn:vedette:problem:conflict","title":"Conflict","status":409,"detail":"m@2 holds other bytes"}"#;
        let fault = Fault::answered(StatusCode::CONFLICT, body);
        assert_eq!(
            (fault.exit, fault.message.as_str()),
            (Exit::Refused, "the registry answered: m@2 holds other bytes (409)")
        );
    }

    #[test]
    fn statuses_have_the_exit_codes_of_the_design() {
        let codes = [
            (400, Exit::Usage),
            (401, Exit::Refused),
            (403, Exit::Refused),
            (404, Exit::NotFound),
            (409, Exit::Refused),
            (413, Exit::Refused),
            (422, Exit::Refused),
            (500, Exit::Failed),
            (503, Exit::Failed),
        ];
        for (status, exit) in codes {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            assert_eq!(Fault::answered(status, b"").exit, exit, "{status}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Fault::output(&io::Error::from(io::ErrorKind::BrokenPipe)).exit, Exit::Ok);
    }
}
