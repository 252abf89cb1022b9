//! Probes: small helpers that try, from inside a unit's namespaces, whether it is ready
//! or healthy.
