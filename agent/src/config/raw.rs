//! The configuration as people write it: every key with its unit, range and default. [`super`] checks it.
//!
//! Durations are text (`"250ms"`, `"30s"`, `"5m"`, `"7d"`), sizes too (`"64KiB"`, `"1MiB"`). An unknown key is refused
//! with the nearest known one. Paths are relative to the folder of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use vedette_protocol::id::{DeviceId, SignalName, StreamName, Unit};
use vedette_protocol::settings::{DurationText, SizeText, TimeText};

/// The whole file, `agent.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// The device's name, the same for its whole life. Required.
    pub(super) device: DeviceId,
    /// Folder of everything that must survive a restart. Default `/var/lib/vedette`.
    pub(super) state: Option<PathBuf>,
    /// Where models come from and anomalies go. Without the table the box works alone.
    pub(super) registry: Option<RawRegistry>,
    /// The durable log.
    #[serde(default)]
    pub(super) journal: RawJournal,
    /// What the durable log may keep.
    #[serde(default)]
    pub(super) retention: RawRetention,
    /// The local interface.
    #[serde(default)]
    pub(super) api: RawApi,
    /// The talk with the registry.
    #[serde(default)]
    pub(super) sync: RawSync,
    /// The way of a model onto this box.
    #[serde(default)]
    pub(super) deploy: RawDeploy,
    /// What is scored: 1 to 16 streams.
    #[serde(default)]
    pub(super) stream: Vec<RawStream>,
}

/// `[registry]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRegistry {
    /// The MQTT broker, `mqtt://HOST[:PORT]`; port 1883 by default. Required.
    pub(super) broker: String,
    /// The registry's HTTP address, `http://HOST[:PORT]`. Without it model files come over the broker in chunks.
    pub(super) url: Option<String>,
    /// File with the bearer token (role viewer) for fetching model files. Optional.
    pub(super) token_file: Option<PathBuf>,
    /// File with the public keys of the roles `models` and `fleet`. Default `trust.toml`.
    pub(super) trust: Option<PathBuf>,
}

/// `[journal]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJournal {
    /// Size of a segment file, 64KiB to 64MiB. Default 1MiB.
    pub(super) segment: Option<SizeText>,
    /// Records that wait for one sync to disk, 1 to 4096. Default 64.
    pub(super) commit_records: Option<u32>,
    /// The longest a record waits for its sync to disk, 1ms to 10s. Default 250ms.
    pub(super) commit_interval: Option<DurationText>,
    /// The query index's size, 1MiB to 256MiB. Default 8MiB (memory follows it).
    pub(super) index: Option<SizeText>,
    /// Anomalies recorded per second in the long run, 1 to 10000; more are counted as dropped. Default 100.
    pub(super) anomaly_rate: Option<u32>,
    /// Anomalies recorded in one burst, 1 to 1000000. Default 10000.
    pub(super) anomaly_burst: Option<u32>,
    /// A checkpoint of the log is signed after this many records, 1 to 65536. Default 256.
    pub(super) checkpoint_records: Option<u32>,
    /// A checkpoint of the log is signed when its newest record is this old, 1s to 1d. Default 60s.
    pub(super) checkpoint_interval: Option<DurationText>,
}

/// `[retention]`: what the journal keeps on this device. What the registry has acknowledged goes first, oldest first; what
/// it has not goes only for the sizes here, last, and is counted in a `drop` record. Media and raw telemetry are not in
/// the journal and have no keys here yet.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRetention {
    /// Records of what happened to the device and its log, and the hashes of removed records, 64KiB to 64GiB; one
    /// segment more at most. Default 16MiB.
    pub(super) control: Option<SizeText>,
    /// Anomalies, 64KiB to 64GiB; one segment more at most. Default 48MiB.
    pub(super) anomaly: Option<SizeText>,
    /// Acknowledged control records older than this go, 1m to 3650d; 0s: never for their age. Counted is the time that is
    /// known to have passed (the box was on), whatever the clock says. Default 0s.
    pub(super) control_age: Option<DurationText>,
    /// The same for anomalies. Default 0s.
    pub(super) anomaly_age: Option<DurationText>,
    /// Below this room on the file system acknowledged records go, 0B to 64GiB. Default 4MiB.
    pub(super) free_space: Option<SizeText>,
    /// Size of the file that is kept to be given up when the disk is full, so that mending has room, 0B (none) to 64MiB.
    /// Default 1MiB.
    pub(super) ballast: Option<SizeText>,
}

/// `[api]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApi {
    /// The Unix socket of the local interface. Default `agent.sock` in the state folder.
    pub(super) socket: Option<PathBuf>,
    /// A loopback address for the same interface over HTTP, `127.0.0.1:PORT`. Default none.
    pub(super) http: Option<String>,
}

