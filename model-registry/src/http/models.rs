//! Models, versions and aliases.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use vedette_protocol::id::{ModelName, ModelRef, ModelVersion};

use super::extract::{Actor, Json, Path};
use super::problem::Failure;
use super::{App, verb};
use crate::registry::push::Pushed;
use crate::view::{AliasRequest, ModelSummary, Page, Problem, PushRequest, VersionDetail, VersionSummary};

type Answer<T> = Result<axum::Json<T>, Failure>;

/// `{name}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Named {
    /// The model's name.
    #[param(value_type = String)]
    name: ModelName,
}

/// `{name}/…/{version}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Versioned {
    /// The model's name.
    #[param(value_type = String)]
    name: ModelName,
    /// The version's number.
    #[param(value_type = u32)]
    version: ModelVersion,
}

/// `{name}/…/{alias}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Aliased {
    /// The model's name.
    #[param(value_type = String)]
    name: ModelName,
    /// The alias.
    #[param(value_type = String)]
    alias: ModelName,
}

/// All models, by name.
#[utoipa::path(get, path = "/models", tag = "models", operation_id = "list_models", responses((status = 200, body = Page<ModelSummary>)))]
pub async fn list(State(app): State<App>) -> Answer<Page<ModelSummary>> {
    let items = verb(&app, |registry| registry.models()).await?;
    Ok(axum::Json(Page { items, next: None }))
}

/// One model.
#[utoipa::path(get, path = "/models/{name}", tag = "models", operation_id = "show_model", params(Named), responses(
    (status = 200, body = ModelSummary), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(app): State<App>, Path(Named { name }): Path<Named>) -> Answer<ModelSummary> {
    Ok(axum::Json(verb(&app, move |registry| registry.model(&name)).await?))
}

/// The versions of a model, oldest first.
#[utoipa::path(get, path = "/models/{name}/versions", tag = "models", operation_id = "list_versions", params(Named), responses(
    (status = 200, body = Page<VersionSummary>), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn versions(State(app): State<App>, Path(Named { name }): Path<Named>) -> Answer<Page<VersionSummary>> {
    let items = verb(&app, move |registry| registry.versions(&name)).await?;
    Ok(axum::Json(Page { items, next: None }))
}

/// Pushes a version: its files must have been uploaded. It is tried before it is admitted.
#[utoipa::path(post, path = "/models/{name}/versions", tag = "models", operation_id = "push_version", params(Named), request_body = PushRequest, responses(
    (status = 201, body = VersionSummary, description = "admitted"),
    (status = 200, body = VersionSummary, description = "the very same version was here already"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "the version is taken by other bytes"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "not signed, incomplete, or it did not pass its trial")))]
pub async fn push(
    State(app): State<App>,
    Path(Named { name }): Path<Named>,
    Actor(by): Actor,
    Json(request): Json<PushRequest>,
) -> Result<(StatusCode, axum::Json<VersionSummary>), Failure> {
    let Ok(_turn) = app.trials.acquire().await else {
        return Err(Failure::busy("the registry is being shut down"));
    };
    match verb(&app, move |registry| registry.push(&name, &request, &by)).await? {
        Pushed::New(version) => Ok((StatusCode::CREATED, axum::Json(version))),
        Pushed::Known(version) => Ok((StatusCode::OK, axum::Json(version))),
    }
}

/// One version, with its manifest and lineage.
#[utoipa::path(get, path = "/models/{name}/versions/{version}", tag = "models", operation_id = "show_version", params(Versioned), responses(
    (status = 200, body = VersionDetail), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn version(
    State(app): State<App>,
    Path(Versioned { name, version }): Path<Versioned>,
) -> Answer<VersionDetail> {
    let model = ModelRef { name, version };
    Ok(axum::Json(verb(&app, move |registry| registry.version(&model)).await?))
}

/// Points an alias to a version.
#[utoipa::path(put, path = "/models/{name}/aliases/{alias}", tag = "models", operation_id = "set_alias", params(Aliased), request_body = AliasRequest, responses(
    (status = 200, body = ModelSummary), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn set_alias(
    State(app): State<App>,
    Path(Aliased { name, alias }): Path<Aliased>,
    Actor(by): Actor,
    Json(request): Json<AliasRequest>,
) -> Answer<ModelSummary> {
    let model = verb(&app, move |registry| registry.set_alias(&name, &alias, request.version, &by)).await?;
    Ok(axum::Json(model))
}

/// Removes an alias.
#[utoipa::path(delete, path = "/models/{name}/aliases/{alias}", tag = "models", operation_id = "remove_alias", params(Aliased), responses(
    (status = 204, description = "removed"), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn remove_alias(
    State(app): State<App>,
    Path(Aliased { name, alias }): Path<Aliased>,
    Actor(by): Actor,
) -> Result<StatusCode, Failure> {
    verb(&app, move |registry| registry.remove_alias(&name, &alias, &by)).await?;
    Ok(StatusCode::NO_CONTENT)
}
