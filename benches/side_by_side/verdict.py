"""The targets: what relay promises beside its peers, each computed from this one run."""

import dataclasses
import statistics

import bulk
import cache
import growth
import routing
import starting
import stream_report
from report import number, ratio

ONE, MANY = ("200 B", 1), ("200 B", 64)
RATE_CELLS = (MANY, ("10 KiB", 64))
MOST_CPU_OF_NGINX, MOST_CPU_OF_RATHOLE = 0.85, 1.0
LEAST_RATE_OF_NGINX, LEAST_RATE_OF_HAPROXY = 1.0, 1.2
MOST_LATENCY_RATIO = 1.15
MOST_P99_RATIO = 1.0
MOST_MEMORY_MB, OPEN_REQUESTS = 300, 10_000
MOST_SOCKET_KB = 20
LEAST_BULK_RATIO = 1.0
MOST_SMALL_RATIO = 3.0
MOST_EVENT_MS = 1.0
MOST_START_MS = 200
# Flat: the same but for caches of the processor, which 100,000 routes do not fit in.
MOST_ROUTE_RATIO = 1.2
MOST_GROWTH_RATIO = 1.2
LEAST_HIT_RATIO = 1.0


@dataclasses.dataclass
class Target:
    text: str
    limit: float
    value: float | None
    detail: str
    # False where the number alone does not count: an error, or an answer that never came.
    clean: bool = True
    # Where more is better.
    at_least: bool = False

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        reached = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "met" if reached and self.clean else "MISSED"


def targets(run):
    medians, streamed = run["medians"], run["streams"]
    return [
        cpu(medians, "nginx x2", MOST_CPU_OF_NGINX), cpu(medians, "rathole", MOST_CPU_OF_RATHOLE),
        *(rate(medians, "nginx x2", cell, LEAST_RATE_OF_NGINX) for cell in RATE_CELLS),
        *(rate(medians, "haproxy x2", cell, LEAST_RATE_OF_HAPROXY) for cell in RATE_CELLS),
        latency(medians), tail(medians), memory(run["open"]), sockets(streamed.get("sockets", {})),
        *(bulk_rate(streamed.get("bulk", {}), cell) for cell in bulk.CELLS),
        small_beside_bulk(streamed.get("bulk", {})), first_event(streamed.get("events", {})),
        *(hits(run["cache"], cell) for cell in cache.CELLS), routes(run["routes"]), start(run["start"]),
        *(grown(run["growth"], kind) for kind in growth.SIZES),
    ]


def cpu(medians, peer, limit):
    return compared(medians, peer, MANY, "cpu_us", "CPU per request", limit)


def rate(medians, peer, cell, limit):
    return compared(medians, peer, cell, "requests_per_s", "requests/s", limit, at_least=True)


def tail(medians):
    return compared(medians, "nginx x2", MANY, "p99_us", "p99", MOST_P99_RATIO)


def compared(medians, peer, cell, key, what, limit, at_least=False):
    """A number of relay over that of a peer in the same cell."""
    relay, other = (number(medians.get(name, {}), cell, key) for name in ("relay", peer))
    unit, digits = ("/s", 0) if key == "requests_per_s" else (" us", 1)
    body, connections = cell
    return Target(f"relay {what} / {peer} {what} ({connections} connections, {body})", limit, ratio(relay, other),
                  f"{relay:.{digits}f} / {other:.{digits}f}{unit}" if relay and other else "",
                  clean(medians, "relay", cell), at_least)


def latency(medians):
    relay, direct, floor = (number(medians.get(name, {}), ONE, "p50_us") for name in ("relay", "direct", "NATS floor"))
    value = ratio(relay, floor + direct) if floor and direct else None
    return Target("relay p50 / (raw NATS p50 + direct p50) (1 connection, 200 B)", MOST_LATENCY_RATIO, value,
                  f"{relay:.0f} / ({floor:.0f} + {direct:.0f}) us" if value else "", clean(medians, "relay", ONE))


def memory(opened):
    text = f"memory of both agents with {OPEN_REQUESTS} open requests, MB"
    if not opened or "failed" in opened or opened["asked"] < OPEN_REQUESTS:
        return Target(text, MOST_MEMORY_MB, None, "")
    asked, agents = opened["asked"], opened["open_kb"]
    value = (agents["client"] + agents["upstream"]) * 1024 / 1e6
    whole = opened["held_at_once"] == asked and opened["outcomes"] == {"200": asked}
    detail = "all answered with 200" if whole else "NOT ALL open at once and answered with 200"
    return Target(text, MOST_MEMORY_MB, value, detail, whole)


