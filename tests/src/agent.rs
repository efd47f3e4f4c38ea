//! An agent of our own: its configuration, the running program, and its commands.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::programs::{Ended, Program, Running, run};
use crate::registry::Registry;
use crate::wait;

/// How long an agent may take until its local API answers.
const UP_WITHIN: Duration = Duration::from_secs(20);

/// A `vedette-agent` with its folder; it may run or be down.
#[derive(Debug)]
pub struct Agent {
    dir: PathBuf,
    device: String,
    running: Option<Running>,
}

impl Agent {
    /// Writes the configuration of a device into `dir`: the registry to report to (if any) and its streams as TOML.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new(dir: &Path, device: &str, registry: Option<&Registry>, streams: &str) -> anyhow::Result<Self> {
        let table = match registry {
            None => String::new(),
            Some(registry) => {
                std::fs::create_dir_all(dir)?;
                std::fs::copy(registry.dir().join("keys/trust.toml"), dir.join("trust.toml"))?;
                std::fs::write(dir.join("device.token"), registry.token())?;
                format!(
                    "[registry]\nbroker = \"{}\"\nurl = \"{}\"\ntoken_file = \"device.token\"\ntrust = \"trust.toml\"\n",
                    registry.broker(),
                    registry.url()
                )
            }
        };
        Self::with_config(
            dir,
            device,
            &format!(
                "{table}\n[sync]\nstatus_interval = \"1s\"\nreconnect_initial_spread = \"0s\"\nreconnect_cap = \"1s\"\n\n[journal]\ncheckpoint_interval = \"1s\"\n\n{streams}"
            ),
        )
    }

    /// Writes a configuration whose tables after `device` and `state` are given as they are.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn with_config(dir: &Path, device: &str, tables: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("agent.toml"), format!("device = \"{device}\"\nstate = \"state\"\n\n{tables}"))?;
        Ok(Self { dir: dir.to_owned(), device: device.to_owned(), running: None })
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The folder with `agent.toml` and `state`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// The command that runs it, not yet started.
    ///
    /// # Errors
    /// When the program was not built.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = Program::Agent.command()?;
        command.args(["run", "--config"]).arg(self.config());
        Ok(command)
    }

    /// Starts it and waits until its local API answers.
    ///
    /// # Errors
    /// When it ends or stays silent; with what it said.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let running = Running::start("vedette-agent", self.command()?, &self.dir.join("agent.log"))?;
        let running = self.running.insert(running);
        let config = self.dir.join("agent.toml");
        wait::until("the agent's status", UP_WITHIN, || {
            if let Some(status) = running.ended()? {
                return Ok(Some(Err(anyhow::anyhow!("the agent ended ({status}): {}", running.said()))));
            }
            let mut status = Program::Agent.command()?;
            status.args(["status", "--json", "--config"]).arg(&config);
            Ok((run(status)?.code == 0).then_some(Ok(())))
        })?
    }

    /// The running program.
    ///
    /// # Errors
    /// When it is down.
    pub fn running(&mut self) -> anyhow::Result<&mut Running> {
        self.running.as_mut().ok_or_else(|| anyhow::anyhow!("the agent is down"))
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it is down already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.running()?.kill()?;
        self.running = None;
        Ok(())
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let status = self.running()?.stop(Duration::from_secs(20))?;
        anyhow::ensure!(status.success(), "the agent ended with {status}: {}", self.running()?.said());
        self.running = None;
        Ok(())
    }

    /// `vedette-agent ARGS --config …` to its end.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn cli<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<Ended> {
        let mut command = Program::Agent.command()?;
        command.args(args).arg("--config").arg(self.config());
        run(command)
    }

    /// `vedette-agent ARGS --json --config …`, parsed.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<Vec<Value>> {
        let args: Vec<_> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        self.cli(args.iter().map(AsRef::as_ref).chain([OsStr::new("--json")]))?.json_lines()
    }

    /// Its status, one object.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<Value> {
        self.json(["status"])?.into_iter().next().ok_or_else(|| anyhow::anyhow!("status printed nothing"))
    }
}
