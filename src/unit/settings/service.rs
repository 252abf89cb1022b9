//! How a service starts, becomes ready, is restarted and stops.

use super::value::{self, Context, put};
use super::{Section, Setting};
use crate::unit::model::{ExitMatch, Ready, RestartPolicy};
use crate::unit::names;
use crate::unit::syntax::{Node, Value};
use crate::unit::text::quote;

const SERVICE: &[Section] = &[Section::Service];
const LIMIT: &[Section] = &[Section::RestartLimit];

const BAD_TIMES: &[&str] = &["10", "\"10\"", "\"10 parsecs\"", "\"-1s\"", "true", "\"2000years\""];

/// The settings.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(SERVICE, "type", "\"service\" | \"oneshot\"", "\"service\"", |d, v, cx| {
        put(&mut d.service.oneshot, value::choice(v, &[("service", false), ("oneshot", true)], cx));
    })
    .help(
        "A `service` goes on running. A `oneshot` does one thing: it is ready when it \
         has exited with success, and its state is then `done`.",
    )
    .good(&["\"oneshot\"", "\"service\""])
    .bad(&["\"forking\"", "1"]),
    Setting::new(SERVICE, "ready", "string, see help", "\"exec\"", |d, v, cx| {
        put(&mut d.service.ready, ready(v, cx));
    })
    .help(
        "When it counts as ready, so that what requires it may start. `exec`: its \
         program has been executed. `notify`: it has sent `READY=1` as in \
         sd_notify(3). `fd:N`: it has written a newline to descriptor N (3 to 63). \
         `tcp:PORT` or `tcp:ADDRESS:PORT`: something inside its network accepts a \
         connection. `unix:/PATH`: the same for a stream socket inside its root. \
         `path:/PATH`: this path exists inside its root. `health`: the first health \
         check has succeeded. `log:REGEX`: a line of its output matches.",
    )
    .good(&[
        "\"notify\"",
        "\"exec\"",
        "\"fd:3\"",
        "\"tcp:443\"",
        "\"tcp:[::1]:80\"",
        "\"tcp:127.0.0.1:80\"",
        "\"unix:/run/x.sock\"",
        "\"path:/run/x\"",
        "\"log:^ready( now)?$\"",
    ])
    .bad(&[
        "\"notfy\"",
        "\"fd:2\"",
        "\"fd:64\"",
        "\"fd:x\"",
        "\"tcp:0\"",
        "\"tcp:99999\"",
        "\"tcp:example.org:80\"",
        "\"tcp:::1:80\"",
        "\"unix:x\"",
        "\"path:/a/../b\"",
        "\"log:\"",
        "\"log:(\"",
        "\"health\"",
        "3",
    ]),
    Setting::new(SERVICE, "start-timeout", "duration, 0 for none", "\"1min\"", |d, v, cx| {
        value::timeout(&mut d.service.start_timeout, v, cx);
    })
    .help(
        "From the first step until ready (a oneshot: until it has exited). Then the \
         start has failed.",
    )
    .good(&["\"90s\"", "0", "\"0\"", "\"0s\""])
    .bad(BAD_TIMES),
    Setting::new(SERVICE, "stop-timeout", "duration, 0 for none", "\"10s\"", |d, v, cx| {
        value::timeout(&mut d.service.stop_timeout, v, cx);
    })
    .help("From the stop signal until SIGKILL is sent to all that is left in the unit.")
    .good(&["\"500ms\"", "0"])
    .bad(BAD_TIMES),
    Setting::new(SERVICE, "stop-signal", "signal", "\"TERM\"", |d, v, cx| {
        put(&mut d.service.stop_signal, value::signal(v, cx));
    })
    .help("Sent to the main process to stop it.")
    .good(&["\"QUIT\"", "\"SIGINT\"", "\"RTMIN+3\"", "15"])
    .bad(&["\"TREM\"", "0", "65", "33", "\"RTMIN+99\"", "[]"]),
    Setting::new(SERVICE, "reload-signal", "signal", "none", |d, v, cx| {
        value::put_some(&mut d.service.reload_signal, value::signal(v, cx));
    })
    .help("What `berthctl reload` sends to the main process.")
    .good(&["\"HUP\""])
    .bad(&["\"HUPP\"", "\"\"", "true"]),
    Setting::new(
        SERVICE,
        "restart",
        "\"no\" | \"on-failure\" | \"always\" | \"unless-stopped\"",
        "\"on-failure\"",
        |d, v, cx| {
            let words = [
                ("no", RestartPolicy::No),
                ("on-failure", RestartPolicy::OnFailure),
                ("always", RestartPolicy::Always),
                ("unless-stopped", RestartPolicy::UnlessStopped),
            ];
            put(&mut d.service.restart.policy, value::choice(v, &words, cx));
        },
    )
    .help(
        "When to start it again by itself. `on-failure`: after anything that is not \
         success. `always`: after every end that nobody asked for. `unless-stopped`: \
         the same, and a unit that was stopped by hand stays down also after a boot. \
         A oneshot that does not say is not started again.",
    )
    .good(&["\"always\"", "\"no\"", "\"unless-stopped\""])
    .bad(&["\"alway\"", "true", "false"]),
    Setting::new(SERVICE, "restart-delay", "duration", "\"100ms\"", |d, v, cx| {
        put(&mut d.service.restart.delay, value::duration(v, cx));
    })
    .help(
        "Before the first restart; doubles, with jitter, for each one after it. \
         `\"0s\"`: always at once.",
    )
    .good(&["\"1s\"", "\"0s\""])
    .bad(BAD_TIMES),
    Setting::new(SERVICE, "restart-delay-max", "duration", "\"1min\"", |d, v, cx| {
        put(&mut d.service.restart.delay_max, value::duration(v, cx));
    })
    .help("The delay does not grow beyond this.")
    .good(&["\"5min\""])
    .bad(BAD_TIMES),
    Setting::new(SERVICE, "restart-reset", "duration", "\"10s\"", |d, v, cx| {
        put(&mut d.service.restart.reset, value::duration(v, cx));
    })
    .help("After running for this long the delay begins at `restart-delay` again.")
    .good(&["\"1min\""])
    .bad(BAD_TIMES),
    Setting::new(
        SERVICE,
        "restart-limit",
        "table",
        "{ count = 10, window = \"1min\" }",
        |d, v, cx| {
            if let Some(table) = value::table(v, cx) {
                super::apply(Section::RestartLimit, table, d, cx);
            }
        },
    )
    .help(
        "More restarts than `count` within `window`: it is `failed` and stays down \
         until it is started or reset by hand.",
    )
    .good(&["{ count = 3, window = \"30s\" }", "{ count = 0 }"])
    .bad(&["3", "{ counts = 3 }"]),
    Setting::new(LIMIT, "count", "whole number", "10", |d, v, cx| {
        put(&mut d.service.restart.limit_count, value::number(v, 0, 1000, cx));
    })
    .help("0: never give up.")
    .good(&["3", "0"])
    .bad(&["-1", "1001", "\"3\""]),
    Setting::new(LIMIT, "window", "duration", "\"1min\"", |d, v, cx| {
        put(&mut d.service.restart.limit_window, value::positive_duration(v, cx));
    })
    .help("The time in which restarts are counted.")
    .good(&["\"30s\""])
    .bad(&["0", "\"1\"", "30"]),
    Setting::new(
        SERVICE,
        "success-exit-status",
        "list of exit codes and signals",
        "[]",
        |d, v, cx| {
            put(&mut d.service.success_exit_status, value::list(v, "a list", cx, exit_match));
        },
    )
    .help("Ends that count as success besides exit code 0.")
    .good(&["[143, \"TERM\"]"])
    .bad(&["[256]", "[-1]", "[\"TREM\"]", "[1.5]", "143"]),
    Setting::new(SERVICE, "critical", "true | false", "false", |d, v, cx| {
        put(&mut d.service.critical, value::flag(v, cx));
    })
    .help(
        "Its failure ends `berth up`, or a container's process 1, with a code that is \
         not 0.",
    )
    .good(&["true"])
    .bad(&["\"yes\"", "1"]),
    Setting::new(SERVICE, "watchdog", "duration, 0 for none", "\"0s\"", |d, v, cx| {
        value::timeout(&mut d.service.watchdog, v, cx);
    })
    .help(
        "The longest silence between two `WATCHDOG=1` messages as in sd_notify(3). \
         Then it has failed.",
    )
    .good(&["\"30s\"", "\"0s\""])
    .bad(BAD_TIMES),
];

