//! The stories: promises held by the real programs, each in a scratch folder of its own.
//!
//! One table names them all. A story that needs what this machine lacks (Mosquitto) says so and counts as ignored, never as
//! passed.

mod bad_input;
mod commands;
mod delivery;
mod deployment;
mod evidence;
mod front_door;
mod sources;
mod story;

use libtest_mimic::{Arguments, Failed, Trial};
use vedette_tests::broker::mosquitto_path;

use crate::story::BrokerKind;

/// A story told with each broker.
type Told = fn(BrokerKind) -> anyhow::Result<()>;

const WITH_EACH_BROKER: &[(&str, Told)] = &[
    ("a_record_becomes_an_anomaly_and_reaches_the_registry", delivery::a_record_reaches_the_registry),
    ("a_broker_that_goes_away_loses_nothing_and_doubles_nothing", delivery::a_broker_goes_away),
    ("a_killed_agent_loses_nothing_acknowledged", delivery::an_agent_is_killed),
    ("two_agents_share_a_registry_and_stay_apart", delivery::two_agents),
    ("garbage_on_every_topic_harms_nobody", delivery::garbage_on_every_topic),
    ("a_cloned_box_is_found_out_kept_out_and_released", evidence::a_cloned_box),
    ("samples_of_a_local_topic_are_scored_and_what_is_none_is_refused", sources::a_local_topic),
    ("a_model_reaches_a_device_and_both_ends_say_which_model_scored", deployment::a_model_reaches_a_device),
];

/// A story told once.
type ToldOnce = fn() -> anyhow::Result<()>;

const ONCE: &[(&str, ToldOnce)] = &[
    ("an_auditor_checks_a_box_without_the_box", evidence::an_auditor_without_the_box),
    ("a_bad_model_is_refused_at_push", deployment::bad_models_are_refused_at_push),
    ("a_model_that_rots_after_push_is_refused_on_the_device_and_the_old_one_goes_on", deployment::a_rotten_artifact),
    (
        "a_model_in_the_wrong_unit_is_refused_on_the_device_and_the_old_one_goes_on",
        deployment::a_model_in_the_wrong_unit,
    ),
    ("a_model_comes_over_mqtt_when_only_the_broker_is_reachable", deployment::over_the_broker_only),
    ("a_restarted_agent_runs_its_last_model_with_no_registry", deployment::restart_without_a_registry),
    ("an_unknown_key_names_the_nearest_known_one", bad_input::unknown_key),
    ("a_missing_file_is_named", bad_input::missing_file),
    ("two_agents_on_one_state_folder_are_told_apart", bad_input::two_agents_one_folder),
    ("a_taken_port_is_named", bad_input::taken_port),
    ("a_bad_file_is_refused_with_its_line", bad_input::bad_csv),
    ("every_command_of_the_device_answers_while_the_agent_runs_and_while_it_is_down", commands::at_the_device),
    ("the_demo_tells_what_it_promises", front_door::demo),
    ("every_command_of_the_readme_runs", front_door::readme),
    ("backtest_runs_the_devices_path", bad_input::backtest),
];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = Vec::new();
    for (name, told) in WITH_EACH_BROKER.iter().copied() {
        trials.push(Trial::test(format!("{name}::embedded_broker"), move || finish(told(BrokerKind::Embedded))));
        let missing = mosquitto_path().is_none();
        let trial = Trial::test(format!("{name}::mosquitto"), move || finish(told(BrokerKind::Mosquitto)));
        trials.push(trial.with_ignored_flag(missing));
    }
    trials.extend(ONCE.iter().map(|(name, told)| Trial::test(*name, move || finish(told()))));
    if mosquitto_path().is_none() {
        eprintln!("skipped: the stories with Mosquitto, which is not installed (apt-get install mosquitto)");
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn finish(told: anyhow::Result<()>) -> Result<(), Failed> {
    told.map_err(|error| format!("{error:#}").into())
}
