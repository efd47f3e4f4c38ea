//! A registry in a scratch folder, keys of its own, and a client.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vedette_model_registry::auth::Role;
use vedette_model_registry::clock::Clock;
use vedette_model_registry::config::{Broker, Config, Http, KeyFiles, TrialProgram};
use vedette_model_registry::registry::Registry;
use vedette_model_registry::registry::state::State;
use vedette_protocol::id::{Digest, ModelRef};
use vedette_protocol::key::{KeySet, SigningKey, Trust};
use vedette_protocol::manifest::{Blob, Draft, Lineage, Manifest, ModelKind, SelfTest, TensorSpec, Transform, Vector};
use vedette_protocol::number::{Finite32, Finite64};
use vedette_protocol::{cbor, envelope};

/// A folder with keys, and the configuration over it.
pub(crate) struct Scratch {
    folder: TempDir,
    tokens: Option<Tokens>,
    pub(crate) models: SigningKey,
    pub(crate) models_pem: String,
    pub(crate) config: Config,
    pub(crate) now: Arc<AtomicI64>,
}

/// 2026-11-20, a day after the demo's models were trained.
pub(crate) const START_MS: i64 = 1_795_132_800_000;

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let folder = tempfile::tempdir().unwrap();
        let (models, models_pkcs8) = SigningKey::generate().unwrap();
        let (fleet, pkcs8) = SigningKey::generate().unwrap();
        let trust = Trust { models: KeySet::single(models.public()), fleet: KeySet::single(fleet.public()) };
        let files = KeyFiles { trust: folder.path().join("trust.toml"), fleet: folder.path().join("fleet.key") };
        std::fs::write(&files.trust, trust.to_toml()).unwrap();
        std::fs::write(&files.fleet, SigningKey::pem(&pkcs8)).unwrap();
        std::fs::set_permissions(&files.fleet, std::fs::Permissions::from_mode(0o600)).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            state: folder.path().join("state"),
            http: Http { listen: any, max_artifact_bytes: 4 * 1024 * 1024, max_body_bytes: 64 * 1024 },
            broker: Broker::Embedded { listen: any },
            keys: files,
            assignment_lifetime_ms: 7 * 24 * 3600 * 1000,
            trial: TrialProgram {
                program: env!("CARGO_BIN_EXE_vedette-registry").into(),
                args: vec!["trial".to_owned()],
            },
        };
        Scratch {
            folder,
            tokens: None,
            models,
            models_pem: SigningKey::pem(&models_pkcs8),
            config,
            now: Arc::new(AtomicI64::new(START_MS)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::Set(Arc::clone(&self.now))
    }

    pub(crate) fn pass_ms(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }

    /// The verbs, without the program around them.
    pub(crate) fn registry(&self) -> Registry {
        Registry::open(&self.config, self.clock()).unwrap()
    }

    /// The program, with a token of each role.
    pub(crate) async fn serve(self) -> Served {
        let tokens = self.tokens.clone().unwrap_or_else(|| Tokens::make(&self.config));
        let shutdown = CancellationToken::new();
        let (ready, addresses) = oneshot::channel();
        let program = tokio::spawn(vedette_model_registry::run(self.config.clone(), shutdown.clone(), ready));
        let addresses = match addresses.await {
            Ok(addresses) => addresses,
            Err(_) => panic!("the registry did not start: {:?}", program.await),
        };
        Served {
            scratch: Scratch { tokens: Some(tokens.clone()), ..self },
            tokens,
            url: format!("http://{}", addresses.http),
            broker: addresses.broker,
            client: client(),
            shutdown,
            program,
        }
    }
}

pub(crate) fn client() -> reqwest::Client {
    // Another test of this process may have been first.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
    reqwest::Client::builder().build().unwrap()
}

#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) viewer: String,
    pub(crate) publisher: String,
    pub(crate) approver: String,
    pub(crate) admin: String,
}

impl Tokens {
    fn make(config: &Config) -> Tokens {
        let state = State::open(&config.state, Clock::System).unwrap();
        let token = |role, name| state.create_token(name, role, "offline").unwrap().token;
        Tokens {
            viewer: token(Role::Viewer, "viewer"),
            publisher: token(Role::Publisher, "publisher"),
            approver: token(Role::Approver, "approver"),
            admin: token(Role::Admin, "admin"),
        }
    }
}

/// The program, running.
pub(crate) struct Served {
    pub(crate) scratch: Scratch,
    pub(crate) tokens: Tokens,
    pub(crate) url: String,
    pub(crate) broker: String,
    pub(crate) client: reqwest::Client,
    shutdown: CancellationToken,
    program: JoinHandle<anyhow::Result<()>>,
}

