"""Bulk bodies through relay, one nginx and rathole, and what small requests beside them have to wait.

Memory and CPU of a system's processes are taken while its bulk bodies move.
"""

import statistics
import subprocess
import threading
import time

import load
import systems
import tools
from processes import Failed, resident_kb, tell
from rounds import attempt, shuffled, spread

DIRECTIONS = ("down", "up")
CONNECTIONS = (1, 8)
CELLS = [(direction, connections) for direction in DIRECTIONS for connections in CONNECTIONS]
# The small requests are measured with these systems, alone and beside this bulk.
BESIDE_SYSTEMS = ("direct", "nginx x1", "relay")
BESIDE = ("down", 1)
STEADY_RATE = 200
# How much earlier bulk begins than the small requests beside it, and what it may last at most: it is ended.
LEAD_SECONDS = 0.5
LONGER_SECONDS = 20
SAMPLE_SECONDS = 0.1


def measure(bench):
    """Rates by cell and the small requests, medians over the rounds; and what could not be had."""
    unavailable = {}
    started = start(bench, unavailable)
    rates = {system.name: {cell: [] for cell in CELLS} for system in started}
    small = {system.name: {"alone": [], "beside": []} for system in started if system.name in BESIDE_SYSTEMS}
    for number in range(bench.rounds):
        order = shuffled(started, number)
        for cell in CELLS:
            for system in order:
                seen = attempt(lambda: move(bench, system, *cell))
                rates[system.name][cell].append(seen)
                tell(f"round {number + 1}/{bench.rounds}  bulk {cell[0]:>4}, {cell[1]} conns  {system.name:<8} "
                     + (seen.get("failed") or f"{seen['bytes_per_s'] / 1e6:>6.0f} MB/s"))
        for system in order:
            if system.name in small:
                for kind, ask in (("alone", ask_alone), ("beside", ask_beside)):
                    seen = attempt(lambda: ask(bench, system))
                    small[system.name][kind].append(seen)
                    tell(f"round {number + 1}/{bench.rounds}  small {kind:<6}  {system.name:<8} "
                         + (seen.get("failed") or f"p99 {seen['p99_us']:.0f} us"))
    return {"rates": {name: {cell: rate(rounds) for cell, rounds in cells.items()} for name, cells in rates.items()},
            "small": {name: {kind: latency(rounds) for kind, rounds in kinds.items()}
                      for name, kinds in small.items()},
            "unavailable": unavailable}


def start(bench, unavailable):
    started = [systems.start_direct(bench.ours, bench.port)]
    for name, begin in (("nginx x1", systems.start_nginx_one), ("rathole", systems.start_rathole)):
        try:
            started.append(begin(bench.ours, bench.port))
        except tools.Missing as missing:
            unavailable[name] = str(missing)
    return [*started, bench.start_relay()]


def move(bench, system, direction, connections):
    with Peaks(system.processes) as peaks:
        seen, cpu = bench.run(system, "bulk", direction=direction, connections=connections, seconds=bench.seconds)
    gigabytes = seen["moved"] / 1e9
    return {"bytes_per_s": seen["bytes_per_s"], "grown_kb": peaks.grown(), "others_cores": cpu["others_cores"],
            "cpu_s_per_gb": {label: seconds / gigabytes for label, seconds in cpu["by_process"].items()}}


def ask_alone(bench, system):
    return bench.run(system, "steady", rate=STEADY_RATE, seconds=bench.seconds)[0]


def ask_beside(bench, system):
    direction, connections = BESIDE
    command = bench.command("bulk", system.port, direction=direction, connections=connections,
                            seconds=bench.seconds + LONGER_SECONDS)
    with subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as moving:
        try:
            time.sleep(LEAD_SECONDS)
            seen = ask_alone(bench, system)
            if moving.poll() is not None:
                raise Failed("the bulk body ended before the small requests beside it")
        finally:
            moving.kill()
    return seen


class Peaks:
    """The most memory each process has from the beginning to the end."""

    def __init__(self, processes):
        self._pids = {process.label: process.pid for process in processes}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._before = self._most = self._now()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def grown(self):
        return {label: self._most[label] - kb for label, kb in self._before.items()}

    def _watch(self):
        while not self._over.wait(SAMPLE_SECONDS):
            self._most = {label: max(self._most[label], kb) for label, kb in self._now().items()}

    def _now(self):
        return {label: resident_kb(pid) for label, pid in self._pids.items()}


def rate(rounds):
    """The medians of one cell; what memory grew is the most of any round."""
    good = [seen for seen in rounds if "failed" not in seen]
    failures = [seen["failed"] for seen in rounds if "failed" in seen]
    if not good:
        return {"failed": failures[0]}
    labels = good[0]["grown_kb"]
    return {
        "bytes_per_s": median(seen["bytes_per_s"] for seen in good),
        "spread": spread([seen["bytes_per_s"] for seen in good]),
        "cpu_s_per_gb": {label: median(seen["cpu_s_per_gb"][label] for seen in good) for label in labels},
        "grown_kb": {label: max(seen["grown_kb"][label] for seen in good) for label in labels},
        "others_cores": max(seen["others_cores"] for seen in good),
        "failed_rounds": failures,
    }


def latency(rounds):
    good = [seen for seen in rounds if "failed" not in seen]
    failures = [seen["failed"] for seen in rounds if "failed" in seen]
    if not good:
        return {"failed": failures[0]}
    return {**{key: median(seen[key] for seen in good) for key in ("p50_us", "p99_us")}, "failed_rounds": failures}


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def failed(seen):
    """Whether anything of it went wrong."""
    cells = [cell for group in ("rates", "small") for cells in seen.get(group, {}).values() for cell in cells.values()]
    return "failed" in seen or any("failed" in cell or cell["failed_rounds"] for cell in cells)
