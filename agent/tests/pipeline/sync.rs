//! The talk with the registry, against a broker of a few lines that does whatever a test wants.

#[path = "sync_hostile.rs"]
mod hostile;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vedette_agent::clock::Clock;
use vedette_agent::config::{self, Broker};
use vedette_agent::recorder::{self, Recorder, RecorderThread};
use vedette_agent::scorer::{self, LaneSettings, LastWords};
use vedette_agent::state::State;
use vedette_agent::sync::{self, Link, View};
use vedette_journal::{
    Checkpoint, Cursor, CursorFile, Frontier, Hash, Journal, Options, PublicKey, RealDisk, empty_root,
    verify_consistency,
};
use vedette_protocol::message::{BatchAck, Birth, Claim, JournalBatch, Message as _, Status};
use vedette_protocol::record::{Body, RecordKind};
use vedette_protocol::{DeviceId, Digest};

use super::{read, stream, until};

const EPOCH: u64 = 7;
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const PING: u8 = 12;

/// One connection of the device, as its broker sees it.
struct Peer {
    socket: TcpStream,
    subscribed: BTreeSet<String>,
    /// Topics that the device may not hear.
    refused: BTreeSet<&'static str>,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let mut peer = Self::admit(listener).await;
        peer.socket.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        peer
    }

    /// A connection that has had no answer yet.
    async fn admit(listener: &TcpListener) -> Self {
        let (socket, _) = listener.accept().await.unwrap();
        let mut peer = Self { socket, subscribed: BTreeSet::new(), refused: BTreeSet::new() };
        let (kind, _) = peer.packet().await;
        assert_eq!(kind >> 4, CONNECT);
        peer
    }

    /// The connection is cut, and the device comes again.
    async fn accept_after(cut: Self, listener: &TcpListener) -> Self {
        drop(cut);
        Self::accept(listener).await
    }

    async fn packet(&mut self) -> (u8, Vec<u8>) {
        let kind = self.socket.read_u8().await.unwrap();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = usize::from(self.socket.read_u8().await.unwrap());
            length |= (byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.socket.read_exact(&mut body).await.unwrap();
        (kind, body)
    }

    /// The next message of the device (the last level of its topic and its bytes); each gets its PUBACK.
    async fn said(&mut self) -> (String, Vec<u8>) {
        loop {
            let (kind, body) = self.packet().await;
            match kind >> 4 {
                PUBLISH => {
                    let (topic, rest) = text(&body);
                    self.socket.write_all(&[0x40, 2, rest[0], rest[1]]).await.unwrap();
                    return (topic.rsplit('/').next().unwrap().to_owned(), rest[2..].to_vec());
                }
                SUBSCRIBE => {
                    let mut rest = &body[2..];
                    let mut answer = vec![0x90, 2, body[0], body[1]];
                    while !rest.is_empty() {
                        let (topic, behind) = text(rest);
                        let level = topic.rsplit('/').next().unwrap();
                        rest = &behind[1..];
                        answer.push(if self.refused.contains(level) { 0x80 } else { 1 });
                        self.subscribed.insert(level.to_owned());
                        answer[1] += 1;
                    }
                    self.socket.write_all(&answer).await.unwrap();
                }
                PING => self.socket.write_all(&[0xd0, 0]).await.unwrap(),
                _ => {}
            }
        }
    }

    /// The next batch of the journal.
    async fn batch(&mut self) -> JournalBatch {
        loop {
            let (level, bytes) = self.said().await;
            if level == "journal" {
                return JournalBatch::decode(&bytes).unwrap();
            }
        }
    }

    /// The next batch with records in it: one without only asks how far we are, or proves.
    async fn records(&mut self) -> JournalBatch {
        loop {
            let batch = self.batch().await;
            if !batch.records.is_empty() {
                return batch;
            }
        }
    }

    /// Says something to the device (QoS 0). It may have gone away over it.
    async fn say(&mut self, level: &str, payload: &[u8]) {
        let topic = format!("vedette/v1/box/down/{level}");
        let mut length = 2 + topic.len() + payload.len();
        let mut packet = vec![0x30];
        while length > 0x7f {
            packet.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        packet.extend([length as u8, 0, topic.len() as u8]);
        packet.extend(topic.as_bytes());
        packet.extend(payload);
        self.socket.write_all(&packet).await.ok();
    }

    async fn acknowledge(&mut self, upto: u64) {
        self.say("ack", &BatchAck::new(EPOCH, upto).encode()).await;
    }
}

fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (String::from_utf8(bytes[2..end].to_vec()).unwrap(), &bytes[end..])
}

