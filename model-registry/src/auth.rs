//! Who may do what: roles, and the one table of routes that says what each entrance demands and how long it may take.
//!
//! A route that is not in [`ROUTES`] is not served, so none can be forgotten open. Tokens themselves are made and looked
//! up in [`crate::registry::tokens`].

use std::time::Duration;

use axum::http::Method;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token may do. Publisher and approver do not include each other: who makes a model does not send it out alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything but tokens.
    Viewer,
    /// Reads, and pushes versions, files and aliases.
    Publisher,
    /// Reads, assigns models to devices, and releases devices from quarantine.
    Approver,
    /// Everything, tokens included.
    Admin,
}

/// What an entrance demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing, not even a token.
    Open,
    /// Any token.
    Read,
    /// The right to bring models in.
    Publish,
    /// The right to say what devices run, and whether one that was in quarantine is believed again.
    Approve,
    /// The right to make tokens.
    Administer,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Viewer => "viewer",
            Role::Publisher => "publisher",
            Role::Approver => "approver",
            Role::Admin => "admin",
        })
    }
}

impl Access {
    /// The roles that have this right, as a sentence says it.
    #[must_use]
    pub const fn roles(self) -> &'static str {
        match self {
            Access::Open | Access::Read => "any role",
            Access::Publish => "publisher or admin",
            Access::Approve => "approver or admin",
            Access::Administer => "admin",
        }
    }
}

impl Role {
    /// Whether this role opens that entrance.
    #[must_use]
    pub fn may(self, access: Access) -> bool {
        match access {
            Access::Open | Access::Read => true,
            Access::Publish => matches!(self, Role::Publisher | Role::Admin),
            Access::Approve => matches!(self, Role::Approver | Role::Admin),
            Access::Administer => matches!(self, Role::Admin),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's name.
    pub name: String,
    /// Its role.
    pub role: Role,
}

impl Principal {
    /// How the audit journal names them.
    #[must_use]
    pub fn audit_name(&self) -> String {
        format!("token:{}", self.name)
    }
}

/// An entrance.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method; `HEAD` goes where `GET` goes.
    pub method: Method,
    /// The path as the router names it.
    pub path: &'static str,
    /// What it demands.
    pub access: Access,
    /// How long it may take until the answer begins.
    pub within: Duration,
}

/// A read or a small change: milliseconds, and an fsync on a disk that is busy.
const SOON: Duration = Duration::from_secs(30);
/// A push waits for its turn and for a trial (see [`crate::admission`]).
const TRIAL: Duration = Duration::from_secs(180);
/// 256 MiB at 500 KB/s.
const UPLOAD: Duration = Duration::from_secs(600);

const fn route(method: Method, path: &'static str, access: Access, within: Duration) -> Route {
    Route { method, path, access, within }
}

/// All entrances.
pub const ROUTES: [Route; 31] = {
    use Access::{Administer, Approve, Open, Publish, Read};
    [
        route(Method::GET, "/api/v1/health", Open, SOON),
        route(Method::GET, "/api/v1/openapi.json", Read, SOON),
        route(Method::GET, "/api/v1/models", Read, SOON),
        route(Method::GET, "/api/v1/models/{name}", Read, SOON),
        route(Method::GET, "/api/v1/models/{name}/versions", Read, SOON),
        route(Method::POST, "/api/v1/models/{name}/versions", Publish, TRIAL),
        route(Method::GET, "/api/v1/models/{name}/versions/{version}", Read, SOON),
        route(Method::PUT, "/api/v1/models/{name}/aliases/{alias}", Publish, SOON),
        route(Method::DELETE, "/api/v1/models/{name}/aliases/{alias}", Publish, SOON),
        route(Method::GET, "/api/v1/manifests/{digest}", Read, SOON),
        route(Method::GET, "/api/v1/lineages/{digest}", Read, SOON),
        route(Method::GET, "/api/v1/blobs/{digest}", Read, SOON),
        route(Method::PUT, "/api/v1/blobs/{digest}", Publish, UPLOAD),
        route(Method::GET, "/api/v1/devices", Read, SOON),
        route(Method::GET, "/api/v1/devices/{device}", Read, SOON),
        route(Method::GET, "/api/v1/devices/{device}/at", Read, SOON),
        route(Method::GET, "/api/v1/devices/{device}/assignment", Read, SOON),
        route(Method::PUT, "/api/v1/devices/{device}/assignment", Approve, SOON),
        route(Method::GET, "/api/v1/devices/{device}/checkpoints", Read, SOON),
        route(Method::GET, "/api/v1/devices/{device}/tree/{epoch}/{size}", Read, SOON),
        route(Method::POST, "/api/v1/devices/{device}/release", Approve, SOON),
        route(Method::GET, "/api/v1/anomalies", Read, SOON),
        route(Method::GET, "/api/v1/anomalies/{device}/{epoch}/{sequence}", Read, SOON),
        route(Method::GET, "/api/v1/anomalies/{device}/{epoch}/{sequence}/proof", Read, SOON),
        route(Method::GET, "/api/v1/who-scored/{record}", Read, SOON),
        route(Method::GET, "/api/v1/audit", Read, SOON),
        route(Method::GET, "/api/v1/audit/checkpoint", Read, SOON),
        route(Method::GET, "/api/v1/audit/proof", Read, SOON),
        route(Method::GET, "/api/v1/tokens", Administer, SOON),
        route(Method::POST, "/api/v1/tokens", Administer, SOON),
        route(Method::DELETE, "/api/v1/tokens/{id}", Administer, SOON),
    ]
};

/// The entrance of this method and path.
#[must_use]
pub fn find(method: &Method, path: &str) -> Option<Route> {
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    ROUTES.into_iter().find(|route| route.path == path && route.method == *wanted)
}

/// Whether some entrance has this path.
#[must_use]
pub fn has_path(path: &str) -> bool {
    ROUTES.iter().any(|route| route.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each role may, written out once more and by hand: a change of the rules has to be made twice.
    fn expected(role: Role, route: &Route) -> bool {
        let reads = route.method == Method::GET && !route.path.ends_with("/tokens");
        match role {
            Role::Admin => true,
            Role::Viewer => reads,
            Role::Publisher => {
                reads
                    || route.path.contains("/aliases/")
                    || route.path.contains("/blobs/")
                    || route.path.ends_with("/versions")
            }
            Role::Approver => reads || route.path.ends_with("/assignment") || route.path.ends_with("/release"),
        }
    }

    #[test]
    fn every_role_opens_its_entrances_and_no_other() {
        for route in ROUTES {
            for role in [Role::Viewer, Role::Publisher, Role::Approver, Role::Admin] {
                assert_eq!(role.may(route.access), expected(role, &route), "{role:?} {} {}", route.method, route.path);
            }
        }
    }

    #[test]
    fn only_health_is_open() {
        let open: Vec<&str> =
            ROUTES.iter().filter(|route| route.access == Access::Open).map(|route| route.path).collect();
        assert_eq!(open, ["/api/v1/health"]);
    }

    #[test]
    fn head_goes_where_get_goes() {
        let route = find(&Method::HEAD, "/api/v1/blobs/{digest}");
        assert_eq!(route.map(|route| route.method), Some(Method::GET));
    }
}
