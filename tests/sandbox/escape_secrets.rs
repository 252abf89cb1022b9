//! What another unit, another user of the same unit and the unit itself try with secrets.
//!
//! Each attempt is made twice: as a unit is by default it must fail, and with the one thing
//! that keeps it from succeeding taken away it must succeed.

use berth::container::step::Op;
use berth::unit::model::{At, Id, Namespaces, Service, User};

use super::rig::{Rig, Running, Test, bind, service, unit};
use super::secrets::{VALUE, with_secret};

pub const TESTS: &[Test] = &[
    ("another_unit_looks_through_proc", another_unit_looks_through_proc),
    ("another_unit_reads_the_state_of_the_host", another_unit_reads_the_state_of_the_host),
    ("another_unit_is_shown_a_directory_above_the_state", a_directory_above_the_state),
    ("another_unit_has_its_own_empty_place", another_unit_has_its_own_empty_place),
    ("another_user_of_the_unit_reads_it", another_user_of_the_unit_reads_it),
    ("the_unit_finds_it_in_process_1", the_unit_finds_it_in_process_1),
    ("the_unit_changes_its_secrets", the_unit_changes_its_secrets),
    ("the_unit_takes_the_mount_away", the_unit_takes_the_mount_away),
    ("the_unit_runs_a_program_from_there", the_unit_runs_a_program_from_there),
    ("a_crash_leaves_a_core", a_crash_leaves_a_core),
    ("secrets_are_in_memory_that_is_mounted_without_swap", memory_without_swap),
];

/// A unit that holds the secret until it is ended.
fn victim(rig: &Rig, change: impl FnOnce(&mut Service)) -> Running<'_> {
    let mut unit = unit("victim", &["sh", "-c", "echo up; exec sleep 1000"]);
    with_secret(rig, service(&mut unit));
    change(service(&mut unit));
    let mut running = rig.up(&unit).unwrap();
    assert_eq!(running.line(), "up");
    running
}

/// Whether a script prints the secret.
fn finds(rig: &Rig, script: &str, change: impl FnOnce(&mut Service)) -> bool {
    rig.shell(script, change).output.contains(VALUE)
}

fn as_user(number: u32) -> Option<At<User>> {
    Some(At { value: User { user: Id::Number(number), group: None }, line: 4 })
}

/// Every process that can be seen, by its root.
fn another_unit_looks_through_proc() {
    const LOOK: &str = "cat /proc/[0-9]*/root/run/secrets/pw 2>/dev/null";
    let rig = Rig::new();
    let victim = victim(&rig, |_| {});
    assert!(!finds(&rig, LOOK, |_| {}));
    // The control: among the processes of the host, and with power over them.
    assert!(finds(&rig, LOOK, |s| {
        s.namespaces.value = Namespaces { pid: false, ..Namespaces::ALL };
        s.security.privileged = true;
    }));
    victim.down();
}

/// The host's tree is the root of both units; the state directory is covered.
fn another_unit_reads_the_state_of_the_host() {
    let rig = Rig::new();
    let victim = victim(&rig, |_| {});
    let state = rig.path("state");
    let look = format!(
        "head -c 7 {state}/secret.key; ls {state}/secrets; ls -A {state} {}",
        rig.path("runtime")
    );
    let shown = |rig: &Rig| rig.shell(&look, |_| {}).output;
    let hidden = shown(&rig);
    assert!(!hidden.contains("berthky") && !hidden.contains("pw"), "{hidden}");
    rig.without.set(|op| matches!(op, Op::HideOwn));
    let open = shown(&rig);
    assert!(open.contains("berthky") && open.contains("pw"), "{open}");
    victim.down();
}

/// As somebody does who wants to have the host's disk in view.
fn a_directory_above_the_state() {
    let rig = Rig::new();
    let victim = victim(&rig, |_| {});
    let shown = |rig: &Rig, source: &str| {
        let source = source.to_owned();
        let inside = rig.path("state").strip_prefix(&source).unwrap().to_owned();
        let script = format!("head -c 7 /host{inside}/secret.key; ls /host{inside}/secrets");
        rig.shell(&script, |s| s.mounts.push(bind(&source, "/host"))).output
    };
    for source in [rig.path("state").strip_suffix("/state").unwrap(), "/var/tmp", "/"] {
        let hidden = shown(&rig, source);
        assert!(!hidden.contains("berthky") && !hidden.contains("pw\n"), "{source}: {hidden}");
    }
    rig.without.set(|op| matches!(op, Op::HideOwn));
    let open = shown(&rig, "/var/tmp");
    assert!(open.contains("berthky") && open.contains("pw\n"), "{open}");
    victim.down();
}

fn another_unit_has_its_own_empty_place() {
    let rig = Rig::new();
    let victim = victim(&rig, |_| {});
    let look = "find /run /tmp /dev /proc/self/fd -name pw -exec cat {} +; grep -c secrets /proc/self/mountinfo";
    assert_eq!(rig.shell(look, |_| {}).output, "0\n");
    assert!(finds(&rig, look, |s| with_secret(&rig, s)), "the control: its own");
    victim.down();
}

