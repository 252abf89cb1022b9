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

# Its command has a child that takes too much memory.
greedy() { # NAME POLICY
    unit "$1" <<-END
	[service.$1]
	command   = ["sh", "-c", "head -c 200M /dev/zero | tail -c 150M >/dev/null; echo the child ended with \$?; exec sleep 1000"]
	restart   = "no"
	wanted-by = []
	[service.$1.limits]
	memory = "16M"
	swap   = "0"
	oom    = "$2"
	END
    berthctl start --no-wait "$1"
}

check_memory_max_kills_a_process() {
    greedy frugal-1 kill-process
    until_ok log_has frugal-1 'the child ended with 137'
    killed() { [ "$(field frugal-1 oom_kills)" = 1 ]; }
    until_ok killed
    case $(field frugal-1 oom_victim) in "tail ("[0-9]*) ;; *) return 1 ;; esac
    state_is frugal-1 running
    berthctl status frugal-1 | grep -q '^ *oom kills.*1, the last: tail ('
    log_has berth 'frugal-1: the kernel killed tail ('
    dmesg | grep -q "oom-kill:constraint=CONSTRAINT_MEMCG.*berth-1-.*/frugal-1"
    berthctl stop frugal-1
}

check_memory_max_kills_the_unit() {
    greedy frugal-2 kill-unit
    until_ok state_is frugal-2 failed
    [ "$(field frugal-2 result)" = oom-kill ]
    [ "$(field frugal-2 oom_kills)" -ge 2 ]
    ! log_has frugal-2 'the child ended'
    ! ls -d /sys/fs/cgroup/berth-1-*/frugal-2
}

check_memory_high() {
    unit slowed <<-END
	[service.slowed]
	command   = ["sh", "-c", "head -c 40M /dev/zero | tail -c 40M | wc -c"]
	wanted-by = []
	[service.slowed.limits]
	memory-high = "8M"
	memory = "64M"
	swap = "0"
	END
    berthctl start slowed
    slowed() { [ "$(value "$(group slowed)/memory.events" high)" -gt 0 ]; }
    until_ok slowed
    # It is held up and not killed.
    state_is slowed running
    [ "$(field slowed oom_kills)" = 0 ]
    berthctl stop slowed
}

# Reads 3 MiB of the disk past the page cache; how long that took, in milliseconds.
reading() { # NAME LIMITS
    unit "$1" <<-END
	[service.$1]
	isolation = "none"
	type      = "oneshot"
	wanted-by = []
	command   = ["sh", "-c", "begun=\$(date +%s%N); dd if=/dev/vdb of=/dev/null iflag=direct bs=64k count=48; cat /sys/fs/cgroup\$(sed -n s/^0:://p /proc/self/cgroup)/io.max; echo took \$(((\$(date +%s%N) - begun) / 1000000)) ms"]
	limits    = { $2 }
	END
    berthctl start "$1"
    berthctl logs "$1" | sed -n 's/.*took \([0-9]*\) ms.*/\1/p'
}

check_io_max() {
    free=$(reading free-reader '')
    bound=$(reading bound-reader 'io-max = ["/dev/vdb read=1M write-ops=500"]')
    # By the letter it takes 3 s.
    [ "$bound" -gt 1500 ] && [ "$free" -lt "$bound" ]
    log_has bound-reader '254:16 rbps=1048576 wbps=max riops=max wiops=500'
    ! log_has free-reader rbps
    unit no-disk <<-END
	[service.no-disk]
	command   = "true"
	wanted-by = []
	limits    = { io-max = ["/dev/null read=1M"] }
	END
    ! berthctl start no-disk 2>/run/no-disk
    grep -q 'the disk /dev/null: this is no block device at .*no-disk.toml' /run/no-disk
}

check_devices_are_kept_by_a_program() {
    for name in open shut; do
        case $name in open) devices='' ;; shut) devices='security = { devices = [] }' ;; esac
        unit "disk-$name" <<-END
	[service.disk-$name]
	isolation = "none"
	type      = "oneshot"
	wanted-by = []
	command   = ["sh", "-c", "if head -c 512 /dev/vda >/dev/null; then echo it opened; else echo it did not; fi; head -c 1 /dev/zero | wc -c"]
	$devices
	END
        berthctl start "disk-$name"
        log_has "disk-$name" '1$'
    done
    log_has disk-shut 'it did not'
    log_has disk-shut 'Operation not permitted'
    log_has disk-open 'it opened'
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
