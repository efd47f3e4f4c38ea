//! The registry's own log: signed while it runs, ended with a signature, checked from outside.

use std::path::Path;
use std::process::Output;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use vedette_journal::{Checkpoint, Hash, PublicKey, SigningKey, export_bundle, verify_consistency};
use vedette_model_registry::audit::{AssignCause, Assigned, AuditLog, Change, Entry};
use vedette_model_registry::auth::Role;
use vedette_model_registry::view::{AuditProofView, AuditView, Page, SlotView};
use vedette_protocol::id::Digest;

use crate::devices::device;
use crate::kit::{START_MS, Scratch, Served, assert_problem};
use crate::signed_log::Signer;
use crate::tool::{code, err, lines, out, run, vedette};

fn key(served: &Served) -> PublicKey {
    SigningKey::load(&served.scratch.config.state.join("audit.key")).unwrap().public()
}

async fn checkpoint(served: &Served) -> Checkpoint {
    let response = served.get("/api/v1/audit/checkpoint").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    Checkpoint::open(&response.text().await.unwrap(), &key(served)).unwrap()
}

async fn make_token(served: &Served, name: &str) {
    let body = json!({"name": name, "role": "viewer"});
    let made = served.send(Method::POST, "/api/v1/tokens", &served.tokens.admin, &body).await;
    assert_eq!(made.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checkpoint_covers_every_entry_and_continues_the_one_before() {
    let served = Scratch::new().serve().await;
    let mut before = checkpoint(&served).await;
    assert_eq!(before.size, 4, "the four tokens of the kit");
    for n in 0..5 {
        make_token(&served, &format!("t{n}")).await;
        let next = checkpoint(&served).await;
        assert_eq!((next.size, &next.origin), (before.size + 1, &before.origin));
        let proof = served.json(&format!("/api/v1/audit/proof?from={}", before.size)).await;
        let proof: AuditProofView = serde_json::from_value(proof).unwrap();
        let path: Vec<Hash> = proof.proof.iter().map(|hash| hash.parse().unwrap()).collect();
        assert!(verify_consistency(before.size, &before.root, next.size, &next.root, &path));
        assert_eq!(proof.key.parse::<PublicKey>().unwrap(), key(&served));
        before = next;
    }
    let entries: Page<AuditView> = serde_json::from_value(served.json("/api/v1/audit").await).unwrap();
    assert_eq!(entries.items.len() as u64, before.size);
    assert_problem(served.get("/api/v1/audit/proof?from=99").await, 400, "has 9 entries").await;
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_signs_the_same_log_with_the_same_key() {
    let served = Scratch::new().serve().await;
    let before = checkpoint(&served).await;
    let served = served.end().await.serve().await;
    assert_eq!(checkpoint(&served).await, before);
    served.end().await;
}

/// A state folder with an audit journal of so many entries; from `split` on they are of another history.
struct Kept {
    folder: tempfile::TempDir,
    note: String,
}

fn entry(name: &str) -> Entry {
    let change =
        Change::TokenCreated { id: "1".repeat(16), name: name.to_owned(), role: Role::Viewer, hash: Digest::of(b"x") };
    Entry { at: START_MS, by: "offline".to_owned(), change }
}

fn kept(count: u64, split: u64, more: &[Entry]) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    // 64 digits: the seed of everybody's key in these tests.
    let key = folder.path().join("audit.key");
    std::fs::write(&key, "5a".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut log = AuditLog::open(&folder.path().join("audit"), 9).unwrap();
    for n in 0..count {
        log.append(&[entry(&format!("{}{n}", if n < split { "t" } else { "other" }))]).unwrap();
    }
    log.append(more).unwrap();
    let note = log.checkpoint().unwrap().note;
    log.close().unwrap();
    Kept { folder, note }
}

impl Kept {
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn segment(&self) -> std::path::PathBuf {
        self.folder.path().join("audit/seg-00000000.log")
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.segment()).unwrap();
        change(&mut bytes);
        std::fs::write(self.segment(), bytes).unwrap();
    }

    fn forget_parity(&self) {
        std::fs::remove_file(self.segment().with_extension("par")).unwrap();
    }
}

fn verify(args: &[&str]) -> Output {
    vedette().args(["audit", "verify"]).args(args).output().unwrap()
}

fn at(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

#[test]
fn a_whole_log_is_sound_and_says_how_far_it_is_signed() {
    let kept = kept(20, 20, &[]);
    let told = lines(&verify(&["--folder", &kept.path(), "--json"])).remove(0);
    assert_eq!(
        (&told["sound"], &told["records"], &told["log"]),
        (&true.into(), &20.into(), &"vedette-registry/9".into())
    );
    let note = kept.file("old.note", &kept.note);
    let told = out(&verify(&["--folder", &format!("{}/audit", kept.path()), "--checkpoint", &note]));
    assert!(told.contains("sound    yes"), "{told}");
}

#[test]
fn each_kind_of_harm_has_its_exit_code_and_its_sentence() {
    let kept_with_rot = kept(20, 20, &[]);
    kept_with_rot.change(|bytes| {
        let at = at(bytes, "\"t7\"");
        bytes[at] ^= 1;
    });
    let healed = verify(&["--folder", &kept_with_rot.path()]);
    assert_eq!(code(&healed), 12, "{}", err(&healed));
    assert!(err(&healed).contains("read from their parity"), "{}", err(&healed));
    kept_with_rot.forget_parity();
    let rotten = verify(&["--folder", &kept_with_rot.path()]);
    assert_eq!(code(&rotten), 11, "{}", err(&rotten));
    assert!(err(&rotten).contains("1 records are missing: 7 to 7"), "{}", err(&rotten));

    let (whole, other) = (kept(20, 20, &[]), kept(20, 7, &[]));
    let fork = verify(&["--folder", &other.path(), "--checkpoint", &whole.file("a.note", &whole.note)]);
    assert_eq!(code(&fork), 14, "{}", err(&fork));
    assert!(err(&fork).contains("first 20 records"), "{}", err(&fork));
    let short = kept(12, 20, &[]);
    let cut = verify(&["--folder", &short.path(), "--checkpoint", &whole.file("a.note", &whole.note)]);
    assert_eq!(code(&cut), 14, "{}", err(&cut));
    assert!(err(&cut).contains("ends before record 12"), "{}", err(&cut));

    let stranger = SigningKey::from_seed(&[1; 32]).public().to_string();
    let unsigned = verify(&["--folder", &whole.path(), "--key", &stranger]);
    assert_eq!(code(&unsigned), 13, "{}", err(&unsigned));

    let slot = SlotView {
        stream: "server".parse().unwrap(),
        model: "ghost@1".parse().unwrap(),
        manifest: Digest::of(b"never published"),
    };
    let assigned = Assigned {
        device: device("box"),
        version: 1,
        cause: AssignCause::Asked,
        issued_ms: 0,
        expires_ms: 1,
        slots: vec![slot],
        envelope: String::new(),
    };
    let entry = Entry { at: START_MS, by: "token:x".to_owned(), change: Change::Assigned(assigned) };
    let unknown = verify(&["--folder", &kept(3, 3, &[entry]).path()]);
    assert_eq!(code(&unknown), 15, "{}", err(&unknown));
    assert!(err(&unknown).contains("entry 3 assigns ghost@1"), "{}", err(&unknown));

    let nowhere = verify(&["--folder", "/nowhere"]);
    assert_eq!(code(&nowhere), 3, "{}", err(&nowhere));
    assert_eq!(code(&verify(&["--folder", &whole.path(), "--key", "nonsense"])), 2);
}

#[test]
fn an_unfinished_write_at_the_end_is_called_torn() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(&folder.path().join("audit"), 9).unwrap();
    (0..5).for_each(|n| log.append(&[entry(&format!("t{n}"))]).unwrap());
    // Dropped, not closed: as after a power cut, the file still ends in zeros.
    drop(log);
    let segment = folder.path().join("audit/seg-00000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let start = end.next_multiple_of(8);
    bytes[start..start + 40].fill(0xA1);
    std::fs::write(&segment, bytes).unwrap();
    let torn = verify(&["--folder", &folder.path().display().to_string()]);
    assert_eq!(code(&torn), 10, "{}", err(&torn));
    assert!(err(&torn).contains("unfinished write") && err(&torn).contains("record 4"), "{}", err(&torn));
}

#[test]
fn a_bundle_proves_itself_and_says_what_was_done_to_it() {
    let kept = kept(20, 20, &[]);
    let bundle = kept.folder.path().join("audit.bundle").display().to_string();
    let export = |args: &[&str]| vedette().args(["audit", "export"]).args(args).output().unwrap();
    assert!(out(&export(&["--folder", &kept.path(), "--bundle", &bundle])).contains("20 entries, 0 to 19"));
    let again = export(&["--folder", &kept.path(), "--bundle", &bundle]);
    assert_eq!(code(&again), 1, "an export does not write over another");
    let key = kept.folder.path().join("audit.key").display().to_string();
    let told = lines(&verify(&[&bundle, "--key", &key, "--json"])).remove(0);
    assert_eq!((&told["sound"], &told["records"]), (&true.into(), &20.into()));

    let bytes = std::fs::read(&bundle).unwrap();
    let cut = kept.file("cut.bundle", &bytes[..bytes.len() / 2]);
    assert_eq!(code(&verify(&[&cut])), 16, "{}", err(&verify(&[&cut])));
    let mut altered = bytes;
    let at = at(&altered, "\"t7\"");
    altered[at + 2] = b'8';
    let altered = verify(&[&kept.file("altered.bundle", altered)]);
    assert_eq!(code(&altered), 12, "{}", err(&altered));
    assert!(err(&altered).contains("record 7 was altered"), "{}", err(&altered));
    assert_eq!(code(&verify(&[&kept.file("none.bundle", "nothing")])), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_registry_proves_that_it_continues_what_it_signed() {
    let served = Scratch::new().serve().await;
    let viewer = served.tokens.viewer.clone();
    let note = served.scratch.path().join("kept.note").display().to_string();
    out(&run(&served, &viewer, &["audit", "verify", "--save", &note]).await);
    for n in 0..3 {
        make_token(&served, &format!("t{n}")).await;
    }
    let told = lines(&run(&served, &viewer, &["audit", "verify", "--checkpoint", &note, "--json"]).await).remove(0);
    assert_eq!((&told["sound"], &told["entries"], &told["earlier"]), (&true.into(), &7.into(), &"4 entries".into()));
    let stranger = SigningKey::from_seed(&[1; 32]).public().to_string();
    let other = run(&served, &viewer, &["audit", "verify", "--key", &stranger]).await;
    assert_eq!(code(&other), 13, "{}", err(&other));

    // The same name, key and epoch, and another past.
    let before = Checkpoint::read_unverified(&std::fs::read_to_string(&note).unwrap()).unwrap();
    let key = SigningKey::load(&served.scratch.config.state.join("audit.key")).unwrap();
    for (size, says) in
        [(3, "not those that were signed"), (7, "not those that were signed"), (9, "end was taken away")]
    {
        let forged = Checkpoint { size, ..before.clone() }.sign(&key);
        std::fs::write(&note, forged).unwrap();
        let fork = run(&served, &viewer, &["audit", "verify", "--checkpoint", &note]).await;
        assert_eq!(code(&fork), 14, "{size}: {}", err(&fork));
        assert!(err(&fork).contains(says), "{}", err(&fork));
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_says_the_same_as_the_registry_while_it_runs_and_when_it_is_down() {
    let served = Scratch::new().serve().await;
    let viewer = served.tokens.viewer.clone();
    let state = served.scratch.config.state.display().to_string();
    let online = lines(&run(&served, &viewer, &["audit", "export"]).await);
    let offline =
        |args: &[&str]| vedette().args(["audit"]).args(args).args(["--folder", &state, "--json"]).output().unwrap();
    assert_eq!(lines(&offline(&["export"])), online);
    assert_eq!(lines(&offline(&["list", "--after", "1"])), online[2..]);
    assert_eq!(lines(&offline(&["verify"]))[0]["sound"], true);
    let scratch = served.end().await;
    assert_eq!(lines(&offline(&["export"])), online);
    let told = lines(&offline(&["verify"])).remove(0);
    assert_eq!((&told["sound"], &told["covered"]), (&true.into(), &4.into()), "it ended with a signature: {told}");
    drop(scratch);
}

fn bundle_of(signer: &Signer, file: &Path) -> String {
    let mut bytes = Vec::new();
    export_bundle(signer.folder(), 0..u64::MAX, &mut bytes).unwrap();
    std::fs::write(file, bytes).unwrap();
    file.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devices_bundle_is_held_against_what_the_registry_accepted_of_it() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 40);
    let old = bundle_of(&signer, &scratch.path().join("old.bundle"));
    let mut clone = signer.copied();
    signer.find("server", 20);
    signer.send(&registry, 0);
    clone.find("host", 30);
    let forked = bundle_of(&clone, &scratch.path().join("forked.bundle"));
    let mut early = signer.copied();
    early.find("server", 5);
    let newer = bundle_of(&early, &scratch.path().join("newer.bundle"));
    let short_clone = {
        let mut other = Signer::new();
        other.find("host", 10);
        bundle_of(&other, &scratch.path().join("short.bundle"))
    };
    drop(registry);
    let served = scratch.serve().await;
    let viewer = served.tokens.viewer.clone();
    for (bundle, wanted) in [(&old, 0), (&newer, 0), (&forked, 14), (&short_clone, 14)] {
        let output = run(&served, &viewer, &["audit", "verify", bundle, "--device", "box"]).await;
        assert_eq!(code(&output), wanted, "{bundle}: {}", err(&output));
    }
    let unknown = run(&served, &viewer, &["audit", "verify", &old, "--device", "nobody"]).await;
    assert_eq!(code(&unknown), 3, "{}", err(&unknown));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_is_seen_and_lifted_at_the_command_line() {
    let scratch = Scratch::new();
    let registry = scratch.registry();
    let mut signer = Signer::new();
    signer.find("server", 40);
    signer.send(&registry, 0);
    let mut clone = signer.copied();
    signer.find("server", 5);
    clone.find("host", 5);
    signer.send(&registry, 40);
    clone.send(&registry, 40);
    drop(registry);
    let served = scratch.serve().await;
    let (viewer, approver) = (served.tokens.viewer.clone(), served.tokens.approver.clone());
    assert!(out(&run(&served, &viewer, &["devices", "list"]).await).contains("in quarantine"));
    let shown = out(&run(&served, &viewer, &["devices", "show", "box"]).await);
    assert!(
        shown.contains("two different records as box/77/40") && shown.contains("vedette devices release"),
        "{shown}"
    );
    let release = ["devices", "release", "box", "--reason", "the copy is destroyed"];
    assert_eq!(code(&run(&served, &viewer, &release).await), 4, "a viewer may not");
    out(&run(&served, &approver, &release).await);
    assert_eq!(code(&run(&served, &approver, &release).await), 4, "once");
    assert!(!out(&run(&served, &viewer, &["devices", "list"]).await).contains("in quarantine"));
    let audit: Vec<Value> = lines(&run(&served, &viewer, &["audit", "export"]).await);
    let kinds: Vec<&str> = audit.iter().filter_map(|entry| entry["change"]["kind"].as_str()).collect();
    assert!(
        kinds.ends_with(&[
            "key-pinned",
            "quarantined",
            "token-created",
            "token-created",
            "token-created",
            "token-created",
            "released"
        ]),
        "{kinds:?}"
    );
    assert_eq!(audit.last().unwrap()["by"], "token:approver");
    served.end().await;
}
