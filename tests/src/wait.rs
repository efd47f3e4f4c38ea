//! Waiting is "until X or a deadline": the one place that pauses between two looks.

use std::time::{Duration, Instant};

/// How long between two looks: short beside everything that the programs do, long beside a process start.
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// How long between two looks of somebody who measures: short beside a start.
const MOMENT: Duration = Duration::from_millis(1);

/// Pauses for a millisecond: for those who look themselves, because they measure.
pub fn a_moment() {
    std::thread::sleep(MOMENT);
}

/// Pauses until a chosen moment.
pub fn until_moment(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Looks until `look` gives something, at most `limit` long.
///
/// # Errors
/// When the limit passes; the message says what was waited for and what the last look found wrong.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            let why = last.map_or_else(|| "it did not come".to_owned(), |e| format!("{e:#}"));
            anyhow::bail!("waited {} s for {what}: {why}", limit.as_secs());
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Like [`until`], for a condition without a value.
///
/// # Errors
/// When the limit passes.
pub fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    until(what, limit, || Ok(look()?.then_some(())))
}
