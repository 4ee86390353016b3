"""What is printed of the streams: one section for each part that was measured."""

import bulk
import streams
from report import aligned, megabytes, percent, ratio, tenth, whole

BULK = """bulk bodies, 1 GiB each, MB/s; spread: highest less lowest, over the median; CPU: seconds per GB of the
system's own processes; growth: the most that all its processes together took more than before. nginx x1 is one
proxy with its own defaults, but that it keeps no body on disk"""

EVENTS = """first event of an event stream whose origin writes head and event at once and is silent from then on: p50 in
microseconds from the request to the event's first byte, each stream on a new connection; and p50 of a plain GET of
200 bytes on one connection. Late by: what relay takes longer for the event than direct, less what it takes longer
for the plain GET"""


def sections(seen):
    shown = {"bulk": bulk_text, "sockets": sockets_text, "events": events_text, "grpc": grpc_text}
    return [f"{part}: FAILED: {seen[part]['failed']}" if "failed" in seen[part] else text(seen[part])
            for part, text in shown.items() if part in seen]


def bulk_text(seen):
    tables = [BULK] + [rates_table(seen, cell) for cell in bulk.CELLS]
    missing = [f"  {name}: not here: {reason}" for name, reason in seen["unavailable"].items()]
    return "\n\n".join([*tables, *missing, by_process(seen["rates"]["relay"]), small_table(seen["small"])])


def rates_table(seen, cell):
    rows = [["", "MB/s", "spread", "CPU", "growth", "relay's share", "errors"]]
    relay = seen["rates"]["relay"][cell].get("bytes_per_s")
    for name, cells in seen["rates"].items():
        found = cells[cell]
        if "failed" in found:
            rows.append([name, "-", "-", "-", "-", "-", f"FAILED: {found['failed']}"])
            continue
        share = None if name == "relay" else ratio(relay, found["bytes_per_s"])
        own = bool(found["grown_kb"])
        rows.append([name, whole(found["bytes_per_s"] / 1e6), percent(found["spread"]),
                     f"{sum(found['cpu_s_per_gb'].values()):.2f}" if own else "-",
                     f"{megabytes(sum(found['grown_kb'].values()))} MB" if own else "-",
                     f"{share:.2f}" if share else "-", failures(found)])
    direction, connections = cell
    return f"{direction}, {connections} connection{'s' if connections > 1 else ''}\n{aligned(rows)}"


def by_process(relay):
    """Where relay's CPU goes and its memory, one row per cell."""
    cells = [cell for cell in bulk.CELLS if "grown_kb" in relay[cell]]
    if not cells:
        return "relay's bulk was not measured"
    labels = list(relay[cells[0]]["grown_kb"])
    rows = [["", *labels]]
    for cell in cells:
        cpu, grown = relay[cell]["cpu_s_per_gb"], relay[cell]["grown_kb"]
        parts = [f"{cpu[label]:.2f} s, {megabytes(grown[label])} MB" for label in labels]
        rows.append([f"{cell[0]}, {cell[1]}", *parts])
    return "relay by process: CPU seconds per GB, and growth\n" + aligned(rows)


def small_table(small):
    rows = [["", "p50 alone", "p99 alone", "p50 beside", "p99 beside", "p99 ratio", "errors"]]
    for name, kinds in small.items():
        alone, beside = kinds["alone"], kinds["beside"]
        wrong = next((kind["failed"] for kind in (alone, beside) if "failed" in kind), None)
        if wrong:
            rows.append([name, "-", "-", "-", "-", "-", f"FAILED: {wrong}"])
            continue
        numbers = [whole(kind[key]) for kind in (alone, beside) for key in ("p50_us", "p99_us")]
        rows.append([name, *numbers, f"{ratio(beside['p99_us'], alone['p99_us']):.2f}", failures(alone)])
    direction, connections = bulk.BESIDE
    return (f"small requests (200 B, {bulk.STEADY_RATE}/s on one connection), microseconds, alone and beside a bulk "
            f"body ({direction}, {connections} connection)\n{aligned(rows)}")


def sockets_text(seen):
    rows = [["", "before", "open", "per WebSocket"]]
    for label, kb in seen["open_kb"].items():
        before = seen["idle_kb"][label]
        each = f"{(kb - before) / seen['count']:.1f} KiB"
        rows.append([label, f"{megabytes(before)} MB", f"{megabytes(kb)} MB", each])
    return (f"{seen['count']} idle WebSockets, open for {streams.SOCKETS_OPEN_SECONDS:.0f} s, alive at the end: "
            f"memory (RSS) by process\n{aligned(rows)}")


def events_text(seen):
    rows = [["", "plain GET", "first event"]]
    rows += [[name, whole(found["plain_us"]), whole(found["first_event_us"])] for name, found in seen.items()]
    return f"{EVENTS}\n{aligned(rows)}\n  late by {late_us(seen):.0f} us"


def late_us(seen):
    """What an event stream adds to the relay's own time for a small request."""
    relay, direct = seen["relay"], seen["direct"]
    return relay["first_event_us"] - (direct["first_event_us"] + relay["plain_us"] - direct["plain_us"])


def grpc_text(seen):
    rows = [["", "calls", "calls/s", "p50", "p99", "CPU", "relay's share", "errors"]]
    for concurrent in streams.CALLS:
        relay = seen["relay"][concurrent].get("requests_per_s")
        for name, by in seen.items():
            found = by[concurrent]
            if "failed" in found:
                rows.append([name, str(concurrent), "-", "-", "-", "-", "-", f"FAILED: {found['failed']}"])
                continue
            share = None if name == "relay" else ratio(relay, found["requests_per_s"])
            rows.append([name, str(concurrent), whole(found["requests_per_s"]), whole(found["p50_us"]),
                         whole(found["p99_us"]), tenth(found["cpu_us"]), f"{share:.2f}" if share else "-",
                         failures(found)])
    return ("gRPC, unary calls of 200 bytes each way over h2c on one connection; microseconds; CPU: of the system's "
            f"own processes, per call\n{aligned(rows)}")


def failures(found):
    return ", ".join(f"FAILED: {reason}" for reason in found["failed_rounds"]) or "none"
