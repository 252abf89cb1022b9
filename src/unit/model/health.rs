//! `[service.NAME.health]`: how a running service is checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::At;

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is tried.
    pub check: At<HealthCheck>,
    /// From the end of one to the start of the next, default 10 s.
    pub interval: Duration,
    /// Then it is killed and counts as failed, default 5 s.
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy, default 3.
    pub retries: u32,
    /// Failures in this time after the start do not count, default 0.
    pub start_period: Duration,
    /// Whether an unhealthy service is restarted (default) or only reported.
    pub restart: bool,
}

/// How health is checked. Each runs inside the unit's namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthCheck {
    /// Exit code 0 is healthy.
    Command(Vec<String>),
    /// `GET`; 200 to 399 is healthy.
    Http {
        /// IP address literal, default 127.0.0.1.
        host: String,
        /// Port.
        port: u16,
        /// Path and query, starts with `/`.
        path: String,
    },
    /// A connection succeeds.
    Tcp {
        /// IP address literal, default 127.0.0.1.
        host: String,
        /// Port.
        port: u16,
    },
}
