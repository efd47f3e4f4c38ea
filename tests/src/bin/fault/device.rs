//! A device under load: a real agent whose stream alarms on most rows, and a way to stop and to ask it without delay.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::Value;
use vedette_tests::agent::Agent;
use vedette_tests::programs::{Program, Running, run_program};
use vedette_tests::wait;

/// The one device of the suite.
pub(crate) const DEVICE: &str = "box-1";

/// Its one stream.
pub(crate) const STREAM: &str = "load";

/// The longest that a start may take until somebody answers, on a machine with other things to do.
pub(crate) const UP_WITHIN: Duration = Duration::from_secs(20);

/// How long one question to the local interface may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Signals of the load's rows.
const SIGNALS: u64 = 64;

/// Rows for which a signal may be absent before that is a finding (the scorer's rule for a stream without a model).
const ABSENT_ROWS: u64 = 10;

/// Rows after which the load begins again.
const CYCLE: u64 = SIGNALS + ABSENT_ROWS + 2;

/// Whether the load's row, counted from the agent's start, is an anomaly: signal `i` is absent from row `i + 1` of the
/// cycle on, so that from row 11 on each row has one more that is missing for too long.
pub(crate) fn is_anomaly(row: u64) -> bool {
    (ABSENT_ROWS + 1..CYCLE - 1).contains(&(row % CYCLE))
}

/// The load as CSV.
fn rows() -> String {
    let names: Vec<_> = (0..SIGNALS).map(|signal| format!("signal-{signal}")).collect();
    let rows = (0..CYCLE).map(|row| {
        let cells: Vec<_> = (0..SIGNALS).map(|signal| if row > signal { "" } else { "1" }).collect();
        cells.join(",") + "\n"
    });
    names.join(",") + "\n" + &rows.collect::<String>()
}

/// An agent, its configuration, and the folder with its state.
#[derive(Debug)]
pub(crate) struct Device {
    dir: PathBuf,
    agent: Agent,
    environment: Vec<(OsString, OsString)>,
    running: Option<Running>,
}

impl Device {
    /// Writes configuration, keys and load into `dir`: so many rows a second, to the broker at `broker`. `tables` are lines of
    /// `agent.toml` beside these; the state goes to `state`, which is made, or to `dir` when it is `None`.
    ///
    /// # Errors
    /// When a file cannot be written or the keys cannot be made.
    pub(crate) fn new(
        dir: &Path,
        state: Option<&Path>,
        broker: &str,
        rows_per_s: u32,
        tables: &str,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        if !dir.join("keys").exists() {
            run_program(
                Program::Vedette,
                ["keys".as_ref(), "init".as_ref(), "--dir".as_ref(), dir.join("keys").as_os_str()],
            )?
            .ok()
            .context("couldn't make the keys")?;
        }
        std::fs::write(dir.join("load.csv"), rows())?;
        let config = format!(
            "[registry]\nbroker = \"{broker}\"\ntrust = \"keys/trust.toml\"\n\n\
             [sync]\nstatus_interval = \"1s\"\nreconnect_initial_spread = \"0s\"\nreconnect_spread = \"0s\"\nreconnect_cap = \"1s\"\n\n{tables}\n\
             [[stream]]\nname = \"{STREAM}\"\nsource = \"replay\"\nfile = \"load.csv\"\nrepeat = true\nbaseline = false\n\
             start = \"2026-09-01T00:00:00Z\"\nstep = \"1s\"\nspeed = {rows_per_s}.0\nunits = {{ default = \"1\" }}\n"
        );
        let agent = Agent::with_config(dir, DEVICE, &config)?;
        if let Some(state) = state {
            let text = std::fs::read_to_string(agent.config())?;
            let named = text.replace("state = \"state\"", &format!("state = \"{}\"", state.display()));
            std::fs::write(agent.config(), named)?;
        }
        let dir = state.map_or_else(|| dir.join("state"), Path::to_owned);
        Ok(Self { dir, agent, environment: Vec::new(), running: None })
    }

    /// A variable of the agent's environment at its next start.
    pub(crate) fn set_environment(&mut self, key: &str, value: impl Into<OsString>) {
        self.environment.push((key.into(), value.into()));
    }

