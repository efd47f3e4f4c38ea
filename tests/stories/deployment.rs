//! From a model version to a device: what is good arrives and is known at both ends, what is bad does not.

use std::path::Path;

use serde_json::Value;
use vedette_tests::agent::Agent;
use vedette_tests::{sample, wait};

use crate::story::{BrokerKind, SOON, Stage, replay, runs, scored, stream};

const MODEL: &str = "server-pca";

pub(crate) fn a_model_reaches_a_device(kind: BrokerKind) -> anyhow::Result<()> {
    let stage = Stage::set(kind)?;
    for version in ["v1", "v2"] {
        stage.registry.push(&sample::model_dir(version))?.ok()?;
    }
    let mut agent = stage.agent("box-1", &replay("server", 12_000.0))?;
    agent.start()?;
    for version in ["server-pca@1", "server-pca@2"] {
        stage.registry.assign("box-1", "server", version)?;
        runs(&agent, "server", version)?;
    }
    let row = stream(&agent.status()?, "server")["row"].as_u64().unwrap_or(0);
    scored(&agent, "server", row + 50)?;
    let ranges = agent.json(["models", "list"])?;
    for version in ["server-pca@1", "server-pca@2"] {
        let first = first_row(&ranges, version)?;
        for offset in [0, 1] {
            let here = agent.json(["who-scored", &format!("server#{}", first + offset)])?;
            anyhow::ensure!(here[0]["by"]["model"] == version, "the box says {here:?} of row {}", first + offset);
            let id = here[0]["record"].as_str().ok_or_else(|| anyhow::anyhow!("no row id in {here:?}"))?.to_owned();
            let there = wait::until("the registry to know who scored it", SOON, || {
                Ok(stage.registry.json(["who-scored", &id]).ok().filter(|answer| !answer.is_empty()))
            })?;
            anyhow::ensure!(there[0]["by"] == here[0]["by"], "box {here:?}, registry {there:?}");
        }
    }
    agent.stop()
}

pub(crate) fn bad_models_are_refused_at_push() -> anyhow::Result<()> {
    let stage = Stage::set(BrokerKind::Embedded)?;
    let good = sample::model_dir("v1");
    let bad = stage.scratch.path().join("bad");
    let onnx = std::fs::read(good.join("model.onnx"))?;
    for (what, bytes) in
        [("truncated", &onnx[..onnx.len() / 2]), ("not ONNX", b"hello, I am not a model" as &[u8]), ("empty", b"")]
    {
        copy_model(&good, &bad)?;
        std::fs::write(bad.join("model.onnx"), bytes)?;
        let refused = stage.registry.push(&bad)?;
        anyhow::ensure!(
            refused.code == 4,
            "{what}: exit code {} instead of 4: {}{}",
            refused.code,
            refused.stdout,
            refused.stderr
        );
    }
    for what in ["nan", "shape", "untrue"] {
        let refused = stage.registry.push(&sample::model_dir("bad").join(what))?;
        anyhow::ensure!(refused.code == 4, "{what}: exit code {} instead of 4: {}", refused.code, refused.stderr);
    }
    let manifest = std::fs::read_to_string(good.join("manifest.toml"))?;
    copy_model(&good, &bad)?;
    std::fs::write(bad.join("manifest.toml"), manifest.replace("shape = [38]", "shape = [37]"))?;
    let misfit = stage.registry.push(&bad)?;
    anyhow::ensure!([2, 4].contains(&misfit.code), "a manifest that does not fit: {misfit:?}");
    let listed = stage.registry.json(["models", "list"])?;
    anyhow::ensure!(listed.is_empty(), "a refused model is listed: {listed:?}");

    stage.registry.push(&good)?.ok()?;
    stage.registry.push(&good)?.ok()?;
    copy_model(&good, &bad)?;
    std::fs::write(bad.join("manifest.toml"), manifest.replace("hold = 3", "hold = 4"))?;
    let other = stage.registry.push(&bad)?;
    anyhow::ensure!(other.code == 4, "version 1 with other bytes: {other:?}");
    Ok(())
}

pub(crate) fn a_rotten_artifact() -> anyhow::Result<()> {
    refused_on_the_device("v2", "server-pca@2", &["digest"], |stage| {
        let onnx = std::fs::read(sample::model_dir("v2").join("model.onnx"))?;
        rot(&stage.registry.dir().join("state/blobs"), &onnx)
    })
}

