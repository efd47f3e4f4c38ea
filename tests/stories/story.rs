//! What the stories share: a stage with a broker, a registry and agents.

use std::time::Duration;

use serde_json::Value;
use vedette_tests::agent::Agent;
use vedette_tests::broker::Mosquitto;
use vedette_tests::registry::{Broker, Registry};
use vedette_tests::{Scratch, sample, wait};

/// Long enough for a loaded two-core machine, short enough to fail a hung story.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Which broker a story is told with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerKind {
    Embedded,
    Mosquitto,
}

/// A registry with its broker, in a scratch folder that goes when the story ends.
pub(crate) struct Stage {
    pub(crate) registry: Registry,
    pub(crate) mosquitto: Option<Mosquitto>,
    pub(crate) scratch: Scratch,
}

impl Stage {
    pub(crate) fn set(kind: BrokerKind) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let mosquitto = match kind {
            BrokerKind::Embedded => None,
            BrokerKind::Mosquitto => Some(Mosquitto::start(scratch.path())?),
        };
        let broker = mosquitto.as_ref().map_or(Broker::Embedded, |m| Broker::External(m.url()));
        let registry = Registry::start(&scratch.path().join("registry"), &broker)?;
        Ok(Self { registry, mosquitto, scratch })
    }

    /// An agent of this stage, not yet started.
    pub(crate) fn agent(&self, device: &str, streams: &str) -> anyhow::Result<Agent> {
        Agent::new(&self.scratch.path().join(device), device, Some(&self.registry), streams)
    }

    /// The broker goes away, as far as its clients can tell.
    pub(crate) fn broker_goes(&mut self) -> anyhow::Result<()> {
        match &mut self.mosquitto {
            Some(mosquitto) => mosquitto.kill(),
            None => self.registry.kill(),
        }
    }

    /// The broker comes back, knowing nothing of before.
    pub(crate) fn broker_returns(&mut self) -> anyhow::Result<()> {
        match &mut self.mosquitto {
            Some(mosquitto) => mosquitto.restart(),
            None => self.registry.restart(),
        }
    }

    /// All anomalies of a device that the registry has.
    pub(crate) fn received(&self, device: &str) -> anyhow::Result<Vec<Value>> {
        self.registry.json(["anomalies", "list", "--device", device, "--limit", "100000"])
    }

    /// An agent that has version 1 already, and will replay the sample at this speed when started: the model alarms on every
    /// row after the change, which makes many records.
    pub(crate) fn agent_with_a_stale_model(&self, device: &str, speed: f64) -> anyhow::Result<Agent> {
        self.registry.push(&sample::model_dir("v1"))?.ok()?;
        self.registry.assign(device, "server", "server-pca@1")?;
        let mut agent = self.agent(device, &replay("server", 60.0))?;
        agent.start()?;
        runs(&agent, "server", "server-pca@1")?;
        agent.stop()?;
        let config = std::fs::read_to_string(agent.config())?;
        std::fs::write(agent.config(), config.replace("speed = 60.0", &format!("speed = {speed:.1}")))?;
        Ok(agent)
    }

    /// Waits until the registry has exactly the anomalies that the box has, at least `least` of them, each once.
    pub(crate) fn both_ends_agree(&self, agent: &Agent, least: usize) -> anyhow::Result<Vec<String>> {
        wait::until("box and registry to agree", SOON, || {
            let here = ids(&agent.json(["anomalies", "export"])?);
            let there = ids(&self.received(agent.device())?);
            let unsent = here.iter().filter(|id| !there.contains(id)).count();
            let (box_has, registry_has) = (here.len(), there.len());
            anyhow::ensure!(here.len() >= least, "the box found {box_has}, at least {least} were expected");
            anyhow::ensure!(
                here == there,
                "the box has {box_has}, the registry {registry_has}, {unsent} of the box's are not there"
            );
            Ok(Some(here))
        })
    }
}

/// The record ids of a list of anomalies, sorted.
pub(crate) fn ids(anomalies: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> = anomalies.iter().filter_map(|a| a["record"].as_str().map(str::to_owned)).collect();
    ids.sort();
    ids
}

/// A stream that replays the sample; `speed` in replayed seconds a second, 0 as fast as possible.
pub(crate) fn replay(name: &str, speed: f64) -> String {
    format!(
        "[[stream]]\nname = \"{name}\"\nsource = \"replay\"\nfile = \"{}\"\nlabel_column = \"label\"\nstart = \"2026-09-01T00:00:00Z\"\nstep = \"60s\"\nspeed = {speed:.1}\nunits = {{ default = \"1\" }}\n",
        sample::test_file().display()
    )
}

/// The state of one stream in a device's status.
pub(crate) fn stream(status: &Value, name: &str) -> Value {
    let streams = status["streams"].as_array().cloned().unwrap_or_default();
    streams.into_iter().find(|s| s["stream"] == name).unwrap_or(Value::Null)
}

/// Waits until a stream has scored this many rows.
pub(crate) fn scored(agent: &Agent, name: &str, rows: u64) -> anyhow::Result<()> {
    wait::until_true(&format!("{rows} rows of {name}"), SOON, || {
        let state = stream(&agent.status()?, name);
        anyhow::ensure!(state["row"].as_u64().unwrap_or(0) >= rows, "{state}");
        Ok(true)
    })
}

/// Waits until a stream is scored by this model.
pub(crate) fn runs(agent: &Agent, name: &str, model: &str) -> anyhow::Result<()> {
    wait::until_true(&format!("{name} to run {model}"), SOON, || {
        let state = stream(&agent.status()?, name);
        anyhow::ensure!(state["by"]["model"] == model, "{state}");
        Ok(true)
    })
}