    /// The agent, for its commands.
    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The state folder.
    pub(crate) fn state(&self) -> &Path {
        &self.dir
    }

    /// The journal's folder.
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// Starts the agent and does not wait.
    ///
    /// # Errors
    /// When the program was not built.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let mut command = self.agent.command()?;
        command.envs(self.environment.iter().cloned());
        self.running = Some(Running::start("vedette-agent", command, &self.agent.dir().join("agent.log"))?);
        Ok(())
    }

    /// Waits until the agent's status is as `wanted`, and gives it.
    ///
    /// # Errors
    /// When the agent ends, or the limit passes.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            self.alive()?;
            let answer = self.status();
            if let Ok(status) = &answer
                && wanted(status)
            {
                return answer;
            }
            if Instant::now() >= deadline {
                let last = answer.map_or_else(|error| format!("{error:#}"), |status| in_short(&status));
                anyhow::bail!("waited {} s for {what}: {last}", limit.as_secs());
            }
            wait::a_moment();
        }
    }

    /// What the agent says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        let mut socket = UnixStream::connect(self.dir.join("agent.sock"))?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        socket.write_all(b"GET /v1/status HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        Ok(serde_json::from_str(body)?)
    }

    /// Says so when the agent has ended by itself.
    ///
    /// # Errors
    /// With what it said, when it did.
    pub(crate) fn alive(&mut self) -> anyhow::Result<()> {
        let running = self.running.as_mut().context("the agent is down")?;
        if let Some(status) = running.ended()? {
            anyhow::bail!("the agent ended by itself ({status}): {}", last_lines(&running.said()));
        }
        anyhow::ensure!(!running.said().contains("panicked"), "the agent panicked: {}", last_lines(&running.said()));
        Ok(())
    }

    /// Stops all threads of the agent where they are, and returns when they stand.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn freeze(&mut self) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("the agent is down")?;
        running.signal(Signal::STOP)?;
        let tasks = PathBuf::from(format!("/proc/{}/task", running.id()));
        let deadline = Instant::now() + UP_WITHIN;
        while !all_stand(&tasks)? {
            anyhow::ensure!(Instant::now() < deadline, "a thread of the agent goes on after SIGSTOP");
            wait::a_moment();
        }
        Ok(())
    }

    /// Kills the agent.
    ///
    /// # Errors
    /// When it is down already.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.running.take().context("the agent is down")?.kill()
    }

    /// Asks the agent to end, and waits.
    ///
    /// # Errors
    /// When it does not end well.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let mut running = self.running.take().context("the agent is down")?;
        let status = running.stop(UP_WITHIN)?;
        anyhow::ensure!(status.success(), "the agent ended with {status}: {}", last_lines(&running.said()));
        Ok(())
    }
}

/// The state of the load's stream in a status.
pub(crate) fn stream(status: &Value) -> &Value {
    &status["streams"][0]
}

/// The part of a status that is about the disk and the line.
pub(crate) fn in_short(status: &Value) -> String {
    let told = ["next_sequence", "committed", "acked", "held", "lost", "degraded"];
    let told = told.map(|key| format!("{key} {}", status[key]));
    format!("{}, connected {}", told.join(", "), status["registry"]["connected"])
}

/// Rows scored since the agent's start.
pub(crate) fn rows_scored(status: &Value) -> u64 {
    stream(status)["rows"].as_u64().unwrap_or(0)
}

/// Whether every thread is stopped (or gone).
fn all_stand(tasks: &Path) -> anyhow::Result<bool> {
    for task in std::fs::read_dir(tasks)? {
        let Ok(text) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        // The name in parentheses may hold anything; the state is the first letter behind it.
        let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if !matches!(state, Some('T' | 'Z' | 'X')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Enough of a log to see why: a screenful would drown the table.
fn last_lines(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_of_the_load_makes_one_anomaly_a_cycle() {
        let anomalies = |rows: std::ops::Range<u64>| rows.filter(|row| is_anomaly(*row)).count() as u64;
        assert_eq!((anomalies(0..CYCLE), anomalies(CYCLE..2 * CYCLE)), (SIGNALS, SIGNALS));
        assert_eq!(rows().lines().count() as u64, 1 + CYCLE);
    }
}