def sockets(seen):
    before, opened = seen.get("idle_kb", {}), seen.get("open_kb", {})
    each = {label: (kb - before[label]) * 1.024 / seen["count"] for label, kb in opened.items()}
    return Target("memory of an idle WebSocket in the process that takes most, kB", MOST_SOCKET_KB,
                  max(each.values(), default=None),
                  ", ".join(f"{label} {kb:.1f}" for label, kb in each.items()))


def bulk_rate(seen, cell):
    relay, nginx = (seen.get("rates", {}).get(name, {}).get(cell, {}) for name in ("relay", "nginx x1"))
    value = ratio(relay.get("bytes_per_s"), nginx.get("bytes_per_s"))
    detail = f"{relay['bytes_per_s'] / 1e6:.0f} / {nginx['bytes_per_s'] / 1e6:.0f} MB/s" if value else ""
    return Target(f"relay bulk / nginx x1 bulk ({cell[0]}, {cell[1]} conns)", LEAST_BULK_RATIO, value, detail,
                  not relay.get("failed_rounds"), at_least=True)


def small_beside_bulk(seen):
    alone, beside = (seen.get("small", {}).get("relay", {}).get(kind, {}) for kind in ("alone", "beside"))
    value = ratio(beside.get("p99_us"), alone.get("p99_us"))
    detail = f"{beside['p99_us']:.0f} / {alone['p99_us']:.0f} us" if value else ""
    return Target("relay p99 of small requests beside a bulk body / p99 alone", MOST_SMALL_RATIO, value, detail,
                  not (alone.get("failed_rounds") or beside.get("failed_rounds")))


def first_event(seen):
    value = stream_report.late_us(seen) / 1000 if seen and "failed" not in seen else None
    return Target("relay's first event of an event stream late by, ms", MOST_EVENT_MS, value, "")


def routes(seen):
    few, many = (seen.get(size, {}).get("client_us") for size in (min(routing.SIZES), max(routing.SIZES)))
    value = ratio(many, few)
    return Target("CPU of the client agent per request with 100,000 routes / with 1", MOST_ROUTE_RATIO, value,
                  f"{many:.1f} / {few:.1f} us" if value else "",
                  not any(one.get("errors") for one in seen.values() if isinstance(one, dict)))


def hits(seen, cell):
    relay, nginx = (number(seen.get(name, {}), cell, "requests_per_s") for name in ("relay", "nginx cache"))
    value = ratio(relay, nginx)
    return Target(f"relay cache hits / nginx cache hits ({cell[0]}, {cell[1]} connections)", LEAST_HIT_RATIO, value,
                  f"{relay:.0f} / {nginx:.0f} per s" if value else "", not seen or clean(seen, "relay", cell),
                  at_least=True)


def start(seen):
    took = seen.get("both agents")
    return Target("median time from the start of both agents to the first answer, ms", MOST_START_MS,
                  statistics.median(took) if took else None,
                  f"worst of {starting.STARTS}: {max(took):.0f} ms" if took else "")


def grown(seen, kind):
    sizes, (least, *_, most) = seen.get(kind), growth.SIZES[kind]
    worst, smallest = growth.worst(sizes) if sizes else (None, None)
    value = ratio(worst, smallest)
    return Target(f"CPU per request with up to {most:,} {kind} / with {least}", MOST_GROWTH_RATIO, value,
                  f"{worst:.1f} / {smallest:.1f} us" if value else "", not growth.failed({kind: sizes or {}}))


def clean(medians, name, cell):
    seen = medians.get(name, {}).get(cell, {})
    return not seen.get("errors") and not seen.get("failed_rounds")


def as_text(found):
    lines = ["targets"]
    for target in found:
        value = "-" if target.value is None else f"{target.value:.2f}"
        detail = f"  ({target.detail})" if target.detail else ""
        relation = ">=" if target.at_least else "<="
        lines.append(f"  {target.verdict:<12}  {value:>7} {relation} {target.limit:<5}  {target.text}{detail}")
    return "\n".join(lines)
