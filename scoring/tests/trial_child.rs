//! The child of the trials in the tests: what the agent's and the registry's hidden command does.

fn main() -> std::process::ExitCode {
    vedette_scoring::trial::child_main()
}
