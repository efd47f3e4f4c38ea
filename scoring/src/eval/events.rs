//! Labelled events found, how fast, and false alarms: what an operator lives with at the threshold that is set.

use serde::Serialize;

use super::vus::segments;

/// What counts as found and as false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRules {
    /// An alarm up to this many rows after an event's end still finds it.
    pub tolerance_rows: usize,
    /// An alarm up to this many rows after an event's end is not false.
    pub grace_rows: usize,
}

impl Default for EventRules {
    /// 10 and 60 rows.
    fn default() -> Self {
        EventRules { tolerance_rows: 10, grace_rows: 60 }
    }
}

/// One labelled event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// First labelled row.
    pub first_row: usize,
    /// Last labelled row.
    pub last_row: usize,
    /// Rows from the first labelled row to the first alarm; `None` = missed.
    pub delay_rows: Option<usize>,
}

/// All events of a series, and the alarms outside of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Events {
    /// In order.
    pub events: Vec<Event>,
    /// Runs of alarming rows that touch no event and none of its grace.
    pub false_episodes: usize,
}

impl Events {
    /// Events with an alarm.
    pub fn found(&self) -> usize {
        self.events.iter().filter(|e| e.delay_rows.is_some()).count()
    }

    /// The middle delay of the events found, in rows; the lower of two middle ones.
    pub fn median_delay_rows(&self) -> Option<usize> {
        let mut delays: Vec<usize> = self.events.iter().filter_map(|e| e.delay_rows).collect();
        delays.sort_unstable();
        delays.get(delays.len().checked_sub(1)? / 2).copied()
    }
}

/// Holds `alarms` against `labels`, row by row; an event is a run of labelled rows.
pub fn events(labels: &[bool], alarms: &[bool], rules: EventRules) -> Events {
    let segments = segments(labels);
    let found = |(first, last): &(usize, usize)| {
        let until = (last + 1 + rules.tolerance_rows).min(alarms.len());
        let delay_rows = alarms.get(*first..until).and_then(|rows| rows.iter().position(|a| *a));
        Event { first_row: *first, last_row: *last, delay_rows }
    };
    let mut excused = labels.to_vec();
    excused.resize(alarms.len(), false);
    for (_, last) in &segments {
        let until = (last + 1 + rules.grace_rows).min(excused.len());
        excused[(last + 1).min(until)..until].fill(true);
    }
    let is_false = |(first, last): &&(usize, usize)| !excused[*first..=*last].contains(&true);
    let alarmed = super::vus::segments(alarms);
    Events { events: segments.iter().map(found).collect(), false_episodes: alarmed.iter().filter(is_false).count() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<bool> {
        text.bytes().map(|b| b == b'x').collect()
    }

    #[test]
    fn delays_late_hits_misses_and_false_episodes_are_told_apart() {
        let labels = rows("....xxx........xx............x");
        let alarms = rows(".xx...x.x...........xx..xx.x..");
        let found = events(&labels, &alarms, EventRules { tolerance_rows: 2, grace_rows: 5 });
        let delays: Vec<_> = found.events.iter().map(|e| e.delay_rows).collect();
        assert_eq!(delays, [Some(2), None, None]);
        assert_eq!(found.false_episodes, 3); // rows 1-2, 24-25 and 27; 8 and 20-21 are excused
        assert_eq!((found.found(), found.median_delay_rows()), (1, Some(2)));
    }
}