fn another_user_of_the_unit_reads_it() {
    let rig = Rig::new();
    let mut victim = victim(&rig, |s| s.user = as_user(1234));
    let mut read = |number| {
        let argv = ["cat", "/run/secrets/pw"].map(str::to_owned).to_vec();
        let user = Some(User { user: Id::Number(number), group: None });
        let exec = berth::container::Exec { argv, user, ..Default::default() };
        victim.exec(&exec).unwrap().output
    };
    let denied = read(1235);
    assert!(denied.contains("Permission denied"), "{denied}");
    assert_eq!(read(1234), VALUE);
    victim.down();
}

/// Process 1 was a copy of berth that had read the secret, until it became the init.
fn the_unit_finds_it_in_process_1() {
    const LOOK: &str = "use strict; my ($pid) = @ARGV; my $own = ''; \
        if ($pid eq 'self') { open(my $f, '<', '/run/secrets/pw') or die; $own = <$f> } \
        open(my $maps, '<', qq(/proc/$pid/maps)) or die qq(maps: $!); \
        open(my $memory, '<', qq(/proc/$pid/mem)) or die qq(mem: $!); \
        my ($found, $bytes) = (0, 0); my $word = join(' ', 'value', 'of', 'the', 'secret'); \
        while (my $line = <$maps>) { \
            my ($begin, $end) = $line =~ /^([0-9a-f]+)-([0-9a-f]+) r/ or next; \
            seek($memory, hex($begin), 0) or next; \
            my $read = sysseek($memory, hex($begin), 0) && sysread($memory, my $part, hex($end) - hex($begin)) or next; \
            $bytes += $read; $found++ if $part =~ /value of the secret/ && $pid ne 'self'; \
            $found++ if $pid eq 'self' && $line =~ /heap/ && index($part, $own) >= 0 } \
        print $bytes > 0 ? 'looked' : 'blind', ' ', $found > 0 ? 'found' : 'nothing'";
    let rig = Rig::new();
    let look = |who: &str| {
        let mut unit = unit("web", &["perl", "-e", LOOK, who]);
        with_secret(&rig, service(&mut unit));
        service(&mut unit).security.privileged = true;
        rig.run(&unit).output
    };
    assert_eq!(look("1"), "looked nothing");
    assert_eq!(look("self"), "looked found");
}

fn the_unit_changes_its_secrets() {
    const CHANGE: &str = "(echo x > /run/secrets/pw; rm -f /run/secrets/pw; touch /run/secrets/new) 2>/dev/null; ls /run/secrets";
    let rig = Rig::new();
    assert_eq!(rig.shell(CHANGE, |s| with_secret(&rig, s)).output, "pw\n");
    let remount = format!("mount -o remount,bind,rw /run/secrets && {CHANGE}");
    let denied = rig.shell(&remount, |s| with_secret(&rig, s)).output;
    assert!(denied.contains("permission denied"), "{denied}");
    let open = rig.shell(&remount, |s| {
        with_secret(&rig, s);
        s.security.privileged = true;
    });
    assert_eq!(open.output, "new\n", "the control: with the power to mount");
}

fn the_unit_takes_the_mount_away() {
    let rig = Rig::new();
    let script = "umount /run/secrets 2>/dev/null; ls /run/secrets";
    assert_eq!(rig.shell(script, |s| with_secret(&rig, s)).output, "pw\n");
    let away = rig.shell(script, |s| {
        with_secret(&rig, s);
        s.security.privileged = true;
    });
    assert_eq!(away.output, "");
}

fn the_unit_runs_a_program_from_there() {
    let rig = Rig::new();
    let script = rig.file("script", "#!/bin/sh\necho it runs\n");
    let run = |place: &str, rig: &Rig| {
        let place = place.to_owned();
        rig.shell(&format!("{place}; echo"), |s| {
            with_secret(rig, s);
            let wanted = &mut s.secrets.uses[0].value;
            wanted.mode = 0o500;
            wanted.source = berth::unit::model::SecretSource::File(script.clone());
        })
        .output
    };
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(run("/run/secrets/pw", &rig).contains("Permission denied"));
    let copied = "cp /run/secrets/pw /tmp/pw && /tmp/pw";
    assert!(run(copied, &rig).contains("it runs"), "the control: the same program elsewhere");
}

/// The flag that wait(2) gives says whether the kernel wrote one.
fn a_crash_leaves_a_core() {
    const CRASH: &str = "chdir '/tmp' or die; my $pid = fork; if (!$pid) { kill 'ABRT', $$; sleep 10 } \
        waitpid($pid, 0); print $? & 128 ? 'core' : 'none'";
    let rig = Rig::new();
    let crash = |core: Option<u64>| {
        let mut unit = unit("web", &["perl", "-e", CRASH]);
        with_secret(&rig, service(&mut unit));
        service(&mut unit).limits.core = core.map(|value| At { value, line: 9 });
        rig.run(&unit).output
    };
    assert_eq!(crash(None), "none");
    assert_eq!(crash(Some(u64::from(u32::MAX))), "core");
}

/// What that keeps from happening cannot be tried without swapping the whole machine.
fn memory_without_swap() {
    let rig = Rig::new();
    let options = |place: &str| {
        let script = format!("grep ' {place} ' /proc/self/mountinfo");
        rig.shell(&script, |s| with_secret(&rig, s)).good()
    };
    let secrets = options("/run/secrets");
    let never = secrets.contains("- ramfs ") || secrets.contains(",noswap");
    assert!(never, "{secrets}");
    let other = options("/tmp");
    assert!(other.contains("- tmpfs ") && !other.contains("noswap"), "the control: {other}");
}
