//! What devices send in, and what can be asked about it.

use serde_json::json;
use vedette_model_registry::registry::{Error, Registry};
use vedette_model_registry::view::{AnomalyQuery, AssignRequest, AuditQuery};
use vedette_protocol::cbor;
use vedette_protocol::id::{BootId, DeviceId, Digest, ModelRef};
use vedette_protocol::message::{Birth, StreamState};
use vedette_protocol::number::Finite32;
use vedette_protocol::record::{
    Anomaly, Body, Cause, Contribution, DeployStep, PreviousEnd, Record, ScoredBy, Stage, Swap, SwapReason, Verdict,
};
use vedette_protocol::time::{Quality, Stamp};

use crate::kit::{Package, START_MS, Scratch};

pub(crate) fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

pub(crate) fn baseline() -> ScoredBy {
    ScoredBy::Baseline { version: 1 }
}

fn model(name: &str) -> ScoredBy {
    ScoredBy::Model {
        model: name.parse().unwrap(),
        artifact: Digest::of(b"artifact"),
        manifest: Digest::of(name.as_bytes()),
    }
}

fn record(wall_ms: i64, body: Body) -> Vec<u8> {
    let stamp = Stamp { boot: BootId::from_bytes([7; 16]), monotonic_ns: 1, wall_ms, quality: Quality::System };
    cbor::to_canonical(&Record { stamp, body })
}

pub(crate) fn boot() -> Vec<u8> {
    record(START_MS, Body::Boot { agent_version: "0.1.0".to_owned(), previous: PreviousEnd::First })
}

pub(crate) fn gap(from: u64, to: u64) -> Vec<u8> {
    record(START_MS, Body::Gap { from, to, reason: "the disk lost them".to_owned() })
}

pub(crate) fn swap(wall_ms: i64, first_row: u64, reserved: u64, by: ScoredBy, reason: SwapReason) -> Vec<u8> {
    record(
        wall_ms,
        Body::Swap(Swap { stream: "server".parse().unwrap(), first_row, reserved, by, reason, engine: None }),
    )
}

pub(crate) fn anomaly(at_ms: i64, stream: &str, row: u64, by: ScoredBy) -> Vec<u8> {
    let score = Finite32::new(2.5).unwrap();
    let stream = stream.parse().unwrap();
    let body = Anomaly {
        stream,
        row,
        at_ms,
        cause: Cause::Model,
        score,
        threshold: score,
        top: vec![Contribution { signal: "mem_u".parse().unwrap(), share: score, value: None }],
        by,
        input: Digest::of(b"window"),
    };
    record(at_ms, Body::Anomaly(body))
}

fn found(registry: &Registry, query: AnomalyQuery) -> Vec<String> {
    let page = registry.anomalies(&query).unwrap();
    page.items.into_iter().map(|anomaly| anomaly.record).collect()
}

#[test]
fn a_batch_that_comes_twice_is_stored_once() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let records = vec![(0, boot()), (1, anomaly(START_MS, "server", 5, baseline()))];
    let first = registry.ingest(&device("box"), 1, records.clone()).unwrap();
    assert_eq!((first.upto, first.new, first.duplicate), (2, 2, 0));
    let again = registry.ingest(&device("box"), 1, records).unwrap();
    assert_eq!((again.upto, again.new, again.duplicate), (2, 0, 2));
    assert_eq!(found(&registry, AnomalyQuery::default()), ["box/1/1"]);
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_and_a_hole_is_not_acknowledged() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    assert_eq!(registry.ingest(&device("box"), 1, vec![(0, boot()), (3, boot())]).unwrap().upto, 1);
    drop(registry);
    let registry = scratch.registry();
    assert_eq!(registry.received(&device("box"), 1).unwrap(), 1);
    assert_eq!(registry.ingest(&device("box"), 1, vec![(1, boot()), (2, boot())]).unwrap().upto, 4);
    assert_eq!(registry.ingest(&device("box"), 2, vec![(0, boot())]).unwrap().upto, 1, "a new journal counts anew");
}

