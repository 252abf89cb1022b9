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
