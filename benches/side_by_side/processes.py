"""The processes of one benchmark run: start, watch (CPU, memory), stop. Owns the temporary folder and the ports.

Everything here is ended by the id it was started with; nothing is looked up by name.
"""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TICK = os.sysconf("SC_CLK_TCK")
# Below the range the kernel takes outgoing ports from, so that a free port stays free.
PORTS = range(12_000, 32_000)
STOP_PATIENCE = 5.0


class Failed(Exception):
    """Something could not be started or measured; the text is for the reader of the table."""


def tell(text):
    """Progress, apart from the report on standard output."""
    print(text, file=sys.stderr, flush=True)


class Process:
    """One started process with its children."""

    def __init__(self, label, popen, log):
        self.label = label
        self.pid = popen.pid
        self._popen = popen
        self._log = log

    def running(self):
        return self._popen.poll() is None

    def last_words(self):
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "no output"

    def cpu_seconds(self, table=None):
        """CPU of all threads and children so far, ended children included; `table` is what `all_processes` said."""
        return sum(ticks for _, ticks in family(self.pid, table)) / TICK

    def memory_kb(self):
        return sum(resident_kb(pid) for pid, _ in family(self.pid))

    def ask_to_stop(self):
        if self.running():
            self._popen.terminate()

    def kill(self):
        """As if its machine were gone."""
        self._popen.kill()

    def wait_until_stopped(self, deadline):
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            # The process leads a session of its own: this reaches it and its children, and no one else.
            os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()


class Processes:
    """Starts processes and ends every one of them; removes the folder they worked in."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="relay-bench-"))
        # nginx started by root reads its files as another user.
        self.folder.chmod(0o755)
        self._started = []
        self._ports = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half of them running.
        for interruption in (signal.SIGINT, signal.SIGTERM):
            signal.signal(interruption, signal.SIG_IGN)
        self.stop(self._started)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, label, command, env=None):
        log = self.folder / f"{len(self._started)}.log"
        with open(log, "wb") as output:
            popen = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                                     stderr=subprocess.STDOUT, cwd=self.folder, env={**surroundings(), **(env or {})},
                                     start_new_session=True)
        process = Process(label, popen, log)
        self._started.append(process)
        return process

    def count(self):
        return len(self._started)

    def stop_from(self, first):
        """Ends what was started after `count()` said `first`."""
        self.stop(self._started[first:])

    def stop(self, processes):
        deadline = time.monotonic() + STOP_PATIENCE
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            process.wait_until_stopped(deadline)

    def cpu_seconds(self, table):
        return sum(process.cpu_seconds(table) for process in self._started if process.running())

    def subfolder(self, name):
        """A new one; a system may be started more than once."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        folder.chmod(0o755)
        return folder

    def free_port(self):
        for _ in range(1000):
            port = random.choice(PORTS)
            if port not in self._ports and can_bind(port):
                self._ports.add(port)
                return port
        raise Failed("no free port found")


def surroundings():
    """Our environment without the settings of relay and NATS: what is measured does not depend on who asks."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "NATS_"))}


def can_bind(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def all_processes():
    """{pid: (parent, CPU ticks)} of the machine, for whoever asks about many of them."""
    return {int(entry): stat for entry in os.listdir("/proc") if entry.isdigit() and (stat := read_stat(entry))}


def family(root, table=None):
    """(pid, CPU ticks) of a process and its descendants."""
    table = all_processes() if table is None else table
    members, found = [root], []
    while members:
        pid = members.pop()
        if pid in table:
            found.append((pid, table[pid][1]))
            members += [child for child, (parent, _) in table.items() if parent == pid]
    return found


def read_stat(pid):
    """(parent, CPU ticks): utime, stime and the same of reaped children, all threads."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), sum(int(ticks) for ticks in fields[11:15])


def resident_kb(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def machine_cpu_seconds():
    """(busy, stolen) seconds of all cores since boot; waiting for I/O is not busy."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + irq + softirq) / TICK, steal / TICK
