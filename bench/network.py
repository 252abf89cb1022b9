"""Networks: what joining one costs, and what a published port lets through.

Everything happens in network namespaces that end with the processes in them; the machine's
own network is not touched.
"""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import time

import containers
import processes

# How long one connection sends, in milliseconds, and how often in a round: one after the
# other in turns that are short, so that what else happens on the machine meets both alike.
SENDING = 125
TURNS = 8

PORT = 9000


class Control:
    """The control socket of a supervisor."""

    def __init__(self, path, seconds=20):
        deadline = time.monotonic() + seconds
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                return
            except OSError as error:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise processes.BenchError(f"berth does not answer: {error}") from error
                time.sleep(0.01)

    def call(self, method, **parameters):
        """Calls a method and waits for its reply."""
        call = {"method": f"org.berth.Control.{method}", "parameters": parameters}
        self.socket.sendall(json.dumps(call).encode() + b"\0")
        reply = b""
        while not reply.endswith(b"\0"):
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise processes.BenchError("berth hung up")
            reply += piece
        answer = json.loads(reply[:-1])
        if "error" in answer:
            raise processes.BenchError(f"{method}: {answer}")
        return answer


class Host:
    """Processes in a network namespace of their own, which stands for a host."""

    def __init__(self, tools, argv):
        self.tools = tools
        ready = "ip link set lo up && exec \"$@\""
        self.pid = tools.nursery.spawn(["unshare", "--net", "sh", "-c", ready, "sh", *argv])

    def inside(self, argv):
        """Runs a command in it; what it printed."""
        argv = ["nsenter", "--net", "-t", str(self.pid), *argv]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise processes.BenchError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    def shell(self, script):
        return self.inside(["sh", "-ec", script])

    def is_up(self):
        """Whether its namespace is there and its loopback device is on."""
        own = os.readlink("/proc/self/ns/net")
        try:
            other = os.readlink(f"/proc/{self.pid}/ns/net") != own
        except OSError:
            return False
        return other and "UP" in self.inside(["ip", "link", "show", "lo"]).split("<")[1]

    def end(self):
        os.kill(self.pid, signal.SIGTERM)


def wait_for(condition, what, seconds=20):
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise processes.BenchError(f"waited in vain for {what}")
        time.sleep(0.01)


class Berth(Host):
    """berth in a network namespace of its own, with these units."""

    def __init__(self, tools, units):
        directory = tools.fresh()
        os.makedirs(directory)
        with open(f"{directory}/units.toml", "w", encoding="ascii") as file:
            file.write(units)
        argv = [
            tools.berth, "up", "--quiet", "--runtime-dir", f"{directory}/run",
            "--state-dir", f"{directory}/state", f"{directory}/units.toml",
        ]  # fmt: skip
        super().__init__(tools, argv)
        self.control = Control(f"{directory}/run/control.sock")


def join_times(tools):
    """Milliseconds from the wish to the first instruction of a service, and from there to
    the end of its stop, in a private network and in a bridge network that is there
    already: `{name: ([starts], [stops])}`."""
    rootfs = containers.make_rootfs(tools, f"{tools.fresh()}-rootfs")
    keys = containers.unit_keys(tools, rootfs, True)

    def unit(name, network, wanted):
        return (
            f'[service.{name}]\ncommand = ["/beacon", "/report/report", "{name}"]\n{keys}\n'
            f"{network}\n{wanted}\n"
        )

    asked = "wanted-by = []"
    units = (
        "[network.n]\n"
        + unit("holder", 'networks = ["n"]', "")
        + unit("private", 'network = "private"', asked)
        + unit("joined", 'networks = ["n"]', asked)
    )
    berth = Berth(tools, units)
    found = {"private": ([], []), "joined": ([], [])}
    try:
        tools.reports.collect(1, 20, berth.pid)
        names = list(found)
        for number in range(tools.options.containers + 2):
            for name in names if number % 2 else reversed(names):
                begin = time.monotonic_ns()
                berth.control.call("Start", units=[name], wait=True)
                started = tools.reports.collect(1, 20, berth.pid)[0][2]
                stopping = time.monotonic_ns()
                berth.control.call("Stop", units=[name], wait=True)
                if number > 1:
                    found[name][0].append((started - begin) / 1e6)
                    found[name][1].append((time.monotonic_ns() - stopping) / 1e6)
    finally:
        berth.end()
        if tools.nursery.clear(60):
            raise processes.BenchError("berth did not end its services")
        tools.reports.drain()
    return found


