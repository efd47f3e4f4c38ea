//! What the devices found, and which model scored it.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use vedette_protocol::id::{DeviceId, RecordId};

use super::extract::{Path, Query};
use super::problem::Failure;
use super::{App, verb};
use crate::view::{AnomalyQuery, AnomalyView, Page, Problem, ProofView, WhoScored};

type Answer<T> = Result<axum::Json<T>, Failure>;

/// `{device}/{epoch}/{sequence}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Recorded {
    /// The device.
    #[param(value_type = String)]
    device: DeviceId,
    /// The epoch of its journal.
    epoch: u64,
    /// The record's sequence.
    sequence: u64,
}

/// `{record}`
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Asked {
    /// `device/epoch/sequence` or `device/epoch/stream#row`, percent-encoded as one segment.
    record: String,
}

/// Anomalies that match, newest sample first.
#[utoipa::path(get, path = "/anomalies", tag = "anomalies", operation_id = "list_anomalies", params(AnomalyQuery), responses(
    (status = 200, body = Page<AnomalyView>), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(app): State<App>, Query(query): Query<AnomalyQuery>) -> Answer<Page<AnomalyView>> {
    Ok(axum::Json(verb(&app, move |registry| registry.anomalies(&query)).await?))
}

/// One anomaly.
#[utoipa::path(get, path = "/anomalies/{device}/{epoch}/{sequence}", tag = "anomalies", operation_id = "show_anomaly", params(Recorded), responses(
    (status = 200, body = AnomalyView), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(app): State<App>,
    Path(Recorded { device, epoch, sequence }): Path<Recorded>,
) -> Answer<AnomalyView> {
    let id = RecordId { device, epoch, sequence };
    Ok(axum::Json(verb(&app, move |registry| registry.anomaly(&id)).await?))
}

/// A proof that the record is in the log that its device signed.
#[utoipa::path(get, path = "/anomalies/{device}/{epoch}/{sequence}/proof", tag = "anomalies", operation_id = "prove_record", params(Recorded), responses(
    (status = 200, body = ProofView),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "it has not come, no checkpoint covers it yet, or records that the proof needs are absent"),
    (status = 422, body = Problem, content_type = "application/problem+json", description = "it is of another history than the signed one")))]
pub async fn proof(
    State(app): State<App>,
    Path(Recorded { device, epoch, sequence }): Path<Recorded>,
) -> Answer<ProofView> {
    let id = RecordId { device, epoch, sequence };
    Ok(axum::Json(verb(&app, move |registry| registry.proof(&id)).await?))
}

/// Which model scored a record, or any telemetry row.
#[utoipa::path(get, path = "/who-scored/{record}", tag = "anomalies", operation_id = "who_scored", params(Asked), responses(
    (status = 200, body = WhoScored),
    (status = 404, body = Problem, content_type = "application/problem+json", description = "it has not come, or nothing scored it")))]
pub async fn who_scored(State(app): State<App>, Path(Asked { record }): Path<Asked>) -> Answer<WhoScored> {
    Ok(axum::Json(verb(&app, move |registry| registry.who_scored(&record)).await?))
}
