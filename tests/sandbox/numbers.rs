//! User namespaces of the rig's units: a range for each run.

use std::cell::RefCell;
use std::collections::BTreeSet;

use berth::container::UserNamespace;
use berth::unit::model::{IdMaps, Unit, UserNamespace as Wanted};

/// The first number on the host of the users of a rig's n-th run.
pub fn first_user(run: u32) -> u32 {
    0x7000_0000 + run * 0x1_0000
}

fn children() -> BTreeSet<i32> {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// The namespace that a unit wants, and whether it cannot do without.
pub fn user_namespace(unit: &Unit, run: u32) -> Option<(UserNamespace, bool)> {
    let (maps, demanded) = match unit.service().unwrap().user_namespace() {
        Wanted::Unset | Wanted::None => return None,
        Wanted::Auto => (IdMaps::one(first_user(run), 0x1_0000), false),
        Wanted::Maps(at) => (at.value.clone(), true),
    };
    let before = children();
    let made = UserNamespace::new(&maps).unwrap();
    // The one that made it, and no other that a test may be waiting for.
    for maker in children().difference(&before) {
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(*maker), None).unwrap();
    }
    Some((made, demanded))
}

thread_local! {
    /// What the last unit of this test does not get.
    pub static LACKS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// Why the last unit of this test went on without a user namespace.
    pub static WITHOUT_USERS: RefCell<Option<String>> = const { RefCell::new(None) };
}