#[test]
fn a_record_that_cannot_be_read_is_kept_and_does_not_hold_up_the_others() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let records = vec![(0, b"garbage".to_vec()), (1, vec![]), (2, anomaly(START_MS, "server", 5, baseline()))];
    assert_eq!(registry.ingest(&device("box"), 1, records).unwrap().upto, 3);
    assert_eq!(found(&registry, AnomalyQuery::default()), ["box/1/2"]);
    assert!(matches!(registry.anomaly(&"box/1/0".parse().unwrap()), Err(Error::NotFound(_))));
}

#[test]
fn anomalies_are_found_by_device_stream_model_and_time() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let day = 86_400_000;
    registry
        .ingest(
            &device("box"),
            1,
            vec![
                (0, anomaly(START_MS, "server", 1, model("pump@1"))),
                (1, anomaly(START_MS + day, "server", 2, model("pump@2"))),
                (2, anomaly(START_MS + day, "host", 3, baseline())),
            ],
        )
        .unwrap();
    registry.ingest(&device("box-2"), 1, vec![(0, anomaly(START_MS + 2 * day, "server", 1, model("pump@2")))]).unwrap();
    let all = AnomalyQuery::default;
    assert_eq!(found(&registry, all()), ["box-2/1/0", "box/1/2", "box/1/1", "box/1/0"]);
    assert_eq!(
        found(&registry, AnomalyQuery { device: Some(device("box")), ..all() }),
        ["box/1/2", "box/1/1", "box/1/0"]
    );
    assert_eq!(
        found(&registry, AnomalyQuery { stream: Some("server".parse().unwrap()), ..all() }),
        ["box-2/1/0", "box/1/1", "box/1/0"]
    );
    assert_eq!(found(&registry, AnomalyQuery { model: Some("pump@2".to_owned()), ..all() }), ["box-2/1/0", "box/1/1"]);
    assert_eq!(found(&registry, AnomalyQuery { model: Some("pump".to_owned()), ..all() }).len(), 3);
    assert_eq!(found(&registry, AnomalyQuery { model: Some("baseline".to_owned()), ..all() }), ["box/1/2"]);
    let both = AnomalyQuery {
        device: Some(device("box")),
        stream: Some("server".parse().unwrap()),
        model: Some("pump@1".to_owned()),
        ..all()
    };
    assert_eq!(found(&registry, both), ["box/1/0"]);
    let since = Some("2026-11-21T00:00:00Z".to_owned());
    assert_eq!(found(&registry, AnomalyQuery { since: since.clone(), ..all() }).len(), 3);
    assert_eq!(found(&registry, AnomalyQuery { until: since.clone(), ..all() }), ["box/1/0"]);
    assert_eq!(
        found(&registry, AnomalyQuery { until: since, device: Some(device("box-2")), ..all() }),
        Vec::<String>::new()
    );
}

#[test]
fn pages_follow_one_another_without_a_gap_or_a_double() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    // All at one moment: only the id tells them apart.
    let records = (0..25).map(|n| (n, anomaly(START_MS, "server", n, baseline()))).collect();
    registry.ingest(&device("box"), 1, records).unwrap();
    let mut query = AnomalyQuery { limit: Some(10), ..AnomalyQuery::default() };
    let mut rows = Vec::new();
    loop {
        let page = registry.anomalies(&query).unwrap();
        assert!(page.items.len() <= 10);
        rows.extend(page.items.iter().map(|anomaly| anomaly.row));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(rows, (0..25).rev().collect::<Vec<u64>>());
}