fn exit_match(item: &Node, cx: &mut Context<'_>) -> Option<ExitMatch> {
    match &item.value {
        Value::Integer(_) => value::number(item, 0, 255, cx).map(ExitMatch::Code),
        Value::String(_) => value::signal(item, cx).map(ExitMatch::Signal),
        _ => cx.expected(item, "an exit code or a signal's name"),
    }
}

/// The forms of `ready`.
const FORMS: &str =
    "write exec, notify, health, fd:N, tcp:PORT, unix:/PATH, path:/PATH or log:REGEX";

fn ready(node: &Node, cx: &mut Context<'_>) -> Option<Ready> {
    let text = value::text(node, cx)?;
    let (form, rest) = match text.split_once(':') {
        Some((form, rest)) => (form, Some(rest)),
        None => (text, None),
    };
    let path = |path: &str| match value::path_problem(path) {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(path.to_owned()),
    };
    let read = match (form, rest) {
        ("exec", None) => Ok(Ready::Exec),
        ("notify", None) => Ok(Ready::Notify),
        ("health", None) => Ok(Ready::Health),
        ("fd", Some(number)) => match number.parse::<u32>() {
            Ok(number) if (3..=63).contains(&number) => Ok(Ready::Fd(number)),
            _ => Err("the descriptor must be a number from 3 to 63".to_owned()),
        },
        ("tcp", Some(endpoint)) => match value::endpoint(endpoint) {
            Ok((host, port)) => Ok(Ready::Tcp { host, port }),
            Err(problem) => Err(problem.to_owned()),
        },
        ("unix", Some(rest)) if rest.len() > 107 => {
            Err("a socket's path has at most 107 bytes".to_owned())
        }
        ("unix", Some(rest)) => path(rest).map(Ready::Unix),
        ("path", Some(rest)) => path(rest).map(Ready::Path),
        ("log", Some("")) => Err("the regular expression is empty".to_owned()),
        ("log", Some(regex)) => match value::regex(regex) {
            Ok(()) => Ok(Ready::Log(regex.to_owned())),
            Err(error) => Err(format!("this regular expression is wrong: {error}")),
        },
        _ => {
            let message = format!("{} is not a way to become ready", quote(text));
            let known = ["exec", "notify", "health", "fd", "tcp", "unix", "path", "log"];
            let help = match names::nearest(form, known) {
                Some(near) if rest.is_none() => format!("did you mean \"{near}\"?"),
                _ => FORMS.to_owned(),
            };
            return cx.advise(node, message, help);
        }
    };
    read.map_or_else(|problem| cx.refuse(node, problem), Some)
}
