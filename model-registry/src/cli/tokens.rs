//! `vedette tokens`: who may do what. A token is shown once, when it is made.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::{
    Screen,
    client::Client,
    fault::Fault,
    screen::{Column, Format, Sheet, facts, say, say_json},
};
use crate::{
    auth::Role,
    view::{TokenCreated, TokenRequest, TokenView},
};

/// Verbs on tokens.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a token; its secret is printed once and kept nowhere
    Create(Create),
    /// All tokens, without their secrets
    List,
    /// Make a token worthless
    Revoke {
        /// Its id, as `tokens list` shows it
        id: String,
    },
}

/// What `tokens create` makes.
#[derive(Debug, Args)]
pub struct Create {
    /// A name for the audit journal
    #[arg(long)]
    name: String,
    /// What it may do
    #[arg(long)]
    role: Role,
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Publisher => "publisher",
        Role::Approver => "approver",
        Role::Admin => "admin",
    }
}

/// Runs a verb on tokens.
///
/// # Errors
/// Offline, or what the registry answered.
pub async fn run(verb: Tokens, client: &Client, screen: Screen) -> Result<(), Fault> {
    match verb {
        Tokens::Create(create) => {
            let request = TokenRequest { name: create.name, role: create.role };
            let (_, made): (_, TokenCreated) = client.send_json(Method::POST, &["tokens"], &request).await?;
            match screen.format {
                Format::Json => say_json(&[made]),
                Format::Text => say(&created_text(&made)),
            }
        }
        Tokens::List => {
            let tokens: Vec<TokenView> = client.all(&["tokens"]).await?;
            match screen.format {
                Format::Json => say_json(&tokens),
                Format::Text => say(&list_text(&tokens, screen)),
            }
        }
        Tokens::Revoke { id } => {
            client.tell(Method::DELETE, &["tokens", &id], None::<&TokenRequest>).await?;
            match screen.format {
                Format::Json => say_json(&[serde_json::json!({"id": id, "revoked": true})]),
                Format::Text => say(&format!("{id} is worth nothing any more.\n")),
            }
        }
    }
}

fn created_text(made: &TokenCreated) -> String {
    facts(&[
        ("id", made.view.id.clone()),
        ("name", made.view.name.clone()),
        ("role", role_name(made.view.role).to_owned()),
        ("token", format!("{}   (shown this once)", made.token)),
    ])
}

fn list_text(tokens: &[TokenView], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Text("ID"),
        Column::Text("NAME"),
        Column::Text("ROLE"),
        Column::Text("CREATED"),
        Column::Text("BY"),
    ]);
    for token in tokens {
        sheet.row([
            token.id.clone(),
            token.name.clone(),
            role_name(token.role).to_owned(),
            token.created.clone(),
            token.created_by.clone(),
        ]);
    }
    sheet.render(screen.colour, "no tokens")
}
