//! A typed unit as its file would spell it: what `berthctl show` prints.
//!
//! What must always hold: written into a unit file, the settings give the same unit again
//! (`tests/diag` holds that against the table of settings); a setting that a line asked for
//! is an object of `value` and `line`. Structures are taken apart field by field, so that
//! one that is added cannot be forgotten here.

use std::time::Duration;

use serde_json::{Map, Value, json};

mod limits;

use super::model::Unset;
use super::model::{
    At, Capabilities, CapabilitySet, ExitMatch, Health, HealthCheck, Id, IdRange, Kind, Log,
    LogDriver, Membership, Mount, MountSource, Namespaces, Networking, Propagation, Ready, Restart,
    RestartPolicy, Rootfs, Seccomp, SecretUse, Security, Service, Unit, User, UserNamespace,
    Writable,
};
use super::names;

/// The settings of a unit, without its name and where it was read.
pub fn definition(unit: &Unit) -> Map<String, Value> {
    let Unit {
        name: _,
        file: _,
        line: _,
        description,
        requires,
        wants,
        after,
        before,
        conflicts,
        wanted_by,
        kind,
    } = unit;
    let mut table = Table::default();
    table.put("description", description.as_str());
    let lists = [
        ("requires", requires),
        ("wants", wants),
        ("after", after),
        ("before", before),
        ("conflicts", conflicts),
        ("wanted-by", wanted_by),
    ];
    for (key, names) in lists {
        table.put(key, names.as_slice());
    }
    match kind {
        Kind::Service(service) => run(service, &mut table),
        Kind::Target => {}
    }
    table.0
}

/// Keys and values.
#[derive(Default)]
struct Table(Map<String, Value>);

impl Table {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Only if it is set.
    fn some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// With its line.
    fn at<T>(&mut self, key: &str, at: &At<T>, value: impl Into<Value>) {
        self.put(key, placed(at, value));
    }
}

fn placed<T>(at: &At<T>, value: impl Into<Value>) -> Value {
    let value: Value = value.into();
    json!({ "value": value, "line": at.line })
}

fn run(service: &Service, table: &mut Table) {
    let Service {
        command,
        rootfs,
        writable,
        namespaces,
        user,
        working_directory,
        environment,
        environment_files,
        hostname,
        mounts,
        umask,
        security,
        secrets,
        init,
        oneshot,
        ready,
        restart,
        success_exit_status,
        critical,
        start_timeout,
        stop_timeout,
        stop_signal,
        reload_signal,
        reload_command,
        stop_command,
        start_pre,
        start_post,
        stop_post,
        watchdog,
        limits,
        health,
        log,
        networking,
    } = service;
    table.at("command", command, command.value.as_slice());
    isolation(namespaces, networking, table);
    if namespaces.value.mount {
        root(rootfs, *writable, table);
        let mounts: Vec<Value> = mounts.iter().map(|at| placed(at, mount(&at.value))).collect();
        table.put("mounts", mounts);
        let secrets = secrets.uses.iter();
        let secrets: Vec<Value> = secrets.map(|at| placed(at, secret(&at.value))).collect();
        table.put("secrets", secrets);
    }
    if namespaces.value.pid {
        table.put("init", *init);
    }
    table.some("user", user.as_ref().map(|at| placed(at, user_text(&at.value))));
    table.at("working-directory", working_directory, working_directory.value.as_str());
    let variables = environment.iter().map(|(name, value)| (name.clone(), json!(value)));
    table.put("environment", Value::Object(variables.collect()));
    let files: Vec<Value> =
        environment_files.iter().map(|at| placed(at, at.value.as_str())).collect();
    table.put("environment-files", files);
    table.some("hostname", hostname.as_ref().map(|at| placed(at, at.value.as_str())));
    table.put("umask", mode(*umask));
    table.put("security", securing(security, namespaces.value));
    table.put("type", if *oneshot { "oneshot" } else { "service" });
    if !*oneshot {
        table.put("ready", ready_text(ready));
    }
    restarting(restart, table);
    let success: Vec<Value> = success_exit_status.iter().copied().map(exit_match).collect();
    table.put("success-exit-status", success);
    table.put("critical", *critical);
    table.put("start-timeout", timeout(*start_timeout));
    table.put("stop-timeout", timeout(*stop_timeout));
    table.put("stop-signal", names::signal_name(*stop_signal));
    table.some("reload-signal", reload_signal.map(names::signal_name));
    for (key, command) in [("reload-command", reload_command), ("stop-command", stop_command)] {
        let none = At::default_value(Vec::new());
        let command = command.as_ref().unwrap_or(&none);
        table.at(key, command, command.value.as_slice());
    }
    let hooks = [("start-pre", start_pre), ("start-post", start_post), ("stop-post", stop_post)];
    for (key, commands) in hooks {
        let commands: Vec<Value> =
            commands.iter().map(|at| placed(at, at.value.as_slice())).collect();
        table.put(key, commands);
    }
    table.put("watchdog", timeout(*watchdog));
    table.put("limits", limits::limiting(limits));
    table.some("health", health.as_ref().map(checking));
    let Log { max_size, max_files, driver } = log;
    let driver = match driver {
        LogDriver::File => "file",
        LogDriver::Console => "console",
        LogDriver::None => "none",
    };
    let max_size = size(*max_size);
    table.put("log", json!({ "max-size": max_size, "max-files": max_files, "driver": driver }));
}

