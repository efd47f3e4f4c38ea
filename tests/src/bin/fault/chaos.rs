//! Lines that break: devices with a long backlog and live findings, a proxy that cuts, delays, doubles and swallows between them and
//! their broker, and a broker that is killed every two seconds and remembers nothing. All of it arrives, each once.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vedette_journal::Reader;
use vedette_protocol::record::RecordKind;
use vedette_tests::agent::Agent;
use vedette_tests::broker::{Mosquitto, mosquitto_path};
use vedette_tests::chaos_proxy::ChaosProxy;
use vedette_tests::registry::{Broker, Registry};
use vedette_tests::wait;

use crate::arrived;
use crate::backlog;
use crate::setting::Setting;
use crate::table::Row;

/// Records of a quick run and of a long one; the registry takes 1,200,000 in all.
const RECORDS: (u64, u64) = (100_000, 1_000_000);
/// Devices that share them.
const DEVICES: u64 = 4;
/// How often the broker is killed.
const KILL_EVERY: Duration = Duration::from_secs(2);
/// Findings that come while the backlog is sent, a device: one a row for some seconds.
const LIVE_ROWS: u64 = 500;
const LIVE_ROWS_PER_S: u64 = 25;
/// By when everything must be there, quick and long, seconds.
const WITHIN_S: (u64, u64) = (100, 1800);
/// The first finding's time.
const BEGAN_MS: i64 = 1_790_000_000_000;

/// One device.
struct Device {
    agent: Agent,
    /// Records in its journal at the end.
    written: u64,
}

/// Breaks the lines until everything has arrived, and counts it.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    if mosquitto_path().is_none() {
        return Ok(Row::skipped("mosquitto is not installed"));
    }
    let scratch = setting.scratch()?;
    let mut random = setting.random("chaos");
    let mut mosquitto = Mosquitto::start(scratch.path())?;
    let registry = Registry::start(&scratch.path().join("registry"), &Broker::External(mosquitto.url()))?;
    let broker = mosquitto.url().trim_start_matches("mqtt://").parse()?;
    let proxy = ChaosProxy::start(broker, random.number())?;
    let records = setting.tries(RECORDS.0, RECORDS.1);
    let mut devices = Vec::new();
    for at in 0..DEVICES {
        setting.progress(at, DEVICES, "writing backlogs")?;
        let dir = scratch.path().join(format!("box-{at}"));
        devices.push(Device::new(&dir, &format!("box-{at}"), &registry, &proxy, records / DEVICES)?);
    }
    for device in &mut devices {
        device.agent.start()?;
    }
    let began = Instant::now();
    let within = Duration::from_secs(setting.tries(WITHIN_S.0, WITHIN_S.1));
    let mut kills = 0;
    loop {
        wait::until_moment(Instant::now() + KILL_EVERY);
        let done = progress(&devices, &registry)?;
        setting.progress(done.min(records), records, "records at the registry")?;
        if devices.iter().all(|device| device.is_through(&registry).unwrap_or(false)) {
            break;
        }
        anyhow::ensure!(
            began.elapsed() < within,
            "{done} of {records} records had arrived after {} s; {} kills, proxy: {:?}; the registry said: {}",
            within.as_secs(),
            kills,
            proxy.tally(),
            registry.said().lines().last().unwrap_or_default()
        );
        mosquitto.kill()?;
        mosquitto.restart()?;
        kills += 1;
    }
    let took = began.elapsed();
    let mut row = Row { tries: kills, ..Row::default() };
    for device in &mut devices {
        device.agent.stop()?;
        device.count(&registry, &mut row)?;
    }
    conflicts(&registry, &mut row)?;
    let tally = proxy.tally();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    row.figures.push(format!(
        "{} records in {:.0} s, {kills} kills of the broker",
        row.acknowledged,
        took.as_secs_f64()
    ));
    row.figures.push(format!(
        "{} connections: {} cut, {} black holes, {} half open; {} late pieces, {} doubled packets",
        count(&tally.connections),
        count(&tally.cuts),
        count(&tally.black_holes),
        count(&tally.half_open),
        count(&tally.late),
        count(&tally.doubled)
    ));
    Ok(row)
}

fn progress(devices: &[Device], registry: &Registry) -> anyhow::Result<u64> {
    let mut done = 0;
    for device in devices {
        // A device that has not said anything yet is not known.
        done += arrived::upto(registry, device.agent.device(), backlog::EPOCH).map_or(0, |(upto, _)| upto);
    }
    Ok(done)
}

