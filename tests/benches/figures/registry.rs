//! How fast the registry takes in anomalies: devices of ours send journal batches at QoS 1 and wait, as an agent does, until the
//! registry says that they are stored (flushed and synced), through the broker inside the registry and through Mosquitto.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rumqttc::{Client, Connection, Event, MqttOptions, NetworkOptions, Packet, QoS};
use vedette_protocol::limit::MAX_PACKET_BYTES;
use vedette_protocol::message::{BatchAck, JournalBatch, Message as _};
use vedette_protocol::topic::{self, Down, Topic, Up};
use vedette_protocol::{
    Anomaly, Body, BootId, Cause, Contribution, DeviceId, Digest, Finite32, Quality, Record, ScoredBy, Stamp, cbor,
};
use vedette_tests::Scratch;
use vedette_tests::broker::{Mosquitto, mosquitto_path};
use vedette_tests::registry::{Broker, Registry};

use crate::Effort;
use crate::measure::Timings;
use crate::report::{Cell, Section};

/// Anomalies in one message: about 30 KiB of at most 64.
const BATCH_RECORDS: u64 = 64;
/// Messages that a device has under way.
const WINDOW: usize = 4;
/// Messages of one measurement, over all its devices.
const BATCHES: usize = 320;
/// Devices that send at the same time, per measurement.
const DEVICES: [usize; 2] = [1, 8];
/// The longest wait for the next packet before the measurement counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures both brokers.
pub(crate) fn run(effort: Effort) -> anyhow::Result<Section> {
    let mut rows = Vec::new();
    let embedded = Scratch::new()?;
    let registry = Registry::start(embedded.path(), &Broker::Embedded)?;
    measure("embedded", &registry, effort, &mut rows)?;
    drop(registry);
    let mut notes = vec![
        format!("Messages of {BATCH_RECORDS} anomalies with 8 contributions each, {WINDOW} under way a device, QoS 1."),
        "From the first publish to the acknowledgement that everything is stored and synced; p50 and p99 are of one message.".to_owned(),
    ];
    if mosquitto_path().is_some() {
        let scratch = Scratch::new()?;
        let mosquitto = Mosquitto::start(scratch.path())?;
        let registry = Registry::start(&scratch.path().join("registry"), &Broker::External(mosquitto.url()))?;
        measure("mosquitto", &registry, effort, &mut rows)?;
    } else {
        notes.push("Mosquitto skipped: it is not installed (`apt-get install mosquitto`).".to_owned());
    }
    Ok(Section {
        title: "Registry, anomalies taken in",
        columns: vec!["broker", "devices", "anomalies", "anomalies/s", "MB/s", "p50 ms", "p99 ms"],
        rows,
        notes,
    })
}

fn measure(name: &str, registry: &Registry, effort: Effort, rows: &mut Vec<Vec<Cell>>) -> anyhow::Result<()> {
    for devices in DEVICES {
        let batches = effort.of(BATCHES) / devices;
        let feeds = (0..devices).map(|i| Feed::new(registry.broker(), &format!("bench-{name}-{devices}-{i}"), batches));
        let feeds: Vec<Feed> = feeds.collect::<Result<_, _>>()?;
        let bytes: usize = feeds.iter().flat_map(|feed| &feed.batches).map(Vec::len).sum();
        let start = Instant::now();
        let threads: Vec<_> = feeds.into_iter().map(|feed| std::thread::spawn(|| feed.send())).collect();
        let mut waits = Timings::new(1);
        for thread in threads {
            let sent = thread.join().map_err(|_| anyhow::anyhow!("a device's thread panicked"))?;
            sent.with_context(|| format!("the registry said: {}", registry.said()))?
                .into_iter()
                .for_each(|wait| waits.add(wait));
        }
        let seconds = start.elapsed().as_secs_f64();
        let anomalies = (devices * batches) as f64 * BATCH_RECORDS as f64;
        rows.push(vec![
            Cell::text(name),
            Cell::Number(devices as f64, 0),
            Cell::Number(anomalies, 0),
            Cell::Number(anomalies / seconds, 0),
            Cell::Number(bytes as f64 / seconds / 1e6, 1),
            Cell::Number(waits.quantile_ns(0.5) / 1e6, 1),
            Cell::Number(waits.quantile_ns(0.99) / 1e6, 1),
        ]);
    }
    Ok(())
}

/// One device: connected, subscribed, its messages ready.
struct Feed {
    device: DeviceId,
    client: Client,
    connection: Connection,
    batches: Vec<Vec<u8>>,
}

