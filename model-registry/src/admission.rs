//! The trial before admission: what cannot run does not come in.
//!
//! The model runs in a child process of this very program (`vedette-registry trial`, hidden) through the same code that
//! scores on the devices: it loads the graph, holds it against the manifest's contract, runs the self-test vectors and
//! measures. The child limits its own memory and time; whatever a model does, it does it there.

use std::path::Path;
use std::time::Duration;

use vedette_protocol::id::Digest;
use vedette_protocol::manifest::Manifest;
use vedette_scoring::trial::{self, TrialError, TrialLimits, TrialReport};

use crate::config::TrialProgram;
use crate::registry::Error;
use crate::view::Trial;

/// Address space of a trial. The largest artifact is 256 MiB; loading holds its bytes and the engine's copy of the weights.
const MEMORY_BYTES: u64 = 1024 * 1024 * 1024;
/// Processor time: a graph that compiles longer than this on a server would take minutes on a device.
const CPU: Duration = Duration::from_secs(30);
/// Time on the clock, for a machine that is busy with other things.
const WALL: Duration = Duration::from_secs(60);

/// Tries a model. Blocks up to a minute.
///
/// # Errors
///
/// The trial refused the model (the reason says what is wrong with it), or could not be held.
pub fn admit(
    program: &TrialProgram,
    manifest: &Manifest,
    digest: &Digest,
    artifact: &Path,
    selftest: &[u8],
) -> Result<Trial, Error> {
    let args: Vec<&str> = program.args.iter().map(String::as_str).collect();
    let limits = TrialLimits { memory_bytes: MEMORY_BYTES, cpu: CPU, wall: WALL };
    match trial::run(&program.program, &args, manifest, *digest, artifact, selftest, limits) {
        Ok(report) => Ok(view(&report)),
        Err(error @ TrialError::Start { .. }) => Err(Error::Internal(error.into())),
        Err(
            error @ (TrialError::Refused { .. }
            | TrialError::TimedOut { .. }
            | TrialError::OutOfMemory { .. }
            | TrialError::Panicked { .. }
            | TrialError::Lost { .. }),
        ) => Err(Error::Refused(format!("{} did not pass its trial: {error}", manifest.model))),
    }
}

fn view(report: &TrialReport) -> Trial {
    Trial {
        engine: report.engine.as_str().to_owned(),
        vectors: u32::try_from(report.vectors).unwrap_or(u32::MAX),
        load_us: Duration::try_from_secs_f64(report.load_ms / 1000.0)
            .map_or(0, |load| u64::try_from(load.as_micros()).unwrap_or(u64::MAX)),
        row_ns: report.row_p50_ns,
        memory_bytes: report.memory_bytes,
    }
}
