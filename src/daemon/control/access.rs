//! Who may do what over the control socket.
//!
//! What must always hold: only root of the supervisor's own user namespace (or, of a
//! supervisor that is not root, its own user) may change anything, and nobody from within
//! a container made here, whoever it is there. Members of the control group may look.
//! What cannot be found out counts as a stranger.

use std::os::fd::{AsFd, BorrowedFd};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::protocol::method::Call;
use crate::sys::peer::{self, Home, Place};

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Everything.
    Full,
    /// See what is there, as far as it is nobody's secret: [`only_looks`].
    Look,
    /// Be refused.
    Nothing,
}

/// Whom the socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// The supervisor's own namespaces.
    pub home: Home,
    /// The supervisor's own user.
    pub owner: u32,
    /// Whose members may look.
    pub group: Option<u32>,
}

impl Door {
    /// What the peer of this connection may do.
    pub fn access(&self, socket: BorrowedFd<'_>) -> Access {
        let Ok(who) = peer::credentials(socket.as_fd()) else { return Access::Nothing };
        let access = if who.uid == self.owner {
            Access::Full
        } else if self.is_member(socket, who.gid) {
            Access::Look
        } else {
            return Access::Nothing;
        };
        match self.home.place(socket, who) {
            Ok(Place::Here) => access,
            Ok(Place::Below | Place::OtherUsers) | Err(_) => Access::Nothing,
        }
    }

    fn is_member(&self, socket: BorrowedFd<'_>, primary: u32) -> bool {
        let Some(group) = self.group else { return false };
        primary == group || peer::groups(socket).is_ok_and(|groups| groups.contains(&group))
    }
}

/// Whether a call changes nothing and shows nothing that may be a secret. What services
/// write into their logs is theirs, and often somebody's data.
pub fn only_looks(call: &Call) -> bool {
    match call {
        Call::Version(_)
        | Call::List(_)
        | Call::Status(_)
        | Call::Show(_)
        | Call::Deps(_)
        | Call::Timeline(_)
        | Call::Usage(_)
        | Call::Networks(_)
        | Call::Events(_)
        | Call::GetInfo(_)
        | Call::GetInterfaceDescription(_) => true,
        Call::Start(_)
        | Call::Stop(_)
        | Call::Restart(_)
        | Call::Reload(_)
        | Call::Reset(_)
        | Call::Kill(_)
        | Call::Freeze(_)
        | Call::Thaw(_)
        | Call::Logs(_)
        | Call::Apply(_)
        | Call::Shutdown(_)
        | Call::Upgrade(_)
        | Call::Exec(_)
        | Call::Volumes(_)
        | Call::RemoveVolume(_)
        | Call::Secrets(_)
        | Call::SetSecret(_)
        | Call::RemoveSecret(_) => false,
    }
}

/// Why a call is refused to those who may look.
pub fn refusal(call: &Call) -> String {
    let verb = call.name().rsplit('.').next().unwrap_or_default().to_lowercase();
    format!(
        "{verb} is for root: members of the control group may only look \
         (status, list, show, deps, blame, plot, stats, network, events …)"
    )
}

/// A definition as those who may only look see it: values of variables are often secrets.
pub fn without_secrets(mut definition: Map<String, Value>) -> Map<String, Value> {
    if let Some(Value::Object(variables)) = definition.get_mut("environment") {
        for value in variables.values_mut() {
            *value = Value::String("(for root only)".to_owned());
        }
    }
    definition
}
