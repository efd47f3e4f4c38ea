//! The story, in the order in which it happens.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use vedette_tests::agent::Agent;
use vedette_tests::programs::Program;
use vedette_tests::registry::{Broker, Registry};
use vedette_tests::sample::{self, COLLAPSE_ROW, INCIDENT_END_ROW, NEXT_INCIDENT_ROW, TRAINED_ROW};
use vedette_tests::{Scratch, wait};

use crate::Arguments;
use crate::outcome::{Outcome, Part, outcomes};
use crate::show::{Episodes, Screen, model_of, table};

/// The device, its replayed stream and the model's name.
const DEVICE: &str = "box-17";
const STREAM: &str = "server";
const MODEL: &str = "server-pca";

/// Replayed minutes a second: the four and a half days of the sample in about half a minute.
const ROWS_A_SECOND: u64 = 200;

/// The whole story may not take longer than this.
const AT_MOST: Duration = Duration::from_secs(85);

/// Anomalies that may wait between the reading thread and the screen; reading pauses when it is full.
const LINES_WAITING: usize = 1024;

/// Tells the story from the first key to the closing table.
pub(crate) fn tell(arguments: &Arguments) -> anyhow::Result<()> {
    build_programs()?;
    let started = Instant::now();
    let scratch = if arguments.dir.is_some() { None } else { Some(Scratch::new()?) };
    let dir = arguments.dir.clone().or_else(|| scratch.as_ref().map(|s| s.path().to_owned()));
    let dir = dir.context("no folder to work in")?;
    let labels = sample::labels()?;
    let screen = Screen::new(labels.len() as u64);

    let stage = Stage::set(&dir, &screen)?;
    stage.play(labels.len() as u64, started, &screen)?;
    let told = stage.judge(&labels)?;
    screen.done();
    stage.ask(&told, &screen)?;
    screen.heading("The table");
    println!("{}", table(&told.outcomes));
    if let Some(report) = &arguments.report {
        let text = serde_json::to_string_pretty(
            &json!({ "outcomes": told.outcomes, "host_rows": told.host_rows, "seconds": started.elapsed().as_secs() }),
        )?;
        std::fs::write(report, text + "\n").with_context(|| format!("couldn't write {}", report.display()))?;
    }
    stage.say_where(&screen);
    if !arguments.exit {
        println!("\nStays up until Ctrl-C.");
        wait_for_interrupt()?;
    }
    Ok(())
}

/// Builds the real programs beside this one: `cargo run` builds only what it runs.
fn build_programs() -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    eprintln!("Building vedette-agent, vedette-registry and vedette (minutes the first time) …");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--workspace", "--bins", "--manifest-path"]).arg(manifest);
    let status = command.status().context("couldn't run cargo")?;
    anyhow::ensure!(status.success(), "cargo couldn't build the programs");
    Ok(())
}

/// The programs on their stage.
struct Stage {
    registry: Registry,
    agent: Agent,
}

/// What the labels and the ledger say at the end.
struct Told {
    outcomes: Vec<Outcome>,
    swap_row: u64,
    host_rows: u64,
}

impl Stage {
    fn set(dir: &Path, screen: &Screen) -> anyhow::Result<Self> {
        screen.heading("A registry, its keys, and model version 1");
        let registry = Registry::start(&dir.join("registry"), &Broker::Embedded)?;
        screen.line(&format!("  vedette-registry at {}, broker at {}", registry.url(), registry.broker()));
        push(&registry, "v1", screen)?;
        registry.assign(DEVICE, STREAM, &format!("{MODEL}@1"))?;

        screen.heading("A device that scores a server's telemetry (38 metrics, one row a minute) and its own");
        let mut agent = Agent::new(&dir.join(DEVICE), DEVICE, Some(&registry), &streams())?;
        agent.start()?;
        screen.line(&format!("  vedette-agent on {}, {ROWS_A_SECOND} replayed minutes a second", DEVICE));
        Ok(Self { registry, agent })
    }

