//! The REST API: one table of routes, a guard before all of them, handlers that only translate.
//!
//! Every answer that is not a success is a problem document ([`problem`]), also for paths and methods that nobody
//! serves, bodies that are too large and requests that take too long. Handlers call one verb each, on a thread where it may
//! block.

pub mod anomalies;
pub mod audit;
pub mod blobs;
pub mod devices;
pub mod extract;
mod guard;
pub mod models;
pub mod problem;
mod ranges;
pub mod serve;
pub mod tokens;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use tokio::sync::Semaphore;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, PathItem, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::Failure;
use crate::auth;
use crate::registry::{self, Registry};
use crate::view::{Health, Problem};

/// Requests worked on at a time. Each holds a blocking thread at most (2 MiB of address space) and a body of 1 MiB: 256 MiB in
/// all. One more is answered "busy".
const REQUESTS_MAX: usize = 256;
/// Trials at a time: each may take 1 GiB and a core. Others wait for their turn.
const TRIALS_MAX: usize = 2;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    registry: Registry,
    requests: Arc<Semaphore>,
    trials: Arc<Semaphore>,
    openapi: Arc<str>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vedette model registry",
        description = "Versions, signs and audits models; says which device runs which; answers which model scored a record. \
                       Send a token as `Authorization: Bearer <token>`. Errors are RFC 9457 problem documents."
    ),
    components(schemas(Problem)),
    security(("token" = []))
)]
struct Document;

/// The API over a registry, ready to be served.
pub fn router(registry: Registry, max_body_bytes: usize) -> Router {
    let (routes, mut document) = routes().split_for_parts();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
    document.paths.paths.values_mut().for_each(add_problem);
    let app = App {
        registry,
        requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        trials: Arc::new(Semaphore::new(TRIALS_MAX)),
        openapi: document.to_json().unwrap_or_default().into(),
    };
    routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_way)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

/// The one table of routes. Each must also stand in [`auth::ROUTES`], or the guard lets nobody through.
fn routes() -> OpenApiRouter<App> {
    let api = OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(openapi))
        .routes(routes!(models::list))
        .routes(routes!(models::show))
        .routes(routes!(models::versions, models::push))
        .routes(routes!(models::version))
        .routes(routes!(models::set_alias, models::remove_alias))
        .routes(routes!(blobs::manifest))
        .routes(routes!(blobs::lineage))
        .routes(routes!(blobs::download, blobs::upload))
        .routes(routes!(devices::list))
        .routes(routes!(devices::show))
        .routes(routes!(devices::at))
        .routes(routes!(devices::assignment, devices::assign))
        .routes(routes!(devices::checkpoints))
        .routes(routes!(devices::tree))
        .routes(routes!(devices::release))
        .routes(routes!(anomalies::list))
        .routes(routes!(anomalies::show))
        .routes(routes!(anomalies::proof))
        .routes(routes!(anomalies::who_scored))
        .routes(routes!(audit::list))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(audit::proof))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke));
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", api)
}

/// Every operation may answer with a problem that is not listed: no token, wrong role, too large, too slow.
fn add_problem(item: &mut PathItem) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new()
        .description("what went wrong, and the way out")
        .content("application/problem+json", content)
        .build();
    for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
        operation.responses.responses.insert("default".to_owned(), problem.clone().into());
    }
}

/// Runs a verb on a thread where it may block.
async fn verb<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Registry) -> registry::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let registry = app.registry.clone();
    match tokio::task::spawn_blocking(move || work(&registry)).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            Err(registry::Error::Internal(anyhow::anyhow!("a verb of the registry ended early: {error}")).into())
        }
    }
}

/// Whether the service answers. Needs no token.
#[utoipa::path(get, path = "/health", tag = "service", security(()), responses((status = 200, body = Health)))]
async fn health() -> axum::Json<Health> {
    axum::Json(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses((status = 200, body = Object), (status = 401, body = Problem, content_type = "application/problem+json")))]
async fn openapi(State(app): State<App>) -> Response {
    ([(CONTENT_TYPE, "application/json")], app.openapi.to_string()).into_response()
}

async fn nothing_here(uri: Uri) -> Failure {
    Failure::no_route(uri.path())
}

async fn not_this_way(method: Method, uri: Uri) -> Failure {
    Failure::no_method(method.as_str(), uri.path())
}
