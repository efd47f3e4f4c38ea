//! `vedette-agent journal …` as people and scripts call it: on a folder or a bundle, without a configuration, each kind of
//! harm with the exit code that is promised for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use vedette_journal::{Checkpoint, Hash, Journal, Options, SigningKey};
use vedette_protocol::cbor;
use vedette_protocol::exit::Exit;
use vedette_protocol::id::{BootId, Digest};
use vedette_protocol::number::Finite32;
use vedette_protocol::record::{Anomaly, Body, Cause, PreviousEnd, Record, ScoredBy, Swap, SwapReason};
use vedette_protocol::time::{Quality, Stamp};

const EPOCH: u64 = 77;
const ORIGIN: &str = "vedette/pump-7/77";

/// An agent's state with a journal of a boot, a swap, and anomalies by the model that was swapped in.
struct State {
    folder: TempDir,
}

fn stamped(body: Body) -> (u8, Vec<u8>) {
    let kind = body.kind().code();
    let stamp = Stamp {
        boot: BootId::from_bytes([1; 16]),
        monotonic_ns: 5,
        wall_ms: 1_700_000_000_000,
        quality: Quality::System,
    };
    (kind, cbor::to_canonical(&Record { stamp, body }))
}

fn model(bytes: &[u8]) -> ScoredBy {
    ScoredBy::Model { model: "pump@2".parse().unwrap(), artifact: Digest::of(bytes), manifest: Digest::of(b"manifest") }
}

fn anomaly(row: u64, by: ScoredBy) -> Body {
    Body::Anomaly(Anomaly {
        stream: "server".parse().unwrap(),
        row,
        at_ms: 0,
        cause: Cause::Model,
        score: Finite32::new(1.5).unwrap(),
        threshold: Finite32::new(1.0).unwrap(),
        top: Vec::new(),
        by,
        input: Digest::of(b"window"),
    })
}

fn swap(by: ScoredBy) -> Body {
    let reason = SwapReason::Assigned;
    Body::Swap(Swap { stream: "server".parse().unwrap(), first_row: 0, reserved: 65_536, by, reason, engine: None })
}

impl State {
    fn new(bodies: impl IntoIterator<Item = Body>) -> Self {
        let state = Self { folder: tempfile::tempdir().unwrap() };
        let key = SigningKey::load_or_create(&state.folder.path().join("log.key")).unwrap();
        let (mut journal, _) = Journal::open(&state.journal(), Options::new(EPOCH)).unwrap();
        for body in bodies {
            let (kind, payload) = stamped(body);
            journal.append(kind, &payload).unwrap();
        }
        journal.checkpoint(ORIGIN, &key).unwrap();
        journal.close().unwrap();
        state
    }

