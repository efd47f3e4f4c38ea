//! Who may come in, and how everything else is answered.

use reqwest::{Method, StatusCode};
use serde_json::json;
use vedette_model_registry::auth::{Access, ROUTES, Role};

use crate::kit::{Scratch, assert_problem};

/// A path of this route that names things which are well-formed and not there.
fn filled(path: &str) -> String {
    path.replace("{name}", "nothing")
        .replace("{version}", "1")
        .replace("{alias}", "none")
        .replace("{digest}", &format!("sha256:{}", "0".repeat(64)))
        .replace("{device}", "nobody")
        .replace("{epoch}", "1")
        .replace("{sequence}", "1")
        .replace("{record}", "nobody%2F1%2F1")
        .replace("{id}", "none")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_opens_to_its_roles_and_to_nobody_else() {
    let served = Scratch::new().serve().await;
    for route in ROUTES {
        let path = filled(route.path);
        let bare = served.client.request(route.method.clone(), format!("{}{path}", served.url)).send().await.unwrap();
        let open = route.access == Access::Open;
        assert_eq!(bare.status() == StatusCode::UNAUTHORIZED, !open, "{} {path} without a token", route.method);
        for (role, token) in [
            (Role::Viewer, &served.tokens.viewer),
            (Role::Publisher, &served.tokens.publisher),
            (Role::Approver, &served.tokens.approver),
            (Role::Admin, &served.tokens.admin),
        ] {
            let status = served.request(route.method.clone(), &path, token).send().await.unwrap().status();
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{} {path} as {role:?}", route.method);
            assert_ne!(
                status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{} {path} is in the table and not in the router",
                route.method
            );
            assert_eq!(
                status == StatusCode::FORBIDDEN,
                !role.may(route.access),
                "{} {path} as {role:?}: {status}",
                route.method
            );
        }
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_is_a_problem_document() {
    let served = Scratch::new().serve().await;
    let bare = |path: &str| served.client.get(format!("{}{path}", served.url)).send();
    assert_eq!(bare("/api/v1/health").await.unwrap().status(), StatusCode::OK);
    let refused = bare("/api/v1/models").await.unwrap();
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_problem(refused, 401, "Authorization: Bearer").await;
    assert_problem(bare("/nowhere").await.unwrap(), 401, "Authorization").await;
    let unknown = served.request(Method::GET, "/api/v1/models", "vedette_unknown").send().await.unwrap();
    assert_problem(unknown, 401, "not known here").await;
    assert_problem(served.get("/nowhere").await, 404, "/nowhere").await;
    assert_problem(served.get("/api/v1/models/UPPER").await, 400, "UPPER").await;
    assert_problem(served.get("/api/v1/models/none/versions/1").await, 404, "none@1").await;
    assert_problem(served.get("/api/v1/anomalies?devise=x").await, 400, "devise").await;
    assert_problem(served.get("/api/v1/anomalies?limit=0").await, 400, "limit").await;
    assert_problem(served.get("/api/v1/anomalies?cursor=%21").await, 400, "cursor").await;
    assert_problem(served.get("/api/v1/anomalies?since=yesterday").await, 400, "since").await;
    let admin = &served.tokens.admin;
    let way = served.request(Method::PATCH, "/api/v1/models", admin).send().await.unwrap();
    assert!(way.headers()["allow"].to_str().unwrap().contains("GET"), "what would be right is said");
    assert_problem(way, 405, "PATCH").await;
    let plain = served.request(Method::POST, "/api/v1/tokens", admin).body("{}").send().await.unwrap();
    assert_problem(plain, 415, "application/json").await;
    let large = served.send(Method::POST, "/api/v1/tokens", admin, &json!({ "name": "x".repeat(100_000) })).await;
    assert_problem(large, 413, "").await;
    let odd = served.send(Method::POST, "/api/v1/tokens", admin, &json!({ "name": "x", "role": "king" })).await;
    assert_problem(odd, 400, "king").await;
    let file = served
        .request(Method::PUT, &filled("/api/v1/blobs/{digest}"), admin)
        .body(vec![0; 5 * 1024 * 1024])
        .send()
        .await;
    // The server answers before it has read all; a client that still writes may see the connection end instead.
    if let Ok(file) = file {
        assert_problem(file, 413, "limit").await;
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_until_it_is_revoked() {
    let served = Scratch::new().serve().await;
    let admin = &served.tokens.admin;
    let made = served.send(Method::POST, "/api/v1/tokens", admin, &json!({ "name": "ci", "role": "publisher" })).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: serde_json::Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    assert_eq!(served.request(Method::GET, "/api/v1/models", token).send().await.unwrap().status(), StatusCode::OK);
    let list = served.request(Method::GET, "/api/v1/tokens", admin).send().await.unwrap().text().await.unwrap();
    assert!(list.contains("\"ci\"") && !list.contains(token));
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(served.request(Method::DELETE, &path, admin).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(
        served.request(Method::GET, "/api/v1/models", token).send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let audit = served.get("/api/v1/audit").await.text().await.unwrap();
    assert!(audit.contains("token-revoked") && audit.contains("token:admin") && !audit.contains("hash"), "{audit}");
    served.end().await;
}
