//! Messages on the control socket: JSON objects ended by a NUL byte, as in Varlink.
//!
//! The interface is described in `org.berth.Control.varlink`; a test holds that file
//! against the types here. [`frame`] cuts a stream of bytes into messages, [`message`]
//! wraps calls and replies, [`method`] lists the calls, [`types`] what they carry,
//! [`error`] how they fail, and [`exec`] is the binary framing after an upgrade.
//!
//! What must always hold: nothing here does I/O; whatever a peer sends costs at most a
//! bounded amount of memory and gives a message or an error with a name, never a panic.
//! Limits: a message has at most [`MESSAGE_MAX`] bytes, in both directions. What may be
//! longer is an array that is sent in several replies ([`message::Page`]); nothing is
//! cut silently.

mod apply;
mod check;
pub mod error;
pub mod exec;
pub mod frame;
pub mod insight;
pub mod message;
pub mod method;
pub mod types;

pub use error::Error;
pub use frame::{FrameError, Inbox, Outbox};
pub use message::{Mode, Page, Rejection, Reply, Request};
pub use method::{Call, Method};

/// Most bytes of a message, the ending NUL included.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// How full a page of a streamed reply may get: leaves room for the envelope.
pub const PAGE_MAX: usize = MESSAGE_MAX / 2;

/// Most bytes that wait for one client that does not read; then it is cut off.
pub const OUTBOX_MAX: usize = 256 * 1024;

/// Most bytes in the payload of one frame after an upgrade.
pub const FRAME_MAX: usize = 64 * 1024;

/// The name of the interface.
pub const INTERFACE: &str = "org.berth.Control";

/// The interface every Varlink service has.
pub const SERVICE_INTERFACE: &str = "org.varlink.service";

/// The description of [`INTERFACE`], as `GetInterfaceDescription` returns it.
pub const DESCRIPTION: &str = include_str!("org.berth.Control.varlink");

/// The description of [`SERVICE_INTERFACE`].
pub const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// The name of the socket in the runtime directory.
pub const SOCKET_NAME: &str = "control.sock";

/// The description of an interface, if there is one of this name.
pub fn description(interface: &str) -> Option<&'static str> {
    match interface {
        INTERFACE => Some(DESCRIPTION),
        SERVICE_INTERFACE => Some(SERVICE_DESCRIPTION),
        _ => None,
    }
}

/// The last place at or before `at` where `text` may be cut.
fn char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
