//! Messages on the control socket: JSON objects ended by a NUL byte, as in Varlink.
