//! A small disk that somebody else fills to the last byte, again and again, at any moment; and a start on a full disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use vedette_protocol::record::DropClass;
use vedette_tests::broker::{Mosquitto, mosquitto_path};
use vedette_tests::loop_disk::{self, LoopDisk};

use crate::account::{self, Keeps};
use crate::device::{Device, UP_WITHIN, in_short, is_anomaly, rows_scored, stream};
use crate::pulse::{Pulse, is_well};
use crate::setting::Setting;
use crate::table::Row;
use crate::uplink::Uplink;

/// The disk.
const DISK_MIB: u64 = 8;

/// Rows a second: enough to need the disk all the time, and the space for it only after a minute.
const ROWS_PER_S: u32 = 500;

/// What may be kept on so small a disk.
const LIMITS: &str = "[journal]\nsegment = \"64KiB\"\nindex = \"1MiB\"\nanomaly_rate = 10000\nanomaly_burst = 1000000\n\
    checkpoint_interval = \"1s\"\n\n\
    [retention]\ncontrol = \"512KiB\"\nanomaly = \"1MiB\"\nfree_space = \"256KiB\"\nballast = \"256KiB\"\n";

/// How long the disk may stay full, milliseconds.
const FULL_MS: (u64, u64) = (100, 600);

/// How long there is room in between at most, milliseconds.
const ROOM_MS: u64 = 200;

/// When there is room again, all is well within this time.
const WELL_WITHIN: Duration = Duration::from_secs(5);

/// No row is scored for this long at most.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Fills the disk.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    if let Some(why) = loop_disk::missing() {
        return Ok(Row::skipped(why));
    }
    if mosquitto_path().is_none() {
        return Ok(Row::skipped("mosquitto is not installed: `apt-get install mosquitto`"));
    }
    let scratch = setting.scratch()?;
    let broker = Mosquitto::start(scratch.path())?;
    let mut uplink = Uplink::listen(&broker.url())?;
    let disk = LoopDisk::make(scratch.path(), DISK_MIB)?;
    let state = disk.path().join("state");
    let mut device = Device::new(&scratch.path().join("box"), Some(&state), &broker.url(), ROWS_PER_S, LIMITS)?;
    let mut row = Row::default();
    let first_row = fill_again_and_again(setting, &mut device, disk.path(), &mut row)?;
    let rows = match settle(&mut device, &mut uplink, &mut row) {
        Ok(rows) => rows,
        Err(error) => {
            row.misses.push(format!("{error:#}"));
            return Ok(row);
        }
    };
    account::check(&device.journal(), Keeps::Unacknowledged, &mut uplink.heard(), None, &mut row)?;
    add_up(first_row, rows, &uplink, &mut row);
    start_when_full(&mut device, disk.path(), &mut row)?;
    Ok(row)
}

/// Fills and frees; gives the first row of this life.
fn fill_again_and_again(setting: &Setting, device: &mut Device, disk: &Path, row: &mut Row) -> anyhow::Result<u64> {
    let tries = setting.tries(50, 200);
    let mut random = setting.random("disk_full");
    device.start()?;
    let mut pulse = Pulse::begin(device, UP_WITHIN)?;
    let status = device.status()?;
    let first_row = stream(&status)["row"].as_u64().unwrap_or(0) - rows_scored(&status);
    let (mut degraded, mut slowest) = (0, Duration::ZERO);
    while row.tries < tries {
        setting.progress(row.tries, tries, "filling")?;
        row.tries += 1;
        pulse.feel_until(device, Duration::from_millis(random.below(ROOM_MS)), |_| false)?;
        let before = rows_scored(&device.status()?);
        let mut filler = Filler::new(disk)?;
        let full = Duration::from_millis(random.between(FULL_MS.0, FULL_MS.1));
        let mut was_degraded = false;
        let began = Instant::now();
        while began.elapsed() < full {
            filler.fill()?;
            was_degraded |= pulse.feel(device)?.is_some_and(|status| !is_well(&status));
        }
        degraded += u64::from(was_degraded);
        let after = pulse.feel(device)?.as_ref().map_or(0, rows_scored);
        let this = row.tries;
        row.expect(after > before, || format!("no row was scored while the disk was full (try {this})"));
        drop(filler);
        match pulse.feel_until(device, WELL_WITHIN, is_well)? {
            Some(took) => slowest = slowest.max(took),
            None => {
                let status = device.status().map_or_else(|error| error.to_string(), |status| in_short(&status));
                row.misses.push(format!("not well {} s after there was room again: {status}", WELL_WITHIN.as_secs()));
            }
        }
    }
    row.expect(pulse.longest() < GAP_MAX, || format!("no row was scored for {} ms", pulse.longest().as_millis()));
    row.figures.push(format!(
        "degraded in {degraded} of {tries}, well again after {} ms at most, longest pause between rows {} ms",
        slowest.as_millis(),
        pulse.longest().as_millis()
    ));
    Ok(first_row)
}

