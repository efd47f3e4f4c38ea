//! Reading a request: axum's extractors with problem documents for answers.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Failure;
use crate::auth::Principal;

/// A JSON body.
pub struct Json<T>(pub T);

/// The parts of the path.
pub struct Path<T>(pub T);

/// The query.
pub struct Query<T>(pub T);

/// How the audit journal names who asks.
pub struct Actor(pub String);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, Failure> {
        let body = axum::Json::<T>::from_request(request, state).await;
        body.map(|axum::Json(value)| Json(value)).map_err(|refused| match refused.status() {
            status @ StatusCode::PAYLOAD_TOO_LARGE => Failure::unreadable(
                status,
                "the body is longer than the registry takes (http.max_body in registry.toml)".to_owned(),
            ),
            status => Failure::unreadable(status, refused.body_text()),
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Failure> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(value)| Path(value))
            .map_err(|refused| Failure::unreadable(refused.status(), refused.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Failure> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|axum::extract::Query(value)| Query(value))
            .map_err(|refused| Failure::unreadable(refused.status(), refused.body_text()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Actor, Failure> {
        // The guard has put it there for every route that demands a token.
        let principal = parts.extensions.get::<Principal>();
        principal
            .map(|principal| Actor(principal.audit_name()))
            .ok_or_else(|| Failure::no_token("this change needs a token"))
    }
}
