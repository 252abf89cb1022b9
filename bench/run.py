"""The benchmark: berth beside others, on this machine, in one run.

In each round every candidate does the same work once, in an order that turns from round
to round; a round that is not counted comes first. A figure is the median of its rounds.
Starts are reported by the services themselves (beacon.c). Everything happens below one
private directory, which is gone at the end, with every process that was started.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import struct
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

import boot
import containers
import network
import processes
import supervisors

BENCHMARKS = ["up", "container", "restart", "network", "size", "boot"]


@dataclass
class Row:
    """One line of the table. A ratio is berth's figure by the peer's."""

    figure: str
    unit: str
    berth: float
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


class Tools:
    """What every benchmark works with."""

    def __init__(self, options, directory):
        self.options = options
        self.directory = directory
        self.nursery = processes.Nursery(os.path.join(directory, "log"))
        reports = os.path.join(directory, "reports")
        os.mkdir(reports)
        self.reports = processes.Reports(reports)
        self.berth = os.path.abspath(options.berth)
        here = os.path.dirname(os.path.abspath(__file__))
        self.beacon = self.compile(os.path.join(here, "beacon.c"))
        floor = os.path.join(here, "floor_container.c")
        self.floor = self.compile(floor) if os.path.exists(floor) else None
        self.count = 0

    def compile(self, source):
        """Makes a static program of a C file."""
        program = os.path.join(self.directory, os.path.basename(source).removesuffix(".c"))
        self.nursery.run(["gcc", "-O2", "-Wall", "-static", "-o", program, source])
        return program

    def fresh(self):
        """A path in the private directory that was never used."""
        self.count += 1
        return os.path.join(self.directory, str(self.count))


def rounds(tools, title, candidates):
    """Runs each candidate once per round; figures of the counted rounds by name."""
    found = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(tools.options.rounds + 1):
        for name in names if number % 2 else reversed(names):
            show(f"{title}: round {number} of {tools.options.rounds}, {name}")
            figures = candidates[name]()
            if number > 0:
                found[name].append(figures)
    show("")
    return found


def show(text):
    """What is being done, for who waits; only on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\033[K")
        sys.stderr.flush()


def compare(figure, unit, berth, others, goal_peers=(), factor=None):
    """A row for each peer; the goal is measured against those in `goal_peers`."""
    rows = []
    for name, values in others.items():
        peer = statistics.median(values)
        row = Row(figure, unit, statistics.median(berth), name, peer)
        row.ratio = row.berth / peer
        if name in goal_peers:
            row.goal, row.met = f"ratio <= {factor:g}", row.ratio <= factor
        rows.append(row)
    return rows or [Row(figure, unit, statistics.median(berth))]


def absolute(rows, limit, text):
    """Gives rows a goal that is no ratio."""
    rows[0].goal, rows[0].met = text, rows[0].berth <= limit
    return rows


def bench_up(tools):
    """Many services at once, and what the supervisor weighs with all of them up."""
    services = [supervisors.Service(f"s{n:04}") for n in range(tools.options.services)]

    def once(kind):
        supervisor = kind(tools, tools.fresh(), services)
        begin = time.monotonic_ns()
        supervisor.start()
        try:
            found = tools.reports.collect(len(services), 120, supervisor.pid)
            time.sleep(1)  # not measured: what it weighs is what it weighs when it has settled
            return (max(ns for _, _, ns in found) - begin) / 1e6, supervisor.memory_kib() / 1024
        finally:
            supervisor.stop()
            tools.reports.drain()

    kinds = [supervisors.Berth, *supervisors.available_peers()]
    found = rounds(tools, "up", {kind.name: lambda kind=kind: once(kind) for kind in kinds})
    berth = found.pop("berth")

    def column(index):
        return [f[index] for f in berth], {n: [f[index] for f in v] for n, v in found.items()}

    title = f"{len(services)} services up"
    memory = compare(f"memory (PSS), {title}", "MiB", *column(1))
    times = compare(title, "ms", *column(0), ("runit", "runit, no shell"), 0.25)
    return times + absolute(memory, 6, "<= 6 MiB")


def bench_container(tools):
    """One container started and ended."""
    count = tools.options.containers
    candidates = {
        "berth": lambda: containers.berth(tools, tools.fresh(), count, init=True),
        "berth, init = false": lambda: containers.berth(tools, tools.fresh(), count, init=False),
        "privileged": lambda: containers.berth(tools, tools.fresh(), count, init=True, defences=False),
    }
    if not tools.floor:
        raise processes.BenchError("bench/floor_container.c, which the goal is measured by, is missing")
    candidates["C floor"] = lambda: containers.floor(tools, tools.fresh(), count)
    if shutil.which("crun"):
        candidates["crun"] = lambda: containers.crun(tools, tools.fresh(), count)
    found = rounds(tools, "container", candidates)
    berth, bare = found.pop("berth"), found.pop("berth, init = false")
    open_ones = {"berth, privileged": found.pop("privileged")}
    title = "container start + end"
    return (
        compare(title, "ms", berth, found, ["C floor"], 2.5)
        + compare(f"{title}, init = false", "ms", bare, found, ["C floor"], 2.5)
        + compare(f"{title}, all defences", "ms", berth, open_ones, open_ones, 1.5)
    )


def bench_restart(tools):
    """From kill -9 to the start of the next run."""

    def once(kind, service, find, kills, lived):
        supervisor = kind(tools, tools.fresh(), [service])
        supervisor.start()
        try:
            pid = tools.reports.collect(1, 10, supervisor.pid)[0][1]
            times = []
            for _ in range(kills):
                time.sleep(lived)  # not measured: how long the service lives before it is killed
                begin = time.monotonic_ns()
                os.kill(find(supervisor) if find else pid, signal.SIGKILL)
                _, pid, started = tools.reports.collect(1, 10, supervisor.pid)[0]
                times.append((started - begin) / 1e6)
            return statistics.median(times)
        finally:
            supervisor.stop()
            tools.reports.drain()

    kills = tools.options.kills
    plain = supervisors.Service("plain")
    rootfs = containers.make_rootfs(tools, tools.fresh())
    boxed = supervisors.Service("boxed", containers.unit_keys(tools, rootfs, True))
    find = containers.main_process
    candidates = {
        "berth": lambda: once(supervisors.Berth, plain, None, kills, 0.02),
        "boxed": lambda: once(supervisors.Berth, boxed, find, kills, 0.02),
    }
    # The others hold back a service that dies within a second of its start, so they are
    # asked after that time, at their best, and before it, as berth is.
    for kind in supervisors.available_peers():
        if kind.script:
            candidates[f"{kind.name}, lived 1.1 s"] = lambda kind=kind: once(kind, plain, None, 2, 1.1)
            candidates[f"{kind.name}, lived 20 ms"] = lambda kind=kind: once(kind, plain, None, 1, 0.02)
    found = rounds(tools, "restart", candidates)
    berth, boxed_times = found.pop("berth"), found.pop("boxed")
    rows = compare("restart after kill -9", "ms", berth, found)
    # A container has no such goal: its floor alone, with its end and its start, takes longer.
    boxed = Row("restart after kill -9, container", "ms", statistics.median(boxed_times))
    return [*absolute(rows, 3, "< 3 ms"), boxed]


def bench_network(tools):
    """What a network costs at the start, and what its published ports let through."""
    times = network.join_times(tools)
    rows = []
    for index, what in enumerate(("start", "stop")):
        joined, private = (network.undisturbed(times[kind][index]) for kind in ("joined", "private"))
        row = compare(f"{what}, in a network (fastest tenth)", "ms", [joined], {"private": [private]})
        if what == "start":
            row[0].goal, row[0].met = "at most 3 ms more", joined - private <= 3
        rows += row
    for way, found in network.throughput(tools, rounds).items():
        speeds = {name: [network.undisturbed_speed(it) / 1e9] for name, it in found.items()}
        berth = speeds.pop("berth")
        row = compare(f"published port, {way} (fastest tenth)", "GB/s", berth, speeds)
        row[0].goal, row[0].met = "ratio >= 0.95", row[0].ratio >= 0.95
        rows += row
    return rows


def bench_size(tools):
    """The program itself."""
    size = os.path.getsize(tools.berth) / (1 << 20)
    static = is_static(tools.berth)
    figure = f"size of berth ({'static' if static else 'NOT static'})"
    return [Row(figure, "MiB", size, goal="static, < 4 MiB", met=static and size < 4)]


def bench_boot(tools):
    """An emulated machine: thirty services up, memory of the init system, and off."""
    found = rounds(tools, "boot", {name: lambda name=name: boot.boot(tools, name) for name in boot.INITS})
    berth = found.pop("berth")

    def column(index):
        return [f[index] for f in berth], {n: [f[index] for f in v] for n, v in found.items()}

    up = compare("machine: 30 services ready after the handover", "s", *column(0), ("systemd",), 0.25)
    memory = compare("machine: memory (PSS) of the init system", "MiB", *column(1), ("systemd",), 0.25)
    off = compare("machine: power-off", "s", *column(2), ("systemd",), 0.2)
    return up + memory + off


def is_static(path):
    """Whether an ELF file names no interpreter (needs no dynamic linker)."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return False
        offset, size, number = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
        for index in range(number):
            file.seek(offset + index * size)
            if struct.unpack("<I", file.read(4))[0] == 3:  # PT_INTERP
                return False
    return True


def table(rows):
    """The rows as aligned text."""
    head = ["figure", "berth", "peer", "", "ratio", "goal", ""]
    lines = [head]
    for row in rows:
        number = lambda value: "" if value is None else f"{value:.2f} {row.unit}".rstrip()
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = {None: "", True: "met", False: "NOT MET"}[row.met]
        lines.append([row.figure, number(row.berth), row.peer_name, number(row.peer), ratio, row.goal, met])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {1, 3, 4}
    for line in lines:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))]
        yield "  ".join(cells).rstrip()


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="berth beside others, on this machine")
    parser.add_argument("--berth", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default 7)")
    parser.add_argument("--services", type=int, default=1000, help="for 'up' (default 1000)")
    parser.add_argument("--containers", type=int, default=100, help="a round (default 100)")
    parser.add_argument("--kills", type=int, default=50, help="for 'restart', a round (default 50)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("what", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; default all but boot")
    options = parser.parse_args()
    for name in options.what:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark is called {name}; there are {', '.join(BENCHMARKS)}")
    if min(options.rounds, options.services, options.kills) < 1 or options.containers < 2:
        parser.error("counts must be at least 1 (containers: 2)")
    return options


def main():
    options = parse_arguments()
    # Being ended from outside is as orderly as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.makedirs(".cache", exist_ok=True)
    directory = tempfile.mkdtemp(prefix="bench.", dir=os.path.abspath(".cache"))
    rows = []
    tools = None
    try:
        tools = Tools(options, directory)
        for name in options.what or BENCHMARKS[:-1]:
            rows += globals()[f"bench_{name}"](tools)
    except (processes.BenchError, KeyboardInterrupt) as error:
        print(f"bench: {str(error) or 'interrupted'}", file=sys.stderr)
        if tools:
            print(tools.nursery.tail(), file=sys.stderr)
        return 1
    finally:
        if tools:
            tools.nursery.clear(0)
        if any(directory in line for line in open("/proc/self/mountinfo", encoding="utf-8")):
            print(f"bench: something is still mounted below {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory)
    if options.json:
        print(json.dumps({"rounds": options.rounds, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(f"medians of {options.rounds} rounds")
        print("\n".join(table(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
