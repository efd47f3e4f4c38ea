//! Errors over HTTP: RFC 9457 problem documents, whatever went wrong and wherever.

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::registry::Error;
use crate::view::Problem;

/// An answer that says what went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
}

impl Failure {
    /// No token, or one that nobody has.
    #[must_use]
    pub fn no_token(detail: &str) -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "no-token", "A token is needed", detail)
    }

    /// A token whose role does not reach.
    #[must_use]
    pub fn wrong_role(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, "wrong-role", "This token may not do that", detail)
    }

    /// Nothing is served there.
    #[must_use]
    pub fn no_route(path: &str) -> Failure {
        let detail = format!("nothing is served at {path}: see /api/v1/openapi.json");
        Failure::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// Something is served there, but not to this method.
    #[must_use]
    pub fn no_method(method: &str, path: &str) -> Failure {
        let detail = format!("{path} does not answer {method}: see /api/v1/openapi.json");
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", "This method is not for this path", detail)
    }

    /// It took too long.
    #[must_use]
    pub fn too_slow(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "too-slow", "It took too long", detail)
    }

    /// Too much is going on.
    #[must_use]
    pub fn busy(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "The registry is busy", detail)
    }

    /// What was asked for lies outside the file.
    #[must_use]
    pub fn bad_range(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad-range", "This range is not in the file", detail)
    }

    /// The sender stopped in the middle.
    #[must_use]
    pub fn cut_off(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::REQUEST_TIMEOUT, "cut-off", "The body did not come to its end", detail)
    }

    /// What axum's extractors refused: a body, path or query that cannot be read.
    #[must_use]
    pub fn unreadable(status: StatusCode, detail: String) -> Failure {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Failure::new(status, "too-large", "Too large", detail),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Failure::new(
                status,
                "wrong-media-type",
                "The body is of another kind",
                format!("{detail}; send application/json"),
            ),
            StatusCode::INTERNAL_SERVER_ERROR => Failure::new(status, "internal", "The registry failed", detail),
            // A field that does not fit and a text that is no JSON are one thing to whoever sent it.
            _ => Failure::new(StatusCode::BAD_REQUEST, "bad-request", "It cannot be read", detail),
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Failure {
        Failure { status, kind, title, detail: detail.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let (status, kind, title) = match &error {
            Error::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Error::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad-request", "It cannot be read"),
            Error::Conflict(_) => (StatusCode::CONFLICT, "conflict", "It collides with what is here"),
            Error::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused", "A rule refuses it"),
            Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
            Error::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full", "A limit is reached"),
            Error::Internal(cause) => {
                // Reported once, here: outside they cannot help it, and the cause may name files of this machine.
                tracing::error!(error = format!("{cause:#}"), "a request failed inside the registry");
                return Failure::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "The registry failed",
                    "the registry couldn't do its work; its log says why",
                );
            }
        };
        Failure::new(status, kind, title, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("urn:vedette:problem:{}", self.kind),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
