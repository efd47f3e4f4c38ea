//! The fault suite: what breaks in the field, done to the real programs and to the journal, again and again, and what was
//! acknowledged before is asked for afterwards.
//!
//! `cargo run --release --bin fault -- [--long] [--only NAME,…] [--seed N] [--json FILE] [--markdown FILE]` prints one table
//! and ends with 1 when a promise was missed. A fault that this machine cannot make (no root, no loop device, a program that
//! is not installed) says so and counts neither way. The programs must be built: `cargo build --release --workspace --bins`.

mod account;
mod arrived;
mod backlog;
mod chaos;
mod clock;
mod device;
mod disk_full;
mod herd;
mod kill;
mod offline;
mod power;
mod pulse;
mod read_only;
mod rot;
mod setting;
mod simulated;
mod table;
mod uplink;
mod wear;

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;

use setting::{Interrupted, Setting};
use table::{Line, Row, Table};

/// A fault of the suite.
struct Fault {
    /// What `--only` calls it.
    name: &'static str,
    /// What is done, in a few words.
    about: &'static str,
    /// Does it and counts.
    run: fn(&Setting) -> anyhow::Result<Row>,
}

/// All of them, in the order in which they run.
const FAULTS: &[Fault] = &[
    Fault { name: "simulated", about: "power cuts at every operation of a simulated disk", run: simulated::run },
    Fault { name: "rot", about: "bits flipped and pages zeroed or misplaced in a closed journal", run: rot::run },
    Fault { name: "chaos", about: "broken lines and a broker killed every two seconds", run: chaos::run },
    Fault { name: "offline", about: "seven days without the registry, in virtual time", run: offline::run },
    Fault { name: "herd", about: "10,000 devices whose broker comes back", run: herd::run },
    Fault { name: "wear", about: "bytes that reach the device, beside other stores", run: wear::run },
    Fault { name: "power", about: "real power cuts under a loaded agent", run: power::run },
    Fault {
        name: "bites",
        about: "the same cuts with every sync eaten: they must lose something",
        run: power::run_without_sync,
    },
    Fault { name: "kill", about: "SIGKILL under load, and how fast it scores again", run: kill::run },
    Fault { name: "disk_full", about: "a small disk that somebody else fills to the last byte", run: disk_full::run },
    Fault {
        name: "read_only",
        about: "a disk that refuses every write, for a while and for good",
        run: read_only::run,
    },
    Fault { name: "clock", about: "a start in 1970 and jumps of up to 100 years", run: clock::run },
];

/// Set for the process that has mounts of its own.
const OWN_MOUNTS: &str = "FAULT_OWN_MOUNTS";

/// Breaks things and counts what is lost.
#[derive(Debug, Parser)]
#[command(name = "fault", max_term_width = 100)]
struct Arguments {
    /// Ten times as much and more: for the night.
    #[arg(long)]
    long: bool,
    /// Only these faults.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Where the random numbers begin; a run prints its own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Writes the table as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the table as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Lists the faults and does nothing.
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for fault in FAULTS {
            println!("{:<12} {}", fault.name, fault.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&arguments.only)?;
    with_own_mounts()?;
    let seed = arguments.seed.unwrap_or_else(setting::fresh_seed);
    let setting = Setting::new(arguments.long, seed)?;
    let mut table = Table::new(arguments.long, seed);
    for fault in chosen {
        table.lines.push(run(fault, &setting));
        if setting.check().is_err() {
            break;
        }
    }
    setting.clear();
    println!("{table}");
    write(arguments.json.as_ref(), &table.json()?)?;
    write(arguments.markdown.as_ref(), &table.markdown())?;
    Ok(if table.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one fault to its row, whatever happens inside.
fn run(fault: &Fault, setting: &Setting) -> Line {
    setting.begin(fault.name);
    let began = Instant::now();
    let row = (fault.run)(setting).unwrap_or_else(|error| {
        let why = if error.is::<Interrupted>() { "interrupted".to_owned() } else { format!("broke off: {error:#}") };
        Row { misses: vec![why], ..Row::default() }
    });
    let line = Line { name: fault.name, about: fault.about, row, time: began.elapsed() };
    if !std::io::stderr().is_terminal() {
        eprintln!("{:<12} {:>6.1} s   {}", line.name, line.time.as_secs_f64(), line.row.outcome());
    }
    line
}

/// The faults with these names; all when none is named.
fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Fault>> {
    for name in only {
        let known: Vec<_> = FAULTS.iter().map(|fault| fault.name).collect();
        anyhow::ensure!(known.contains(&name.as_str()), "there is no fault `{name}`; there are: {}", known.join(", "));
    }
    let wanted = |fault: &&Fault| only.is_empty() || only.iter().any(|name| name == fault.name);
    Ok(FAULTS.iter().filter(wanted).collect())
}

/// Goes on in a mount namespace of its own where the system lets us, so that no mount outlives this process, however it ends.
fn with_own_mounts() -> anyhow::Result<()> {
    let possible = || {
        let mut probe = Command::new("unshare");
        probe.args(["--mount", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    if std::env::var_os(OWN_MOUNTS).is_some() || !possible() {
        return Ok(());
    }
    let this = std::env::current_exe().context("couldn't find the running program's own path")?;
    let mut again = Command::new("unshare");
    again.arg("--mount").arg(OsStr::new(&this)).args(std::env::args_os().skip(1)).env(OWN_MOUNTS, "1");
    Err(again.exec()).context("couldn't go on with mounts of our own")
}

fn write(file: Option<&PathBuf>, text: &str) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text).with_context(|| format!("couldn't write {}", file.display()))
}
