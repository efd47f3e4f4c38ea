//! What the journals prove: a box has one history, and an auditor can check it without the box.

use std::path::Path;

use serde_json::Value;
use vedette_tests::agent::Agent;
use vedette_tests::wait;

use crate::story::{BrokerKind, SOON, Stage, replay, stream};

/// Rows of the sample.
const ROWS: u64 = 6500;

/// A box is copied, both go on for themselves, and the registry notices, keeps both out, and lets one go on when told.
pub(crate) fn a_cloned_box(kind: BrokerKind) -> anyhow::Result<()> {
    let stage = Stage::set(kind)?;
    let mut original = stage.agent("box-1", &replay("server", 0.0))?;
    live_once(&stage, &mut original)?;
    let mut clone =
        Agent::new(&stage.scratch.path().join("clone"), "box-1", Some(&stage.registry), &replay("server", 0.0))?;
    copy_folder(&original.dir().join("state"), &clone.dir().join("state"))?;

    live_once(&stage, &mut original)?;
    let before = upto(&device(&stage)?);
    clone.start()?;
    wait::until_true("the clone to be found out", SOON, || {
        let shown = device(&stage)?;
        anyhow::ensure!(!shown["quarantine"].is_null(), "{shown} {}", clone.status()?);
        Ok(true)
    })?;
    wait::until_true("the clone to be told", SOON, || Ok(clone.status()?.to_string().contains("quarantine")))?;
    clone.stop()?;
    anyhow::ensure!(upto(&device(&stage)?) == before, "something of the clone was taken");
    let audit = stage.registry.json(["audit", "list", "--limit", "1000"])?;
    let quarantined = audit.iter().find(|entry| entry["change"]["kind"] == "quarantined");
    let evidence = quarantined.map(|entry| (&entry["change"]["held"], &entry["change"]["offered"]));
    anyhow::ensure!(
        evidence.is_some_and(|(held, offered)| !held.is_null() && !offered.is_null()),
        "both histories should be in the audit journal: {audit:?}"
    );

    stage.registry.vedette(["devices", "release", "box-1", "--reason", "the copy went into the bin"])?.ok()?;
    anyhow::ensure!(device(&stage)?["quarantine"].is_null(), "a released device is still in quarantine");
    live_once(&stage, &mut original)?;
    anyhow::ensure!(upto(&device(&stage)?) > before, "the released box does not go on");
    anyhow::ensure!(device(&stage)?["quarantine"].is_null(), "the released box was taken for a clone again");
    Ok(())
}

/// A box hands over a bundle; the auditor holds it against what the registry accepted, and each harm has its exit code.
pub(crate) fn an_auditor_without_the_box() -> anyhow::Result<()> {
    let mut stage = Stage::set(BrokerKind::Embedded)?;
    let mut agent = stage.agent("box-1", &replay("server", 0.0))?;
    live_once(&stage, &mut agent)?;
    let bundle = stage.scratch.path().join("box-1.bundle");
    let path = bundle.to_string_lossy().into_owned();
    agent.cli(["journal", "verify"])?.ok()?;
    agent.cli(["journal", "export", "--output", &path])?.ok()?;
    agent.cli(["journal", "verify", &path])?.ok()?;
    let audit = |arguments: &[&str]| stage.registry.vedette([&["audit", "verify"], arguments].concat());
    audit(&[&path, "--device", "box-1"])?.ok()?;

    let whole = std::fs::read(&bundle)?;
    let harms: [(&str, u8, Vec<u8>); 2] =
        [("altered", 12, flipped(&whole, whole.len() / 2)), ("cut short", 16, whole[..whole.len() / 2].to_vec())];
    for (harm, code, bytes) in harms {
        std::fs::write(&bundle, bytes)?;
        for ended in [agent.cli(["journal", "verify", &path])?, audit(&[&path, "--device", "box-1"])?] {
            anyhow::ensure!(ended.code == i32::from(code), "{harm}: {ended:?}");
        }
    }

    let kept = stage.scratch.path().join("registry.checkpoint");
    let kept = kept.to_string_lossy().into_owned();
    audit(&["--save", &kept])?.ok()?;
    stage.registry.vedette(["tokens", "create", "--name", "later", "--role", "viewer"])?.ok()?;
    stage.registry.kill()?;
    let state = stage.registry.dir().join("state").to_string_lossy().into_owned();
    stage.registry.vedette(["audit", "verify", "--folder", &state, "--checkpoint", &kept])?.ok()?;
    let listed = stage.registry.vedette(["audit", "list", "--folder", &state])?.ok()?;
    anyhow::ensure!(listed.stdout.contains("later"), "the last change is not in the folder: {}", listed.stdout);
    Ok(())
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

/// Starts the box, lets it score the sample, waits until the registry has its journal and signature, and stops it.
fn live_once(stage: &Stage, agent: &mut Agent) -> anyhow::Result<()> {
    agent.start()?;
    wait::until_true("the sample to be scored in this life", SOON, || {
        Ok(stream(&agent.status()?, "server")["rows"].as_u64().unwrap_or(0) >= ROWS)
    })?;
    wait::until_true("the journal to be received", SOON, || {
        let written = agent.status()?["next_sequence"].as_u64().unwrap_or(u64::MAX);
        let shown = device(stage)?;
        let signed = shown["journals"].as_array().is_some_and(|all| all.iter().any(|one| one["checkpoint"] != 0));
        anyhow::ensure!(upto(&shown) >= written && signed, "{} of {written}: {shown}", upto(&shown));
        Ok(true)
    })?;
    agent.stop()
}

fn device(stage: &Stage) -> anyhow::Result<Value> {
    Ok(stage.registry.json(["devices", "show", "box-1"])?.into_iter().next().unwrap_or(Value::Null))
}

/// How far the newest journal of a device has been received.
fn upto(device: &Value) -> u64 {
    let journals = device["journals"].as_array().cloned().unwrap_or_default();
    journals.iter().filter_map(|journal| journal["upto"].as_u64()).max().unwrap_or(0)
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()))?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
