//! The earliest that it can be: pure but for its small file.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use vedette_protocol::id::{BootId, Digest};
use vedette_protocol::time::Quality;

/// No agent of this source ran before 2026-01-01T00:00:00Z, Unix ms UTC.
const SOURCE_MS: i64 = 1_767_225_600_000;

/// When this agent was built, Unix ms UTC: what the packager says (`SOURCE_DATE_EPOCH`), so that building twice gives the same
/// bytes, and never before `SOURCE_MS`.
pub const BUILD_MS: i64 = built_ms(option_env!("SOURCE_DATE_EPOCH"));

/// How far behind the floor the system's clock is believed: ten years, longer than a box lies in a store, ms.
pub const WINDOW_MS: i64 = 315_576_000_000;

/// The stored floor: 5 numbers, a boot id and a digest are below 200 bytes.
const FILE_BYTES_MAX: u64 = 1024;

/// What begins the file of this layout.
const FORMAT: &str = "vedette-clock-1";

/// A time that was signed, and its place among the signer's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Rises with every signature.
    pub order: u64,
    /// When it was signed, Unix ms UTC.
    pub issued_ms: i64,
}

/// The earliest that it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    base_ms: i64,
    /// Since when, ns since boot.
    since_ns: u64,
    signed: Option<Signed>,
}

impl Floor {
    /// Knowing nothing but when this agent was built.
    #[must_use]
    pub fn built() -> Self {
        Self { base_ms: BUILD_MS, since_ns: 0, signed: None }
    }

    /// The floor at a time since boot (ns), Unix ms UTC.
    #[must_use]
    pub fn at(&self, monotonic_ns: u64) -> i64 {
        let elapsed_ms = monotonic_ns.saturating_sub(self.since_ns) / 1_000_000;
        self.base_ms.saturating_add(i64::try_from(elapsed_ms).unwrap_or(i64::MAX))
    }

    /// Takes in a signed time. One that lies beyond the window is as wrong as any clock and changes nothing. One that is
    /// newer in order and earlier in time than the last: the signer took its time back, and so do we.
    pub fn signed(&mut self, order: u64, issued_ms: i64, monotonic_ns: u64) {
        let now_ms = self.at(monotonic_ns);
        if issued_ms > now_ms.saturating_add(WINDOW_MS) {
            return;
        }
        let newer = self.signed.is_none_or(|last| order > last.order);
        let taken_back = newer && self.signed.is_some_and(|last| issued_ms < last.issued_ms);
        if issued_ms > now_ms || taken_back {
            (self.base_ms, self.since_ns) = (issued_ms.max(BUILD_MS), monotonic_ns);
        }
        if newer {
            self.signed = Some(Signed { order, issued_ms });
        }
    }

    /// Wall time and how much it is worth, from what the system's clock shows (Unix ms UTC).
    #[must_use]
    pub fn judge(&self, system_ms: i64, monotonic_ns: u64) -> (i64, Quality) {
        let floor_ms = self.at(monotonic_ns);
        if (floor_ms..=floor_ms.saturating_add(WINDOW_MS)).contains(&system_ms) {
            (system_ms, Quality::System)
        } else {
            (floor_ms, Quality::Floor)
        }
    }
}

/// Seconds since 1970 as a packager names them, in ms; what is no number or no time of ours counts as not named.
const fn built_ms(named: Option<&str>) -> i64 {
    let Some(text) = named else { return SOURCE_MS };
    let (digits, mut at, mut seconds) = (text.as_bytes(), 0, 0_i64);
    // Ten digits reach beyond the year 2200.
    if digits.len() != 10 {
        return SOURCE_MS;
    }
    while at < digits.len() {
        if !digits[at].is_ascii_digit() {
            return SOURCE_MS;
        }
        seconds = seconds * 10 + (digits[at] - b'0') as i64;
        at += 1;
    }
    let ms = seconds * 1000;
    if ms < SOURCE_MS || ms > SOURCE_MS + WINDOW_MS { SOURCE_MS } else { ms }
}

/// Reads the floor that was stored; `None` when none was. Within the same boot it has risen since by the time that passed, in
/// another boot by the time since that began.
///
/// # Errors
/// When the file cannot be read or is not what was stored.
pub fn load(path: &Path, boot: BootId, monotonic_ns: u64) -> anyhow::Result<Option<Floor>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > FILE_BYTES_MAX => anyhow::bail!("{} is no stored time: too long", path.display()),
        Ok(_) | Err(_) => {}
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("couldn't read {}", path.display()))?;
    let stored = decode(&text).with_context(|| format!("{} is not what was stored", path.display()))?;
    let (stored_boot, saved_ns, base_ms, signed) = stored;
    let since_ns = if stored_boot == boot { saved_ns.min(monotonic_ns) } else { 0 };
    Ok(Some(Floor { base_ms: base_ms.max(BUILD_MS), since_ns, signed }))
}

