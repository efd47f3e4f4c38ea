//! The real programs: where they lie, how one is run to its end, how one is started and ended.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

/// How many of a program's last lines are kept for a failure's message: a screenful.
const LINES_KEPT: usize = 200;

/// One of the programs that Vedette ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The device program, `vedette-agent`.
    Agent,
    /// The service, `vedette-registry`.
    Registry,
    /// The operator's tool, `vedette`.
    Vedette,
}

impl Program {
    /// The name that people type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "vedette-agent",
            Self::Registry => "vedette-registry",
            Self::Vedette => "vedette",
        }
    }

    /// Where the built program lies: in the folder that `VEDETTE_PROGRAMS` names, else beside this one in cargo's target
    /// folder.
    ///
    /// # Errors
    /// When it is not there; the message says which command builds it.
    pub fn path(self) -> anyhow::Result<PathBuf> {
        let here = std::env::current_exe().context("couldn't find the running program's own path")?;
        let named = std::env::var_os("VEDETTE_PROGRAMS").map(PathBuf::from);
        let beside = here.ancestors().skip(1).take(2).map(Path::to_owned);
        let found = named.into_iter().chain(beside).map(|dir| dir.join(self.name())).find(|path| path.is_file());
        found.with_context(|| {
            format!(
                "couldn't find {} beside {}: build it with `cargo build --release --workspace --bins`",
                self.name(),
                here.display()
            )
        })
    }

    /// A command of this program, with a clean stdin and none of the caller's `VEDETTE_…` settings.
    ///
    /// # Errors
    /// When the program was not built.
    pub fn command(self) -> anyhow::Result<Command> {
        let mut command = Command::new(self.path()?);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("VEDETTE_") {
                command.env_remove(key);
            }
        }
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// What a program that ran to its end left behind.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Ended {
    /// The output, when the program ended well.
    ///
    /// # Errors
    /// When it did not; with its own words.
    pub fn ok(self) -> anyhow::Result<Self> {
        anyhow::ensure!(self.code == 0, "ended with {}: {}{}", self.code, self.stdout, self.stderr);
        Ok(self)
    }

    /// The output as JSON, one object a line.
    ///
    /// # Errors
    /// When the program failed or a line is not JSON.
    pub fn json_lines(self) -> anyhow::Result<Vec<serde_json::Value>> {
        let ended = self.ok()?;
        let lines = ended.stdout.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run(mut command: Command) -> anyhow::Result<Ended> {
    let output = command.output().with_context(|| format!("couldn't start {command:?}"))?;
    Ok(Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program with arguments to its end.
///
/// # Errors
/// When it was not built or cannot be started.
pub fn run_program<A: AsRef<OsStr>>(program: Program, args: impl IntoIterator<Item = A>) -> anyhow::Result<Ended> {
    let mut command = program.command()?;
    command.args(args);
    run(command)
}

/// A program that stays up: its last lines are kept, and it is ended when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Starts a command and follows what it writes to standard error.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("couldn't start {command:?}"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = child.stderr.take() {
            let kept = Arc::clone(&lines);
            let mut file = std::fs::File::options().create(true).append(true).open(log)?;
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    use std::io::Write as _;
                    if writeln!(file, "{line}").is_err() {
                        return;
                    }
                    if let Ok(mut kept) = kept.lock() {
                        if kept.len() == LINES_KEPT {
                            kept.remove(0);
                        }
                        kept.push(line);
                    }
                }
            });
        }
        Ok(Self { name: name.to_owned(), child, lines })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines it wrote, one text.
    #[must_use]
    pub fn said(&self) -> String {
        self.lines.lock().map(|lines| lines.join("\n")).unwrap_or_default()
    }

    /// Waits for a line that `look` accepts.
    ///
    /// # Errors
    /// When the program ends first or the limit passes; with what it said.
    pub fn line<T>(&mut self, what: &str, limit: Duration, look: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let found = wait::until(what, limit, || {
            let found = self.said().lines().find_map(&look);
            if found.is_none()
                && let Some(status) = self.ended()?
            {
                return Ok(Some(Err(status)));
            }
            Ok(found.map(Ok))
        });
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(status)) => anyhow::bail!("{} ended ({status}) before {what}: {}", self.name, self.said()),
            Err(error) => Err(error.context(format!("{} said: {}", self.name, self.said()))),
        }
    }

    /// How it ended, when it did.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        let what = format!("{} to end", self.name);
        wait::until(&what, limit, || Ok(self.child.try_wait()?))
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let raw = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(raw).context("a process id is never 0")?;
        rustix::process::kill_process(pid, signal)?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.kill().is_err() {
            eprintln!("couldn't end {} (process {})", self.name, self.child.id());
        }
    }
}
