//! A unit's settings as the machine asks for them. Total: a target answers as a service
//! without commands would, so no transition has to ask which of the two it deals with.

use std::time::Duration;

use super::super::{Exit, Time};
use crate::unit::model::{ExitMatch, Health, Ready, Restart, RestartPolicy, Service, Unit};

/// How long a hook may take where the unit gives no bound.
const HOOK_BOUND: Duration = Duration::from_secs(90);

/// A unit's settings.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a>(pub(super) &'a Unit);

impl<'a> Terms<'a> {
    fn service(self) -> Option<&'a Service> {
        self.0.service()
    }

    pub(super) fn is_target(self) -> bool {
        self.service().is_none()
    }

    pub(super) fn oneshot(self) -> bool {
        self.service().is_some_and(|service| service.oneshot)
    }

    pub(super) fn critical(self) -> bool {
        self.service().is_some_and(|service| service.critical)
    }

    pub(super) fn ready(self) -> &'a Ready {
        self.service().map_or(&Ready::Exec, |service| &service.ready)
    }

    /// Whether an exit counts as success.
    pub(super) fn success(self, exit: Exit) -> bool {
        let listed = |wanted: ExitMatch| {
            self.service().is_some_and(|service| service.success_exit_status.contains(&wanted))
        };
        match exit {
            Exit::Code(0) => true,
            Exit::Code(code) => u8::try_from(code).is_ok_and(|code| listed(ExitMatch::Code(code))),
            Exit::Signal(signal) => listed(ExitMatch::Signal(signal)),
            Exit::Unknown => false,
        }
    }

    pub(super) fn restart(self) -> Option<&'a Restart> {
        self.service().map(|service| &service.restart)
    }

    pub(super) fn policy(self) -> RestartPolicy {
        self.restart().map_or(RestartPolicy::No, |restart| restart.policy)
    }

    pub(super) fn start_timeout(self) -> Option<Duration> {
        self.service().and_then(|service| service.start_timeout)
    }

    pub(super) fn stop_timeout(self) -> Option<Duration> {
        self.service().and_then(|service| service.stop_timeout)
    }

    /// The bound of a hook of the stop.
    pub(super) fn stop_hook_bound(self) -> Duration {
        self.stop_timeout().unwrap_or(HOOK_BOUND)
    }

    /// The bound of `reload-command`.
    pub(super) fn reload_bound(self) -> Duration {
        self.start_timeout().unwrap_or(HOOK_BOUND)
    }

    pub(super) fn stop_signal(self) -> i32 {
        const SIGTERM: i32 = 15;
        self.service().map_or(SIGTERM, |service| service.stop_signal)
    }

    pub(super) fn reload_signal(self) -> Option<i32> {
        self.service().and_then(|service| service.reload_signal)
    }

    pub(super) fn reload_command(self) -> bool {
        self.service().is_some_and(|service| service.reload_command.is_some())
    }

    pub(super) fn stop_command(self) -> bool {
        self.service().is_some_and(|service| service.stop_command.is_some())
    }

    pub(super) fn start_pre(self) -> usize {
        self.service().map_or(0, |service| service.start_pre.len())
    }

    pub(super) fn start_post(self) -> usize {
        self.service().map_or(0, |service| service.start_post.len())
    }

    pub(super) fn stop_post(self) -> usize {
        self.service().map_or(0, |service| service.stop_post.len())
    }

    pub(super) fn watchdog(self) -> Option<Duration> {
        self.service().and_then(|service| service.watchdog)
    }

    pub(super) fn health(self) -> Option<&'a Health> {
        self.service().and_then(|service| service.health.as_ref())
    }
}

/// A moment that is later than now, also where the duration is zero: a deadline that has
/// come always moves the machine on, so the loop cannot spin on it.
pub(super) fn later(now: Time, by: Duration) -> Time {
    Time(now.0.saturating_add(by.max(Duration::from_millis(1))))
}
