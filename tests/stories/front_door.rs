//! The front door: what the README tells a newcomer to type, and the demo, hold what they say.

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use vedette_tests::programs::{Program, run};
use vedette_tests::{Scratch, broker, data_dir, wait};

/// The README's walk may take this long: it starts both programs and waits for a model to arrive.
const WALK_WITHIN: Duration = Duration::from_secs(120);

/// Runs every `sh` block of the README, in order, in an empty folder, on free ports.
pub(crate) fn readme() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let source = data_dir().join("../..").canonicalize()?;
    let text = std::fs::read_to_string(source.join("README.md"))?;
    let walk: String = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    anyhow::ensure!(walk.contains("vedette-agent run"), "the README has no walk");
    let walk = walk
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", broker::free_port()?))
        .replace("127.0.0.1:1883", &format!("127.0.0.1:{}", broker::free_port()?));
    let programs = Program::Agent.path()?;
    let programs = programs.parent().context("a program lies in a folder")?;
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{walk}");
    std::fs::write(scratch.path().join("walk.sh"), script)?;
    let log = std::fs::File::create(scratch.path().join("walk.log"))?;
    let mut child = Command::new("bash")
        .arg("walk.sh")
        .current_dir(scratch.path())
        .env("PATH", path)
        .env("VEDETTE_SRC", &source)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let ended = wait::until("the README's walk to end", WALK_WITHIN, || Ok(child.try_wait()?));
    let said = std::fs::read_to_string(scratch.path().join("walk.log"))?;
    match ended {
        Ok(status) => anyhow::ensure!(status.success(), "the walk ended with {status}: {said}"),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error.context(said));
        }
    }
    Ok(())
}

/// The demo's table: quiet before, stale after the change, right again with version 2.
pub(crate) fn demo() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let report = scratch.path().join("report.json");
    let programs = Program::Agent.path()?;
    let mut command = Command::new(programs.with_file_name("demo"));
    command.args(["--exit", "--report"]).arg(&report).env_remove("CARGO");
    let told = run(command)?.ok()?.stdout;
    let alarm = told.lines().find(|line| line.contains("server row 174") || line.contains("server row 175"));
    let first = alarm.and_then(|line| line.split("  ").find(|part| part.contains('%')));
    anyhow::ensure!(first.is_some_and(|signals| signals.starts_with("mem_")), "the alarm names memory first: {told}");
    for asked in
        ["vedette-agent anomalies list", "vedette-agent who-scored", "vedette anomalies list", "vedette audit list"]
    {
        anyhow::ensure!(told.contains(&format!("$ {asked}")), "nobody typed `{asked}`: {told}");
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let part = |index: usize, key: &str| report["outcomes"][index][key].as_f64().unwrap_or(f64::NAN);
    anyhow::ensure!(part(0, "normal_alarmed") < 0.01, "a quiet day is quiet: {report}");
    anyhow::ensure!(part(0, "found") >= 1.0 && part(0, "delay_rows") <= 15.0, "the incident is found: {report}");
    anyhow::ensure!(part(1, "normal_alarmed") > 0.99, "version 1 is stale: {report}");
    anyhow::ensure!(part(2, "normal_alarmed") < 0.06, "version 2 is not: {report}");
    anyhow::ensure!(part(2, "found") >= 1.0, "and still finds the next incident: {report}");
    anyhow::ensure!(report["host_rows"].as_u64() > Some(0), "the host was scored too: {report}");
    Ok(())
}
