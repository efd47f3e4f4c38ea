//! Progress on standard error, for people at a terminal only.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts bytes; silent when standard error is no terminal.
#[must_use]
pub fn bytes(total: u64, what: &'static str) -> ProgressBar {
    bar(total, what, "{msg} [{bar:30}] {bytes}/{total_bytes}")
}

/// A bar that counts rows of a file whose length is not known; silent when standard error is no terminal.
#[must_use]
pub fn rows(what: &'static str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    styled(bar, what, "{spinner} {msg} {human_pos} rows, {per_sec}")
}

/// A bar that counts records of a log whose length is not known; silent when standard error is no terminal.
#[must_use]
pub fn records(what: &'static str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    styled(bar, what, "{spinner} {msg} {human_pos} records, {per_sec}")
}

fn bar(total: u64, what: &'static str, template: &str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
    styled(bar, what, template)
}

fn styled(bar: ProgressBar, what: &'static str, template: &str) -> ProgressBar {
    // The templates are the literals above; a wrong one costs only the style.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("=> ")).with_message(what)
}
