"""What routing costs: a lookup by itself, and requests through client agents whose tables hold 1, 1,000 and
100,000 routes."""

import statistics

import load
import systems
import tools
from processes import Failed, tell

SIZES = (1, 1_000, 100_000)
BODY, CONNECTIONS = "200 B", 64
HOST = "bench.example"
FILLING = 60.0


def run(ours, relay_binary, bench, asked_rounds, seconds):
    origin = systems.start_origin(ours)
    tell("looking up routes")
    looked_up, _ = load.run_beside(ours, [], [bench, "--sizes", ",".join(map(str, SIZES))])
    relays = {size: start(ours, relay_binary, bench, origin.port, size) for size in SIZES}
    wrk = tools.find("wrk")
    seen = {size: [] for size in SIZES}
    for number in range(asked_rounds):
        for size, relay in relays.items():
            measured = load.measure(ours, wrk, relay, BODY, CONNECTIONS, seconds)
            seen[size].append(measured)
            tell(f"round {number + 1}/{asked_rounds}  {size} routes  {measured['requests_per_s']:.0f} req/s")
    ours.stop([process for relay in relays.values() for process in relay.processes])
    return {size: {"lookup_ns": looked_up["lookup_ns"][str(size)], **medians(seen[size])} for size in SIZES}


def medians(measured):
    return {
        "requests_per_s": statistics.median(one["requests_per_s"] for one in measured),
        "p50_us": statistics.median(one["p50_us"] for one in measured),
        "client_us": statistics.median(one["cpu_us_by_process"]["client"] for one in measured),
        "errors": {kind: count for one in measured for kind, count in one["errors"].items()},
    }


def start(ours, relay_binary, bench, origin_port, size):
    tell(f"starting relay with {size} routes")
    relay = systems.start_routed_relay(ours, origin_port, relay_binary, HOST)
    if size > 1:
        ours.start("filler", [bench, "--claim", size - 1, "--server", relay.nats_url])
    try:
        systems.wait_for(lambda: systems.metric(relay.admin_port, "relay_routes") >= size, relay.processes,
                         f"{size} routes", FILLING)
    except Failed as failure:
        raise Failed(f"the table did not fill: {failure}") from failure
    return relay


def as_text(seen):
    lines = ["requests of 200 B by route, 64 connections, as the table grows; client: CPU of the client agent, microseconds",
             "per request; lookup: of the table by itself, nanoseconds",
             f"  {'routes':>8}  {'lookup':>7}  {'req/s':>7}  {'p50':>6}  {'client':>7}  errors"]
    for size, one in seen.items():
        wrong = ", ".join(f"{count} {kind}" for kind, count in one["errors"].items()) or "none"
        lines.append(f"  {size:>8}  {one['lookup_ns']:>7.0f}  {one['requests_per_s']:>7.0f}  {one['p50_us']:>6.0f}  "
                     f"{one['client_us']:>7.1f}  {wrong}")
    return "\n".join(lines)
