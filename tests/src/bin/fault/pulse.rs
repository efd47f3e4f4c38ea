//! Feels the pulse of a device: whether rows are scored all the time, whatever happens to its disk or its clock.

use std::time::{Duration, Instant};

use serde_json::Value;
use vedette_tests::wait;

use crate::device::{Device, rows_scored};

/// The counts of a running device.
#[derive(Debug)]
pub(crate) struct Pulse {
    rows: u64,
    changed: Instant,
    longest: Duration,
}

impl Pulse {
    /// Begins with a device that scores.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn begin(device: &mut Device, limit: Duration) -> anyhow::Result<Self> {
        let status = device.until("the first score", limit, |status| rows_scored(status) > 0)?;
        Ok(Self { rows: rows_scored(&status), changed: Instant::now(), longest: Duration::ZERO })
    }

    /// The longest time between two looks that saw more rows scored.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Looks once. A device that does not answer is one that shows no rows.
    ///
    /// # Errors
    /// When it has ended or panicked.
    pub(crate) fn feel(&mut self, device: &mut Device) -> anyhow::Result<Option<Value>> {
        device.alive()?;
        let status = device.status().ok();
        let rows = status.as_ref().map_or(self.rows, rows_scored);
        if rows > self.rows {
            self.longest = self.longest.max(self.changed.elapsed());
            (self.rows, self.changed) = (rows, Instant::now());
        }
        Ok(status)
    }

    /// Feels until `wanted` is seen, or the limit has passed; gives how long it took.
    ///
    /// # Errors
    /// When the device has ended or panicked.
    pub(crate) fn feel_until(
        &mut self,
        device: &mut Device,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> anyhow::Result<Option<Duration>> {
        let began = Instant::now();
        while began.elapsed() < limit {
            if self.feel(device)?.is_some_and(|status| wanted(&status)) {
                return Ok(Some(began.elapsed()));
            }
            wait::a_moment();
        }
        self.longest = self.longest.max(self.changed.elapsed());
        Ok(None)
    }
}

/// Whether the disk takes what the device writes: nothing is degraded, nothing waits for the disk.
pub(crate) fn is_well(status: &Value) -> bool {
    status["degraded"].is_null() && status["held"].as_u64() == Some(0)
}
