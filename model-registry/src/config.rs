//! The configuration: `registry.toml`, the drop-ins in `registry.d/*.toml` beside it, and `VEDETTE_<TABLE>__<KEY>` from the
//! environment, each laid over the one before. Read raw, then checked once; nobody else looks at the raw text.
//!
//! | key | default | |
//! |---|---|---|
//! | `state` | `/var/lib/vedette-registry` | folder of the state; made if it is not there |
//! | `http.listen` | `127.0.0.1:8080` | address of the REST API; port 0 takes a free one |
//! | `http.max_artifact` | `256MiB` | largest file, 1 KiB to 256 MiB |
//! | `http.max_body` | `1MiB` | largest JSON body, 1 KiB to 16 MiB |
//! | `broker.embedded` | `true` without `url` | run a broker in this process |
//! | `broker.listen` | `127.0.0.1:1883` | where the embedded one listens; port 0 takes a free one |
//! | `broker.url` | – | the broker to use instead, `mqtt://host:port` |
//! | `keys.trust` | `keys/trust.toml` | public keys of the roles `models` and `fleet` |
//! | `keys.fleet` | `keys/fleet.key` | private key that signs assignments, readable by its owner only |
//! | `assignment.lifetime` | `7d` | how long a device may install an assignment, 1 minute to 1 year |
//!
//! Paths are relative to the folder of `registry.toml`.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use vedette_protocol::key::{SigningKey, Trust};
use vedette_protocol::limit::MAX_ARTIFACT_BYTES;
use vedette_protocol::settings::{Document, DurationText, SettingsError, SizeText, layered};

use crate::registry::Keys;

const BODY_BYTES: u64 = 1024 * 1024;
const BODY_BYTES_RANGE: std::ops::RangeInclusive<u64> = 1024..=16 * 1024 * 1024;
const ARTIFACT_BYTES_RANGE: std::ops::RangeInclusive<u64> = 1024..=MAX_ARTIFACT_BYTES;
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const LIFETIME_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(365 * 24 * 60 * 60);
/// Drop-ins read at most: a folder with more is not one of drop-ins.
const DROP_INS_MAX: usize = 64;

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of the state.
    pub state: PathBuf,
    /// The REST API.
    pub http: Http,
    /// The broker.
    pub broker: Broker,
    /// The key files.
    pub keys: KeyFiles,
    /// How long an assignment may be installed, in ms.
    pub assignment_lifetime_ms: i64,
    /// The program that tries models; not in the file.
    pub trial: TrialProgram,
}

/// The REST API.
#[derive(Clone, Debug)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Largest uploaded file, in bytes.
    pub max_artifact_bytes: u64,
    /// Largest JSON body, in bytes.
    pub max_body_bytes: usize,
}

/// The broker that carries what devices say and are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// In this process.
    Embedded {
        /// Where it listens.
        listen: SocketAddr,
    },
    /// Elsewhere.
    External {
        /// `mqtt://host:port`.
        url: String,
    },
}

/// The key files.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// Public keys of the roles.
    pub trust: PathBuf,
    /// Private key of the fleet role.
    pub fleet: PathBuf,
}

