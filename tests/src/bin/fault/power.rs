//! Real power cuts: the agent's state lies on ext4 on a loop device, all its threads are stopped, the file system is shut down
//! without its log being flushed, the agent is killed. What had left the device before must be on the disk afterwards.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vedette_tests::broker::{Mosquitto, mosquitto_path};
use vedette_tests::loop_disk::{self, LoopDisk};
use vedette_tests::random::Random;
use vedette_tests::wait;

use crate::account::{self, Keeps, Promise};
use crate::device::{Device, UP_WITHIN};
use crate::setting::Setting;
use crate::table::Row;
use crate::uplink::Uplink;

/// Cuts after which the disk is made anew, so that both an old journal and a first start are cut.
const CUTS_A_DISK: u64 = 20;

/// The disk: twenty short lives leave some MiB.
const DISK_MIB: u64 = 64;

/// Rows a second: five of six are anomalies, so that a sync is under way at most moments.
const ROWS_PER_S: u32 = 4000;

/// Small segments and many checkpoints, so that a life has a few of each.
const LIMITS: &str =
    "[journal]\nsegment = \"64KiB\"\nanomaly_rate = 10000\nanomaly_burst = 1000000\ncheckpoint_records = 64\n";

/// One of so many cuts comes while the agent starts.
const STARTING: u64 = 4;

/// The longest time into a start, and into a life that was heard of, at which the power goes.
const LATEST_MS: u64 = 120;

/// One life of so many is given time for a signed checkpoint to leave.
const PROVEN: u64 = 10;

/// So much time.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(3);

/// Cuts of the check that the cuts cut.
const BITES: u64 = 12;

/// The power goes again and again.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    let tries = setting.tries(60, 1000);
    let mut row = Row::default();
    let Some(mut room) = Room::open(setting, &mut row)? else { return Ok(row) };
    let began = Instant::now();
    let mut random = setting.random("power");
    while row.tries < tries {
        setting.progress(row.tries, tries, &format!("{} acknowledged, {} lost", row.acknowledged, row.lost))?;
        room.cut(&mut random, &mut row)?;
    }
    row.figures.push(format!("{:.1} cuts/s", tries as f64 / began.elapsed().as_secs_f64()));
    room.last_start(&mut row);
    account::count_checkpoints(&room.uplink.heard(), &mut row);
    Ok(row)
}

/// The same with every sync of the agent eaten: a suite that finds nothing lost here would find nothing anywhere.
pub(crate) fn run_without_sync(setting: &Setting) -> anyhow::Result<Row> {
    let mut row = Row::default();
    let Some(library) = eat_my_data() else {
        return Ok(Row::skipped("libeatmydata.so is not installed: `apt-get install eatmydata`"));
    };
    let Some(mut room) = Room::open(setting, &mut row)? else { return Ok(row) };
    room.device.set_environment("LD_PRELOAD", library);
    let mut random = setting.random("bites");
    while row.tries < BITES {
        setting.progress(row.tries, BITES, "without syncs")?;
        room.cut(&mut random, &mut row)?;
    }
    // Here a loss is what is wanted, so it is no miss but a figure.
    let (lost, failed) = (row.lost, row.open_failures);
    row = Row { tries: row.tries, acknowledged: row.acknowledged, ..Row::default() };
    row.figures.push(format!("{lost} of {} lost, as must be; {failed} starts failed", row.acknowledged));
    row.expect(lost > 0, || "nothing was lost although nothing was synced: the cuts do not cut".to_owned());
    Ok(row)
}

/// A disk, a device on it, and somebody who listens.
struct Room {
    device: Device,
    uplink: Uplink,
    // Dropped in this order: the agent must be gone before the disk is, the disk before its folder.
    disk: LoopDisk,
    _broker: Mosquitto,
    _scratch: TempDir,
}