    /// Follows the device until the replay has ended; pushes version 2 when its training day is over.
    fn play(&self, rows: u64, started: Instant, screen: &Screen) -> anyhow::Result<()> {
        let mut tail = Tail::start(&self.agent)?;
        let mut episodes = Episodes::default();
        let mut chapters = Chapters::default();
        let mut pushed = false;
        wait::until_true("the end of the replay", AT_MOST.saturating_sub(started.elapsed()), || {
            for anomaly in tail.waiting()? {
                if anomaly["stream"] == STREAM
                    && let Some(line) = episodes.line(&anomaly)
                {
                    screen.line(&line);
                }
            }
            let state = self.stream()?;
            let row = state["row"].as_u64().unwrap_or(0);
            chapters.turn(row, screen);
            screen.progress(row, &format!("scored by {}", model_of(&state)));
            if !pushed && row >= TRAINED_ROW {
                screen.heading(
                    "A day later: version 2, trained on the day after the change, with its parent and the reason",
                );
                push(&self.registry, "v2", screen)?;
                self.registry.assign(DEVICE, STREAM, &format!("{MODEL}@2"))?;
                pushed = true;
            }
            Ok(row >= rows)
        })
    }

    /// The replayed stream's state, out of the device's own status.
    fn stream(&self) -> anyhow::Result<Value> {
        stream_state(&self.agent.status()?, STREAM)
    }

    /// Waits until the registry has everything, and compares with the labels.
    fn judge(&self, labels: &[bool]) -> anyhow::Result<Told> {
        wait::until_true("the registry to have received everything", Duration::from_secs(20), || {
            let status = self.agent.status()?;
            Ok(status["acked"].as_u64() >= status["stream_records"].as_u64().or(status["committed"].as_u64()))
        })?;
        let alarmed: BTreeSet<u64> = self
            .registry
            .json(["anomalies", "list", "--device", DEVICE, "--stream", STREAM, "--limit", "100000"])?
            .iter()
            .filter(|anomaly| anomaly["cause"] == "model")
            .filter_map(|anomaly| anomaly["row"].as_u64())
            .collect();
        let first_row = self.first_row_of("1")?;
        let swap_row = self.first_row_of("2")?;
        let end = labels.len() as u64;
        let part = |name, version: &str, rows| Part { name, model: format!("{MODEL}@{version}"), rows };
        let parts = [
            part("a quiet day, then the incident", "1", first_row..INCIDENT_END_ROW),
            part("memory never returns: stale", "1", INCIDENT_END_ROW..swap_row),
            part("after the swap", "2", swap_row..end),
        ];
        let host_rows = stream_state(&self.agent.status()?, "host")?["row"].as_u64().unwrap_or(0);
        Ok(Told { outcomes: outcomes(&parts, &sample::incidents(labels), &alarmed), swap_row, host_rows })
    }

    /// The first row that a version scored, as the device's ledger says.
    fn first_row_of(&self, version: &str) -> anyhow::Result<u64> {
        let model = format!("{MODEL}@{version}");
        let ranges = self.agent.json(["models", "list"])?;
        ranges
            .iter()
            .find(|range| range["stream"] == STREAM && range["by"]["model"] == model.as_str())
            .and_then(|range| range["first_row"].as_u64())
            .with_context(|| format!("the device never ran {model}: {ranges:?}"))
    }

    /// Asks both ends with the real commands.
    fn ask(&self, told: &Told, screen: &Screen) -> anyhow::Result<()> {
        screen.heading("The box itself answers, with no cloud in reach");
        self.show_agent(&["anomalies", "list", "--stream", STREAM, "--limit", "5"], screen)?;
        self.show_agent(&["who-scored", &format!("{STREAM}#{}", COLLAPSE_ROW + 2)], screen)?;
        self.show_agent(&["who-scored", &format!("{STREAM}#{}", told.swap_row)], screen)?;
        screen.heading("The registry answers for the fleet");
        self.show_vedette(&["anomalies", "list", "--device", DEVICE, "--limit", "5"], screen)?;
        self.show_vedette(&["audit", "list"], screen)?;
        screen.line(&format!("  (the box scored {} rows of its own host metrics meanwhile)", told.host_rows));
        Ok(())
    }

    fn show_agent(&self, args: &[&str], screen: &Screen) -> anyhow::Result<()> {
        let shown = self.agent.cli(args)?.ok()?;
        screen.line(&format!("$ vedette-agent {}\n{}", args.join(" "), shown.stdout));
        Ok(())
    }

