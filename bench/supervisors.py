"""The supervisors that are compared: how each is given services, started and stopped.

Every one gets the same work: beacons that report and then sleep, without a container.
"""

import os
import shutil
import signal

import processes


class Service:
    """A beacon to be supervised."""

    def __init__(self, name, container=None, ends=False):
        self.name = name
        self.container = container  # None, or the keys of its unit that make it one
        self.ends = ends


class Supervisor:
    """One that was given its services in a directory of its own."""

    name = ""

    def __init__(self, tools, directory, services):
        self.tools = tools
        self.directory = directory
        self.pid = None
        os.makedirs(directory)
        self.lay_out(services)

    def start(self):
        self.pid = self.tools.nursery.spawn(
            self.command(), {"BEACON_REPORT": self.tools.reports.path}
        )

    def stop(self):
        """Ends it and all its services."""
        if self.pid is None:
            return
        os.kill(self.pid, self.stop_signal)
        if self.tools.nursery.clear(60):
            raise processes.BenchError(f"{self.name} did not end its services")

    def memory_kib(self):
        """What the supervisor itself takes, without its services."""
        beacon = self.tools.beacon
        gone_or_service = (None, beacon)
        everyone = processes.family(self.pid)
        own = [p for p in everyone if processes.executable(p) not in gone_or_service]
        return processes.pss_kib(own)


class Berth(Supervisor):
    """`berth up` with all units in one file."""

    name = "berth"
    stop_signal = signal.SIGTERM

    def lay_out(self, services):
        with open(os.path.join(self.directory, "units.toml"), "w", encoding="ascii") as file:
            for service in services:
                file.write(self.unit(service))

    def unit(self, service):
        keys = service.container or 'isolation = "none"'
        report = self.tools.reports.path
        program = self.tools.beacon
        if service.container:
            report, program = "/report/report", "/beacon"
        end = ', "end"' if service.ends else ""
        return (
            f"[service.{service.name}]\n"
            f'command = ["{program}", "{report}", "{service.name}"{end}]\n'
            f"{keys}\n"
            'restart = "always"\nrestart-delay = "0s"\n'
            'restart-limit = { count = 0, window = "1min" }\n\n'
        )

    def command(self):
        path = self.directory
        return [
            self.tools.berth, "up", "--quiet", "--runtime-dir", f"{path}/run",
            "--state-dir", f"{path}/state", f"{path}/units.toml",
        ]  # fmt: skip


class ServiceDirectories(Supervisor):
    """Those that watch a directory of directories, each with a program `run`."""

    script = True

    def lay_out(self, services):
        for service in services:
            path = os.path.join(self.directory, service.name)
            os.mkdir(path)
            run = os.path.join(path, "run")
            if not self.script:
                os.symlink(self.tools.beacon, run)
                continue
            with open(run, "w", encoding="ascii") as file:
                file.write(
                    "#!/bin/sh\n"
                    f"exec {self.tools.beacon} {self.tools.reports.path} {service.name}\n"
                )
            os.chmod(run, 0o755)


class Runit(ServiceDirectories):
    """runit with the usual script of two lines for each service."""

    name = "runit"
    stop_signal = signal.SIGHUP  # "sends TERM to each runsv and exits"

    def command(self):
        return ["runsvdir", "-P", self.directory]


class RunitBare(Runit):
    """runit at its very best: no shell, the service's program is `run` itself."""

    name = "runit, no shell"
    script = False


class S6(ServiceDirectories):
    """s6, likewise."""

    name = "s6"
    stop_signal = signal.SIGTERM

    def command(self):
        return ["s6-svscan", "-c", "4000", self.directory]


PEERS = [Runit, RunitBare, S6]


def available_peers():
    """Those that are installed here."""
    programs = {Runit: "runsvdir", RunitBare: "runsvdir", S6: "s6-svscan"}
    return [peer for peer in PEERS if shutil.which(programs[peer])]
