//! The durable log's keys, `[journal]` and `[retention]`.

use vedette_protocol::settings::{DurationText, SettingsError};

use super::raw::{RawJournal, RawRetention};
use super::within::{duration, number, size};
use super::{Journal, Place, Retention};
use crate::retention::{ClassLimit, Limits};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

pub(super) fn journal(raw: &RawJournal, place: &Place<'_>) -> Result<Journal, SettingsError> {
    Ok(Journal {
        segment_bytes: size(place, "journal.segment", raw.segment, MIB, 64 * KIB..=64 * MIB)?,
        commit_records: number(place, "journal.commit_records", raw.commit_records, 64, 1..=4096)?,
        commit_interval: duration(place, "journal.commit_interval", raw.commit_interval, 250, 1..=10_000)?,
        index_bytes: size(place, "journal.index", raw.index, 8 * MIB, MIB..=256 * MIB)?,
        anomaly_rate: number(place, "journal.anomaly_rate", raw.anomaly_rate, 100, 1..=10_000)?,
        anomaly_burst: number(place, "journal.anomaly_burst", raw.anomaly_burst, 10_000, 1..=1_000_000)?,
        checkpoint_records: number(place, "journal.checkpoint_records", raw.checkpoint_records, 256, 1..=65_536)?,
        checkpoint_interval: duration(
            place,
            "journal.checkpoint_interval",
            raw.checkpoint_interval,
            60_000,
            1_000..=86_400_000,
        )?,
    })
}

pub(super) fn retention(raw: &RawRetention, place: &Place<'_>) -> Result<Retention, SettingsError> {
    let age = |key, given: Option<DurationText>| match given {
        Some(given) if !given.get().is_zero() => {
            duration(place, key, Some(given), 0, 60_000..=3650 * 86_400_000).map(Some)
        }
        Some(_) | None => Ok(None),
    };
    let control = ClassLimit {
        bytes: size(place, "retention.control", raw.control, 16 * MIB, 64 * KIB..=64 * GIB)?,
        age: age("retention.control_age", raw.control_age)?,
    };
    let anomaly = ClassLimit {
        bytes: size(place, "retention.anomaly", raw.anomaly, 48 * MIB, 64 * KIB..=64 * GIB)?,
        age: age("retention.anomaly_age", raw.anomaly_age)?,
    };
    // Clips and telemetry have no records in the journal; their stores come with the media buffer.
    let none = ClassLimit { bytes: 0, age: None };
    Ok(Retention {
        limits: Limits {
            classes: [control, anomaly, none, none],
            free_bytes: size(place, "retention.free_space", raw.free_space, 4 * MIB, 0..=64 * GIB)?,
        },
        ballast_bytes: size(place, "retention.ballast", raw.ballast, MIB, 0..=64 * MIB)?,
    })
}
