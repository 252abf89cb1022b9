# shellcheck shell=sh disable=SC2317,SC1010,SC2013
# Signals that process 1 takes, and those that must do nothing.

check_other_signals_do_nothing() {
    # All but those with a meaning: HUP INT KILL TERM CHLD CONT STOP PWR USR1 RTMIN+3..5.
    for signal in $(seq 1 64); do
        case $signal in 1 | 2 | 9 | 10 | 15 | 17 | 18 | 19 | 30 | 37 | 38 | 39) continue ;; esac
        for _ in 1 2 3; do kill -"$signal" 1; done
    done
    berthctl status >/dev/null
    state_is checks starting
    ! berthctl logs berth | grep -q 'stopping everything'
}

check_usr1_makes_the_control_socket_again() {
    rm /run/berth/control.sock
    ! berthctl status
    kill -USR1 1
    until_ok berthctl status
}

check_hup_reads_units_again() {
    mkdir -p /run/berth/units
    printf '[service.after-hup]\nisolation = "none"\ncommand = "sleep 1000"\n' >/run/berth/units/hup.toml
    kill -HUP 1
    until_ok state_is after-hup running
    rm /run/berth/units/hup.toml
    kill -HUP 1
    until_ok sh -c '! berthctl status after-hup'
}

check_ctrl_alt_del_is_process_1s() {
    # 0: the kernel sends SIGINT instead of restarting at once.
    [ "$(cat /proc/sys/kernel/ctrl-alt-del)" = 0 ]
}

check_orphans_are_reaped() {
    for _ in 1 2 3 4 5 6 7 8; do
        sh -c 'for _ in 1 2 3 4 5 6 7 8; do (sleep 0.2 & sleep 0.1 &) ; done'
    done
    no_zombie() { ! grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; }
    until_ok no_zombie
}
