//! A week without the registry: a finding a minute and one burst, in virtual time; then the broker comes, and all of it goes out,
//! quickly and without taking memory.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use vedette_tests::agent::Agent;
use vedette_tests::broker::{Mosquitto, mosquitto_path};
use vedette_tests::registry::{Broker, Registry};
use vedette_tests::wait;

use crate::setting::Setting;
use crate::table::Row;
use crate::{arrived, backlog};

/// Minutes of a week.
const MINUTES: i64 = 7 * 24 * 60;
/// Findings of the burst, on the fourth day, a millisecond apart.
const BURST: i64 = 10_000;
/// When the week begins.
const BEGAN_MS: i64 = 1_790_000_000_000;
/// Records a second that must go out at least.
const DRAIN_PER_S: f64 = 2000.0;
/// How much the agent's memory may move meanwhile, KiB.
const MEMORY_KIB: u64 = 2048;
/// How long the agent stands there without a broker while its memory is looked at.
const AWAY: Duration = Duration::from_secs(5);
/// The longest wait for the end.
const WITHIN: Duration = Duration::from_secs(60);

const DEVICE: &str = "box-1";

/// Lets the week pass and counts what arrives.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    if mosquitto_path().is_none() {
        return Ok(Row::skipped("mosquitto is not installed"));
    }
    let scratch = setting.scratch()?;
    let mut mosquitto = Mosquitto::start(scratch.path())?;
    let registry = Registry::start(&scratch.path().join("registry"), &Broker::External(mosquitto.url()))?;
    mosquitto.kill()?;
    let dir = scratch.path().join(DEVICE);
    std::fs::create_dir_all(dir.join("state"))?;
    std::fs::copy(registry.dir().join("keys/trust.toml"), dir.join("trust.toml"))?;
    let all = backlog::write(&dir.join("state"), moments())?;
    let config = format!(
        "[registry]\nbroker = \"{}\"\ntrust = \"trust.toml\"\n\n\
         [sync]\nstatus_interval = \"1s\"\nreconnect_initial_spread = \"0s\"\nreconnect_spread = \"0s\"\nreconnect_cap = \"1s\"\n\n\
         [[stream]]\nname = \"{}\"\nsource = \"push\"\nsignals = [{{ name = \"a\" }}]\n",
        mosquitto.url(),
        backlog::STREAM
    );
    let mut agent = Agent::with_config(&dir, DEVICE, &config)?;
    agent.start()?;
    let pid = agent.running()?.id();
    let mut away = Vec::new();
    let until = Instant::now() + AWAY;
    while Instant::now() < until {
        setting.check()?;
        away.push(resident_kib(pid)?);
        wait::a_moment();
    }
    mosquitto.restart()?;
    let drain = drain(&registry, pid, all)?;
    let mut row = Row { tries: 1, ..Row::default() };
    agent.stop()?;
    count(&registry, all, &mut row)?;
    // Measured from the first record that was there to the last one, so that the wait for the connection is not in it.
    let rate = all as f64 / drain.took.as_secs_f64();
    row.expect(rate >= DRAIN_PER_S, || format!("{rate:.0} records/s went out, less than {DRAIN_PER_S:.0}"));
    let before = away.last().copied().unwrap_or(0);
    let most = drain.memory_kib.iter().copied().max().unwrap_or(before);
    let grown = most.saturating_sub(before);
    row.expect(grown <= MEMORY_KIB, || format!("memory grew by {grown} KiB while the backlog went out"));
    row.figures.push(format!(
        "{all} records, {rate:.0}/s, memory {:.1} MiB offline, at most {:.1} MiB while sending",
        before as f64 / 1024.0,
        most as f64 / 1024.0
    ));
    Ok(row)
}

/// One finding a minute; on the fourth day a burst.
fn moments() -> impl Iterator<Item = i64> {
    (0..MINUTES).flat_map(|minute| {
        let at = BEGAN_MS + minute * 60_000;
        let burst = if minute == MINUTES / 2 { BURST } else { 0 };
        std::iter::once(at).chain((1..=burst).map(move |ms| at + ms))
    })
}

/// How the backlog went out.
struct Drain {
    took: Duration,
    memory_kib: Vec<u64>,
}

fn drain(registry: &Registry, pid: u32, all: u64) -> anyhow::Result<Drain> {
    let mut memory_kib = Vec::new();
    let mut first: Option<Instant> = None;
    let came = Instant::now();
    loop {
        memory_kib.push(resident_kib(pid)?);
        let upto = arrived::upto(registry, DEVICE, backlog::EPOCH).map_or(0, |(upto, _)| upto);
        if upto > 0 {
            first.get_or_insert(Instant::now());
        }
        if upto >= all {
            let took = first.map_or(Duration::ZERO, |first| first.elapsed());
            return Ok(Drain { took: took.max(Duration::from_millis(1)), memory_kib });
        }
        anyhow::ensure!(came.elapsed() < WITHIN, "{upto} of {all} records after {} s", WITHIN.as_secs());
        wait::until_moment(Instant::now() + Duration::from_millis(20));
    }
}

fn count(registry: &Registry, all: u64, row: &mut Row) -> anyhow::Result<()> {
    let arrived = arrived::anomalies(registry, DEVICE)?;
    row.acknowledged = all;
    row.lost = (0..all).filter(|sequence| !arrived.rows.contains_key(&(backlog::EPOCH, *sequence))).count() as u64;
    let right = |((epoch, sequence), there): (&(u64, u64), &u64)| {
        *epoch == backlog::EPOCH && *sequence < all && there == sequence
    };
    row.wrong = arrived.doubled + arrived.rows.iter().filter(|entry| !right(*entry)).count() as u64;
    Ok(())
}

/// The agent's resident memory, KiB.
fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
