//! A full disk: reported, nothing before it lost, and the journal goes on when there is room again.
//!
//! The limit is the process's own (`RLIMIT_FSIZE`), set by a shell for a child that runs one of the ignored tests below.

use std::path::{Path, PathBuf};
use std::process::Command;

use vedette_journal::{CommitError, Journal, OpenError};

use crate::folder::{contents, options, scratch};

const FOLDER: &str = "VEDETTE_JOURNAL_TEST_FOLDER";

/// Runs the ignored test `name` of this binary with files limited to `kib`; the signal that goes with the limit is
/// ignored, so that writing fails with an error as on a full disk.
fn run_limited(name: &str, folder: &Path, kib: u32) {
    let program = std::env::current_exe().unwrap();
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" --ignored --exact {name}", kib * 2);
    let output = Command::new("sh").args(["-c", &script]).arg(program).env(FOLDER, folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{failed}");
}

fn given_folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).unwrap())
}

#[test]
fn a_full_disk_is_reported_and_nothing_committed_before_is_lost() {
    let folder = scratch();
    run_limited("space::child_writes_until_the_disk_is_full", folder.path(), 24);
    let found = contents(folder.path(), 0);
    assert!(!found.is_empty());
    let (mut journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!(recovery.damage, []);
    assert_eq!(recovery.next_sequence, found.len() as u64);
    journal.append(1, b"room again").unwrap();
    assert_eq!(journal.commit().unwrap(), found.len() as u64 + 1);
}

/// Segments of 16 KiB fit below the limit of 24 KiB; a record of 22,000 bytes needs one that does not.
#[test]
#[ignore = "run by the test above in a process with a limit"]
fn child_writes_until_the_disk_is_full() {
    let (mut journal, _) = Journal::open(&given_folder(), options(1)).unwrap();
    for _ in 0..30 {
        journal.append(1, &[1; 1000]).unwrap();
    }
    assert_eq!(journal.commit().unwrap(), 30);
    journal.append(1, &[2; 22_000]).unwrap();
    journal.append(1, &[3; 10]).unwrap();
    for _ in 0..3 {
        let error = journal.commit().unwrap_err();
        assert!(matches!(error, CommitError::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("no space left for"), "{error}");
    }
    assert_eq!((journal.committed(), journal.next_sequence()), (30, 32));
    assert_eq!(contents(&given_folder(), 0).len(), 30);
    let leftovers = std::fs::read_dir(given_folder()).unwrap();
    let half_made = |name: &std::ffi::OsStr| Path::new(name).extension().is_some_and(|e| e == "tmp");
    assert!(!leftovers.into_iter().any(|entry| half_made(&entry.unwrap().file_name())));
}

#[test]
fn a_disk_without_room_for_the_first_segment_is_reported_at_open() {
    let folder = scratch();
    run_limited("space::child_finds_no_room_at_all", folder.path(), 8);
    let (_, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert!(recovery.created);
}

#[test]
#[ignore = "run by the test above in a process with a limit"]
fn child_finds_no_room_at_all() {
    let error = Journal::open(&given_folder(), options(1)).unwrap_err();
    assert!(matches!(error, OpenError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains(&given_folder().display().to_string()), "{error}");
}
