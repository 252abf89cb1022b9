//! The loop: sources of events in, actions out. It decides nothing.
