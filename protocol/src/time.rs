//! Time without a trusted clock: a stamp says in which boot, how long after it, what the wall clock showed and how far
//! to believe that. Wall time may be corrected later without touching what was written.

pub mod corrected;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::BootId;

/// How far the wall clock of a stamp can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Quality {
    /// No idea.
    None = 0,
    /// Not earlier than this: the newest signed time seen.
    Floor = 1,
    /// The system clock says so.
    System = 2,
    /// A signed answer to our own question says so.
    Attested = 3,
}

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Which start of the machine.
    pub boot: BootId,
    /// Nanoseconds since that start, never falling.
    pub monotonic_ns: u64,
    /// The wall clock, milliseconds since 1970 in UTC.
    pub wall_ms: i64,
    /// How far to believe the wall clock.
    pub quality: Quality,
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time: write it as RFC 3339, as in `2026-11-21T09:30:00Z`")]
pub struct TimeError(String);

/// Milliseconds since 1970 as RFC 3339 in UTC with milliseconds, as in `2026-11-21T09:30:00.000Z`. What lies beyond the
/// years -9999 to 9999 is shown as the number itself.
#[must_use]
pub fn format_ms(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms}ms"), |time| format!("{time:.3}"))
}

/// Reads RFC 3339 (any offset) into milliseconds since 1970 in UTC; finer digits are cut.
///
/// # Errors
/// When the text is no such time.
pub fn parse_ms(text: &str) -> Result<i64, TimeError> {
    let time: Timestamp = text.parse().map_err(|_| TimeError(text.chars().take(40).collect()))?;
    Ok(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_reads_back_what_it_prints() {
        for text in ["1970-01-01T00:00:00.000Z", "2026-11-21T09:30:00.125Z", "1969-12-31T23:59:59.999Z"] {
            assert_eq!(format_ms(parse_ms(text).unwrap()), text);
        }
        assert_eq!(parse_ms("2026-11-21T10:30:00+01:00").unwrap(), parse_ms("2026-11-21T09:30:00Z").unwrap());
    }

    #[test]
    fn what_is_no_time_is_refused_with_an_example() {
        let error = parse_ms("yesterday").unwrap_err().to_string();
        assert!(error.contains("`yesterday`") && error.contains("2026-11-21T09:30:00Z"), "{error}");
        assert_eq!(format_ms(i64::MAX), "9223372036854775807ms");
    }
}
