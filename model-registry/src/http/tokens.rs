//! Tokens.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Actor, Json, Path};
use super::problem::Failure;
use super::{App, verb};
use crate::view::{Page, Problem, TokenCreated, TokenRequest, TokenView};

/// `{id}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Identified {
    /// The token's id or name.
    id: String,
}

/// All tokens, without their secrets.
#[utoipa::path(get, path = "/tokens", tag = "tokens", operation_id = "list_tokens", responses((status = 200, body = Page<TokenView>)))]
pub async fn list(State(app): State<App>) -> Result<axum::Json<Page<TokenView>>, Failure> {
    let items = verb(&app, |registry| registry.state().tokens()).await?;
    Ok(axum::Json(Page { items, next: None }))
}

/// Makes a token. This answer is the only place where its secret stands.
#[utoipa::path(post, path = "/tokens", tag = "tokens", operation_id = "create_token", request_body = TokenRequest, responses(
    (status = 201, body = TokenCreated), (status = 409, body = Problem, content_type = "application/problem+json")))]
pub async fn create(
    State(app): State<App>,
    Actor(by): Actor,
    Json(request): Json<TokenRequest>,
) -> Result<(StatusCode, axum::Json<TokenCreated>), Failure> {
    let made = verb(&app, move |registry| registry.state().create_token(&request.name, request.role, &by)).await?;
    Ok((StatusCode::CREATED, axum::Json(made)))
}

/// Revokes a token.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", operation_id = "revoke_token", params(Identified), responses(
    (status = 204, description = "revoked"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn revoke(
    State(app): State<App>,
    Path(Identified { id }): Path<Identified>,
    Actor(by): Actor,
) -> Result<StatusCode, Failure> {
    verb(&app, move |registry| registry.state().revoke_token(&id, &by)).await?;
    Ok(StatusCode::NO_CONTENT)
}
