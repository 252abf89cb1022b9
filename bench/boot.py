"""`scripts/bench boot`: a machine from the kernel's handover to thirty services, and off.

The same emulated machine, kernel and services, with berth, systemd and runit as process 1,
each from Debian's packages. All three run the same beside the services: udev with the
coldplug of all devices, an address by DHCP, a system log and a login on the console; berth by
its stock units, systemd by its own daemons, runit by scripts here.

Everything is measured inside by its own clock: the initial ram disk stamps the handover,
each service its start, a collector the memory when the machine has settled, and the kernel's
last message the end. The memory is that of all processes (their proportional share, PSS) but the
services, the logins, the device manager and the collector.
"""

import os
import re
import subprocess

import processes

SERVICES = 30

# Says when it runs, in hundredths of seconds since the kernel's start, and stays.
BEACON = """#!/bin/sh
read -r now rest </proc/uptime
echo "ready $1 $now" >/dev/ttyS1
exec sleep 100000
"""

# Run when all of that is up: what the init system weighs then; and then it asks for the end.
COLLECT = """#!/bin/sh
until_it() { tries=0; until eval "$1" >/dev/null 2>&1 || [ $tries -ge 300 ]; do tries=$((tries + 1)); sleep 0.5; done; }
until_it '[ "$(pgrep -fc "sleep 100000")" -ge %d ]'
until_it '[ -e /run/udev/control ]'
udevadm settle --timeout=150
until_it 'ip -4 addr | grep -q "inet 10[.]0[.]2[.]15/"'
until_it 'pgrep "^agetty"'
sleep 3
total=0
for path in /proc/[0-9]*; do
    read -r name <$path/comm || continue
    case $name in sleep | collect | agetty | login | *udev*) continue ;; esac
    pss=$(sed -n 's/^Pss: *\\([0-9]*\\) kB/\\1/p' $path/smaps_rollup 2>/dev/null)
    [ -z "$pss" ] || total=$((total + pss))
    [ -z "$pss" ] || echo "weighs $name $pss" >/dev/ttyS1
done
echo "memory $total" >/dev/ttyS1
read -r now rest </proc/uptime
echo "asked $now" >/dev/ttyS1
exec %s
"""


def berth_files():
    text = ["[service.collect]\nisolation = \"none\"\nrestart = \"no\"\ncommand = \"/srv/collect\"\n"]
    for n in range(SERVICES):
        text.append(f"[service.bench-{n}]\nisolation = \"none\"\ncommand = [\"/srv/beacon\", \"{n}\"]\n")
    return {"/etc/berth/bench.toml": "".join(text)}, "berthctl shutdown poweroff"


def systemd_files():
    files = {}
    names = [f"bench-{n}.service" for n in range(SERVICES)] + ["collect.service"]
    names += ["systemd-networkd.service"]
    for n in range(SERVICES):
        files[f"/etc/systemd/system/bench-{n}.service"] = f"[Service]\nExecStart=/srv/beacon {n}\n"
    files["/etc/systemd/system/collect.service"] = "[Service]\nExecStart=/srv/collect\n"
    wants = "[Unit]\n" + "".join(f"Wants={name}\n" for name in names)
    files["/etc/systemd/system/multi-user.target.d/bench.conf"] = wants
    files["/etc/systemd/network/all.network"] = "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n"
    return files, "systemctl poweroff"


def runit_files():
    files = {f"/srv/sv/bench-{n}/run": f"#!/bin/sh\nexec /srv/beacon {n}\n" for n in range(SERVICES)}
    files["/srv/sv/collect/run"] = "#!/bin/sh\nexec /srv/collect\n"
    # What the others have beside the services.
    others = {
        "udev": "exec /lib/systemd/systemd-udevd",
        "devices": "until [ -e /run/udev/control ]; do sleep 0.1; done; udevadm trigger --type=subsystems --action=add; udevadm trigger --type=devices "
        "--action=add; udevadm settle --timeout=150; exec sleep infinity",
        "getty": "exec agetty --keep-baud --noclear ttyS0 115200,38400,9600 vt220",
        "network": "for path in /sys/class/net/*/device; do device=${path%/device}; device=${device##*/}; "
        "ip link set $device up; exec busybox udhcpc -f -S -R -i $device -s /srv/lease; done; exit 1",
        "syslog": "exec busybox syslogd -n -O /var/log/messages",
    }
    for name, text in others.items():
        files[f"/srv/sv/{name}/run"] = f"#!/bin/sh\n{text}\n"
    with open("units/dhcp-lease", encoding="utf-8") as lease:
        files["/srv/lease"] = lease.read()
    # Debian's own stages run init scripts that are not installed; these mount and go on.
    files["/etc/runit/1"] = (
        "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nmount -t proc proc /proc\n"
        "mount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\nmount -t tmpfs run /run\n"
        "mkdir -p /dev/pts /etc/runit; mount -t devpts pts /dev/pts\n: >/etc/runit/stopit\n"
        "chmod 0 /etc/runit/stopit\nexit 0\n"
    )
    files["/etc/runit/2"] = "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexec runsvdir -P /srv/sv\n"
    files["/etc/runit/3"] = (
        "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nsv -w 5 force-stop /srv/sv/*\n"
        "umount -a -r\nmount -o remount,ro /\nexit 0\n"
    )
    return files, "init 0"


INITS = {"berth": berth_files, "systemd": systemd_files, "runit": runit_files}


def boot(tools, init):
    """Seconds to ready, MiB, seconds to power off."""
    directory = tools.fresh()
    os.makedirs(directory, exist_ok=True)
    files, poweroff = INITS[init]()
    files = {**files, "/srv/beacon": BEACON, "/srv/collect": COLLECT % (SERVICES, poweroff)}
    report = os.path.join(directory, "report")
    command = ["scripts/vm", "--batch", "--init", init, "--bin", os.path.dirname(tools.berth)]
    command += ["--disk", os.path.join(directory, "disk.img"), "--report", report, "--append", "rw bench.stamp"]
    for index, (path, text) in enumerate(files.items()):
        name = os.path.join(directory, f"file{index}")
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644 if path.endswith((".service", ".conf", ".toml", ".network")) else 0o755)
        command += ["--put", f"{name}:{path}"]
    with open(os.path.join(directory, "errors"), "wb") as errors:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=errors, timeout=900, check=False)
    console = done.stdout.decode(errors="replace")
    with open(report, encoding="utf-8", errors="replace") as file:
        said = file.read()
    handover = re.search(r"handover ([0-9.]+)", said)
    ready = [float(time) for time in re.findall(r"^ready \d+ ([0-9.]+)", said, re.MULTILINE)]
    memory = re.search(r"memory (\d+)", said)
    asked = re.search(r"asked ([0-9.]+)", said)
    end = re.search(r"\[ *([0-9.]+)\] reboot: Power down", console)
    if len(ready) < SERVICES or not (handover and memory and asked and end):
        raise processes.BenchError(f"{init} did not come up or go down:\n{console[-2000:]}\n{said}")
    up = max(ready) - float(handover[1])
    return up, int(memory[1]) / 1024, float(end[1]) - float(asked[1])
