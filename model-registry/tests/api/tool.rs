//! The operator's tool against the running program: what it prints and how it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use vedette_protocol::key::SigningKey;

use crate::kit::{Scratch, Served};

pub(crate) fn vedette() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vedette"));
    for name in ["VEDETTE_URL", "VEDETTE_TOKEN", "VEDETTE_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The tool with a token, off the runtime that the registry runs on.
pub(crate) async fn run(served: &Served, token: &str, args: &[&str]) -> Output {
    let mut command = vedette();
    command.env("VEDETTE_URL", &served.url).env("VEDETTE_TOKEN", token).args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn out(output: &Output) -> String {
    assert_eq!(code(output), 0, "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn lines(output: &Output) -> Vec<Value> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn demo(file: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/demo").join(file);
    path.display().to_string()
}

/// A key file of the role `models` that this registry believes, or of nobody.
fn key_file(served: &Served, name: &str) -> String {
    let path = served.scratch.path().join(name);
    if name == "models.key" {
        std::fs::write(&path, &served.scratch.models_pem).unwrap();
    } else {
        std::fs::write(&path, SigningKey::pem(&SigningKey::generate().unwrap().1)).unwrap();
    }
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_pushed_shown_compared_and_assigned() {
    let served = Scratch::new().serve().await;
    let admin = served.tokens.admin.clone();
    let key = key_file(&served, "models.key");
    let (v1, m1, v2, m2) =
        (demo("v1/model.onnx"), demo("v1/manifest.toml"), demo("v2/model.onnx"), demo("v2/manifest.toml"));
    let push = ["push", &v1, "--manifest", &m1, "--key", &key];
    let first = run(&served, &admin, &push).await;
    assert!(out(&first).starts_with("server-pca@1 is in the registry."), "{}", out(&first));
    let again = run(&served, &admin, &push).await;
    assert!(out(&again).starts_with("server-pca@1 was there already"), "{}", out(&again));
    let other = run(&served, &admin, &["push", &v2, "--manifest", &m1, "--key", &key]).await;
    assert_eq!(code(&other), 4, "other bytes under a version that is taken: {}", err(&other));
    out(&run(&served, &admin, &["push", &v2, "--manifest", &m2, "--key", &key]).await);

    let versions = lines(&run(&served, &admin, &["models", "show", "server-pca", "--json"]).await);
    assert_eq!(versions.len(), 2);
    let diff = lines(&run(&served, &admin, &["models", "diff", "server-pca", "1", "2", "--json"]).await);
    assert!(diff.iter().any(|line| line["field"] == "calibration.threshold" && line["before"] == "1.489"), "{diff:?}");
    assert!(diff.iter().any(|line| line["field"] == "lineage.parent" && line["after"] == "1"), "{diff:?}");
    out(&run(&served, &admin, &["models", "alias", "server-pca", "champion", "2"]).await);
    let shown = out(&run(&served, &admin, &["models", "show", "server-pca@champion"]).await);
    assert!(shown.contains("server-pca@2") && shown.contains("TRAINED ON"), "{shown}");

    out(&run(&served, &admin, &["devices", "assign", "box-1", "server=server-pca@champion"]).await);
    out(&run(&served, &admin, &["devices", "assign", "box-1", "host=server-pca@1"]).await);
    let made = lines(&run(&served, &admin, &["devices", "assign", "box-1", "host=", "--json"]).await);
    assert_eq!((&made[0]["version"], &made[0]["slots"][0]["model"]), (&3.into(), &"server-pca@2".into()));
    assert_eq!(made[0]["slots"].as_array().unwrap().len(), 1);

    let audit = lines(&run(&served, &admin, &["audit", "export"]).await);
    let listed = out(&run(&served, &admin, &["audit", "list"]).await);
    assert_eq!(audit.len() + 1, listed.lines().count());
    assert!(listed.contains("slots=server:server-pca@2"), "{listed}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_refuses_ends_with_its_words_and_a_code() {
    let served = Scratch::new().serve().await;
    let (admin, viewer) = (served.tokens.admin.clone(), served.tokens.viewer.clone());
    let (good, foreign) = (key_file(&served, "models.key"), key_file(&served, "foreign.key"));
    let push = |dir: &str, key: &str| {
        [
            "push",
            &demo(&format!("{dir}/model.onnx")),
            "--manifest",
            &demo(&format!("{dir}/manifest.toml")),
            "--key",
            key,
        ]
        .map(str::to_owned)
    };
    for version in ["v1", "v2"] {
        let args = push(version, &good);
        out(&run(&served, &admin, &args.each_ref().map(String::as_str)).await);
    }
    for (says, wanted, token, args) in [
        ("no model `nothing`", 3, &admin, ["models", "show", "nothing"].map(str::to_owned).to_vec()),
        ("not been received", 3, &admin, ["who-scored", "box-1/1/1"].map(str::to_owned).to_vec()),
        ("is no record", 2, &admin, ["who-scored", "box-1"].map(str::to_owned).to_vec()),
        ("(403)", 4, &viewer, push("v1", &good).to_vec()),
        ("(401)", 4, &"vedette_wrong".to_owned(), ["models", "list"].map(str::to_owned).to_vec()),
        ("not accepted", 4, &admin, push("v1", &foreign).to_vec()),
        ("shape", 4, &admin, push("bad/shape", &good).to_vec()),
        ("self-test vector 1", 4, &admin, push("bad/nan", &good).to_vec()),
        ("the author saw", 4, &admin, push("bad/untrue", &good).to_vec()),
        ("couldn't read", 3, &admin, push("none", &good).to_vec()),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = run(&served, token, &args).await;
        assert_eq!(code(&output), wanted, "{args:?}: {}", err(&output));
        assert!(err(&output).contains(says), "{args:?} does not say {says:?}: {}", err(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    let versions = lines(&run(&served, &admin, &["models", "show", "server-pca", "--json"]).await);
    assert_eq!(versions.len(), 2, "nothing refused may be listed");
    served.end().await;
}

#[test]
fn without_a_registry_it_says_offline_and_local_verbs_work() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = vedette().args(["devices", "list", "--url", &format!("http://{nowhere}")]).output().unwrap();
    assert_eq!(code(&output), 5);
    assert!(err(&output).contains(&nowhere.to_string()), "{}", err(&output));
    let keys = folder.path().join("keys").display().to_string();
    out(&vedette().args(["keys", "init", "--dir", &keys]).output().unwrap());
    assert_eq!(code(&vedette().args(["keys", "init", "--dir", &keys]).output().unwrap()), 4);
    assert_eq!(lines(&vedette().args(["keys", "list", "--json", "--dir", &keys]).output().unwrap()).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_larger_than_any_may_be_is_refused_before_it_is_sent() {
    let served = Scratch::new().serve().await;
    let key = key_file(&served, "models.key");
    let model = served.scratch.path().join("huge.onnx");
    // A hole: it takes no room on the disk.
    std::fs::File::create(&model).unwrap().set_len(256 * 1024 * 1024 + 1).unwrap();
    let (model, manifest) = (model.display().to_string(), demo("v1/manifest.toml"));
    let push = ["push", &model, "--manifest", &manifest, "--key", &key];
    let output = run(&served, &served.tokens.publisher, &push).await;
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(err(&output).contains("huge.onnx: it has 268435457 bytes"), "{}", err(&output));
    served.end().await;
}
