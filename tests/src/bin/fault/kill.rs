//! SIGKILL at any moment of a start and of a life under load; and how long until rows are scored again.

use std::time::{Duration, Instant};

use vedette_tests::broker::{Mosquitto, mosquitto_path};
use vedette_tests::wait;

use crate::account::{self, Keeps, Promise};
use crate::device::{Device, UP_WITHIN, rows_scored};
use crate::setting::Setting;
use crate::table::Row;
use crate::uplink::Uplink;

/// Kills after which the state is made anew: the journal is read as a whole after each.
const KILLS_A_STATE: u64 = 20;

/// Rows a second.
const ROWS_PER_S: u32 = 4000;

/// Many checkpoints, so that a life has a few.
const LIMITS: &str = "[journal]\nanomaly_rate = 10000\nanomaly_burst = 1000000\ncheckpoint_records = 64\n";

/// When a start is not waited for, the kill comes so long after it, milliseconds.
const BLIND_MS: (u64, u64) = (10, 150);

/// One kill of so many comes later.
const LATE: u64 = 8;

/// How much later at most, milliseconds.
const LATE_MS: u64 = 600;

/// A restart scores its first row within this time, always.
const FIRST_SCORE: Duration = Duration::from_secs(2);

/// And half of them within this, on a machine without other work; said, not demanded.
const FIRST_SCORE_IDLE: Duration = Duration::from_millis(300);

/// Kills.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    if mosquitto_path().is_none() {
        return Ok(Row::skipped("mosquitto is not installed: `apt-get install mosquitto`"));
    }
    let tries = setting.tries(200, 1000);
    let scratch = setting.scratch()?;
    let broker = Mosquitto::start(scratch.path())?;
    let mut uplink = Uplink::listen(&broker.url())?;
    let mut device = Device::new(&scratch.path().join("box"), None, &broker.url(), ROWS_PER_S, LIMITS)?;
    let mut random = setting.random("kill");
    let (mut row, mut first_scores) = (Row::default(), Vec::new());
    while row.tries < tries {
        setting.progress(row.tries, tries, &format!("{} acknowledged, {} lost", row.acknowledged, row.lost))?;
        if row.tries > 0 && row.tries.is_multiple_of(KILLS_A_STATE) {
            uplink.forget();
            std::fs::remove_dir_all(device.state())?;
        }
        row.tries += 1;
        uplink.life_begins();
        let blind = row.tries.is_multiple_of(2);
        let late = if random.chance(1, LATE) { random.below(LATE_MS) } else { 0 };
        let moment = Duration::from_millis(random.between(BLIND_MS.0, BLIND_MS.1) + late);
        let promise = match live(&mut device, moment, blind, &mut first_scores) {
            Ok(promise) => promise,
            Err(error) => {
                row.open_failures += 1;
                row.misses.push(format!("kill {}: {error:#}", row.tries));
                None
            }
        };
        device.kill()?;
        uplink.settle()?;
        account::check(&device.journal(), Keeps::All, &mut uplink.heard(), promise, &mut row)?;
        row.acknowledged = uplink.heard().records_in_all() + row.lost;
    }
    judge(&mut first_scores, &mut row);
    row.figures.push(format!("{} checkpoints held against the log", uplink.heard().checkpoints_in_all()));
    Ok(row)
}

/// One life up to the moment of its end. When it is not blind the first score is awaited before, and the promise asked for.
fn live(
    device: &mut Device,
    moment: Duration,
    blind: bool,
    first_scores: &mut Vec<Duration>,
) -> anyhow::Result<Option<Promise>> {
    let began = Instant::now();
    device.start()?;
    if blind {
        wait::until_moment(began + moment);
        device.alive()?;
        return Ok(None);
    }
    device.until("the first score", UP_WITHIN, |status| rows_scored(status) > 0)?;
    first_scores.push(began.elapsed());
    wait::until_moment(Instant::now() + moment);
    let status = device.status()?;
    device.alive()?;
    Ok(status["epoch"].as_u64().zip(status["committed"].as_u64()).map(|(epoch, below)| Promise { epoch, below }))
}

fn judge(first_scores: &mut [Duration], row: &mut Row) {
    first_scores.sort();
    let Some((median, slowest)) = first_scores.get(first_scores.len() / 2).zip(first_scores.last()) else { return };
    row.figures.push(format!(
        "start to first score: median {} ms (goal {} ms on an idle machine), slowest {} ms",
        median.as_millis(),
        FIRST_SCORE_IDLE.as_millis(),
        slowest.as_millis()
    ));
    row.expect(*slowest < FIRST_SCORE, || {
        format!("a restart took {} ms to its first score, {} are allowed", slowest.as_millis(), FIRST_SCORE.as_millis())
    });
}
