"""Containers that are started and ended one after the other, by berth and by others.

Each runs the beacon, which reports and ends at once. The time of one is the distance
between two reports that follow each other: the end of a container and the start of the
next, with nothing else in between and nothing of the harness within it (but for crun,
which can run only one: there it is a fork and a wait).
"""

import json
import os
import shutil

import processes
import supervisors

NAMESPACES = ["mount", "pid", "ipc", "uts", "cgroup", "network"]


def make_rootfs(tools, path):
    """The smallest root tree: the beacon and the places where things are mounted."""
    for name in ("dev", "proc", "sys", "tmp", "run", "etc", "report"):
        os.makedirs(os.path.join(path, name))
    shutil.copy(tools.beacon, os.path.join(path, "beacon"))
    return path


# Nothing that keeps a container from the host but its namespaces and its root tree.
NO_DEFENCES = "security = { privileged = true }\nlimits = { pids = \"unlimited\" }\n"


def unit_keys(tools, rootfs, init, defences=True):
    """The keys that make a unit one of these containers."""
    report = os.path.dirname(tools.reports.path)
    return ("" if defences else NO_DEFENCES) + (
        f'rootfs = "{rootfs}"\n'
        'writable = "ephemeral"\n'
        f"init = {'true' if init else 'false'}\n"
        f'mounts = [{{ type = "bind", source = "{report}", target = "/report" }}]'
    )


def per_container_ms(found):
    """From reports in order to the time of one start and end."""
    times = sorted(ns for _, _, ns in found)
    return (times[-1] - times[0]) / (len(times) - 1) / 1e6


def berth(tools, directory, count, init, defences=True):
    """A service that ends at once and is restarted at once: a run begins only when
    nothing is left of the one before."""
    rootfs = make_rootfs(tools, f"{directory}-rootfs")
    service = supervisors.Service("chain", unit_keys(tools, rootfs, init, defences), ends=True)
    supervisor = supervisors.Berth(tools, directory, [service])
    supervisor.start()
    try:
        return per_container_ms(tools.reports.collect(count, 120, supervisor.pid))
    finally:
        supervisor.stop()
        tools.reports.drain()


def floor(tools, directory, count):
    """A C program that makes the same system calls and nothing else. It runs /tiny, with
    our standard output: the beacon reports there."""
    rootfs = make_rootfs(tools, f"{directory}-rootfs")
    os.rename(f"{rootfs}/beacon", f"{rootfs}/tiny")
    with processes.ControlGroup() as group:
        tools.nursery.run([tools.floor, group, rootfs, str(count)], output=tools.reports.path)
    return per_container_ms(tools.reports.collect(count, 1))


# crun refuses hosts whose cgroups are of version 1 and 2. It is shown version 2 alone, in
# a mount namespace that ends with the loop.
CRUN_LOOP = """
    [ ! -d /sys/fs/cgroup/unified ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
    for number in $(seq "$2"); do
        crun --root "$1/state" --cgroup-manager=cgroupfs run --bundle "$1" "$3-$number"
    done
"""


def crun(tools, directory, count):
    """crun, without an overlay: it leaves that to the program that calls it."""
    os.makedirs(directory)
    make_rootfs(tools, os.path.join(directory, "rootfs"))
    report = os.path.dirname(tools.reports.path)
    mounts = [("/proc", "proc", "proc"), ("/dev", "tmpfs", "tmpfs"), ("/tmp", "tmpfs", "tmpfs")]
    spec = {
        "ociVersion": "1.0.0",
        "process": {
            "args": ["/beacon", "/report/report", "crun", "end"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "crun",
        "mounts": [{"destination": d, "type": t, "source": s} for d, t, s in mounts]
        + [{"destination": "/report", "type": "bind", "source": report, "options": ["bind"]}],
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }
    with open(os.path.join(directory, "config.json"), "w", encoding="ascii") as file:
        json.dump(spec, file)
    tools.nursery.run(
        ["unshare", "--mount", "sh", "-ec", CRUN_LOOP, "sh", directory, str(count), f"bench-{os.getpid()}"]
    )
    return per_container_ms(tools.reports.collect(count, 1))


def main_process(supervisor):
    """The beacon's pid as seen from here: it is a child of berth itself."""
    for pid in processes.children(supervisor.pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if file.read().strip() == "beacon":
                    return pid
        except OSError:
            continue
    raise processes.BenchError("berth has no child that is the service")