pub(crate) fn a_model_in_the_wrong_unit() -> anyhow::Result<()> {
    refused_on_the_device("bad/unit", "server-pca@3", &["mem_u_e", "By"], |_| Ok(()))
}

/// Version 1 runs; `folder`'s model passes the push; after `then` it is assigned, and the device must refuse it with these
/// words, while version 1 goes on and the registry comes to know.
fn refused_on_the_device(
    folder: &str,
    model: &str,
    words: &[&str],
    then: impl Fn(&Stage) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stage = Stage::set(BrokerKind::Embedded)?;
    stage.registry.push(&sample::model_dir("v1"))?.ok()?;
    stage.registry.push(&sample::model_dir("v2"))?.ok()?;
    stage.registry.push(&sample::model_dir(folder))?.ok()?;
    let mut agent = stage.agent("box-1", &replay("server", 6_000.0))?;
    agent.start()?;
    stage.registry.assign("box-1", "server", "server-pca@1")?;
    runs(&agent, "server", "server-pca@1")?;
    then(&stage)?;
    stage.registry.assign("box-1", "server", model)?;
    let refused = wait::until("the device to refuse it", SOON, || {
        let state = stream(&agent.status()?, "server");
        anyhow::ensure!(state["step"]["stage"] == "refused", "{state}");
        Ok(Some(state))
    })?;
    let why = refused["step"]["detail"].as_str().unwrap_or_default();
    anyhow::ensure!(words.iter().all(|word| why.contains(word)), "the refusal does not name {words:?}: {why}");
    anyhow::ensure!(refused["by"]["model"] == "server-pca@1", "the old model goes on: {refused}");
    scored(&agent, "server", refused["row"].as_u64().unwrap_or(0) + 50)?;
    wait::until_true("the registry to know of the refusal", SOON, || {
        let audit = stage.registry.json(["audit", "list"])?;
        anyhow::ensure!(audit.iter().any(|entry| entry.to_string().contains("refused")), "{audit:?}");
        Ok(true)
    })?;
    agent.stop()
}

pub(crate) fn over_the_broker_only() -> anyhow::Result<()> {
    let stage = Stage::set(BrokerKind::Embedded)?;
    stage.registry.push(&sample::model_dir("v1"))?.ok()?;
    let mut agent = stage.agent("box-1", &replay("server", 6_000.0))?;
    let config = std::fs::read_to_string(agent.config())?;
    let without: String =
        config.lines().filter(|line| !line.starts_with("url =")).map(|line| format!("{line}\n")).collect();
    std::fs::write(agent.config(), without)?;
    agent.start()?;
    stage.registry.assign("box-1", "server", "server-pca@1")?;
    runs(&agent, "server", "server-pca@1")?;
    agent.stop()
}

pub(crate) fn restart_without_a_registry() -> anyhow::Result<()> {
    let mut stage = Stage::set(BrokerKind::Embedded)?;
    stage.registry.push(&sample::model_dir("v1"))?.ok()?;
    let mut agent = stage.agent("box-1", &replay("server", 6_000.0))?;
    agent.start()?;
    stage.registry.assign("box-1", "server", "server-pca@1")?;
    runs(&agent, "server", "server-pca@1")?;
    let before = last_row(&agent)?;
    agent.kill()?;
    stage.registry.kill()?;
    agent.start()?;
    runs(&agent, "server", "server-pca@1")?;
    anyhow::ensure!(last_row(&agent)? >= before, "row numbers were used twice");
    agent.stop()
}

fn last_row(agent: &Agent) -> anyhow::Result<u64> {
    Ok(stream(&agent.status()?, "server")["row"].as_u64().unwrap_or(0))
}

fn first_row(ranges: &[Value], version: &str) -> anyhow::Result<u64> {
    let found =
        ranges.iter().find(|range| range["by"]["model"] == version).and_then(|range| range["first_row"].as_u64());
    found.ok_or_else(|| anyhow::anyhow!("the ledger has no {version} of {MODEL}: {ranges:?}"))
}

/// Copies a model's three files into a fresh folder.
fn copy_model(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Flips a byte in the stored blob that holds these bytes.
fn rot(blobs: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    for file in walk(blobs)? {
        if std::fs::read(&file)? == bytes {
            let mut rotten = bytes.to_vec();
            rotten[bytes.len() / 2] ^= 1;
            std::fs::remove_file(&file)?;
            return Ok(std::fs::write(&file, rotten)?);
        }
    }
    anyhow::bail!("no stored blob below {} holds the model", blobs.display())
}

fn walk(dir: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(walk(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
