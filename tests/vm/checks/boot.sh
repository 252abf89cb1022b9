# shellcheck shell=sh disable=SC2317,SC1010,SC2013
# What process 1 and the stock units have made of the machine.

check_process_1_is_berth() { [ "$(readlink /proc/1/exe)" = /usr/sbin/berth ]; }
check_proc_is_mounted() { mounted proc /proc; }
check_sys_is_mounted() { mounted sysfs /sys; }
check_dev_is_mounted() { mounted devtmpfs /dev && [ -b /dev/vda ]; }
check_pts_is_mounted() { mounted devpts /dev/pts && [ -c /dev/ptmx ]; }
check_shm_is_mounted() { mounted tmpfs /dev/shm && [ "$(stat -c %a /dev/shm)" = 1777 ]; }
check_run_is_mounted() { mounted tmpfs /run; }
check_cgroup2_is_mounted() { mounted cgroup2 /sys/fs/cgroup; }
check_bpf_is_mounted() { mounted bpf /sys/fs/bpf; }
check_securityfs_is_mounted() { mounted securityfs /sys/kernel/security; }

check_nothing_is_mounted_twice() {
    [ -z "$(awk '{ print $2 }' /proc/mounts | sort | uniq -d)" ]
}

check_the_root_can_be_written() {
    grep -q '^/dev/[^ ]* / ext4 rw' /proc/mounts
    touch /written && rm /written
}

check_fstab_is_mounted() {
    mounted ext4 /srv/data
    mounted tmpfs /srv/data/tmp
    grep -q ' /srv/data ext4 rw,noatime' /proc/mounts
    # What may be missing is, and kept nothing from going on.
    ! mountpoint -q /srv/nothing
}

check_what_is_behind_a_network_is_mounted_when_there_is_one() {
    mounted tmpfs /srv/net
    state_is network-filesystems done
    # Not by the step that everything waits for.
    awk '$5 == "/srv/data" || $5 == "/srv/net" { print $5, $1 }' /proc/self/mountinfo | sort -n -k 2 | head -n 1 | grep -q '^/srv/data '
}

check_the_network_s_filesystems_are_left_to_their_own_step() {
    umount /srv/net
    berth machine filesystems
    ! mountpoint -q /srv/net
    berth machine network-filesystems
    mountpoint -q /srv/net
}

check_swap_is_used() { grep -q '^/dev/vdc' /proc/swaps; }

check_the_disk_of_fstab_was_checked() { log_has filesystems 'data: clean'; }

check_hostname() { [ "$(cat /proc/sys/kernel/hostname)" = machine-under-test ]; }

check_machine_id() { grep -qxE '[0-9a-f]{32}' /etc/machine-id; }

check_sysctl() {
    [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ]
    [ "$(cat /proc/sys/net/ipv4/conf/all/rp_filter)" = 2 ]
    [ "$(cat /proc/sys/net/ipv4/conf/default/rp_filter)" = 2 ]
    state_is sysctl done
}

check_modules() {
    grep -q '^loop ' /proc/modules
    # From the kernel's command line.
    grep -q '^tun ' /proc/modules
}

check_loopback() { ip -4 addr show lo | grep -q 127.0.0.1; }

check_temporary_files() {
    [ "$(stat -c %a /run/lock)" = 1777 ]
    [ "$(stat -c '%a %U %G' /run/checks)" = '750 root tty' ]
    [ "$(cat /run/checks/file)" = hello ]
    # All kinds that packages use, by its own lines and by those of Debian's packages.
    [ "$(stat -c '%F %a' /run/checks/pipe)" = 'fifo 620' ]
    [ "$(stat -c '%a %U' /run/checks/tree/below)" = '700 www-data' ]
    [ "$(cat /run/checks/copied/passwd)" = "$(cat /etc/passwd)" ]
    [ "$(cat /run/checks/machine)" = "$(cat /etc/machine-id)" ]
    [ ! -e /srv/left-by-the-last-boot ] && [ -d /srv/emptied ] && [ -z "$(ls /srv/emptied)" ]
    [ "$(cat /proc/sys/kernel/panic_on_oops)" = 1 ]
    state_is temporary-files done
    ! berthctl logs temporary-files | grep .
    [ "$(readlink /var/run)" = ../run ] || [ "$(readlink /var/run)" = /run ]
}

