//! The way of a record through the agent's rooms, in this process: samples in, answers out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "pipeline/clock.rs"]
mod clock;
#[path = "pipeline/deploy.rs"]
mod deploy;
#[path = "pipeline/journal.rs"]
mod journal;
#[path = "pipeline/local.rs"]
mod local;
#[path = "pipeline/sync.rs"]
mod sync;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vedette_agent::clock::Clock;
use vedette_agent::index::{self, Query};
use vedette_agent::ledger::{Ledger, RESERVED_ROWS};
use vedette_agent::recorder::{self, Recorder, RecorderThread};
use vedette_agent::scorer::{self, FAULTS_MAX, LaneId, LaneSettings, LastWords, Scorer, SwapError};
use vedette_agent::{config, run};
use vedette_journal::{Journal, Options};
use vedette_protocol::id::{Digest, StreamName};
use vedette_protocol::record::{Body, Cause, ScoredBy, SwapReason, Verdict};
use vedette_protocol::{Blob, Draft, cbor};
use vedette_scoring::replay::{Options as ReplayOptions, Replay};
use vedette_scoring::{Model, Rows, Sample, Schema, baseline};

const PATIENCE: Duration = Duration::from_secs(60);

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(path)
}

fn sample() -> PathBuf {
    data("sample/machine-3-4_test_rows1000-7500.csv.gz")
}

