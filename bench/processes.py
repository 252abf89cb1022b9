"""Processes and their reports: starting them, hearing from them, weighing and ending them.

What must always hold: every process that was started here, and every one that they
started, has ended when `Nursery.clear` returns. This process is their subreaper, so even
one that let go of its parent can be waited for; nobody else's process is ever signalled.
"""

import ctypes
import fcntl
import os
import select
import signal
import time

PR_SET_CHILD_SUBREAPER = 36
F_SETPIPE_SZ = 1031


class BenchError(Exception):
    """Something that ends the benchmark; its text is for people."""


class Reports:
    """The FIFO that beacons write to."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "report")
        os.mkfifo(self.path, 0o622)
        os.chmod(self.path, 0o622)
        # For reading and writing, so that it has a reader before and a writer after.
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self.fd, F_SETPIPE_SZ, 1 << 20)
        self.rest = b""

    def collect(self, count, seconds, supervisor=None):
        """The next `count` reports as (name, pid, start in ns), in order of arrival.

        Does not wait for those of a supervisor (its pid) that has ended.
        """
        deadline = time.monotonic() + seconds
        found = []
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        watched = os.pidfd_open(supervisor) if supervisor else None
        if watched is not None:
            poll.register(watched, select.POLLIN)
        try:
            self._read(poll, watched, found, count, deadline)
        finally:
            if watched is not None:
                os.close(watched)
        return found

    def _read(self, poll, watched, found, count, deadline):
        while len(found) < count:
            left = max(0, deadline - time.monotonic())
            ready = [fd for fd, _ in poll.poll(left * 1000)]
            if self.fd not in ready:
                why = "its supervisor ended" if watched in ready else "time is up"
                raise BenchError(f"{why}: only {len(found)} of {count} services reported")
            lines = (self.rest + os.read(self.fd, 1 << 16)).split(b"\n")
            self.rest = lines.pop()
            for line in lines:
                words = line.split()
                if len(words) == 3:  # another line is what the program around it prints
                    found.append((words[0].decode(), int(words[1]), int(words[2])))

    def drain(self):
        """Forgets what has arrived."""
        try:
            while os.read(self.fd, 1 << 16):
                pass
        except BlockingIOError:
            self.rest = b""

    def close(self):
        os.close(self.fd)


def children(pid):
    """Pids of the children of a process (of its first thread)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def family(pid):
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        found.extend(children(parent))
    return found


def executable(pid):
    """Path of a process' program, or None when it has gone."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def pss_kib(pids):
    """Proportional set size of these processes in KiB: their fair share of the memory."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total


class ControlGroup:
    """A cgroup of version 2 below our own, gone at the end."""

    def __enter__(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [line.split() for line in file]
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            ours = [line.strip()[3:] for line in file if line.startswith("0::")]
        roots = [words[4] for words in mounts if words[words.index("-") + 1] == "cgroup2"]
        if not roots or not ours:
            raise BenchError("this machine has no cgroups of version 2")
        self.path = os.path.join(f"{roots[0]}{ours[0]}", f"bench-{os.getpid()}")
        os.mkdir(self.path)
        return self.path

    def __exit__(self, *_):
        os.rmdir(self.path)


class Nursery:
    """Starts processes and sees them all out."""

    def __init__(self, log):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise BenchError("cannot become the subreaper of what is started")
        self.log = log

    def spawn(self, argv, environment=None, output=None):
        """Starts a program in a process group of its own, its output in the log (or,
        what is not an error, in `output`)."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return os.posix_spawnp(
            argv[0],
            argv,
            {**os.environ, **(environment or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, output or self.log, flags, 0o600),
                (os.POSIX_SPAWN_OPEN, 2, self.log, flags, 0o600),
            ],
            setpgroup=0,
        )

    def run(self, argv, output=None):
        """Runs a program to its end, which must be success."""
        _, status = os.waitpid(self.spawn(argv, output=output), 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise BenchError(f"{' '.join(argv)} failed")

    def tail(self):
        """The last lines that the processes wrote."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return "".join(file.readlines()[-15:])
        except FileNotFoundError:
            return ""

    def clear(self, seconds):
        """Waits until every process has ended; after `seconds` they are killed.

        Returns whether that was needed.
        """
        killed = False
        deadline = time.monotonic() + seconds
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return killed
            if pid:
                continue
            if time.monotonic() > deadline:
                killed = True
                for pid in family(os.getpid())[1:]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
            time.sleep(0.005)