/// Where its value is found is said by the table of the secret itself.
fn secret(used: &SecretUse) -> Value {
    let SecretUse { secret, target, uid, gid, mode: permissions, source: _ } = used;
    let mut table = Table::default();
    table.put("secret", secret.as_str());
    table.put("target", target.as_str());
    table.some("uid", *uid);
    table.some("gid", *gid);
    table.put("mode", mode(*permissions));
    Value::Object(table.0)
}

fn securing(security: &Security, own: Namespaces) -> Value {
    let Security {
        no_new_privileges,
        capabilities,
        privileged,
        user_namespace,
        seccomp,
        masked_paths,
        read_only_paths,
        writable_paths,
        apparmor,
        selinux,
        devices,
        sysctls,
    } = security;
    let mut table = Table::default();
    let paths = |list: &[At<String>]| -> Vec<Value> {
        list.iter().map(|at| placed(at, at.value.as_str())).collect()
    };
    table.some(
        "devices",
        devices.as_ref().map(|list| -> Vec<Value> {
            list.iter().map(|at| placed(at, at.value.to_string())).collect()
        }),
    );
    if !sysctls.is_empty() {
        let entries =
            sysctls.iter().map(|at| (at.value.name(), placed(at, at.value.value.as_str())));
        table.put("sysctls", Value::Object(entries.collect()));
    }
    if own.mount {
        table.put("masked-paths", paths(masked_paths));
    }
    table.put("read-only-paths", paths(read_only_paths));
    for (key, label) in [("apparmor", apparmor), ("selinux", selinux)] {
        table.some(key, label.as_ref().map(|at| placed(at, at.value.as_str())));
    }
    table.some("writable-paths", writable_paths.as_deref().map(paths));
    table.some("no-new-privileges", *no_new_privileges);
    let list = |at: &At<CapabilitySet>| placed(at, at.value.words());
    match capabilities {
        Capabilities::Default => {}
        Capabilities::Exactly(set) => table.put("capabilities", list(set)),
        Capabilities::Changed { add, drop } => {
            table.put("capabilities-add", list(add));
            table.put("capabilities-drop", list(drop));
        }
    }
    table.put("privileged", *privileged);
    match user_namespace {
        UserNamespace::Unset => {}
        UserNamespace::Auto => table.put("user-namespace", "auto"),
        UserNamespace::None => table.put("user-namespace", "none"),
        UserNamespace::Maps(at) => {
            let list = |map: &[IdRange]| map.iter().map(ToString::to_string).collect();
            let (uid, gid): (Vec<String>, Vec<String>) = (list(&at.value.uid), list(&at.value.gid));
            table.put("user-namespace", placed(at, json!({ "uid": uid, "gid": gid })));
        }
    }
    if let Some(at) = seccomp {
        let word = match &at.value {
            Seccomp::Default => "default",
            Seccomp::Unconfined => "unconfined",
            Seccomp::Profile { path, .. } => path,
        };
        table.at("seccomp", at, word);
    }
    Value::Object(table.0)
}

fn isolation(at: &At<Namespaces>, networking: &Networking, table: &mut Table) {
    let private = *networking == *Networking::UNSET;
    if !private {
        neighbours(networking, table);
    }
    let all_but_network = Namespaces { network: false, ..Namespaces::ALL };
    let Namespaces { mount, pid, ipc, uts, cgroup, network } = at.value;
    if at.value == Namespaces::NONE {
        return table.at("isolation", at, "none");
    }
    if at.value == Namespaces::ALL || at.value == all_but_network {
        table.at("isolation", at, "container");
        if private {
            table.put("network", if network { "private" } else { "host" });
        }
        return;
    }
    let flags = [
        ("mount", mount),
        ("pid", pid),
        ("ipc", ipc),
        ("uts", uts),
        ("cgroup", cgroup),
        ("network", network),
    ];
    let list: Vec<&str> = flags.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    table.at("isolation", at, list);
}

fn neighbours(networking: &Networking, table: &mut Table) {
    let Networking { memberships, ports, owner } = networking;
    if let Some(owner) = owner {
        return table.at("network", owner, format!("service:{}", owner.value));
    }
    let member = |membership: &Membership| {
        let Membership { network, fixed, aliases } = membership;
        let mut table = Table::default();
        for address in fixed {
            table.put(if address.is_ipv4() { "ip" } else { "ip6" }, address.to_string());
        }
        table.put("aliases", aliases.as_slice());
        (network.value.name.clone(), Value::Object(table.0))
    };
    let plain = |it: &Membership| it.fixed.is_empty() && it.aliases.is_empty();
    table.put(
        "networks",
        if memberships.iter().all(plain) {
            memberships.iter().map(|it| it.network.value.name.as_str()).collect()
        } else {
            Value::Object(memberships.iter().map(member).collect())
        },
    );
    let ports: Vec<Value> = ports.iter().map(|at| placed(at, at.value.to_string())).collect();
    table.put("ports", ports);
}

