//! Who may do what: roles, the table of routes, and tokens.
//!
//! A token is 256 random bits behind the prefix `vedette_`; the registry keeps only its SHA-256. A random secret of that
//! size needs no slow hash: there is nothing to guess. [`ROUTES`] is the one table that says what each entrance
//! demands; a route that is not in it is not served.

use std::time::Duration;

use axum::http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token may do. Publisher and approver do not include each other: who makes a model does not send it out alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything but tokens.
    Viewer,
    /// Reads, and pushes versions, files and aliases.
    Publisher,
    /// Reads, and assigns models to devices.
    Approver,
    /// Everything, tokens included.
    Admin,
}
