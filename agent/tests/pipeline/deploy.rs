//! The way of a model onto a device: real seals, real files, real trials; only the broker is a pair of channels.

mod hostile;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vedette_agent::clock::Clock;
use vedette_agent::config::{self, Config};
use vedette_agent::deploy::{self, Link, View};
use vedette_agent::recorder::{self, Recorder, RecorderThread};
use vedette_agent::scorer::{self, LaneSettings, LastWords, Scorer};
use vedette_agent::state::State;
use vedette_journal::{Journal, Options, Reader};
use vedette_protocol::assignment::{Assignment, Slot};
use vedette_protocol::key::{KeySet, SigningKey, Trust};
use vedette_protocol::manifest::{Manifest, SelfTest};
use vedette_protocol::message::{ArtifactRequest, Chunk, ChunkError, Want};
use vedette_protocol::record::{Record, Stage};
use vedette_protocol::{Blob, Digest, Draft, ModelVersion, cbor, envelope};

use super::{data, read, stream, until};

/// The people who sign, and what the registry has.
struct Fleet {
    models: SigningKey,
    fleet: SigningKey,
    manifests: BTreeMap<Digest, Vec<u8>>,
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Fleet {
    fn new() -> Self {
        let key = || SigningKey::generate().unwrap().0;
        Self { models: key(), fleet: key(), manifests: BTreeMap::new(), blobs: BTreeMap::new() }
    }

    fn trust(&self) -> Trust {
        Trust { models: KeySet::single(self.models.public()), fleet: KeySet::single(self.fleet.public()) }
    }

    /// A model of the demo with its files, not signed yet.
    fn draft(&mut self, folder: &str) -> Manifest {
        let folder = data(folder);
        let onnx = std::fs::read(folder.join("model.onnx")).unwrap();
        let selftest: SelfTest = serde_json::from_slice(&std::fs::read(folder.join("selftest.json")).unwrap()).unwrap();
        let selftest = cbor::to_canonical(&selftest);
        let draft =
            Draft::from_toml(&std::fs::read_to_string(folder.join("manifest.toml")).unwrap(), "manifest.toml").unwrap();
        let (manifest, _) = draft.finish(Blob::of(&onnx), Blob::of(&selftest), 0).unwrap();
        self.blobs.insert(Digest::of(&onnx), onnx);
        self.blobs.insert(Digest::of(&selftest), selftest);
        manifest
    }

    /// Signs a manifest; the slot that names it.
    fn publish(&mut self, manifest: &Manifest) -> Slot {
        let sealed = envelope::seal(manifest, &[&self.models]);
        let digest = Digest::of(&cbor::to_canonical(manifest));
        self.manifests.insert(digest, sealed);
        Slot { stream: stream(), model: manifest.model.clone(), manifest: digest }
    }

    fn push(&mut self, folder: &str) -> Slot {
        let manifest = self.draft(folder);
        self.publish(&manifest)
    }

    fn assignment(version: u64, slot: &Slot) -> Assignment {
        Assignment {
            audience: "box".parse().unwrap(),
            version,
            issued_ms: 1,
            expires_ms: i64::MAX,
            slots: vec![slot.clone()],
        }
    }

    fn assign(&self, version: u64, slot: &Slot) -> Vec<u8> {
        envelope::seal(&Self::assignment(version, slot), &[&self.fleet])
    }

    fn answer(&self, request: &ArtifactRequest) -> Chunk {
        let file = match request.want {
            Want::Manifest => self.manifests.get(&request.digest),
            Want::Blob => self.blobs.get(&request.digest),
        };
        let from = usize::try_from(request.offset).unwrap();
        let (total, bytes, error) = match file {
            None => (0, Vec::new(), Some(ChunkError::NotFound)),
            Some(file) if from >= file.len() => (file.len() as u64, Vec::new(), Some(ChunkError::BadRange)),
            Some(file) => {
                (file.len() as u64, file[from..file.len().min(from + request.length as usize)].to_vec(), None)
            }
        };
        Chunk { digest: request.digest, offset: request.offset, total, bytes: bytes.into(), error }
    }
}

/// A device without sources.
struct Device {
    dir: tempfile::TempDir,
    recorder: Recorder,
    recorder_thread: RecorderThread,
    scorer: Scorer,
    last_words: LastWords,
    assignments: mpsc::Sender<Vec<u8>>,
    chunks: mpsc::Sender<Chunk>,
    requests: mpsc::Receiver<ArtifactRequest>,
    view: watch::Receiver<View>,
    stop: CancellationToken,
    driver: JoinHandle<anyhow::Result<()>>,
}

/// The deploy settings of most tests: patient with a trial on a busy machine.
const PATIENT: &str = "trial_deadline = \"20s\"";

fn configuration(dir: &tempfile::TempDir, trust: &Trust, deploy: &str) -> Config {
    std::fs::write(dir.path().join("trust.toml"), trust.to_toml()).unwrap();
    let text = format!(
        "device = \"box\"\nstate = \"state\"\n[registry]\nbroker = \"mqtt://127.0.0.1:1\"\n[deploy]\nretry = \"100ms\"\n{deploy}\n[[stream]]\nname = \"server\"\nsource = \"host\"\n"
    );
    std::fs::write(dir.path().join("agent.toml"), text).unwrap();
    config::load(&dir.path().join("agent.toml")).unwrap()
}

impl Device {
    fn start(dir: tempfile::TempDir, trust: &Trust) -> Self {
        Self::start_with(dir, trust, PATIENT)
    }

