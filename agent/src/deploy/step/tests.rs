//! The promises of the machine.

#![allow(clippy::unwrap_used, clippy::panic)]

use vedette_protocol::assignment::Slot as Assigned;

use super::*;
use crate::deploy::store::Files;
use crate::deploy::store::tests::{installed, order};

const RETRY: Duration = Duration::from_secs(5);
const FULL: u32 = u32::MAX;

fn machine(stored: Stored) -> Machine {
    let streams = ["host", "server"].map(|s| s.parse().unwrap());
    Machine::new(stored, streams.into_iter().collect(), RETRY)
}

fn slot(stream: &str, model: &str) -> Assigned {
    Assigned { stream: stream.parse().unwrap(), model: model.parse().unwrap(), manifest: Digest::of(model.as_bytes()) }
}

fn assignment(version: u64, slots: &[Assigned]) -> (Assignment, Digest) {
    let assignment =
        Assignment { audience: "box".parse().unwrap(), version, issued_ms: 0, expires_ms: 1000, slots: slots.to_vec() };
    let digest = Digest::of(format!("{assignment:?}").as_bytes());
    (assignment, digest)
}

fn assign(machine: &mut Machine, version: u64, slots: &[Assigned]) -> Result<Vec<DeployStep>, Refusal> {
    let (assignment, digest) = assignment(version, slots);
    machine.assign(&assignment, digest, 500)
}

fn next(machine: &mut Machine, now: Instant) -> Work {
    machine.next(now).unwrap().unwrap()
}

fn done(machine: &mut Machine, work: &Work, outcome: Result<Reached, Failure>) -> Option<Stage> {
    machine.done(work, outcome, Instant::now(), FULL).map(|step| step.stage)
}

fn files(model: &str) -> Files {
    installed(model).files
}

/// Goes all the way with whatever is next.
fn install(machine: &mut Machine, model: &str) -> Vec<Stage> {
    let now = Instant::now();
    let mut stages = Vec::new();
    for reached in
        [Reached::Verified(files(model)), Reached::Fetched, Reached::Tried, Reached::Live(ModelVersion::FIRST)]
    {
        let work = next(machine, now);
        stages.extend(done(machine, &work, Ok(reached)));
    }
    stages
}

fn stage(machine: &Machine, stream: &str) -> Option<(Stage, Option<String>)> {
    machine.steps().into_iter().find(|step| step.stream.as_ref() == stream).map(|step| (step.stage, step.detail))
}

#[test]
fn a_model_goes_through_every_stage_and_each_is_journalled_once() {
    let mut machine = machine(Stored::default());
    let steps = assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    assert_eq!(steps.iter().map(|s| s.stage).collect::<Vec<_>>(), [Stage::Assigned]);
    assert_eq!(install(&mut machine, "pump@1"), [Stage::Verified, Stage::Fetched, Stage::Tried, Stage::Live]);
    assert_eq!(machine.next(Instant::now()), None);
    assert_eq!(machine.stored().slots[&"server".parse().unwrap()].live, Some(installed("pump@1")));
    assert_eq!(machine.assignment_version(), 1);
}

#[test]
fn the_same_assignment_again_changes_nothing() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    install(&mut machine, "pump@1");
    let before = machine.stored().clone();
    assert_eq!(assign(&mut machine, 1, &[slot("server", "pump@1")]), Ok(Vec::new()));
    assert_eq!(machine.next(Instant::now()), None);
    assert_eq!(*machine.stored(), before);
}

#[test]
fn older_doubled_and_expired_assignments_change_nothing() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 5, &[slot("server", "pump@1")]).unwrap();
    let before = machine.stored().clone();
    assert_eq!(assign(&mut machine, 4, &[]), Err(Refusal::Older { version: 4, known: 5 }));
    assert_eq!(assign(&mut machine, 5, &[]), Err(Refusal::SameVersion { version: 5 }));
    let (late, digest) = assignment(6, &[]);
    assert_eq!(machine.assign(&late, digest, 1000), Err(Refusal::Expired { version: 6, expires_ms: 1000 }));
    assert_eq!(*machine.stored(), before);
}