/// `[sync]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSync {
    /// Journal records in one message, 1 to 1024. Default 128.
    pub(super) batch_records: Option<u32>,
    /// Messages under way without acknowledgement, 1 to 64. Default 8.
    pub(super) window: Option<u32>,
    /// A message not acknowledged by the registry within this time is sent again, 1s to 10m. Default 10s.
    pub(super) ack_timeout: Option<DurationText>,
    /// Records a second of what had waited for the connection, 1 to 1000000; what is new goes first. Default 5000.
    pub(super) backlog_rate: Option<u32>,
    /// Each start waits a random part of this before it connects, 0s to 1h. Default 10s.
    pub(super) reconnect_initial_spread: Option<DurationText>,
    /// After a connection that held was lost, and after a minute without one, the waits begin with a random part of this
    /// and double: a whole fleet loses its broker in the same second, and 10,000 devices need 30s at 333 a second. 0s to
    /// 1h, and never longer than the cap. Default 30s.
    pub(super) reconnect_spread: Option<DurationText>,
    /// The longest wait between two attempts to connect, 1s to 1h. Default 5m.
    pub(super) reconnect_cap: Option<DurationText>,
    /// How often the device says what it runs, 1s to 1h. Default 30s.
    pub(super) status_interval: Option<DurationText>,
}

/// `[deploy]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDeploy {
    /// The longest that one file may take to come, 1s to 1d. Default 30m.
    pub(super) fetch_deadline: Option<DurationText>,
    /// A transfer that brings less than 1 KiB a second over this time is cut and resumed, 1s to 10m. Default 30s.
    pub(super) fetch_stall: Option<DurationText>,
    /// The largest model file, 1KiB to 256MiB. Default 64MiB.
    pub(super) artifact_max: Option<SizeText>,
    /// The most memory that a model under trial may map, 64MiB to 16GiB. Default 512MiB.
    pub(super) trial_memory: Option<SizeText>,
    /// The longest that a trial may take, 1s to 1h. Default 60s.
    pub(super) trial_deadline: Option<DurationText>,
    /// The first wait before a failed fetch is tried again (it doubles, with jitter, up to 5m), 100ms to 5m. Default 5s.
    pub(super) retry: Option<DurationText>,
}

/// `[[stream]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStream {
    /// The stream's name, and the slot that a model is assigned to. Required.
    pub(super) name: StreamName,
    /// `replay`, `host`, `mqtt` or `push`. Required.
    pub(super) source: Kind,
    /// Whether the built-in baseline raises anomalies while there is no model. Default true.
    pub(super) baseline: Option<bool>,
    /// Samples that wait for the scorer, 1 to 65536; more are answered "busy" or dropped and counted. Default 1024.
    pub(super) queue: Option<u32>,

    /// replay: the CSV file, `.csv` or `.csv.gz`. Required there.
    pub(super) file: Option<PathBuf>,
    /// replay: how many times faster than the data's own time, 0 to 1e9; 0 = as fast as it is scored. Default 1.
    pub(super) speed: Option<f64>,
    /// replay: the column with the time (RFC 3339 or Unix ms). Without it `start` and `step` give the time.
    pub(super) time_column: Option<String>,
    /// replay without a time column: the first row's time, RFC 3339. Default 1970-01-01T00:00:00Z.
    pub(super) start: Option<TimeText>,
    /// replay without a time column: time between rows, 1ms to 30d. Required there.
    pub(super) step: Option<DurationText>,
    /// replay: a column that is a label, not a signal. Default none.
    pub(super) label_column: Option<String>,
    /// replay: begin again at the end of the file. Default false.
    pub(super) repeat: Option<bool>,
    /// replay: units of the columns, `default = "1"` or by signal. Without a unit a signal fits any.
    pub(super) units: Option<BTreeMap<String, Unit>>,

    /// host: time between samples, 100ms to 1d. Default 10s.
    pub(super) interval: Option<DurationText>,

    /// mqtt: the local broker, `mqtt://HOST[:PORT]`. Required there.
    pub(super) broker: Option<String>,
    /// mqtt: the topic, 1 to 256 bytes, wildcards allowed. Required there.
    pub(super) topic: Option<String>,
    /// mqtt: `json` or `cbor`. Default json.
    pub(super) format: Option<Format>,

    /// mqtt, push: the signals in their order, 1 to 512. Required there.
    pub(super) signals: Option<Vec<RawSignal>>,
}

/// One entry of `signals`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignal {
    /// The signal's name.
    pub(super) name: SignalName,
    /// Its unit; `"1"` has no dimension. Without a unit it fits any.
    pub(super) unit: Option<Unit>,
}

/// The kinds of source.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Replay,
    Host,
    Mqtt,
    Push,
}

/// How a message on a local topic is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `{"at": "2026-11-21T10:00:00Z" or Unix ms, "values": {"cpu": 0.5}}`
    #[default]
    Json,
    /// The same map in CBOR.
    Cbor,
}