impl Room {
    /// The room, or none with the reason in `row`.
    fn open(setting: &Setting, row: &mut Row) -> anyhow::Result<Option<Self>> {
        row.skipped = loop_disk::missing();
        if mosquitto_path().is_none() {
            row.skipped = Some("mosquitto is not installed: `apt-get install mosquitto`".to_owned());
        }
        if row.skipped.is_some() {
            return Ok(None);
        }
        let scratch = setting.scratch()?;
        let broker = Mosquitto::start(scratch.path())?;
        let uplink = Uplink::listen(&broker.url())?;
        let disk = LoopDisk::make(scratch.path(), DISK_MIB)?;
        let device = Device::new(
            &scratch.path().join("box"),
            Some(&disk.path().join("state")),
            &broker.url(),
            ROWS_PER_S,
            LIMITS,
        )?;
        Ok(Some(Self { device, uplink, disk, _broker: broker, _scratch: scratch }))
    }

    /// One life of the agent, its end, and what the disk holds then.
    fn cut(&mut self, random: &mut Random, row: &mut Row) -> anyhow::Result<()> {
        if row.tries > 0 && row.tries.is_multiple_of(CUTS_A_DISK) {
            self.renew()?;
        }
        row.tries += 1;
        self.uplink.life_begins();
        let starting = random.chance(1, STARTING);
        let later = Duration::from_millis(random.below(LATEST_MS));
        self.device.start()?;
        let lived = if starting { Ok(None) } else { self.live(row.tries.is_multiple_of(PROVEN)) };
        wait::until_moment(Instant::now() + later);
        let promise = match lived.and_then(|promise| self.device.alive().map(|()| promise)) {
            Ok(promise) => promise,
            Err(error) => {
                row.open_failures += 1;
                row.misses.push(format!("cut {}: {error:#}", row.tries));
                None
            }
        };
        if self.device.freeze().is_ok() {
            self.disk.cut()?;
        }
        self.device.kill()?;
        self.uplink.settle()?;
        self.disk.unmount()?;
        self.disk.mount()?;
        if let Err(error) = account::check(&self.device.journal(), Keeps::All, &mut self.uplink.heard(), promise, row) {
            row.open_failures += 1;
            row.misses.push(format!("cut {}: {error:#}", row.tries));
        }
        row.acknowledged = self.uplink.heard().records_in_all() + row.lost;
        Ok(())
    }

    /// A new disk, and nothing heard of it yet.
    fn renew(&mut self) -> anyhow::Result<()> {
        self.uplink.forget();
        self.disk.format()
    }

    /// After all that the agent starts, says how it is, and ends as it is asked.
    fn last_start(&mut self, row: &mut Row) {
        let mut start = || {
            self.device.start()?;
            self.device.until("the agent's status", UP_WITHIN, |status| status["degraded"].is_null())?;
            self.device.stop()
        };
        if let Err(error) = start() {
            row.open_failures += 1;
            row.misses.push(format!("the last start: {error:#}"));
        }
    }

    /// Waits until records of this life have left the device, and asks it what it promises.
    fn live(&mut self, proven: bool) -> anyhow::Result<Option<Promise>> {
        let batches = self.uplink.heard().batches;
        let deadline = Instant::now() + UP_WITHIN;
        while self.uplink.heard().batches == batches {
            self.device.alive()?;
            anyhow::ensure!(Instant::now() < deadline, "no record left the device in {} s", UP_WITHIN.as_secs());
            wait::a_moment();
        }
        // Now and then long enough for a signed checkpoint with its proof.
        let checkpoints = self.uplink.heard().checkpoints_in_all();
        let until = Instant::now() + if proven { CHECKPOINT_WITHIN } else { Duration::ZERO };
        while Instant::now() < until && self.uplink.heard().checkpoints_in_all() == checkpoints {
            self.device.alive()?;
            wait::a_moment();
        }
        let status = self.device.status()?;
        Ok(status["epoch"].as_u64().zip(status["committed"].as_u64()).map(|(epoch, below)| Promise { epoch, below }))
    }
}

/// Where Debian puts the library that makes all syncs do nothing.
fn eat_my_data() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders.filter_map(|folder| Some(folder.ok()?.path().join("libeatmydata.so"))).find(|path| path.is_file())
}
