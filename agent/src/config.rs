//! The configuration: raw text in, checked values out.
//!
//! [`load`] reads `agent.toml`, the drop-ins beside it (`agent.d/*.toml`) and the environment (`VEDETTE_REGISTRY__BROKER`
//! overrides `[registry] broker`), refuses what it does not know or what is out of range, and names the file and the key.
//! Every key stands in `config/raw.rs` with its unit, range and default.

mod address;
mod journal;
mod raw;
mod stream;
mod summary;
mod within;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vedette_protocol::exit::Exit;
use vedette_protocol::id::{DeviceId, Digest};
use vedette_protocol::key::Trust;
use vedette_protocol::limit::MAX_STREAMS;
use vedette_protocol::settings::{self, Document, SettingsError};

pub use raw::Format;
pub use stream::{Host, Mqtt, Push, Replay, Source, Stream, Units};
pub use summary::Summary;

use crate::retention::Limits;
use address::{broker, http_url, token};
use journal::{journal, retention};
use raw::{Raw, RawApi, RawDeploy, RawRegistry, RawSync};
use within::{duration, number, size};

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The device's name.
    pub device: DeviceId,
    /// The state folder.
    pub state: PathBuf,
    /// Where models come from and anomalies go; `None`: the box works alone.
    pub registry: Option<Registry>,
    /// The durable log and its index.
    pub journal: Journal,
    /// What the durable log may keep.
    pub retention: Retention,
    /// The local interface.
    pub api: Api,
    /// The talk with the registry.
    pub sync: Sync,
    /// The way of a model onto this box.
    pub deploy: Deploy,
    /// What is scored, at least one, names differ.
    pub streams: Vec<Stream>,
    /// SHA-256 of what was read: the files in their order, then the variables by name.
    pub digest: Digest,
}

/// A registry and whom to believe.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The broker.
    pub broker: Broker,
    /// The HTTP address without a slash at its end; `None`: model files come over the broker.
    pub url: Option<String>,
    /// The bearer token for model files.
    pub token: Option<Token>,
    /// The public keys of the roles.
    pub trust: Trust,
}

/// An MQTT broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt://{}:{}", self.host, self.port)
    }
}

/// A secret that never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret, for the request's header.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// The durable log and its index.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Size of a segment file, bytes.
    pub segment_bytes: u64,
    /// Records that wait for one sync to disk.
    pub commit_records: u32,
    /// The longest a record waits for its sync to disk.
    pub commit_interval: Duration,
    /// The index's size, bytes.
    pub index_bytes: u64,
    /// Anomalies recorded per second in the long run.
    pub anomaly_rate: u32,
    /// Anomalies recorded in one burst.
    pub anomaly_burst: u32,
    /// Records after which a checkpoint is signed.
    pub checkpoint_records: u32,
    /// Age of the oldest record behind the last checkpoint at which one is signed.
    pub checkpoint_interval: Duration,
}

/// What the durable log may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes and ages by class, and the room on the file system.
    pub limits: Limits,
    /// Size of the file that is given up when the disk is full, bytes; 0: none.
    pub ballast_bytes: u64,
}

/// The local interface.
#[derive(Clone, Debug)]
pub struct Api {
    /// The Unix socket.
    pub socket: PathBuf,
    /// A loopback address for HTTP, or none.
    pub http: Option<SocketAddr>,
}

/// The talk with the registry.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Journal records in one message.
    pub batch_records: u32,
    /// Messages under way without acknowledgement.
    pub window: u32,
    /// After this a message is sent again.
    pub ack_timeout: Duration,
    /// Records a second of what had waited for the connection.
    pub backlog_rate: u32,
    /// The first connection waits a random part of this.
    pub reconnect_initial_spread: Duration,
    /// After a good connection was lost, the waits begin with a random part of this.
    pub reconnect_spread: Duration,
    /// The longest wait between two attempts to connect.
    pub reconnect_cap: Duration,
    /// How often the device says what it runs.
    pub status_interval: Duration,
}

