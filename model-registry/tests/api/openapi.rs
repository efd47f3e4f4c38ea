//! The document that is served says what the running server does.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use vedette_model_registry::auth::ROUTES;
use vedette_protocol::record::SwapReason;

use crate::devices::{anomaly, baseline, boot, device, swap};
use crate::kit::{Package, START_MS, Scratch};
use crate::signed_log::Signer;

#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_the_routes_that_are_served_and_no_other() {
    let served = Scratch::new().serve().await;
    let document = served.json("/api/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            documented.insert(format!("{} {path}", method.to_uppercase()));
            let problem =
                &item[method]["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{method} {path}");
        }
    }
    let table: BTreeSet<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(documented, table);
    served.end().await;
}

/// Checks a value against the parts of a JSON schema that the document uses.
fn check(value: &Value, schema: &Value, document: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            document.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return check(value, target, document, place);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(value, part, document, place);
    }
    if let Some(required) = schema["required"].as_array() {
        for name in required {
            assert!(value.get(name.as_str().unwrap()).is_some(), "{place} lacks {name}");
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let fits = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{place}: an unknown type {other}"),
    };
    assert!(kinds.is_empty() || kinds.iter().any(fits), "{place}: {value} is none of {kinds:?}");
    if let Some(properties) = schema["properties"].as_object() {
        for (name, part) in properties {
            if let Some(field) = value.get(name) {
                check(field, part, document, &format!("{place}.{name}"));
            }
        }
    }
    if let Some(items) = value.as_array().filter(|_| schema.get("items").is_some()) {
        for (n, item) in items.iter().enumerate() {
            check(item, &schema["items"], document, &format!("{place}[{n}]"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_answers_has_the_shape_that_the_document_says() {
    let scratch = Scratch::new();
    let swapped = swap(START_MS, 0, 100, baseline(), SwapReason::Start);
    let records = vec![(0, boot()), (1, swapped), (2, anomaly(START_MS, "server", 5, baseline()))];
    let registry = scratch.registry();
    registry.ingest(&device("box-1"), 1, records).unwrap();
    let mut signer = Signer::new();
    signer.find("server", 5);
    signer.send(&registry, 0);
    drop(registry);
    let served = scratch.serve().await;
    let package = Package::demo("v1", &served.scratch.models);
    assert_eq!(served.push(&package).await.status(), StatusCode::CREATED);
    let name = package.model().name;
    let slots = serde_json::json!({ "slots": { "server": package.model().to_string() } });
    let assigned = served.send(Method::PUT, "/api/v1/devices/box-1/assignment", &served.tokens.approver, &slots).await;
    assert_eq!(assigned.status(), StatusCode::OK);
    let document = served.json("/api/v1/openapi.json").await;
    for (route, path, status) in [
        ("/api/v1/health", "/api/v1/health".to_owned(), "200"),
        ("/api/v1/models", "/api/v1/models".to_owned(), "200"),
        ("/api/v1/models/{name}", format!("/api/v1/models/{name}"), "200"),
        ("/api/v1/models/{name}", "/api/v1/models/none".to_owned(), "404"),
        ("/api/v1/models/{name}/versions", format!("/api/v1/models/{name}/versions"), "200"),
        ("/api/v1/models/{name}/versions/{version}", format!("/api/v1/models/{name}/versions/1"), "200"),
        ("/api/v1/devices", "/api/v1/devices".to_owned(), "200"),
        ("/api/v1/devices/{device}", "/api/v1/devices/box-1".to_owned(), "200"),
        ("/api/v1/devices/{device}/assignment", "/api/v1/devices/box-1/assignment".to_owned(), "200"),
        ("/api/v1/devices/{device}/at", "/api/v1/devices/box-1/at?time=2030-01-01T00:00:00Z".to_owned(), "200"),
        ("/api/v1/anomalies", "/api/v1/anomalies".to_owned(), "200"),
        ("/api/v1/anomalies/{device}/{epoch}/{sequence}", "/api/v1/anomalies/box-1/1/2".to_owned(), "200"),
        ("/api/v1/who-scored/{record}", "/api/v1/who-scored/box-1%2F1%2F2".to_owned(), "200"),
        ("/api/v1/who-scored/{record}", "/api/v1/who-scored/box-1%2F1%2Fserver%235".to_owned(), "200"),
        ("/api/v1/audit", "/api/v1/audit".to_owned(), "200"),
        ("/api/v1/audit/proof", "/api/v1/audit/proof?from=1".to_owned(), "200"),
        ("/api/v1/audit/proof", "/api/v1/audit/proof?from=0".to_owned(), "400"),
        ("/api/v1/devices/{device}/checkpoints", "/api/v1/devices/box/checkpoints".to_owned(), "200"),
        ("/api/v1/devices/{device}/tree/{epoch}/{size}", "/api/v1/devices/box/tree/77/4".to_owned(), "200"),
        ("/api/v1/devices/{device}/tree/{epoch}/{size}", "/api/v1/devices/box/tree/77/6".to_owned(), "404"),
        ("/api/v1/anomalies/{device}/{epoch}/{sequence}/proof", "/api/v1/anomalies/box/77/3/proof".to_owned(), "200"),
        ("/api/v1/anomalies/{device}/{epoch}/{sequence}/proof", "/api/v1/anomalies/box-1/1/2/proof".to_owned(), "404"),
    ] {
        let response = served.get(&path).await;
        assert_eq!(response.status().as_str(), status, "{path}");
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        let content = &document["paths"][route]["get"]["responses"][status]["content"];
        let schema = &content[&media]["schema"];
        assert!(schema.is_object(), "{route} says nothing about {media}: {content}");
        check(&body, schema, &document, &path);
    }
    served.end().await;
}
