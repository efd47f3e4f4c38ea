//! A wall clock that is wrong by up to a hundred years and jumps all the time: the agent runs with libfaketime, which reads the
//! offset anew at every question for the time. The clock that measures intervals goes on as it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use vedette_journal::Reader;
use vedette_protocol::cbor;
use vedette_protocol::record::Record;
use vedette_protocol::time::Quality;
use vedette_tests::broker::{Mosquitto, mosquitto_path};

use crate::account::{self, Keeps};
use crate::device::{Device, UP_WITHIN, rows_scored};
use crate::pulse::{Pulse, is_well};
use crate::setting::Setting;
use crate::table::Row;
use crate::uplink::Uplink;

/// Rows a second.
const ROWS_PER_S: u32 = 500;

const LIMITS: &str = "[journal]\nanomaly_rate = 10000\nanomaly_burst = 1000000\ncheckpoint_interval = \"1s\"\n";

/// 1970-01-01, as a box without a battery says.
const NO_BATTERY: &str = "@1970-01-01 00:00:00";

/// A hundred years of 365.25 days.
const CENTURY_S: u64 = 3_155_760_000;

/// Between two jumps: the agent looks at its clock every second, so that most jumps are on top of each other and some are seen.
const BETWEEN: Duration = Duration::from_millis(10);

/// No row is scored for this long at most.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Jumps.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    let Some(library) = faketime() else {
        return Ok(Row::skipped("libfaketimeMT.so.1 is not installed: `apt-get install faketime`"));
    };
    if mosquitto_path().is_none() {
        return Ok(Row::skipped("mosquitto is not installed: `apt-get install mosquitto`"));
    }
    let scratch = setting.scratch()?;
    let broker = Mosquitto::start(scratch.path())?;
    let mut uplink = Uplink::listen(&broker.url())?;
    let mut device = Device::new(&scratch.path().join("box"), None, &broker.url(), ROWS_PER_S, LIMITS)?;
    let offset = scratch.path().join("offset");
    device.set_environment("LD_PRELOAD", library);
    device.set_environment("FAKETIME_TIMESTAMP_FILE", offset.clone());
    device.set_environment("FAKETIME_NO_CACHE", "1");
    device.set_environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    device.set_environment("NO_FAKE_STAT", "1");
    let mut row = Row::default();
    jump(setting, &mut device, &uplink, &offset, &mut row)?;
    device.stop()?;
    uplink.mark()?;
    account::check(&device.journal(), Keeps::All, &mut uplink.heard(), None, &mut row)?;
    account::overhear(&device.journal(), &mut uplink.heard())?;
    judge(&device.journal(), &uplink, &mut row)?;
    row.acknowledged = uplink.heard().records.len() as u64 + row.lost;
    Ok(row)
}

fn jump(setting: &Setting, device: &mut Device, uplink: &Uplink, offset: &Path, row: &mut Row) -> anyhow::Result<()> {
    let tries = setting.tries(1000, 10_000);
    let mut random = setting.random("clock");
    set(offset, NO_BATTERY)?;
    device.start()?;
    let mut pulse = Pulse::begin(device, UP_WITHIN)?;
    device.until("a connection in 1970", UP_WITHIN, is_connected)?;
    pulse.feel_until(device, Duration::from_millis(1500), |_| false)?;
    let mut away = 0;
    while row.tries < tries {
        setting.progress(row.tries, tries, "jumping")?;
        row.tries += 1;
        let seconds = random.below(2 * CENTURY_S).cast_signed() - CENTURY_S.cast_signed();
        set(offset, &format!("{seconds:+}"))?;
        let connected = |status: &Value| {
            away += u64::from(!is_connected(status));
            false
        };
        pulse.feel_until(device, BETWEEN, connected)?;
    }
    set(offset, "+0")?;
    let batches = uplink.heard().batches;
    let status = device
        .until("all to be well at the right time", UP_WITHIN, |status| is_well(status) && is_connected(status))?;
    pulse.feel_until(device, Duration::from_millis(1500), |_| false)?;
    row.expect(uplink.heard().batches > batches, || "no record leaves the device after the jumps".to_owned());
    row.expect(rows_scored(&status) > 0 && pulse.longest() < GAP_MAX, || {
        format!("no row was scored for {} ms", pulse.longest().as_millis())
    });
    row.expect(away == 0, || format!("the agent was seen without its connection {away} times"));
    row.figures.push(format!("longest pause between rows {} ms", pulse.longest().as_millis()));
    Ok(())
}

/// What the log says of its times: order by sequence goes with the clock that cannot jump, the boot in 1970 is marked, and the
/// jumps are recorded and few.
fn judge(journal: &Path, uplink: &Uplink, row: &mut Row) -> anyhow::Result<()> {
    let mut reader = Reader::open(journal, 0)?;
    let (mut last_ns, mut first, mut years) = (0, None, BTreeSet::new());
    while let Some(entry) = reader.next()? {
        let Ok(Record { stamp, .. }) = cbor::from_canonical(&entry.payload) else {
            row.wrong += 1;
            continue;
        };
        row.wrong += u64::from(stamp.monotonic_ns < last_ns);
        last_ns = stamp.monotonic_ns;
        first.get_or_insert(stamp.quality);
        years.insert(stamp.wall_ms / 31_557_600_000);
    }
    let quality = first.unwrap_or(Quality::System);
    row.expect(matches!(quality, Quality::None | Quality::Floor), || {
        format!("a record of 1970 says that its time is worth `{quality:?}`")
    });
    row.expect(years.len() > 3, || "the records do not show the jumps: the clock of the agent was not set".to_owned());
    let (clocks, jumps) = (uplink.heard().clocks, row.tries);
    row.expect((1..=jumps).contains(&clocks), || format!("{clocks} clock records for {jumps} jumps"));
    row.figures.push(format!("{clocks} clock records, {} different years", years.len()));
    Ok(())
}

fn is_connected(status: &Value) -> bool {
    status["registry"]["connected"] == true
}

/// Sets the agent's clock, in one step.
fn set(file: &Path, offset: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{offset}\n"))?;
    Ok(std::fs::rename(&new, file)?)
}

/// Where Debian puts libfaketime.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut files = folders.filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    files.find(|path| path.is_file())
}