    fn start_with(dir: tempfile::TempDir, trust: &Trust, deploy: &str) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let config = configuration(&dir, trust, deploy);
        let registry = config.registry.clone().unwrap();
        let (clock, state) = (Clock::start().unwrap(), State::open(&config.state).unwrap());
        let (writer, _) = Journal::open(&state.journal(), Options::new(7)).unwrap();
        let (recorder, recorder_thread) =
            recorder::start(writer, state.journal(), config.device.clone(), clock).unwrap();
        let mut opened = deploy::open(&config, &registry, &state).unwrap();
        let (schema, _) = read(1);
        let model = std::mem::take(&mut opened.live).remove(&stream());
        let lane =
            LaneSettings { stream: stream(), schema, model, baseline: true, anomaly_rate: 1000, anomaly_burst: 1000 };
        let (scorer, last_words) = scorer::start(vec![lane], &recorder, clock);
        let (assignments, assigned) = mpsc::channel(4);
        let (chunks, arriving) = mpsc::channel(4);
        let (asked, requests) = mpsc::channel(4);
        let (view_out, view) = watch::channel(opened.view());
        let parts = deploy::Parts {
            device: config.device.clone(),
            config: config.deploy.clone(),
            registry,
            state,
            clock,
            recorder: recorder.clone(),
            scorer: scorer.clone(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_vedette-agent")),
        };
        let stop = CancellationToken::new();
        let link = Link { assignments: assigned, chunks: arriving, requests: asked };
        let driver = tokio::spawn(deploy::run(parts, opened, link, view_out, stop.clone()));
        Self { dir, recorder, recorder_thread, scorer, last_words, assignments, chunks, requests, view, stop, driver }
    }

    /// Sends an assignment and plays the registry until it is taken and the stream's way has ended so.
    async fn runs_to(&mut self, fleet: &Fleet, sealed: Vec<u8>, wanted: Stage) {
        let version = envelope::peek::<Assignment>(&sealed).unwrap().version;
        self.assignments.send(sealed).await.unwrap();
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        while self.view.borrow().assignment_version != version || self.stage() != Some(wanted) {
            tokio::select! {
                Some(request) = self.requests.recv() => self.chunks.send(fleet.answer(&request)).await.unwrap(),
                changed = self.view.changed() => changed.unwrap(),
                () = tokio::time::sleep_until(deadline) => panic!("waited in vain for {wanted:?}: {:?}", self.view.borrow()),
            }
        }
    }

    fn stage(&self) -> Option<Stage> {
        self.view.borrow().steps.first().map(|step| step.stage)
    }

    fn why(&self) -> String {
        self.view.borrow().steps.first().and_then(|step| step.detail.clone()).unwrap_or_default()
    }

