"""What is printed at the end: the tables, and what went wrong. Everything shown is shown here or in verdict.py."""

from rounds import CELLS

# What other programs may take of the machine before the numbers are doubtful.
QUIET_CORES = 0.2

LEGEND = """Medians over the rounds. p50 and p99 in microseconds; spread: highest less lowest req/s, over the median;
CPU: microseconds per request of the system's own processes, without load generator and origin (of the
NATS floor: the server alone); others: the cores that programs outside this run took, in the worst round."""

RATHOLE = """rathole 0.5 cannot turn Nagle's algorithm off towards its visitors: a body it passes on in two pieces waits
for a delayed acknowledgement, some 40 ms. Its 10 KiB rows show that, its 200 B rows do not."""


def machine_text(facts):
    machine, versions, unavailable = facts["machine"], facts["versions"], facts["unavailable"]
    lines = [
        f"machine   {machine['cores']} cores, {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, load {machine['load_at_start']:.1f} at the start",
        "versions  " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"run       rounds: {facts['rounds']}, each {facts['seconds']} s a measurement, loopback only, wrk with one thread",
    ]
    return "\n".join(lines + [f"not here  {name}: {reason}" for name, reason in unavailable.items()])


def tables(medians, unavailable):
    if not medians and not unavailable:
        return ""
    notes = [RATHOLE] if "rathole" in medians else []
    return "\n\n".join([LEGEND, *(cell_table(cell, medians, unavailable) for cell in CELLS), *notes])


def cell_table(cell, medians, unavailable):
    body, connections = cell
    rows = [["", "req/s", "spread", "p50", "p99", "CPU", "others", "errors"]]
    for name, cells in medians.items():
        if cell in cells:
            rows.append(cell_row(name, cells[cell]))
    rows += [[name, "-", "-", "-", "-", "-", "-", "not available here"] for name in unavailable]
    plural = "connection" if connections == 1 else "connections"
    return "\n".join([f"{body}, {connections} {plural}", aligned(rows)])


def cell_row(name, seen):
    if "failed" in seen:
        return [name, "-", "-", "-", "-", "-", "-", f"FAILED: {seen['failed']}"]
    return [name, whole(seen["requests_per_s"]), percent(seen["spread"]), whole(seen["p50_us"]),
            whole(seen["p99_us"]), tenth(seen["cpu_us"]), tenth(seen["others_cores"]), wrong(seen)]


def wrong(seen):
    said = [f"{count} {kind}" for kind, count in seen["errors"].items()]
    said += [f"FAILED: {reason}" for reason in seen["failed_rounds"]]
    return ", ".join(said) or "none"


def cpu_by_process(relay):
    """Where relay's CPU goes, one row per cell."""
    cells = [cell for cell in CELLS if "cpu_us_by_process" in relay.get(cell, {})]
    if not cells:
        return "relay was not measured"
    labels = list(relay[cells[0]]["cpu_us_by_process"])
    rows = [["", *labels, "all"]]
    for cell in cells:
        parts = relay[cell]["cpu_us_by_process"]
        rows.append([f"{cell[0]}, {cell[1]}", *(tenth(parts[label]) for label in labels), tenth(relay[cell]["cpu_us"])])
    return "CPU of relay by process, microseconds per request\n" + aligned(rows)


def rate_ratios(medians):
    """relay's requests per second over each peer's, in every cell."""
    relay = medians.get("relay", {})
    peers = [name for name in medians if name not in ("relay", "NATS floor")]
    rows = [["", *(f"{body}, {connections}" for body, connections in CELLS)]]
    for name in peers:
        cells = [ratio(number(relay, cell, "requests_per_s"), number(medians[name], cell, "requests_per_s"))
                 for cell in CELLS]
        if any(cells):
            rows.append([name, *(f"{value:.2f}" if value else "-" for value in cells)])
    if len(rows) == 1:
        return "relay req/s over its peers': not measured"
    return "relay req/s over its peers' (above 1: relay is faster)\n" + aligned(rows)


def open_requests(seen):
    if "failed" in seen:
        return f"open requests: FAILED: {seen['failed']}"
    rows = [["", "idle", "open"]]
    rows += [[label, megabytes(seen["idle_kb"][label]), megabytes(kb)] for label, kb in seen["open_kb"].items()]
    answers = ", ".join(f"{count} x {outcome}" for outcome, count in seen["outcomes"].items())
    return (f"open requests: {seen['held_at_once']} of {seen['asked']} open at once, answers: {answers}\n"
            f"memory (RSS) in MB by process\n" + aligned(rows))


def cache(seen):
    """Hits, a table for each body."""
    parts = ["hits of the shared cache; CPU of all of relay's processes, of which only the client agent works"]
    for cell in next(iter(seen.values())):
        rows = [["", "req/s", "spread", "p50", "p99", "CPU", "others", "errors"]]
        rows += [cell_row(name, cells[cell]) for name, cells in seen.items()]
        parts.append(f"{cell[0]}, {cell[1]} connections\n{aligned(rows)}")
    return "\n\n".join(parts)


def others(medians):
    """How much of the machine programs outside this run took; the numbers are only as good as this is low."""
    known = [seen["others_cores"] for cells in medians.values() for seen in cells.values() if "others_cores" in seen]
    if not known:
        return ""
    advice = "; measure again on a quieter machine" if max(known) > QUIET_CORES else ""
    return f"other programs took up to {max(known):.2f} cores while something was measured{advice}"


def any_errors(medians, opened):
    seen = [cell for cells in medians.values() for cell in cells.values()]
    if any("failed" in cell or cell["errors"] or cell["failed_rounds"] for cell in seen):
        return True
    return bool(opened) and opened.get("outcomes") != {"200": opened.get("asked")}


def number(cells, cell, key):
    return cells.get(cell, {}).get(key)


def ratio(above, below):
    return above / below if above and below else None


def aligned(rows):
    """Right-aligned columns, but the first and a last one of text to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [text.rjust(width) for text, width in zip(row, widths)]
        cells[0] = row[0].ljust(widths[0])
        if rows[0][-1] == "errors":
            cells[-1] = row[-1]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def whole(value):
    return "-" if value is None else f"{value:.0f}"


def tenth(value):
    return "-" if value is None else f"{value:.1f}"


def percent(share):
    return "-" if share is None else f"{share * 100:.0f} %"


def megabytes(kb):
    return f"{kb * 1024 / 1e6:.1f}"