/// A device with a journal and without sources.
struct Device {
    dir: tempfile::TempDir,
    listener: TcpListener,
    recorder: Recorder,
    recorder_thread: RecorderThread,
    last_words: LastWords,
    view: watch::Receiver<View>,
    stop: CancellationToken,
    talk: JoinHandle<()>,
    assigned: mpsc::Receiver<Vec<u8>>,
    _ends: (
        watch::Sender<vedette_agent::deploy::View>,
        mpsc::Receiver<vedette_protocol::message::Chunk>,
        mpsc::Sender<vedette_protocol::message::ArtifactRequest>,
    ),
}

impl Device {
    async fn start() -> Self {
        Self::start_with(0, "batch_records = 32\nwindow = 12\n").await
    }

    /// With so many records that waited.
    async fn start_with(waited: u64, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!(
            "device = \"box\"\nstate = \"state\"\n[sync]\n{settings}reconnect_initial_spread = \"0s\"\nreconnect_cap = \"1s\"\n[[stream]]\nname = \"server\"\nsource = \"host\"\n"
        );
        std::fs::write(dir.path().join("agent.toml"), text).unwrap();
        let config = config::load(&dir.path().join("agent.toml")).unwrap();
        let (clock, state) = (Clock::start().unwrap(), State::open(&config.state).unwrap());
        let (mut writer, _) = Journal::open(&state.journal(), Options::new(EPOCH)).unwrap();
        for n in 0..waited {
            writer.append(RecordKind::Anomaly.code(), &[n as u8; 400]).unwrap();
            if n % 512 == 511 {
                writer.commit().unwrap();
            }
        }
        writer.close().unwrap();
        let (recorder, recorder_thread) = recorder::open(recorder::Parts {
            disk: Arc::new(RealDisk),
            folder: state.journal(),
            options: Options::new(EPOCH),
            device: config.device.clone(),
            clock,
            boot: None,
            keeping: Some(recorder::Keeping {
                state: state.clone(),
                retention: config.retention,
                has_registry: true,
                checkpoint_records: 200,
                checkpoint_interval: Duration::from_millis(200),
            }),
        })
        .unwrap();
        let lane = LaneSettings {
            stream: stream(),
            schema: read(1).0,
            model: None,
            baseline: true,
            anomaly_rate: 1,
            anomaly_burst: 1,
        };
        let (scorer, last_words) = scorer::start(vec![lane], &recorder, clock);
        let (deploy_out, deploy) = watch::channel(vedette_agent::deploy::View::default());
        let (assignments, assigned) = mpsc::channel(4);
        let (chunks, arriving) = mpsc::channel(4);
        let (asked, requests) = mpsc::channel(4);
        let (view_out, view) = watch::channel(View::default());
        let stop = CancellationToken::new();
        let parts = sync::Parts {
            device: config.device.clone(),
            config: config.sync.clone(),
            broker: Broker { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() },
            state,
            clock,
            recorder: recorder.clone(),
            board: Arc::clone(scorer.board()),
            deploy,
        };
        let talk = tokio::spawn(sync::run(parts, Link { assignments, chunks, requests }, view_out, stop.clone()));
        Self {
            dir,
            listener,
            recorder,
            recorder_thread,
            last_words,
            view,
            stop,
            talk,
            assigned,
            _ends: (deploy_out, arriving, asked),
        }
    }

