//! `vedette push`: what a data scientist wrote, made complete, signed, and sent.
//!
//! The digests are taken here, from the very files; the `models` key signs here and never leaves. The registry then tries
//! the model before it admits it.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use reqwest::{Method, StatusCode};
use vedette_protocol::{
    cbor, envelope,
    exit::Exit,
    id::{Digest, Hasher},
    limit,
    manifest::{Blob, Draft, Lineage, Manifest, SelfTest},
};

use super::{
    Screen,
    client::Client,
    fault::Fault,
    keys,
    screen::{Format, facts, say, say_json},
};
use crate::{
    clock::Clock,
    view::{PushRequest, VersionDetail, VersionSummary},
};

/// Largest manifest draft: the signed form is at most 64 KiB, and TOML of the same is some three times as long.
const DRAFT_BYTES_MAX: u64 = 512 << 10;

/// Largest self-test in JSON: the binary form is at most 256 KiB at 5 bytes a number, JSON takes up to 25.
const SELFTEST_BYTES_MAX: u64 = 2 << 20;

/// Bytes hashed at once.
const PIECE_BYTES: usize = 64 << 10;

/// What `push` takes.
#[derive(Debug, Args)]
pub struct Push {
    /// The model
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// Its manifest: contract, calibration, limits, self-test, lineage
    #[arg(long, value_name = "M.toml")]
    manifest: PathBuf,
    /// The private key of the role `models`
    #[arg(long, default_value = "keys/models.key", value_name = "FILE")]
    key: PathBuf,
}

/// All that goes over the wire.
#[derive(Debug)]
struct Package {
    manifest: Manifest,
    selftest: (Blob, Vec<u8>),
    lineage: Vec<u8>,
    envelope: Vec<u8>,
}

/// Signs a model version and sends it.
///
/// # Errors
/// Usage or not found for what lies here; offline, or what the registry answered.
pub async fn run(push: Push, client: &Client, screen: Screen) -> Result<(), Fault> {
    let draft = read_draft(&push.manifest)?;
    let issued_ms = issued_ms(&draft, client).await?;
    let Package { manifest, selftest: (selftest, selftest_bytes), lineage, envelope } =
        package(&push, &draft, issued_ms)?;
    client.upload_file(&manifest.artifact.digest, &push.model, manifest.artifact.length).await?;
    client.upload(&selftest.digest, selftest_bytes).await?;
    let request = PushRequest { manifest: STANDARD.encode(envelope), lineage: STANDARD.encode(lineage) };
    let path = ["models", manifest.model.name.as_str(), "versions"];
    let (status, version): (StatusCode, VersionSummary) = client.send_json(Method::POST, &path, &request).await?;
    match screen.format {
        Format::Json => say_json(&[version]),
        Format::Text => say(&said(status, &version)),
    }
}

/// When the version was signed first, if the registry has it, so that the same push again is the same bytes; now otherwise.
async fn issued_ms(draft: &Draft, client: &Client) -> Result<i64, Fault> {
    let model = draft.model();
    let path = ["models", model.name.as_str(), "versions", &model.version.to_string()];
    match client.get::<VersionDetail>(&path, &()).await {
        Ok(version) => Ok(version.content.issued_ms),
        Err(fault) if fault.exit == Exit::NotFound => Ok(Clock::System.now_ms()),
        Err(fault) => Err(fault),
    }
}

fn said(status: StatusCode, version: &VersionSummary) -> String {
    let first = match status {
        StatusCode::OK => format!("{} was there already, byte for byte.\n", version.model),
        _ => format!("{} is in the registry.\n", version.model),
    };
    let trial = &version.trial;
    let lines = [
        ("manifest", version.manifest.to_string()),
        ("artifact", format!("{} ({} bytes)", version.artifact, version.artifact_bytes)),
        (
            "trial",
            format!(
                "{}: {} self-test vectors right, loaded in {} ms, {} µs a row, {} MiB of memory",
                trial.engine,
                trial.vectors,
                trial.load_us / 1_000,
                trial.row_ns / 1_000,
                trial.memory_bytes >> 20
            ),
        ),
    ];
    first + &facts(&lines)
}

