"""The matrix: every system, 1, 64 and 256 connections, both bodies, in interleaved rounds.

Within a round the systems follow each other in every cell, so that a drift of the machine meets all alike, and
each cell begins with another system. For each round they are started anew: where the memory of a process happens to
be makes a difference of a tenth for as long as it runs.
"""

import random
import statistics

import load
from processes import Failed, tell
from systems import BODIES

CONNECTIONS = (1, 64, 256)
# Requests the raw NATS benchmark keeps open; it has no HTTP connections and one body size.
FLOOR = (1, 64)
WARM_UP_SECONDS = 1
WARM_UP_CONNECTIONS = 64
CELLS = [(body, connections) for body in BODIES for connections in CONNECTIONS]


class HttpRunner:
    """Measures a system that speaks HTTP."""

    def __init__(self, ours, wrk, system):
        self.name = system.name
        self._ours, self._wrk, self._system = ours, wrk, system

    def covers(self, _body, _connections):
        return True

    def warm_up(self):
        self.measure("200 B", WARM_UP_CONNECTIONS, WARM_UP_SECONDS)

    def measure(self, body, connections, seconds):
        return load.measure(self._ours, self._wrk, self._system, body, connections, seconds)


class FloorRunner:
    """Measures raw NATS request/reply; it warms up by itself."""

    name = "NATS floor"

    def __init__(self, ours, binary, nats, server):
        self._ours, self._binary, self._nats, self._server = ours, binary, nats, server

    def covers(self, body, connections):
        return body == "200 B" and connections in FLOOR

    def warm_up(self):
        pass

    def measure(self, _body, connections, seconds):
        return load.measure_floor(self._ours, self._binary, self._nats, self._server, connections, seconds)


class BrokenRunner:
    """Stands for a system that did not start; every measurement of it fails, in plain sight."""

    def __init__(self, name, reason):
        self.name, self._reason = name, reason

    def covers(self, body, connections):
        return self.name != FloorRunner.name or FloorRunner.covers(self, body, connections)

    def warm_up(self):
        pass

    def measure(self, _body, _connections, _seconds):
        raise Failed(self._reason)


def run(started, rounds, seconds):
    """{system: {cell: [measurement per round]}}; a failed measurement is {"failed": reason}. `started()` has the
    runners of systems that run for as long as it is open."""
    results = {}
    for number in range(rounds):
        with started() as runners:
            for runner in runners:
                results.setdefault(runner.name, {})
                attempt(runner.warm_up)
            one_round(f"{number + 1}/{rounds}", runners, seconds, results)
    return results


def one_round(number, runners, seconds, results):
    for cell in CELLS:
        for runner in shuffled(runners, f"{number} {cell}"):
            if runner.covers(*cell):
                seen = attempt(lambda: runner.measure(*cell, seconds))
                results[runner.name].setdefault(cell, []).append(seen)
                where = f"{cell[0]:>6}  {cell[1]:>3} conns  {runner.name:<10}"
                tell(f"round {number}  {where} {brief(seen)}")


def attempt(measurement):
    try:
        return measurement()
    except Failed as failure:
        return {"failed": str(failure)}


def shuffled(items, seed):
    """In another order each time, the same in each run: what a system leaves behind, a processor that was told to slow
    down, would otherwise always be met by the same next one."""
    return random.Random(seed).sample(items, len(items))


def brief(seen):
    if "failed" in seen:
        return seen["failed"]
    wrong = f"  ERRORS {seen['errors']}" if seen["errors"] else ""
    return f"{seen['requests_per_s']:>8.0f} req/s  p50 {seen['p50_us']:.0f} us{wrong}"


def seconds_needed(http_systems, floor, rounds, seconds):
    each = seconds + 0.15
    return http_systems * rounds * (WARM_UP_SECONDS + len(CELLS) * each) + floor * rounds * len(FLOOR) * (each + 0.4)


def medians(results):
    """{system: {cell: summary}}: the median over the rounds of each number, and all errors added up."""
    return {name: {cell: summary(seen) for cell, seen in cells.items()} for name, cells in results.items()}


def summary(rounds):
    good = [seen for seen in rounds if "failed" not in seen]
    errors = {}
    for seen in good:
        for kind, count in seen["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    failures = [seen["failed"] for seen in rounds if "failed" in seen]
    if not good:
        return {"failed": failures[0]}
    labels = good[0]["cpu_us_by_process"]
    return {
        **{key: median([seen[key] for seen in good]) for key in ("requests_per_s", "p50_us", "p99_us", "cpu_us")},
        "cpu_us_by_process": {label: median([seen["cpu_us_by_process"][label] for seen in good]) for label in labels},
        "spread": spread([seen["requests_per_s"] for seen in good]),
        "others_cores": max(seen["others_cores"] for seen in good),
        "errors": errors,
        "failed_rounds": failures,
    }


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def spread(rates):
    """How far apart the rounds lie; None where that cannot be said."""
    middle = statistics.median(rates)
    return (max(rates) - min(rates)) / middle if middle and len(rates) > 1 else None