    fn usual() -> Self {
        let boot = Body::Boot { agent_version: "0.1.0".to_owned(), previous: PreviousEnd::First };
        let found = (0..50).map(|row| anomaly(row, model(b"onnx")));
        Self::new([boot, swap(model(b"onnx"))].into_iter().chain(found))
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn journal(&self) -> PathBuf {
        self.path().join("journal")
    }

    fn segment(&self) -> PathBuf {
        self.journal().join("seg-00000000.log")
    }

    fn key(&self) -> SigningKey {
        SigningKey::load(&self.path().join("log.key")).unwrap()
    }

    /// Flips a bit in the middle of the record with this row, where no parity makes it again.
    fn rot(&self, row: u64) {
        fs::remove_file(self.segment().with_extension("par")).unwrap_or_default();
        self.flip(row);
    }

    /// Flips a bit in the middle of the record with this row.
    fn flip(&self, row: u64) {
        let (_, payload) = stamped(anomaly(row, model(b"onnx")));
        let mut bytes = fs::read(self.segment()).unwrap();
        let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
        bytes[at + 9] ^= 1;
        fs::write(self.segment(), bytes).unwrap();
    }

    fn verify(&self, more: &[&str]) -> (Exit, Value) {
        let folder = self.path().to_str().unwrap();
        let mut arguments = vec!["journal", "verify", "--json", "--folder", folder];
        arguments.extend(more);
        said(&arguments)
    }
}

fn call(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vedette-agent"));
    command.args(arguments).env("VEDETTE_CONFIG", "/nowhere/agent.toml").output().unwrap()
}

/// The exit code and the object of a call with `--json`.
fn said(arguments: &[&str]) -> (Exit, Value) {
    let output = call(arguments);
    let code = output.status.code().unwrap();
    let exits = [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::NotFound,
        Exit::Refused,
        Exit::Torn,
        Exit::Gap,
        Exit::HashMismatch,
        Exit::BadSignature,
        Exit::Fork,
        Exit::UnknownModel,
        Exit::Incomplete,
    ];
    let exit = exits.into_iter().find(|exit| i32::from(exit.code()) == code).unwrap();
    (exit, serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

fn text(value: &Value) -> String {
    value["findings"][0]["text"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_whole_journal_is_sound_under_the_key_beside_it_and_without_a_configuration() {
    let state = State::usual();
    let (exit, report) = state.verify(&[]);
    assert_eq!((exit, &report["sound"], &report["records"]), (Exit::Ok, &true.into(), &52.into()), "{report}");
    assert_eq!(report["key"], state.key().public().to_string());
    assert_eq!((&report["log"], &report["checkpoints"]["covered"]), (&ORIGIN.into(), &52.into()));
    let output = call(&["journal", "verify", "--folder", state.journal().to_str().unwrap()]);
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("sound\n"));
}

#[test]
fn a_gap_is_11_and_said_to_be_declared_when_it_is() {
    let state = State::usual();
    state.rot(20);
    let (exit, report) = state.verify(&[]);
    assert_eq!(
        (exit, &report["gaps"][0]["from"], &report["gaps"][0]["declared"]),
        (Exit::Gap, &22.into(), &false.into())
    );
    let (mut journal, _) = Journal::open(&state.journal(), Options::new(EPOCH)).unwrap();
    let (kind, payload) = stamped(Body::Gap { from: 22, to: 23, reason: "rot".to_owned() });
    journal.append(kind, &payload).unwrap();
    journal.close().unwrap();
    let (exit, report) = state.verify(&[]);
    assert_eq!((exit, &report["gaps"][0]["declared"]), (Exit::Gap, &true.into()));
    assert!(text(&report).contains("22 (declared in the log)"), "{report}");
}

#[test]
fn a_rotten_record_is_read_from_its_parity_named_as_damage_and_mended() {
    let state = State::usual();
    state.flip(20);
    let (exit, report) = state.verify(&[]);
    assert_eq!((exit, &report["lost"]), (Exit::HashMismatch, &0.into()));
    assert!(text(&report).contains("read from their parity"), "{report}");
    let output = call(&["journal", "repair", "--folder", state.path().to_str().unwrap()]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("that had rotted"), "{told}");
    assert_eq!(state.verify(&[]).0, Exit::Ok);
}

#[test]
fn an_unfinished_write_is_10_until_it_is_repaired_and_a_copy_is_kept() {
    let state = State::usual();
    let mut bytes = fs::read(state.segment()).unwrap();
    bytes.extend([0x55; 40]);
    fs::write(state.segment(), &bytes).unwrap();
    assert_eq!(state.verify(&[]).0, Exit::Torn);
    let output = call(&["journal", "repair", "--folder", state.path().to_str().unwrap()]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("cut an unfinished write of 40 bytes"), "{told}");
    assert_eq!(fs::read(state.journal().join("seg-00000000.log.damaged")).unwrap(), bytes);
    assert_eq!(state.verify(&[]).0, Exit::Ok);
}

#[test]
fn a_damaged_front_is_12_until_it_is_repaired() {
    let state = State::usual();
    let mut bytes = fs::read(state.segment()).unwrap();
    bytes[20] ^= 1;
    fs::write(state.segment(), bytes).unwrap();
    assert_eq!(state.verify(&[]).0, Exit::HashMismatch);
    assert!(call(&["journal", "repair", "--folder", state.path().to_str().unwrap()]).status.success());
    assert_eq!(state.verify(&[]).0, Exit::Ok);
}

#[test]
fn another_key_is_13_another_past_and_another_device_are_14() {
    let state = State::usual();
    let other = SigningKey::from_seed(&[9; 32]).public().to_string();
    assert_eq!(state.verify(&["--key", &other]).0, Exit::BadSignature);
    let file = state.path().join("earlier");
    let against = |origin: &str, size| {
        let checkpoint = Checkpoint { origin: origin.to_owned(), size, root: Hash([1; 32]) };
        fs::write(&file, checkpoint.sign(&state.key())).unwrap();
        state.verify(&["--checkpoint", file.to_str().unwrap()])
    };
    let (exit, report) = against(ORIGIN, 30);
    assert_eq!(exit, Exit::Fork);
    assert!(text(&report).contains("the first 30 records"), "{report}");
    let (exit, report) = against(ORIGIN, 3000);
    assert_eq!(exit, Exit::Fork);
    assert!(text(&report).contains("ends before record 52"), "{report}");
    let (exit, report) = against("vedette/pump-8/5", 30);
    assert_eq!(exit, Exit::Fork);
    assert!(text(&report).contains("vedette/pump-8/5") && text(&report).contains(ORIGIN), "{report}");
}

#[test]
fn a_model_that_nothing_brought_in_is_15_and_so_is_one_that_is_not_in_the_list() {
    let early = State::new([anomaly(0, model(b"onnx")), swap(model(b"onnx")), anomaly(1, model(b"onnx"))]);
    let (exit, report) = early.verify(&[]);
    assert_eq!(exit, Exit::UnknownModel);
    assert!(text(&report).starts_with("1 anomalies, the first in record 0, name the model pump@2"), "{report}");
    let state = State::usual();
    let models = state.path().join("models");
    fs::create_dir(&models).unwrap();
    fs::write(models.join("a.blob"), b"other").unwrap();
    assert_eq!(state.verify(&["--models", models.to_str().unwrap()]).0, Exit::UnknownModel);
    fs::write(models.join("b.blob"), b"onnx").unwrap();
    assert_eq!(state.verify(&["--models", models.to_str().unwrap()]).0, Exit::Ok);
    let list = state.path().join("list");
    fs::write(&list, format!("# known\n{} pump@2\n", Digest::of(b"onnx").hex())).unwrap();
    assert_eq!(state.verify(&["--models", list.to_str().unwrap()]).0, Exit::Ok);
    fs::write(&list, "pump@2\n").unwrap();
    assert_eq!(state.verify(&["--models", list.to_str().unwrap()]).0, Exit::Usage);
}

#[test]
fn a_bundle_travels_alone_and_16_is_one_that_lacks_something() {
    let state = State::usual();
    let file = state.path().join("out.bundle");
    let (folder, bundle) = (state.path().to_str().unwrap(), file.to_str().unwrap());
    let (exit, done) = said(&["journal", "export", "--json", "--folder", folder, "--output", bundle]);
    assert_eq!((exit, &done["records"]), (Exit::Ok, &52.into()));
    let key = state.key().public().to_string();
    let (exit, report) = said(&["journal", "verify", "--json", bundle, "--key", &key]);
    assert_eq!(
        (exit, &report["records"], &report["checkpoints"]["covered"]),
        (Exit::Ok, &52.into(), &52.into()),
        "{report}"
    );
    let again = call(&["journal", "export", "--folder", folder, "--output", bundle]);
    assert_eq!(again.status.code(), Some(i32::from(Exit::Usage.code())));
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let (exit, report) = said(&["journal", "verify", "--json", bundle]);
    assert_eq!(exit, Exit::Incomplete);
    assert!(text(&report).contains("incomplete at record"), "{report}");
    fs::write(&file, b"something else entirely").unwrap();
    assert_eq!(said(&["journal", "verify", "--json", bundle]).0, Exit::Usage);
}

#[test]
fn lines_for_people_have_every_record() {
    let state = State::usual();
    let output = call(&[
        "journal",
        "export",
        "--format",
        "jsonl",
        "--from",
        "1",
        "--to",
        "4",
        "--folder",
        state.path().to_str().unwrap(),
    ]);
    let lines: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((&lines[0]["body"]["kind"], &lines[1]["body"]["row"]), (&"swap".into(), &0.into()));
}

#[test]
fn a_journal_in_use_is_not_repaired_and_one_that_is_not_there_is_3() {
    let state = State::usual();
    let (journal, _) = Journal::open(&state.journal(), Options::new(EPOCH)).unwrap();
    let output = call(&["journal", "repair", "--folder", state.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::Refused.code())));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("in use by process {}", std::process::id())), "{told}");
    drop(journal);
    let empty = tempfile::tempdir().unwrap();
    let output = call(&["journal", "verify", "--folder", empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::NotFound.code())));
    for verb in ["stat", "verify", "export", "repair"] {
        let output = call(&["journal", verb, "--folder", "/nowhere/at/all", "--json"]);
        assert_eq!(output.status.code(), Some(i32::from(Exit::NotFound.code())), "{verb}");
    }
    assert_eq!(call(&["journal", "verify", "/nowhere/at/all"]).status.code(), Some(i32::from(Exit::NotFound.code())));
}

#[test]
fn a_foreign_file_and_a_segment_of_the_future_are_named() {
    let state = State::usual();
    fs::write(state.journal().join("notes.txt"), "mine").unwrap();
    let (exit, report) = state.verify(&[]);
    assert_eq!((exit, &report["foreign"][0]), (Exit::Ok, &"notes.txt".into()));
    // The front of a segment of format 3, with its checksum.
    let mut bytes = fs::read(state.segment()).unwrap();
    for at in [0, 4096] {
        bytes[at..at + 12].copy_from_slice(b"VEDETTEJ\x03\0\0\0");
        bytes[at + 12..at + 124].fill(0);
        bytes[at + 124..at + 128].copy_from_slice(&[0xFF, 0x3F, 0xED, 0x30]);
    }
    fs::write(state.segment(), bytes).unwrap();
    let output = call(&["journal", "verify", "--folder", state.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(i32::from(Exit::Failed.code())));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("seg-00000000.log") && told.contains("format 3 is from a newer version"), "{told}");
}