/// How a model is tried before admission: a child process, so that no model can harm the registry.
#[derive(Clone, Debug)]
pub struct TrialProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl TrialProgram {
    /// This very program with its hidden command `trial`.
    ///
    /// # Errors
    ///
    /// The system does not tell where this program lies.
    pub fn own() -> anyhow::Result<TrialProgram> {
        let program = std::env::current_exe().context("couldn't find out where this program lies")?;
        Ok(TrialProgram { program, args: vec!["trial".to_owned()] })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    state: PathBuf,
    http: RawHttp,
    broker: RawBroker,
    keys: RawKeys,
    assignment: RawAssignment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    listen: SocketAddr,
    max_artifact: SizeText,
    max_body: SizeText,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBroker {
    embedded: Option<bool>,
    listen: Option<SocketAddr>,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKeys {
    trust: PathBuf,
    fleet: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAssignment {
    lifetime: DurationText,
}

impl Default for Raw {
    fn default() -> Raw {
        Raw {
            state: PathBuf::from("/var/lib/vedette-registry"),
            http: RawHttp::default(),
            broker: RawBroker::default(),
            keys: RawKeys::default(),
            assignment: RawAssignment::default(),
        }
    }
}

impl Default for RawHttp {
    fn default() -> RawHttp {
        RawHttp {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_artifact: SizeText::new(MAX_ARTIFACT_BYTES),
            max_body: SizeText::new(BODY_BYTES),
        }
    }
}

impl Default for RawKeys {
    fn default() -> RawKeys {
        RawKeys { trust: PathBuf::from("keys/trust.toml"), fleet: PathBuf::from("keys/fleet.key") }
    }
}

impl Default for RawAssignment {
    fn default() -> RawAssignment {
        RawAssignment { lifetime: DurationText::new(LIFETIME) }
    }
}

/// Reads and checks the configuration at `path`, with its drop-ins and the process's environment.
///
/// # Errors
///
/// A file cannot be read; a key is unknown, of a wrong shape or out of range. The message names file, key and way out.
pub fn load(path: &Path) -> anyhow::Result<Config> {
    let documents = documents(path)?;
    // A variable that is not text cannot be one of ours.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let raw: Raw = layered(&documents, environment)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    check(raw, folder, &path.display().to_string())
}

fn documents(path: &Path) -> anyhow::Result<Vec<Document>> {
    let mut documents = vec![document(path)?];
    let drop_ins = path.with_extension("d");
    if drop_ins.is_dir() {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&drop_ins).with_context(|| format!("couldn't read {}", drop_ins.display()))? {
            files.push(entry.with_context(|| format!("couldn't read {}", drop_ins.display()))?.path());
        }
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        if files.len() > DROP_INS_MAX {
            bail!("{} has {} drop-ins, {DROP_INS_MAX} are read at most", drop_ins.display(), files.len());
        }
        for file in &files {
            documents.push(document(file)?);
        }
    }
    Ok(documents)
}

fn document(path: &Path) -> anyhow::Result<Document> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("couldn't read the configuration {} (give another with --config)", path.display()))?;
    Ok(Document { place: path.display().to_string(), text })
}

fn check(raw: Raw, folder: &Path, place: &str) -> anyhow::Result<Config> {
    let refuse = |key: &str, problem: String| SettingsError::of_key(place, key, problem);
    let max_artifact_bytes = raw.http.max_artifact.bytes();
    if !ARTIFACT_BYTES_RANGE.contains(&max_artifact_bytes) {
        return Err(refuse("http.max_artifact", format!("is {}: give 1KiB to 256MiB", raw.http.max_artifact)).into());
    }
    if !BODY_BYTES_RANGE.contains(&raw.http.max_body.bytes()) {
        return Err(refuse("http.max_body", format!("is {}: give 1KiB to 16MiB", raw.http.max_body)).into());
    }
    let lifetime = raw.assignment.lifetime.get();
    if !LIFETIME_RANGE.contains(&lifetime) {
        return Err(refuse("assignment.lifetime", format!("is {}: give 1m to 365d", raw.assignment.lifetime)).into());
    }
    Ok(Config {
        state: folder.join(raw.state),
        http: Http { listen: raw.http.listen, max_artifact_bytes, max_body_bytes: raw.http.max_body.as_usize() },
        broker: check_broker(raw.broker, place)?,
        keys: KeyFiles { trust: folder.join(raw.keys.trust), fleet: folder.join(raw.keys.fleet) },
        assignment_lifetime_ms: i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX),
        trial: TrialProgram::own()?,
    })
}

fn check_broker(raw: RawBroker, place: &str) -> Result<Broker, SettingsError> {
    let refuse = |key, problem: &str| Err(SettingsError::of_key(place, key, problem));
    match (raw.embedded, raw.listen, raw.url) {
        (None | Some(true), listen, None) => {
            Ok(Broker::Embedded { listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 1883))) })
        }
        (None | Some(false), None, Some(url)) => Ok(Broker::External { url }),
        (Some(true), _, Some(_)) => {
            refuse("broker.url", "names a broker elsewhere while `embedded = true`: remove one of the two")
        }
        (None | Some(false), Some(_), Some(_)) | (Some(false), Some(_), None) => {
            refuse("broker.listen", "is where the embedded broker listens, and that is off: remove `listen`")
        }
        (Some(false), None, None) => refuse(
            "broker.url",
            "is missing: with `embedded = false` say which broker to use, as in \"mqtt://127.0.0.1:1883\"",
        ),
    }
}

