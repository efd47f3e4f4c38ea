//! State, audit journal and folder: what holds through crashes, damage and mistakes.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::json;
use vedette_model_registry::audit::{AuditLog, Change, Entry};
use vedette_model_registry::auth::Role;
use vedette_model_registry::registry::Registry;
use vedette_model_registry::registry::state::State;
use vedette_model_registry::view::{AuditQuery, PushRequest};
use vedette_protocol::id::Digest;

use crate::kit::{Package, START_MS, Scratch};

fn refusal(scratch: &Scratch) -> String {
    match Registry::open(&scratch.config, scratch.clock()) {
        Ok(_) => panic!("the registry opened"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_crash_between_audit_entry_and_state_is_made_good_at_the_next_start() {
    let scratch = Scratch::new();
    State::open(&scratch.config.state, scratch.clock())
        .unwrap()
        .create_token("before", Role::Admin, "offline")
        .unwrap();
    // The entry is durable, the store never heard of it: just what a crash between the two leaves.
    let mut log = AuditLog::open(&scratch.config.state.join("audit"), 1).unwrap();
    let hash = Digest::of(b"vedette_secret");
    let change = Change::TokenCreated { id: "1".repeat(16), name: "after".to_owned(), role: Role::Viewer, hash };
    log.append(&[Entry { at: START_MS, by: "token:before".to_owned(), change }]).unwrap();
    drop(log);
    let state = State::open(&scratch.config.state, scratch.clock()).unwrap();
    assert_eq!(state.principal("vedette_secret").unwrap().unwrap().name, "after");
    state.create_token("third", Role::Viewer, "offline").unwrap();
    assert_eq!(state.tokens().unwrap().len(), 3);
    assert_eq!(state.audit(0, 10).unwrap().len(), 3);
}

#[test]
fn a_lost_store_is_built_again_from_the_audit_journal() {
    let scratch = Scratch::new();
    let package = Package::demo("v1", &scratch.models);
    let registry = scratch.registry();
    registry.blobs().store(&package.onnx).unwrap();
    registry.blobs().store(&package.selftest).unwrap();
    let request: PushRequest = serde_json::from_value(package.body()).unwrap();
    registry.push(&package.model().name, &request, "token:test").unwrap();
    let slots = serde_json::from_value(json!({ "slots": { "server": package.model().to_string() } })).unwrap();
    registry.assign(&"box".parse().unwrap(), &slots, "token:test").unwrap();
    let token = registry.state().create_token("ci", Role::Viewer, "token:test").unwrap().token;
    let before = (
        registry.versions(&package.model().name).unwrap(),
        registry.all_assignments().unwrap(),
        registry.state().tokens().unwrap(),
    );
    drop(registry);

    let file = scratch.config.state.join("store/db");
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::write(&file, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    let registry = scratch.registry();
    assert!(scratch.config.state.join("store.damaged-1").is_dir(), "the damaged store is kept");
    let after = (
        registry.versions(&package.model().name).unwrap(),
        registry.all_assignments().unwrap(),
        registry.state().tokens().unwrap(),
    );
    assert_eq!(before, after);
    assert!(registry.state().principal(&token).unwrap().is_some());
    assert_eq!(registry.audit(&AuditQuery::default()).unwrap().items.len(), 3);
}

#[test]
fn two_registries_on_one_folder_are_one_too_many() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let said = refusal(&scratch);
    assert!(said.contains("already runs on") && said.contains("stop it"), "{said}");
    drop(registry);
    drop(scratch.registry());
}

#[test]
fn a_state_folder_that_cannot_be_made_is_named() {
    let mut scratch = Scratch::new();
    let file = scratch.path().join("file");
    std::fs::write(&file, b"").unwrap();
    scratch.config.state = file.join("state");
    let said = refusal(&scratch);
    assert!(said.contains("state folder") && said.contains("registry.toml"), "{said}");
}

#[test]
fn keys_that_are_missing_open_or_strange_are_refused() {
    let scratch = Scratch::new();
    let fleet = scratch.config.keys.fleet.clone();
    std::fs::set_permissions(&fleet, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refusal(&scratch).contains("chmod 600"));
    std::fs::remove_file(&fleet).unwrap();
    assert!(refusal(&scratch).contains("vedette keys init"));
    let other = Scratch::new();
    std::fs::copy(&other.config.keys.fleet, &fleet).unwrap();
    std::fs::set_permissions(&fleet, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refusal(&scratch).contains("not one of the role `fleet`"));
}

fn program(args: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_vedette-registry")).args(args).env("NO_COLOR", "1").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

fn written(scratch: &Scratch, listen: &str) -> String {
    let file = scratch.path().join("registry.toml");
    let text = format!(
        "state = \"state\"\n[http]\nlisten = \"{listen}\"\n[broker]\nlisten = \"127.0.0.1:0\"\n[keys]\ntrust = \"trust.toml\"\nfleet = \"fleet.key\"\n"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn the_program_makes_its_first_token_once_and_says_so() {
    let scratch = Scratch::new();
    let config = written(&scratch, "127.0.0.1:0");
    let (code, token, said) = program(&["init", "--config", &config]);
    assert_eq!(code, Some(0), "{said}");
    assert!(token.starts_with("vedette_") && token.lines().count() == 1, "{token:?}");
    let (code, _, said) = program(&["init", "--config", &config]);
    assert_eq!(code, Some(1));
    assert!(said.contains("there is a token `admin` already"), "{said}");
    let (code, token, _) = program(&["token", "create", "--config", &config, "--name", "ci", "--role", "publisher"]);
    assert!(code == Some(0) && token.starts_with("vedette_"));
}

#[test]
fn a_port_that_is_taken_is_named_and_the_program_ends() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, said) = program(&["serve", "--config", &written(&scratch, &address)]);
    assert_eq!(code, Some(1));
    assert!(said.contains(&address) && said.contains("another program") && said.contains("http.listen"), "{said}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_a_usage_error() {
    let scratch = Scratch::new();
    let config = written(&scratch, "127.0.0.1:0");
    std::fs::write(&config, "[htpp]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let (code, _, said) = program(&["serve", "--config", &config]);
    assert_eq!(code, Some(2));
    assert!(said.contains("registry.toml:1") && said.contains("did you mean `http`"), "{said}");
    let (code, _, said) = program(&["serve", "--config", "nowhere.toml"]);
    assert_eq!(code, Some(3));
    assert!(said.contains("nowhere.toml"), "{said}");
}

#[test]
fn the_program_says_where_it_listens_and_ends_when_asked() {
    let scratch = Scratch::new();
    let config = written(&scratch, "127.0.0.1:0");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vedette-registry"))
        .args(["serve", "--config", &config])
        .env("VEDETTE_LOG", "warn")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut line).unwrap();
    let (_, http) = line.trim().split_once("listening http://").unwrap();
    let (http, broker) = http.split_once(" mqtt://").unwrap();
    assert!(std::net::TcpStream::connect(http).is_ok() && std::net::TcpStream::connect(broker).is_ok(), "{line}");
    let second =
        Command::new(env!("CARGO_BIN_EXE_vedette-registry")).args(["serve", "--config", &config]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("already runs on"));
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(asked.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
