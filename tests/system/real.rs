//! Real daemons from Debian packages, in the root file system that `scripts/rootfs
//! quickstart` makes (`scripts/test` runs it), with their own bad habits.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::Rig;

/// Runs these units, with `@ROOT@` standing for the root file system.
fn up(units: &str) -> Rig {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/rootfs/quickstart");
    assert!(root.is_dir(), "{} is missing: run scripts/rootfs quickstart", root.display());
    Rig::up(&units.replace("@ROOT@", &root.display().to_string()))
}

#[test]
fn with_their_default_configuration_they_go_into_the_background() {
    let mut rig = up(r#"
        [service.keep]
        command = "sleep 1000"
        [service.nginx]
        rootfs = "@ROOT@"
        command = "nginx -e stderr"
        restart = "no"
        [service.redis]
        rootfs = "@ROOT@"
        command = "redis-server --daemonize yes --dir /tmp"
        restart = "no"
        [service.httpd]
        rootfs = "@ROOT@"
        command = "busybox httpd -p 8080 -h /srv"
        ready = "tcp:8080"
        restart = "no"
        "#);
    for unit in ["nginx", "redis", "httpd"] {
        rig.wait_state(unit, "failed");
        let (result, why, exit) = rig.verdict(unit);
        assert_eq!((result.as_str(), exit), ("protocol", json!({"code": 0})), "{unit}: {why}");
        assert!(why.contains("background") && why.contains("foreground"), "{unit}: {why}");
    }
    for comm in ["nginx", "redis-server", "busybox"] {
        assert_eq!(rig.descendants(comm), [0; 0], "{comm}");
    }
    assert_eq!(rig.finish(), 0);
}

#[test]
fn redis_says_when_it_is_ready_and_when_it_stops() {
    let mut rig = up(r#"
        [service.keep]
        command = "sleep 1000"
        [service.redis]
        rootfs = "@ROOT@"
        user = "redis"
        command = "redis-server --port 6379 --dir /tmp --daemonize no --supervised systemd"
        ready = "notify"
        restart-delay = "1ms"
        health = { command = ["redis-cli", "ping"], interval = "50ms" }
        [service.user]
        rootfs = "@ROOT@"
        type = "oneshot"
        requires = ["redis"]
        command = "true"
        "#);
    rig.wait_state("user", "done");
    rig.wait_for("a healthy redis", |rig| rig.status("redis")["health"] == "healthy");
    assert_eq!(rig.status("redis")["status_text"], "Ready to accept connections");
    rig.ctl_ok(&["exec", "redis", "--", "redis-cli", "set", "key", "value"]);
    rig.ctl_ok(&["kill", "-s", "KILL", "redis"]);
    rig.wait_for("a new one", |rig| rig.restarts("redis") == 1 && rig.state("redis") == "running");
    let value = rig.ctl_ok(&["exec", "redis", "--", "redis-cli", "get", "key"]);
    assert_eq!(value.trim(), "", "its /tmp is as new as it is");
    rig.ctl_ok(&["stop", "redis"]);
    let (result, _, exit) = rig.verdict("redis");
    assert_eq!((result.as_str(), exit), ("success", json!({"code": 0})));
    assert!(rig.logs("redis").contains("bye bye"), "{}", rig.logs("redis"));
    assert_eq!(rig.finish(), 0);
}

#[test]
fn a_redis_that_hangs_is_replaced() {
    let mut rig = up(r#"
        [service.redis]
        rootfs = "@ROOT@"
        user = "redis"
        command = "redis-server --dir /tmp --daemonize no --supervised systemd --enable-debug-command yes"
        ready = "notify"
        restart-delay = "1ms"
        stop-timeout = "300ms"
        health = { command = ["redis-cli", "ping"], interval = "50ms", timeout = "200ms", retries = 2 }
        "#);
    rig.wait_for("a healthy redis", |rig| rig.status("redis")["health"] == "healthy");
    let mut hang = rig.ctl_command(&["exec", "redis", "--", "redis-cli", "debug", "sleep", "1000"]);
    let mut hang = hang.spawn().unwrap();
    rig.wait_for("a new one", |rig| rig.restarts("redis") == 1);
    rig.wait_for("a healthy one", |rig| rig.status("redis")["health"] == "healthy");
    let why = rig.notices("redis").join("\n");
    assert!(why.contains("unhealthy: 2 checks failed, last: no answer within 200ms"), "{why}");
    assert!(!hang.wait().unwrap().success());
    assert_eq!(rig.finish(), 0);
}

#[test]
fn nginx_serves_writes_to_its_standard_streams_and_drains() {
    let mut rig = up(r#"
        [service.keep]
        command = "sleep 1000"
        [service.nginx]
        rootfs = "@ROOT@"
        command = ["nginx", "-e", "stderr", "-c", "/tmp/nginx.conf"]
        # As another user it opens the pipes of root again.
        user = "www-data"
        start-pre = [["sh", "-c", '''cat >/tmp/nginx.conf <<X
            daemon off; pid /tmp/nginx.pid; error_log /dev/stderr notice; events {}
            http { access_log /dev/stdout; client_body_temp_path /tmp; proxy_temp_path /tmp; fastcgi_temp_path /tmp;
              uwsgi_temp_path /tmp; scgi_temp_path /tmp; server { listen 8080; location / { return 200 "hello\n"; } } }
X''']]
        ready = "tcp:8080"
        stop-signal = "QUIT"
        reload-signal = "HUP"
        health = { http = "http://:8080/", interval = "50ms" }
        "#);
    rig.wait_for("a healthy nginx", |rig| rig.status("nginx")["health"] == "healthy");
    rig.wait_log("nginx", "GET / HTTP/1.");
    rig.ctl_ok(&["reload", "nginx"]);
    rig.wait_log("nginx", "reconfiguring");
    assert!(rig.stream("nginx", "stdout").iter().all(|line| line.contains("GET /")));
    assert!(rig.stream("nginx", "stderr").iter().any(|line| line.contains("start worker process")));
    rig.ctl_ok(&["stop", "nginx"]);
    let (result, _, exit) = rig.verdict("nginx");
    assert_eq!((result.as_str(), exit), ("success", json!({"code": 0})));
    assert_eq!(rig.descendants("nginx"), [0; 0]);
    assert_eq!(rig.finish(), 0);
}

#[test]
fn busybox_ignores_terminate_as_process_one_only() {
    let mut rig = up(r#"
        [service.keep]
        command = "sleep 1000"
        [service.held]
        rootfs = "@ROOT@"
        user = "nobody"
        command = "busybox httpd -f -p 8080 -h /srv"
        ready = "tcp:8080"
        [service.bare]
        rootfs = "@ROOT@"
        user = "nobody"
        init = false
        command = "busybox httpd -f -p 8080 -h /srv"
        ready = "tcp:8080"
        stop-timeout = "300ms"
        "#);
    for (unit, signal, result) in [("held", 15, "success"), ("bare", 9, "timeout")] {
        rig.wait_state(unit, "running");
        let begun = Instant::now();
        rig.ctl_ok(&["stop", unit]);
        assert!(begun.elapsed() < Duration::from_secs(8));
        let verdict = rig.verdict(unit);
        assert_eq!((verdict.0.as_str(), verdict.2), (result, json!({"signal": signal})), "{unit}");
    }
    assert_eq!(rig.finish(), 0);
}