check_random_seed() {
    [ "$(stat -c '%a %s' /var/lib/berth/random-seed)" = '600 256' ]
    # Given to the kernel once and then never again: a second run keeps another.
    before=$(sha256sum </var/lib/berth/random-seed)
    berth machine random-seed
    [ "$before" != "$(sha256sum </var/lib/berth/random-seed)" ]
}

check_clock() {
    # The real-time clock's, which a kernel counts in seconds.
    apart=$(($(date +%s) - $(cat /sys/class/rtc/rtc0/since_epoch)))
    [ "$apart" -ge -5 ] && [ "$apart" -le 5 ]
    state_is clock done
}

check_console() {
    for number in 0 1 2; do [ "$(readlink /proc/1/fd/$number)" = /dev/console ]; done
}

check_process_1_is_never_chosen_when_memory_is_short() {
    [ "$(cat /proc/1/oom_score_adj)" = -1000 ]
    [ "$(cat /proc/self/oom_score_adj)" = 0 ]
    for child in $(cat /proc/1/task/1/children); do
        [ "$(cat "/proc/$child/oom_score_adj")" != -1000 ] || case $(cat "/proc/$child/comm") in
            # Who may never be chosen says so itself.
            systemd-udevd | udevd | agetty) ;;
            *) return 1 ;;
        esac
    done
}

check_no_trouble_was_reported() {
    # But for the time, which nothing here keeps.
    ! berthctl logs berth | grep -v 'time-sync: ' | grep -iE 'cannot|failed|not enforced'
}

check_devices() {
    state_is udev running && state_is devices done
    [ -e /dev/disk/by-label/data ] && [ -n "$(ls /run/udev/data)" ]
}

check_drivers_are_loaded_for_devices() { grep -q '^virtio_net ' /proc/modules; }

# udev's daemon talks to one client at a time: while there is another, `udevadm settle` takes
# it for absent, and says at once that there is nothing to wait for.
udev_has_a_client() { [ "$(grep -c ' /run/udev/control$' /proc/net/unix)" -gt 1 ]; }
check_devices_wait_for_a_udev_that_is_busy() {
    daemon=$(field udev main_pid)
    kill -STOP "$daemon"
    udevadm control --ping &
    until_ok udev_has_a_client
    busy=0
    timeout 20 udevadm settle --timeout=60 || busy=$?
    berthctl restart --no-wait devices
    # It has been refused, and comes again.
    again=yes
    until_ok pgrep -fx 'sleep 0[.]1' || again=no
    state=$(field devices state)
    kill -CONT "$daemon"
    wait
    [ "$busy" = 0 ] && [ "$again" = yes ] && [ "$state" = starting ]
    until_ok state_is devices done
    [ ! -e /run/udev/queue ]
}

check_time_sync_says_that_it_has_no_program() {
    ! state_is time-sync running
    berthctl status time-sync | grep -q 'no program keeps the time'
}

# The lanes of the kernel and of berth, one after the other; the kernel's is as long as it says.
check_plot_has_the_kernel_s_lane() {
    berthctl plot >/run/boot.svg
    grep -q 'font-weight="bold">kernel<' /run/boot.svg
    sed -n 's/^<rect class="k" x="\([0-9.]*\)".* width="\([0-9.]*\)" height.*>\([0-9a-z. ]*\)<.*/\1 \2 \3/p' /run/boot.svg >/run/bars
    began=$(dmesg | sed -n 's/^\[ *\([0-9.]*\)\] Run .init as init process.*/\1/p')
    read -r now rest </proc/uptime
    awk -v began="$began" -v now="$now" '
        NR == 1 { end = $1 + $2; fine = $2 > 1 && $3 + 0 >= began && $3 + 0 < now }
        NR == 2 { fine = fine && $1 - end < 1 && end - $1 < 1 }
        END { exit !(fine && NR == 2) }' /run/bars
}

check_dhcp() {
    until_ok state_is network running
    ip -4 addr | grep -q 'inet 10\.0\.2\.15/24'
    ip route | grep -q '^default via 10\.0\.2\.2'
    grep -q '^nameserver 10\.0\.2\.3' /etc/resolv.conf
}

check_syslog() {
    busybox logger -t checks "hello from a program"
    until_ok log_has syslog 'hello from a program'
}

check_login_on_the_console() {
    state_is getty-console running
    pid=$(field getty-console main_pid)
    [ "$(readlink "/proc/$pid/fd/0")" = /dev/ttyS0 ]
}

check_what_a_step_does_not_know() {
    code=0
    berth machine nonsense || code=$?
    [ "$code" = 2 ]
}
