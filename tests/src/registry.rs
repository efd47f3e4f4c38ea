//! A registry of our own: keys, configuration, first token, the running service, and the operator's tool against it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::programs::{Ended, Program, Running, run, run_program};

/// How long the service may take until it says where it listens.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// Which broker stands between registry and devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// The one inside the registry.
    Embedded,
    /// One that runs by itself, at this URL.
    External(String),
}

/// A running `vedette-registry` with its folder, its keys and an administrator's token.
#[derive(Debug)]
pub struct Registry {
    running: Running,
    dir: PathBuf,
    url: String,
    broker: String,
    token: String,
}

impl Registry {
    /// Makes keys, configuration and a first token in `dir`, and starts the service on free ports.
    ///
    /// # Errors
    /// When a step fails; with the program's own words.
    pub fn start(dir: &Path, broker: &Broker) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        run_program(
            Program::Vedette,
            ["keys", "init", "--dir"].map(OsStr::new).into_iter().chain([dir.join("keys").as_os_str()]),
        )?
        .ok()
        .context("couldn't make the keys")?;
        let broker_lines = match broker {
            Broker::Embedded => "listen = \"127.0.0.1:0\"".to_owned(),
            Broker::External(url) => format!("url = \"{url}\""),
        };
        let text = format!(
            "state = \"state\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n[broker]\n{broker_lines}\n\n[keys]\ntrust = \"keys/trust.toml\"\nfleet = \"keys/fleet.key\"\n"
        );
        std::fs::write(dir.join("registry.toml"), text)?;
        let mut init = Program::Registry.command()?;
        init.args(["init", "--config"]).arg(dir.join("registry.toml"));
        let made = run(init)?.ok().context("couldn't make the first token")?;
        let token = made.stdout.trim().to_owned();
        std::fs::write(dir.join("admin.token"), &token)?;
        Self::serve(dir, token)
    }

    fn serve(dir: &Path, token: String) -> anyhow::Result<Self> {
        let mut command = Program::Registry.command()?;
        command.args(["serve", "--config"]).arg(dir.join("registry.toml"));
        let mut running = Running::start("vedette-registry", command, &dir.join("registry.log"))?;
        let (url, broker) = running.line("the registry to listen", UP_WITHIN, listening)?;
        Ok(Self { running, dir: dir.to_owned(), url, broker, token })
    }

    /// Where the REST API answers.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The broker that devices should use.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The folder with `registry.toml`, keys and state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The administrator's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The service's own log so far (its last lines).
    #[must_use]
    pub fn said(&self) -> String {
        self.running.said()
    }

    /// The process id of the service.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Kills the service.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.running.kill()
    }

    /// Starts the service again on the same ports, with what its folder holds.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let config = self.dir.join("registry.toml");
        let text = std::fs::read_to_string(&config)?;
        let (http, mqtt) = (address(&self.url), address(&self.broker));
        let text = text.replacen("127.0.0.1:0", http, 1).replacen("127.0.0.1:0", mqtt, 1);
        std::fs::write(&config, text)?;
        *self = Self::serve(&self.dir.clone(), self.token.clone())?;
        Ok(())
    }

    /// Asks the service to end and waits.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.running.stop(Duration::from_secs(20))?;
        Ok(())
    }

    /// `vedette ARGS` as the administrator, to its end.
    ///
    /// # Errors
    /// When the tool cannot be started.
    pub fn vedette<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<Ended> {
        let mut command = Program::Vedette.command()?;
        command.env("VEDETTE_URL", &self.url).env("VEDETTE_TOKEN", &self.token);
        command.args(args);
        run(command)
    }

    /// `vedette ARGS --json`, parsed.
    ///
    /// # Errors
    /// When the tool fails or prints something else.
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<Vec<Value>> {
        let args: Vec<_> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        self.vedette(args.iter().map(AsRef::as_ref).chain([OsStr::new("--json")]))?.json_lines()
    }

    /// Pushes a model version from a folder with `model.onnx` and `manifest.toml`.
    ///
    /// # Errors
    /// When the tool cannot be started; a refusal is in what it returns.
    pub fn push(&self, model_dir: &Path) -> anyhow::Result<Ended> {
        let (onnx, manifest, key) =
            (model_dir.join("model.onnx"), model_dir.join("manifest.toml"), self.dir.join("keys/models.key"));
        self.vedette([
            OsStr::new("push"),
            onnx.as_os_str(),
            OsStr::new("--manifest"),
            manifest.as_os_str(),
            OsStr::new("--key"),
            key.as_os_str(),
        ])
    }

    /// Assigns a model version to a device's stream.
    ///
    /// # Errors
    /// When the registry refuses.
    pub fn assign(&self, device: &str, stream: &str, model: &str) -> anyhow::Result<()> {
        self.vedette(["devices", "assign", device, &format!("{stream}={model}")])?.ok()?;
        Ok(())
    }
}

/// The `host:port` of a URL without a path.
fn address(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

/// Reads the service's line about where it listens.
fn listening(line: &str) -> Option<(String, String)> {
    let word = |start: &str| line.split_whitespace().find(|word| word.starts_with(start)).map(str::to_owned);
    line.contains("listening").then(|| Some((word("http://")?, word("mqtt://")?)))?
}
