# shellcheck shell=sh disable=SC2317,SC1010,SC2013
# Containers on a kernel that berth has for itself.

check_the_demo_comes_up() {
    berthctl apply /srv/demo/examples/quickstart.toml
    for name in redis worker web; do until_ok state_is "$name" running; done
    page() { busybox wget -q -O - http://127.0.0.1:8088/ | grep -q 'Tick [0-9]'; }
    until_ok page
    # It stays up: the power-off is to find it running.
}

check_a_container_is_one() {
    until_ok state_is redis running
    berthctl exec redis -- sh -c '
        [ "$(readlink /proc/self/ns/pid)" != "'"$(readlink /proc/1/ns/pid)"'" ] &&
        [ "$(hostname)" = redis ] && [ ! -e /srv/checks ] && [ "$(id -un)" = redis ] &&
        ! touch /proc/sys/kernel/hostname'
}

check_nothing_of_a_stopped_container_is_left() {
    unit brief <<-END
	[service.brief]
	rootfs  = "/srv/demo/.cache/rootfs/quickstart"
	command = ["sh", "-c", "sleep 1000 & sleep 1000"]
	wanted-by = []
	END
    mounts=$(wc -l </proc/self/mountinfo)
    for _ in 1 2 3; do
        berthctl start brief
        berthctl stop brief
    done
    ! ls -d /sys/fs/cgroup/berth-1-*/brief
    [ "$mounts" = "$(wc -l </proc/self/mountinfo)" ]
}

check_a_killed_service_comes_back() {
    unit lively <<-END
	[service.lively]
	command       = ["sleep", "1000"]
	restart-delay = "10ms"
	END
    berthctl start lively
    first=$(field lively main_pid)
    kill -9 "$first"
    again() { state_is lively running && [ "$(field lively main_pid)" != "$first" ]; }
    until_ok again
    berthctl stop lively
}

check_berth_inside_berth() {
    mkdir -p /srv/nested
    cat >/srv/nested/inside.toml <<-END
	[service.inside]
	isolation = "none"
	command = ["sh", "-c", "trap 'echo inside ended; exit 0' TERM; echo inside is \$\$; while :; do sleep 0.2; done"]
	END
    unit outside <<-END
	[service.outside]
	command   = ["/sbin/berth", "--config", "/srv/nested"]
	init      = false
	wanted-by = []
	mounts    = [{ type = "bind", source = "/srv/nested", target = "/srv/nested", read-only = true }]
	END
    berthctl start outside
    # Its services' output is its own, with their names.
    until_ok log_has outside 'inside.*| inside is'
    # It is process 1 there, sees no other process, and could not write down its state.
    berthctl exec outside -- sh -c '[ "$(cat /proc/1/comm)" = berth ] && [ -z "$(pidof agetty)" ]'
    log_has outside 'logs and volumes are in memory'
    berthctl stop outside
    log_has outside 'inside ended'
    [ "$(field outside result)" = success ]
}

check_berth_inside_berth_with_limits() {
    mkdir -p /srv/nested-2
    cat >/srv/nested-2/inside.toml <<-END
	[service.inside]
	isolation = "none"
	command   = ["sh", "-c", "echo inside is up; exec sleep 1000"]
	limits    = { memory = "32M", pids = 7, cpu = 0.5 }
	[service.greedy]
	isolation = "none"
	restart   = "no"
	command   = ["sh", "-c", "head -c 200M /dev/zero | tail -c 150M >/dev/null"]
	limits    = { memory = "16M", swap = 0 }
	END
    for init in true false; do
        unit "outside-$init" <<-END
	[service.outside-$init]
	command   = ["/sbin/berth", "--config", "/srv/nested-2", "--runtime-dir", "/tmp/run", "--state-dir", "/tmp/state"]
	init      = $init
	writable  = "ephemeral"
	wanted-by = []
	mounts    = [{ type = "bind", source = "/srv/nested-2", target = "/srv/nested-2", read-only = true }]
	limits    = { delegate = true, memory = "128M", pids = 100 }
	END
        berthctl start "outside-$init"
        inside_runs() { berthctl exec "outside-$init" -- berthctl --runtime-dir /tmp/run status inside | grep -q 'state.*running'; }
        until_ok inside_runs
        outer=$(field "outside-$init" cgroup)
        inner=$(ls -d "$outer"/home/berth-*/inside)
        [ "$(cat "$outer/memory.max" "$outer/pids.max" | xargs)" = '134217728 100' ]
        [ "$(cat "$inner/memory.max" "$inner/pids.max" "$inner/cpu.max" | xargs)" = '33554432 7 50000 100000' ]
        grep -q . "$inner/cgroup.procs"
        ! log_has "outside-$init" 'not enforced'
        # What the unit is held to is not its own to change; what it may make is.
        ! berthctl exec "outside-$init" -- sh -c 'echo max >/sys/fs/cgroup/memory.max'
        [ "$(cat "$outer/home/memory.max")" = max ]
        berthctl exec "outside-$init" -- sh -c 'mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine'
        # The kill inside is counted inside, and outside too, as it was of the unit.
        counted() { [ "$(field "outside-$init" oom_kills)" -ge 1 ]; }
        until_ok counted
        until_ok log_has "outside-$init" 'greedy: failed'
        state_is "outside-$init" running
        berthctl stop "outside-$init"
        ! ls -d "$outer"
    done
}

check_containers_inside_a_container() {
    mkdir -p /srv/nested-3
    cat >/srv/nested-3/inside.toml <<-END
	[service.boxed]
	command   = ["sh", "-c", "readlink /proc/self/ns/pid; exec sleep 1000"]
	limits    = { memory = "32M", pids = 7 }
	[service.boxed.security]
	user-namespace = "none"
	END
    unit ship <<-END
	[service.ship]
	command   = ["/sbin/berth", "--config", "/srv/nested-3"]
	init      = false
	writable  = "ephemeral"
	wanted-by = []
	mounts    = [{ type = "bind", source = "/srv/nested-3", target = "/srv/nested-3", read-only = true }]
	limits    = { delegate = true }
	security  = { privileged = true }
	END
    berthctl start ship
    boxed_runs() { berthctl exec ship -- berthctl status boxed | grep -q 'state.*running'; }
    until_ok boxed_runs
    # A pid namespace below that of the one below this one.
    inner=$(cat "$(ls -d /sys/fs/cgroup/berth-1-*/ship/home/berth-*/boxed)/cgroup.procs" | head -n 1)
    [ "$(grep -c . "/proc/$inner/uid_map")" = 1 ]
    [ "$(sed -n 's/^NSpid://p' "/proc/$inner/status" | wc -w)" = 3 ]
    berthctl stop ship
    ! ls -d /sys/fs/cgroup/berth-1-*/ship
}

check_groups_are_not_a_units_own_unless_it_says_so() {
    unit held <<-END
	[service.held]
	command   = ["sleep", "1000"]
	wanted-by = []
	END
    berthctl start held
    ! berthctl exec held -- mkdir /sys/fs/cgroup/mine
    berthctl stop held
}

# The program that the host pipes core dumps to is told of the one who wants it only.
check_who_crashes_is_not_handed_to_the_host() {
    printf '#!/bin/sh\ncat >"/run/core-of-$1"\n' >/run/keep-core
    chmod 755 /run/keep-core
    before=$(cat /proc/sys/kernel/core_pattern)
    echo '|/run/keep-core %h' >/proc/sys/kernel/core_pattern
    unit crashing <<-END
	[service.silent]
	command   = ["sh", "-c", "kill -ABRT \$\$"]
	restart   = "no"
	wanted-by = []
	[service.telling]
	command   = ["sh", "-c", "kill -ABRT \$\$"]
	restart   = "no"
	wanted-by = []
	limits    = { core = "1M" }
	END
    berthctl start --no-wait silent
    until_ok state_is silent failed
    # The control; and what comes later has come, too.
    berthctl start --no-wait telling
    told() { [ -s /run/core-of-telling ]; }
    until_ok told
    echo "$before" >/proc/sys/kernel/core_pattern
    [ ! -e /run/core-of-silent ]
}

# Where all controllers are of version 2.
check_an_audit_finds_what_is_and_what_is_not() {
    unit audited <<-END
	[service.audited]
	command   = ["sleep", "1000"]
	wanted-by = []
	limits    = { memory = "32M" }
	END
    berthctl start audited
    for defence in devices 'memory limit' 'pids limit'; do
        berthctl audit audited | grep -q "^$defence  *yes"
    done
    berthctl audit
    echo max >"$(field audited cgroup)/memory.max"
    ! berthctl audit audited 2>/run/audit
    grep -q 'does not hold what was promised: memory limit of audited' /run/audit
    berthctl stop audited
}