#[test]
fn an_expired_assignment_that_was_taken_in_time_is_not_refused_when_it_comes_again() {
    let mut machine = machine(Stored::default());
    let (same, digest) = assignment(1, &[slot("server", "pump@1")]);
    machine.assign(&same, digest, 0).unwrap();
    assert_eq!(machine.assign(&same, digest, i64::MAX), Ok(Vec::new()));
}

#[test]
fn a_refused_assignment_is_journalled_once_however_often_it_comes() {
    let mut machine = machine(Stored::default());
    let (bad, digest) = assignment(1, &[slot("server", "pump@1")]);
    let refusal = Refusal::Expired { version: 1, expires_ms: 1000 };
    let steps = machine.refuse_once(&bad, digest, &refusal);
    assert_eq!((steps.len(), steps[0].stage), (1, Stage::Refused));
    assert!(steps[0].detail.as_ref().unwrap().contains("expired at 1970-01-01T00:00:01"), "{steps:?}");
    assert_eq!(machine.refuse_once(&bad, digest, &refusal), []);
    let flood: usize =
        (0..1000u64).map(|n| machine.refuse_once(&bad, Digest::of(&n.to_le_bytes()), &refusal).len()).sum();
    assert!(flood < REFUSED_REMEMBERED, "a flood of nonsense does not fill the journal");
}

#[test]
fn a_slot_of_a_stream_that_is_not_here_is_refused_and_the_others_go_on() {
    let mut machine = machine(Stored::default());
    let steps = assign(&mut machine, 1, &[slot("attic", "pump@1"), slot("server", "pump@1")]).unwrap();
    let stages: Vec<_> = steps.iter().map(|s| (s.stream.as_ref(), s.stage)).collect();
    assert_eq!(stages, [("server", Stage::Assigned), ("attic", Stage::Refused)]);
    assert_eq!(next(&mut machine, Instant::now()).stream.as_ref(), "server");
}

#[test]
fn a_refusal_at_any_stage_ends_the_way_and_what_ran_goes_on() {
    let reached = [Reached::Verified(files("pump@2")), Reached::Fetched, Reached::Tried];
    for passed in 0..=3 {
        let mut machine = machine(Stored::default());
        assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
        install(&mut machine, "pump@1");
        assign(&mut machine, 2, &[slot("server", "pump@2")]).unwrap();
        let now = Instant::now();
        for outcome in &reached[..passed] {
            let work = next(&mut machine, now);
            done(&mut machine, &work, Ok(outcome.clone()));
        }
        let work = next(&mut machine, now);
        let refusal = Refusal::Trial("row 1 scores 3, not 2".to_owned());
        assert_eq!(done(&mut machine, &work, Err(Failure::Refused(refusal))), Some(Stage::Refused));
        assert_eq!(machine.next(now), None, "it is not tried again");
        assert_eq!(
            stage(&machine, "server"),
            Some((Stage::Refused, Some("the trial failed: row 1 scores 3, not 2".to_owned())))
        );
        assert_eq!(machine.stored().slots[&"server".parse().unwrap()].live, Some(installed("pump@1")));
    }
}

#[test]
fn a_newer_assignment_of_a_refused_model_tries_it_again() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    let work = next(&mut machine, Instant::now());
    done(&mut machine, &work, Err(Failure::Refused(Refusal::Unfit("no".to_owned()))));
    assert_eq!(assign(&mut machine, 2, &[slot("server", "pump@1")]).unwrap().len(), 1);
    assert!(machine.next(Instant::now()).is_some());
}