/// The way of a model onto this box.
#[derive(Clone, Debug)]
pub struct Deploy {
    /// The longest that one file may take to come.
    pub fetch_deadline: Duration,
    /// A transfer below 1 KiB/s over this time is cut and resumed.
    pub fetch_stall: Duration,
    /// The largest model file, bytes.
    pub artifact_bytes_max: u64,
    /// The most memory that a model under trial may map, bytes.
    pub trial_memory_bytes: u64,
    /// The longest that a trial may take.
    pub trial_deadline: Duration,
    /// The first wait before a failed fetch is tried again.
    pub retry: Duration,
}

/// Reads and checks the configuration at `path`, its drop-ins and the environment.
///
/// # Errors
/// When something is missing, unknown, out of range or cannot be read; the message names file and key.
pub fn load(path: &Path) -> Result<Config, SettingsError> {
    let documents = documents(path)?;
    let raw: Raw = settings::layered(&documents, std::env::vars())?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let digest = digest(&documents, std::env::vars());
    check(raw, digest, &Place { file: path, folder })
}

/// One digest over everything that makes the configuration; each text with its length before it, so that no two mean the same.
fn digest(documents: &[Document], variables: impl Iterator<Item = (String, String)>) -> Digest {
    let ours =
        |name: &str| name.strip_prefix("VEDETTE_").is_some_and(|rest| rest.contains("__") || rest.starts_with('_'));
    let mut variables: Vec<(String, String)> = variables.filter(|(name, _)| ours(name)).collect();
    variables.sort_unstable();
    let files = documents.iter().map(|document| document.text.as_str());
    let texts = files.chain(variables.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    Digest::of(&bytes)
}

/// The exit code for a configuration that was refused: not found when there is no such file, else a mistake of usage.
#[must_use]
pub fn exit_of_refused(path: &Path) -> Exit {
    if path.exists() { Exit::Usage } else { Exit::NotFound }
}

/// The file and its drop-ins: beside `agent.toml`, `agent.d/*.toml` in the order of their names.
fn documents(path: &Path) -> Result<Vec<Document>, SettingsError> {
    let mut documents = vec![document(path)?];
    let folder = path.with_extension("d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(documents),
        Err(e) => return Err(unreadable(&folder, &e)),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut paths = paths.map_err(|e| unreadable(&folder, &e))?;
    paths.retain(|p| p.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    for drop_in in paths {
        documents.push(document(&drop_in)?);
    }
    Ok(documents)
}

fn document(path: &Path) -> Result<Document, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
    Ok(Document { place: path.display().to_string(), text })
}

fn unreadable(path: &Path, error: &std::io::Error) -> SettingsError {
    let problem = format!("couldn't read it: {error}; name the configuration with --config or VEDETTE_CONFIG");
    SettingsError { place: path.display().to_string(), line: None, key: None, problem, nearest: None }
}

/// Where the configuration stands: errors name it, and paths are relative to its folder.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    file: &'a Path,
    folder: &'a Path,
}

impl Place<'_> {
    fn refuse(&self, key: &str, problem: impl fmt::Display) -> SettingsError {
        SettingsError::of_key(self.file.display().to_string(), key, problem.to_string())
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// A file that must be there and be readable.
    fn read(&self, key: &str, path: &Path) -> Result<String, SettingsError> {
        let path = self.path(path);
        std::fs::read_to_string(&path).map_err(|e| self.refuse(key, format!("couldn't read {}: {e}", path.display())))
    }
}

fn check(raw: Raw, digest: Digest, place: &Place<'_>) -> Result<Config, SettingsError> {
    let state = place.path(&raw.state.unwrap_or_else(|| PathBuf::from("/var/lib/vedette")));
    Ok(Config {
        device: raw.device,
        registry: raw.registry.map(|r| registry(r, place)).transpose()?,
        journal: journal(&raw.journal, place)?,
        retention: retention(&raw.retention, place)?,
        api: api(raw.api, &state, place)?,
        sync: sync(&raw.sync, place)?,
        deploy: deploy(&raw.deploy, place)?,
        streams: streams(raw.stream, place)?,
        digest,
        state,
    })
}

fn registry(raw: RawRegistry, place: &Place<'_>) -> Result<Registry, SettingsError> {
    let trust_file = raw.trust.unwrap_or_else(|| PathBuf::from("trust.toml"));
    let text = place.read("registry.trust", &trust_file)?;
    let trust = Trust::from_toml(&text)
        .map_err(|e| place.refuse("registry.trust", format!("{}: {e}", place.path(&trust_file).display())))?;
    Ok(Registry {
        broker: broker("registry.broker", &raw.broker, place)?,
        url: raw.url.map(|url| http_url(&url, place)).transpose()?,
        token: raw.token_file.map(|file| token(&file, place)).transpose()?,
        trust,
    })
}

fn api(raw: RawApi, state: &Path, place: &Place<'_>) -> Result<Api, SettingsError> {
    let http = match &raw.http {
        None => None,
        Some(text) => {
            let address: SocketAddr = text
                .parse()
                .map_err(|_| place.refuse("api.http", format!("\"{text}\" is not an address; write 127.0.0.1:PORT")))?;
            if !address.ip().is_loopback() {
                return Err(place.refuse(
                    "api.http",
                    format!(
                        "{address} is not a loopback address; the local interface answers on 127.0.0.1 or [::1] only"
                    ),
                ));
            }
            Some(address)
        }
    };
    Ok(Api { socket: raw.socket.map_or_else(|| state.join("agent.sock"), |s| place.path(&s)), http })
}

fn sync(raw: &RawSync, place: &Place<'_>) -> Result<Sync, SettingsError> {
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    Ok(Sync {
        batch_records: number(place, "sync.batch_records", raw.batch_records, 128, 1..=1024)?,
        window: number(place, "sync.window", raw.window, 8, 1..=64)?,
        ack_timeout: duration(place, "sync.ack_timeout", raw.ack_timeout, 10_000, 1_000..=10 * MINUTE)?,
        backlog_rate: number(place, "sync.backlog_rate", raw.backlog_rate, 5_000, 1..=1_000_000)?,
        reconnect_initial_spread: duration(
            place,
            "sync.reconnect_initial_spread",
            raw.reconnect_initial_spread,
            10_000,
            0..=HOUR,
        )?,
        reconnect_spread: duration(place, "sync.reconnect_spread", raw.reconnect_spread, 30_000, 0..=HOUR)?,
        reconnect_cap: duration(place, "sync.reconnect_cap", raw.reconnect_cap, 5 * MINUTE, 1_000..=HOUR)?,
        status_interval: duration(place, "sync.status_interval", raw.status_interval, 30_000, 1_000..=HOUR)?,
    })
}

fn deploy(raw: &RawDeploy, place: &Place<'_>) -> Result<Deploy, SettingsError> {
    const MINUTE: u64 = 60_000;
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    Ok(Deploy {
        fetch_deadline: duration(
            place,
            "deploy.fetch_deadline",
            raw.fetch_deadline,
            30 * MINUTE,
            1_000..=24 * 60 * MINUTE,
        )?,
        fetch_stall: duration(place, "deploy.fetch_stall", raw.fetch_stall, 30_000, 1_000..=10 * MINUTE)?,
        artifact_bytes_max: size(place, "deploy.artifact_max", raw.artifact_max, 64 * MIB, KIB..=256 * MIB)?,
        trial_memory_bytes: size(
            place,
            "deploy.trial_memory",
            raw.trial_memory,
            512 * MIB,
            64 * MIB..=16 * 1024 * MIB,
        )?,
        trial_deadline: duration(place, "deploy.trial_deadline", raw.trial_deadline, 60_000, 1_000..=60 * MINUTE)?,
        retry: duration(place, "deploy.retry", raw.retry, 5_000, 100..=5 * MINUTE)?,
    })
}

fn streams(raw: Vec<raw::RawStream>, place: &Place<'_>) -> Result<Vec<Stream>, SettingsError> {
    if raw.is_empty() || raw.len() > MAX_STREAMS {
        return Err(
            place.refuse("stream", format!("{} streams; write 1 to {MAX_STREAMS} [[stream]] tables", raw.len()))
        );
    }
    let mut streams: Vec<Stream> = Vec::with_capacity(raw.len());
    for one in raw {
        let checked = stream::check(one, place)?;
        if streams.iter().any(|s| s.name == checked.name) {
            return Err(place.refuse(
                &format!("stream {}", checked.name),
                "two streams have this name; a stream's name is its slot, so each needs its own",
            ));
        }
        streams.push(checked);
    }
    Ok(streams)
}

#[cfg(test)]
mod tests;