impl Feed {
    fn new(broker: &str, device: &str, batches: usize) -> anyhow::Result<Self> {
        let device: DeviceId = device.parse()?;
        let address = broker.trim_start_matches("mqtt://");
        let (host, port) = address.split_once(':').with_context(|| format!("{broker} names no port"))?;
        let mut options = MqttOptions::new(device.to_string(), host, port.parse()?);
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES).set_keep_alive(PATIENCE);
        let (client, mut connection) = Client::new(options, WINDOW + 2);
        // As the agent does: without it, the end of each message waits 40 ms for the acknowledgement of its beginning.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        connection.eventloop.set_network_options(network);
        // As the agent does: without it Nagle holds every message's last piece for 40 ms.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        connection.eventloop.set_network_options(network);
        client.subscribe(topic::down_of(&device), QoS::AtLeastOnce)?;
        while !matches!(next(&mut connection)?, Event::Incoming(Packet::SubAck(_))) {}
        let batches = (0..batches as u64).map(|index| batch(&device, index)).collect::<Result<_, _>>()?;
        Ok(Self { device, client, connection, batches })
    }

    /// Sends everything, gives how long each message waited for its acknowledgement.
    fn send(mut self) -> anyhow::Result<Vec<Duration>> {
        let journal = Topic::up(&self.device, Up::Journal).to_string();
        let ack = Topic::down(&self.device, Down::Ack).to_string();
        let total = self.batches.len() as u64 * BATCH_RECORDS;
        let mut waiting = self.batches.into_iter();
        let mut under_way = VecDeque::new();
        let mut waits = Vec::new();
        let (mut sent, mut acked) = (0, 0);
        loop {
            while under_way.len() < WINDOW
                && let Some(batch) = waiting.next()
            {
                self.client.publish(journal.as_str(), QoS::AtLeastOnce, false, batch)?;
                sent += BATCH_RECORDS;
                under_way.push_back((sent, Instant::now()));
            }
            let Event::Incoming(Packet::Publish(packet)) = next(&mut self.connection)? else { continue };
            if packet.topic != ack {
                continue;
            }
            acked = BatchAck::decode(&packet.payload)?.upto.max(acked);
            while under_way.front().is_some_and(|(upto, _)| *upto <= acked) {
                waits.extend(under_way.pop_front().map(|(_, start): (u64, Instant)| start.elapsed()));
            }
            if acked >= total {
                ensure!(acked == total, "the registry acknowledged {acked} of {total}");
                return Ok(waits);
            }
        }
    }
}

fn next(connection: &mut Connection) -> anyhow::Result<Event> {
    match connection.recv_timeout(PATIENCE) {
        Ok(event) => Ok(event?),
        Err(_) => bail!("nothing came from the broker for {} s", PATIENCE.as_secs()),
    }
}

/// A message of anomalies as a device with 38 signals writes them.
fn batch(device: &DeviceId, index: u64) -> anyhow::Result<Vec<u8>> {
    let first = index * BATCH_RECORDS;
    let records =
        (first..first + BATCH_RECORDS).map(|sequence| Ok((sequence, cbor::to_canonical(&record(sequence)?).into())));
    let batch = JournalBatch::new(device.clone(), 1, records.collect::<anyhow::Result<_>>()?);
    Ok(batch.encode())
}

fn record(sequence: u64) -> anyhow::Result<Record> {
    let wall_ms = 1_790_000_000_000 + i64::try_from(sequence)? * 60_000;
    let number = |value: f32| Finite32::new(value).map_err(anyhow::Error::from);
    let top = (0..8_u8).map(|i| {
        let value = number(0.1 * f32::from(i))?;
        Ok(Contribution { signal: format!("eth1_packets_{i}").parse()?, share: value, value: Some(value) })
    });
    let anomaly = Anomaly {
        stream: "server".parse()?,
        row: sequence,
        at_ms: wall_ms,
        cause: Cause::Model,
        score: number(6.31)?,
        threshold: number(1.489)?,
        top: top.collect::<anyhow::Result<_>>()?,
        by: ScoredBy::Model {
            model: "server-pca@1".parse()?,
            artifact: Digest::of(b"artifact"),
            manifest: Digest::of(b"manifest"),
        },
        input: Digest::of(&sequence.to_le_bytes()),
    };
    let stamp = Stamp {
        boot: "0123456789abcdef0123456789abcdef".parse::<BootId>()?,
        monotonic_ns: sequence * 1_000_000,
        wall_ms,
        quality: Quality::System,
    };
    Ok(Record { stamp, body: Body::Anomaly(anomaly) })
}
