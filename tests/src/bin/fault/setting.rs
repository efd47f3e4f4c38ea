//! What every fault gets: how much to do, random numbers that can be had again, a place to work in, and the way to stop.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use vedette_tests::random::Random;

/// Somebody asked the suite to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// How the suite runs.
#[derive(Debug)]
pub(crate) struct Setting {
    long: bool,
    seed: u64,
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Setting {
    /// A setting whose random numbers come from `seed`; from now on Ctrl-C and SIGTERM end the suite in order.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub(crate) fn new(long: bool, seed: u64) -> anyhow::Result<Self> {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        bar.set_style(ProgressStyle::with_template("{prefix:12} {bar:30} {pos}/{len} · {elapsed} · {msg}")?);
        Ok(Self { long, seed, bar, stop: listen()? })
    }

    /// How often to try.
    pub(crate) fn tries(&self, quick: u64, long: u64) -> u64 {
        if self.long { long } else { quick }
    }

    /// Where all random numbers begin: what `--seed` says.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Random numbers of a fault's own: the same seed gives the same, whichever other faults run.
    pub(crate) fn random(&self, fault: &str) -> Random {
        let seed = fault.bytes().fold(self.seed, |seed, byte| Random::new(seed ^ u64::from(byte)).number());
        Random::new(seed)
    }

    /// A folder of the fault's own, in memory where there is a place for it; removed when dropped.
    ///
    /// # Errors
    /// When no temporary folder can be written.
    pub(crate) fn scratch(&self) -> anyhow::Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("vedette-fault-");
        let memory = Path::new("/dev/shm");
        Ok(if memory.is_dir() {
            builder.tempdir_in(memory).or_else(|_| builder.tempdir())?
        } else {
            builder.tempdir()?
        })
    }

    /// Whether to go on; asked between any two tries.
    ///
    /// # Errors
    /// When the suite was asked to stop.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.stop.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// Shows how far a fault is, and asks whether to go on.
    ///
    /// # Errors
    /// When the suite was asked to stop.
    pub(crate) fn progress(&self, done: u64, of: u64, doing: &str) -> Result<(), Interrupted> {
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(doing.to_owned());
        self.check()
    }

    /// The bar belongs to this fault now.
    pub(crate) fn begin(&self, name: &'static str) {
        self.bar.reset();
        self.bar.set_message("");
        self.bar.set_prefix(name);
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A seed that no run had before.
pub(crate) fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}

/// Sets the flag at the first SIGINT or SIGTERM; at the second one the process ends as it would without us.
fn listen() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut once = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            once().await;
            flag.store(true, Ordering::Relaxed);
            eprintln!("stopping: what was mounted or started is ended first");
            once().await;
            std::process::exit(130);
        });
    });
    Ok(stop)
}
