//! Telemetry that comes from a local broker.

use serde_json::{Value, json};
use vedette_protocol::cbor;
use vedette_tests::wait;

use crate::delivery::publish_all;
use crate::story::{BrokerKind, SOON, Stage, scored, stream};

/// Two streams of one broker: the same samples, once in JSON and once in CBOR.
pub(crate) fn a_local_topic(kind: BrokerKind) -> anyhow::Result<()> {
    let stage = Stage::set(kind)?;
    let broker = stage.registry.broker().to_owned();
    let table = |name: &str| {
        format!(
            "[[stream]]\nname = \"{name}\"\nsource = \"mqtt\"\nbroker = \"{broker}\"\ntopic = \"plant/{name}\"\nformat = \"{name}\"\nsignals = [{{ name = \"flow\", unit = \"1\" }}, {{ name = \"heat\", unit = \"Cel\" }}]\n"
        )
    };
    let mut agent = stage.agent("box-1", &(table("json") + &table("cbor")))?;
    agent.start()?;
    for (name, write) in [("json", written as fn(&Value) -> Vec<u8>), ("cbor", cbor::encode)] {
        let topics = [format!("plant/{name}")];
        let said = |message: &Value| publish_all(&broker, &topics, &[write(message)]);
        let counted = |key: &str| anyhow::Ok(stream(&agent.status()?, name)[key].as_u64().unwrap_or(0));
        // What is published before the source has subscribed is nobody's.
        wait::until_true("the source to hear its topic", SOON, || {
            said(&json!({ "at": 1, "values": { "flow": 0.5, "heat": 20 } }))?;
            Ok(counted("row")? > 0)
        })?;
        let wrong = [
            json!({ "at": 5, "values": { "flow": 0.5, "steam": 1 } }),
            json!({ "at": 5, "values": { "flow": "much" } }),
            json!("no sample"),
        ];
        wrong.iter().try_for_each(said)?;
        publish_all(&broker, &topics, &[vec![0xff; 40]])?;
        wait::until_true("four refusals", SOON, || Ok(counted("rejected")? == 4))?;
        let before = counted("row")?;
        for at in 6..16 {
            said(&json!({ "at": at, "values": { "flow": 0.5, "heat": null } }))?;
        }
        said(&json!({ "at": 2, "values": { "flow": 0.5 } }))?;
        wait::until_true("a refusal of time that goes back", SOON, || Ok(counted("rejected")? == 5))?;
        scored(&agent, name, before + 10)?;
    }
    agent.stop()
}

fn written(message: &Value) -> Vec<u8> {
    message.to_string().into_bytes()
}
