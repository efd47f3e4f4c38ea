//! Tokens: made once, shown once, kept as a hash.

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use vedette_protocol::id::{Digest, ModelName};
use vedette_protocol::time::format_ms;

use super::apply::TokenRecord;
use super::state::State;
use super::{Error, Result};
use crate::audit::Change;
use crate::auth::{Principal, Role};
use crate::store::{from_json, keys};
use crate::view::{TokenCreated, TokenView};

/// What a token begins with, so that one lying in a log or a repository is recognised.
const PREFIX: &str = "vedette_";
/// 256 bits: not to be guessed, and so in no need of a slow hash.
const SECRET_BYTES: usize = 32;
/// Tokens at a time. People, machines of a pipeline and fetching devices share them by role; past 10,000 somebody forgot
/// to revoke.
const TOKENS_MAX: usize = 10_000;

impl State {
    /// Makes a token. The answer is the only place where its secret ever stands.
    ///
    /// # Errors
    ///
    /// The name is not one, is taken, or there are too many tokens.
    pub fn create_token(&self, name: &str, role: Role, by: &str) -> Result<TokenCreated> {
        let name: ModelName = name.parse().map_err(|_| {
            Error::BadRequest(format!(
                "`{name}` is no name for a token: 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit"
            ))
        })?;
        let turn = self.turn();
        let tokens = self.token_records()?;
        if tokens.len() >= TOKENS_MAX {
            return Err(Error::Full(format!("there are {TOKENS_MAX} tokens, which is the limit: revoke some first")));
        }
        if let Some((_, taken)) = tokens.iter().find(|(_, token)| token.name == name.as_str()) {
            return Err(Error::Conflict(format!(
                "there is a token `{name}` already (id {}): revoke it first, or take another name",
                taken.id
            )));
        }
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| anyhow!("couldn't get random bytes from the system"))?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let hash = Digest::of(token.as_bytes());
        let id = id_of(&hash);
        self.change(turn, by, Change::TokenCreated { id, name: name.to_string(), role, hash })?;
        let record: TokenRecord =
            self.store().get_json(keys::token(hash.as_bytes()))?.context("the token just made is not in the store")?;
        Ok(TokenCreated { view: view(&record), token })
    }

    /// All tokens, without their secrets, by name.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn tokens(&self) -> Result<Vec<TokenView>> {
        let mut tokens: Vec<TokenView> = self.token_records()?.iter().map(|(_, record)| view(record)).collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tokens)
    }

    /// Revokes the token with this id or name.
    ///
    /// # Errors
    ///
    /// There is none, or it is the last one of an admin.
    pub fn revoke_token(&self, id: &str, by: &str) -> Result<()> {
        let turn = self.turn();
        let tokens = self.token_records()?;
        let Some((hash, record)) = tokens.iter().find(|(_, token)| token.id == id || token.name == id) else {
            return Err(Error::NotFound(format!("there is no token `{id}`")));
        };
        let admins = tokens.iter().filter(|(_, token)| token.role == Role::Admin).count();
        if record.role == Role::Admin && admins == 1 {
            return Err(Error::Refused(format!(
                "`{}` is the last token of an admin: make another one before this one goes",
                record.name
            )));
        }
        let change = Change::TokenRevoked { id: record.id.clone(), name: record.name.clone(), hash: *hash };
        self.change(turn, by, change)
    }

    /// Who a token is; `None` when it is nobody's.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn principal(&self, token: &str) -> Result<Option<Principal>> {
        let hash = Digest::of(token.as_bytes());
        let record: Option<TokenRecord> = self.store().get_json(keys::token(hash.as_bytes()))?;
        Ok(record.map(|record| Principal { name: record.name, role: record.role }))
    }

    fn token_records(&self) -> Result<Vec<(Digest, TokenRecord)>> {
        let prefix = keys::tokens();
        let mut tokens = Vec::new();
        for entry in self.store().prefix(&prefix) {
            let (key, value) = entry?;
            let hash: [u8; 32] = key
                .get(prefix.len()..)
                .and_then(|rest| rest.try_into().ok())
                .context("a token in the store has a key of a wrong length")?;
            tokens.push((Digest::from_bytes(hash), from_json(&value)?));
        }
        Ok(tokens)
    }
}

fn id_of(hash: &Digest) -> String {
    hash.hex().chars().take(16).collect()
}

fn view(record: &TokenRecord) -> TokenView {
    TokenView {
        id: record.id.clone(),
        name: record.name.clone(),
        role: record.role,
        created: format_ms(record.created_ms),
        created_by: record.created_by.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_token_opens_until_it_is_revoked_and_its_secret_is_nowhere_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), Clock::System).unwrap();
        let made = state.create_token("ci", Role::Publisher, "offline").unwrap();
        let who = state.principal(&made.token).unwrap().unwrap();
        assert_eq!((who.name.as_str(), who.role), ("ci", Role::Publisher));
        assert!(state.principal("vedette_nobody").unwrap().is_none());
        let (_, entry) = state.audit(0, 10).unwrap().remove(0);
        assert!(!serde_json::to_string(&entry).unwrap().contains(&made.token));
        state.revoke_token(&made.view.id, "offline").unwrap();
        assert!(state.principal(&made.token).unwrap().is_none());
        assert_eq!(state.audit(0, 10).unwrap().len(), 2);
    }

    #[test]
    fn a_name_is_given_once_and_the_last_admin_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path(), Clock::System).unwrap();
        state.create_token("root", Role::Admin, "offline").unwrap();
        assert!(matches!(state.create_token("root", Role::Viewer, "offline"), Err(Error::Conflict(_))));
        assert!(matches!(state.create_token("a b", Role::Viewer, "offline"), Err(Error::BadRequest(_))));
        assert!(matches!(state.revoke_token("root", "offline"), Err(Error::Refused(_))));
        assert!(matches!(state.revoke_token("nobody", "offline"), Err(Error::NotFound(_))));
        assert_eq!(state.audit(0, 10).unwrap().len(), 1);
    }
}
