#!/bin/sh
# Runs the program with the arguments that are listed beside this, line by line, reports
# what it prints on the second serial port, and has the machine switched off.
cd /srv/inside || exit 1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin CARGO_MANIFEST_DIR=/ BERTH_TEST_PROBE=/srv/inside/probe BERTH_TEST_SLOWNESS=10
# Only the first group of all holds processes and has groups with controllers below it.
echo 0 >/sys/fs/cgroup/cgroup.procs
set --
while IFS= read -r word; do set -- "$@" "$word"; done <arguments
./program "$@" >/dev/ttyS1 2>&1 </dev/null
echo "program ended with $?" >/dev/ttyS1
berthctl shutdown poweroff
