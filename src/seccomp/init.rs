//! The profile of the tiny init: what it calls, from its execution to its end, and nothing
//! else. It is process 1 of the unit, and no process inside is without a filter.

use super::{Action, Comparison, Condition, Profile, Rule, When, calls};

/// `PR_SET_NAME`, the only thing it wants of prctl(2).
const SET_NAME: u64 = 15;

/// The init's own, and those of the child that becomes it (or says that it cannot).
const NEEDED: [&str; 7] =
    ["execveat", "ppoll", "restart_syscall", "sendmsg", "close", "munmap", "exit_group"];

/// The init's profile.
pub fn init() -> Profile {
    let rule = |calls: Vec<u16>, conditions| Rule {
        calls,
        conditions,
        action: Action::Allow,
        when: When::default(),
    };
    let name =
        Condition { argument: 0, mask: u64::MAX, comparison: Comparison::Equal, value: SET_NAME };
    let needed = NEEDED.iter().filter_map(|name| calls::number(name)).collect();
    let prctl = calls::number("prctl").into_iter().collect();
    Profile {
        rules: vec![rule(needed, Vec::new()), rule(prctl, vec![name])],
        otherwise: Action::REFUSED,
        newer: None,
        flags: 0,
    }
}