impl Served {
    pub(crate) fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(token)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path, &self.tokens.viewer).send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    pub(crate) async fn send(&self, method: Method, path: &str, token: &str, body: &Value) -> Response {
        self.request(method, path, token).json(body).send().await.unwrap()
    }

    pub(crate) async fn upload(&self, bytes: &[u8]) -> StatusCode {
        let path = format!("/api/v1/blobs/{}", Digest::of(bytes));
        self.request(Method::PUT, &path, &self.tokens.publisher).body(bytes.to_vec()).send().await.unwrap().status()
    }

    pub(crate) async fn push(&self, package: &Package) -> Response {
        self.upload(&package.onnx).await;
        self.upload(&package.selftest).await;
        self.send(Method::POST, &package.path(), &self.tokens.publisher, &package.body()).await
    }

    pub(crate) async fn end(self) -> Scratch {
        self.shutdown.cancel();
        self.program.await.unwrap().unwrap();
        self.scratch
    }
}

/// A problem document with this status, whose detail says so.
pub(crate) async fn assert_problem(response: Response, status: u16, says: &str) {
    assert_eq!(response.status().as_u16(), status, "{:?}", response.text().await);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["type"].as_str().unwrap().starts_with("urn:vedette:problem:"));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(says), "{detail:?} does not say {says:?}");
}

/// A version ready to be pushed.
pub(crate) struct Package {
    pub(crate) manifest: Manifest,
    pub(crate) lineage: Lineage,
    pub(crate) onnx: Vec<u8>,
    pub(crate) selftest: Vec<u8>,
    pub(crate) envelope: Vec<u8>,
}

impl Package {
    /// One of the demo's models, signed.
    pub(crate) fn demo(name: &str, key: &SigningKey) -> Package {
        let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/demo").join(name);
        let text = std::fs::read_to_string(folder.join("manifest.toml")).unwrap();
        let draft = Draft::from_toml(&text, "manifest.toml").unwrap();
        let onnx = std::fs::read(folder.join("model.onnx")).unwrap();
        let vectors = std::fs::read_to_string(folder.join("selftest.json")).unwrap();
        let vectors: SelfTest = serde_json::from_str(&vectors).unwrap();
        let selftest = cbor::to_canonical(&vectors);
        let (manifest, lineage) = draft.finish(Blob::of(&onnx), Blob::of(&selftest), START_MS).unwrap();
        Package { envelope: envelope::seal(&manifest, &[key]), manifest, lineage, onnx, selftest }
    }

    /// A graph that means no good, with an input of three rows of two signals, under a manifest that fits such a one.
    pub(crate) fn hostile(name: &str, key: &SigningKey) -> Package {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/data/hostile/{name}.onnx"));
        let mut package = Package::demo("v1", key);
        package.onnx = std::fs::read(file).unwrap();
        let vectors = vec![Vector { window: vec![Finite32::new(1.0).unwrap(); 6], score: Finite32::new(6.0).unwrap() }];
        package.selftest = cbor::to_canonical(&SelfTest { tolerance: Finite64::new(1e-4).unwrap(), vectors });
        let manifest = &mut package.manifest;
        manifest.kind = ModelKind::Score { score: "score".to_owned(), contribution: None };
        manifest.input = TensorSpec { name: "x".to_owned(), shape: vec![3, 2] };
        manifest.selftest = Blob::of(&package.selftest);
        (manifest.contract.window, manifest.contract.hop) = (3, 1);
        manifest.contract.signals.truncate(2);
        manifest.contract.signals.iter_mut().for_each(|signal| signal.transform = Transform::None);
        manifest.calibration.residual.clear();
        manifest.calibration.tail = 0;
        package.sign(key)
    }

    /// Signs again after the manifest was changed.
    pub(crate) fn sign(mut self, key: &SigningKey) -> Package {
        self.manifest.lineage = Digest::of(&cbor::to_canonical(&self.lineage));
        self.manifest.artifact = Blob::of(&self.onnx);
        self.envelope = envelope::seal(&self.manifest, &[key]);
        self
    }

    pub(crate) fn model(&self) -> ModelRef {
        self.manifest.model.clone()
    }

    pub(crate) fn path(&self) -> String {
        format!("/api/v1/models/{}/versions", self.manifest.model.name)
    }

    pub(crate) fn body(&self) -> Value {
        json!({
            "manifest": STANDARD.encode(&self.envelope),
            "lineage": STANDARD.encode(cbor::to_canonical(&self.lineage)),
        })
    }
}