#[test]
fn a_newer_assignment_supersedes_an_older_one_under_way() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    let old = next(&mut machine, Instant::now());
    assign(&mut machine, 2, &[slot("server", "pump@2")]).unwrap();
    assert!(!machine.wants(&old));
    assert_eq!(done(&mut machine, &old, Ok(Reached::Verified(files("pump@1")))), None, "its outcome comes too late");
    assert_eq!(install(&mut machine, "pump@2").last(), Some(&Stage::Live));
}

#[test]
fn a_newer_assignment_of_the_same_model_does_not_start_over() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    let work = next(&mut machine, Instant::now());
    done(&mut machine, &work, Ok(Reached::Verified(files("pump@1"))));
    assert_eq!(assign(&mut machine, 2, &[slot("server", "pump@1")]), Ok(Vec::new()));
    assert!(matches!(next(&mut machine, Instant::now()).task, Task::Fetch(_)));
}

#[test]
fn a_stream_without_an_assignment_goes_back_to_the_baseline() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    install(&mut machine, "pump@1");
    assign(&mut machine, 2, &[]).unwrap();
    let work = next(&mut machine, Instant::now());
    assert_eq!(work.task, Task::Remove);
    done(&mut machine, &work, Ok(Reached::Removed));
    assert_eq!((machine.next(Instant::now()), machine.steps()), (None, Vec::new()));
    assert_eq!(machine.stored().slots[&"server".parse().unwrap()].previous, Some(installed("pump@1")));
}

#[test]
fn a_failure_around_the_model_waits_longer_each_time_and_lets_other_streams_pass() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("host", "load@1"), slot("server", "pump@1")]).unwrap();
    let now = Instant::now();
    let work = next(&mut machine, now);
    assert_eq!(work.stream.as_ref(), "host");
    machine.done(&work, Err(Failure::Later("no route".to_owned())), now, FULL);
    assert_eq!(machine.deadline(), Some(now + RETRY));
    assert_eq!(machine.waiting().map(|(s, why)| (s.as_ref(), why)).collect::<Vec<_>>(), [("host", "no route")]);
    assert_eq!(next(&mut machine, now).stream.as_ref(), "server");
    let work = next(&mut machine, now + RETRY);
    assert_eq!(work.stream.as_ref(), "host");
    machine.done(&work, Err(Failure::Later("no route".to_owned())), now + RETRY, FULL);
    assert_eq!(machine.deadline(), Some(now + RETRY + 2 * RETRY));
}

#[test]
fn a_model_that_kills_the_agent_is_refused_at_the_fourth_start() {
    let mut stored = Stored::default();
    stored.slots.insert(
        "server".parse().unwrap(),
        Slot { target: Target::Install(order("pump@1", Stage::Fetched)), ..Slot::default() },
    );
    for _ in 0..ATTEMPTS_MAX {
        let mut machine = machine(stored);
        assert!(matches!(next(&mut machine, Instant::now()).task, Task::Try(_)));
        stored = machine.stored().clone();
    }
    let mut machine = machine(stored);
    let refused = machine.next(Instant::now()).unwrap().unwrap_err();
    assert_eq!(
        (refused.stage, refused.detail.as_deref()),
        (Stage::Refused, Some("3 attempts ended without an answer"))
    );
    assert_eq!(machine.next(Instant::now()), None);
}

#[test]
fn failures_that_were_answered_are_not_attempts() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    let mut now = Instant::now();
    for _ in 0..10 {
        let work = next(&mut machine, now);
        machine.done(&work, Err(Failure::Later("broker gone".to_owned())), now, FULL);
        now = machine.deadline().unwrap();
    }
}

#[test]
fn a_restart_goes_on_at_the_stored_stage() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    let work = next(&mut machine, Instant::now());
    done(&mut machine, &work, Ok(Reached::Verified(files("pump@1"))));
    let mut again = Machine::new(machine.stored().clone(), ["server".parse().unwrap()].into(), RETRY);
    assert!(matches!(next(&mut again, Instant::now()).task, Task::Fetch(_)));
}