/// Stores the floor: the file is the old or the new one, also after a power cut.
///
/// # Errors
/// When it cannot be written; the old one is still there.
pub fn save(path: &Path, floor: &Floor, boot: BootId, monotonic_ns: u64) -> std::io::Result<()> {
    let Signed { order, issued_ms } = floor.signed.unwrap_or(Signed { order: 0, issued_ms: 0 });
    let known = u8::from(floor.signed.is_some());
    let base_ms = floor.at(monotonic_ns);
    let line = format!("{FORMAT} {boot} {monotonic_ns} {base_ms} {known} {order} {issued_ms}");
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{line}\n{}", Digest::of(line.as_bytes()))?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

type Decoded = (BootId, u64, i64, Option<Signed>);

fn decode(text: &str) -> Option<Decoded> {
    let (line, rest) = text.split_once('\n')?;
    if rest.strip_suffix('\n')? != Digest::of(line.as_bytes()).to_string() {
        return None;
    }
    let mut words = line.split(' ');
    if words.next()? != FORMAT {
        return None;
    }
    let boot = words.next()?.parse().ok()?;
    let saved_ns = words.next()?.parse().ok()?;
    let base_ms = words.next()?.parse().ok()?;
    let known = words.next()? == "1";
    let signed = Signed { order: words.next()?.parse().ok()?, issued_ms: words.next()?.parse().ok()? };
    words.next().is_none().then_some((boot, saved_ns, base_ms, known.then_some(signed)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: u64 = 1_000_000_000;
    const DAY_MS: i64 = 86_400_000;
    const NOW_MS: i64 = BUILD_MS + 100 * DAY_MS;

    #[test]
    fn only_signed_times_raise_the_floor_and_it_rises_with_the_time_that_passes() {
        let mut floor = Floor::built();
        assert_eq!(floor.judge(NOW_MS, 0), (NOW_MS, Quality::System));
        assert_eq!(floor.at(10 * S), BUILD_MS + 10_000, "what the system's clock said has not raised it");
        floor.signed(1, NOW_MS, 20 * S);
        assert_eq!(floor.at(25 * S), NOW_MS + 5_000);
        floor.signed(2, NOW_MS + 1_000, 25 * S);
        assert_eq!(floor.at(25 * S), NOW_MS + 5_000, "an older time does not lower it");
    }

    #[test]
    fn a_clock_outside_the_window_is_not_believed_and_the_floor_stands_in() {
        let mut floor = Floor::built();
        floor.signed(1, NOW_MS, 0);
        for wrong in [0, -1, i64::MIN, NOW_MS - 1, NOW_MS + WINDOW_MS + 1, i64::MAX] {
            assert_eq!(floor.judge(wrong, 0), (NOW_MS, Quality::Floor), "{wrong}");
        }
        for right in [NOW_MS, NOW_MS + WINDOW_MS] {
            assert_eq!(floor.judge(right, 0), (right, Quality::System));
        }
    }

    #[test]
    fn a_wrong_signed_time_is_taken_back_by_a_newer_signature_and_an_old_one_takes_nothing_back() {
        let mut floor = Floor::built();
        floor.signed(5, NOW_MS, 0);
        floor.signed(6, NOW_MS + 3000 * DAY_MS, 0);
        assert_eq!(floor.at(0), NOW_MS + 3000 * DAY_MS);
        floor.signed(5, NOW_MS, 0);
        assert_eq!(floor.at(0), NOW_MS + 3000 * DAY_MS, "an old assignment, sent again");
        floor.signed(7, NOW_MS + DAY_MS, 0);
        assert_eq!(floor.at(0), NOW_MS + DAY_MS);
        floor.signed(8, i64::MAX, 0);
        assert_eq!(floor.at(0), NOW_MS + DAY_MS, "the year 292,000,000 is no time");
        floor.signed(9, i64::MIN, 0);
        assert_eq!(floor.at(0), BUILD_MS, "nothing is before the build");
    }

    #[test]
    fn the_floor_goes_on_over_restarts_and_boots() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        let (boot, other) = (BootId::from_bytes([1; 16]), BootId::from_bytes([2; 16]));
        assert_eq!(load(&path, boot, 0).unwrap(), None);
        let mut floor = Floor::built();
        floor.signed(3, NOW_MS, 10 * S);
        save(&path, &floor, boot, 40 * S).unwrap();
        assert_eq!(load(&path, boot, 100 * S).unwrap().unwrap().at(100 * S), NOW_MS + 90_000, "the same boot");
        let next = load(&path, other, 5 * S).unwrap().unwrap();
        assert_eq!(next.at(5 * S), NOW_MS + 35_000, "30 s when it was stored, 5 s since the new boot");
        assert_eq!(next.signed, Some(Signed { order: 3, issued_ms: NOW_MS }));
    }

    #[test]
    fn a_packagers_time_is_taken_when_it_is_one() {
        assert_eq!(built_ms(None), SOURCE_MS);
        assert_eq!(built_ms(Some("1800000000")), 1_800_000_000_000);
        for wrong in ["", "0", "1", "-800000000", "18000000000", "0000000001", "9999999999", "yesterday!"] {
            assert_eq!(built_ms(Some(wrong)), SOURCE_MS, "{wrong}");
        }
    }
}
