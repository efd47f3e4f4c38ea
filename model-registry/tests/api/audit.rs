//! The registry's own log: signed while it runs, ended with a signature, checked from outside.

use reqwest::{Method, StatusCode};
use serde_json::json;
use vedette_journal::{Checkpoint, Hash, PublicKey, SigningKey, verify_consistency};
use vedette_model_registry::view::{AuditProofView, AuditView, Page};

use crate::kit::{Scratch, Served, assert_problem};

fn key(served: &Served) -> PublicKey {
    SigningKey::load(&served.scratch.config.state.join("audit.key")).unwrap().public()
}

async fn checkpoint(served: &Served) -> Checkpoint {
    let response = served.get("/api/v1/audit/checkpoint").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    Checkpoint::open(&response.text().await.unwrap(), &key(served)).unwrap()
}

async fn make_token(served: &Served, name: &str) {
    let body = json!({"name": name, "role": "viewer"});
    let made = served.send(Method::POST, "/api/v1/tokens", &served.tokens.admin, &body).await;
    assert_eq!(made.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checkpoint_covers_every_entry_and_continues_the_one_before() {
    let served = Scratch::new().serve().await;
    let mut before = checkpoint(&served).await;
    assert_eq!(before.size, 4, "the four tokens of the kit");
    for n in 0..5 {
        make_token(&served, &format!("t{n}")).await;
        let next = checkpoint(&served).await;
        assert_eq!((next.size, &next.origin), (before.size + 1, &before.origin));
        let proof = served.json(&format!("/api/v1/audit/proof?from={}", before.size)).await;
        let proof: AuditProofView = serde_json::from_value(proof).unwrap();
        let path: Vec<Hash> = proof.proof.iter().map(|hash| hash.parse().unwrap()).collect();
        assert!(verify_consistency(before.size, &before.root, next.size, &next.root, &path));
        assert_eq!(proof.key.parse::<PublicKey>().unwrap(), key(&served));
        before = next;
    }
    let entries: Page<AuditView> = serde_json::from_value(served.json("/api/v1/audit").await).unwrap();
    assert_eq!(entries.items.len() as u64, before.size);
    assert_problem(served.get("/api/v1/audit/proof?from=99").await, 400, "has 9 entries").await;
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_signs_the_same_log_with_the_same_key() {
    let served = Scratch::new().serve().await;
    let before = checkpoint(&served).await;
    let served = served.end().await.serve().await;
    assert_eq!(checkpoint(&served).await, before);
    served.end().await;
}
