//! User namespaces of the rig's units: a range for each run.

use std::cell::RefCell;

use berth::container::UserNamespace;
use berth::unit::model::{IdMaps, Unit, UserNamespace as Wanted};

/// The first number on the host of the users of a rig's n-th run.
pub fn first_user(run: u32) -> u32 {
    0x7000_0000 + run * 0x1_0000
}

/// The namespace that a unit wants, and whether it cannot do without.
pub fn user_namespace(unit: &Unit, run: u32) -> Option<(UserNamespace, bool)> {
    let (maps, demanded) = match unit.service().unwrap().user_namespace() {
        Wanted::Unset | Wanted::None => return None,
        Wanted::Auto => (IdMaps::one(first_user(run), 0x1_0000), false),
        Wanted::Maps(at) => (at.value.clone(), true),
    };
    let made = UserNamespace::new(&maps).unwrap();
    super::rig::reap_orphans();
    Some((made, demanded))
}

thread_local! {
    /// Why the last unit of this test went on without a user namespace.
    pub static WITHOUT_USERS: RefCell<Option<String>> = const { RefCell::new(None) };
}
