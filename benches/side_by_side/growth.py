"""What a request costs as its surroundings grow by 10 and by 100.

For each kind of surroundings a relay is started for each size, and all of its sizes are measured in interleaved rounds.
CPU is that of the client agent, of all agents of the upstream together, and of the NATS server.
"""

import time

import load
import surroundings
from processes import Failed, tell
from report import aligned, ratio, tenth, whole, wrong
from rounds import WARM_UP_SECONDS, attempt, shuffled, summary

BODY, CONNECTIONS = "200 B", 64
SIZES = {"upstreams": (1, 10, 100), "agents": (1, 10, 100), "routes": (1, 100, 10_000),
         "open requests": (0, 1_000, 10_000), "idle connections": (0, 1_000, 10_000)}
# So long all sizes of a kind are left alone, to see what they cost at rest.
REST_SECONDS = 3
# All of it together. A kind begins no further round when its share is over; one round there always is.
LONGEST_SECONDS = 170

ABOUT = f"""cost of a request as its surroundings grow: {BODY}, {CONNECTIONS} connections; CPU in microseconds per request of
the client agent, of all agents of the upstream together, of nats-server, and of them all; ratio: to the smallest size;
at rest: CPU of them all without any request, milliseconds per second. Agents that share the load have fewer requests
each to join in one write, and on few cores they take each other's caches: most of what more of them cost is that"""


def run(bench):
    """{kind: {size: medians}}; a size that could not be measured is {"failed": reason}."""
    began = time.monotonic()
    share = LONGEST_SECONDS / len(SIZES)
    return {kind: measure(bench, kind, began + share * place) for place, kind in enumerate(SIZES, 1)}


def measure(bench, kind, until):
    before = bench.ours.count()
    try:
        places = {size: attempt(lambda: start(bench, kind, size)) for size in SIZES[kind]}
        resting = rest(bench, {size: place for size, place in places.items() if not isinstance(place, dict)})
        seen = measure_rounds(bench, kind, places, until)
        return {size: {**summary(seen[size]), "rest_ms_per_s": resting.get(size)} for size in places}
    finally:
        bench.ours.stop_from(before)


def start(bench, kind, size):
    tell(f"starting relay with {size} {kind}")
    place = surroundings.start(bench, kind, size)
    ask(bench, place, WARM_UP_SECONDS)
    return place


def rest(bench, places):
    """{size: milliseconds of CPU per second of a relay that is asked nothing}."""
    readings = []
    for pause in (REST_SECONDS, 0):
        readings.append({size: load.Reading(bench.ours, place.system.processes) for size, place in places.items()})
        time.sleep(pause)
    before, after = ({size: sum(reading.by_process.values()) for size, reading in one.items()} for one in readings)
    return {size: (after[size] - before[size]) * 1000 / REST_SECONDS for size in places}


def measure_rounds(bench, kind, places, until):
    """{size: [measurement of each round]}."""
    seen = {size: [] for size in places}
    for number in range(bench.rounds):
        began = time.monotonic()
        for size in shuffled(list(places), number):
            seen[size].append(attempt(lambda: check(bench, kind, size, places[size])))
            tell(f"round {number + 1}/{bench.rounds}  {size:>6} {kind:<16}  {brief(seen[size][-1])}")
        # The next one takes as long.
        if 2 * time.monotonic() - began > until:
            break
    return seen


def check(bench, kind, size, place):
    """One measurement, if all of the surroundings are there to its end."""
    if isinstance(place, dict):
        raise Failed(place["failed"])
    measured = ask(bench, place, bench.seconds)
    load.check_alive(place.beside)
    if place.count() < size:
        raise Failed(f"of {size} {kind} only {place.count():.0f} were left")
    return measured


def ask(bench, place, seconds):
    return load.measure(bench.ours, bench.wrk, place.system, BODY, CONNECTIONS, seconds)


def brief(seen):
    return seen.get("failed") or f"{seen['requests_per_s']:>8.0f} req/s  CPU {tenth(seen['cpu_us'])} us"


def worst(sizes):
    """The cost of a request with the most expensive of the larger sizes, and that with the smallest; None if unknown."""
    smallest, *larger = (sizes[size].get("cpu_us") for size in sorted(sizes))
    return max((cost for cost in larger if cost is not None), default=None), smallest


def failed(seen):
    """Whether anything of it went wrong."""
    cells = [cell for sizes in seen.values() if isinstance(sizes, dict) for cell in sizes.values()]
    return "failed" in seen or any("failed" in cell or cell["errors"] or cell["failed_rounds"] for cell in cells)


def as_text(seen):
    rows = [["", "size", "req/s", "client", "upstream", "nats-server", "all", "ratio", "at rest", "errors"]]
    for kind, sizes in seen.items():
        for size, cell in sizes.items():
            shown = kind if size == min(sizes) else ""
            rows.append([shown, str(size), *numbers(cell, sizes[min(sizes)])])
    return f"{ABOUT}\n{aligned(rows)}"


def numbers(cell, smallest):
    if "failed" in cell:
        return ["-", "-", "-", "-", "-", "-", "-", f"FAILED: {cell['failed']}"]
    parts = [tenth(cell["cpu_us_by_process"][label]) for label in ("client", "upstream", "nats-server")]
    to_smallest = ratio(cell["cpu_us"], smallest.get("cpu_us"))
    return [whole(cell["requests_per_s"]), *parts, tenth(cell["cpu_us"]),
            f"{to_smallest:.2f}" if to_smallest else "-", whole(cell["rest_ms_per_s"]), wrong(cell)]
