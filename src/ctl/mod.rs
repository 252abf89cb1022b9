//! berthctl: one file per verb; everything it shows comes over the control socket.
