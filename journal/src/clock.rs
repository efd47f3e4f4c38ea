//! The only caller of `now()` in this crate: a group's age counts from its first record.

use std::time::Instant;

/// Monotonic now.
pub(crate) fn now() -> Instant {
    Instant::now()
}