    /// Journals until there are at least so many records; how many there are.
    async fn journal(&self, records: u64) -> u64 {
        loop {
            let body = Body::Config { digest: Digest::of(b"configuration") };
            let there = self.recorder.append(body).await.unwrap().sequence + 1;
            if there >= records {
                return there;
            }
        }
    }

    async fn acked(&self, upto: u64) {
        until("the cursor moves", async || self.view.borrow().acked == upto).await;
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.talk.await.unwrap();
        self.last_words.finish().await.unwrap();
        drop(self.recorder);
        self.recorder_thread.finish().await.unwrap();
        self.dir
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_registry_s_own_acknowledgement_moves_the_cursor_and_a_cut_connection_loses_nothing() {
    let device = Device::start().await;
    let all = device.journal(200).await;
    let mut peer = Peer::accept(&device.listener).await;
    let (level, birth) = peer.said().await;
    assert_eq!((level.as_str(), peer.subscribed.len()), ("birth", 3), "subscribed before anything can be answered");
    let birth = Birth::decode(&birth).unwrap();
    assert!(birth.online && birth.device == "box".parse::<DeviceId>().unwrap() && birth.streams.len() == 1);
    let (level, status) = peer.said().await;
    assert_eq!(level, "status");
    // What the recorder says of itself may be one turn old.
    assert!((1..=all).contains(&Status::decode(&status).unwrap().next_sequence));
    let mut seen = 0;
    while seen < all {
        let batch = peer.records().await;
        assert_eq!((batch.epoch, batch.records[0].0), (EPOCH, seen), "in order, without a hole");
        seen = batch.records.last().unwrap().0 + 1;
    }
    assert_eq!(device.view.borrow().acked, 0, "a PUBACK is no acknowledgement");
    peer.acknowledge(100).await;
    device.acked(100).await;
    drop(peer);

    let mut peer = Peer::accept(&device.listener).await;
    assert_eq!(peer.records().await.records[0].0, 100, "what was not acknowledged comes again, and nothing else");
    peer.acknowledge(all).await;
    device.acked(all).await;
    device.journal(all + 10).await;
    while peer.records().await.records[0].0 != all {}
    let dir = device.stop().await;
    let stored = CursorFile::new(dir.path().join("state/cursor")).load().unwrap();
    assert_eq!(stored, Some(Cursor { epoch: EPOCH, sequence: all }));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_topic_and_a_retained_monster_do_not_keep_the_device_away() {
    let device = Device::start().await;
    let all = device.journal(10).await;
    let mut connections = 0;
    let mut peer = loop {
        let mut peer = Peer::accept(&device.listener).await;
        connections += 1;
        let (level, _) = peer.said().await;
        assert_eq!(level, "birth");
        if !peer.subscribed.contains("assignment") {
            break peer;
        }
        // What a broker does with a retained message, on every new subscription.
        let lost = device.view.borrow().too_large;
        peer.say("assignment", &vec![0; 200 * 1024]).await;
        until("it gives this connection up", async || device.view.borrow().too_large > lost).await;
    };
    assert_eq!((connections, device.view.borrow().too_large), (4, 3));
    for level in ["ack", "chunk", "nonsense"] {
        for payload in [&b""[..], b"\xff\xff\xff", b"\xa1\x65epoch\x01", &[0x9f; 1000]] {
            peer.say(level, payload).await;
        }
    }
    until("the garbage is counted", async || device.view.borrow().garbage == 12).await;
    assert_eq!(peer.records().await.records[0].0, 0, "the journal comes all the same");
    peer.acknowledge(all).await;
    device.acked(all).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_overtakes_what_has_waited_and_a_backlog_of_a_week_drains_in_seconds() {
    const WAITED: u64 = 20_080;
    let device = Device::start_with(WAITED, "").await;
    let mut peer = Peer::accept(&device.listener).await;
    let (mut there, mut upto) = (BTreeSet::new(), 0);
    let mut fresh = None;
    let began = Instant::now();
    while upto < WAITED {
        let batch = peer.batch().await;
        let (from, below) = batch.span.unwrap();
        assert!(batch.late || below > WAITED, "{from} to {below} had waited");
        assert!(!batch.late || fresh.is_none_or(|fresh| below <= fresh), "{from} to {below} is new");
        assert_eq!(batch.records.len() as u64, below - from);
        there.extend(from..below);
        while there.contains(&upto) {
            upto += 1;
        }
        if fresh.is_none() && upto > 2_000 {
            fresh = Some(device.journal(0).await - 1);
            // Two windows later at most it has come, long before the backlog is through.
            let (mut batches, from) = (0, fresh.unwrap());
            while !there.contains(&from) {
                let batch = peer.batch().await;
                there.extend(batch.records.iter().map(|(n, _)| *n));
                batches += 1;
                assert!(batches <= 16, "{batches} batches before the new record");
            }
            assert!(there.len() < WAITED as usize / 2);
        }
        peer.acknowledge(upto).await;
    }
    let took = began.elapsed();
    println!("{WAITED} records in {took:?}: {:.0} a second", WAITED as f64 / took.as_secs_f64());
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(device.view.borrow().late >= WAITED);
    device.stop().await;
}

/// What a registry does with a claim.
#[derive(Default)]
struct Judge {
    size: u64,
    root: Option<Hash>,
    key: Option<PublicKey>,
}

impl Judge {
    fn accept(&mut self, claim: &Claim) {
        let key = PublicKey(claim.key.0.as_slice().try_into().unwrap());
        assert_eq!(*self.key.get_or_insert(key), key, "one key for ever");
        let Checkpoint { origin, size, root } = Checkpoint::open(&claim.note, &key).unwrap();
        assert_eq!((origin, claim.from), (format!("vedette/box/{EPOCH}"), self.size));
        let hashes = |digests: &[Digest]| digests.iter().map(|digest| Hash(*digest.as_bytes())).collect::<Vec<_>>();
        let before = self.root.unwrap_or_else(empty_root);
        assert!(size > self.size);
        assert!(claim.from == 0 || verify_consistency(self.size, &before, size, &root, &hashes(&claim.proof)));
        assert_eq!(Frontier::from_parts(size, hashes(&claim.frontier)).unwrap().root(), root);
        (self.size, self.root) = (size, Some(root));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_claim_continues_the_one_before_and_comes_behind_its_records() {
    let device = Device::start_with(300, "").await;
    let mut judge = Judge::default();
    let mut peer = Peer::accept(&device.listener).await;
    let (mut upto, mut claims, mut wanted) = (0, 0, 300);
    while claims < 3 {
        let batch = peer.batch().await;
        upto = upto.max(batch.span.unwrap().1);
        if let Some(claim) = &batch.checkpoint {
            judge.accept(claim);
            assert!(judge.size <= upto, "a record below it was not sent before");
            claims += 1;
            if claims == 2 {
                // The answer is lost with the connection: the next one asks, and proves from what the registry has.
                peer = Peer::accept_after(peer, &device.listener).await;
            }
            wanted = device.journal(wanted + 300).await;
        }
        let ack = BatchAck { checkpoint: judge.size, ..BatchAck::new(EPOCH, upto) };
        peer.say("ack", &ack.encode()).await;
    }
    until("the last one is known to be accepted", async || device.view.borrow().checkpoint == judge.size).await;
    // A registry that takes nothing more: it is said, nothing is lost, and no more than a batch is sent.
    let refusal = BatchAck { refused: Some("its log forks".to_owned()), ..BatchAck::new(EPOCH, upto) };
    peer.say("ack", &refusal.encode()).await;
    until("it is said", async || {
        device.view.borrow().degraded.as_ref().is_some_and(|why| why.contains("its log forks"))
    })
    .await;
    device.stop().await;
}
