# shellcheck shell=sh disable=SC2317,SC1010,SC2013
# Several disks at once.

# A check of a filesystem that ends when the other one of its pass has begun too: one after
# the other they never would. It writes down who began and ended when.
check_disks_are_checked_at_once_and_pass_by_pass() {
    mkdir -p /run/fsck
    cat >/usr/sbin/fsck.recorded <<'END'
#!/bin/sh
pass=${2#/run/fsck/} pass=${pass%-*} tries=0
echo "begin $pass" >>/run/fsck/story
until [ "$(grep -c "begin $pass" /run/fsck/story)" = 2 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "alone $pass" >>/run/fsck/story; exit 8; }
    busybox usleep 200000
done
echo "end $pass" >>/run/fsck/story
END
    chmod +x /usr/sbin/fsck.recorded
    # Not in the order of their passes, and the last one is not to be checked.
    for disk in 10-a 3-a 2-a 3-b 2-b 10-b 0-a; do
        : >"/run/fsck/$disk"
        echo "/run/fsck/$disk /run/fsck/at-$disk recorded nofail 0 ${disk%-*}"
    done >/run/fsck/fstab
    mount --bind /run/fsck/fstab /etc/fstab
    berth machine filesystems || true
    umount /etc/fstab
    [ "$(tr '\n' ',' </run/fsck/story)" = "$(for pass in 2 3 10; do
        printf 'begin %s,begin %s,end %s,end %s,' $pass $pass $pass $pass
    done)" ]
}
