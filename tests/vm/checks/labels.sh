# shellcheck shell=sh disable=SC2317,SC1010,SC2013
# AppArmor, which the kernels of these machines have.

# A profile that lets its programs do everything but one thing.
load_profile() { # [FLAG]
    cat >/run/berth-checks.profile <<-END
	profile berth-checks flags=(attach_disconnected${1:+, $1}) {
	  file,
	  capability,
	  network,
	  signal,
	  unix,
	  ptrace,
	  deny /srv/data/kept w,
	}
	END
    apparmor_parser --replace --skip-cache /run/berth-checks.profile
}

# Says which label it has, and tries to write.
writer() { # NAME REST
    unit "$1" <<-END
	[service.$1]
	type      = "oneshot"
	wanted-by = []
	command   = ["sh", "-c", "cat /proc/self/attr/current; if echo $1 >/srv/data/kept; then echo it is written; else echo it is not; fi"]
	$2
	END
    berthctl start "$1"
}

check_a_profile_of_apparmor_denies() {
    load_profile
    bind='mounts = [{ type = "bind", source = "/srv/data", target = "/srv/data" }]'
    for kind in none container; do
        plain="isolation = \"$kind\""
        [ "$kind" = none ] || plain="$plain
$bind"
        rm -f /srv/data/kept
        writer "labelled-$kind" "$plain
security = { apparmor = \"berth-checks\" }"
        log_has "labelled-$kind" 'berth-checks (enforce)'
        log_has "labelled-$kind" 'Permission denied'
        log_has "labelled-$kind" 'it is not$'
        [ ! -e /srv/data/kept ]
        writer "unlabelled-$kind" "$plain"
        log_has "unlabelled-$kind" unconfined
        log_has "unlabelled-$kind" 'it is written'
        [ "$(cat /srv/data/kept)" = "unlabelled-$kind" ]
    done
    rm -f /srv/data/kept
}

check_a_profile_of_apparmor_counts_for_exec_too() {
    load_profile
    unit labelled-service <<-END
	[service.labelled-service]
	command   = ["sleep", "1000"]
	wanted-by = []
	security  = { apparmor = "berth-checks" }
	END
    berthctl start labelled-service
    [ "$(cat "/proc/$(field labelled-service main_pid)/attr/current")" = 'berth-checks (enforce)' ]
    [ "$(berthctl exec labelled-service -- cat /proc/self/attr/current)" = 'berth-checks (enforce)' ]
    berthctl audit labelled-service | grep -q '^label  *yes'
    # One that only complains holds nobody.
    load_profile complain
    ! berthctl audit labelled-service 2>/run/audit
    grep -q 'does not hold what was promised: label of labelled-service' /run/audit
    load_profile
    berthctl stop labelled-service
}

check_a_profile_of_apparmor_that_is_not_loaded_is_named() {
    unit unloaded <<-END
	[service.unloaded]
	command   = "true"
	type      = "oneshot"
	wanted-by = []
	restart   = "no"
	security  = { apparmor = "nobody-loaded-this" }
	END
    ! berthctl start unloaded 2>/run/unloaded
    grep -q 'AppArmor profile nobody-loaded-this: .*no such profile is loaded: load it with apparmor_parser at .*unloaded.toml:6' /run/unloaded
}
