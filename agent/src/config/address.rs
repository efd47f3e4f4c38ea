//! Addresses and the token: what a registry is reached by.

use std::path::Path;

use vedette_protocol::settings::SettingsError;

use super::{Broker, Place, Token};

/// A token file longer than this is not a token (ours have 60 bytes).
const TOKEN_BYTES_MAX: u64 = 1024;

/// `mqtt://HOST[:PORT]`, a host name or an address ([..] around IPv6).
pub(super) fn broker(key: &str, text: &str, place: &Place<'_>) -> Result<Broker, SettingsError> {
    if text.starts_with("mqtts://") {
        return Err(
            place.refuse(key, format!("\"{text}\": TLS to the broker is not supported yet; write mqtt://HOST:PORT"))
        );
    }
    let Some(rest) = text.strip_prefix("mqtt://") else {
        return Err(place.refuse(key, format!("\"{text}\" is not a broker's address; write mqtt://HOST:PORT")));
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        Some(_) | None => (rest, Some(1883)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let plain = !host.is_empty() && host.len() <= 253 && !host.contains(['/', '@', '?', ' ']);
    match port {
        Some(port) if plain && port > 0 => Ok(Broker { host: host.to_owned(), port }),
        Some(_) | None => {
            Err(place
                .refuse(key, format!("\"{text}\" is not a broker's address; write mqtt://HOST:PORT, port 1 to 65535")))
        }
    }
}

pub(super) fn http_url(text: &str, place: &Place<'_>) -> Result<String, SettingsError> {
    let key = "registry.url";
    let url = reqwest::Url::parse(text)
        .map_err(|e| place.refuse(key, format!("\"{text}\" is not an address: {e}; write http://HOST:PORT")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || url.query().is_some() {
        return Err(place.refuse(key, format!("\"{text}\" is not a registry's address; write http://HOST:PORT")));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(super) fn token(file: &Path, place: &Place<'_>) -> Result<Token, SettingsError> {
    let key = "registry.token_file";
    let text = place.read(key, file)?;
    let secret = text.trim();
    let sound =
        !secret.is_empty() && secret.len() as u64 <= TOKEN_BYTES_MAX && secret.bytes().all(|b| b.is_ascii_graphic());
    if !sound {
        return Err(place.refuse(
            key,
            format!("{} holds no token: one line of printable text is expected", place.path(file).display()),
        ));
    }
    Ok(Token(secret.to_owned()))
}