#[test]
fn who_scored_answers_for_every_row_and_record() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    registry
        .ingest(
            &device("box"),
            4,
            vec![
                (0, boot()),
                (1, swap(START_MS, 0, 100, baseline(), SwapReason::Start)),
                (2, swap(START_MS + 10, 0, 200, baseline(), SwapReason::Extend)),
                (3, swap(START_MS + 1000, 150, 100, model("pump@1"), SwapReason::Assigned)),
                (4, anomaly(START_MS + 2000, "server", 160, model("pump@1"))),
            ],
        )
        .unwrap();
    let by = |record: &str| registry.who_scored(record).map(|answer| answer.by.to_string());
    assert_eq!(by("box/4/server#0").unwrap(), "baseline 1");
    assert_eq!(by("box/4/server#149").unwrap(), "baseline 1", "the extension counts");
    assert_eq!(by("box/4/server#150").unwrap(), "pump@1");
    assert_eq!(by("box/4/server#249").unwrap(), "pump@1");
    assert_eq!(by("box/4/4").unwrap(), "pump@1");
    let run = registry.who_scored("box/4/server#120").unwrap().run.unwrap();
    assert_eq!((run.swap.as_str(), run.reason), ("box/4/1", SwapReason::Start), "the first record, not the extension");
    for (asked, says) in [
        ("box/4/server#250", "no swap record"),
        ("box/5/server#0", "no swap record"),
        ("box/4/host#0", "no swap record"),
        ("box/4/0", "boot record"),
        ("box/4/99", "not been received"),
    ] {
        let error = registry.who_scored(asked).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)) && error.to_string().contains(says), "{asked}: {error}");
    }
    assert!(matches!(registry.who_scored("nonsense"), Err(Error::BadRequest(_))));
}

#[test]
fn what_ran_at_a_time_is_read_from_the_swaps() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    registry
        .ingest(
            &device("box"),
            1,
            vec![
                (0, swap(START_MS, 0, 100, baseline(), SwapReason::Start)),
                (1, swap(START_MS + 1000, 50, 100, model("pump@1"), SwapReason::Assigned)),
            ],
        )
        .unwrap();
    let birth = Birth {
        device: device("box"),
        online: true,
        boot: BootId::from_bytes([7; 16]),
        agent_version: "0.1.0".to_owned(),
        epoch: 1,
        streams: vec![StreamState { stream: "server".parse().unwrap(), by: model("pump@1"), stage: None, row: 60 }],
        assignment_version: 0,
    };
    registry.note_birth(&birth).unwrap();
    let ran = |at_ms| {
        registry
            .device_at(&device("box"), at_ms)
            .unwrap()
            .streams
            .iter()
            .map(|ran| ran.by.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ran(START_MS - 1), Vec::<String>::new());
    assert_eq!(ran(START_MS), ["baseline 1"]);
    assert_eq!(ran(START_MS + 999), ["baseline 1"]);
    assert_eq!(ran(START_MS + 1000), ["pump@1"]);
    let view = registry.device(&device("box")).unwrap();
    assert!(view.online && view.streams[0].row == 60);
    assert_eq!((view.journals[0].epoch, view.journals[0].upto), (1, 2));
    registry.note_birth(&Birth { online: false, streams: vec![], ..birth }).unwrap();
    let gone = registry.device(&device("box")).unwrap();
    assert!(!gone.online && gone.streams.len() == 1, "the last will does not forget what ran");
    assert!(matches!(registry.device(&device("nobody")), Err(Error::NotFound(_))));
}

#[test]
fn a_verdict_stands_beside_its_anomaly_and_the_newest_one_counts() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let verdict = |verdict| {
        let about = "box/1/0".parse().unwrap();
        record(START_MS, Body::Verdict { record: about, verdict, by: "field".to_owned(), note: None })
    };
    registry
        .ingest(
            &device("box"),
            1,
            vec![
                (0, anomaly(START_MS, "server", 1, baseline())),
                (1, verdict(Verdict::Confirmed)),
                (2, verdict(Verdict::FalseAlarm)),
            ],
        )
        .unwrap();
    let view = registry.anomaly(&"box/1/0".parse().unwrap()).unwrap();
    assert_eq!(view.verdict.unwrap().verdict, "false_alarm");
}

