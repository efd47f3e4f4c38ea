//! The agent end to end, as it ships: a real `vedette-agent` with a dense model that a real registry gave it, replaying a server's
//! telemetry, once as fast as it goes and once at a pace at which each row comes alone. Two models: windows of 16 rows of 38
//! signals, and single rows of 32.

mod peer;
mod small;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use vedette_tests::agent::Agent;
use vedette_tests::programs::{Program, Running};
use vedette_tests::registry::{Broker, Registry};
use vedette_tests::{Scratch, data_dir, wait};

use crate::Effort;
use crate::measure::Timings;
use crate::report::{Cell, Section};

const STREAM: &str = "server";
/// Starts whose time to the first score is taken.
const STARTS: usize = 20;
/// How long the agent replays, per pace, after it has warmed up.
const MEASURED: Duration = Duration::from_secs(20);
/// How long it warms up.
const WARM_UP: Duration = Duration::from_secs(3);
/// Rows a minute in the file, so this speed gives 500 rows a second: each is alone when it comes, and 10,000 make a p99.
const PACED_SPEED: u32 = 30_000;
/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clock ticks of a second in `/proc/PID/stat`: 100 on all Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// Measures everything.
pub(crate) fn run(effort: Effort) -> anyhow::Result<Vec<Section>> {
    let scratch = Scratch::new()?;
    let registry = Registry::start(&scratch.path().join("registry"), &Broker::Embedded)?;
    let bench = Bench::windows(&scratch.path().join("agent"), &registry)?;
    bench.deploy()?;
    let starts = bench.starts(effort.of(STARTS))?;
    let fast = bench.replay(Pace::Full, effort)?;
    let paced = bench.replay(Pace::Paced, effort)?;
    let small = Bench::rows(&scratch.path().join("small"), &registry)?;
    small.deploy()?;
    let small_fast = small.replay(Pace::Full, effort)?;
    let small_paced = small.replay(Pace::Paced, effort)?;
    let windows_onnx = data_dir().join("models/batched/dense_ae.onnx");
    let small_onnx = small.dir.join("model/model.onnx");
    let compared = [
        peer::Compared {
            name: "16 rows of 38",
            onnx: &windows_onnx,
            rows: &bench.rows,
            window: 16,
            fast: &fast,
            paced: &paced,
        },
        peer::Compared {
            name: "rows of 32",
            onnx: &small_onnx,
            rows: &small.rows,
            window: 1,
            fast: &small_fast,
            paced: &small_paced,
        },
    ];
    let beside = peer::run(scratch.path(), &compared, effort)?;
    let (size, profile) = stripped_size()?;
    let number = |value: f64, decimals| Cell::Number(value, decimals);
    let rows = vec![
        line("rows of 32 scored per second of one core, full speed", number(small_fast.per_core_s(), 0), "rows/s", {
            Some((">= 1,000,000", small_fast.per_core_s() >= 1e6))
        }),
        line("rows of 32, sample to decision, row by row, p50", number(small_paced.p50_us, 1), "us", None),
        line("rows of 32, sample to decision, row by row, p99", number(small_paced.p99_us, 1), "us", {
            Some(("<= 20", small_paced.p99_us <= 20.0))
        }),
        line("rows scored per second of one core, full speed", number(fast.per_core_s(), 0), "rows/s", None),
        line(
            "rows scored per second of wall time, full speed",
            number(fast.rows as f64 / fast.wall_s, 0),
            "rows/s",
            None,
        ),
        line("sample to decision, row by row, p50", number(paced.p50_us, 1), "us", None),
        line(
            "sample to decision, row by row, p99",
            number(paced.p99_us, 1),
            "us",
            Some(("<= 100", paced.p99_us <= 100.0)),
        ),
        line("PSS, row by row", number(paced.pss_mib, 1), "MiB", Some(("<= 12", paced.pss_mib <= 12.0))),
        line("of that not backed by a file, row by row", number(paced.private_mib, 1), "MiB", None),
        line("PSS, full speed", number(fast.pss_mib, 1), "MiB", None),
        line("start to first score, p50", number(starts.quantile_ns(0.5) / 1e6, 0), "ms", None),
        line("start to first score, slowest", number(starts.quantile_ns(1.0) / 1e6, 0), "ms", {
            Some(("<= 300", starts.quantile_ns(1.0) <= 300e6))
        }),
        line(
            "vedette-agent, stripped",
            number(size as f64 / f64::from(1 << 20), 1),
            "MiB",
            Some(("<= 10", size <= 10 << 20)),
        ),
    ];
    let notes = vec![
        "Rows of 32: the autoencoder 32-16-8-16-32, one row at a time, first 32 signals.".to_owned(),
        "Model of all others: dense_ae (16 rows of 38 signals), deployed through the registry; the built-in baseline scores every row too. \
         Telemetry: the sample's three quiet days, again and again."
            .to_owned(),
        format!("Row by row: 500 rows/s for {} s, the agent's own histogram (its steps are 12.5 %).", effort.of(20)),
        "Start to first score: from spawning the process to its local API saying that a row was scored, model loaded from disk.".to_owned(),
        format!("Size: profile {profile}. PSS: /proc/PID/smaps_rollup."),
    ];
    let section = Section {
        title: "Agent, end to end",
        columns: vec!["figure", "measured", "unit", "goal", "holds"],
        rows,
        notes,
    };
    Ok(vec![section, beside])
}