fn root(rootfs: &At<Rootfs>, writable: Writable, table: &mut Table) {
    let tree = match &rootfs.value {
        Rootfs::Host => "host",
        Rootfs::Directory(path) => path,
    };
    table.at("rootfs", rootfs, tree);
    let mode = if writable == Writable::Direct { "direct" } else { "overlay" };
    table.put("rootfs-mode", mode);
    let word = match writable {
        Writable::Ephemeral => "ephemeral",
        Writable::Persistent => "persistent",
        Writable::None => "none",
        Writable::Direct => return,
    };
    table.put("writable", word);
}

fn restarting(restart: &Restart, table: &mut Table) {
    let Restart { policy, delay, delay_max, reset, limit_count, limit_window } = restart;
    let word = match policy {
        RestartPolicy::No => "no",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Always => "always",
        RestartPolicy::UnlessStopped => "unless-stopped",
    };
    table.put("restart", word);
    table.put("restart-delay", duration(*delay));
    table.put("restart-delay-max", duration(*delay_max));
    table.put("restart-reset", duration(*reset));
    let window = duration(*limit_window);
    table.put("restart-limit", json!({ "count": limit_count, "window": window }));
}

fn mount(mount: &Mount) -> Value {
    let Mount { source, target, read_only } = mount;
    let mut table = Table::default();
    match source {
        MountSource::Bind { path, propagation, recursive } => {
            let word = match propagation {
                Propagation::Private => "private",
                Propagation::Slave => "slave",
                Propagation::Shared => "shared",
            };
            table.put("type", "bind");
            table.put("source", path.as_str());
            table.put("propagation", word);
            table.put("recursive", *recursive);
        }
        MountSource::Volume { name } => {
            table.put("type", "volume");
            table.put("source", name.as_str());
        }
        MountSource::Tmpfs { size: bytes, mode: bits } => {
            table.put("type", "tmpfs");
            table.some("size", bytes.map(size));
            table.put("mode", mode(*bits));
        }
    }
    table.put("target", target.as_str());
    table.put("read-only", *read_only);
    Value::Object(table.0)
}

fn checking(health: &Health) -> Value {
    let Health { check, interval, timeout, retries, start_period, restart } = health;
    let mut table = Table::default();
    match &check.value {
        HealthCheck::Command(command) => table.at("command", check, command.as_slice()),
        HealthCheck::Http { host, port, path } => {
            table.at("http", check, format!("http://{}{path}", endpoint(host, *port)));
        }
        HealthCheck::Tcp { host, port } => table.at("tcp", check, endpoint(host, *port)),
    }
    table.put("interval", duration(*interval));
    table.put("timeout", duration(*timeout));
    table.put("retries", *retries);
    table.put("start-period", duration(*start_period));
    table.put("on-failure", if *restart { "restart" } else { "none" });
    Value::Object(table.0)
}

fn ready_text(ready: &Ready) -> String {
    match ready {
        Ready::Exec => "exec".to_owned(),
        Ready::Notify => "notify".to_owned(),
        Ready::Health => "health".to_owned(),
        Ready::Fd(number) => format!("fd:{number}"),
        Ready::Tcp { host, port } => format!("tcp:{}", endpoint(host, *port)),
        Ready::Unix(path) => format!("unix:{path}"),
        Ready::Path(path) => format!("path:{path}"),
        Ready::Log(expression) => format!("log:{expression}"),
    }
}

fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn user_text(User { user, group }: &User) -> String {
    let id = |id: &Id| match id {
        Id::Name(name) => name.clone(),
        Id::Number(number) => number.to_string(),
    };
    match group {
        Some(group) => format!("{}:{}", id(user), id(group)),
        None => id(user),
    }
}

fn exit_match(exit: ExitMatch) -> Value {
    match exit {
        ExitMatch::Code(code) => json!(code),
        ExitMatch::Signal(number) => json!(names::signal_name(number)),
    }
}

/// Octal, as umask and tmpfs take it.
fn mode(bits: u32) -> String {
    format!("{bits:04o}")
}

/// `1h30m`, `500ms`, `0s`.
fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// None is written as zero.
fn timeout(limit: Option<Duration>) -> String {
    duration(limit.unwrap_or_default())
}

/// `256M` where it is a whole number of them.
fn size(bytes: u64) -> Value {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let whole = units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match whole {
        Some((shift, unit)) => json!(format!("{}{unit}", bytes >> shift)),
        None => json!(bytes),
    }
}