#[test]
fn a_device_that_commits_a_version_is_in_the_audit_journal_once() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let step = |stage| DeployStep {
        stream: "server".parse().unwrap(),
        model: "pump@1".parse().unwrap(),
        manifest: Digest::of(b"manifest"),
        stage,
        detail: None,
    };
    let records = vec![
        (0, record(START_MS, Body::Deploy(step(Stage::Tried)))),
        (1, record(START_MS, Body::Deploy(step(Stage::Live)))),
    ];
    for _ in 0..2 {
        registry.ingest(&device("box"), 1, records.clone()).unwrap();
    }
    let audit = registry.audit(&AuditQuery::default()).unwrap().items;
    assert_eq!(audit.len(), 1);
    assert_eq!((audit[0].by.as_str(), &audit[0].change["kind"]), ("device:box", &json!("committed")));
    assert_eq!(audit[0].change["record"], "box/1/1");
}

/// A registry with the demo's two versions in it, put there without the trial.
fn with_models(scratch: &Scratch) -> (Registry, ModelRef, ModelRef) {
    let registry = scratch.registry();
    let mut models = Vec::new();
    for name in ["v1", "v2"] {
        let package = Package::demo(name, &scratch.models);
        registry.blobs().store(&package.onnx).unwrap();
        registry.blobs().store(&package.selftest).unwrap();
        let request = serde_json::from_value(package.body()).unwrap();
        registry.push(&package.model().name, &request, "token:test").unwrap();
        models.push(package.model());
    }
    let second = models.pop().unwrap();
    (registry, models.pop().unwrap(), second)
}

fn slots(model: &ModelRef) -> AssignRequest {
    serde_json::from_value(json!({ "slots": { "server": model.to_string() } })).unwrap()
}

#[test]
fn an_assignment_rises_by_one_and_only_when_something_changed() {
    let scratch = Scratch::new();
    let (registry, first, second) = with_models(&scratch);
    let mut changed = registry.assignments_changed();
    let made = registry.assign(&device("box"), &slots(&first), "token:test").unwrap();
    assert_eq!(made.version, 1);
    assert_eq!(changed.try_recv().unwrap(), device("box"));
    assert_eq!(registry.assign(&device("box"), &slots(&first), "token:test").unwrap(), made);
    assert!(changed.try_recv().is_err(), "nothing changed, nobody is told");
    assert_eq!(registry.assign(&device("box"), &slots(&second), "token:test").unwrap().version, 2);
    let desired = registry.desired_assignment(&device("box")).unwrap().unwrap();
    let opened = vedette_protocol::envelope::open::<vedette_protocol::Assignment>(
        &desired.envelope,
        &vedette_model_registry::config::load_keys(&scratch.config.keys).unwrap().trust.fleet,
    )
    .unwrap();
    assert_eq!((opened.value.version, &opened.value.slots[0].model), (2, &second));
    assert_eq!(registry.all_assignments().unwrap(), [desired]);
    assert!(registry.desired_assignment(&device("other")).unwrap().is_none());
    let unknown = serde_json::from_value(json!({ "slots": { "server": "server-pca@9" } })).unwrap();
    assert!(matches!(registry.assign(&device("box"), &unknown, "token:test"), Err(Error::NotFound(_))));
}

#[test]
fn an_assignment_is_signed_again_before_it_expires() {
    let scratch = Scratch::new();
    let (registry, first, _) = with_models(&scratch);
    let made = registry.assign(&device("box"), &slots(&first), "token:test").unwrap();
    assert!(registry.renew_assignments().unwrap().is_empty());
    scratch.pass_ms(scratch.config.assignment_lifetime_ms / 2);
    assert_eq!(registry.renew_assignments().unwrap(), [device("box")]);
    let renewed = registry.assignment(&device("box")).unwrap();
    assert!(
        renewed.version == 2
            && renewed.slots == made.slots
            && renewed.expires > made.expires
            && renewed.by == "registry"
    );
    assert!(registry.renew_assignments().unwrap().is_empty());
    let at = registry.device_at(&device("box"), START_MS).unwrap();
    assert_eq!(at.assignment.unwrap().version, 1, "the one in force then");
}
