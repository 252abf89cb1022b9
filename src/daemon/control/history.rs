//! The last events, for `events --since`.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::protocol::types::Event;

/// How many are remembered.
pub const MOST: usize = 500;

/// The last [`MOST`] events, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct History {
    events: VecDeque<(Timestamp, Event)>,
}

impl History {
    /// Remembers one.
    pub fn add(&mut self, time: Timestamp, event: Event) {
        if self.events.len() >= MOST {
            self.events.pop_front();
        }
        self.events.push_back((time, event));
    }

    /// Those at or after a time.
    pub fn since(&self, time: Timestamp) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |(when, _)| *when >= time).map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::types::State;

    #[test]
    fn only_the_last_are_kept_and_since_cuts() {
        let mut history = History::default();
        for second in 0..1500_i64 {
            let time = Timestamp::from_second(second).unwrap();
            let event = Event {
                time: time.to_string(),
                unit: format!("u{second}"),
                state: State::Running,
                why: String::new(),
                exit: None,
                grave: false,
            };
            history.add(time, event);
        }
        assert_eq!(history.since(Timestamp::UNIX_EPOCH).count(), MOST);
        let late: Vec<&str> = history
            .since(Timestamp::from_second(1498).unwrap())
            .map(|event| event.unit.as_str())
            .collect();
        assert_eq!(late, ["u1498", "u1499"]);
    }
}
