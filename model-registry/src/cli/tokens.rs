//! `vedette tokens`: who may do what. A token is shown once, when it is made.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::{
    Screen,
    client::Client,
    fault::Fault,
    screen::{Column, Format, Sheet, say, say_json, time},
};
use crate::{
    auth::Role,
    view::{TokenCreated, TokenRequest, TokenView},
};

/// Verbs on tokens.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a token and print it, this once; it is kept nowhere
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
    /// A name for the audit journal: 1 to 64 of a-z 0-9 . _ -
    #[arg(long)]
    name: String,
    /// What it may do
    #[arg(long)]
    role: Role,
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
                // The secret alone on standard output, so that it can be sent into a file.
                Format::Text => {
                    say(&format!("{}\n", made.token))?;
                    eprintln!("{}", created_text(&made));
                    Ok(())
                }
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
    let TokenView { id, name, role, .. } = &made.view;
    format!("token `{name}` ({role}), id {id}: keep it, it is not shown again")
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
            token.role.to_string(),
            time(&token.created),
            token.created_by.clone(),
        ]);
    }
    sheet.render(screen.colour, "no tokens")
}
