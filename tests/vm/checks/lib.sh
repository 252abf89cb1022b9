# shellcheck shell=sh disable=SC2317,SC1010,SC2013
# What several checks need.

# Runs a command until it succeeds, for at most 30 seconds.
until_ok() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || return 1
        busybox usleep 200000
    done
}

# One field of a unit's status: a string or a number.
field() { # UNIT FIELD
    berthctl status --json "$1" | tr ',{}' '\n\n\n' | sed -n "s/^ *\"$2\": *\"\{0,1\}\([^\"]*\)\"\{0,1\} *\$/\1/p" | head -n 1
}

state_is() { [ "$(field "$1" state)" = "$2" ]; }
log_has() { berthctl logs "$1" | grep -q -- "$2"; }

# Has a unit read that is written on standard input. Its name is the file's.
unit() { # FILE
    mkdir -p /run/berth/units
    cat >"/run/berth/units/$1.toml"
    berthctl apply
}

# What is mounted at a place, as type.
mounted() { [ "$(awk -v point="$2" '$2 == point { kind = $3 } END { print kind }' /proc/mounts)" = "$1" ]; }
