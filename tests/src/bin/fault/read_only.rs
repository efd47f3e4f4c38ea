//! A disk that refuses every write: for a while, again and again (`chattr +i` on all of the agent's files and folders, which holds
//! also for files that are open); and for good (ext4 has found an error and is read-only from then on), until the box starts
//! again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use vedette_tests::broker::{Mosquitto, mosquitto_path};
use vedette_tests::loop_disk::{self, LoopDisk};
use vedette_tests::programs;

use crate::account::{self, Keeps};
use crate::device::{Device, UP_WITHIN};
use crate::pulse::{Pulse, is_well};
use crate::setting::Setting;
use crate::table::Row;
use crate::uplink::Uplink;

/// The disk.
const DISK_MIB: u64 = 64;

/// Rows a second.
const ROWS_PER_S: u32 = 500;

const LIMITS: &str = "[journal]\nanomaly_rate = 10000\nanomaly_burst = 1000000\ncheckpoint_interval = \"1s\"\n";

/// While the disk refuses, the device's status is published, every second.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(3);

/// The disk refuses until that was seen, and so much longer at most, milliseconds.
const LONGER_MS: u64 = 500;

/// How soon a refusal shows in the status.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// How soon all is well when the disk takes writes again.
const WELL_WITHIN: Duration = Duration::from_secs(5);

/// No row is scored for this long at most.
const GAP_MAX: Duration = Duration::from_secs(1);

/// Refuses.
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
    let mut disk = LoopDisk::make(scratch.path(), DISK_MIB)?;
    let state = disk.path().join("state");
    let mut device = Device::new(&scratch.path().join("box"), Some(&state), &broker.url(), ROWS_PER_S, LIMITS)?;
    let mut row = Row::default();
    refuse_again_and_again(setting, &mut device, &uplink, &mut row)?;
    refuse_for_good(&mut device, &mut uplink, &mut disk, &mut row)?;
    row.acknowledged = uplink.heard().records.len() as u64 + row.lost;
    Ok(row)
}

fn refuse_again_and_again(
    setting: &Setting,
    device: &mut Device,
    uplink: &Uplink,
    row: &mut Row,
) -> anyhow::Result<()> {
    let tries = setting.tries(20, 100);
    let mut random = setting.random("read_only");
    device.start()?;
    let mut pulse = Pulse::begin(device, UP_WITHIN)?;
    let mut slowest = Duration::ZERO;
    while row.tries < tries {
        setting.progress(row.tries, tries, "refusing")?;
        row.tries += 1;
        let this = row.tries;
        pulse.feel_until(device, Duration::from_millis(random.below(200)), |_| false)?;
        let statuses = uplink.heard().statuses;
        let refusal = Refusal::begin(device.state())?;
        let shown = pulse.feel_until(device, SHOWN_WITHIN, |status| !status["degraded"].is_null())?;
        row.expect(shown.is_some(), || format!("the disk refuses, and the status does not say so (try {this})"));
        let heard = pulse.feel_until(device, PUBLISHED_WITHIN, |_| uplink.heard().statuses > statuses)?;
        row.expect(heard.is_some(), || format!("nothing was published while the disk refused (try {this})"));
        pulse.feel_until(device, Duration::from_millis(random.below(LONGER_MS)), |_| false)?;
        refusal.end()?;
        match pulse.feel_until(device, WELL_WITHIN, is_well)? {
            Some(took) => slowest = slowest.max(took),
            None => row.misses.push(format!("not well {} s after the disk took writes again", WELL_WITHIN.as_secs())),
        }
        account::check(&device.journal(), Keeps::All, &mut uplink.heard(), None, row)?;
    }
    row.expect(pulse.longest() < GAP_MAX, || format!("no row was scored for {} ms", pulse.longest().as_millis()));
    row.figures.push(format!(
        "well again after {} ms at most, longest pause between rows {} ms",
        slowest.as_millis(),
        pulse.longest().as_millis()
    ));
    Ok(())
}

/// The file system gives up; the agent does not. When the box starts again everything is there.
fn refuse_for_good(device: &mut Device, uplink: &mut Uplink, disk: &mut LoopDisk, row: &mut Row) -> anyhow::Result<()> {
    row.tries += 1;
    let mut pulse = Pulse::begin(device, UP_WITHIN)?;
    let statuses = uplink.heard().statuses;
    disk.give_up()?;
    let shown = pulse.feel_until(device, SHOWN_WITHIN, |status| !status["degraded"].is_null())?;
    row.expect(shown.is_some(), || "the file system is read-only, and the status does not say so".to_owned());
    let published = pulse.feel_until(device, PUBLISHED_WITHIN, |_| uplink.heard().statuses > statuses)?;
    row.expect(published.is_some(), || "a read-only file system ended the publishing".to_owned());
    row.expect(pulse.longest() < GAP_MAX, || {
        format!("on a read-only file system no row was scored for {} ms", pulse.longest().as_millis())
    });
    device.kill()?;
    uplink.settle()?;
    disk.unmount()?;
    disk.mount()?;
    account::check(&device.journal(), Keeps::All, &mut uplink.heard(), None, row)?;
    device.start()?;
    if let Err(error) = device.until("a healthy start", UP_WITHIN, is_well) {
        row.open_failures += 1;
        row.misses.push(format!("{error:#}"));
    }
    device.stop()
}

/// Every file and folder of the state refuses writes, renames, and new files.
struct Refusal {
    state: PathBuf,
    ended: bool,
}

impl Refusal {
    fn begin(state: &Path) -> anyhow::Result<Self> {
        let refusal = Self { state: state.to_owned(), ended: false };
        immutable(state, "+i")?;
        Ok(refusal)
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.ended = true;
        immutable(&self.state, "-i")
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = immutable(&self.state, "-i")
        {
            eprintln!("{error:#}");
        }
    }
}

/// `chattr -R`: the folder first, so that nothing new slips in; what is no file (the socket) cannot be marked and says so.
fn immutable(state: &Path, how: &str) -> anyhow::Result<()> {
    let mut command = Command::new("chattr");
    command.args(["-R", "-f", how]).arg(state);
    programs::run(command).context("couldn't run chattr: `apt-get install e2fsprogs`")?;
    Ok(())
}