/// Reads the keys that the registry works with.
///
/// # Errors
///
/// A file is missing or not a key, the private key is readable by others, or it is not one of the fleet role.
pub fn load_keys(files: &KeyFiles) -> anyhow::Result<Keys> {
    const WAY: &str = "make the keys with `vedette keys init --dir DIR` and name them in registry.toml under [keys]";
    let text = std::fs::read_to_string(&files.trust)
        .with_context(|| format!("couldn't read the public keys {}: {WAY}", files.trust.display()))?;
    let trust = Trust::from_toml(&text).with_context(|| format!("couldn't use {}", files.trust.display()))?;
    let metadata = std::fs::metadata(&files.fleet)
        .with_context(|| format!("couldn't read the fleet key {}: {WAY}", files.fleet.display()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        bail!(
            "the fleet key {} can be read by others: run `chmod 600 {}`",
            files.fleet.display(),
            files.fleet.display()
        );
    }
    let fleet = read_key(&files.fleet)?;
    if !trust.fleet.keys.contains(&fleet.public()) {
        bail!(
            "the key {} is not one of the role `fleet` in {}: no device would believe its assignments",
            files.fleet.display(),
            files.trust.display()
        );
    }
    if trust.fleet.threshold > 1 {
        bail!(
            "the role `fleet` in {} demands {} signatures, and this registry holds one key: set its threshold to 1",
            files.trust.display(),
            trust.fleet.threshold
        );
    }
    Ok(Keys { trust, fleet })
}

fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("couldn't read the key {}", path.display()))?;
    SigningKey::from_pem(&text).with_context(|| format!("couldn't use the key {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> anyhow::Result<Config> {
        let document = Document { place: "registry.toml".to_owned(), text: text.to_owned() };
        let raw: Raw = layered(&[document], [])?;
        check(raw, Path::new("/etc/vedette"), "registry.toml")
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", read(text).unwrap_err())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = read("").unwrap();
        assert_eq!(config.state, Path::new("/var/lib/vedette-registry"));
        assert_eq!(config.keys.fleet, Path::new("/etc/vedette/keys/fleet.key"));
        assert_eq!(config.broker, Broker::Embedded { listen: "127.0.0.1:1883".parse().unwrap() });
        assert_eq!(config.assignment_lifetime_ms, 604_800_000);
    }

    #[test]
    fn one_line_names_another_broker() {
        let config = read("broker.url = \"mqtt://10.0.0.5:1883\"").unwrap();
        assert_eq!(config.broker, Broker::External { url: "mqtt://10.0.0.5:1883".to_owned() });
    }

    #[test]
    fn a_broker_that_is_both_here_and_elsewhere_is_refused() {
        let said = refusal("[broker]\nembedded = true\nurl = \"mqtt://10.0.0.5:1883\"");
        assert!(said.contains("broker.url") && said.contains("remove one"), "{said}");
        let said = refusal("[broker]\nlisten = \"127.0.0.1:0\"\nurl = \"mqtt://10.0.0.5:1883\"");
        assert!(said.contains("broker.listen") && said.contains("remove `listen`"), "{said}");
        let said = refusal("[broker]\nembedded = false");
        assert!(said.contains("broker.url") && said.contains("is missing"), "{said}");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let said = refusal("[http]\nlissten = \"127.0.0.1:1\"");
        assert!(said.contains("registry.toml:2") && said.contains("did you mean `listen`"), "{said}");
    }

    #[test]
    fn values_out_of_range_name_the_key_and_the_range() {
        for (text, key) in [
            ("[http]\nmax_artifact = \"1GiB\"", "http.max_artifact"),
            ("[http]\nmax_body = \"1B\"", "http.max_body"),
            ("[assignment]\nlifetime = \"1s\"", "assignment.lifetime"),
        ] {
            let said = refusal(text);
            assert!(said.contains(key) && said.contains("give "), "{said}");
        }
    }
}
