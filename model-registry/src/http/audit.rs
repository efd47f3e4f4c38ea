//! The audit journal, as it stands.

use axum::extract::State;

use super::extract::Query;
use super::problem::Failure;
use super::{App, verb};
use crate::view::{AuditQuery, AuditView, Page};

/// Entries of the audit journal, oldest first.
#[utoipa::path(get, path = "/audit", tag = "audit", operation_id = "list_audit", params(AuditQuery), responses((status = 200, body = Page<AuditView>)))]
pub async fn list(
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<Page<AuditView>>, Failure> {
    Ok(axum::Json(verb(&app, move |registry| registry.audit(&query)).await?))
}
