//! What people type at the device: it answers while the agent runs and while it is down, and its exit code says how.

use serde_json::Value;
use vedette_tests::agent::Agent;
use vedette_tests::{Scratch, wait};

use crate::story::{SOON, replay, scored};

const ROWS: u64 = 6500;

pub(crate) fn at_the_device() -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let mut agent = Agent::with_config(scratch.path(), "box-1", &replay("server", 0.0))?;
    agent.start()?;
    scored(&agent, "server", ROWS)?;
    let found = wait::until("the first anomalies", SOON, || {
        Ok(Some(agent.json(["anomalies", "list"])?).filter(|found| !found.is_empty()))
    })?;
    let sequence = found[0]["sequence"].to_string();
    let ack = ["anomalies", "ack", &sequence, "--verdict", "false-alarm", "--by", "me"];
    agent.cli(ack)?.ok()?;
    let up = wait::until("the verdict to be found", SOON, || {
        let answers = read(&agent, &sequence)?;
        Ok((answers[1][0]["verdict"]["by"] == "me").then_some(answers))
    })?;
    ends(&agent, &["status"], 0)?;
    ends(&agent, &["doctor"], 0)?;
    refusals(&agent)?;
    agent.stop()?;
    let down = read(&agent, &sequence)?;
    anyhow::ensure!(up == down, "a running agent says {up:?}, its journal {down:?}");
    for changing_or_live in [&["status"] as &[&str], &ack] {
        ends(&agent, changing_or_live, 5)?;
    }
    refusals(&agent)
}

/// What the box knows of its anomalies, which must not depend on who answers; the other reading commands only have to
/// answer, for people and for programs.
fn read(agent: &Agent, sequence: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    for command in [
        &["who-scored", sequence] as &[&str],
        &["who-scored", "server#6499"],
        &["models", "list"],
        &["journal", "stat"],
    ] {
        ends(agent, command, 0)?;
        anyhow::ensure!(!agent.json(command)?.is_empty(), "{command:?} says nothing");
    }
    [&["anomalies", "list"] as &[&str], &["anomalies", "show", sequence], &["anomalies", "export"]]
        .into_iter()
        .map(|command| {
            ends(agent, command, 0)?;
            agent.json(command)
        })
        .collect()
}

fn refusals(agent: &Agent) -> anyhow::Result<()> {
    let cases: [(&[&str], i32); 7] = [
        (&["anomalies", "show", "999999"], 3),
        (&["who-scored", "999999"], 3),
        (&["who-scored", "server#999999"], 3),
        (&["who-scored", "box-2/1/0"], 3),
        (&["models", "show", "nobody@1"], 3),
        (&["who-scored", "no/record"], 2),
        (&["anomalies", "lst"], 2),
    ];
    cases.iter().try_for_each(|(command, code)| ends(agent, command, *code))
}

fn ends(agent: &Agent, command: &[&str], code: i32) -> anyhow::Result<()> {
    let ended = agent.cli(command)?;
    anyhow::ensure!(
        ended.code == code,
        "{command:?} ended with {}, not {code}: {}{}",
        ended.code,
        ended.stdout,
        ended.stderr
    );
    // The status of an agent that is down is a status all the same, out of its journal.
    anyhow::ensure!(!ended.stderr.is_empty() || !ended.stdout.is_empty(), "{command:?} ended without a word");
    Ok(())
}
