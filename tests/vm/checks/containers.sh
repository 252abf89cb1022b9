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