fn line(name: &str, value: Cell, unit: &str, goal: Option<(&str, bool)>) -> Vec<Cell> {
    let (goal, holds) = goal.map_or(("", ""), |(goal, holds)| (goal, if holds { "yes" } else { "no" }));
    vec![Cell::text(name), value, Cell::text(unit), Cell::text(goal), Cell::text(holds)]
}

/// How fast the replay goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Full,
    Paced,
}

/// What the agent did over a while.
struct Took {
    rows: u64,
    cpu_s: f64,
    wall_s: f64,
    p50_us: f64,
    p99_us: f64,
    pss_mib: f64,
    /// The part of it that is no page of the program's file or a library's.
    private_mib: f64,
}

impl Took {
    fn per_core_s(&self) -> f64 {
        self.rows as f64 / self.cpu_s
    }
}

/// A registry and the folder of one agent, with a model for it and the rows that it replays.
struct Bench<'a> {
    dir: PathBuf,
    registry: &'a Registry,
    device: &'static str,
    model: &'static str,
    rows: PathBuf,
}

impl<'a> Bench<'a> {
    /// Windows of 16 rows of 38 signals.
    fn windows(dir: &Path, registry: &'a Registry) -> anyhow::Result<Self> {
        let folder = dir.join("model");
        std::fs::create_dir_all(&folder)?;
        for (from, to) in [
            ("dense_ae.onnx", "model.onnx"),
            ("dense_ae.toml", "manifest.toml"),
            ("dense_ae.selftest.json", "dense_ae.selftest.json"),
        ] {
            std::fs::copy(data_dir().join("models").join(from), folder.join(to))?;
        }
        let rows = data_dir().join("sample/machine-3-4_train_3d.csv.gz");
        Ok(Bench { dir: dir.to_owned(), registry, device: "bench", model: "dense-ae", rows })
    }

    /// Single rows of 32 signals.
    fn rows(dir: &Path, registry: &'a Registry) -> anyhow::Result<Self> {
        small::write(&dir.join("model"))?;
        let rows = dir.join("model/rows.csv");
        Ok(Bench { dir: dir.to_owned(), registry, device: "bench-small", model: "small", rows })
    }

    fn agent(&self, pace: Pace) -> anyhow::Result<Agent> {
        let speed = match pace {
            Pace::Full => 0,
            Pace::Paced => PACED_SPEED,
        };
        let stream = format!(
            "[[stream]]\nname = \"{STREAM}\"\nsource = \"replay\"\nfile = \"{}\"\nspeed = {speed}\nrepeat = true\n\
             start = \"2026-09-01T00:00:00Z\"\nstep = \"60s\"\n[stream.units]\ndefault = \"1\"\n",
            self.rows.display()
        );
        Agent::new(&self.dir, self.device, Some(self.registry), &stream)
    }