def outside(host):
    """Gives a host a neighbour, `client`, who reaches it as 198.51.100.1."""
    client = Host(host.tools, ["sleep", "1000"])
    wait_for(client.is_up, "the client's namespace")
    host.shell(
        f"ip link add lan type veth peer name eth0 netns {client.pid}; "
        "ip addr add 198.51.100.1/24 dev lan; ip link set lan up"
    )
    client.shell("ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up")
    return client


# The same by hand: a bridge, a pair of devices, one rule for each way to the port.
BY_HAND = """
sysctl -q -w net.ipv4.ip_forward=1
ip link add br0 type bridge
ip addr add 10.89.0.1/24 dev br0
ip link set br0 up
sysctl -q -w net.ipv4.conf.br0.route_localnet=1
ip link add port0 master br0 type veth peer name eth0 netns SERVER
ip link set port0 up
nft -f - <<'RULES'
table ip hand {
  chain inward { type nat hook prerouting priority dstnat; fib daddr type local tcp dport PORT dnat to 10.89.0.2; }
  chain own { type nat hook output priority -100; fib daddr type local tcp dport PORT dnat to 10.89.0.2; }
  chain outward { type nat hook postrouting priority srcnat; oifname br0 ip saddr 127.0.0.0/8 masquerade; }
}
RULES
"""


def throughput(tools, rounds):
    """Bytes per second on one connection to a published port of berth's and to one made by
    hand, by clients of another host and of the same: `{way: {who: [figures]}}`."""
    here = os.path.dirname(os.path.abspath(__file__))
    stream = tools.compile(os.path.join(here, "stream.c"))
    rootfs = containers.make_rootfs(tools, f"{tools.fresh()}-rootfs")
    shutil.copy(stream, os.path.join(rootfs, "stream"))
    units = (
        "[network.n]\n[service.stream]\n"
        f'command = ["/stream", "serve", "{PORT}"]\nrootfs = "{rootfs}"\n'
        f'networks = ["n"]\nports = ["{PORT}:{PORT}"]\nready = "tcp:{PORT}"\n'
    )
    hosts = {}
    try:
        hosts["berth"] = Berth(tools, units)
        hosts["berth"].control.call("Start", units=["stream"], wait=True)
        hosts["by hand"] = Host(tools, ["sleep", "1000"])
        server = Host(tools, [stream, "serve", str(PORT)])
        wait_for(hosts["by hand"].is_up, "a namespace")
        wait_for(server.is_up, "a namespace")
        script = BY_HAND.replace("SERVER", str(server.pid)).replace("PORT", str(PORT))
        hosts["by hand"].shell(script)
        server.shell(
            "ip addr add 10.89.0.2/24 dev eth0; ip link set eth0 up; "
            "ip route add default via 10.89.0.1"
        )
        clients = {name: outside(host) for name, host in hosts.items()}
        send = [stream, "send"]

        def from_outside(name):
            return clients[name].inside([*send, "198.51.100.1", str(PORT), str(SENDING)])

        def by_loopback(name):
            return hosts[name].inside([*send, "127.0.0.1", str(PORT), str(SENDING)])

        ways = {"from outside": from_outside, "by loopback": by_loopback}
        figures = {way: {name: [] for name in hosts} for way in ways}
        for way, run in ways.items():
            candidates = {name: lambda name=name, run=run: float(run(name)) for name in hosts}
            for _ in range(TURNS):
                for name, found in rounds(tools, f"throughput {way}", candidates).items():
                    figures[way][name] += found
        return figures
    finally:
        tools.nursery.clear(0)
        tools.reports.drain()


def undisturbed(values):
    """The time that a tenth of them stayed below: what others do on the machine meanwhile is
    no cost of a network's, and a difference of medians would count it."""
    return statistics.quantiles(values, n=10)[0]


def undisturbed_speed(values):
    """The same of speeds: what a tenth of them exceeded."""
    return statistics.quantiles(values, n=10)[-1]