    fn show_vedette(&self, args: &[&str], screen: &Screen) -> anyhow::Result<()> {
        let shown = self.registry.vedette(args)?.ok()?;
        screen.line(&format!("$ vedette {}\n{}", args.join(" "), shown.stdout));
        Ok(())
    }

    fn say_where(&self, screen: &Screen) {
        let programs = Program::Agent.path().ok().and_then(|p| p.parent().map(PathBuf::from)).unwrap_or_default();
        screen.heading("Where things are");
        screen.line(&format!("  programs          {}", programs.display()));
        screen.line(&format!(
            "  registry          {}  (API {}, OpenAPI at /api/v1/openapi.json)",
            self.registry.dir().display(),
            self.registry.url()
        ));
        screen.line(&format!("  admin's token     {}", self.registry.dir().join("admin.token").display()));
        screen.line(&format!("  device            {}", self.agent.dir().display()));
    }
}

/// The two streams of the demo's device.
fn streams() -> String {
    let file = sample::test_file();
    format!(
        "[[stream]]\nname = \"{STREAM}\"\nsource = \"replay\"\nfile = \"{}\"\nlabel_column = \"label\"\nstart = \"2026-09-01T00:00:00Z\"\nstep = \"60s\"\nspeed = {}.0\nunits = {{ default = \"1\" }}\n\n[[stream]]\nname = \"host\"\nsource = \"host\"\ninterval = \"1s\"\n",
        file.display(),
        ROWS_A_SECOND * 60
    )
}

fn stream_state(status: &Value, name: &str) -> anyhow::Result<Value> {
    let streams = status["streams"].as_array().context("the status names no streams")?;
    streams.iter().find(|s| s["stream"] == name).cloned().with_context(|| format!("no stream {name} in the status"))
}

fn push(registry: &Registry, version: &str, screen: &Screen) -> anyhow::Result<()> {
    let pushed = registry.push(&sample::model_dir(version))?.ok()?;
    for line in pushed.stdout.lines() {
        screen.line(&format!("  {line}"));
    }
    Ok(())
}

/// What the rows mean, said when they come.
#[derive(Debug, Default)]
struct Chapters {
    told: usize,
}

impl Chapters {
    const ALL: [(u64, &'static str); 4] = [
        (1, "A quiet day"),
        (COLLAPSE_ROW - 2, "Row 1742: a memory metric collapses; the operators call it an incident until row 2520"),
        (
            INCIDENT_END_ROW,
            "The incident is over, but memory never returns: version 1 alarms on everything, it is stale",
        ),
        (NEXT_INCIDENT_ROW - 2, "Row 5013: the next incident, three minutes long"),
    ];

    fn turn(&mut self, row: u64, screen: &Screen) {
        while let Some((_, heading)) = Self::ALL.get(self.told).filter(|(from, _)| row >= *from) {
            screen.heading(heading);
            self.told += 1;
        }
    }
}

/// `vedette-agent anomalies tail --json`, read line by line.
struct Tail {
    child: Child,
    lines: Receiver<Value>,
}

impl Tail {
    fn start(agent: &Agent) -> anyhow::Result<Self> {
        let mut command = Program::Agent.command()?;
        command.args(["anomalies", "tail", "--json", "--config"]).arg(agent.config());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("couldn't start `vedette-agent anomalies tail`")?;
        let stdout = child.stdout.take().context("no output to read")?;
        let (send, lines) = sync_channel(LINES_WAITING);
        std::thread::spawn(move || {
            let parsed = BufReader::new(stdout).lines().map_while(Result::ok);
            for anomaly in parsed.filter_map(|line| serde_json::from_str(&line).ok()) {
                if send.send(anomaly).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// What has come since the last look.
    fn waiting(&mut self) -> anyhow::Result<Vec<Value>> {
        let mut found = Vec::new();
        loop {
            match self.lines.try_recv() {
                Ok(anomaly) => found.push(anomaly),
                Err(TryRecvError::Empty) => return Ok(found),
                Err(TryRecvError::Disconnected) => {
                    anyhow::bail!("`vedette-agent anomalies tail` ended")
                }
            }
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            eprintln!("couldn't end `vedette-agent anomalies tail`");
        }
    }
}

/// Blocks until Ctrl-C or a SIGTERM.
fn wait_for_interrupt() -> anyhow::Result<()> {
    std::io::stdout().flush()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = term.recv() => {}
        }
        Ok(())
    })
}
