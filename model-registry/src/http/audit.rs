//! The audit journal, as it stands and as it is signed.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::extract::Query;
use super::problem::Failure;
use super::{App, verb};
use crate::view::{AuditProofQuery, AuditProofView, AuditQuery, AuditView, Page, Problem};

/// Entries of the audit journal, oldest first.
#[utoipa::path(get, path = "/audit", tag = "audit", operation_id = "list_audit", params(AuditQuery), responses((status = 200, body = Page<AuditView>)))]
pub async fn list(
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<Page<AuditView>>, Failure> {
    Ok(axum::Json(verb(&app, move |registry| registry.audit(&query)).await?))
}

/// A signed checkpoint of the whole audit journal: a C2SP tlog-checkpoint in a C2SP signed note.
#[utoipa::path(get, path = "/audit/checkpoint", tag = "audit", operation_id = "audit_checkpoint", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn checkpoint(State(app): State<App>) -> Result<Response, Failure> {
    let (_, signed) = verb(&app, |registry| registry.state().checkpoint()).await?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], signed.note).into_response())
}

/// A proof that the audit journal still begins with what an earlier checkpoint of it was about.
#[utoipa::path(get, path = "/audit/proof", tag = "audit", operation_id = "audit_proof", params(AuditProofQuery), responses(
    (status = 200, body = AuditProofView),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "there are not so many entries")))]
pub async fn proof(
    State(app): State<App>,
    Query(query): Query<AuditProofQuery>,
) -> Result<axum::Json<AuditProofView>, Failure> {
    Ok(axum::Json(verb(&app, move |registry| registry.audit_proof(query.from)).await?))
}
