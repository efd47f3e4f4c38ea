//! Devices: what they run, what they shall run, what they ran.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use vedette_protocol::id::DeviceId;

use super::extract::{Actor, Json, Path, Query};
use super::problem::Failure;
use super::{App, verb};
use crate::registry::anomalies::time;
use crate::view::{
    AssignRequest, AssignmentView, AtQuery, CheckpointView, DeviceAt, DeviceView, Page, Problem, ReleaseRequest,
    TreeView,
};

type Answer<T> = Result<axum::Json<T>, Failure>;

/// `{device}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Named {
    /// The device.
    #[param(value_type = String)]
    device: DeviceId,
}

/// All devices, by name.
#[utoipa::path(get, path = "/devices", tag = "devices", operation_id = "list_devices", responses((status = 200, body = Page<DeviceView>)))]
pub async fn list(State(app): State<App>) -> Answer<Page<DeviceView>> {
    let items = verb(&app, |registry| registry.devices()).await?;
    Ok(axum::Json(Page { items, next: None }))
}

/// One device.
#[utoipa::path(get, path = "/devices/{device}", tag = "devices", operation_id = "show_device", params(Named), responses(
    (status = 200, body = DeviceView), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn show(State(app): State<App>, Path(Named { device }): Path<Named>) -> Answer<DeviceView> {
    Ok(axum::Json(verb(&app, move |registry| registry.device(&device)).await?))
}

/// What ran on a device at a time.
#[utoipa::path(get, path = "/devices/{device}/at", tag = "devices", operation_id = "device_at", params(Named, AtQuery), responses(
    (status = 200, body = DeviceAt), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn at(
    State(app): State<App>,
    Path(Named { device }): Path<Named>,
    Query(query): Query<AtQuery>,
) -> Answer<DeviceAt> {
    let at_ms = time("time", &query.time)?;
    Ok(axum::Json(verb(&app, move |registry| registry.device_at(&device, at_ms)).await?))
}

/// What a device shall run.
#[utoipa::path(get, path = "/devices/{device}/assignment", tag = "devices", operation_id = "show_assignment", params(Named), responses(
    (status = 200, body = AssignmentView), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn assignment(State(app): State<App>, Path(Named { device }): Path<Named>) -> Answer<AssignmentView> {
    Ok(axum::Json(verb(&app, move |registry| registry.assignment(&device)).await?))
}

/// Says what a device shall run from now on: all its streams.
#[utoipa::path(put, path = "/devices/{device}/assignment", tag = "devices", operation_id = "assign", params(Named), request_body = AssignRequest, responses(
    (status = 200, body = AssignmentView, description = "what the device shall run now; the same as before when nothing changed"),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "a model is not here"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "a model is below its floor")))]
pub async fn assign(
    State(app): State<App>,
    Path(Named { device }): Path<Named>,
    Actor(by): Actor,
    Json(request): Json<AssignRequest>,
) -> Answer<AssignmentView> {
    Ok(axum::Json(verb(&app, move |registry| registry.assign(&device, &request, &by)).await?))
}

/// The last accepted checkpoint of each of a device's journals, by epoch.
#[utoipa::path(get, path = "/devices/{device}/checkpoints", tag = "devices", operation_id = "list_checkpoints", params(Named), responses(
    (status = 200, body = Page<CheckpointView>), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn checkpoints(State(app): State<App>, Path(Named { device }): Path<Named>) -> Answer<Page<CheckpointView>> {
    let items = verb(&app, move |registry| registry.checkpoints(&device)).await?;
    Ok(axum::Json(Page { items, next: None }))
}

/// `{device}/{epoch}/{size}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Begun {
    /// The device.
    #[param(value_type = String)]
    device: DeviceId,
    /// The epoch of its journal.
    epoch: u64,
    /// How many records, from the first.
    size: u64,
}

/// The Merkle tree that the registry's own copies make of the first records of a journal.
#[utoipa::path(get, path = "/devices/{device}/tree/{epoch}/{size}", tag = "devices", operation_id = "show_tree", params(Begun), responses(
    (status = 200, body = TreeView),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "records among them are not here")))]
pub async fn tree(State(app): State<App>, Path(Begun { device, epoch, size }): Path<Begun>) -> Answer<TreeView> {
    Ok(axum::Json(verb(&app, move |registry| registry.tree(&device, epoch, size)).await?))
}

/// Lifts the quarantine of a device: its pinned key and its checkpoints are forgotten.
#[utoipa::path(post, path = "/devices/{device}/release", tag = "devices", operation_id = "release_device", params(Named), request_body = ReleaseRequest, responses(
    (status = 200, body = DeviceView),
    (status = 400, body = Problem, content_type = "application/problem+json", description = "there is no reason"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "it is not in quarantine")))]
pub async fn release(
    State(app): State<App>,
    Path(Named { device }): Path<Named>,
    Actor(by): Actor,
    Json(request): Json<ReleaseRequest>,
) -> Answer<DeviceView> {
    Ok(axum::Json(verb(&app, move |registry| registry.release(&device, &request.reason, &by)).await?))
}
