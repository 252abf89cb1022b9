#!/bin/sh
# Runs every check and reports each in one line on the second serial port, then has the
# machine switched off. A check is a function check_NAME in one of the files here; it
# fails with the first command that fails.
cd /srv/checks || exit 1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

if [ "${1-}" = one ]; then
    for file in ./*.sh; do [ "$file" = ./run.sh ] || . "$file"; done
    set -eux
    "check_$2"
    exit
fi

report() { printf '%s\n' "$*" >/dev/ttyS1; }
names=$(sed -n 's/^check_\([a-z0-9_]*\)().*/\1/p' ./*.sh)
for name in $names; do
    if timeout 90 sh run.sh one "$name" >/run/check.log 2>&1 </dev/null; then
        report "ok $name"
    else
        report "FAILED $name: $(tail -n 12 /run/check.log | tr '\n' '|')"
    fi
done
report "done"
berthctl shutdown poweroff
