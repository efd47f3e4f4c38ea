//! Bad input: one clear sentence that names the thing and the place, the right exit code, nothing lost.

use std::ffi::OsStr;
use std::net::TcpListener;

use vedette_tests::agent::Agent;
use vedette_tests::programs::{Ended, Program, run, run_program};
use vedette_tests::{Scratch, data_dir, sample};

use crate::story::replay;

/// Checks an ending: its code, and that its words name what went wrong.
fn expect(ended: &Ended, code: i32, words: &[&str]) -> anyhow::Result<()> {
    anyhow::ensure!(ended.code == code, "exit code {} instead of {code}: {}{}", ended.code, ended.stdout, ended.stderr);
    for word in words {
        anyhow::ensure!(ended.stderr.contains(word), "the message does not name `{word}`: {}", ended.stderr);
    }
    anyhow::ensure!(!ended.stderr.contains("panicked"), "a panic: {}", ended.stderr);
    Ok(())
}

pub(crate) fn unknown_key() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let agent = Agent::with_config(scratch.path(), "box-1", "[journal]\ncommit_intervall = \"1s\"\n")?;
    expect(&agent.cli(["check-config"])?, 2, &["commit_intervall", "`commit_interval`", "agent.toml"])?;
    expect(&run(agent.command()?)?, 2, &["commit_intervall"])
}

pub(crate) fn missing_file() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let streams = replay("server", 0.0).replace("machine-3-4_test", "nobody-has-this");
    let agent = Agent::with_config(scratch.path(), "box-1", &streams)?;
    let ended = agent.cli(["check-config"])?;
    anyhow::ensure!(ended.code != 0, "a missing file passes: {ended:?}");
    expect(&ended, ended.code, &["nobody-has-this"])?;
    let none = Agent::with_config(&scratch.path().join("x"), "box-1", "")?;
    std::fs::remove_file(none.config())?;
    let ended = none.cli(["check-config"])?;
    expect(&ended, 3, &["agent.toml"])
}

pub(crate) fn two_agents_one_folder() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let mut agent = Agent::with_config(scratch.path(), "box-1", &replay("server", 60.0))?;
    agent.start()?;
    expect(&run(agent.command()?)?, 1, &["state"])?;
    agent.stop()
}

pub(crate) fn taken_port() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let dir = scratch.path();
    run_program(
        Program::Vedette,
        [OsStr::new("keys"), OsStr::new("init"), OsStr::new("--dir"), dir.join("keys").as_os_str()],
    )?
    .ok()?;
    let rest = "[keys]\ntrust = \"keys/trust.toml\"\nfleet = \"keys/fleet.key\"\n";
    for (http, mqtt) in [(address.as_str(), "127.0.0.1:0"), ("127.0.0.1:0", address.as_str())] {
        let text = format!(
            "state = \"state\"\n[http]\nlisten = \"{http}\"\n[broker]\nembedded = true\nlisten = \"{mqtt}\"\n{rest}"
        );
        std::fs::write(dir.join("registry.toml"), text)?;
        let config = dir.join("registry.toml");
        let ended = run_program(Program::Registry, [OsStr::new("serve"), OsStr::new("--config"), config.as_os_str()])?;
        expect(&ended, 1, &[&address])?;
    }
    Ok(())
}

pub(crate) fn bad_csv() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let cases = [
        ("ragged.csv", "timestamp,value\n2026-01-01 00:00:00,1\n2026-01-01 00:05:00,1,2\n", "3"),
        ("words.csv", "timestamp,value\n2026-01-01 00:00:00,1\n2026-01-01 00:05:00,many\n", "3"),
        ("back.csv", "timestamp,value\n2026-01-01 00:05:00,1\n2026-01-01 00:00:00,1\n", "3"),
    ];
    for (name, text, line) in cases {
        let file = scratch.path().join(name);
        std::fs::write(&file, text)?;
        let args = ["backtest", "--baseline", "--time-column", "timestamp", "--data"].map(OsStr::new);
        let ended = run_program(Program::Vedette, args.into_iter().chain([file.as_os_str()]))?;
        expect(&ended, 1, &[name, line])?;
    }
    Ok(())
}

pub(crate) fn backtest() -> anyhow::Result<()> {
    let dir = data_dir().join("models");
    let file = sample::test_file();
    let (onnx, manifest) = (dir.join("pca.onnx"), dir.join("pca.toml"));
    let args = [
        OsStr::new("backtest"),
        onnx.as_os_str(),
        OsStr::new("--manifest"),
        manifest.as_os_str(),
        OsStr::new("--data"),
        file.as_os_str(),
        OsStr::new("--label"),
        OsStr::new("label"),
        OsStr::new("--json"),
    ];
    let report = run_program(Program::Vedette, args)?.json_lines()?;
    anyhow::ensure!(report.len() == 1, "one object a run: {report:?}");
    let rows = report[0]["rows"].as_u64();
    anyhow::ensure!(rows == Some(6500), "{rows:?} rows of 6500");
    let vus = report[0]["judgement"]["vus_pr"].as_f64().unwrap_or(0.0);
    anyhow::ensure!(vus > 0.5, "VUS-PR {vus}");
    Ok(())
}
