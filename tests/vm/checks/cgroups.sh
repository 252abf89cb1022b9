# shellcheck shell=sh disable=SC2317,SC1010,SC2013
# Limits that only a version 2 tree with all controllers enforces.

# The directory of a unit's control group, and one value in it.
group() { printf '/sys/fs/cgroup%s' "$(sed -n 's/^0:://p' "/proc/$(field "$1" main_pid)/cgroup")"; }
value() { awk -v key="$2" '$1 == key { print $2 }' "$1"; }

check_all_controllers_are_there() {
    all=$(cat /sys/fs/cgroup/berth-1-*/cgroup.subtree_control)
    for controller in cpu cpuset io memory pids; do
        case " $all " in *" $controller "*) ;; *) return 1 ;; esac
    done
    ! berthctl logs berth | grep -q 'limits are not enforced'
}

check_pressure_is_measured() { [ -r /proc/pressure/memory ]; }

check_memory_max() {
    unit hungry <<-END
	[service.hungry]
	command   = ["sh", "-c", "head -c 200M /dev/zero | tail -c 150M | wc -c; sleep 1000"]
	restart   = "no"
	wanted-by = []
	[service.hungry.limits]
	memory = "16M"
	swap   = "0"
	END
    berthctl start --no-wait hungry
    killed() { dmesg | grep -q "oom-kill:constraint=CONSTRAINT_MEMCG.*berth-1-.*/hungry"; }
    until_ok killed
    berthctl stop hungry
}

check_memory_max_leaves_others_alone() {
    unit frugal <<-END
	[service.frugal]
	command = ["sleep", "1000"]
	[service.frugal.limits]
	memory = "16M"
	memory-high = "12M"
	swap = "1M"
	END
    berthctl start frugal
    [ "$(cat "$(group frugal)/memory.max")" = 16777216 ]
    [ "$(cat "$(group frugal)/memory.high")" = 12582912 ]
    [ "$(cat "$(group frugal)/memory.swap.max")" = 1048576 ]
    [ "$(value "$(group frugal)/memory.events" oom_kill)" = 0 ]
    berthctl stop frugal
}

check_cpu_max() {
    unit burner <<-END
	[service.burner]
	command = ["sh", "-c", "while :; do :; done"]
	[service.burner.limits]
	cpu = 0.2
	cpu-weight = 50
	END
    berthctl start burner
    group=$(group burner)
    [ "$(cat "$group/cpu.max")" = "20000 100000" ]
    [ "$(cat "$group/cpu.weight")" = 50 ]
    throttled() { [ "$(value "$group/cpu.stat" nr_throttled)" -ge 5 ]; }
    until_ok throttled
    # Of the time that has passed it had a fifth, and not much more.
    used=$(value "$group/cpu.stat" usage_usec) begun=$(date +%s%N)
    sleep 2
    used=$(($(value "$group/cpu.stat" usage_usec) - used))
    passed=$((($(date +%s%N) - begun) / 1000))
    [ $((used * 100 / passed)) -lt 35 ]
    berthctl stop burner
}

check_pids_max() {
    unit forker <<-END
	[service.forker]
	command = ["sh", "-c", "while :; do sleep 1000 & done"]
	restart = "no"
	[service.forker.limits]
	pids = 20
	END
    berthctl start --no-wait forker
    limited() { dmesg | grep -q 'fork rejected by pids controller in .*forker'; }
    until_ok limited
    berthctl stop forker
    ! ls -d /sys/fs/cgroup/berth-1-*/forker
}

check_cpuset() {
    unit pinned <<-END
	[service.pinned]
	command = ["sleep", "1000"]
	[service.pinned.limits]
	cpuset = "1"
	END
    berthctl start pinned
    grep -qx 'Cpus_allowed_list:.1' "/proc/$(field pinned main_pid)/status"
    berthctl stop pinned
}

check_freeze() {
    unit ticking <<-END
	[service.ticking]
	command = ["sh", "-c", "while :; do :; done"]
	END
    berthctl start ticking
    berthctl freeze ticking
    group=$(group ticking)
    [ "$(value "$group/cgroup.events" frozen)" = 1 ]
    berthctl thaw ticking
    thawed() { [ "$(value "$group/cgroup.events" frozen)" = 0 ]; }
    until_ok thawed
    berthctl stop ticking
}