/// Reads, completes and signs. Nothing is sent when anything here is wrong.
fn package(push: &Push, draft: &Draft, issued_ms: i64) -> Result<Package, Fault> {
    let key = keys::read_key(&push.key)?;
    let artifact = artifact(&push.model)?;
    let (path, vectors) = read_selftest(&push.manifest, draft)?;
    let selftest_bytes = cbor::to_canonical(&vectors);
    let selftest = Blob { digest: Digest::of(&selftest_bytes), length: selftest_bytes.len() as u64 };
    let (manifest, lineage) = complete(draft, artifact, selftest, issued_ms, &push.manifest)?;
    check_selftest(&path, &vectors, &manifest)?;
    Ok(Package {
        envelope: envelope::seal(&manifest, &[&key]),
        lineage: cbor::to_canonical(&lineage),
        selftest: (selftest, selftest_bytes),
        manifest,
    })
}

/// Reads a manifest as a data scientist wrote it.
///
/// # Errors
/// Not found, or usage with key and line.
pub fn read_draft(path: &Path) -> Result<Draft, Fault> {
    let text = read_text(path, DRAFT_BYTES_MAX)?;
    Draft::from_toml(&text, &path.display().to_string()).map_err(|error| Fault::usage(error.to_string()))
}

/// A draft with the digests of its files: the manifest and lineage that are signed.
///
/// # Errors
/// Usage, with what does not fit.
pub fn complete(
    draft: &Draft,
    artifact: Blob,
    selftest: Blob,
    issued_ms: i64,
    path: &Path,
) -> Result<(Manifest, Lineage), Fault> {
    draft
        .finish(artifact, selftest, issued_ms)
        .map_err(|error| Fault::usage(format!("couldn't use the manifest {}: {error}", path.display())))
}

/// Digest and length of a model file, read in pieces.
///
/// # Errors
/// Not found; refused when it is empty or larger than any model may be.
pub fn artifact(path: &Path) -> Result<Blob, Fault> {
    let unread = |error: &std::io::Error| Fault::file("read the model", path, error);
    let mut file = fs::File::open(path).map_err(|error| unread(&error))?;
    let length = file.metadata().map_err(|error| unread(&error))?.len();
    if length == 0 || length > limit::MAX_ARTIFACT_BYTES {
        return Err(Fault::refused(format!(
            "couldn't use the model {}: it has {length} bytes, and a model has 1 to {}",
            path.display(),
            limit::MAX_ARTIFACT_BYTES
        )));
    }
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(|error| unread(&error))? {
            0 => return Ok(Blob { digest: hasher.finish(), length }),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// Reads the self-test that a draft names, beside it.
///
/// # Errors
/// Not found; usage when it is no self-test; refused when it is too large.
pub fn read_selftest(manifest: &Path, draft: &Draft) -> Result<(PathBuf, SelfTest), Fault> {
    let name = draft.selftest_file().ok_or_else(|| {
        Fault::usage(format!(
            "couldn't push: {} names no self-test, and no model is admitted without one; add selftest = \"FILE.json\"",
            manifest.display()
        ))
    })?;
    let path = manifest.parent().unwrap_or(Path::new("")).join(name);
    let text = read_text(&path, SELFTEST_BYTES_MAX)?;
    let selftest: SelfTest = serde_json::from_str(&text)
        .map_err(|error| Fault::usage(format!("couldn't read the self-test {}: {error}", path.display())))?;
    let length = cbor::to_canonical(&selftest).len();
    if length > limit::MAX_SELFTEST_BYTES {
        return Err(Fault::refused(format!(
            "couldn't use the self-test {}: it encodes to {length} bytes, above {}; give fewer vectors",
            path.display(),
            limit::MAX_SELFTEST_BYTES
        )));
    }
    Ok((path, selftest))
}

/// Whether the self-test's windows are those of the contract.
///
/// # Errors
/// Usage, naming the vector.
pub fn check_selftest(path: &Path, selftest: &SelfTest, manifest: &Manifest) -> Result<(), Fault> {
    let checked = selftest.check(manifest);
    checked.map_err(|error| Fault::usage(format!("couldn't use the self-test {}: {error}", path.display())))
}

fn read_text(path: &Path, bytes_max: u64) -> Result<String, Fault> {
    let length = fs::metadata(path).map_err(|error| Fault::file("read", path, &error))?.len();
    if length > bytes_max {
        return Err(Fault::usage(format!(
            "couldn't read {}: {length} bytes are above the limit of {bytes_max}",
            path.display()
        )));
    }
    fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => Fault::usage(format!("couldn't read {}: it is not text", path.display())),
        _ => Fault::file("read", path, &error),
    })
}
