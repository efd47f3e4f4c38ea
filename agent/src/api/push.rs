//! Samples handed in by local programs.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use vedette_protocol::id::StreamName;

use super::problem::Problem;
use super::{Api, BODY_BYTES_MAX};
use crate::source::push::PushError;

pub(super) async fn samples(
    State(api): State<Api>,
    Path(stream): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let stream: StreamName = stream.parse().map_err(|e| Problem::bad_request(format!("{e}")))?;
    let known = api.parts.streams.iter().find(|s| s.name == stream);
    let Some(intake) = known.and_then(|s| s.intake.as_ref()) else {
        let why = if known.is_some() { "is not of kind push" } else { "is not on this device" };
        return Err(Problem::not_found(format!("stream {stream} {why}")));
    };
    let body = body.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::too_large(format!("a post has at most {BODY_BYTES_MAX} bytes; post fewer samples at once"))
        }
        _ => Problem::bad_request(e.body_text()),
    })?;
    match intake.take(&body) {
        Ok(accepted) => Ok((StatusCode::ACCEPTED, Json(json!({ "accepted": accepted })))),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &PushError) -> Problem {
    let said = error.to_string();
    match error {
        PushError::Busy { .. } => Problem::busy(said),
        PushError::TooMany { .. } => Problem::too_large(said),
        PushError::Line { line, .. } => Problem::bad_request(said).with("line", *line),
        PushError::Stopping => Problem::stopping(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::header::RETRY_AFTER;
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn a_full_queue_is_answered_with_busy_and_when_to_come_again() {
        let response = refusal(&PushError::Busy { waiting: 9 }).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "1");
    }
}
