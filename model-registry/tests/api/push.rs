//! What comes in and what does not.

use reqwest::header::{ETAG, IF_NONE_MATCH, RANGE};
use reqwest::{Method, StatusCode};
use serde_json::json;
use vedette_protocol::id::{Digest, ModelVersion};
use vedette_protocol::key::SigningKey;

use crate::kit::{Package, Scratch, Served, assert_problem};

async fn audit_entries(served: &Served) -> usize {
    served.json("/api/v1/audit").await["items"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_comes_in_once_and_never_changes() {
    let served = Scratch::new().serve().await;
    let first = Package::demo("v1", &served.scratch.models);
    let before = audit_entries(&served).await;
    let made = served.push(&first).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: serde_json::Value = made.json().await.unwrap();
    assert!(made["trial"]["vectors"].as_u64().unwrap() > 0 && made["trial"]["row_ns"].as_u64().unwrap() > 0, "{made}");
    assert_eq!(served.push(&first).await.status(), StatusCode::OK, "the same bytes again");
    assert_eq!(audit_entries(&served).await, before + 1, "no change, no entry");

    let mut other = Package::demo("v1", &served.scratch.models);
    other.manifest.issued_ms += 1;
    let other = other.sign(&served.scratch.models);
    assert_problem(served.push(&other).await, 409, "is taken").await;

    let second = Package::demo("v2", &served.scratch.models);
    assert_eq!(served.push(&second).await.status(), StatusCode::CREATED);
    let name = first.model().name;
    let list = served.json(&format!("/api/v1/models/{name}/versions")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert_eq!(list["items"][1]["parent"], "1");
    let detail = served.json(&format!("/api/v1/models/{name}/versions/2")).await;
    assert!(detail["content"]["contract"].is_object() && detail["made"]["data"].is_array(), "{detail}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_is_served_bit_for_bit_and_in_ranges() {
    let served = Scratch::new().serve().await;
    let package = Package::demo("v1", &served.scratch.models);
    assert_eq!(served.push(&package).await.status(), StatusCode::CREATED);
    let blob = format!("/api/v1/blobs/{}", package.manifest.artifact.digest);
    let whole = served.get(&blob).await;
    let tag = whole.headers()[ETAG].to_str().unwrap().to_owned();
    assert_eq!(whole.bytes().await.unwrap(), package.onnx);
    let asked = |range: &str| served.request(Method::GET, &blob, &served.tokens.viewer).header(RANGE, range).send();
    let part = asked("bytes=100-").await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    let end = package.onnx.len();
    assert_eq!(part.headers()["content-range"].to_str().unwrap(), format!("bytes 100-{}/{end}", end - 1));
    assert_eq!(part.bytes().await.unwrap(), package.onnx[100..]);
    let beyond = asked(&format!("bytes={end}-")).await.unwrap();
    assert_eq!(beyond.headers()["content-range"].to_str().unwrap(), format!("bytes */{end}"));
    assert_problem(beyond, 416, "bytes").await;
    let known =
        served.request(Method::GET, &blob, &served.tokens.viewer).header(IF_NONE_MATCH, tag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    let head = served.request(Method::HEAD, &blob, &served.tokens.viewer).send().await.unwrap();
    assert_eq!(
        (head.status(), head.headers()["content-length"].to_str().unwrap()),
        (StatusCode::OK, end.to_string().as_str())
    );

    let digest = Digest::of(&vedette_protocol::cbor::to_canonical(&package.manifest));
    assert_eq!(served.get(&format!("/api/v1/manifests/{digest}")).await.bytes().await.unwrap(), package.envelope);
    let lineage = served.get(&format!("/api/v1/lineages/{}", package.manifest.lineage)).await.bytes().await.unwrap();
    assert_eq!(Digest::of(&lineage), package.manifest.lineage);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_other_bytes_is_refused() {
    let served = Scratch::new().serve().await;
    let path = format!("/api/v1/blobs/{}", Digest::of(b"promised"));
    let sent = served.request(Method::PUT, &path, &served.tokens.publisher).body("sent").send().await.unwrap();
    assert_problem(sent, 422, "digest").await;
    assert_eq!(served.get(&path).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(served.upload(b"whole").await, StatusCode::CREATED);
    assert_eq!(served.upload(b"whole").await, StatusCode::OK);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_signed_or_not_complete_is_refused_with_the_reason() {
    let served = Scratch::new().serve().await;
    let key = &served.scratch.models;
    let demo = || Package::demo("v1", key);
    let publisher = &served.tokens.publisher;
    let path = demo().path();
    let push = async |body: serde_json::Value| served.send(Method::POST, &path, publisher, &body).await;

    assert_problem(push(demo().body()).await, 422, "has not been uploaded").await;
    served.upload(&demo().onnx).await;
    served.upload(&demo().selftest).await;

    let (stranger, _) = SigningKey::generate().unwrap();
    assert_problem(push(demo().sign(&stranger).body()).await, 422, "manifest").await;
    let mut garbage = demo().body();
    garbage["manifest"] = json!("AAAA");
    assert_problem(push(garbage).await, 422, "manifest").await;
    let mut no_base64 = demo().body();
    no_base64["manifest"] = json!("%");
    assert_problem(push(no_base64).await, 400, "base64").await;
    let mut cut = demo();
    cut.envelope.pop();
    assert_problem(push(cut.body()).await, 422, "manifest").await;

    let mut other_lineage = demo().body();
    other_lineage["lineage"] = json!("AAAA");
    assert_problem(push(other_lineage).await, 422, "lineage").await;
    let mut no_lineage = demo().body();
    no_lineage.as_object_mut().unwrap().remove("lineage");
    assert_problem(push(no_lineage).await, 400, "lineage").await;
    let mut nameless = demo();
    nameless.lineage.author = String::new();
    assert_problem(push(nameless.sign(key).body()).await, 400, "author").await;
    let mut orphan = demo();
    orphan.manifest.model.version = ModelVersion::new(5).unwrap();
    orphan.lineage.parent = Some(ModelVersion::new(4).unwrap());
    assert_problem(push(orphan.sign(key).body()).await, 422, "parent").await;
    let mut tomorrow = demo();
    tomorrow.lineage.trained_ms = 4_000_000_000_000;
    assert_problem(push(tomorrow.sign(key).body()).await, 422, "still to come").await;

    let elsewhere = served.send(Method::POST, "/api/v1/models/other/versions", publisher, &demo().body()).await;
    assert_problem(elsewhere, 422, "pushed to `other`").await;
    assert_problem(served.get(&path).await, 404, "there is no model").await;
    assert_eq!(audit_entries(&served).await, 4, "the four tokens; nothing refused left a trace");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_the_reason() {
    let served = Scratch::new().serve().await;
    let key = &served.scratch.models;
    for name in ["v1", "v2"] {
        assert_eq!(served.push(&Package::demo(name, key)).await.status(), StatusCode::CREATED);
    }
    for (what, says) in [("nan", "trial"), ("shape", "trial"), ("untrue", "trial")] {
        let package = Package::demo(&format!("bad/{what}"), key);
        assert_problem(served.push(&package).await, 422, says).await;
    }
    let third = || {
        let mut package = Package::demo("v1", key);
        package.manifest.model.version = ModelVersion::new(3).unwrap();
        package
    };
    let mut truncated = third();
    truncated.onnx.truncate(truncated.onnx.len() / 2);
    assert_problem(served.push(&truncated.sign(key)).await, 422, "trial").await;
    let mut misfit = third();
    misfit.manifest.input.name = "no_such_input".to_owned();
    assert_problem(served.push(&misfit.sign(key)).await, 422, "no_such_input").await;
    assert_eq!(served.json("/api/v1/models").await["items"][0]["latest"], "2");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_panics_or_eats_memory_does_so_in_its_trial_and_the_registry_goes_on() {
    let served = Scratch::new().serve().await;
    let key = &served.scratch.models;
    for (name, says) in [
        ("no_onnx", "no ONNX model"),
        ("unknown_operator", "Frobnicate"),
        ("panic_stride", "panicked"),
        ("memory_constant", "more memory than the 1024 MiB"),
    ] {
        assert_problem(served.push(&Package::hostile(name, key)).await, 422, says).await;
    }
    assert_eq!(served.push(&Package::demo("v1", key)).await.status(), StatusCode::CREATED);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_points_where_it_was_told() {
    let served = Scratch::new().serve().await;
    for name in ["v1", "v2"] {
        assert_eq!(served.push(&Package::demo(name, &served.scratch.models)).await.status(), StatusCode::CREATED);
    }
    let name = Package::demo("v1", &served.scratch.models).model().name;
    let path = format!("/api/v1/models/{name}/aliases/champion");
    let publisher = &served.tokens.publisher;
    let before = audit_entries(&served).await;
    for _ in 0..2 {
        let set = served.send(Method::PUT, &path, publisher, &json!({ "version": 2 })).await;
        assert_eq!(set.json::<serde_json::Value>().await.unwrap()["aliases"]["champion"], "2");
    }
    assert_eq!(audit_entries(&served).await, before + 1, "no change, no entry");
    let none = served.send(Method::PUT, &path, publisher, &json!({ "version": 9 })).await;
    assert_problem(none, 404, &format!("{name}@9")).await;
    let slots = json!({ "slots": { "server": format!("{name}@champion") } });
    let assigned = served.send(Method::PUT, "/api/v1/devices/box-1/assignment", &served.tokens.approver, &slots).await;
    assert_eq!(assigned.json::<serde_json::Value>().await.unwrap()["slots"][0]["model"], format!("{name}@2"));
    assert_eq!(served.request(Method::DELETE, &path, publisher).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(served.request(Method::DELETE, &path, publisher).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    served.end().await;
}
