//! Mosquitto, the broker that people run, on a free port and without persistence.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::programs::Running;
use crate::wait;

/// A Mosquitto of our own: it forgets everything at a restart, which is the harder case for its clients.
#[derive(Debug)]
pub struct Mosquitto {
    running: Running,
    port: u16,
    dir: PathBuf,
}

/// Whether Mosquitto is installed; a story that needs it says so and counts as skipped without it.
#[must_use]
pub fn mosquitto_path() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// A port that was free a moment ago.
///
/// # Errors
/// When the loopback interface has none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Mosquitto {
    /// Starts it on a free port, its files in `dir`.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_on(dir, free_port()?)
    }

    fn start_on(dir: &Path, port: u16) -> anyhow::Result<Self> {
        let program = mosquitto_path().context("mosquitto is not installed: `apt-get install mosquitto`")?;
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 512\nmax_queued_messages 10000\n"
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&config);
        let running = Running::start("mosquitto", command, &dir.join("mosquitto.log"))?;
        wait::until_true("mosquitto to accept connections", Duration::from_secs(10), || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })
        .with_context(|| format!("mosquitto said: {}", running.said()))?;
        Ok(Self { running, port, dir: dir.to_owned() })
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Kills it, as a power cut in the broker's room would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.running.kill()
    }

    /// Starts it again on the same port, knowing nothing of before.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        *self = Self::start_on(&self.dir.clone(), self.port)?;
        Ok(())
    }
}