/// The registry's own word for the same id with other bytes.
fn conflicts(registry: &Registry, row: &mut Row) -> anyhow::Result<()> {
    let log = std::fs::read_to_string(registry.dir().join("registry.log"))?;
    let conflicts = log.lines().filter(|line| line.contains("other bytes")).count() as u64;
    row.wrong += conflicts;
    row.expect(conflicts == 0, || format!("{conflicts} records came with other bytes"));
    Ok(())
}

impl Device {
    fn new(dir: &Path, name: &str, registry: &Registry, proxy: &ChaosProxy, records: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        std::fs::copy(registry.dir().join("keys/trust.toml"), dir.join("trust.toml"))?;
        // Each row misses one more signal for too long, so that each is a finding.
        std::fs::write(dir.join("load.csv"), live_rows())?;
        let config = format!(
            "[registry]\nbroker = \"mqtt://{}\"\ntrust = \"trust.toml\"\n\n\
             [sync]\nstatus_interval = \"1s\"\nreconnect_initial_spread = \"0s\"\nreconnect_spread = \"0s\"\nreconnect_cap = \"1s\"\n\
             ack_timeout = \"2s\"\nbatch_records = 1024\nwindow = 32\nbacklog_rate = 20000\n\n[retention]\nanomaly = \"4GiB\"\n\n\
             [[stream]]\nname = \"{}\"\nsource = \"replay\"\nfile = \"load.csv\"\nbaseline = false\n\
             start = \"2026-09-01T00:00:00Z\"\nstep = \"1s\"\nspeed = {LIVE_ROWS_PER_S}.0\nunits = {{ default = \"1\" }}\n",
            proxy.address(),
            backlog::STREAM
        );
        let agent = Agent::with_config(dir, name, &config)?;
        let state = dir.join("state");
        std::fs::create_dir_all(&state)?;
        let moments = (0..records).map(|at| BEGAN_MS + i64::try_from(at).unwrap_or(0) * 1000);
        let written = backlog::write(&state, moments)?;
        Ok(Self { agent, written })
    }

    fn journal(&self) -> PathBuf {
        self.agent.dir().join("state/journal")
    }

    /// The live rows are scored, and the registry has everything that is in the journal.
    fn is_through(&self, registry: &Registry) -> anyhow::Result<bool> {
        let status = self.agent.status()?;
        let scored = status["streams"][0]["rows"].as_u64().unwrap_or(0);
        let next = vedette_journal::stat(&self.journal())?.next_sequence;
        let (upto, _) = arrived::upto(registry, self.agent.device(), backlog::EPOCH)?;
        Ok(scored >= LIVE_ROWS && upto >= next && upto >= self.written)
    }

    /// Holds what has arrived against what is in the journal.
    fn count(&self, registry: &Registry, row: &mut Row) -> anyhow::Result<()> {
        let device = self.agent.device();
        let arrived = arrived::anomalies(registry, device)?;
        let (_, gone) = arrived::upto(registry, device, backlog::EPOCH)?;
        row.expect(gone == 0, || format!("{gone} records of {device} are said to be gone"));
        row.wrong += arrived.doubled;
        let mut reader = Reader::open(&self.journal(), 0).context("couldn't read a journal")?;
        let mut anomalies = 0;
        while let Some(entry) = reader.next()? {
            if entry.kind != RecordKind::Anomaly.code() {
                continue;
            }
            anomalies += 1;
            match arrived.rows.get(&(entry.epoch, entry.sequence)) {
                None => row.lost += 1,
                // The backlog's records say which one they are.
                Some(there) if entry.sequence < self.written && *there != entry.sequence => row.wrong += 1,
                Some(_) => {}
            }
        }
        row.acknowledged += anomalies;
        row.wrong += (arrived.rows.len() as u64).saturating_sub(anomalies);
        row.expect(anomalies > self.written, || format!("{device} found nothing while its backlog was sent"));
        Ok(())
    }
}

/// Rows of which most are a finding: sixty signals are absent one after the other for longer than may be.
fn live_rows() -> String {
    const SIGNALS: u64 = 60;
    const ABSENT_ROWS: u64 = 12;
    let names: Vec<_> = (0..SIGNALS).map(|signal| format!("signal-{signal}")).collect();
    let rows = (0..LIVE_ROWS).map(|row| {
        let row = row % (SIGNALS + ABSENT_ROWS);
        let cells: Vec<_> = (0..SIGNALS).map(|signal| if row > signal { "" } else { "1" }).collect();
        cells.join(",") + "\n"
    });
    names.join(",") + "\n" + &rows.collect::<String>()
}