    fn running(&self) -> String {
        self.scorer.board().lanes()[0].running().by.to_string()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.driver.await.unwrap().unwrap();
        drop(self.scorer);
        self.last_words.finish().await.unwrap();
        drop(self.recorder);
        self.recorder_thread.finish().await.unwrap();
        self.dir
    }
}

/// The deploy steps of a journal, in its order.
fn journalled(dir: &tempfile::TempDir) -> Vec<(String, Stage)> {
    let mut reader = Reader::open(&dir.path().join("state/journal"), 0).unwrap();
    let mut steps = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        if let vedette_protocol::Body::Deploy(step) = cbor::from_canonical::<Record>(&entry.payload).unwrap().body {
            steps.push((step.model.to_string(), step.stage));
        }
    }
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assigned_model_is_verified_fetched_tried_and_live_and_every_step_is_journalled() {
    let mut fleet = Fleet::new();
    let (v1, v2) = (fleet.push("demo/v1"), fleet.push("demo/v2"));
    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    assert_eq!(device.running(), "baseline 2");
    device.runs_to(&fleet, fleet.assign(1, &v1), Stage::Live).await;
    assert_eq!((device.running().as_str(), device.view.borrow().assignment_version), ("server-pca@1", 1));
    device.assignments.send(fleet.assign(2, &v2)).await.unwrap();
    until("version 2 is live", async || {
        serve(&mut device, &fleet).await;
        device.running() == "server-pca@2"
    })
    .await;
    until("its step is journalled and stored", async || device.stage() == Some(Stage::Live)).await;
    let dir = device.stop().await;
    let way = |model: &str| {
        [Stage::Assigned, Stage::Verified, Stage::Fetched, Stage::Tried, Stage::Live]
            .map(|stage| (model.to_owned(), stage))
    };
    assert_eq!(journalled(&dir), [way("server-pca@1"), way("server-pca@2")].concat());

    let device = Device::start(dir, &fleet.trust());
    assert_eq!(device.running(), "server-pca@2", "before the first sample, with nobody to ask");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_live_model_is_replaced_by_the_baseline_until_it_is_fetched_again() {
    let mut fleet = Fleet::new();
    let v1 = fleet.push("demo/v1");
    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    device.runs_to(&fleet, fleet.assign(1, &v1), Stage::Live).await;
    let dir = device.stop().await;
    for entry in std::fs::read_dir(dir.path().join("state/models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "blob") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[10] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let mut device = Device::start(dir, &fleet.trust());
    assert_eq!(device.running(), "baseline 2");
    device.runs_to(&fleet, fleet.assign(1, &v1), Stage::Live).await;
    assert_eq!(device.running(), "server-pca@1");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_must_not_run_is_refused_with_its_reason_and_the_old_one_goes_on() {
    let mut fleet = Fleet::new();
    let v1 = fleet.push("demo/v1");
    let good = fleet.draft("demo/v2");
    let mut cases: Vec<(Slot, &str)> = vec![
        (fleet.push("demo/bad/nan"), "trial failed"),
        (fleet.push("demo/bad/shape"), "trial failed"),
        (fleet.push("demo/bad/untrue"), "trial failed"),
        (fleet.push("demo/bad/unit"), "mem_u_e"),
    ];
    // Signed by somebody else.
    let digest = Digest::of(&cbor::to_canonical(&good));
    fleet.manifests.insert(digest, envelope::seal(&good, &[&fleet.fleet]));
    cases.push((
        Slot { stream: stream(), model: good.model.clone(), manifest: digest },
        "manifest is not to be believed",
    ));
    // Another manifest under the assigned digest.
    let other = Digest::of(b"other");
    fleet.manifests.insert(other, fleet.manifests[&v1.manifest].clone());
    cases.push((Slot { stream: stream(), model: v1.model.clone(), manifest: other }, "is assigned"));
    // The assigned digest under another name.
    let renamed = fleet.publish(&Manifest { issued_ms: 1, ..good.clone() });
    cases.push((Slot { model: "pump@9".parse().unwrap(), ..renamed }, "pump@9 is assigned"));
    // The artifact's bytes are others.
    let onnx = b"not a graph at all, but of a length".to_vec();
    let wrong =
        Manifest { artifact: Blob { digest: Digest::of(b"wanted"), length: onnx.len() as u64 }, ..good.clone() };
    fleet.blobs.insert(Digest::of(b"wanted"), onnx.clone());
    cases.push((fleet.publish(&wrong), "has the digest"));
    let long =
        Manifest { artifact: Blob { digest: Digest::of(b"wanted"), length: onnx.len() as u64 - 1 }, ..good.clone() };
    cases.push((fleet.publish(&long), "goes on behind"));
    // Not ONNX, and larger than this device takes.
    let garbage = Manifest { artifact: Blob::of(&onnx), ..good.clone() };
    fleet.blobs.insert(Digest::of(&onnx), onnx);
    cases.push((fleet.publish(&garbage), "trial failed"));
    let huge = Manifest { artifact: Blob { digest: Digest::of(b"huge"), length: 128 << 20 }, ..good };
    cases.push((fleet.publish(&huge), "deploy.artifact_max"));

    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    device.runs_to(&fleet, fleet.assign(1, &v1), Stage::Live).await;
    for (version, (slot, reason)) in (2..).zip(cases) {
        device.runs_to(&fleet, fleet.assign(version, &slot), Stage::Refused).await;
        assert!(device.why().contains(reason), "{slot:?}: expected `{reason}`, got `{}`", device.why());
        assert_eq!(device.running(), "server-pca@1", "{reason}");
    }
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_below_a_floor_that_was_live_is_refused() {
    let mut fleet = Fleet::new();
    let v1 = fleet.push("demo/v1");
    let v2 = Manifest { floor: ModelVersion::new(2).unwrap(), ..fleet.draft("demo/v2") };
    let v2 = fleet.publish(&v2);
    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    device.runs_to(&fleet, fleet.assign(1, &v2), Stage::Live).await;
    device.runs_to(&fleet, fleet.assign(2, &v1), Stage::Refused).await;
    assert!(device.why().contains("server-pca@1 is below version 2"), "{}", device.why());
    assert_eq!(device.running(), "server-pca@2");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_must_not_be_followed_changes_nothing_and_says_why() {
    let mut fleet = Fleet::new();
    let (v1, v2) = (fleet.push("demo/v1"), fleet.push("demo/v2"));
    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    device.runs_to(&fleet, fleet.assign(5, &v1), Stage::Live).await;
    let base = Fleet::assignment(6, &v2);
    let seal = |assignment: &Assignment| envelope::seal(assignment, &[&fleet.fleet]);
    let mut torn = seal(&base);
    torn.truncate(40);
    let cases = [
        (seal(&Assignment { audience: "other-box".parse().unwrap(), ..base.clone() }), "is for device other-box"),
        (seal(&Assignment { version: 4, ..base.clone() }), "older than 5"),
        (seal(&Assignment { version: 5, ..base.clone() }), "needs a higher version"),
        (seal(&Assignment { expires_ms: 2, ..base.clone() }), "expired at 1970-01-01"),
        (envelope::seal(&base, &[&fleet.models]), "not to be believed"),
        (torn, "not to be believed"),
        (vec![0xff; 300], "not to be believed"),
        (Vec::new(), "not to be believed"),
    ];
    for (sealed, reason) in cases {
        device.assignments.send(sealed).await.unwrap();
        until(reason, async || device.view.borrow().refusal.as_ref().is_some_and(|why| why.contains(reason))).await;
        assert_eq!(
            (device.running().as_str(), device.view.borrow().assignment_version),
            ("server-pca@1", 5),
            "{reason}"
        );
    }
    device.assignments.send(seal(&base)).await.unwrap();
    until("it is taken", async || {
        serve(&mut device, &fleet).await;
        device.running() == "server-pca@2"
    })
    .await;
    until("the refusal is forgotten", async || device.view.borrow().refusal.is_none()).await;
    let refused = journalled(&device.stop().await).into_iter().filter(|(_, stage)| *stage == Stage::Refused).count();
    assert_eq!(refused, 5, "each that could be read, once");
}

/// Answers one question, if there is one.
async fn serve(device: &mut Device, fleet: &Fleet) {
    if let Ok(request) = device.requests.try_recv() {
        device.chunks.send(fleet.answer(&request)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_assignment_drops_the_one_under_way() {
    let mut fleet = Fleet::new();
    let v1 = fleet.push("demo/v1");
    let missing = Slot { manifest: Digest::of(b"nobody has it"), ..v1.clone() };
    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    device.assignments.send(fleet.assign(1, &missing)).await.unwrap();
    let asked = device.requests.recv().await.unwrap();
    assert_eq!(asked.digest, missing.manifest, "it asks, and nobody answers");
    device.runs_to(&fleet, fleet.assign(2, &v1), Stage::Live).await;
    assert_eq!(device.running(), "server-pca@1");
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_registry_does_not_have_yet_is_waited_for() {
    let mut fleet = Fleet::new();
    let v1 = fleet.push("demo/v1");
    let later = std::mem::take(&mut fleet.blobs);
    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    device.assignments.send(fleet.assign(1, &v1)).await.unwrap();
    until("it waits", async || {
        serve(&mut device, &fleet).await;
        device.view.borrow().waiting.iter().any(|(_, why)| why.contains("the registry has no sha256:"))
    })
    .await;
    assert_eq!(device.stage(), Some(Stage::Verified));
    fleet.blobs = later;
    device.runs_to(&fleet, fleet.assign(1, &v1), Stage::Live).await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_stored_before_it_is_begun() {
    let mut fleet = Fleet::new();
    let v1 = fleet.push("demo/v1");
    let mut device = Device::start(tempfile::tempdir().unwrap(), &fleet.trust());
    // A folder where the new state would be written: nothing can be stored.
    let in_the_way = device.dir.path().join("state/deploy.cbor.new");
    std::fs::create_dir(&in_the_way).unwrap();
    device.assignments.send(fleet.assign(1, &v1)).await.unwrap();
    until("it waits for the disk", async || {
        device.view.borrow().waiting.iter().any(|(_, why)| why.contains("couldn't store"))
    })
    .await;
    assert!(device.requests.try_recv().is_err(), "nobody is asked for a manifest");
    assert_eq!(device.stage(), Some(Stage::Assigned));
    std::fs::remove_dir(&in_the_way).unwrap();
    device.runs_to(&fleet, fleet.assign(1, &v1), Stage::Live).await;
    device.stop().await;
}