#[test]
fn rotten_files_are_fetched_again() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    let now = Instant::now();
    for reached in [Reached::Verified(files("pump@1")), Reached::Fetched] {
        let work = next(&mut machine, now);
        done(&mut machine, &work, Ok(reached));
    }
    let work = next(&mut machine, now);
    machine.done(&work, Err(Failure::Rotten("a digest does not match".to_owned())), now, 0);
    assert!(matches!(next(&mut machine, now).task, Task::Verify(_)));
}

#[test]
fn a_live_model_that_cannot_be_loaded_is_ordered_again() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@1")]).unwrap();
    install(&mut machine, "pump@1");
    let step = machine.lost(&"server".parse().unwrap(), "the file is gone").unwrap();
    assert_eq!(step.stage, Stage::Assigned);
    assert!(step.detail.unwrap().contains("the file is gone"));
    assert_eq!(install(&mut machine, "pump@1").last(), Some(&Stage::Live));
}

#[test]
fn floors_rise_with_what_was_live_and_never_fall() {
    let mut machine = machine(Stored::default());
    let name = "pump".parse().unwrap();
    for (version, floor) in [(3u32, 3), (4, 2)] {
        assign(&mut machine, u64::from(version), &[slot("server", &format!("pump@{version}"))]).unwrap();
        let now = Instant::now();
        for reached in [
            Reached::Verified(files("x@1")),
            Reached::Fetched,
            Reached::Tried,
            Reached::Live(ModelVersion::new(floor).unwrap()),
        ] {
            let work = next(&mut machine, now);
            done(&mut machine, &work, Ok(reached));
        }
        assert_eq!(machine.stored().floors.get(&name).copied(), ModelVersion::new(3).ok());
    }
    assign(&mut machine, 9, &[slot("server", "pump@2")]).unwrap();
    let Task::Verify(job) = next(&mut machine, Instant::now()).task else { panic!() };
    assert_eq!(job.floor, ModelVersion::new(3).ok());
}

#[test]
fn going_back_to_a_lower_version_is_called_a_rollback() {
    let mut machine = machine(Stored::default());
    assign(&mut machine, 1, &[slot("server", "pump@2")]).unwrap();
    install(&mut machine, "pump@2");
    for (version, model, reason) in [(2, "pump@1", SwapReason::Rollback), (3, "other@1", SwapReason::Assigned)] {
        assign(&mut machine, version, &[slot("server", model)]).unwrap();
        let now = Instant::now();
        for reached in [Reached::Verified(files(model)), Reached::Fetched, Reached::Tried] {
            let work = next(&mut machine, now);
            done(&mut machine, &work, Ok(reached));
        }
        let Task::Swap(_, got) = next(&mut machine, now).task else { panic!() };
        assert_eq!(got, reason);
    }
}

#[test]
fn files_of_the_live_the_previous_and_the_coming_model_are_kept_and_no_others() {
    let mut machine = machine(Stored::default());
    for version in 1..=3 {
        let model = format!("pump@{version}");
        assign(&mut machine, version, &[slot("server", &model)]).unwrap();
        install(&mut machine, &model);
    }
    assign(&mut machine, 4, &[slot("server", "pump@4")]).unwrap();
    let kept = machine.files();
    for (model, is_kept) in [("pump@1", false), ("pump@2", true), ("pump@3", true)] {
        assert_eq!(kept.contains(&files(model).artifact), is_kept, "{model}");
        assert_eq!(kept.contains(&Digest::of(model.as_bytes())), is_kept, "{model}");
    }
    assert!(kept.contains(&Digest::of(b"pump@4")), "its manifest");
}

#[test]
fn a_detail_is_cut_at_a_letter_and_fits_its_message() {
    let long = "ü".repeat(MAX_DETAIL_BYTES);
    let detail = cut(&long);
    assert!(detail.len() <= MAX_DETAIL_BYTES && detail.len() > MAX_DETAIL_BYTES - 2);
}