fn model(folder: &str) -> Arc<Model> {
    let file = data(folder).join("manifest.toml");
    let onnx = std::fs::read(data(folder).join("model.onnx")).unwrap();
    let draft = Draft::from_toml(&std::fs::read_to_string(&file).unwrap(), &file.display().to_string()).unwrap();
    let (manifest, _) = draft.finish(Blob::of(&onnx), Blob::of(b"not used here"), 0).unwrap();
    let digest = Digest::of(&cbor::to_canonical(&manifest));
    Arc::new(Model::load(&manifest, digest, &onnx).unwrap())
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Recorder and scorer with one stream, fed by hand.
struct Bench {
    dir: tempfile::TempDir,
    clock: Clock,
    recorder: Recorder,
    recorder_thread: RecorderThread,
    scorer: Scorer,
    last_words: LastWords,
    rows: Vec<Sample>,
}

fn stream() -> StreamName {
    "server".parse().unwrap()
}

fn read(rows: usize) -> (Arc<Schema>, Vec<Sample>) {
    let options = ReplayOptions {
        label: Some("label".to_owned()),
        default_unit: Some("1".parse().unwrap()),
        ..ReplayOptions::new(0, 60_000)
    };
    let replay = Replay::open(&sample(), &options).unwrap();
    (Arc::clone(replay.schema()), replay.take(rows).map(|row| row.unwrap().sample).collect())
}

impl Bench {
    fn new(model: Option<Arc<Model>>) -> Self {
        Self::within(tempfile::tempdir().unwrap(), model)
    }

    fn within(dir: tempfile::TempDir, model: Option<Arc<Model>>) -> Self {
        let clock = Clock::start().unwrap();
        let journal = dir.path().join("journal");
        let (writer, _) = Journal::open(&journal, Options::new(7)).unwrap();
        let (recorder, recorder_thread) = recorder::start(writer, journal, "box".parse().unwrap(), clock).unwrap();
        let (schema, rows) = read(3000);
        let lane =
            LaneSettings { stream: stream(), schema, model, baseline: true, anomaly_rate: 1000, anomaly_burst: 10_000 };
        let (scorer, last_words) = scorer::start(vec![lane], &recorder, clock);
        Self { dir, clock, recorder, recorder_thread, scorer, last_words, rows }
    }

    async fn feed(&self, rows: std::ops::Range<usize>) {
        let (seat, clock) = (self.scorer.seat(LaneId(0)).unwrap(), self.clock);
        let batches = self.rows[rows].chunks(64).map(|samples| {
            let mut rows = Rows::new(samples[0].values.len(), samples.len());
            samples.iter().for_each(|sample| rows.push(sample.at_ms, &sample.values));
            rows
        });
        let batches: Vec<Rows> = batches.collect();
        let scoring = move || batches.iter().for_each(|rows| seat.score(clock.now(), rows).unwrap());
        tokio::task::spawn_blocking(scoring).await.unwrap();
    }

    async fn scored(&self, rows: u64) {
        until("the rows are scored", async || self.scorer.board().lanes()[0].next_row() == rows).await;
    }

    /// Stops the way `run` does; gives the folder back.
    async fn stop(self) -> tempfile::TempDir {
        drop(self.scorer);
        self.last_words.finish().await.unwrap();
        drop(self.recorder);
        self.recorder_thread.finish().await.unwrap();
        self.dir
    }
}

fn ledger(dir: &tempfile::TempDir) -> Ledger {
    Ledger::read(&dir.path().join("journal")).unwrap()
}

fn by(ledger: &Ledger, row: u64) -> String {
    ledger.who_scored(&stream(), row).map_or_else(|| "nobody".to_owned(), |answer| answer.by.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_lies_between_two_rows_and_the_ledger_knows_each_of_them() {
    let bench = Bench::new(Some(model("demo/v1")));
    bench.feed(0..1000).await;
    let first = bench.scorer.swap(&stream(), Some(model("demo/v2")), SwapReason::Assigned).await.unwrap();
    assert_eq!(first, 1000);
    bench.feed(1000..1500).await;
    bench.scored(1500).await;
    let ledger = ledger(&bench.stop().await);
    assert_eq!(by(&ledger, 0), "server-pca@1");
    assert_eq!(by(&ledger, 999), "server-pca@1");
    assert_eq!(by(&ledger, 1000), "server-pca@2");
    assert_eq!(by(&ledger, 1499), "server-pca@2");
    assert_eq!(by(&ledger, 1500), "nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_stop_rows_go_on_without_a_hole_and_after_a_crash_no_number_comes_twice() {
    let bench = Bench::new(None);
    bench.feed(0..300).await;
    bench.scored(300).await;
    until("the swap record is durable", async || *bench.recorder.committed().borrow() > 0).await;
    // What a crash at this moment leaves behind is a journal without the last word.
    let crashed = tempfile::tempdir().unwrap();
    std::fs::create_dir(crashed.path().join("journal")).unwrap();
    for file in std::fs::read_dir(bench.dir.path().join("journal")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, crashed.path().join("journal").join(file.file_name().unwrap())).unwrap();
    }
    let clean = bench.stop().await;
    assert_eq!(ledger(&clean).next_row(&stream()), 300);
    assert_eq!(ledger(&crashed).next_row(&stream()), RESERVED_ROWS);
    let again = Bench::within(crashed, None);
    again.feed(0..10).await;
    again.scored(RESERVED_ROWS + 10).await;
    assert_eq!(ledger(&again.stop().await).next_row(&stream()), RESERVED_ROWS + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_extended_before_it_is_used_up() {
    let bench = Bench::new(None);
    for _ in 0..50 {
        bench.feed(0..3000).await;
    }
    bench.scored(150_000).await;
    let dir = bench.stop().await;
    let run = ledger(&dir).who_scored(&stream(), 149_999).unwrap();
    assert_eq!((run.first_row, run.end_row, run.exact), (0, 150_000, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_gives_no_numbers_is_taken_out_and_scoring_goes_on() {
    let bench = Bench::new(Some(model("demo/bad/nan")));
    bench.feed(0..500).await;
    bench.scored(500).await;
    let lane = Arc::clone(&bench.scorer.board().lanes()[0]);
    assert!((u64::from(FAULTS_MAX)..500).contains(&lane.model_faults()), "{} faults", lane.model_faults());
    assert_eq!(
        (lane.running().by, lane.running().reason),
        (ScoredBy::Baseline { version: baseline::VERSION }, SwapReason::Fault)
    );
    let dir = bench.stop().await;
    let found = index::scan(&dir.path().join("journal"), &Query { limit: 1000, ..Query::default() }).unwrap();
    assert!(found.iter().any(|f| f.anomaly.cause == Cause::ModelFault), "the fault is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_for_other_signals_is_refused_and_the_old_one_goes_on() {
    let bench = Bench::new(Some(model("demo/v1")));
    let refused = bench.scorer.swap(&stream(), Some(model("demo/bad/unit")), SwapReason::Assigned).await.unwrap_err();
    let SwapError::Mismatch { problem, .. } = &refused else { panic!("{refused}") };
    assert!(problem.contains("mem_u_e") && problem.contains("`By`"), "{problem}");
    let unknown = bench.scorer.swap(&"nowhere".parse().unwrap(), None, SwapReason::Assigned).await.unwrap_err();
    assert_eq!(unknown, SwapError::UnknownStream("nowhere".parse().unwrap()));
    bench.feed(0..10).await;
    bench.scored(10).await;
    assert_eq!(by(&ledger(&bench.stop().await), 5), "server-pca@1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_answers_as_the_journal_does_and_comes_back_when_deleted_or_broken() {
    let bench = Bench::new(Some(model("demo/v1")));
    let folder = bench.dir.path().join("index");
    let (view, thread) = index::start(folder.clone(), 8 << 20, &bench.recorder).unwrap();
    bench.feed(0..3000).await;
    bench.scored(3000).await;
    let journal = bench.dir.path().join("journal");
    let all = Query { limit: 1000, ..Query::default() };
    let first = index::scan(&journal, &all).unwrap().first().map(|f| f.sequence);
    until("the journal holds anomalies", async || !index::scan(&journal, &all).unwrap().is_empty()).await;
    let judged = first.unwrap_or(index::scan(&journal, &all).unwrap()[0].sequence);
    let verdict = Body::Verdict {
        record: bench.recorder.id(judged),
        verdict: Verdict::Confirmed,
        by: "me".to_owned(),
        note: None,
    };
    bench.recorder.append(verdict).await.unwrap();
    let queries = [
        all.clone(),
        Query { limit: 3, ..Query::default() },
        Query { after: Some(judged), limit: 5, ..Query::default() },
        Query {
            stream: Some(stream()),
            since_ms: Some(1800 * 60_000),
            until_ms: Some(1900 * 60_000),
            limit: 1000,
            ..Query::default()
        },
        Query { stream: Some("other".parse().unwrap()), limit: 10, ..Query::default() },
    ];
    until("the index has caught up", async || {
        view.ready() && queries.iter().all(|q| view.query(q).unwrap() == index::scan(&journal, q).unwrap())
    })
    .await;
    drop(view);
    let dir = bench.stop().await;
    thread.finish().await.unwrap();

    for broken in [false, true] {
        if broken {
            std::fs::write(folder.join("db"), b"not sled at all").unwrap();
            std::fs::write(folder.join("conf"), b"neither").unwrap();
        } else {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        let (writer, _) = Journal::open(&journal, Options::new(7)).unwrap();
        let (recorder, recorder_thread) =
            recorder::start(writer, journal.clone(), "box".parse().unwrap(), Clock::start().unwrap()).unwrap();
        let (view, thread) = index::start(folder.clone(), 8 << 20, &recorder).unwrap();
        until("the index is there again", async || view.ready()).await;
        for query in &queries {
            assert_eq!(view.query(query).unwrap(), index::scan(&journal, query).unwrap());
        }
        drop((view, recorder));
        recorder_thread.finish().await.unwrap();
        thread.finish().await.unwrap();
    }
    // Another journal's index, as after the journal's folder was replaced, is not believed.
    let other = dir.path().join("other");
    let (writer, _) = Journal::open(&other, Options::new(8)).unwrap();
    let (recorder, recorder_thread) =
        recorder::start(writer, other, "box".parse().unwrap(), Clock::start().unwrap()).unwrap();
    let (view, thread) = index::start(folder, 8 << 20, &recorder).unwrap();
    until("the index is there again", async || view.ready()).await;
    assert_eq!(view.query(&all).unwrap(), []);
    drop((view, recorder));
    recorder_thread.finish().await.unwrap();
    thread.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_over_its_cap_keeps_the_newest_and_answers_for_them_as_the_journal_does() {
    let bench = Bench::new(Some(model("demo/v1")));
    let (view, thread) = index::start(bench.dir.path().join("index"), 40_000, &bench.recorder).unwrap();
    bench.feed(0..3000).await;
    bench.scored(3000).await;
    let journal = bench.dir.path().join("journal");
    let newest = Query { limit: 20, ..Query::default() };
    let all = Query { limit: 1000, ..Query::default() };
    until("the newest are in the index", async || {
        let there = index::scan(&journal, &all).unwrap();
        view.ready() && there.len() > 200 && view.query(&newest).unwrap() == index::scan(&journal, &newest).unwrap()
    })
    .await;
    let held = view.query(&all).unwrap().len();
    assert!((20..200).contains(&held), "{held} anomalies in 40 kB");
    drop(view);
    bench.stop().await;
    thread.finish().await.unwrap();
}

/// A running agent.
struct Agent {
    dir: tempfile::TempDir,
    stop: CancellationToken,
    life: JoinHandle<anyhow::Result<()>>,
}

impl Agent {
    async fn start(dir: tempfile::TempDir, streams: &str) -> Self {
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, format!("device = \"box\"\nstate = \"state\"\n{streams}")).unwrap();
        let (config, stop) = (config::load(&file).unwrap(), CancellationToken::new());
        let life = tokio::spawn(run(config, stop.clone()));
        let agent = Self { dir, stop, life };
        until("the socket is there", async || {
            agent.life.is_finished() || UnixStream::connect(agent.socket()).await.is_ok()
        })
        .await;
        agent
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("state/agent.sock")
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer[9..12].parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.life.await.unwrap().unwrap();
        self.dir
    }
}

fn replay_stream() -> String {
    format!(
        "[[stream]]\nname = \"server\"\nsource = \"replay\"\nfile = \"{}\"\nlabel_column = \"label\"\nstep = \"60s\"\nspeed = 0.0\nunits = {{ default = \"1\" }}\n",
        sample().canonicalize().unwrap().display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_file_becomes_anomalies_that_can_be_asked_for_judged_and_found_after_a_restart() {
    let agent = Agent::start(tempfile::tempdir().unwrap(), &replay_stream()).await;
    until("the file is scored", async || {
        let status = agent.get("/v1/status").await;
        let server = &status["streams"][0];
        server["doing"] == "ended"
            && server["row"] == 6500
            && status["next_sequence"] == status["committed"]
            && status["index_ready"] == true
    })
    .await;
    let listed = agent.get("/v1/anomalies?stream=server&limit=1000").await;
    let count = listed.as_array().unwrap().len();
    assert!(count > 5, "{count} anomalies");
    let sequence = listed[0]["sequence"].as_u64().unwrap();
    let who = agent.get(&format!("/v1/who-scored/{sequence}")).await;
    assert_eq!(
        (&who["by"]["baseline"], &who["record"], &who["row"]),
        (&Value::from(baseline::VERSION), &listed[0]["record"], &listed[0]["row"])
    );
    let judged =
        agent.ask("POST", &format!("/v1/anomalies/{sequence}/verdict"), r#"{"verdict":"false_alarm","by":"me"}"#).await;
    assert_eq!((judged.0, &judged.1["verdict"]["verdict"]), (200, &Value::from("false_alarm")));
    assert_eq!(agent.ask("POST", "/v1/anomalies/0/verdict", r#"{"verdict":"confirmed","by":"me"}"#).await.0, 404);
    assert_eq!(agent.get("/v1/models").await.as_array().unwrap().len(), 1);
    let (status, problem) = agent.ask("GET", "/v1/who-scored/server%236500", "").await;
    assert!(status == 404 && problem["detail"].as_str().unwrap().contains("not scored yet"), "{problem}");

    let dir = agent.stop().await;
    std::fs::remove_dir_all(dir.path().join("state/index")).unwrap();
    let agent = Agent::start(dir, "[[stream]]\nname = \"host\"\nsource = \"host\"\ninterval = \"1h\"\n").await;
    until("the index is there", async || agent.get("/v1/status").await["index_ready"] == true).await;
    let again = agent.get("/v1/anomalies?stream=server&limit=1000").await;
    assert_eq!(again[0]["verdict"]["by"], "me");
    assert_eq!(again.as_array().unwrap().len(), count);
    assert_eq!(agent.get("/v1/who-scored/server%236499").await["run"]["exact"], true);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_are_pushed_over_the_socket_and_what_is_wrong_is_answered() {
    let push =
        "[[stream]]\nname = \"p\"\nsource = \"push\"\nqueue = 50\nsignals = [{ name = \"cpu\", unit = \"%\" }]\n";
    let agent = Agent::start(tempfile::tempdir().unwrap(), push).await;
    let lines = |from: u32, to: u32| {
        (from..to).map(|i| format!("{{\"at\":{i},\"values\":{{\"cpu\":{i}}}}}\n")).collect::<String>()
    };
    let post = async |body: &str| agent.ask("POST", "/v1/streams/p/samples", body).await;
    let (status, answer) = post(&lines(0, 20)).await;
    assert_eq!((status, &answer["accepted"]), (202, &Value::from(20)));
    until("they are scored", async || agent.get("/v1/status").await["streams"][0]["row"] == 20).await;
    let (status, problem) = post("{\"at\":30,\"values\":{\"cpu\":1}}\n{\"at\":31,\"values\":{\"gpu\":1}}").await;
    assert_eq!(
        (status, &problem["line"], &problem["detail"]),
        (400, &Value::from(2), &Value::from("line 2: unknown signal \"gpu\""))
    );
    assert_eq!(post(&lines(40, 91)).await.0, 413);
    assert_eq!(agent.ask("POST", "/v1/streams/q/samples", "").await.0, 404);
    assert!(agent.get("/metrics").await.as_str().unwrap().contains("vedette_rows_total{stream=\"p\"} 20"));
    assert_eq!(agent.get("/v1/status").await["streams"][0]["rejected"], 2);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_for_news_is_answered_when_there_are_some() {
    let push = "[[stream]]\nname = \"p\"\nsource = \"push\"\nsignals = [{ name = \"cpu\" }, { name = \"fan\" }]\n";
    let agent = Agent::start(tempfile::tempdir().unwrap(), push).await;
    let asked = agent.get("/v1/anomalies?after=0&wait=30");
    let pushed = async {
        // A signal that stays away is a finding after some rows, before any model.
        let lines: String = (0..40).map(|i| format!("{{\"at\":{i},\"values\":{{\"cpu\":{i}}}}}\n")).collect();
        agent.ask("POST", "/v1/streams/p/samples", &lines).await
    };
    let (found, _) = tokio::join!(asked, pushed);
    assert_eq!((&found[0]["cause"], &found[0]["top"][0]["signal"]), (&Value::from("missing"), &Value::from("fan")));
    agent.stop().await;
}
