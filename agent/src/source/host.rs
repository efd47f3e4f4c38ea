//! This machine's own metrics, by sysinfo. Which signals there are is fixed at the start: a sensor or disk that appears
//! later is not seen, one that goes is absent from then on.
//!
//! Network traffic is given as a rate between two samples: a sample holds f32, and a byte counter of a day no longer fits
//! its 24 bits.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sysinfo::{Components, Disks, Networks, System};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use vedette_protocol::id::{SignalName, Unit};
use vedette_protocol::time::corrected::JUMP_MS;
use vedette_scoring::{Rows, Schema};

use super::{Doing, Ended, Feed};
use crate::{clock, config};

/// Temperatures reported: a server has dozens, and each costs a signal.
const TEMPERATURES_MAX: usize = 8;

/// The filesystem whose filling is watched.
const ROOT: &str = "/";

/// The signals that every machine has, with their units.
const SIGNALS: [(&str, &str); 11] = [
    ("cpu", "%"),
    ("load1", "1"),
    ("load5", "1"),
    ("load15", "1"),
    ("memory_used", "By"),
    ("memory_available", "By"),
    ("swap_used", "By"),
    ("disk_used", "%"),
    ("net_received", "By/s"),
    ("net_sent", "By/s"),
    ("uptime", "s"),
];

/// The machine's sensors, and how often they are read.
#[derive(Debug)]
pub struct Host {
    interval: Duration,
    schema: Arc<Schema>,
    sensors: Sensors,
}

#[derive(Debug)]
struct Sensors {
    system: System,
    disks: Disks,
    networks: Networks,
    components: Components,
    /// Labels of the temperatures in the schema, in order.
    temperatures: Vec<String>,
    /// Bytes received and sent so far, and when that was read.
    traffic: (u64, u64, Instant),
}

impl Host {
    /// Finds out what this machine can tell.
    ///
    /// # Errors
    /// When the system does not answer at all (no `/proc`).
    pub fn open(settings: &config::Host) -> anyhow::Result<Self> {
        let sensors = Sensors::open().context("couldn't read this machine's metrics")?;
        let mut signals: Vec<(SignalName, Option<Unit>)> =
            Vec::with_capacity(SIGNALS.len() + sensors.temperatures.len());
        for (name, unit) in SIGNALS {
            signals.push((name.parse()?, Some(unit.parse()?)));
        }
        for label in &sensors.temperatures {
            signals.push((temperature_name(label, &signals)?, Some("Cel".parse()?)));
        }
        Ok(Self { interval: settings.interval, schema: Arc::new(Schema::new(signals)?), sensors })
    }

    /// The signals.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema)
    }

    /// Reads the sensors at every interval; a reading that was missed is not made up for.
    pub async fn run(self, feed: Feed, shutdown: CancellationToken) {
        let report = Arc::clone(&feed.report);
        let rows = Rows::new(self.schema.len(), 1);
        let mut readings = Readings { sensors: self.sensors, rows, last_ms: i64::MIN };
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and a share of CPU needs a time between two readings.
        ticks.tick().await;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let feed = feed.clone();
            // Reading and scoring may take long: not here, where others wait.
            let turn = tokio::task::spawn_blocking(move || {
                let ended = readings.score(&feed).is_err();
                (readings, ended)
            });
            let ended;
            (readings, ended) = match turn.await {
                Ok(turn) => turn,
                Err(error) => {
                    tracing::error!(error = %error, "couldn't read this machine's metrics; the source ends");
                    return report.set(Doing::Hindered(format!("reading the sensors failed: {error}")));
                }
            };
            if ended {
                return;
            }
        }
    }
}

/// The sensors, and what was read last.
struct Readings {
    sensors: Sensors,
    rows: Rows,
    last_ms: i64,
}

impl Readings {
    /// Takes a reading and has it scored.
    fn score(&mut self, feed: &Feed) -> Result<(), Ended> {
        let values = self.sensors.read(feed.clock.now());
        // A wall clock that is put back a little must not turn the stream's time round; one that was set is followed.
        let now_ms = feed.clock.wall_ms();
        let set_back = now_ms < self.last_ms.saturating_sub(JUMP_MS);
        self.last_ms = if set_back { now_ms } else { now_ms.max(self.last_ms.saturating_add(1)) };
        self.rows.clear();
        self.rows.push(self.last_ms, &values);
        feed.score(feed.clock.now(), &self.rows)
    }
}

