//! Before every handler: is there such a route, who asks, may they, and is it answered in time.

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Failure;
use super::{App, auth, verb};
use crate::auth::{Access, Principal, Route};

/// A token is 51 characters; longer texts are not looked up.
const TOKEN_CHARS_MAX: usize = 128;

/// Lets a request through, or answers it.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    match admit(&app, request, next).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn admit(app: &App, mut request: Request, next: Next) -> Result<Response, Failure> {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = path.as_deref().and_then(|path| auth::find(request.method(), path));
    if let Some(Route { access: Access::Open, .. }) = route {
        return Ok(next.run(request).await);
    }
    let _working = app
        .requests
        .try_acquire()
        .map_err(|_| Failure::busy("more requests are being worked on than the registry takes: come again"))?;
    let principal = principal(app, request.headers()).await?;
    let Some(route) = route else {
        // Nobody serves this path, or not this method: the router's own fallbacks say so. A path that the router knows and
        // the table does not is not served.
        return match path.as_deref() {
            Some(path) if !auth::has_path(path) => Err(Failure::no_route(path)),
            Some(_) | None => Ok(next.run(request).await),
        };
    };
    if !principal.role.may(route.access) {
        return Err(Failure::wrong_role(format!(
            "the token `{}` has the role {}, and {} {} needs {}",
            principal.name,
            principal.role,
            route.method,
            route.path,
            route.access.roles()
        )));
    }
    request.extensions_mut().insert(principal);
    match tokio::time::timeout(route.within, next.run(request)).await {
        Ok(response) => Ok(response),
        Err(_) => Err(Failure::too_slow(format!("no answer within {} seconds", route.within.as_secs()))),
    }
}

async fn principal(app: &App, headers: &HeaderMap) -> Result<Principal, Failure> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Err(Failure::no_token(
            "send a token as `Authorization: Bearer <token>`; an admin makes one with `vedette tokens create`",
        ));
    };
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).map(str::trim);
    let Some(token) = token.filter(|token| token.len() <= TOKEN_CHARS_MAX) else {
        return Err(Failure::no_token("the header `Authorization` is not of the form `Bearer <token>`"));
    };
    let token = token.to_owned();
    verb(app, move |registry| registry.state().principal(&token)).await?.ok_or_else(|| {
        Failure::no_token("this token is not known here: it was revoked, or belongs to another registry")
    })
}