    /// Pushes the model and waits until the agent runs it; it is on the agent's disk from then on.
    fn deploy(&self) -> anyhow::Result<()> {
        self.registry.push(&self.dir.join("model"))?.ok().context("the registry refused the dense model")?;
        let mut agent = self.agent(Pace::Paced)?;
        agent.start()?;
        self.registry.assign(self.device, STREAM, &format!("{}@1", self.model))?;
        wait::until_true("the agent to run the dense model", PATIENCE, || {
            Ok(agent.status()?["streams"][0]["by"].to_string().contains(self.model))
        })?;
        agent.stop()
    }

    /// Starts the agent again and again; how long each took to its first score.
    fn starts(&self, count: usize) -> anyhow::Result<Timings> {
        let mut timings = Timings::new(1);
        for _ in 0..count {
            let agent = self.agent(Pace::Full)?;
            let start = Instant::now();
            let mut running = Running::start("vedette-agent", agent.command()?, &self.dir.join("agent.log"))?;
            let scored = || stream(&self.dir).is_ok_and(|stream| stream["rows"].as_u64() > Some(0));
            while !scored() {
                ensure!(start.elapsed() < PATIENCE, "no score within {} s: {}", PATIENCE.as_secs(), running.said());
                ensure!(running.ended()?.is_none(), "the agent ended: {}", running.said());
                // A look costs about 0.1 ms; looking all the time would take the core that the agent starts on.
                std::thread::sleep(Duration::from_millis(1));
            }
            timings.add(start.elapsed());
            running.stop(PATIENCE)?;
        }
        Ok(timings)
    }

    fn replay(&self, pace: Pace, effort: Effort) -> anyhow::Result<Took> {
        let mut agent = self.agent(pace)?;
        agent.start()?;
        std::thread::sleep(WARM_UP);
        let pid = agent.running()?.id();
        let (before, cpu, start) = (stream(&self.dir)?, cpu_seconds(pid)?, Instant::now());
        std::thread::sleep(MEASURED / if effort == Effort::Full { 1 } else { 10 });
        let (after, cpu_s, wall_s) = (stream(&self.dir)?, cpu_seconds(pid)? - cpu, start.elapsed().as_secs_f64());
        ensure!(after["by"].to_string().contains(self.model), "the model was gone: {after}");
        let rows = |stream: &Value| stream["rows"].as_u64().context("the status has no rows");
        let wait = |key: &str| after[key].as_f64().with_context(|| format!("the status has no {key}"));
        let took = Took {
            rows: rows(&after)? - rows(&before)?,
            cpu_s,
            wall_s,
            p50_us: wait("wait_p50_us")?,
            p99_us: wait("wait_p99_us")?,
            pss_mib: memory_mib(pid, "Pss:")?,
            private_mib: memory_mib(pid, "Pss_Anon:")?,
        };
        agent.stop()?;
        Ok(took)
    }
}

/// The stream's part of the status, asked at the agent's socket: starting the command would cost more than the agent.
fn stream(dir: &Path) -> anyhow::Result<Value> {
    let mut socket = UnixStream::connect(dir.join("state/agent.sock"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET /v1/status HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status: Value = serde_json::from_str(body)?;
    Ok(status["streams"][0].clone())
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; after it, fields 14 and 15 of the line are the 12th and 13th.
    let (_, fields) = text.rsplit_once(')').context("no process name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// A line of a process's memory account.
fn memory_mib(pid: u32, key: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let line = line.with_context(|| format!("no {key} in smaps_rollup"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes / 1024.0)
}

/// Bytes of the stripped agent, and the profile that built it: what ships (`dist`) is stripped by its build.
fn stripped_size() -> anyhow::Result<(u64, &'static str)> {
    let program = Program::Agent.path()?;
    if program.parent().is_some_and(|dir| dir.ends_with("dist")) {
        return Ok((std::fs::metadata(program)?.len(), "dist (what ships)"));
    }
    let scratch = Scratch::new()?;
    let stripped = scratch.path().join("vedette-agent");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(&program).status().context("couldn't run strip")?;
    ensure!(status.success(), "strip failed: {status}");
    Ok((std::fs::metadata(stripped)?.len(), "release, stripped here (dist, which ships, was not built)"))
}
