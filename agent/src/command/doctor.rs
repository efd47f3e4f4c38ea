//! `doctor`: what keeps this device from working, each with a way out. The configuration was read before: a wrong one is
//! reported by every command.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use comfy_table::Cell;
use serde::Serialize;
use vedette_protocol::exit::Exit;

use super::access::{Access, Trouble};
use super::print::{Out, mebibytes};
use crate::api::view::StatusView;
use crate::clock::Clock;
use crate::config::Config;
use crate::state::State;
use vedette_protocol::time::{Quality, format_ms};

/// How long a broker may take to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Free space below which the journal will not last: ten segments of 1 MiB.
const FREE_BYTES_MIN: u64 = 10 << 20;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Found {
    Ok,
    Note,
    Bad,
}

#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    found: Found,
    says: String,
}

pub(super) fn run(config: &Config, access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let checks = [agent(access), journal(access), disk(&config.state), clock(&config.state), broker(config)];
    let bad = checks.iter().any(|check| check.found == Found::Bad);
    if out.json() {
        checks.iter().try_for_each(|check| out.object(check))?;
    } else {
        let row = |check: &Check| {
            let found = match check.found {
                Found::Ok => Cell::new("ok"),
                Found::Note => Cell::new("note"),
                Found::Bad => out.loud("bad"),
            };
            vec![Cell::new(check.check), found, Cell::new(&check.says)]
        };
        out.table(&["CHECK", "FOUND", "WHAT"], checks.iter().map(row).collect())?;
    }
    Ok(if bad { Exit::Failed } else { Exit::Ok })
}

fn agent(access: &Access) -> Check {
    let check = "agent";
    match access.live::<StatusView>("/v1/status") {
        Err(trouble) => Check { check, found: Found::Bad, says: format!("{trouble:#}") },
        Ok(None) => {
            Check { check, found: Found::Note, says: format!("down: nobody listens on {}", access.socket().display()) }
        }
        Ok(Some(StatusView { degraded: Some(why), .. })) => {
            Check { check, found: Found::Bad, says: format!("runs, but the disk refuses: {why}") }
        }
        Ok(Some(status)) => Check {
            check,
            found: Found::Ok,
            says: format!("{} runs, {} streams", status.agent_version, status.streams.len()),
        },
    }
}

fn journal(access: &Access) -> Check {
    let check = "journal";
    let folder = access.journal();
    match vedette_journal::stat(&folder) {
        Ok(stat) if stat.damage.is_empty() => Check {
            check,
            found: Found::Ok,
            says: format!("{} records in {}", stat.next_sequence, mebibytes(stat.bytes)),
        },
        Ok(stat) => Check {
            check,
            found: Found::Bad,
            says: format!("{} stretches cannot be read; what is behind them can", stat.damage.len()),
        },
        Err(_) if !folder.exists() => {
            Check { check, found: Found::Note, says: format!("none yet in {}", folder.display()) }
        }
        Err(error) => Check { check, found: Found::Bad, says: error.to_string() },
    }
}

fn disk(state: &Path) -> Check {
    let check = "disk";
    if state.exists() && !state.is_dir() {
        let says = format!("{} is no folder: `state` in the configuration must name one", state.display());
        return Check { check, found: Found::Bad, says };
    }
    let existing = state.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(fs) => {
            let free = fs.f_bavail.saturating_mul(fs.f_frsize);
            let found = if free < FREE_BYTES_MIN { Found::Bad } else { Found::Ok };
            Check { check, found, says: format!("{} free for {}", mebibytes(free), state.display()) }
        }
        Err(error) => {
            Check { check, found: Found::Bad, says: format!("couldn't look at {}: {error}", existing.display()) }
        }
    }
}

fn clock(state: &Path) -> Check {
    let check = "clock";
    let read = |clock: Clock| {
        clock.load(&State::paths(state).clock());
        clock
    };
    match Clock::start().map(read).map(|clock| (clock.stamp().quality, clock.floor_ms())) {
        Ok((Quality::System | Quality::Attested, _)) => {
            Check { check, found: Found::Ok, says: "the system's clock is plausible".to_owned() }
        }
        Ok((Quality::Floor | Quality::None, floor_ms)) => Check {
            check,
            found: Found::Bad,
            says: format!(
                "the system's clock cannot be right, it is {} or up to ten years later: set it, or times in records are guesses",
                format_ms(floor_ms)
            ),
        },
        Err(error) => Check { check, found: Found::Bad, says: format!("{error:#}") },
    }
}

fn broker(config: &Config) -> Check {
    let check = "broker";
    let Some(registry) = &config.registry else {
        return Check { check, found: Found::Note, says: "no [registry]: this device works alone".to_owned() };
    };
    let broker = &registry.broker;
    let reached = (broker.host.as_str(), broker.port).to_socket_addrs().and_then(|mut addresses| {
        let address = addresses.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
        TcpStream::connect_timeout(&address, CONNECT_WITHIN)
    });
    match reached {
        Ok(_) => Check { check, found: Found::Ok, says: format!("{broker} accepts connections") },
        Err(error) => Check {
            check,
            found: Found::Bad,
            says: format!("couldn't reach {broker}: {error}; records wait in the journal meanwhile"),
        },
    }
}