/// Ends the life in order, with everything sent; gives how many rows it scored.
fn settle(device: &mut Device, uplink: &mut Uplink, row: &mut Row) -> anyhow::Result<u64> {
    let status = device.until("everything to be acknowledged", UP_WITHIN, |status| {
        let behind = status["next_sequence"].as_u64().zip(status["acked"].as_u64()).map(|(next, acked)| next - acked);
        is_well(status) && behind.is_some_and(|behind| behind < u64::from(ROWS_PER_S))
    })?;
    row.acknowledged = status["acked"].as_u64().unwrap_or(0);
    device.stop()?;
    uplink.mark()?;
    account::overhear(&device.journal(), &mut uplink.heard())?;
    // The last rows came after the last answer; the log itself says how many there were.
    let offline = device.agent().cli(["status", "--json"])?;
    let last: Value = serde_json::from_str(&offline.stdout)?;
    Ok(stream(&last)["row"].as_u64().unwrap_or(0))
}

/// Every anomaly of the load was recorded or is in the count of a drop: nothing twice, nothing too little.
fn add_up(first_row: u64, end_row: u64, uplink: &Uplink, row: &mut Row) {
    let heard = uplink.heard();
    let recorded: BTreeSet<u64> = heard.rows.iter().map(|(_, row)| *row).collect();
    let expected = (first_row..end_row).filter(|row| is_anomaly(row - first_row));
    let missing = expected.filter(|row| !recorded.contains(row)).count() as u64;
    let dropped = heard.drops.iter().filter(|drop| drop.class == DropClass::Anomaly);
    let dropped: u64 = dropped.map(|drop| drop.count).sum();
    row.figures.push(format!("{} anomalies recorded, {dropped} dropped and counted", recorded.len()));
    row.lost += missing.saturating_sub(dropped);
    row.expect(dropped <= missing, || format!("{dropped} anomalies are said to be dropped, {missing} are missing"));
}

/// The agent starts on a full disk, and is well when there is room.
fn start_when_full(device: &mut Device, disk: &Path, row: &mut Row) -> anyhow::Result<()> {
    let mut filler = Filler::new(disk)?;
    filler.fill()?;
    device.start()?;
    let mut pulse = match Pulse::begin(device, UP_WITHIN) {
        Ok(pulse) => pulse,
        Err(error) => {
            row.open_failures += 1;
            row.misses.push(format!("a start on the full disk: {error:#}"));
            return Ok(());
        }
    };
    filler.fill()?;
    drop(filler);
    let well = pulse.feel_until(device, WELL_WITHIN, is_well)?;
    row.expect(well.is_some(), || "after a start on the full disk it is not well when there is room".to_owned());
    device.stop()
}

/// A file of somebody else's that takes all the room there is; gone when dropped.
struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    fn new(disk: &Path) -> anyhow::Result<Self> {
        let path = disk.join("filler");
        Ok(Self { file: File::create(&path)?, path })
    }

    /// Takes what is left, to the last block.
    fn fill(&mut self) -> anyhow::Result<()> {
        let block = vec![0xa5; 64 << 10];
        let mut size = block.len();
        while size > 0 {
            match self.file.write(&block[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("couldn't remove {}: {error}", self.path.display());
        }
    }
}
