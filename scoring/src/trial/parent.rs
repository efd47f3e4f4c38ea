//! The parent's side: start, feed, wait no longer than agreed, understand the end.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::Signal;
use vedette_protocol::{Digest, Manifest, cbor};
use wait_timeout::ChildExt;

use super::{Answer, OUTPUT_MAX, Request, TrialError, TrialLimits, TrialReport};
use crate::engine::one_line;

/// How an allocation that fails is told: by Rust's runtime, and by tract.
const NO_MEMORY: [&str; 3] = ["memory allocation of", "failed to allocate", "capacity overflow"];

/// Tries the model of `manifest` whose graph lies in the file `artifact`, in a child: `program` with `args`, which must end in
/// [`child_main`](super::child_main). Blocks up to the wall limit. `selftest` is the canonical self-test that the manifest names;
/// the digest is that of the manifest's signed payload.
///
/// # Errors
/// [`TrialError`] says in one sentence why the model did not pass; only `Start` says nothing about the model.
pub fn run(
    program: &Path,
    args: &[&str],
    manifest: &Manifest,
    digest: Digest,
    artifact: &Path,
    selftest: &[u8],
    limits: TrialLimits,
) -> Result<TrialReport, TrialError> {
    let payload = cbor::to_canonical(manifest);
    if Digest::of(&payload) != digest {
        return Err(TrialError::Refused {
            reason: "the manifest does not have the digest that it was named by".into(),
        });
    }
    let request = cbor::encode(&Request {
        manifest: payload,
        artifact: artifact.to_owned(),
        selftest: selftest.to_vec(),
        memory_bytes: limits.memory_bytes,
        cpu_seconds: limits.cpu.as_secs() + u64::from(limits.cpu.subsec_nanos() > 0),
    });
    let start = |source| TrialError::Start { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("RUST_BACKTRACE", "0")
        .env_remove("RUST_LIB_BACKTRACE")
        .spawn()
        .map_err(start)?;
    let (status, output, complaint) = converse(&mut child, request, limits).map_err(start)?;
    let Some(status) = status else { return Err(TrialError::TimedOut { wall: true }) };
    verdict(status, &output, &complaint, limits)
}

/// Feeds the child and listens to it; no status = it had to be killed.
fn converse(
    child: &mut Child,
    request: Vec<u8>,
    limits: TrialLimits,
) -> std::io::Result<(Option<ExitStatus>, Vec<u8>, Vec<u8>)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // A child that does not read breaks the pipe when it ends: that is its problem and shows in its report.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(&request)));
        let output = scope.spawn(move || stdout.map(capped).unwrap_or_default());
        let complaint = scope.spawn(move || stderr.map(capped).unwrap_or_default());
        let status = child.wait_timeout(limits.wall)?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        Ok((status, output.join().unwrap_or_default(), complaint.join().unwrap_or_default()))
    })
}

/// At most [`OUTPUT_MAX`] bytes; then the pipe closes and writing more ends the child.
fn capped(pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match pipe.take(OUTPUT_MAX as u64).read_to_end(&mut bytes) {
        Ok(_) | Err(_) => bytes, // what came before an error is all there is
    }
}

fn verdict(
    status: ExitStatus,
    output: &[u8],
    complaint: &[u8],
    limits: TrialLimits,
) -> Result<TrialReport, TrialError> {
    let out_of_memory = || TrialError::OutOfMemory { memory_bytes: limits.memory_bytes };
    let ran_out = |text: &str| NO_MEMORY.iter().any(|sign| text.contains(sign));
    match serde_json::from_slice(output) {
        Ok(Answer::Passed(report)) if status.success() => return Ok(report),
        Ok(Answer::Refused { reason }) if ran_out(&reason) => return Err(out_of_memory()),
        Ok(Answer::Refused { reason }) => return Err(TrialError::Refused { reason }),
        Ok(Answer::Panicked { message }) if ran_out(&message) => return Err(out_of_memory()),
        Ok(Answer::Panicked { message }) => return Err(TrialError::Panicked { message }),
        Ok(Answer::Passed(_)) | Err(_) => {}
    }
    let said = String::from_utf8_lossy(complaint);
    let signal = status.signal().and_then(Signal::from_named_raw);
    if signal == Some(Signal::XCPU) {
        return Err(TrialError::TimedOut { wall: false });
    }
    if ran_out(&said) {
        return Err(out_of_memory());
    }
    // Soft and hard limit of processor time are one: some kernels kill at once.
    if signal == Some(Signal::KILL) {
        return Err(TrialError::Lost {
            how: "killed by the system, perhaps for want of memory".into(),
            said: String::new(),
        });
    }
    Err(TrialError::Lost { how: status.to_string(), said: one_line(&said) })
}