impl Sensors {
    fn open() -> Result<Self, sysinfo::Error> {
        let mut system = System::new()?;
        system.refresh_cpu_usage();
        let components = Components::new_with_refreshed_list()?;
        let temperatures = components
            .iter()
            .filter(|c| c.temperature().is_some_and(f32::is_finite))
            .map(|c| c.label().to_owned())
            .take(TEMPERATURES_MAX)
            .collect();
        let networks = Networks::new_with_refreshed_list()?;
        let (received, sent) = totals(&networks);
        Ok(Self {
            system,
            disks: Disks::new_with_refreshed_list()?,
            networks,
            components,
            temperatures,
            traffic: (received, sent, clock::timer_now().into_std()),
        })
    }

    /// One reading, in the order of the schema; NaN where something does not answer.
    fn read(&mut self, now: Instant) -> Vec<f32> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(true);
        self.networks.refresh(true);
        self.components.refresh(false);
        let load = System::load_average().map_or([f32::NAN; 3], |l| [l.one as f32, l.five as f32, l.fifteen as f32]);
        let (received, sent) = self.rates(now);
        let mut values = vec![
            self.system.global_cpu_usage(),
            load[0],
            load[1],
            load[2],
            self.system.used_memory() as f32,
            self.system.available_memory() as f32,
            self.system.used_swap() as f32,
            self.disk_used(),
            received,
            sent,
            System::uptime().map_or(f32::NAN, |s| s as f32),
        ];
        let heat = self.temperatures.iter().map(|label| {
            self.components.iter().find(|c| c.label() == label).and_then(|c| c.temperature()).unwrap_or(f32::NAN)
        });
        values.extend(heat);
        values
    }

    fn disk_used(&self) -> f32 {
        let Some(root) = self.disks.iter().find(|d| d.mount_point() == Path::new(ROOT)) else { return f32::NAN };
        let total = root.total_space();
        if total == 0 { f32::NAN } else { (100.0 * (1.0 - root.available_space() as f64 / total as f64)) as f32 }
    }

    /// Bytes per second received and sent since the last reading; NaN after an interface went.
    fn rates(&mut self, now: Instant) -> (f32, f32) {
        let (received, sent) = totals(&self.networks);
        let (received_before, sent_before, at) = std::mem::replace(&mut self.traffic, (received, sent, now));
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        (rate(received_before, received, seconds), rate(sent_before, sent, seconds))
    }
}

fn totals(networks: &Networks) -> (u64, u64) {
    networks
        .iter()
        .filter(|(name, _)| name.to_str() != Some("lo"))
        .fold((0, 0), |(received, sent), (_, n)| (received + n.total_received(), sent + n.total_transmitted()))
}

fn rate(before: u64, after: u64, seconds: f64) -> f32 {
    match after.checked_sub(before) {
        Some(bytes) if seconds > 0.0 => (bytes as f64 / seconds) as f32,
        Some(_) | None => f32::NAN,
    }
}

/// `temperature:` and the label in the letters that a signal's name may have, with a number when two are alike.
fn temperature_name(label: &str, taken: &[(SignalName, Option<Unit>)]) -> anyhow::Result<SignalName> {
    let plain: String =
        label.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).take(40).collect();
    let mut name: SignalName = format!("temperature:{plain}").parse()?;
    let mut number = 2;
    while taken.iter().any(|(known, _)| *known == name) {
        name = format!("temperature:{plain}_{number}").parse()?;
        number += 1;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reading_has_a_value_for_every_signal_and_memory_is_real() {
        let mut host = Host::open(&config::Host { interval: Duration::from_secs(1) }).unwrap();
        let values = host.sensors.read(Instant::now());
        let schema = host.schema();
        assert_eq!(values.len(), schema.len());
        let used = schema.index_of(&"memory_used".parse().unwrap()).unwrap();
        assert!(values[used] > 1e6, "{} By of memory used", values[used]);
    }

    #[test]
    fn a_counter_that_fell_has_no_rate() {
        assert!((rate(100, 300, 2.0) - 100.0).abs() < 1e-6);
        assert!(rate(300, 100, 2.0).is_nan());
        assert!(rate(300, 300, 0.0).is_nan());
    }

    #[test]
    fn two_sensors_of_one_label_get_two_names() {
        let first = temperature_name("Core 0 (die)", &[]).unwrap();
        assert_eq!(first.to_string(), "temperature:core_0__die_");
        let second = temperature_name("Core 0 (die)", &[(first.clone(), None)]).unwrap();
        assert_ne!(first, second);
    }
}
