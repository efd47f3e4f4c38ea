//! From a record to the registry: every anomaly once, whatever goes away in between.

use rumqttc::{Client, Event, MqttOptions, Outgoing, QoS};
use vedette_tests::wait;

use crate::story::{BrokerKind, SOON, Stage, ids, replay, scored, stream};

/// Rows of the sample.
const ROWS: u64 = 6500;

/// Version 1 alarms on nearly all of the 4,700 rows after the change; a story that counts on it wants at least these.
const MANY: usize = 4000;

pub(crate) fn a_record_reaches_the_registry(kind: BrokerKind) -> anyhow::Result<()> {
    let stage = Stage::set(kind)?;
    let mut agent = stage.agent("box-1", &replay("server", 0.0))?;
    agent.start()?;
    scored(&agent, "server", ROWS)?;
    stage.both_ends_agree(&agent, 1)?;
    agent.stop()
}

pub(crate) fn a_broker_goes_away(kind: BrokerKind) -> anyhow::Result<()> {
    let mut stage = Stage::set(kind)?;
    let mut agent = stage.agent_with_a_stale_model("box-1", 60_000.0)?;
    agent.start()?;
    scored(&agent, "server", 2200)?;
    stage.broker_goes()?;
    scored(&agent, "server", 4500)?;
    stage.broker_returns()?;
    scored(&agent, "server", ROWS)?;
    stage.both_ends_agree(&agent, MANY)?;
    agent.stop()
}

pub(crate) fn an_agent_is_killed(kind: BrokerKind) -> anyhow::Result<()> {
    let stage = Stage::set(kind)?;
    let mut agent = stage.agent_with_a_stale_model("box-1", 60_000.0)?;
    agent.start()?;
    scored(&agent, "server", 4000)?;
    wait::until_true("the first anomalies at the registry", SOON, || Ok(stage.received("box-1")?.len() > 100))?;
    let before = ids(&stage.received("box-1")?);
    agent.kill()?;
    agent.start()?;
    wait::until_true("the replay to be scored again", SOON, || {
        Ok(stream(&agent.status()?, "server")["rows"].as_u64().unwrap_or(0) >= ROWS)
    })?;
    let all = stage.both_ends_agree(&agent, MANY)?;
    anyhow::ensure!(
        before.iter().all(|id| all.contains(id)),
        "what the registry had acknowledged is gone from the box"
    );
    agent.stop()
}

pub(crate) fn two_agents(kind: BrokerKind) -> anyhow::Result<()> {
    let stage = Stage::set(kind)?;
    let mut first = stage.agent("box-1", &replay("server", 0.0))?;
    let mut second = stage.agent("box-2", &replay("server", 0.0))?;
    first.start()?;
    second.start()?;
    for agent in [&first, &second] {
        scored(agent, "server", ROWS)?;
        let there = stage.both_ends_agree(agent, 1)?;
        let own = format!("{}/", agent.device());
        anyhow::ensure!(there.iter().all(|id| id.starts_with(&own)), "a record of another box under {own}");
    }
    let devices = stage.registry.json(["devices", "list"])?;
    anyhow::ensure!(devices.len() == 2, "the registry should know two devices: {devices:?}");
    first.stop()?;
    second.stop()
}

pub(crate) fn garbage_on_every_topic(kind: BrokerKind) -> anyhow::Result<()> {
    let stage = Stage::set(kind)?;
    let mut agent = stage.agent_with_a_stale_model("box-1", 60_000.0)?;
    agent.start()?;
    scored(&agent, "server", 2000)?;
    let words = ["up/birth", "up/journal", "up/status", "up/request", "down/assignment", "down/chunk", "down/ack"];
    let topics: Vec<String> = words.iter().map(|word| format!("vedette/v1/box-1/{word}")).collect();
    let payloads: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"not cbor".to_vec(),
        vec![0xff; 64],
        vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0xa1; 4000],
    ];
    publish_all(stage.registry.broker(), &topics, &payloads)?;
    scored(&agent, "server", ROWS)?;
    stage.both_ends_agree(&agent, MANY)?;
    agent.stop()
}

/// Publishes every payload on every topic, QoS 1, and waits until the broker has them all.
pub(crate) fn publish_all(broker: &str, topics: &[String], payloads: &[Vec<u8>]) -> anyhow::Result<()> {
    let address = broker.trim_start_matches("mqtt://");
    let (host, port) = address.rsplit_once(':').ok_or_else(|| anyhow::anyhow!("no port in {broker}"))?;
    let (client, mut connection) = Client::new(MqttOptions::new("garbage", host, port.parse()?), 256);
    for topic in topics {
        for payload in payloads {
            client.publish(topic, QoS::AtLeastOnce, false, payload.clone())?;
        }
    }
    let mut left = topics.len() * payloads.len();
    for event in connection.iter() {
        match event? {
            Event::Incoming(rumqttc::Packet::PubAck(_)) => left -= 1,
            Event::Outgoing(Outgoing::Disconnect) => break,
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
        if left == 0 {
            return Ok(());
        }
    }
    anyhow::bail!("the broker took {left} payloads too few")
}
