//! What devices say and are told, over the real embedded broker.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::mpsc;
use vedette_protocol::assignment::Assignment;
use vedette_protocol::cbor;
use vedette_protocol::envelope;
use vedette_protocol::id::{BootId, DeviceId, Digest};
use vedette_protocol::limit::{MAX_BATCH_BYTES, MAX_CHUNK_DATA_BYTES, MAX_PACKET_BYTES};
use vedette_protocol::message::{ArtifactRequest, BatchAck, Birth, Chunk, ChunkError, JournalBatch, Message, Want};
use vedette_protocol::record::{Body, PreviousEnd, Record};
use vedette_protocol::time::{Quality, Stamp};
use vedette_protocol::topic::{self, Direction, Down, Topic, Up};

use crate::kit::{Package, START_MS, Scratch, Served};
use crate::signed_log::{EPOCH, Signer};

const SOON: Duration = Duration::from_secs(20);

/// A device as the broker sees one.
struct Device {
    id: DeviceId,
    client: AsyncClient,
    heard: mpsc::Receiver<(Down, Vec<u8>)>,
}

impl Device {
    async fn connect(served: &Served, id: &str) -> Device {
        let id: DeviceId = id.parse().unwrap();
        let port = served.broker.rsplit(':').next().unwrap().parse().unwrap();
        let mut options = MqttOptions::new(id.as_str(), "127.0.0.1", port);
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        let (client, mut events) = AsyncClient::new(options, 64);
        client.subscribe(topic::down_of(&id), QoS::AtLeastOnce).await.unwrap();
        let (told, heard) = mpsc::channel(64);
        let (ready, mut subscribed) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => ready.send(()).await.unwrap(),
                    Event::Incoming(Packet::Publish(publish)) => {
                        let topic: Topic = publish.topic.parse().unwrap();
                        let Direction::Down(down) = topic.direction else { panic!("{topic}") };
                        if told.send((down, publish.payload.to_vec())).await.is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        tokio::time::timeout(SOON, subscribed.recv()).await.unwrap().unwrap();
        Device { id, client, heard }
    }

    async fn say(&self, up: Up, payload: Vec<u8>) {
        let topic = Topic::up(&self.id, up);
        self.client.publish(topic.to_string(), QoS::AtLeastOnce, topic.retained(), payload).await.unwrap();
    }

    /// The next message of this kind; others are passed over.
    async fn hear(&mut self, kind: Down) -> Vec<u8> {
        let next = async {
            loop {
                let (down, payload) = self.heard.recv().await.unwrap();
                if down == kind {
                    return payload;
                }
            }
        };
        tokio::time::timeout(SOON, next).await.expect("nothing was heard in time")
    }

    async fn ack(&mut self) -> BatchAck {
        BatchAck::decode(&self.hear(Down::Ack).await).unwrap()
    }

    async fn ask(&mut self, digest: Digest, want: Want, offset: u64) -> Chunk {
        let length = u32::try_from(MAX_CHUNK_DATA_BYTES).unwrap();
        self.say(Up::Request, ArtifactRequest { digest, want, offset, length }.encode()).await;
        Chunk::decode(&self.hear(Down::Chunk).await).unwrap()
    }

    fn birth(&self, assignment_version: u64) -> Vec<u8> {
        Birth {
            device: self.id.clone(),
            online: true,
            boot: BootId::from_bytes([7; 16]),
            agent_version: "0.1.0".to_owned(),
            epoch: 1,
            streams: vec![],
            assignment_version,
        }
        .encode()
    }
}

fn records(from: u64, count: u64) -> Vec<(u64, cbor::Bytes)> {
    let stamp =
        Stamp { boot: BootId::from_bytes([7; 16]), monotonic_ns: 1, wall_ms: START_MS, quality: Quality::System };
    let body = Body::Boot { agent_version: "0.1.0".to_owned(), previous: PreviousEnd::First };
    let bytes = cbor::to_canonical(&Record { stamp, body });
    (from..from + count).map(|sequence| (sequence, bytes.clone().into())).collect()
}

fn batch(device: &str, epoch: u64, from: u64, count: u64) -> Vec<u8> {
    JournalBatch::new(device.parse().unwrap(), epoch, records(from, count)).encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_acknowledged_when_it_is_stored_and_again_when_it_comes_again() {
    let served = Scratch::new().serve().await;
    let mut device = Device::connect(&served, "box-1").await;
    device.say(Up::Journal, batch("box-1", 5, 0, 10)).await;
    assert_eq!(device.ack().await, BatchAck::new(5, 10));
    device.say(Up::Journal, batch("box-1", 5, 0, 10)).await;
    assert_eq!(device.ack().await, BatchAck::new(5, 10));
    device.say(Up::Journal, batch("box-1", 5, 12, 3)).await;
    let beyond = BatchAck { held: vec![(12, 15)], ..BatchAck::new(5, 10) };
    assert_eq!(device.ack().await, beyond, "a hole is not acknowledged");
    let shown = served.json("/api/v1/devices/box-1").await;
    assert_eq!(shown["journals"][0]["upto"], 10);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_hears_how_far_it_is_signed_what_is_held_and_why_it_is_refused() {
    let served = Scratch::new().serve().await;
    let mut device = Device::connect(&served, "box").await;
    let mut signer = Signer::new();
    signer.find("server", 30);
    let say = |from, below, claim| {
        let records = signer.records(from, below).into_iter().map(|(n, bytes)| (n, bytes.into())).collect();
        JournalBatch { checkpoint: claim, ..JournalBatch::new("box".parse().unwrap(), EPOCH, records) }
    };
    device.say(Up::Journal, say(0, 10, Some(signer.claim(10))).encode()).await;
    assert_eq!(device.ack().await, BatchAck { checkpoint: 10, ..BatchAck::new(EPOCH, 10) });
    device.say(Up::Journal, say(25, 30, None).encode()).await;
    assert_eq!(device.ack().await, BatchAck { checkpoint: 10, held: vec![(25, 30)], ..BatchAck::new(EPOCH, 10) });
    let gone = JournalBatch { span: Some((10, 25)), late: true, ..say(20, 25, None) };
    device.say(Up::Journal, gone.encode()).await;
    assert_eq!(device.ack().await, BatchAck { checkpoint: 10, ..BatchAck::new(EPOCH, 30) });
    let other = JournalBatch::new("box".parse().unwrap(), EPOCH, records(3, 1));
    device.say(Up::Journal, other.encode()).await;
    let refused = device.ack().await;
    assert_eq!((refused.upto, refused.checkpoint), (30, 10));
    assert!(refused.refused.unwrap().contains("two different records as box/77/3"));
    // "Where are you?" is answered, too.
    device.say(Up::Journal, JournalBatch { span: Some((30, 30)), ..say(30, 30, None) }.encode()).await;
    assert!(device.ack().await.refused.is_some());
    let reason = serde_json::json!({ "reason": "a test" });
    let path = "/api/v1/devices/box/release";
    let released = served.send(reqwest::Method::POST, path, &served.tokens.approver, &reason).await;
    assert_eq!(released.status().as_u16(), 200);
    device.say(Up::Journal, JournalBatch { span: Some((30, 30)), ..say(30, 30, None) }.encode()).await;
    assert_eq!(device.ack().await, BatchAck::new(EPOCH, 30));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_topic_ends_nothing() {
    let served = Scratch::new().serve().await;
    let mut device = Device::connect(&served, "box-1").await;
    for up in Up::ALL {
        for garbage in
            [vec![], vec![0xff; 100], vec![0x9f; 1000], b"\xa1\x64name".to_vec(), vec![0; MAX_BATCH_BYTES + 1]]
        {
            device.say(up, garbage).await;
        }
    }
    device.client.publish("vedette/v1/box-1/up/nonsense", QoS::AtLeastOnce, false, "x").await.unwrap();
    device.client.publish("vedette/v1/BOX/up/journal", QoS::AtLeastOnce, false, "x").await.unwrap();
    device.say(Up::Journal, batch("box-2", 1, 0, 3)).await; // speaks for another
    device.say(Up::Journal, batch("box-1", 1, 0, 3)).await;
    assert_eq!(device.ack().await, BatchAck::new(1, 3));
    assert_eq!(served.get("/api/v1/devices/box-2").await.status().as_u16(), 404);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_above_the_limit_costs_its_sender_the_connection_and_nobody_else() {
    let served = Scratch::new().serve().await;
    let port = served.broker.rsplit(':').next().unwrap().parse().unwrap();
    let mut options = MqttOptions::new("large", "127.0.0.1", port);
    options.set_max_packet_size(MAX_PACKET_BYTES, 4 * MAX_PACKET_BYTES);
    let (large, mut events) = AsyncClient::new(options, 8);
    large.publish("vedette/v1/large/up/journal", QoS::AtLeastOnce, false, vec![0; 2 * MAX_PACKET_BYTES]).await.unwrap();
    let cut = async { while events.poll().await.is_ok() {} };
    tokio::time::timeout(SOON, cut).await.expect("the broker took it");
    let mut device = Device::connect(&served, "box-1").await;
    device.say(Up::Journal, batch("box-1", 1, 0, 1)).await;
    assert_eq!(device.ack().await.upto, 1);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_waits_for_a_device_and_is_told_again_to_one_that_has_an_older_one() {
    let served = Scratch::new().serve().await;
    let package = Package::demo("v1", &served.scratch.models);
    assert_eq!(served.push(&package).await.status().as_u16(), 201);
    let slots = serde_json::json!({ "slots": { "server": package.model().to_string() } });
    let path = "/api/v1/devices/box-1/assignment";
    let made = served.send(reqwest::Method::PUT, path, &served.tokens.approver, &slots).await;
    assert_eq!(made.status().as_u16(), 200);
    let mut device = Device::connect(&served, "box-1").await;
    let trust =
        vedette_protocol::Trust::from_toml(&std::fs::read_to_string(&served.scratch.config.keys.trust).unwrap())
            .unwrap();
    let read = |bytes: Vec<u8>| envelope::open::<Assignment>(&bytes, &trust.fleet).unwrap().value;
    let first = read(device.hear(Down::Assignment).await);
    assert_eq!((first.audience.as_str(), first.version), ("box-1", 1));
    assert_eq!(first.slots[0].model, package.model());
    device.say(Up::Birth, device.birth(0)).await;
    assert_eq!(read(device.hear(Down::Assignment).await), first, "it said that it has none");
    device.say(Up::Birth, device.birth(1)).await;
    device.say(Up::Journal, batch("box-1", 1, 0, 1)).await;
    device.ack().await;
    assert!(device.heard.try_recv().is_err(), "it has the newest and is told nothing");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_broker_has_forgotten_and_is_told_again() {
    let served = Scratch::new().serve().await;
    let package = Package::demo("v1", &served.scratch.models);
    served.push(&package).await;
    let slots = serde_json::json!({ "slots": { "server": package.model().to_string() } });
    served.send(reqwest::Method::PUT, "/api/v1/devices/box-1/assignment", &served.tokens.approver, &slots).await;
    // The embedded broker and all that it kept end with the program; a new one begins.
    let served = served.end().await.serve().await;
    let mut device = Device::connect(&served, "box-1").await;
    device.hear(Down::Assignment).await;
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_come_in_chunks_over_the_broker() {
    let served = Scratch::new().serve().await;
    let package = Package::demo("v1", &served.scratch.models);
    served.push(&package).await;
    let large: Vec<u8> = (0..MAX_CHUNK_DATA_BYTES * 2 + 5).map(|n| u8::try_from(n % 251).unwrap()).collect();
    served.upload(&large).await;
    let digest = Digest::of(&large);
    let mut device = Device::connect(&served, "box-1").await;
    let mut whole = Vec::new();
    while whole.len() < large.len() {
        let chunk = device.ask(digest, Want::Blob, whole.len() as u64).await;
        assert_eq!((chunk.digest, chunk.offset, chunk.error), (digest, whole.len() as u64, None));
        assert_eq!(chunk.total, large.len() as u64);
        whole.extend_from_slice(&chunk.bytes);
    }
    assert_eq!(Digest::of(&whole), digest);
    let manifest = envelope::digest_of_payload(&package.envelope).unwrap();
    assert_eq!(device.ask(manifest, Want::Manifest, 0).await.bytes.to_vec(), package.envelope);
    assert_eq!(device.ask(digest, Want::Blob, large.len() as u64 + 1).await.error, Some(ChunkError::BadRange));
    assert_eq!(device.ask(Digest::of(b"unknown"), Want::Blob, 0).await.error, Some(ChunkError::NotFound));
    assert_eq!(device.ask(digest, Want::Manifest, 0).await.error, Some(ChunkError::NotFound));
    served.end().await;
}
